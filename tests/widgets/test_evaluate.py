"""The dock "Evaluate", clicked through in a real viewer."""

import csv
import sys
import time
from pathlib import Path

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_em_seg.metrics import contingency, evaluate, plausibility
from napari_em_seg.segment import MergeTree
from napari_em_seg.widgets.evaluate.dock import EvaluateWidget
from napari_em_seg.widgets.evaluate.overlays import ASKED, MERGES, SPLITS
from napari_em_seg.widgets.evaluate.table import Column, ColumnTable
from napari_em_seg.widgets.layers import marked, role_of

PLUGIN = "napari-em-seg"
SIZE = (30.0, 6.0, 6.0)
NM = {"scale": SIZE, "units": ("nm",) * 3}


def cut_and_joined():
    """Return a segmentation that cuts object 1 from slice 3 on, and joins 2 and 3; and the truth."""
    truth = np.zeros((6, 120, 400), np.uint16)
    truth[:, :30], truth[:, 31:60], truth[:, 61:90], truth[:, 91:] = 1, 2, 3, 4
    found = truth.astype(np.uint32) * 100
    found[3:5, :30, 350:], found[4, :30, 340:] = 7, 7
    found[found == 300] = 200
    return found, truth


@pytest.fixture
def dock(viewer: napari.Viewer, qtbot):
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Evaluate")
    yield widget
    widget.shut_down()
    widget.work.wait()


def add(viewer, *, with_truth: bool = True):
    """Add an image, the truth and a segmentation."""
    found, truth = cut_and_joined()
    viewer.add_image(np.zeros(found.shape, np.uint8), name="raw", **NM)
    true = viewer.add_labels(truth, name="truth", **NM) if with_truth else None
    return viewer.add_labels(found, name="segments", metadata=marked("segments"), **NM), true


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=120_000)
    QApplication.processEvents()


def click(button, dock, qtbot) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)


def click_row(table, row, dock, qtbot) -> None:
    table.scrollTo(table.model().index(row, 0))
    place = table.visualRect(table.model().index(row, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    settle(dock, qtbot)


def shown(table, row):
    model = table.model()
    return [model.data(model.index(row, column)) for column in range(model.columnCount())]


def tabs(dock):
    return [dock.results.tabs.tabText(k) for k in range(dock.results.tabs.count())]


def open_tab(dock, title) -> None:
    dock.results.tabs.setCurrentIndex(tabs(dock).index(title))
    QApplication.processEvents()


def test_it_opens_without_heavy_libraries(viewer, qtbot) -> None:
    viewer.window.add_plugin_dock_widget(PLUGIN, "Voxel size")  # what napari itself loads for the first one
    before = {name.partition(".")[0] for name in sys.modules}
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Evaluate")
    assert not {"torch", "sklearn"} & ({name.partition(".")[0] for name in sys.modules} - before)
    assert not widget.go.isEnabled()  # there is nothing to judge
    widget.shut_down()
    widget.work.wait()


def test_layers_are_guessed_by_role_and_name_until_somebody_chooses(dock, viewer) -> None:
    segments, truth = add(viewer)
    assert (dock.segmentation.layer, dock.truth.layer) == (segments, truth)
    better = viewer.add_labels(segments.data, name="better", metadata=marked("objects"))
    assert dock.segmentation.layer is better  # the newest
    dock.segmentation.setCurrentIndex(dock.segmentation.findData(segments))
    dock.segmentation.activated.emit(0)
    viewer.add_labels(segments.data, name="best", metadata=marked("objects"))
    assert dock.segmentation.layer is segments
    outlines = viewer.add_labels(segments.data, name="link source", metadata=marked("preview"))
    assert dock.segmentation.findData(outlines) == dock.truth.findData(outlines) == -1
    truth.name = "gold"
    assert dock.truth.currentText() == "gold"
    viewer.layers.remove(segments)
    assert dock.segmentation.layer is not segments


def test_all_measures_and_the_worst_objects_first(dock, viewer, qtbot) -> None:
    segments, truth = add(viewer)
    click(dock.go, dock, qtbot)
    scores = evaluate(contingency(segments.data, truth.data))
    assert dock.evaluation.scores == scores
    assert tabs(dock) == ["Measures", "Splits", "Merges", "Curves"]
    table = dock.results.measures
    rows = [shown(table, row) for row in range(table.model().rowCount())]
    assert [row[0] for row in rows][:5] == ["adapted Rand error", "Rand precision", "Rand recall",
                                            "VI split (bits)", "VI merge (bits)"]  # fmt: skip
    assert rows[3][1] == f"{scores.vi_split:.4f}"
    assert len(rows) == len(scores.to_dict())
    assert f"{scores.adapted_rand_error:.3f}" in dock.results.summary.text()
    assert shown(dock.results.splits, 0)[:2] == ["1", "2"]
    assert shown(dock.results.merges, 0)[:2] == ["200", "2"]
    assert "1 of 4 objects" in dock.results.summary.text()


def test_what_was_found_is_told_to_the_other_docks(dock, viewer, qtbot) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    error = dock.evaluation.scores.adapted_rand_error
    assert dock.state.done == {"Evaluate": f"Rand error {error:.3f} of segments against truth"}
    dock.truth.choose(None)
    click(dock.go, dock, qtbot)
    assert dock.state.done["Evaluate"].startswith("segments: ")
    assert "orphans of 4 objects" in dock.state.done["Evaluate"]


def test_overlays_show_where_the_errors_are(dock, viewer, qtbot) -> None:
    segments, truth = add(viewer)
    click(dock.go, dock, qtbot)
    splits, merges = viewer.layers[SPLITS], viewer.layers[MERGES]
    assert (np.asarray(splits.data) > 0).tolist() == (segments.data == 7).tolist()
    merged = np.asarray(merges.data) > 0
    assert (segments.data[merged] == 200).all()
    assert merged.sum() == (truth.data == 3).sum() or merged.sum() == (truth.data == 2).sum()
    assert role_of(splits) == role_of(merges) == "errors"
    assert tuple(splits.scale) == SIZE
    assert splits.colormap.map(1)[:3] == pytest.approx(np.array([0xD5, 0x5E, 0]) / 255, abs=0.01)
    assert viewer.layers.selection.active is segments  # as it was before
    assert dock.segmentation.findData(splits) == -1  # errors are not offered


def test_a_click_on_a_row_goes_to_the_error_and_shows_its_parts(dock, viewer, qtbot) -> None:
    segments, _ = add(viewer)
    segments.visible = False
    click(dock.go, dock, qtbot)
    open_tab(dock, "Splits")
    click_row(dock.results.splits, 0, dock, qtbot)
    assert viewer.dims.current_step[0] == 4  # where segment 7 is largest
    parts = np.asarray(viewer.layers[ASKED].data)
    assert ((parts == 2) == (segments.data == 7)).all()
    assert ((parts == 1) == (segments.data == 100)).all()
    _, y, x = (v / s for v, s in zip(viewer.scene.camera.center, SIZE, strict=True))
    assert 0 <= y <= 60
    assert 300 <= x <= 400
    assert "Object 1, slice 4: in 100, 7" in dock.words.text()
    open_tab(dock, "Merges")
    click_row(dock.results.merges, 0, dock, qtbot)
    parts = np.asarray(viewer.layers[ASKED].data)
    assert set(np.unique(parts[segments.data == 200])) == {1, 2}
    assert not parts[segments.data != 200].any()
    assert [layer.name for layer in viewer.layers].count(ASKED) == 1


def test_arrow_keys_go_there_too_and_a_click_on_the_same_row_goes_back(dock, viewer, qtbot) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    open_tab(dock, "Splits")
    table = dock.results.splits
    click_row(table, 1, dock, qtbot)
    qtbot.keyClick(table, Qt.Key.Key_Up)
    settle(dock, qtbot)
    assert viewer.dims.current_step[0] == 4
    viewer.dims.set_current_step(0, 1)
    click_row(table, 0, dock, qtbot)
    assert viewer.dims.current_step[0] == 4


def test_sorted_rows_lead_to_their_own_places(dock, viewer, qtbot) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    open_tab(dock, "Splits")
    table = dock.results.splits
    table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [shown(table, row)[0] for row in range(4)] == ["4", "3", "2", "1"]
    click_row(table, 3, dock, qtbot)
    assert "Object 1," in dock.words.text()


def test_without_a_truth_it_is_judged_by_its_looks(dock, viewer, qtbot) -> None:
    labels = np.zeros((6, 80, 80), np.uint32)
    labels[:, :20], labels[1:4, 40:60, 40:60], labels[:4, 30:36, 3:9] = 1, 2, 3
    viewer.add_labels(labels, name="mine", **NM)
    assert dock.truth.layer is None
    assert dock.looks.isVisible()
    assert not dock.zero.isVisible()
    dock.orphan.setValue(500)
    dock.large.setValue(50)
    click(dock.go, dock, qtbot)
    assert tabs(dock) == ["Measures", "Objects", "Curves"]
    shapes = plausibility(labels, SIZE, orphan_voxels=500, large_share=0.5)
    assert dock.shapes.figures() == shapes.figures()
    assert "1 orphans" in dock.results.summary.text()
    open_tab(dock, "Objects")
    table = dock.results.objects
    assert [shown(table, row)[:2] for row in range(3)] == [["2", "orphan"], ["3", ""], ["1", "very large"]]
    click_row(table, 1, dock, qtbot)
    assert viewer.dims.current_step[0] == 3  # where it ends
    assert ((np.asarray(viewer.layers[ASKED].data) == 1) == (labels == 3)).all()
    assert SPLITS not in viewer.layers


def test_an_unknown_voxel_size_is_said_and_there_are_no_lengths(dock, viewer, qtbot) -> None:
    viewer.add_labels(cut_and_joined()[0], name="mine")
    click(dock.go, dock, qtbot)
    assert tabs(dock) == ["Measures", "Objects"]
    assert "Voxel size" in dock.words.text()
    assert shown(dock.results.objects, 0)[3] == "–"


def test_curves_are_drawn_and_follow_the_theme(dock, viewer, qtbot) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    open_tab(dock, "Curves")
    curves = dock.results.curves
    assert [chart.title for chart in curves.charts] == ["Error held by the worst"]
    split = curves.charts[0].lines[0]
    assert split.y[-1] == pytest.approx(100)
    paper = curves._canvas.figure.get_facecolor()
    viewer.theme = "light"
    assert curves._canvas.figure.get_facecolor() != paper


def test_a_layer_that_keeps_its_tree_of_merges_has_curves_over_thresholds(dock, viewer, qtbot) -> None:
    pieces, truth = cut_and_joined()
    labels = np.unique(pieces[pieces > 0]).astype(np.uint32)
    tree = MergeTree(labels, np.array([0], np.int32), np.array([1], np.int32), np.array([0.6]))  # 7 and 100
    viewer.add_labels(truth, name="truth", **NM)
    viewer.add_labels(tree.apply(pieces, 0.1), name="segments", **NM,
                      metadata=marked("segments", **{"merge tree": tree, "supervoxels": pieces}))  # fmt: skip
    click(dock.go, dock, qtbot)
    chart = dock.results.curves.charts[1]
    split = dict(zip(chart.lines[0].x.tolist(), chart.lines[0].y.tolist(), strict=True))
    assert split[0.4] == pytest.approx(dock.evaluation.scores.vi_split) != 0
    assert split[0.45] == 0


def test_tables_and_curves_are_saved(dock, viewer, qtbot, tmp_path, monkeypatch) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    asked = []

    def name(_parent, title, suggested, kind):
        asked.append(suggested)
        return str(tmp_path / "out"), kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", name)
    for title in tabs(dock):
        open_tab(dock, title)
        assert dock.results.save.text() == ("Save PNG…" if title == "Curves" else "Save CSV…")
        click(dock.results.save, dock, qtbot)
        suffix = ".png" if title == "Curves" else ".csv"
        assert f"Saved {tmp_path / 'out'}{suffix}" in dock.words.text()
        (tmp_path / f"out{suffix}").rename(tmp_path / f"{title}{suffix}")
    assert asked[1] == "segments splits.csv"
    assert (tmp_path / "Curves.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "Splits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["object"] == "1"
    assert float(rows[0]["vi_split"]) == dock.evaluation.objects.vi_split[0]
    with (tmp_path / "Measures.csv").open(newline="", encoding="utf-8") as file:
        assert {row["measure"]: row["value"] for row in csv.DictReader(file)}["n_objects"] == "4"


def test_a_file_is_replaced_only_where_somebody_was_asked(dock, viewer, qtbot, tmp_path, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    add(viewer)
    click(dock.go, dock, qtbot)
    (tmp_path / "out.csv").write_text("precious")
    typed = ["out"]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / typed[0]), ""))
    click(dock.results.save, dock, qtbot)  # Qt could not know that .csv would be added
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert "exists already" in told[0]
    typed[0] = "out.csv"  # Qt has asked
    click(dock.results.save, dock, qtbot)
    assert (tmp_path / "out.csv").read_text().startswith("measure")
    typed[0] = "no such folder/out.csv"
    click(dock.results.save, dock, qtbot)
    assert "does not exist" in told[1]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    click(dock.results.save, dock, qtbot)
    assert len(list(Path(tmp_path).glob("*.csv"))) == 1


def test_another_shape_is_told_in_plain_words(dock, viewer, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    segments, _ = add(viewer)
    small = viewer.add_labels(segments.data[:3], name="small truth")
    dock.truth.setCurrentIndex(dock.truth.findData(small))
    click(dock.go, dock, qtbot)
    assert "6×120×400 and the truth 3×120×400" in told[0]
    assert dock.evaluation is None


class Slow:
    """Labels that wait at a slice until they may be read on."""

    ndim, dtype = 3, np.dtype(np.uint32)

    def __init__(self, array, reached, may_go_on) -> None:
        self.array, self.shape = array, array.shape
        self.reached, self.may_go_on = reached, may_go_on

    def __getitem__(self, key):
        z = key[0] if isinstance(key, tuple) else key
        if (z.start if isinstance(z, slice) else z) == 2:
            self.reached()
            deadline = time.monotonic() + 20
            while not self.may_go_on() and time.monotonic() < deadline:
                time.sleep(0.005)
        return self.array[key]


def evaluate_slowly(dock, qtbot, monkeypatch, may_go_on):
    """Begin without a truth, and return once it has reached slice 2."""
    from napari_em_seg import pipeline

    reached, honest = [], pipeline.judge_labels
    monkeypatch.setattr(
        pipeline, "judge_labels",
        lambda labels, *rest, **options: honest(
            Slow(labels[:], lambda: reached.append(1), may_go_on), *rest, **options
        ),
    )  # fmt: skip
    qtbot.mouseClick(dock.go, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(reached), timeout=20_000)


def test_cancel_leaves_what_was_shown_before(dock, viewer, qtbot, monkeypatch) -> None:
    add(viewer, with_truth=False)
    click(dock.go, dock, qtbot)
    before, pressed = dock.shapes, []
    evaluate_slowly(dock, qtbot, monkeypatch, lambda: bool(pressed))
    assert not dock.go.isEnabled()
    assert dock.foot.isVisible()
    qtbot.mouseClick(dock.cancel_button, Qt.MouseButton.LeftButton)
    pressed.append(1)
    settle(dock, qtbot)
    assert "Stopped" in dock.words.text()
    assert dock.shapes is before
    assert dock.go.isEnabled()


def test_never_two_at_once_on_one_layer(dock, viewer, qtbot, monkeypatch) -> None:
    told, go_on = [], []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    segments, _ = add(viewer, with_truth=False)
    other = EvaluateWidget(viewer)
    viewer.window.add_dock_widget(other, name="Evaluate too")
    assert other.segmentation.layer is segments
    evaluate_slowly(dock, qtbot, monkeypatch, lambda: bool(go_on))
    qtbot.mouseClick(other.go, Qt.MouseButton.LeftButton)
    assert "is under way already" in told[0]
    go_on.append(1)
    settle(dock, qtbot)
    assert dock.shapes is not None
    other.shut_down()
    other.work.wait()


def test_a_layer_that_goes_meanwhile_or_later_takes_its_results_along(dock, viewer, qtbot, monkeypatch) -> None:
    segments, _ = add(viewer, with_truth=False)
    gone = []
    evaluate_slowly(dock, qtbot, monkeypatch, lambda: bool(gone))
    viewer.layers.remove(segments)
    gone.append(1)
    settle(dock, qtbot)
    assert dock.shapes is None
    assert "gone" in dock.words.text()
    monkeypatch.undo()
    _, truth = add(viewer)
    dock.truth.setCurrentIndex(dock.truth.findData(truth))
    click(dock.go, dock, qtbot)
    assert SPLITS in viewer.layers
    viewer.layers.remove(truth)
    assert dock.evaluation is None
    assert SPLITS not in viewer.layers
    assert not dock.results.isVisible()


def test_evaluating_again_replaces_the_layers_and_the_canvas_goes_on(dock, viewer, qtbot) -> None:
    """Where several layers went at once, napari ended with the next picture."""
    segments, truth = add(viewer)
    segments.visible = truth.visible = False
    click(dock.go, dock, qtbot)
    open_tab(dock, "Splits")
    click_row(dock.results.splits, 0, dock, qtbot)
    viewer.screenshot(flash=False)
    dock.truth.setCurrentIndex(0)
    click(dock.go, dock, qtbot)
    viewer.dims.set_current_step(0, 1)
    qtbot.wait(100)
    viewer.screenshot(flash=False)
    assert not {SPLITS, MERGES, ASKED} & {layer.name for layer in viewer.layers}


def test_closing_it_takes_its_layers_away_and_stops(viewer, qtbot) -> None:
    callbacks = len(viewer.mouse_drag_callbacks)
    widget = EvaluateWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Evaluate")
    add(viewer)
    click(widget.go, widget, qtbot)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert not {SPLITS, MERGES} & {layer.name for layer in viewer.layers}
    assert len(viewer.mouse_drag_callbacks) == callbacks
    viewer.theme = "light"  # nobody listens any more


def test_the_viewer_may_be_closed_with_it(qtbot) -> None:
    viewer = napari.Viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Evaluate")
    add(viewer)
    click(widget.go, widget, qtbot)
    viewer.close()
    widget.shut_down()
    widget.work.wait()


def test_what_was_chosen_is_remembered(viewer, qtbot) -> None:
    one = viewer.window.add_plugin_dock_widget(PLUGIN, "Evaluate")[1]
    assert (one.orphan.value(), one.large.value(), one.zero.isChecked()) == (1000, 10, False)
    one.orphan.setValue(77)
    one.zero.setChecked(True)
    other = napari.Viewer(show=False)
    again = other.window.add_plugin_dock_widget(PLUGIN, "Evaluate")[1]
    assert (again.orphan.value(), again.zero.isChecked()) == (77, True)
    for widget in (one, again):
        widget.shut_down()
        widget.work.wait()
    other.close()


def test_two_viewers_do_not_disturb_each_other(dock, viewer, qtbot) -> None:
    other = napari.Viewer(show=True)
    theirs = other.window.add_plugin_dock_widget(PLUGIN, "Evaluate")[1]
    add(viewer)
    add(other)
    click(dock.go, dock, qtbot)
    assert theirs.evaluation is None
    assert SPLITS not in other.layers
    click(theirs.go, theirs, qtbot)
    theirs.shut_down()
    theirs.work.wait()
    other.close()
    assert SPLITS in viewer.layers
    assert dock.evaluation is not None


def test_every_control_has_a_tip_and_can_be_reached_by_tab(dock, viewer, qtbot) -> None:
    add(viewer)
    click(dock.go, dock, qtbot)
    results = dock.results
    fields = (dock.segmentation, dock.truth, dock.zero, dock.orphan, dock.large, dock.go, dock.cancel_button)
    for control in (*fields, results.save, results.measures, results.splits, results.merges, results.objects):
        assert control.toolTip()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus


def test_a_hundred_thousand_rows_scroll(qtbot) -> None:
    table = ColumnTable("many")
    qtbot.addWidget(table)
    n = 100_000
    ids, sizes = np.arange(n), np.random.default_rng(0).integers(0, 1000, n)
    table.resize(380, 500)
    table.show_columns([Column("a", "a", "A", ids), Column("b", "b", "B", sizes)])
    table.show()
    for row in range(0, n, 5000):
        table.scrollTo(table.model().index(row, 0))
        QApplication.processEvents()
    table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    QApplication.processEvents()
    best = table.columns.place_of(0)
    assert sizes[best] == sizes.max()
    assert best == np.flatnonzero(sizes == sizes.max())[0]  # equal ones stay in their order


def test_it_is_in_the_menu_of_measures(viewer) -> None:
    from napari._app_model import get_app_model

    titles = [item.command.title for item in get_app_model().menus.get_menu("napari/layers/measure")
              if hasattr(item, "command")]  # fmt: skip
    assert any("Evaluate" in title for title in titles)
