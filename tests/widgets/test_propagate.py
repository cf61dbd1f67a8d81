"""The dock "Propagate", clicked through in a real viewer."""

import shutil

import napari
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication
from scipy.ndimage import binary_dilation

from napari_em_seg import pipeline
from napari_em_seg.errors import Cancelled
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import PredictedMaps
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.keys import KeyMap
from napari_em_seg.widgets.layers import marked, role_of
from napari_em_seg.widgets.propagate.dock import PROPAGATED, SEEDS, PropagateWidget
from napari_em_seg.widgets.review.dock import ReviewWidget
from napari_em_seg.widgets.state import state_of

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Return a folder with an image and a session about it, and the truth."""
    folder = tmp_path_factory.mktemp("tissue")
    raw, truth = pipeline.sample_volumes((6, 128, 128), 3)
    affinities = (235 * affinity_labels(np.asarray(truth))[0] + 10).astype(np.uint8)
    write_volume(Volume(np.asarray(raw), SIZE, "raw"), str(folder / "raw.zarr"))
    image = open_volume(str(folder / "raw.zarr"))
    pipeline.reconstruct_to_session(image, str(folder / "a.emseg"), maps=PredictedMaps(affinities))
    return folder, np.asarray(truth)


@pytest.fixture
def dock(viewer: napari.Viewer, tissue, qtbot):
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(raw, name="raw", scale=SIZE, units=("nm",) * 3, metadata={"source": raw.source})
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Propagate", area="right")
    viewer.dims.set_current_step(0, 2)
    yield widget
    widget.shut_down()
    widget.work.wait()


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=120_000)
    QApplication.processEvents()


def click(button, qtbot) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def seeded(dock, tissue, qtbot, n=2):
    """Paint the largest objects of slice 2 with napari's own brush, inside their true sections."""
    click(dock.new_seeds, qtbot)
    layer, plane = dock.seeds.layer, tissue[1][2]
    assert (layer.name, layer.mode) == (SEEDS, "paint")
    ids, counts = np.unique(plane[plane > 0], return_counts=True)
    chosen = ids[np.argsort(counts)[::-1][:n]]
    layer.brush_size = 3
    for number, label in enumerate(chosen, 1):
        layer.selected_label = number
        for y, x in np.argwhere(plane == label)[::7]:
            layer.paint((2, y, x), number)
    return chosen


def test_without_an_image_there_is_nothing_to_press(viewer, qtbot) -> None:
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Propagate")
    assert not any(b.isEnabled() for b in (widget.new_seeds, widget.go, widget.accept, widget.all_seeds))
    widget.shut_down()
    widget.work.wait()


def test_labels_that_somebody_opened_are_no_seeds_and_stay_as_they_are(
    dock, tissue, viewer, qtbot, monkeypatch
) -> None:
    truth = viewer.add_labels(tissue[1].copy(), name="truth", scale=SIZE, units=("nm",) * 3)
    assert dock.seeds.layer is None
    assert not dock.go.isEnabled()
    monkeypatch.setattr(pipeline, "watershed_seeds", lambda *_, **__: np.ones((128, 128), np.uint32))
    click(dock.all_seeds, qtbot)
    settle(dock, qtbot)
    assert (truth.data == tissue[1]).all()
    assert dock.seeds.layer.name == SEEDS
    assert dock.go.isEnabled()


def test_it_begins_with_the_image_that_was_chosen_elsewhere_and_with_no_map(viewer, qtbot) -> None:
    images = [viewer.add_image(np.zeros((3, 8, 8), np.uint8), name=name) for name in ("one", "two")]
    viewer.add_image(np.zeros((3, 8, 8), np.uint8), name="map", metadata=marked("boundary"))
    state_of(viewer).image = images[1]
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Propagate")
    assert widget.image.layer is images[1]
    assert [widget.image.itemText(k) for k in range(widget.image.count())] == ["one", "two"]
    widget.image.setCurrentIndex(0)
    widget.image.activated.emit(0)
    assert state_of(viewer).image is images[0]
    widget.shut_down()
    widget.work.wait()


def test_painted_seeds_are_followed_and_shown_slice_by_slice(dock, tissue, viewer, qtbot) -> None:
    labels = seeded(dock, tissue, qtbot)
    seen: list[int] = []
    shown = dock._on_slice_done
    dock._on_slice_done = lambda volume, one: (seen.append(one.z), shown(volume, one))
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert seen == [2, 3, 1, 4, 0, 5]  # nearest first, while it runs
    layer = viewer.layers[PROPAGATED]
    assert (layer.data[2] == dock.seeds.layer.data[2]).all()
    for number, label in enumerate(labels, 1):
        ours, theirs = layer.data[3] == number, tissue[1][3] == label
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.3
    assert sorted(dock.confidence) == [1, 2]
    assert "least sure" in dock.words.text()
    assert role_of(layer) == "propagated"  # as other docks know it


def test_extent_and_direction_are_kept_to(dock, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 1)
    dock.way.setCurrentText("up (to higher slices)")
    dock.extent.setValue(2)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    there = [z for z in range(6) if (viewer.layers[PROPAGATED].data[z] > 0).any()]
    assert there == [2, 3, 4]


def test_a_cell_of_the_strip_leads_there(dock, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    qtbot.mouseClick(dock.strip, Qt.MouseButton.LeftButton, pos=dock.strip.place_of(1, 4))
    assert viewer.dims.current_step[0] == 4
    assert dock._chosen == 2
    assert dock.result.selected_label == 2


def test_cancel_keeps_what_is_done(dock, tissue, viewer, qtbot, monkeypatch) -> None:
    seeded(dock, tissue, qtbot)
    honest = pipeline.propagate

    def slow(volume, seeds, wanted, *, progress, cancelled):
        for done, one in enumerate(honest(volume, seeds, wanted, progress=progress, cancelled=cancelled), 1):
            yield one
            if done == 3:
                dock.work.jobs[0].cancel()  # as the button does
                if cancelled():
                    raise Cancelled("stopped")

    monkeypatch.setattr(pipeline, "propagate", slow)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert "what is done stays" in dock.words.text()
    assert sum((viewer.layers[PROPAGATED].data[z] > 0).any() for z in range(6)) == 3
    monkeypatch.undo()
    click(dock.go, qtbot)  # and again, to the end
    settle(dock, qtbot)
    assert len(dock.confidence[1]) == 6


def test_corrected_slices_are_followed_on_from_and_others_stay(dock, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    layer = viewer.layers[PROPAGATED]
    before = layer.data.copy()
    viewer.dims.set_current_step(0, 3)
    layer.data[3][:] = 0
    other = np.unique(tissue[1][3][tissue[1][3] > 0])[0]
    layer.data[3][tissue[1][3] == other] = 7
    corrected = layer.data[3].copy()
    click(dock.again, qtbot)
    settle(dock, qtbot)
    assert (layer.data[:3] == before[:3]).all()
    assert (layer.data[3] == corrected).all()
    assert set(np.unique(layer.data[4])) <= {0, 7}
    assert not (layer.data[4] == before[4]).all()


def test_clicks_seed_sections_and_let_go_of_them(dock, viewer, qtbot, monkeypatch) -> None:
    sections = np.zeros((128, 128), np.uint32)
    sections[10:40, 10:40], sections[60:90, 60:100] = 1, 2
    monkeypatch.setattr(pipeline, "watershed_seeds", lambda *_, **__: sections)
    click(dock.click_seeds, qtbot)
    image = dock.image.layer
    for y, x in ((20, 20), (70, 80)):
        dock.on_click(image.data_to_world((2, y, x)))
        settle(dock, qtbot)
    layer = dock.seeds.layer
    assert len(np.unique(layer.data[2])) == 3
    dock.on_click(image.data_to_world((2, 20, 20)))
    settle(dock, qtbot)
    assert not layer.data[2][10:40, 10:40].any()
    assert (layer.data[2][60:90, 60:100] > 0).all()
    dock.on_click(image.data_to_world((2, 0, 0)))
    assert "membrane" in dock.words.text()
    click(dock.all_seeds, qtbot)
    settle(dock, qtbot)
    assert (layer.data[2] == sections).all()


@pytest.fixture
def review(viewer, dock, tissue, tmp_path, qtbot):
    shutil.copytree(tissue[0] / "a.emseg", tmp_path / "a.emseg")
    widget = ReviewWidget(viewer, KeyMap(tmp_path / "keys.json"))
    viewer.window.add_dock_widget(widget, name="Review links")
    widget.open_session(str(tmp_path / "a.emseg"))
    settle(widget, qtbot)
    yield widget
    widget.shut_down()
    widget.work.wait()


def test_without_a_session_nothing_can_be_accepted(dock, tissue, qtbot) -> None:
    seeded(dock, tissue, qtbot, 1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    click(dock.accept_all, qtbot)
    assert "Open a session" in dock.words.text()


def test_accepted_objects_are_in_the_session_and_can_be_undone(dock, review, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 2)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    data = viewer.layers[PROPAGATED].data.copy()
    before = ObjectVolume(review.desk.session.view)[:]
    dock._on_cell(0, 2)
    click(dock.accept, qtbot)
    settle(review, qtbot)
    assert [o.kind for o in review.desk.session.operations] == ["object"]
    after = ObjectVolume(review.desk.session.view)[:]
    ours = np.bincount(after[data == 1])
    assert ours[1:].max() > 0.8 * ours.sum()
    assert 1 not in dock.confidence  # it is the session's now
    assert not (viewer.layers[PROPAGATED].data == 1).any()
    review.desk.undo()
    settle(review, qtbot)
    assert (ObjectVolume(review.desk.session.view)[:] == before).all()
    assert (viewer.layers[PROPAGATED].data == data).all()  # it can be mended, and accepted again
    assert 1 in dock.confidence
    review.desk.redo()
    settle(review, qtbot)
    assert not (viewer.layers[PROPAGATED].data == 1).any()
    assert 1 not in dock.confidence


def test_clicks_that_seed_leave_the_review_alone(dock, review, viewer, qtbot, monkeypatch) -> None:
    sections = np.ones((128, 128), np.uint32)
    monkeypatch.setattr(pipeline, "watershed_seeds", lambda *_, **__: sections)
    both = dock.parentWidget(), review.parentWidget()
    dock.window().splitDockWidget(*both, Qt.Orientation.Horizontal)  # as somebody drags a tab away
    QApplication.processEvents()
    assert dock.is_seen
    assert review.is_seen
    canvas = viewer.window._qt_viewer.canvas.native
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    viewer.dims.set_current_step(0, 2)
    viewer.fit_to_view()
    asked, listed = review.desk.link, len(review.desk.sheet.listed)
    click(dock.click_seeds, qtbot)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    settle(dock, qtbot)
    assert (dock.seeds.layer.data[2] == 1).all()
    assert viewer.dims.current_step[0] == 2
    assert (review.desk.link, len(review.desk.sheet.listed)) == (asked, listed)
    click(dock.click_seeds, qtbot)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)  # now it is the review's again
    assert not review.only_object.isHidden() or "No object" in review.words.text()
    assert (dock.seeds.layer.data[2] == 1).all()


def test_neighbours_are_not_lost_for_their_margins(dock, review, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    grown = binary_dilation(viewer.layers[PROPAGATED].data == 1, np.ones((1, 3, 3)), iterations=3)
    viewer.layers[PROPAGATED].data[grown] = 1  # as if it had drawn its borders too far out
    before = ObjectVolume(review.desk.session.view)[:]
    names, covered = np.unique(before[grown], return_counts=True)
    touched = [k for k, n in zip(names, covered, strict=True) if k and n < 0.3 * (before == k).sum()]
    assert touched
    click(dock.accept_all, qtbot)
    settle(review, qtbot)
    beside = np.isin(before, touched) & ~grown
    assert (ObjectVolume(review.desk.session.view)[:][beside] > 0).mean() > 0.95


def test_what_was_accepted_is_not_overwritten(dock, review, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    data, confidence = viewer.layers[PROPAGATED].data.copy(), dict(dock.confidence)
    click(dock.accept_all, qtbot)
    settle(review, qtbot)
    viewer.layers[PROPAGATED].data[:], dock.confidence = data, confidence
    n = len(review.desk.session.operations)
    click(dock.accept_all, qtbot)
    settle(review, qtbot)
    assert "overlaps accepted objects" in dock.words.text()
    assert len(review.desk.session.operations) == n


def test_the_only_slice_with_seeds_is_the_reference_even_where_another_one_is_in_view(
    dock, tissue, viewer, qtbot
) -> None:
    seeded(dock, tissue, qtbot, 1)
    viewer.dims.set_current_step(0, 4)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert dock._reference == 2
    assert (viewer.layers[PROPAGATED].data[2] == dock.seeds.layer.data[2]).all()


def test_reject_and_keep(dock, tissue, viewer, qtbot) -> None:
    seeded(dock, tissue, qtbot, 2)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    dock._on_cell(0, 2)
    click(dock.reject, qtbot)
    assert set(np.unique(viewer.layers[PROPAGATED].data)) == {0, 2}
    click(dock.keep, qtbot)
    assert PROPAGATED in [layer.name for layer in viewer.layers]
    assert dock.result is None
    assert not dock.accept.isEnabled()


def test_seeds_of_another_shape_and_no_seeds_are_said(dock, viewer, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    click(dock.new_seeds, qtbot)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert "no seeds on slice 2" in told[0]
    dock.seeds.choose(viewer.add_labels(np.zeros((6, 9, 9), np.uint32), name="other"))
    click(dock.go, qtbot)
    assert "(9, 9)" in told[1]


def test_closing_it_in_the_middle_of_work_stops_it(viewer, tissue, qtbot) -> None:
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(raw, name="raw", scale=SIZE, units=("nm",) * 3)
    viewer.dims.set_current_step(0, 2)
    widget = PropagateWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Propagate")
    seeded(widget, tissue, qtbot, 2)
    click(widget.go, qtbot)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert widget._on_mouse not in viewer.mouse_drag_callbacks
