"""Overlaps of masks with sections, and what is learned of them."""

import numpy as np
import pytest

from napari_em_seg.propagate.calibration import Known, calibrate, overlaps, seeds_of
from napari_em_seg.propagate.confidence import Evidence, probability
from napari_em_seg.volume import Volume


def test_overlaps_are_intersection_over_union_of_equal_numbers():
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 5, (2, 30, 30))
    truth[truth == 4] = 9
    found = overlaps(labels, truth)
    assert set(found) == {1, 2, 3, 4, 9}
    for name, value in found.items():
        both, either = (labels == name) & (truth == name), (labels == name) | (truth == name)
        assert value == pytest.approx(both.sum() / either.sum())


def test_small_sections_are_no_seeds():
    plane = np.zeros((40, 40), np.uint64)
    plane[:10, :10], plane[20:29, 20:31] = 7, 8
    assert set(np.unique(seeds_of(plane))) == {0, 7}


def test_masks_that_leave_their_object_get_a_low_confidence(monkeypatch):
    """Objects are followed by a stub: every second one grows into something else."""
    truth = np.zeros((9, 80, 80), np.int64)
    for k in range(4):
        truth[:, 20 * k : 20 * k + 12, 4:24] = k + 1

    class One:
        def __init__(self, z):
            self.z, self.labels = z, truth[z].astype(np.uint32)
            self.evidence = {}
            for name in range(1, 5):
                is_right = name % 2 == 0
                if not is_right:
                    self.labels[self.labels == name] = 0
                self.evidence[name] = Evidence(*((0.95, 0.9, 0.1) if is_right else (0.7, 0.3, 1.0)))

    def follow(net, volume, seeds, z, **_):
        assert (seeds == truth[z]).all()
        return [One(at) for at in range(9)]

    monkeypatch.setattr("napari_em_seg.propagate.calibration.follow", follow)
    weights = calibrate(None, [Known(Volume(truth.astype(np.uint8), (30, 6, 6), "x"), truth)])
    assert probability(Evidence(0.95, 0.9, 0.1), weights) > 0.9
    assert probability(Evidence(0.7, 0.3, 1.0), weights) < 0.1
