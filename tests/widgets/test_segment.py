"""The dock "Segment", clicked through in a real viewer."""

import subprocess
import sys

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QSlider

from napari_em_seg import pipeline
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline.adjustable import Cut, parts_of
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.segment import hmin_watershed
from napari_em_seg.widgets.layers import marked, role_of
from napari_em_seg.widgets.segment import dock as module
from napari_em_seg.widgets.segment.dock import SEGMENTS, SegmentWidget
from napari_em_seg.widgets.segment.history import History, Setting

SIZE = (30.0, 6.0, 6.0)
Z = "z-watershed of affinities"


@pytest.fixture(scope="module")
def affinities() -> np.ndarray:
    truth = np.asarray(pipeline.sample_volumes((6, 128, 128), 3)[1])
    right = affinity_labels(truth)[0].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.15, right.shape)
    return np.rint(255 * np.clip(0.15 + 0.7 * right + noise, 0, 1)).astype(np.uint8)


def add_maps(viewer: napari.Viewer, affinities: np.ndarray, **options):
    boundary = 255 - affinities[1:].min(0)
    return viewer.add_image(boundary, name="affinities", metadata=marked("affinities", affinities=affinities),
                            **{"scale": SIZE, "units": ("nm",) * 3, **options})  # fmt: skip


@pytest.fixture
def dock(viewer: napari.Viewer, affinities, qtbot):
    viewer.add_image(np.zeros(affinities.shape[1:], np.uint8), name="raw", scale=SIZE, units=("nm",) * 3)
    add_maps(viewer, affinities)
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment", area="right")
    yield widget
    widget.shut_down()
    widget.work.wait()


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=60_000)
    QApplication.processEvents()


def click(button, qtbot) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def segment(dock, qtbot, method: str = "", score: str = "") -> napari.layers.Labels:
    if method:
        dock.making.method.setCurrentText(method)
    if score:
        dock.making.score.setCurrentText(score)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    return dock.result


def labels_of(layer) -> np.ndarray:
    return np.asarray(layer.data).copy()


def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack((a.ravel(), b.ravel())), axis=1)
    return all(len(np.unique(row)) == pairs.shape[1] for row in pairs)


def pause(dock, qtbot) -> None:
    """Wait until a change is a step of the history."""
    qtbot.waitUntil(lambda: not dock._pause.isActive(), timeout=5000)


def test_without_a_map_there_is_nothing_to_press(viewer, qtbot) -> None:
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    assert not any(b.isEnabled() for b in (widget.go, widget.before, widget.undo, widget.redo, widget.keep))
    widget.shut_down()
    widget.work.wait()


def test_predicted_maps_come_first_and_a_choice_stays(dock, viewer, affinities, qtbot) -> None:
    source = dock.making.source
    assert source.layer is viewer.layers["affinities"]
    viewer.layers["affinities"].name = "maps"
    assert source.currentText() == "maps"
    source.setCurrentText("raw")
    source.activated.emit(source.currentIndex())  # as a person's choice does
    assert "is taken for a boundary map" in dock.words.text()
    add_maps(viewer, affinities)
    assert source.layer is viewer.layers["raw"]


def test_it_shows_the_watershed_and_the_slider_every_depth(dock, viewer, affinities, qtbot) -> None:
    layer, boundary = segment(dock, qtbot), 255 - affinities[1:].min(0)
    assert (layer.name, role_of(layer)) == (SEGMENTS, "segments")
    assert tuple(layer.scale) == SIZE
    assert is_same(labels_of(layer), hmin_watershed(boundary, 0.1))
    for h in (0.02, 0.35):
        dock.cutting.depth.setValue(h)
        QApplication.processEvents()
        assert is_same(labels_of(layer), hmin_watershed(boundary, h))
        assert is_same(layer._slice.image.raw, hmin_watershed(boundary, h)[viewer.dims.current_step[0]])
    assert dock.result is layer
    assert len([x for x in viewer.layers if role_of(x) == "segments"]) == 1


def test_only_what_the_method_takes_is_shown(dock, qtbot) -> None:
    making, cutting = dock.making, dock.cutting
    assert (making.sigma.isVisible(), making.score.isVisible(), making.quantile.isVisible()) == (
        True,
        False,
        False,
    )
    assert (cutting.depth.isVisible(), cutting.threshold.isVisible()) == (True, False)
    making.method.setCurrentText(Z)
    making.score.setCurrentText("quantile")
    assert (making.sigma.isVisible(), making.score.isVisible(), making.quantile.isVisible()) == (
        False,
        True,
        True,
    )
    assert (cutting.depth.isVisible(), cutting.threshold.isVisible()) == (False, True)
    making.score.setCurrentText("none")
    assert not cutting.threshold.isVisible()


def test_the_slider_is_that_of_the_segments_that_are_there(dock, qtbot) -> None:
    segment(dock, qtbot)
    dock.making.method.setCurrentText(Z)  # nothing of this was made yet
    assert dock.cutting.depth.isVisible()
    segment(dock, qtbot)
    assert dock.cutting.threshold.isVisible()
    click(dock.undo, qtbot)
    assert dock.cutting.depth.isVisible()


@pytest.mark.parametrize("score", ["none", "mean", "quantile", "learned"])
def test_affinities_are_merged_up_to_the_threshold(dock, score, qtbot) -> None:
    dock.cutting.threshold.setValue(0.0)
    layer = segment(dock, qtbot, Z, score)
    fine = labels_of(layer)
    dock.cutting.threshold.setValue(1.0)
    coarse = labels_of(layer)
    if score == "none":
        assert (fine == coarse).all()
    else:
        assert len(np.unique(coarse)) < len(np.unique(fine))
        assert np.isin(np.unique(coarse), np.unique(fine)).all()


def test_another_score_needs_no_new_supervoxels(dock, qtbot) -> None:
    segment(dock, qtbot, Z, "mean")
    first = dock.history.now.parts
    segment(dock, qtbot, score="learned")
    assert dock.history.now.parts.labels is first.labels
    assert dock.history.now.parts is not first


def test_small_ones_join_or_go(dock, qtbot) -> None:
    dock.cutting.depth.setValue(0.0)
    layer = segment(dock, qtbot)
    dock.cutting.smallest.setValue(500)
    assert np.unique(labels_of(layer), return_counts=True)[1].min() >= 500
    assert labels_of(layer).all()
    dock.cutting.small_ones.setCurrentText("are removed")
    assert (labels_of(layer) == 0).any()


def test_undo_and_redo_go_through_changes_and_runs(dock, qtbot) -> None:
    layer = segment(dock, qtbot)
    seen = [labels_of(layer)]
    for h in (0.2, 0.3):
        dock.cutting.depth.setValue(h)
        seen.append(labels_of(layer))
        pause(dock, qtbot)
    segment(dock, qtbot, Z)
    seen.append(labels_of(layer))
    for there in seen[-2::-1]:
        click(dock.undo, qtbot)
        assert (labels_of(layer) == there).all()
    assert not dock.undo.isEnabled()
    assert dock.cutting.depth.value() == pytest.approx(0.1)
    for there in seen[1:]:
        click(dock.redo, qtbot)
        assert (labels_of(layer) == there).all()
    assert not dock.redo.isEnabled()


def test_moves_without_a_pause_are_one_step(dock, qtbot) -> None:
    layer = segment(dock, qtbot)
    first = labels_of(layer)
    for h in np.linspace(0.1, 0.4, 7):
        dock.cutting.depth.setValue(h)
    click(dock.undo, qtbot)  # at once, before the pause is over
    assert (labels_of(layer) == first).all()
    click(dock.redo, qtbot)
    assert dock.cutting.depth.value() == pytest.approx(0.4)
    click(dock.undo, qtbot)
    dock.cutting.depth.setValue(0.2)
    pause(dock, qtbot)
    assert not dock.redo.isEnabled()


def test_before_is_seen_while_the_button_is_held(dock, qtbot) -> None:
    layer = segment(dock, qtbot)
    first = labels_of(layer)
    dock.cutting.depth.setValue(0.4)
    changed = labels_of(layer)
    for wait in (lambda: None, lambda: pause(dock, qtbot)):
        wait()
        qtbot.mousePress(dock.before, Qt.MouseButton.LeftButton)
        assert (labels_of(layer) == first).all()
        qtbot.mouseRelease(dock.before, Qt.MouseButton.LeftButton)
        assert (labels_of(layer) == changed).all()
    dock.before.setFocus()
    qtbot.keyPress(dock.before, Qt.Key.Key_Space)
    assert (labels_of(layer) == first).all()
    qtbot.keyRelease(dock.before, Qt.Key.Key_Space)
    assert (labels_of(layer) == changed).all()


def test_cancel_leaves_the_layer_as_it_was(dock, qtbot, monkeypatch) -> None:
    layer = segment(dock, qtbot)
    before = labels_of(layer)
    honest = module.parts_of

    def slow(*given, progress, cancelled, **options):
        qtbot.waitUntil(cancelled, timeout=10_000)
        return honest(*given, progress=progress, cancelled=cancelled, **options)

    monkeypatch.setattr(module, "parts_of", slow)
    dock.making.method.setCurrentText(Z)
    click(dock.go, qtbot)
    assert not dock.go.isEnabled()
    dock.cutting.depth.setValue(0.12)  # sliders go on meanwhile
    dock.cutting.depth.setValue(0.1)
    click(dock.cancel_button, qtbot)
    settle(dock, qtbot)
    assert "as they were" in dock.words.text()
    assert (labels_of(layer) == before).all()
    assert dock.history.now.parts.recipe.method == "hmin-3d"
    assert dock.go.isEnabled()


def test_a_map_that_is_removed_meanwhile_gives_nothing(dock, viewer, qtbot) -> None:
    click(dock.go, qtbot)
    viewer.layers.remove("affinities")
    settle(dock, qtbot)
    assert dock.result is None
    assert SEGMENTS not in viewer.layers


def test_segments_outlive_their_map_and_go_with_their_layer(dock, viewer, qtbot) -> None:
    layer = segment(dock, qtbot)
    viewer.layers.remove("affinities")
    first = labels_of(layer)
    dock.cutting.depth.setValue(0.4)
    assert not (labels_of(layer) == first).all()
    viewer.layers.remove(layer)
    assert not any(b.isEnabled() for b in (dock.before, dock.undo, dock.keep))
    dock.cutting.depth.setValue(0.3)  # nothing to change


def test_a_number_that_is_typed_stays_and_the_slider_goes_near(dock, qtbot) -> None:
    depth = dock.cutting.depth
    segment(dock, qtbot)
    depth.box.setFocus()
    depth.box.selectAll()
    qtbot.keyClicks(depth.box, "0.123\r")
    assert (depth.value(), depth.slider.value()) == (0.123, 25)
    assert dock._shown.cut.level == 0.123


def test_another_map_has_a_layer_of_its_own(dock, viewer, affinities, qtbot) -> None:
    first = segment(dock, qtbot)
    before = labels_of(first)
    dock.making.source.choose(add_maps(viewer, affinities[:, :3]))
    second = segment(dock, qtbot)
    assert second is not first
    assert second.data.shape == (3, 128, 128)
    dock.cutting.depth.setValue(0.5)
    assert (labels_of(first) == before).all()


def test_a_copy_can_be_painted_and_stays(dock, viewer, qtbot) -> None:
    layer = segment(dock, qtbot)
    before = labels_of(layer)
    assert not layer.editable
    click(dock.keep, qtbot)
    settle(dock, qtbot)
    copy = viewer.layers["segments, h 0.1"]
    dock.cutting.depth.setValue(0.5)
    assert (copy.data == before).all()
    copy.paint((2, 50, 50), 7)
    assert (copy.data == 7).any()
    assert (role_of(copy), copy.editable, copy.visible) == ("segments", True, False)


def test_it_can_be_saved_and_what_was_read_stays_what_it_was(dock, viewer, tmp_path, qtbot) -> None:
    layer = segment(dock, qtbot)
    data, before = layer.data, labels_of(layer)
    layer.save(str(tmp_path / "segments.tif"), plugin="napari-em-seg")
    saved = open_volume(str(tmp_path / "segments.tif"), "labels")
    assert (saved[:] == before).all()
    assert saved.voxel_size_nm == pytest.approx(SIZE)
    dock.cutting.depth.setValue(0.5)
    assert (np.asarray(data) == before).all()  # whoever reads it in a thread gets it whole


def test_a_click_tells_the_size(dock, qtbot) -> None:
    layer = segment(dock, qtbot)
    labels = labels_of(layer)
    assert dock.wants_clicks()
    dock.on_click(layer.data_to_world((2, 40, 40)))
    n = int((labels == labels[2, 40, 40]).sum())
    assert f"{n:,} voxels" in dock.words.text()


def test_what_cannot_be_segmented_is_said_in_plain_words(dock, viewer, affinities, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    dock.making.source.choose(viewer.add_image(np.zeros((4, 20, 20), np.float32) + 7, name="sevens"))
    segment(dock, qtbot)
    assert "7" in told[0]
    dock.making.source.choose(add_maps(viewer, affinities, scale=(1, 1, 1), units=("pixel",) * 3))
    segment(dock, qtbot, Z, "learned")
    assert "dock Voxel size" in told[1]
    assert dock.result is None


def test_every_control_has_a_tip_and_takes_the_keyboard(dock, qtbot) -> None:
    for one in dock.findChildren((QAbstractButton, QAbstractSpinBox, QComboBox, QSlider)):
        assert one.toolTip() or one.parentWidget().toolTip(), one
        if isinstance(one, QAbstractButton | QComboBox):
            assert one.focusPolicy() & Qt.FocusPolicy.TabFocus, one
    segment(dock, qtbot)
    first = labels_of(dock.result)
    slider = dock.cutting.depth.slider
    slider.setFocus()
    for _ in range(10):
        qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert dock.cutting.depth.value() > 0.12
    assert not (labels_of(dock.result) == first).all()


def test_two_viewers_do_not_disturb_each_other(dock, viewer, affinities, qtbot) -> None:
    layer = segment(dock, qtbot)
    before = labels_of(layer)
    other = napari.Viewer(show=False)
    add_maps(other, affinities)
    there = SegmentWidget(other)
    there.go.click()
    settle(there, qtbot)
    there.cutting.depth.setValue(0.5)
    assert not (labels_of(there.result) == before).all()
    assert (labels_of(layer) == before).all()
    assert dock.cutting.depth.value() == 0.1
    there.shut_down()
    there.work.wait()
    other.close()


def test_settings_are_remembered(dock, viewer, qtbot) -> None:
    dock.making.method.setCurrentText(Z)
    dock.making.score.setCurrentText("quantile")
    dock.making.quantile.setValue(0.75)
    dock.cutting.threshold.setValue(0.8)
    dock.cutting.smallest.setValue(250)
    again = SegmentWidget(viewer)
    assert again.making.recipe == dock.making.recipe
    assert again.cutting.cut(again.making.recipe) == dock.cutting.cut(dock.making.recipe)
    assert (again.cutting.threshold.value(), again.cutting.smallest.value()) == (0.8, 250)
    again.shut_down()
    again.work.wait()


def test_closing_it_in_the_middle_of_work_stops_it(viewer, affinities, qtbot) -> None:
    add_maps(viewer, affinities)
    widget = SegmentWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Segment")
    segment(widget, qtbot)
    widget.cutting.depth.setValue(0.2)
    click(widget.go, qtbot)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert not widget._pause.isActive()
    assert widget._on_mouse not in viewer.mouse_drag_callbacks
    assert labels_of(viewer.layers[SEGMENTS]).any()  # it stays


def test_opening_it_loads_no_torch() -> None:
    code = "import sys, napari_em_seg.widgets.segment.dock; print(*({'torch', 'sklearn'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_the_history_keeps_the_parts_of_two_runs(affinities) -> None:
    boundary = PredictedMaps(255 - affinities[1:].min(0))
    runs = [parts_of(boundary) for _ in range(3)]
    history = History()
    assert history.now is history.before is history.after is None
    for parts in runs:
        for h in (0.1, 0.2, 0.2):
            history.put(Setting(parts, Cut(h)))
    n = 0
    while history.before is not None:
        history.undo()
        n += 1
    assert n == 3  # two steps of each run; the same setting again is no step
    assert history.now == Setting(runs[1], Cut(0.1))


def test_the_merges_come_along_so_that_every_threshold_can_be_evaluated(dock, qtbot) -> None:
    layer = segment(dock, qtbot, Z, "mean")
    tree, supervoxels = layer.metadata["merge tree"], np.asarray(layer.metadata["supervoxels"])
    assert is_same(tree.apply(supervoxels, dock._shown.cut.level), labels_of(layer))
    segment(dock, qtbot, Z, "none")
    assert "merge tree" not in dock.result.metadata
