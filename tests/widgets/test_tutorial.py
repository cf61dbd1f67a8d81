"""The tutorial, step by step, in one viewer, as a newcomer would go through it."""

import csv

import numpy as np
import pytest

from napari_em_seg.io import open_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import sample_volumes
from napari_em_seg.pipeline.config import STEPS as STEPS_OF_LAYERS
from napari_em_seg.pipeline.config import config_of_session, read_config
from napari_em_seg.pipeline.reconstruction import session_labels
from napari_em_seg.pipeline.robot import Robot
from napari_em_seg.predict.weights import read_card
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.state import state_of
from napari_em_seg.widgets.tour import EXPORTED, STEPS, Tour

SHAPE = (6, 160, 160)


def error(labels, truth) -> float:
    return evaluate(contingency(np.asarray(labels), np.asarray(truth))).adapted_rand_error


@pytest.fixture
def tour(viewer, tmp_path, monkeypatch, qtbot):
    monkeypatch.setenv("EM_SEG_MODELS", str(tmp_path / "models"))
    raw, truth = sample_volumes(SHAPE, 4)
    size = raw.voxel_size_nm
    raw, truth = Volume(raw[:], size, "raw"), Volume(truth[:], size, "truth", kind="labels")
    yield Tour(viewer, raw, truth, tmp_path)
    for dock in viewer.window._qt_window.findChildren(Panel):
        dock.shut_down()
        dock.work.wait()


@pytest.mark.timeout(600)
def test_the_whole_tutorial_in_one_viewer(tour, viewer) -> None:
    STEPS["open"](tour)
    assert "raw, 6 × 160 × 160" in tour.start._texts["Open a stack"].text()
    STEPS["predict"](tour)
    affinities = viewer.layers["affinities"]
    assert affinities.metadata["affinities"].shape == (3, *SHAPE)
    assert np.asarray(affinities.data).any()
    STEPS["segment"](tour)
    assert error(viewer.layers["segments"].data, tour.truth) < 0.5
    made = [step["step"] for step in viewer.layers["segments"].metadata[STEPS_OF_LAYERS]]
    assert made == ["predict", "segment"]  # so that a file can repeat it
    STEPS["reconstruct"](tour)
    desk = state_of(viewer).desk
    assert desk is not None
    assert [step.__class__.__name__ for step in config_of_session(desk.session).steps] == ["Predict", "Assign"]
    assert (tour.folder / "tutorial.emseg").is_dir()
    robot = Robot(desk.session.reconstruction, np.asarray(tour.truth))
    before = robot.errors(desk.sheet.view.outcome)
    n = STEPS["review"](tour)
    assert n > 10
    assert len(desk.sheet.view.state.verdicts) == n
    assert robot.errors(desk.sheet.view.outcome) < before
    STEPS["propagate"](tour)
    assert set(np.unique(viewer.layers["propagated"].data)) >= {1, 2, 3}
    before = {layer.name: np.array(layer.data) for layer in viewer.layers}
    STEPS["fine-tune"](tour)
    check_fine_tuned(tour)
    assert len(desk.sheet.view.state.verdicts) >= n
    assert all((np.asarray(viewer.layers[name].data) == data).all() for name, data in before.items())
    STEPS["evaluate"](tour)
    dock = tour.start.open_dock("Evaluate")
    assert dock.evaluation is not None
    expected = error(viewer.layers["segments"].data, tour.truth)
    assert dock.evaluation.scores.adapted_rand_error == pytest.approx(expected)
    assert tour.start._marks["Reconstruct and review"].text() == "✓"
    STEPS["export"](tour)
    check_exported(tour, desk.session)


def check_fine_tuned(tour) -> None:
    """The new model is a file among the user's, with a card, and in the lists of the docks."""
    train, predict = tour.start.open_dock("Train"), tour.start.open_dock("Predict")
    assert "raw-tuned is in the list of models" in train.words.text()
    card = read_card(tour.folder / "models" / "raw-tuned.safetensors")
    assert "objects painted on slices 2, 4 of raw" in card.data[-1]
    assert train.fine_tune.model.findText("raw-tuned") > 0
    predict.options.task.setCurrentIndex(predict.options.task.findData("boundary"))
    names = [predict.options.models.list.item(k).text() for k in range(predict.options.models.list.count())]
    assert any(name.startswith("raw-tuned") for name in names)


def check_exported(tour, session) -> None:
    """All is there, and is what the session has come to."""
    dock = tour.start.open_dock("Export")
    assert dock.words.text().startswith("Wrote tutorial.zarr, tutorial.links.csv")
    labels = open_volume(tour.folder / "tutorial.zarr", "labels")
    assert (labels[:] == np.asarray(session_labels(session, fill=dock.fill.value()))).all()
    assert labels.voxel_size_nm == tour.raw.voxel_size_nm
    names = set(np.unique(labels[:]).tolist()) - {0}
    assert len(names) > 10
    for folder, ending in (("meshes", "ply"), ("skeletons", "swc")):
        written = (tour.folder / f"tutorial.{folder}").glob(f"*.{ending}")
        assert {int(path.stem) for path in written} == names
    with (tour.folder / "tutorial.links.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(session.view.links)
    assert "image/png;base64" in (tour.folder / "tutorial.html").read_text("utf-8")
    steps = read_config(tour.folder / "tutorial.yaml").steps
    assert [step.__class__.__name__ for step in steps] == ["Predict", "Assign", "Review", "Export"]
    assert set(steps[-1].targets) == set(EXPORTED) - {"pipeline"}
