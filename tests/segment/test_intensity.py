"""The plain watershed that every predictor has to beat."""

import numpy as np

from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.segment import intensity_watershed


def two_cells() -> tuple[np.ndarray, np.ndarray]:
    """Two bright cells with a dark membrane between, running straight through the slices."""
    labels = np.ones((4, 40, 60), np.int32)
    labels[:, :, 30:] = 2
    raw = np.full(labels.shape, 200, np.uint8)
    raw[:, :, 27:33] = 20
    return raw, labels


def test_cells_apart_by_a_membrane_are_told_apart_and_followed_through_the_slices() -> None:
    raw, truth = two_cells()
    scores = evaluate(contingency(intensity_watershed(raw, sigma=1.0), truth))
    assert scores.n_segments == 2
    assert scores.adapted_rand_error < 0.05


def test_a_deeper_threshold_gives_no_more_objects() -> None:
    raw = np.random.default_rng(0).integers(0, 255, (3, 60, 60), dtype=np.uint8)
    counts = [intensity_watershed(raw, 2.0, depth).max() for depth in (0.02, 0.1, 0.4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
