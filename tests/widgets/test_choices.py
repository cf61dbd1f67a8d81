"""What people choose in the docks, by clicks and keys in a real viewer, is what is done."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
import pytest
from docks import PLACED, open_dock, settle
from hands import choose, click, pick, point_at, slide, turn, wait_for, write
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QPushButton

from napari_em_seg import pipeline
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.io import open_volume, write_volume, write_volumes
from napari_em_seg.pipeline import PredictedMaps
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.predict.weights import find_models
from napari_em_seg.review import Status
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import marked
from napari_em_seg.widgets.recent import add_recent
from napari_em_seg.widgets.review.mesh import SURFACE
from napari_em_seg.widgets.shortcuts import KeysDialog
from napari_em_seg.widgets.state import state_of

SHAPE = (6, 96, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with an image with its truth, and a session about it that doubts its links."""
    folder = tmp_path_factory.mktemp("tissue")
    raw, truth = (np.asarray(volume) for volume in pipeline.sample_volumes(SHAPE, 3))
    right = affinity_labels(truth)[0].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.2, right.shape)
    affinities = np.rint(255 * np.clip(0.15 + 0.7 * right + noise, 0, 1)).astype(np.uint8)
    np.save(folder / "affinities.npy", affinities)
    volumes = {"raw": Volume(raw, PLACED["scale"], "raw"),
               "labels": Volume(truth, PLACED["scale"], "labels", kind="labels")}  # fmt: skip
    write_volumes(volumes, folder / "tissue.zarr")
    write_volume(volumes["raw"], str(folder / "raw.zarr"))
    pipeline.reconstruct_to_session(
        open_volume(str(folder / "raw.zarr")), str(folder / "a.emseg"), maps=PredictedMaps(affinities)
    )
    return folder


@pytest.fixture
def stacks(viewer: napari.Viewer, folder: Path, tmp_path, monkeypatch) -> napari.Viewer:
    """Give a viewer with two images, affinities, and labels; models and sessions go nowhere else."""
    monkeypatch.setenv("EM_SEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    raw = open_volume(str(folder / "raw.zarr"))
    affinities = np.load(folder / "affinities.npy")
    viewer.add_image(np.asarray(raw), name="raw", metadata={"source": raw.source}, **PLACED)
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="black", **PLACED)
    viewer.add_image(255 - affinities[1:].min(0), name="affinities", **PLACED,
                     metadata=marked("affinities", affinities=affinities))  # fmt: skip
    viewer.add_labels(np.asarray(open_volume(str(folder / "tissue.zarr"), "labels")), name="truth", **PLACED)
    return viewer


@pytest.fixture
def opened(stacks: napari.Viewer) -> Iterator[Callable[[str], Any]]:
    """Open docks from the menu; all are closed at the end, and have ended their work."""
    found: list[Any] = []

    def open_one(name: str) -> Any:
        found.append(open_dock(stacks, name)[1])
        return found[-1]

    yield open_one
    for dock in found:
        dock.shut_down()
        dock.work.wait()


@pytest.fixture
def review(opened, folder, tmp_path) -> Any:
    shutil.copytree(folder / "a.emseg", tmp_path / "a.emseg")
    dock = opened("Review links")
    dock.open_session(str(tmp_path / "a.emseg"))
    settle(dock)
    return dock


def answer(monkeypatch, name: str, *answers: str) -> None:
    """Answer the next dialogs for files with paths."""
    left = list(answers)
    are_pairs = name != "getExistingDirectory"
    monkeypatch.setattr(QFileDialog, name, lambda *_, **__: (left.pop(0), "") if are_pairs else left.pop(0))


def typed(box: Any, text: str) -> None:
    """Type a number into its box."""
    write(box.lineEdit(), text)
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)


def entry(box: Any, text: str) -> None:
    """Choose an entry by a click."""
    choose(box, box.findText(text))
    assert box.currentText() == text


def done(dock: Any, control: Any) -> None:
    """Click, and wait until what it does is done."""
    assert control.isEnabled()
    click(control)
    settle(dock)


# ------------------------------------------------------------------------------------------------------ Cancel


@pytest.mark.parametrize("name", [
    "Start here", "Predict", "Segment", "Train", "Evaluate", "Export", "Propagate", "Review links",
])  # fmt: skip
def test_cancel_stops_what_goes_on_in_any_dock(opened, stacks, name) -> None:
    dock, reached = opened(name), []

    def forever(*, progress: Callable, cancelled: Callable) -> None:
        progress(1, 4)
        while not cancelled():
            time.sleep(0.005)
        reached.append(True)
        raise Cancelled("stopped")

    dock.start("Something", forever, layer=stacks.layers["raw"], done=reached.append)
    assert wait_for(dock.cancel_button.isVisible)
    assert wait_for(lambda: dock.bar.value() == 1)
    assert "Something" in dock.bar.format()
    done(dock, dock.cancel_button)
    assert reached == [True]
    assert dock.words.text() == dock.last_words()
    assert not dock.foot.isVisible()


# ------------------------------------------------------------------------------------------------------- Start


def in_menu(button: QPushButton, text: str) -> None:
    """Open the menu of a button by a click, and click on an entry."""
    menu = button.menu()

    def on_open() -> None:
        (action,) = (one for one in menu.actions() if one.text() == text)
        QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())

    QTimer.singleShot(100, on_open)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert wait_for(lambda: not menu.isVisible())
    QApplication.processEvents()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Synthetic tissue", ["tissue"]),
        ("Synthetic tissue with its truth", ["tissue", "truth"]),
        ("File …", ["raw"]),
        ("Folder (slices, Zarr, N5) …", ["raw"]),
    ],
)
def test_stacks_are_opened_from_the_menu_of_start(opened, stacks, folder, tmp_path, monkeypatch, text, names):
    write_volume(open_volume(str(folder / "raw.zarr")), str(tmp_path / "raw.h5"))
    answer(monkeypatch, "getOpenFileName", str(tmp_path / "raw.h5"))
    answer(monkeypatch, "getExistingDirectory", str(folder / "raw.zarr"))
    start, before = opened("Start here"), list(stacks.layers)
    in_menu(start.buttons["Open a stack"], text)
    new = [layer for layer in stacks.layers if layer not in before]
    assert len(new) == len(names)
    assert all(tuple(layer.scale) != (1, 1, 1) for layer in new)
    assert [type(layer).__name__ for layer in new] == ["Image", "Labels"][: len(names)]
    assert start._marks["Open a stack"].text() == "✓"


def test_the_voxel_size_is_set_from_the_menu_of_start(opened, stacks) -> None:
    raw = stacks.layers["raw"]
    raw.scale, raw.units = (1, 1, 1), ("pixel",) * 3
    in_menu(opened("Start here").buttons["Open a stack"], "Set the voxel size …")
    (widget,) = (one.widget() for one in stacks.window._wrapped_dock_widgets.values() if "Voxel" in one.name)
    box, sizes = widget._magic_widget._layer, widget._magic_widget._sizes
    entry(box.native.findChild(type(box.native)) or box.native, "raw")
    for one, size in zip(sizes, ("40", "4", "4.5"), strict=True):
        typed(one.native, size)
    click(widget._magic_widget._apply.native)
    assert tuple(raw.scale) == pytest.approx((40, 4, 4.5))


def test_a_double_click_opens_a_recent_session(opened, stacks, folder, tmp_path) -> None:
    start = opened("Start here")
    for name in ("a", "b"):
        shutil.copytree(folder / "a.emseg", tmp_path / f"{name}.emseg")
        add_recent(tmp_path / f"{name}.emseg")
    start.refresh()
    pick(start.recent, 1)
    assert state_of(stacks).desk is None  # one click only marks it
    place = start.recent.visualItemRect(start.recent.item(1)).center()
    QTest.mouseDClick(start.recent.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert wait_for(lambda: state_of(stacks).desk is not None, 30)
    assert state_of(stacks).desk.session.path.name == "a.emseg"
    for panel in list(state_of(stacks).panels):
        settle(panel)


# ----------------------------------------------------------------------------------------------------- Predict


def test_predict_does_what_is_chosen(opened, stacks, monkeypatch) -> None:
    asked: list[Any] = []
    dock = opened("Predict")

    def refuse(volume: Volume, wanted: Any) -> None:
        asked.append((volume.name, wanted))
        raise DataError("It was asked for", "nothing", "Go on")

    monkeypatch.setattr("napari_em_seg.widgets.predict.dock.lazy.LazyPrediction", refuse)
    options = dock.options
    entry(options.image, "black")
    entry(options.views, options.views.itemText(1))
    entry(options.device, "cpu")
    rows = options.models.list
    other = next(k for k in range(rows.count()) if rows.item(k).checkState() == Qt.CheckState.Unchecked)
    pick(rows, other)
    QTest.keyClick(rows, Qt.Key.Key_Space)
    assert not options.by_size.isChecked()
    local = next(k for k in range(1, options.local.count()))
    choose(options.local, local)
    write(options.misaligned, "1-2")
    done(dock, dock.go)
    ((name, wanted),) = asked
    assert name == "black"
    assert wanted.views == options.views.itemData(1)
    assert len(wanted.models) == 2
    assert wanted.local_models == (options.local.itemText(local),)
    assert wanted.misaligned == (1, 2)
    assert wanted.device == "cpu"
    click(options.by_size)
    assert len(options.models.ticked) == 1
    entry(options.task, options.task.itemText(1))
    assert options.models.ticked
    assert set(options.models.ticked).isdisjoint(wanted.models)
    entry(options.tissue, "another tissue")
    assert stacks.layers["black"].metadata["tissue"] == "another tissue"


# ----------------------------------------------------------------------------------------------------- Segment


def test_segment_does_what_is_chosen(opened, stacks, monkeypatch) -> None:
    dock = opened("Segment")
    entry(dock.making.source, "affinities")
    typed(dock.making.sigma, "3")
    done(dock, dock.go)
    smooth = len(np.unique(dock.result.data))
    typed(dock.making.sigma, "0")
    done(dock, dock.go)
    assert len(np.unique(dock.result.data)) > smooth
    typed(dock.cutting.smallest, "30")
    assert np.asarray(dock.result.data).all()  # small ones have joined others
    entry(dock.cutting.small_ones, "are removed")
    sizes = np.bincount(np.asarray(dock.result.data).ravel())
    assert sizes[0] > 0
    assert sizes[1:][sizes[1:] > 0].min() >= 30
    entry(dock.making.method, "z-watershed of affinities")
    entry(dock.making.score, "quantile")
    typed(dock.making.quantile, "0.25")
    done(dock, dock.go)
    assert dock._shown.parts.recipe.score == "quantile"
    assert dock._shown.parts.recipe.quantile == 0.25
    n = len(np.unique(dock.result.data))
    typed(dock.cutting.threshold.box, "0.05")
    assert len(np.unique(dock.result.data)) > n
    slide(dock.cutting.threshold.slider)
    assert dock._shown.cut.level > 0.05


# ------------------------------------------------------------------------------------------------------- Train


def test_a_network_learns_as_is_chosen(opened, stacks, folder, tmp_path, monkeypatch) -> None:
    asked: list[Any] = []

    def train(out: Path, training: Any, validation: Any, recipe: Any, _about: Any, **options: Any) -> None:
        asked.append((out.stem, training, validation, recipe, options["watch"].limit))

    monkeypatch.setattr(pipeline, "train_boundary", train)
    shutil.copytree(folder / "tissue.zarr", tmp_path / "two.zarr")
    both = {"raw": open_volume(str(folder / "tissue.zarr")),
            "labels": open_volume(str(folder / "tissue.zarr"), "labels")}  # fmt: skip
    write_volumes(both, tmp_path / "one.h5")
    answer(monkeypatch, "getOpenFileName", str(tmp_path / "one.h5"))
    answer(monkeypatch, "getExistingDirectory", str(tmp_path / "two.zarr"), str(folder / "tissue.zarr"))
    dock = opened("Train")
    entry(dock.kind, "Network for boundaries")
    form = dock.form
    entry(form.image, "raw")
    entry(form.labels, "truth")
    click(form.files.add_file)
    click(form.files.add_folder)
    click(form.files.add_folder)
    assert not form.files.remove.isEnabled()
    pick(form.files.list, 1)
    click(form.files.remove)
    assert form.files.paths == [str(tmp_path / "one.h5"), str(folder / "tissue.zarr")]
    entry(form.kernel, form.kernel.itemText(2))
    entry(form.zero, form.zero.itemText(1))
    known = next(one for one in find_models() if one.card.task == "boundary")
    entry(form.network, known.card.architecture)
    entry(form.begin, known.name)
    typed(form.aside, "34")
    typed(form.steps, "77")
    typed(form.minutes, "2.5")
    write(dock.name, "mine")
    done(dock, dock.go)
    ((out, training, validation, recipe, limit),) = asked
    assert out == "mine"
    assert [part.raw.name for part in training] == ["raw"] * 3
    assert [part.slices for part in validation] == [slice(4, 6)] * 3
    assert recipe.architecture == known.card.architecture
    assert (recipe.kernel, recipe.zero) == (form.kernel.itemData(2), form.zero.itemData(1))
    assert recipe.begin_from == known.name
    assert (recipe.steps, limit.seconds) == (77, 150)


@pytest.mark.parametrize("kind", ["Forest for merges", "Forest for assignments"])
def test_a_forest_learns_as_is_chosen(opened, stacks, monkeypatch, kind) -> None:
    asked: list[Any] = []
    note = lambda out, parts, **options: asked.append((out.stem, parts[0], options))  # noqa: E731
    monkeypatch.setattr(pipeline, "train_agglomeration", note)
    monkeypatch.setattr(pipeline, "train_assignment", note)
    stacks.add_labels(np.full(SHAPE, 3, np.uint16), name="mine", **PLACED)
    dock = opened("Train")
    entry(dock.kind, kind)
    form = dock.form
    entry(form.labels, "mine")
    assert form.maps.currentText() == "affinities"
    typed(form.seed, "9")
    write(dock.name, "own")
    if kind == "Forest for merges":
        typed(form.aside, "0")
    else:
        entry(form.image, "black")
        click(form.follow)
    done(dock, dock.go)
    ((out, part, options),) = asked
    assert (out, options["seed"]) == ("own", 9)
    assert (np.asarray(part.truth) == 3).all()
    if kind == "Forest for merges":
        assert part.affinities.shape == (3, *SHAPE)
    else:
        assert part.raw.name == "black"
        assert options["with_following"]


def test_fine_tuning_is_done_as_is_chosen(opened, stacks, monkeypatch) -> None:
    asked: list[Any] = []
    note = lambda out, raw, labels, tuning, **_: asked.append((out.stem, raw.name, labels, tuning))  # noqa: E731
    monkeypatch.setattr("napari_em_seg.widgets.train.forms.fine_tune", note)
    dock = opened("Train")
    form = dock.fine_tune
    entry(form.image, "black")
    click(form.paint)
    form.painted.layer.data[2, 10:20] = 1
    entry(form.painted, "truth")
    entry(form.painted, form.painted.itemText(form.painted.count() - 1))
    entry(form.meaning, form.meaning.itemText(1))
    stacks.layers["black"].metadata["tissue"] = "moss"
    model = form.model.count() - 1
    choose(form.model, model)
    typed(form.minutes, "3")
    done(dock, dock.go)
    ((out, raw, labels, tuning),) = asked
    assert (out, raw) == ("black-tuned", "black")
    assert tuning.tissue == "moss"
    assert (tuning.convention, tuning.begin_from, tuning.minutes) == (
        form.meaning.itemData(1), form.model.itemText(model), 3.0,
    )  # fmt: skip
    assert np.array_equal(np.asarray(labels), form.painted.layer.data)


# ---------------------------------------------------------------------------------------------------- Evaluate


def test_evaluate_does_what_is_chosen(opened, stacks, folder) -> None:
    truth = stacks.layers["truth"].data
    holed = truth.copy()
    holed[:, 30:60, 30:60] = 0
    stacks.add_labels(holed, name="holed", **PLACED)
    dock = opened("Evaluate")
    entry(dock.segmentation, "holed")
    entry(dock.truth, "truth")
    errors = []
    for _ in range(2):
        done(dock, dock.go)
        errors.append(dock.results.summary.text())
        click(dock.zero)  # now the hole is a segment that joins what is in it
    assert errors[0] != errors[1]
    pick(dock.results.measures, 2)
    assert dock.results.measures.currentIndex().row() == 2  # measures have no place to go to
    entry(dock.truth, dock.truth.itemText(0))
    typed(dock.orphan, "1")
    typed(dock.large, "1")
    done(dock, dock.go)
    n = len(np.unique(holed)) - 1
    assert f"{n:,} objects" in dock.results.summary.text()
    many = int(dock.shapes.figures().n_large)
    typed(dock.large, "100")
    done(dock, dock.go)
    assert dock.shapes.figures().n_large == 0 < many


# ------------------------------------------------------------------------------------------------------ Export


def test_export_writes_what_is_ticked(opened, stacks, tmp_path, monkeypatch) -> None:
    dock = opened("Export")
    out = tmp_path / "out"
    out.mkdir()
    answer(monkeypatch, "getExistingDirectory", str(out))
    entry(dock.source, "truth")
    entry(dock.image, "black")
    click(dock.where.browse)
    assert dock.where.folder.text() == str(out)
    write(dock.where.name, "mine")
    boxes = dock.what.boxes
    for name in ("meshes", "skeletons", "report"):
        click(boxes[name])
    entry(dock.what.label_format, "multi-page TIFF")
    entry(dock.what.mesh_format, "OBJ")
    entry(dock.objects.which, "larger than")
    sizes = np.sort(np.bincount(stacks.layers["truth"].data.ravel())[1:])
    typed(dock.objects.least, str(sizes[-2]))
    done(dock, dock.go)
    found = sorted(path.name for path in out.iterdir())
    assert found == ["mine.html", "mine.meshes", "mine.skeletons", "mine.tif"]
    assert len(list((out / "mine.meshes").glob("*.obj"))) == 2
    assert len(list((out / "mine.skeletons").iterdir())) == 2
    for name in ("labels", "skeletons", "report"):
        click(boxes[name])
    entry(dock.objects.which, "these")
    write(dock.objects.names, "1")
    write(dock.where.name, "other")
    done(dock, dock.go)
    assert [path.name for path in (out / "other.meshes").glob("*.obj")] == ["1.obj"]
    assert not (out / "other.tif").exists()


def test_export_of_a_session_grows_objects_as_far_as_is_chosen(opened, review, stacks, tmp_path) -> None:
    dock = opened("Export")
    entry(dock.source, "session a")
    write(dock.where.folder, str(tmp_path))
    boxes, filled = dock.what.boxes, []
    for name in ("links", "graph", "history"):
        click(boxes[name])
    for distance in ("0", "30"):
        typed(dock.fill, distance)
        write(dock.where.name, f"grown{distance}")
        done(dock, dock.go)
        filled.append(
            int((np.asarray(open_volume(str(tmp_path / f"grown{distance}.zarr"), "labels")) > 0).sum())
        )
    assert filled[0] < filled[1]
    names = {path.name for path in tmp_path.glob("grown30*")}
    assert {"grown30.links.csv", "grown30.graphml", "grown30.history.csv"} <= names


# --------------------------------------------------------------------------------------------------- Propagate


def test_objects_are_followed_as_is_chosen(opened, stacks, monkeypatch) -> None:
    asked: list[Any] = []
    found = [SimpleNamespace(z=z, labels=np.full(SHAPE[1:], 7, np.uint32), confidence={7: 0.5}) for z in (4, 5)]

    def propagate(volume: Volume, seeds: np.ndarray, wanted: Any, **_: Any) -> Iterator[Any]:
        asked.append((volume.name, seeds, wanted))
        return iter(found)

    monkeypatch.setattr(pipeline, "propagate", propagate)
    seeds = np.zeros(SHAPE, np.uint32)
    seeds[4, 20:40, 20:40] = 7
    stacks.add_labels(seeds, name="my seeds", **PLACED)
    dock = opened("Propagate")
    entry(dock.image, "black")
    entry(dock.seeds, "my seeds")
    typed(dock.reference, "4")
    choose(dock.way, 1)
    typed(dock.extent, "1")
    choose(dock.model, 1)
    click(dock.membranes)
    done(dock, dock.go)
    ((name, given, wanted),) = asked
    assert name == "black"
    assert np.array_equal(given, seeds[4])
    assert (wanted.reference, wanted.direction, wanted.extent) == (4, "up", 1)
    assert wanted.model == dock.model.itemText(1)
    assert not wanted.follows_membranes
    stacks.dims.set_current_step(0, 0)
    point_at(dock.strip)
    assert stacks.dims.current_step[0] == 5
    assert dock.result.selected_label == 7
    result = dock.result
    done(dock, dock.reject)
    assert not result.data.any()
    done(dock, dock.keep)
    assert result in stacks.layers
    assert not dock.keep.isEnabled()


# ------------------------------------------------------------------------------------------------ Review links


def test_a_session_is_chosen_in_dialogs(opened, stacks, folder, tmp_path, monkeypatch) -> None:
    asked: list[Any] = []

    def reconstruct(image: Volume, out: str, *, maps: Any, wanted: Any, **_: Any) -> None:
        asked.append((image.name, out, maps, wanted))
        shutil.copytree(folder / "a.emseg", out)

    monkeypatch.setattr(pipeline, "reconstruct_to_session", reconstruct)
    answer(monkeypatch, "getSaveFileName", str(tmp_path / "new"))
    answer(monkeypatch, "getExistingDirectory", str(tmp_path / "new.emseg"))
    dock = opened("Review links")
    begin = dock.begin
    entry(begin.image, "raw")
    entry(begin.boundary, begin.boundary.itemText(0))
    choose(begin.views, 1)
    (browse,) = (one for one in begin.findChildren(QPushButton) if one.text() == "…")
    click(browse)
    assert begin.place.text() == str(tmp_path / "new.emseg")
    done(dock, begin.go)
    ((name, out, maps, wanted),) = asked
    assert (name, out, maps, wanted.views) == ("raw", str(tmp_path / "new.emseg"), None, 4)
    assert dock.desk.session.path.name == "new.emseg"
    done(dock, dock.close_button)
    assert dock.desk.session is None
    done(dock, begin.open)
    assert dock.desk.session.path.name == "new.emseg"


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("accept", "accept", Status.ACCEPTED),
        ("reject", "reject", Status.REJECTED),
        ("don't know", "don't know", Status.DO_NOT_KNOW),
        ("skip", "skip", Status.SKIPPED),
    ],
)
def test_a_click_answers(review, name, kind, status) -> None:
    link = review.desk.link
    done(review, review._buttons[name])
    assert [operation.kind for operation in review.desk.session.operations] == [kind]
    links = review.desk.sheet.links
    assert links.status[links.find(link)] == status
    assert review.desk.link != link
    done(review, review._buttons["undo"])
    assert review.desk.link == link
    done(review, review._buttons["redo"])
    links = review.desk.sheet.links
    assert links.status[links.find(link)] == status


def test_clicks_lead_through_the_links(review) -> None:
    first, listed = review.desk.link, review.desk.sheet.listed
    pick(review.table, 3)
    settle(review)
    assert review.desk.link == listed.id[3]
    done(review, review._buttons["back"])
    assert review.desk.link == first
    assert not review.desk.session.operations  # to go back is no answer
    label = review.desk.object_of(first)
    done(review, review._buttons["next of object"])
    assert review.desk.link != first
    assert review.desk.object_of(review.desk.link) == label


def test_clicks_filter_the_list(review, stacks) -> None:
    done(review, review._buttons["accept"])
    answered = review.desk.session.operations[-1].payload["link"]
    entry(review.status, "answered")
    assert list(review.desk.sheet.listed.id) == [answered]
    entry(review.status, "all")
    assert answered in review.desk.sheet.listed.id
    stacks.dims.set_current_step(0, 2)
    click(review.only_here)
    assert set(review.desk.sheet.listed.z) == {2}
    click(review.only_here)
    assert len(set(review.desk.sheet.listed.z)) > 1
    choose(review.kind, 1)
    assert set(review.desk.sheet.listed.kind) == {0}
    entry(review.order, "impact")
    assert (np.diff(review.desk.sheet.listed.impact) <= 0).all()


def test_clicks_show_more(review, stacks, monkeypatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(KeysDialog, "exec", lambda dialog: shown.append(type(dialog).__name__))
    done(review, review._buttons["help"])
    assert shown == ["KeysDialog"]
    panes = review.inspector._panes
    shown_before = sum(one.isVisible() for one in panes.values())
    done(review, review._buttons["neighbours"])
    assert sum(one.isVisible() for one in panes.values()) == shown_before + 2
    done(review, review._buttons["3-D"])
    assert stacks.dims.ndisplay == 3
    assert SURFACE in stacks.layers
    done(review, review._buttons["3-D"])
    assert stacks.dims.ndisplay == 2
    assert SURFACE not in stacks.layers


def test_an_arrow_of_a_number_is_one_step(opened) -> None:
    dock = opened("Propagate")
    assert dock.reference.value() == -1
    turn(dock.reference)
    assert dock.reference.value() == 0


# ------------------------------------------------------------------------------------- what newcomers fell over


def half(stacks: napari.Viewer) -> Any:
    """Say that the prediction was stopped in the middle, as the dock Predict does."""
    layer = stacks.layers["affinities"]
    layer.metadata = {**layer.metadata, "models": ("some",)}
    return layer


def test_half_a_prediction_is_neither_segmented_nor_reconstructed(opened, stacks, tmp_path) -> None:
    half(stacks)
    start, segment, review = opened("Start here"), opened("Segment"), opened("Review links")
    assert start._marks["Predict"].text() == "2"
    entry(segment.making.source, "affinities")
    done(segment, segment.go)
    assert "affinities is not complete" in segment.words.text()
    assert segment.result is None
    entry(review.begin.image, "raw")
    entry(review.begin.boundary, "affinities")
    write(review.begin.place, str(tmp_path / "new.emseg"))
    done(review, review.begin.go)
    assert "affinities is not complete" in review.words.text()
    assert not (tmp_path / "new.emseg").exists()


def test_a_stack_of_unknown_voxel_size_is_not_reconstructed(opened, stacks) -> None:
    raw = stacks.layers["raw"]
    raw.scale, raw.units = (1, 1, 1), ("pixel",) * 3
    review = opened("Review links")
    entry(review.begin.image, "raw")
    done(review, review.begin.go)
    assert "voxel size of raw is not known" in review.words.text()


def test_a_link_that_is_there_already_is_taken_when_it_is_made_by_hand(review) -> None:
    asked = review.desk.link
    alternative = review.desk.scene.alternatives[0]
    click(review.by_hand)
    for place in (*alternative.sources, *alternative.targets):
        y, x = np.argwhere(place.mask)[len(np.argwhere(place.mask)) // 2] + (place.y, place.x)
        said = review.hand.pick(place.z, int(y), int(x))
        for _ in range(5):  # the next larger one, until it is this one
            if place.region in [picked.region for picked in review.hand._picked]:
                break
            said = review.hand.pick(place.z, int(y), int(x))
        assert place.name in said
    done(review, review.make_button)
    (made,) = review.desk.session.operations
    assert (made.kind, made.payload["link"], made.payload["choice"]) == ("alternative", asked, alternative.link)


def test_a_link_that_a_filter_leaves_out_is_not_asked_about_any_more(review) -> None:
    kind = int(review.desk.sheet.links.kind[review.desk.sheet.links.find(review.desk.link)])
    kinds = sorted({int(one) for one in review.desk.sheet.listed.kind} - {kind})
    choose(review.kind, 1 + kinds[0])
    settle(review)
    listed = review.desk.sheet.listed
    assert set(listed.kind) == {kinds[0]}
    assert review.desk.link == listed.id[0]
    assert review.table.currentIndex().row() == 0


def test_clicks_that_seed_wait_for_the_sections(opened, stacks, monkeypatch) -> None:
    found = np.zeros(SHAPE[1:], np.uint32)
    found[10:30, 10:30], found[40:60, 40:60] = 1, 2
    may_go_on = threading.Event()
    monkeypatch.setattr(pipeline, "watershed_seeds", lambda *_, **__: (may_go_on.wait(30), found)[1])
    stacks.dims.set_current_step(0, 2)
    dock = opened("Propagate")
    click(dock.click_seeds)
    raw = stacks.layers["raw"]
    for place in ((2, 20, 20), (2, 50, 50)):
        dock.on_click(raw.data_to_world(place))
    assert "under way" not in dock.words.text()
    may_go_on.set()
    settle(dock)
    seeds = dock.seeds.layer.data[2]
    assert sorted(np.unique(seeds)) == [0, 1, 2]
    assert ((seeds > 0) == (found > 0)).all()


def test_an_object_that_was_rejected_is_not_accepted(opened, stacks, review, monkeypatch) -> None:
    one = SimpleNamespace(z=2, labels=np.full(SHAPE[1:], 7, np.uint32), confidence={7: 0.5})
    monkeypatch.setattr(pipeline, "propagate", lambda *_, **__: iter([one]))
    dock = opened("Propagate")
    click(dock.new_seeds)
    done(dock, dock.go)
    QTest.mouseClick(dock.strip, Qt.MouseButton.LeftButton, pos=dock.strip.place_of(0, 2))
    done(dock, dock.reject)
    assert dock.words.text() == "Object 7 was taken out of the layer"
    done(dock, dock.accept)
    settle(review)
    assert "choose an object" in dock.words.text()
    assert not review.desk.session.operations


def test_results_of_other_layers_are_gone_when_an_evaluation_fails(opened, stacks) -> None:
    stacks.add_labels(np.ones((3, 8, 8), np.uint8), name="small", **PLACED)
    dock = opened("Evaluate")
    entry(dock.segmentation, "truth")
    entry(dock.truth, dock.truth.itemText(0))
    done(dock, dock.go)
    assert dock.results.isVisible()
    entry(dock.truth, "small")
    done(dock, dock.go)
    assert "3×8×8" in dock.words.text().replace(" ", "") or "(3, 8, 8)" in dock.words.text()
    assert not dock.results.isVisible()


def test_a_preview_goes_when_the_voxel_size_is_set(stacks) -> None:
    stacks.add_image(np.zeros((1, 8, 8), np.uint8), name="preview", metadata=marked("preview"), **PLACED)
    _, widget = open_dock(stacks, "Voxel size")
    entry(widget._layer.native.findChild(QComboBox) or widget._layer.native, "raw")
    typed(widget._sizes[0].native, "40")
    click(widget._apply.native)
    assert "preview" not in stacks.layers
    assert {tuple(layer.scale) for layer in stacks.layers} == {(40.0, 6.0, 6.0)}


def test_a_file_that_is_no_stack_is_refused_in_plain_words(opened, tmp_path, monkeypatch) -> None:
    write_volume(Volume(np.zeros((2, 8, 8), np.uint8)), str(tmp_path / "a.tif"))
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:40])
    answer(monkeypatch, "getOpenFileName", str(tmp_path / "a.tif"))
    start = opened("Start here")
    in_menu(start.buttons["Open a stack"], "File …")
    assert "a.tif" in start.words.text()


def test_segments_of_another_map_hide_those_before(opened, stacks) -> None:
    dock = opened("Segment")
    entry(dock.making.source, "affinities")
    done(dock, dock.go)
    first = dock.result
    entry(dock.making.source, "black")
    done(dock, dock.go)
    assert dock.result is not first
    assert (first.visible, dock.result.visible) == (False, True)
