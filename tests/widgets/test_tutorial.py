"""The tutorial, step by step, in one viewer, as a newcomer would go through it."""

import numpy as np
import pytest

from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import sample_volumes
from napari_em_seg.pipeline.config import STEPS as STEPS_OF_LAYERS
from napari_em_seg.pipeline.config import config_of_session
from napari_em_seg.pipeline.robot import Robot
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.state import state_of
from napari_em_seg.widgets.tour import STEPS, Tour

SHAPE = (6, 160, 160)


def error(labels, truth) -> float:
    return evaluate(contingency(np.asarray(labels), np.asarray(truth))).adapted_rand_error


@pytest.fixture
def tour(viewer, tmp_path, qtbot):
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
    STEPS["evaluate"](tour)
    dock = tour.start.open_dock("Evaluate")
    assert dock.evaluation is not None
    expected = error(viewer.layers["segments"].data, tour.truth)
    assert dock.evaluation.scores.adapted_rand_error == pytest.approx(expected)
    assert tour.start._marks["Reconstruct and review"].text() == "✓"
