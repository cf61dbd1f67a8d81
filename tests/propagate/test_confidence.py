"""How sure a mask is."""

import numpy as np
import pytest
import torch

from napari_em_seg.propagate.confidence import Evidence, evidence_of, fit, probability


def test_evidence_is_probability_overlap_and_growth():
    mask, before = torch.zeros(8, 8), torch.zeros(8, 8)
    mask[2:6, 2:6], before[2:6, 4:8] = 0.8, 1
    assert evidence_of(mask, before) == pytest.approx((0.8, 8 / 24, 0))
    assert evidence_of(mask, before, mask / 2) == pytest.approx((0.4, 8 / 24, 0))
    before[:] = 0
    assert evidence_of(mask, before) == pytest.approx((0.8, 0, np.log(17)))
    assert evidence_of(before, mask) == pytest.approx((0, 0, np.log(17)))


def test_the_probability_is_the_formula():
    found = Evidence(0.8, 0.5, 0.2)
    assert probability(found, None) == 0.8
    assert probability(found, (0.0, 1.0, 0.0, 0.0)) == pytest.approx(0.8)
    expected = 1 / (1 + np.exp(-(-1 + 2 * np.log(4) + 3 * 0.5 - 0.5 * 0.2)))
    assert probability(found, (-1.0, 2.0, 3.0, -0.5)) == pytest.approx(expected)


def test_weights_are_learned_so_that_probabilities_are_frequencies():
    rng = np.random.default_rng(0)
    all_of_them = [Evidence(*row) for row in rng.random((4000, 3)) * (0.49, 1, 1) + (0.5, 0, 0)]
    true = (-2.0, 1.0, 3.0, -1.0)
    is_right = [bool(rng.random() < probability(one, true)) for one in all_of_them]
    weights = fit(all_of_them, is_right)
    assert weights == pytest.approx(true, abs=0.4)
    found = np.array([probability(one, weights) for one in all_of_them])
    for low in (0.2, 0.4, 0.6, 0.8):
        of_these = (found >= low) & (found < low + 0.2)
        assert np.mean(np.array(is_right)[of_these]) == pytest.approx(found[of_these].mean(), abs=0.06)
    assert fit(all_of_them, [True] * 4000) is None
