"""The weights that come with the package: whole, small, documented, and good for what they are for."""

from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Prediction, predict_affinities, predict_boundary
from napari_em_seg.pipeline.agglomeration import agglomerated, scores_of_tree
from napari_em_seg.pipeline.segmentation import sections
from napari_em_seg.predict.weights import SUFFIX, bundled_folder, load_weights
from napari_em_seg.segment import best_h
from napari_em_seg.volume import Volume

FILES = sorted(bundled_folder().glob(f"*{SUFFIX}"))
DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)


def of_task(task: str) -> list[Path]:
    return [path for path in FILES if load_weights(path)[1].task == task]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_whole_and_says_what_it_is(path: Path) -> None:
    net, card = load_weights(path)  # compares the checksum
    assert not net.training
    assert card.name == path.stem
    assert card.command.startswith("napari-em-seg train ")
    assert card.seed is not None
    assert card.data and card.licence and card.measures
    assert "/home" not in card.to_json() and "/root" not in card.to_json()


def test_they_are_small() -> None:
    sizes = {task: sum(path.stat().st_size for path in of_task(task)) for task in ("boundary", "affinity")}
    assert 0 < sizes["boundary"] <= 8_000_000
    assert 0 < sizes["affinity"] <= 4_000_000


def test_mouse_cortex_that_was_kept_aside_is_segmented(real_data: Path) -> None:
    """A corner of the validation slices, by both routes."""
    path = real_data / "ac4_z63-99.h5"
    raw = open_volume(path)[22:37, :400, :400]
    truth = open_volume(path, "labels")[22:37, :400, :400]
    image = Volume(raw, (30, 6, 6), "corner")
    boundary = predict_boundary(image, Prediction(views=1, device="cpu", dtype="float32"))
    h, scores = best_h(boundary, truth, DEPTHS)
    assert scores[h].adapted_rand_error < 0.2
    wanted = Prediction(("affinity",), views=1, device="cpu", dtype="float32")
    curve = scores_of_tree(*agglomerated(predict_affinities(image, wanted)), truth)
    assert min(found.adapted_rand_error for found in curve.values()) < 0.2


def test_nerve_cord_that_was_kept_aside_is_segmented(real_data: Path) -> None:
    folder = real_data / "isbi2012_z00-14"
    image = open_volume(folder / "raw.tif").with_voxel_size((50, 4, 4))
    wanted = Prediction(slices=slice(11, 13), views=1, device="cpu", dtype="float32")
    boundary = predict_boundary(image, wanted)
    truth = sections(open_volume(folder / "membranes.tif")[11:13])
    h, scores = best_h(boundary, truth, DEPTHS, mode="2d")
    assert scores[h].adapted_rand_error < 0.08
    assert np.asarray(boundary).max() <= 1
