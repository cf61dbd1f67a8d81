"""The dock "Predict", clicked through in a real viewer."""

import subprocess
import sys
import time

import napari
import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLineEdit, QListWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline import Prediction, predict_affinities, predict_boundary
from napari_em_seg.pipeline import lazy_prediction as lazy
from napari_em_seg.pipeline.config import STEPS
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import affinities_of, role_of
from napari_em_seg.widgets.predict.dock import PREVIEW, PredictWidget
from napari_em_seg.widgets.predict.options import slice_numbers
from napari_em_seg.widgets.predict.view import box_in_view, corner_of

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bytes, and no waiting for cores that others use
    yield
    torch.set_num_threads(before)


@pytest.fixture
def models(put_model, put_affinity_model) -> None:
    put_model("mouse", 1, n_slices=3, tissue="mouse cortex")
    put_model("fly", 2, voxel_size_nm=(50.0, 4.0, 4.0), tissue="fly brain")
    put_affinity_model("joins")


@pytest.fixture
def image(viewer: napari.Viewer):
    raw, _ = pipeline.sample_volumes((6, 128, 128), 3)
    return viewer.add_image(np.asarray(raw), name="raw", scale=SIZE, units=("nm",) * 3)


@pytest.fixture
def dock(viewer: napari.Viewer, models, image):
    widget = PredictWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Predict", area="right")
    viewer.fit_to_view()
    viewer.dims.set_current_step(0, 2)
    yield widget
    widget.shut_down()
    widget.work.wait()


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=60_000)
    QApplication.processEvents()


def click(button, qtbot) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def row_of(dock, name: str) -> int:
    rows = dock.options.models.list
    return next(row for row in range(rows.count()) if rows.item(row).text().startswith(name))


def tick(dock, name: str, qtbot) -> None:
    """Tick a model by the keyboard."""
    rows = dock.options.models.list
    rows.setCurrentRow(row_of(dock, name))
    qtbot.keyClick(rows, Qt.Key.Key_Space)


def warning(dock) -> str:
    label = dock.options.models.warning
    return "" if label.isHidden() else label.text()


def whole(image, *models: str, **options) -> np.ndarray:
    wanted = Prediction(models, device="cpu", **options)
    return predict_boundary(Volume(np.asarray(image.data), SIZE, "raw"), wanted)


# --------------------------------------------------------------------------------------------------- opening it


def test_opening_it_loads_no_torch() -> None:
    code = """
import sys, napari, numpy as np
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
viewer.add_image(np.zeros((4, 64, 64), np.uint8), scale=(30, 6, 6), units=("nm",) * 3)
_, dock = viewer.window.add_plugin_dock_widget("napari-em-seg", "Predict")
QApplication.processEvents()
assert dock.options.models.ticked
assert "torch" not in sys.modules and "sklearn" not in sys.modules
viewer.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_an_image_or_a_model_there_is_nothing_to_press(viewer, models_folder) -> None:
    widget = PredictWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Predict")
    buttons = (widget.go_preview, widget.go, widget.go_on, widget.options.find)
    assert not any(one.isEnabled() for one in buttons)
    viewer.add_image(np.zeros((3, 16, 16), np.uint8))
    assert [one.isEnabled() for one in buttons] == [False, False, False, True]
    assert "No model" in widget.options.models.card.toPlainText()
    widget.shut_down()
    widget.work.wait()


def test_all_controls_have_a_tip_and_can_be_reached_by_keyboard(dock) -> None:
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QListWidget)
    found = [one for kind in kinds for one in dock.findChildren(kind) if one.isVisibleTo(dock)]
    assert len(found) > 10
    for one in found:
        assert one.toolTip(), one
        assert one.focusPolicy() & Qt.FocusPolicy.TabFocus, one


def test_it_is_in_the_menu_of_layers(viewer) -> None:
    from napari._app_model import get_app_model

    entries = [item.command.title for item in get_app_model().menus.get_menu("napari/layers/segment")
               if hasattr(item, "command")]  # fmt: skip
    assert any("Predict" in title for title in entries)


# ------------------------------------------------------------------------------------------------ models, cards


def test_the_model_is_chosen_by_voxel_size_until_somebody_ticks_another(dock, image, qtbot) -> None:
    options = dock.options
    assert options.models.ticked == ("mouse",)
    image.scale = (50, 4, 4)
    assert options.models.ticked == ("fly",)
    tick(dock, "mouse", qtbot)
    assert set(options.models.ticked) == {"fly", "mouse"}
    assert not options.by_size.isChecked()
    image.scale = SIZE
    assert set(options.models.ticked) == {"fly", "mouse"}
    click(options.by_size, qtbot)
    assert options.models.ticked == ("mouse",)
    tick(dock, "mouse", qtbot)
    assert not options.models.ticked
    assert not dock.go.isEnabled()


def test_the_card_of_the_marked_model_is_shown(dock, qtbot) -> None:
    card = dock.options.models.card
    assert "mouse cortex" in card.toPlainText()
    assert "30 × 6 × 6 nm" in card.toPlainText()
    assert "3 slices" in card.toPlainText()
    dock.options.models.list.setCurrentRow(row_of(dock, "fly"))
    for said in ("fly brain", "50 × 4 × 4 nm", "CC0", "one slice"):
        assert said in card.toPlainText()


def test_voxel_size_and_tissue_that_differ_are_warned_of_before_anything_runs(dock, image, qtbot) -> None:
    options = dock.options
    assert warning(dock) == ""
    assert "\u26a0" in options.models.list.item(row_of(dock, "fly")).text()
    tick(dock, "fly", qtbot)
    assert "fly: Pixels differ 1.5 times" in warning(dock)
    tick(dock, "fly", qtbot)
    assert warning(dock) == ""
    qtbot.keyClicks(options.tissue, "fly brain")  # as people choose from a box by the keyboard
    options.tissue.activated.emit(options.tissue.currentIndex())
    assert "It learned mouse cortex, and this is fly brain" in warning(dock)
    assert image.metadata["tissue"] == "fly brain"
    image.scale = (30, 60, 60)
    assert "Pixels differ 10.0 times" in warning(dock)
    image.units = ("pixel",) * 3
    assert "voxel size of the image is unknown" in warning(dock)


def test_the_tissue_is_that_of_the_layer(dock, viewer, image) -> None:
    image.metadata["tissue"] = "snail"
    metadata = {"source": "/data/ac4_z63-99.h5/volumes/raw"}
    other = viewer.add_image(np.zeros((3, 16, 16), np.uint8), name="ac4", metadata=metadata)
    options = dock.options
    options.image.choose(other)
    assert options.tissue.currentText() == "mouse neocortex, serial-section SEM"
    options.image.choose(image)
    assert options.tissue.currentText() == "snail"
    assert "this is snail" in warning(dock)


def test_settings_are_remembered_for_the_next_time(dock, viewer, qtbot) -> None:
    tick(dock, "fly", qtbot)
    dock.options.views.setCurrentText("8")
    dock.options.local.setCurrentText("fly")
    dock.options.device.setCurrentText("cpu")
    again = PredictWidget(viewer)
    assert set(again.options.models.ticked) == {"fly", "mouse"}
    assert not again.options.by_size.isChecked()
    wanted = again.options.wanted()
    assert (wanted.views, wanted.local_models, wanted.device) == (8, ("fly",), "cpu")
    again.shut_down()
    again.work.wait()


def test_the_device_and_the_image_are_shared_with_other_docks(dock, viewer, image) -> None:
    dock.options.device.setCurrentText("cpu")
    assert dock.state.device == "cpu"
    dock.state.device = "mps"
    assert dock.options.device.currentText() == "mps"
    other = viewer.add_image(np.zeros((3, 16, 16), np.uint8), name="other")
    dock.options.image.choose(other)
    assert dock.state.image is other
    other.name = "renamed"
    assert dock.options.image.currentText() == "renamed"
    viewer.layers.remove(other)
    assert dock.options.image.layer is image


# -------------------------------------------------------------------------------------------------- the preview


def test_a_preview_shows_the_slice_in_view_before_the_whole(dock, viewer, image, qtbot) -> None:
    click(dock.go_preview, qtbot)
    settle(dock, qtbot)
    layer = viewer.layers[PREVIEW]
    expected = whole(image, "mouse", views=1)
    place = np.round(layer.translate / SIZE).astype(int)
    assert place[0] == 2
    box = (
        slice(2, 3),
        *(slice(first, first + n) for first, n in zip(place[1:], layer.data.shape[1:], strict=True)),
    )
    np.testing.assert_allclose(np.asarray(layer.data, int), expected[box], atol=1)
    assert layer.data.shape[1] == 128
    assert "slice 2" in dock.words.text()
    viewer.dims.set_current_step(0, 4)
    click(dock.go_preview, qtbot)
    settle(dock, qtbot)
    assert [one.name for one in viewer.layers] == ["raw", PREVIEW]  # it takes the place of the one before
    assert viewer.layers[PREVIEW].translate[0] == 4 * SIZE[0]
    assert dock.options.image.count() == 1  # and is no image to predict from


def test_a_preview_is_of_what_is_on_the_screen(dock, viewer, image, qtbot) -> None:
    viewer.scene.camera.center = (0, 64 * 6, 64 * 6)
    viewer.scene.camera.zoom = min(viewer.canvas.size) / (32 * 6)
    _, y, x = box_in_view(viewer, image)
    assert 30 <= min(y.stop - y.start, x.stop - x.start) <= 36
    click(dock.go_preview, qtbot)
    settle(dock, qtbot)
    layer = viewer.layers[PREVIEW]
    first = np.round(layer.translate[1:] / SIZE[1:]).astype(int)
    for start, n, part in zip(first, layer.data.shape[1:], (y, x), strict=True):
        assert part.start - 4 < start <= part.start
        assert part.stop <= start + n < part.stop + 4


def test_a_box_of_a_turned_and_shifted_layer_lies_where_it_belongs(viewer) -> None:
    turned = viewer.add_image(np.zeros((5, 20, 30), np.uint8), scale=SIZE, translate=(60, 7, 8), rotate=20,
                              affine=np.diag([1, 2, 2, 1]))  # fmt: skip
    box = (slice(3, 4), slice(5, 9), slice(10, 20))
    part = viewer.add_image(np.zeros((1, 4, 10), np.uint8), scale=SIZE, rotate=20, affine=turned.affine,
                            translate=corner_of(turned, box))  # fmt: skip
    np.testing.assert_allclose(part.data_to_world((0, 2, 3)), turned.data_to_world((3, 7, 13)))


def test_networks_are_loaded_when_the_mouse_comes_in_but_not_where_it_rests(dock, qtbot, monkeypatch) -> None:
    loaded = []
    monkeypatch.setattr(lazy, "load_models", lambda _, wanted: loaded.append(wanted.models))
    place = [dock._pointer]
    monkeypatch.setattr("napari_em_seg.widgets.predict.dock.QCursor.pos", lambda: place[0])
    QApplication.sendEvent(dock, QEvent(QEvent.Type.Enter))
    settle(dock, qtbot)
    assert not loaded
    place[0] = place[0] + QPoint(5, 5)
    for _ in range(2):
        QApplication.sendEvent(dock, QEvent(QEvent.Type.Enter))
        settle(dock, qtbot)
    assert loaded == [("mouse",)]


# -------------------------------------------------------------------------------------------------- predictions


def test_the_whole_is_a_layer_of_its_own(dock, viewer, image, qtbot) -> None:
    click(dock.go_preview, qtbot)
    settle(dock, qtbot)
    dock.options.views.setCurrentText("4")
    click(dock.go, qtbot)
    layer = viewer.layers["boundary"]
    told: list[bool] = []
    dock.state.changed.connect(lambda: told.append(STEPS in layer.metadata))
    assert not layer.data.any()  # there before the first block
    assert PREVIEW not in viewer.layers
    assert not dock.go.isEnabled()
    settle(dock, qtbot)
    np.testing.assert_array_equal(layer.data, whole(image, "mouse", views=4))
    assert role_of(layer) == "boundary"
    assert layer.metadata["models"] == ("mouse",)
    assert (tuple(layer.scale), layer.units) == (tuple(image.scale), image.units)
    assert "complete" in dock.words.text()
    assert told[-1]  # other docks hear of it once its metadata say so
    assert not dock.go_on.isEnabled()
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert [one.name for one in viewer.layers] == ["raw", "boundary", "boundary [1]"]


def test_several_models_are_an_ensemble(dock, viewer, image, qtbot) -> None:
    tick(dock, "fly", qtbot)
    dock.options.views.setCurrentText("1")
    click(dock.go, qtbot)
    settle(dock, qtbot)
    np.testing.assert_array_equal(viewer.layers["boundary"].data, whole(image, "fly", "mouse", views=1))
    assert " and " in dock.words.text()


def test_affinities_are_shown_as_boundaries_and_kept_behind_them(dock, viewer, image, qtbot) -> None:
    dock.options.task.setCurrentText("Affinities")
    assert dock.options.models.ticked == ("joins",)
    dock.options.views.setCurrentText("1")
    click(dock.go, qtbot)
    settle(dock, qtbot)
    layer = viewer.layers["affinities"]
    wanted = Prediction(("joins",), views=1, device="cpu")
    expected = predict_affinities(Volume(np.asarray(image.data), SIZE), wanted)[:3]
    assert role_of(layer) == "affinities"
    np.testing.assert_array_equal(affinities_of(layer), expected)
    np.testing.assert_array_equal(layer.data, 255 - expected[1:].min(0))


def paced(monkeypatch):
    """Let the blocks of a prediction come one by one, when the test says so."""
    honest, tickets, places = lazy.LazyPrediction.blocks, [0], []

    def blocks(self, looking_at, *, progress, cancelled):
        def slowly() -> bool:
            while not tickets[0] and not cancelled():
                time.sleep(0.005)
            return cancelled()

        found = honest(self, looking_at, progress=progress, cancelled=cancelled)
        while self.n_left or not self.n_blocks:
            slowly()
            place = next(found)
            tickets[0] -= 1
            places.append(place[0].start)
            yield place

    monkeypatch.setattr(lazy.LazyPrediction, "blocks", blocks)
    return tickets, places


def test_slices_come_first_where_one_looks(dock, viewer, qtbot, monkeypatch) -> None:
    tickets, places = paced(monkeypatch)
    click(dock.go, qtbot)
    tickets[0] += 2
    qtbot.waitUntil(lambda: len(places) == 2, timeout=20_000)
    assert places == [2, 1]
    layer = viewer.layers["boundary"]
    qtbot.waitUntil(lambda: layer.data[2].any() and np.asarray(layer._slice.image.view).any(), timeout=5000)
    viewer.dims.set_current_step(0, 5)
    tickets[0] += 10
    settle(dock, qtbot)
    assert places == [2, 1, 5, 4, 3, 0]


def test_cancel_keeps_what_is_done_and_one_can_go_on(dock, viewer, image, qtbot, monkeypatch) -> None:
    tickets, places = paced(monkeypatch)
    click(dock.go, qtbot)
    tickets[0] += 2
    qtbot.waitUntil(lambda: len(places) == 2, timeout=20_000)
    assert dock.cancel_button.isVisible()
    click(dock.cancel_button, qtbot)
    settle(dock, qtbot)
    layer = viewer.layers["boundary"]
    assert "2 of 6 blocks are done" in dock.words.text()
    assert [z for z in range(6) if layer.data[z].any()] == [1, 2]
    tickets[0] += 10
    click(dock.go_on, qtbot)
    settle(dock, qtbot)
    assert sorted(places) == list(range(6))
    np.testing.assert_array_equal(layer.data, whole(image, "mouse", views=4))
    assert not dock.go_on.isEnabled()


def test_a_prediction_whose_layer_is_removed_ends(dock, viewer, qtbot, monkeypatch) -> None:
    tickets, places = paced(monkeypatch)
    click(dock.go, qtbot)
    tickets[0] += 1
    qtbot.waitUntil(lambda: len(places) == 1, timeout=20_000)
    viewer.layers.remove("boundary")
    settle(dock, qtbot)
    assert len(places) == 1
    assert not dock.go_on.isEnabled()
    assert dock.go.isEnabled()


def test_an_image_that_is_removed_meanwhile_is_predicted_all_the_same(dock, viewer, qtbot) -> None:
    click(dock.go, qtbot)
    viewer.layers.remove("raw")
    settle(dock, qtbot)
    assert all(viewer.layers["boundary"].data[z].any() for z in range(6))
    assert not dock.go.isEnabled()


def test_a_second_prediction_of_an_image_is_refused_while_one_goes_on(dock, viewer, image, qtbot) -> None:
    dock.state.claim("Prediction", image)  # as by another dock
    click(dock.go, qtbot)
    assert "under way already" in dock.words.text()
    assert [one.name for one in viewer.layers] == ["raw"]
    assert not dock.go_on.isEnabled()
    dock.state.release("Prediction", image)


def test_two_viewers_do_not_disturb_each_other(dock, image, qtbot) -> None:
    other = napari.Viewer(show=False)
    other.add_image(np.asarray(image.data)[:3], name="raw", scale=SIZE, units=("nm",) * 3)
    beside = PredictWidget(other)
    click(dock.go, qtbot)
    beside._on_predict()
    settle(dock, qtbot)
    settle(beside, qtbot)
    assert other.layers["boundary"].data.shape[0] == 3
    assert other.layers["boundary"].data.any()
    beside.shut_down()
    beside.work.wait()
    other.close()
    assert dock.prediction.is_complete


def test_what_cannot_be_done_is_said_in_plain_words(dock, viewer, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    dock.options.device.setCurrentText("mps")
    for button in (dock.go_preview, dock.go):
        click(button, qtbot)
        settle(dock, qtbot)
        assert "'mps', which is not there" in told.pop()
    viewer.layers.clear()
    labels = viewer.add_image(np.zeros((3, 16, 16), np.uint32), name="ids")
    assert dock.options.image.layer is labels
    click(dock.go, qtbot)
    assert "as labels do" in told.pop()


# -------------------------------------------------------------------------------------------- misaligned slices


@pytest.fixture
def misaligned(image):
    """Shift one slice by half an image."""
    image.data = np.concatenate(
        [np.roll(image.data[:1], 40, 1) if z == 3 else image.data[:1] for z in range(6)]
    )


def test_misaligned_slices_are_found_and_can_be_changed(dock, viewer, image, misaligned, qtbot) -> None:
    options = dock.options
    click(options.find, qtbot)
    settle(dock, qtbot)
    assert options.misaligned.text() == "2, 3, 4"
    assert "2, 3, 4" in dock.words.text()
    options.local.setCurrentText("fly")
    options.views.setCurrentText("1")
    options.misaligned.setText("3")
    click(dock.go, qtbot)
    settle(dock, qtbot)
    expected = whole(image, "mouse", views=1)
    expected[3] = np.maximum(expected[3], whole(image, "fly", views=1)[3])
    np.testing.assert_array_equal(viewer.layers["boundary"].data, expected)


def test_they_are_looked_for_where_a_local_model_needs_them(dock, viewer, misaligned, qtbot) -> None:
    dock.options.local.setCurrentText("fly")
    click(dock.go, qtbot)
    qtbot.waitUntil(lambda: "boundary" in viewer.layers, timeout=20_000)
    settle(dock, qtbot)
    assert dock.options.misaligned.text() == "2, 3, 4"
    assert dock.prediction.is_complete


def test_where_none_is_misaligned_the_local_model_is_not_asked_for(dock, viewer, image, qtbot) -> None:
    image.data = np.repeat(image.data[:1], 6, 0)
    dock.options.local.setCurrentText("fly")
    dock.options.views.setCurrentText("1")
    click(dock.go, qtbot)
    qtbot.waitUntil(lambda: "boundary" in viewer.layers, timeout=20_000)
    settle(dock, qtbot)
    assert dock.options.misaligned.text() == "none"
    np.testing.assert_array_equal(viewer.layers["boundary"].data, whole(image, "mouse", views=1))


def test_slices_that_make_no_sense_are_said(dock, viewer, qtbot) -> None:
    dock.options.local.setCurrentText("fly")
    for typed, said in (("two", "numbers such as 9-11, 32"), ("4-9", "include 4-9")):
        dock.options.misaligned.setText(typed)
        click(dock.go, qtbot)
        assert said in dock.words.text()
    assert [one.name for one in viewer.layers] == ["raw"]


@pytest.mark.parametrize(
    ("typed", "slices"),
    [("9-11, 32", (9, 10, 11, 32)), ("3 1", (1, 3)), (" 4 - 5 ; 5", (4, 5)), ("9–10,", (9, 10)), ("none", ())],
)
def test_slices_can_be_typed_in_several_ways(typed, slices) -> None:
    assert slice_numbers(typed, 40) == slices


@pytest.mark.parametrize("typed", ["a", "3-", "5-3", "40", "1:3"])
def test_other_ways_are_refused(typed) -> None:
    with pytest.raises(DataError, match="misaligned slices"):
        slice_numbers(typed, 40)


# --------------------------------------------------------------------------------------------------- closing it


def test_closing_it_in_the_middle_of_work_stops_it(viewer, models, image, qtbot, monkeypatch) -> None:
    widget = PredictWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Predict")
    tickets, places = paced(monkeypatch)
    click(widget.go, qtbot)
    tickets[0] += 1
    qtbot.waitUntil(lambda: len(places) == 1, timeout=20_000)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert len(places) == 1
    assert not widget.state.is_under_way("Prediction", image)
    widget.state.device = "cpu"
    image.scale = (50, 4, 4)  # nobody listens any more
    viewer.dims.set_current_step(0, 1)
    viewer.scene.camera.zoom = 2.0
    assert widget.options.models.ticked == ("mouse",)
    assert widget.options.device.currentText() == "auto"
