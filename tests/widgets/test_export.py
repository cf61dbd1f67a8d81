"""The dock "Export", clicked through in a real viewer."""

import shutil
from pathlib import Path

import napari
import numpy as np
import pytest
import yaml
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_em_seg import pipeline
from napari_em_seg.io import open_volume, write_volume, write_volumes
from napari_em_seg.pipeline.adjustable import Cut, PartsRecipe, parts_of
from napari_em_seg.pipeline.config import STEPS, read_config, step_of
from napari_em_seg.pipeline.evidence import open_maps
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.pipeline.running import run_config
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.export.dock import ExportWidget
from napari_em_seg.widgets.keys import KeyMap
from napari_em_seg.widgets.review.dock import ReviewWidget

SIZE = (30.0, 6.0, 6.0)
PLACED = {"scale": SIZE, "units": ("nm",) * 3}


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Return a folder with an image, its affinities and a session about it, and the truth."""
    folder = tmp_path_factory.mktemp("tissue")
    raw, truth = pipeline.sample_volumes((6, 96, 96), 3)
    affinities = (235 * affinity_labels(np.asarray(truth))[0] + 10).astype(np.uint8)
    write_volume(Volume(np.asarray(raw), SIZE, "raw"), str(folder / "raw.zarr"))
    maps = {place: Volume(affinities[c], SIZE, place) for c, place in enumerate(AFFINITY_MAPS)}
    write_volumes(maps, folder / "maps.zarr")
    pipeline.assign_to_session(str(folder / "raw.zarr"), str(folder / "maps.zarr"), str(folder / "a.emseg"),
                               pipeline.AssignRecipe())  # fmt: skip
    return folder, np.asarray(truth)


@pytest.fixture
def dock(viewer: napari.Viewer, tissue, tmp_path, qtbot):
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(raw, name="raw", metadata={"source": raw.source}, **PLACED)
    viewer.add_labels(tissue[1].astype(np.uint32), name="truth", **PLACED)
    widget = ExportWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Export", area="right")
    (tmp_path / "out").mkdir()
    widget.where.folder.setText(str(tmp_path / "out"))
    tick(widget)
    yield widget
    widget.shut_down()
    widget.work.wait()


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


@pytest.fixture
def told(monkeypatch):
    """What people are warned of."""
    found: list[str] = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", found.append)
    return found


def tick(dock, *names: str) -> None:
    for name, box in dock.what.boxes.items():
        box.setChecked(name in names)


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=60_000)
    QApplication.processEvents()


def export(dock, qtbot) -> list[str]:
    assert dock.go.isEnabled()
    qtbot.mouseClick(dock.go, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    return sorted(p.name for p in Path(dock.where.folder.text()).iterdir())


def answer(monkeypatch, button) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(QMessageBox, "question", lambda _dock, _title, text: (asked.append(text), button)[1])
    return asked


def test_it_opens_quickly_in_an_empty_viewer_and_offers_nothing(viewer, qtbot) -> None:
    widget = ExportWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Export")
    assert not widget.go.isEnabled()
    widget.shut_down()
    widget.work.wait()


def test_labels_meshes_skeletons_and_a_report_of_a_layer(dock, tissue, tmp_path, qtbot) -> None:
    tick(dock, "labels", "meshes", "skeletons", "report", "links")
    assert not dock.what.boxes["links"].isEnabled()  # only sessions have some
    dock.what.label_format.setCurrentText("multi-page TIFF")
    dock.what.mesh_format.setCurrentText("OBJ")
    assert export(dock, qtbot) == ["truth.html", "truth.meshes", "truth.skeletons", "truth.tif"]
    out, names = tmp_path / "out", set(np.unique(tissue[1]).tolist()) - {0}
    labels = open_volume(out / "truth.tif", "labels")
    assert (labels[:] == tissue[1]).all()
    assert labels.voxel_size_nm == SIZE
    assert {int(p.stem) for p in (out / "truth.meshes").glob("*.obj")} == names
    assert {int(p.stem) for p in (out / "truth.skeletons").glob("*.swc")} == names
    assert "image/png;base64" in (out / "truth.html").read_text("utf-8")
    assert dock.words.text().startswith("Wrote truth.tif, truth.meshes")


def test_objects_are_all_large_ones_or_those_clicked(dock, tissue, viewer, tmp_path, qtbot) -> None:
    truth = tissue[1]
    sizes = np.bincount(truth.ravel())
    tick(dock, "skeletons")
    dock.objects.which.setCurrentText("larger than")
    dock.objects.least.setValue(int(np.sort(sizes[1:])[-3]))
    export(dock, qtbot)
    out = tmp_path / "out"
    large = set((np.argsort(sizes[1:])[-3:] + 1).tolist())
    assert {int(p.stem) for p in (out / "truth.skeletons").iterdir()} == large
    assert not dock.wants_clicks()
    dock.objects.which.setCurrentText("these")
    assert dock.wants_clicks()
    some = sorted(large)[:2]
    for name in (*some, *some[:1], some[0]):
        z, y, x = np.argwhere(truth == name)[0]
        dock.on_click(viewer.layers["truth"].data_to_world((z, y, x)))
    assert sorted(dock.objects.ids) == some
    dock.where.name.setText("some")
    export(dock, qtbot)
    assert {int(p.stem) for p in (out / "some.skeletons").iterdir()} == set(some)


def test_all_of_a_session_and_a_pipeline_that_makes_it_again(dock, review, tmp_path, qtbot) -> None:
    assert dock.source.currentText() == "session a"
    assert dock.where.name.text() == "a"
    review.desk.session.accept(int(review.desk.session.links().id[0]))
    tick(dock, *dock.what.boxes)
    names = export(dock, qtbot)
    assert names == ["a.graphml", "a.history.csv", "a.history.jsonl", "a.html", "a.links.csv", "a.meshes",
                     "a.skeletons", "a.yaml", "a.zarr"]  # fmt: skip
    out = tmp_path / "out"
    done = run_config(read_config(out / "a.yaml"))
    assert [one.name for one in done] == ["assign", "review", "export"]
    one, other = (open_volume(out / n, "labels")[:] for n in ("a.zarr", "results/export/a.zarr"))
    assert one.tobytes() == other.tobytes()
    assert (out / "a.links.csv").read_bytes() == (out / "results" / "export" / "a.links.csv").read_bytes()


def test_a_layer_that_keeps_its_steps_becomes_a_pipeline(dock, tissue, viewer, tmp_path, qtbot) -> None:
    maps, size = open_maps(str(tissue[0] / "maps.zarr"))
    recipe, cut = PartsRecipe("zwatershed"), Cut(0.4, 20)
    segments = parts_of(maps, recipe, voxel_size_nm=size).at(cut).whole()
    steps = [{"step": "input", "parameters": {"maps": str(tissue[0] / "maps.zarr")}}, step_of(recipe, cut=cut)]
    layer = viewer.add_labels(segments, name="segments", metadata={STEPS: steps}, **PLACED)
    dock.source.choose(layer)
    tick(dock, "labels", "pipeline", "report")
    assert export(dock, qtbot) == ["segments.html", "segments.yaml", "segments.zarr"]
    out = tmp_path / "out"
    assert "segment:" in (out / "segments.html").read_text("utf-8")
    entries = yaml.safe_load((out / "segments.yaml").read_text())
    assert [next(iter(step)) for step in entries["steps"]] == ["segment", "export"]
    run_config(read_config(out / "segments.yaml"))
    again = open_volume(out / "results" / "export" / "segments.zarr", "labels")[:]
    assert again.tobytes() == segments.tobytes()


def test_a_layer_that_does_not_say_how_it_was_made_is_told(dock, told, tmp_path, qtbot) -> None:
    tick(dock, "labels", "pipeline")
    assert export(dock, qtbot) == []
    assert "does not say how it was made" in told[0]
    assert "Untick the pipeline" in dock.words.text()


def test_what_is_there_is_asked_about(dock, tmp_path, qtbot, monkeypatch) -> None:
    tick(dock, "meshes")
    export(dock, qtbot)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "truth.meshes").iterdir()}
    asked = answer(monkeypatch, QMessageBox.StandardButton.No)
    export(dock, qtbot)
    assert "truth.meshes is there already" in asked[0]
    assert "Nothing was written" in dock.words.text()
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "truth.meshes").iterdir()} == before
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    export(dock, qtbot)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "truth.meshes").iterdir()} != before


def test_a_folder_with_other_things_is_never_replaced(dock, told, tmp_path, qtbot, monkeypatch) -> None:
    (tmp_path / "out" / "truth.meshes").mkdir()
    (tmp_path / "out" / "truth.meshes" / "thesis.txt").write_text("years of work")
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    tick(dock, "meshes")
    export(dock, qtbot)
    assert "thesis.txt" in told[0]
    assert (tmp_path / "out" / "truth.meshes" / "thesis.txt").read_text() == "years of work"


def test_cancel_leaves_no_half_file(dock, tmp_path, qtbot, monkeypatch) -> None:
    from napari_em_seg.pipeline import exports

    honest, n = exports.skeletonise, []

    def slow(*arguments, **options):
        n.append(1)
        if len(n) == 3:
            dock.work.jobs[0].cancel()  # as the button does
        return honest(*arguments, **options)

    monkeypatch.setattr(exports, "skeletonise", slow)
    tick(dock, "labels", "skeletons")
    assert export(dock, qtbot) == ["truth.zarr"]
    assert list((tmp_path / "out").glob(".*")) == []
    assert "nothing half" in dock.words.text()
    assert dock.go.isEnabled()


def test_one_export_of_a_layer_at_a_time(dock, told, viewer, qtbot) -> None:
    other = ExportWidget(viewer)
    viewer.window.add_dock_widget(other, name="Export 2")
    dock.state.claim("Export", viewer.layers["truth"])
    tick(dock, "labels")
    export(dock, qtbot)
    assert "under way already" in told[0]
    dock.state.release("Export", viewer.layers["truth"])
    other.shut_down()
    other.work.wait()


@pytest.mark.parametrize(
    ("names", "folder", "name", "objects", "words"),
    [
        (("labels",), "/nowhere/at/all", "x", "", "folder is"),
        (("labels",), "", "a/b", "", "name is"),
        (("meshes",), "", "x", "many", "objects are 'many'"),
        (("meshes",), "", "x", "999999", "no object 999999"),
    ],
)
def test_what_cannot_be_is_said(dock, told, tmp_path, qtbot, names, folder, name, objects, words) -> None:
    dock.where.folder.setText(folder or str(tmp_path / "out"))
    dock.where.name.setText(name)
    if objects:
        dock.objects.which.setCurrentText("these")
        dock.objects.names.setText(objects)
    tick(dock, *names)
    qtbot.mouseClick(dock.go, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    assert words in told[0]
    assert list((tmp_path / "out").iterdir()) == []


def formats(dock) -> list[str]:
    return [dock.what.label_format.itemText(k) for k in range(dock.what.label_format.count())]


def test_formats_that_cannot_hold_the_labels_are_not_offered(dock, review, viewer, tissue, qtbot) -> None:
    png, box = "folder of PNG slices", dock.what.label_format
    assert png not in formats(dock)  # objects of a session have 32 bits
    small = viewer.add_labels(tissue[1].astype(np.uint16), name="small", **PLACED)
    dock.source.setCurrentIndex(dock.source.findData(small))
    box.setCurrentText(png)
    tick(dock, "labels")
    assert export(dock, qtbot) == ["small.slices"]
    dock.source.setCurrentIndex(0)
    assert box.currentText() == "OME-Zarr 0.5"
    dock.source.setCurrentIndex(dock.source.findData(small))
    assert box.currentText() == png  # as it was chosen
    long = viewer.add_labels(tissue[1].astype(np.int64), name="long", **PLACED)
    dock.source.setCurrentIndex(dock.source.findData(long))
    assert not {png, "OME-TIFF", "Neuroglancer precomputed"} & set(formats(dock))
    assert {"N5", "HDF5", "multi-page TIFF", "folder of TIFF slices"} < set(formats(dock))


def test_what_was_written_is_told_to_the_other_docks(dock, tmp_path, qtbot) -> None:
    tick(dock, "labels", "report")
    export(dock, qtbot)
    assert dock.state.done == {"Export": f"2 things written into {tmp_path / 'out'}"}


def test_lengths_need_a_voxel_size(dock, told, viewer, tissue, qtbot) -> None:
    dock.source.choose(viewer.add_labels(tissue[1].astype(np.uint32), name="bare"))
    tick(dock, "meshes")
    assert export(dock, qtbot) == []
    assert "voxel size of bare is not known" in told[0]


def test_layers_and_sessions_come_and_go(dock, review, viewer, qtbot) -> None:
    assert dock.session is review.desk.session
    entries = [dock.source.itemText(k) for k in range(dock.source.count())]
    assert entries == ["session a", "truth"]  # not the layer that shows the session
    tick(dock, "links")
    review.desk.close()
    settle(review, qtbot)
    assert dock.source.currentText() == "truth"
    assert not dock.go.isEnabled()  # a layer has no links
    viewer.layers["truth"].name = "objects of mine"
    assert dock.source.currentText() == "objects of mine"
    viewer.layers.remove(viewer.layers["objects of mine"])
    tick(dock, "labels")
    assert dock.source.layer is None
    assert not dock.go.isEnabled()


def test_what_was_chosen_is_remembered(dock, viewer, tmp_path, qtbot) -> None:
    tick(dock, "meshes")
    dock.what.mesh_format.setCurrentText("Neuroglancer precomputed")
    dock.where.folder.clear()
    qtbot.keyClicks(dock.where.folder, str(tmp_path))
    again = ExportWidget(viewer)
    assert again.what.mesh_format.currentText() == "Neuroglancer precomputed"
    assert [name for name, box in again.what.boxes.items() if box.isChecked()] == ["meshes"]
    assert again.where.folder.text() == str(tmp_path)
    again.shut_down()
    again.work.wait()


def test_the_layer_may_be_painted_or_removed_while_it_is_exported(
    dock, viewer, tissue, tmp_path, qtbot
) -> None:
    tick(dock, "labels", "skeletons")
    layer = viewer.layers["truth"]
    qtbot.mouseClick(dock.go, Qt.MouseButton.LeftButton)
    layer.data[:] = 1
    viewer.layers.remove(layer)
    settle(dock, qtbot)
    assert (open_volume(tmp_path / "out" / "truth.zarr", "labels")[:] == tissue[1]).all()


def test_closing_it_in_the_middle_of_work_stops_it_and_leaves_nothing(viewer, tissue, tmp_path, qtbot) -> None:
    viewer.add_labels(tissue[1].astype(np.uint32), name="truth", **PLACED)
    widget = ExportWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Export")
    widget.where.folder.setText(str(tmp_path))
    tick(widget, "skeletons")
    qtbot.mouseClick(widget.go, Qt.MouseButton.LeftButton)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert not list(tmp_path.glob("*skeletons*"))
    assert widget._on_mouse not in viewer.mouse_drag_callbacks
    viewer.add_labels(tissue[1].astype(np.uint32), name="more")  # nobody listens any more


def test_every_control_has_a_tip_and_can_be_reached_by_keyboard(dock) -> None:
    controls = [dock.source, dock.image, dock.go, dock.fill, *dock.what.boxes.values(), dock.what.label_format,
                dock.what.mesh_format, dock.objects.which, dock.objects.names, dock.objects.least,
                dock.where.folder, dock.where.name, dock.where.browse]  # fmt: skip
    assert all(control.toolTip() for control in controls)
    assert all(control.focusPolicy() & Qt.FocusPolicy.TabFocus for control in controls)
