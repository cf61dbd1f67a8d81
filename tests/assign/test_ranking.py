"""How well a confidence finds errors, against all orders of equal ones and against scikit-learn."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from napari_em_seg.assign.ranking import auc, figure_11, share_of_errors_in_lowest
from napari_em_seg.errors import DataError


@pytest.mark.parametrize("seed", range(20))
def test_the_area_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    wrong = rng.random(60) < 0.3
    confidence = rng.integers(0, 12, 60) - 3.0 * wrong
    assert auc(wrong, confidence) == pytest.approx(roc_auc_score(wrong, -confidence))
    assert auc(wrong, -1.0 * wrong) == 1
    assert auc(wrong, np.ones(60)) == 0.5
    assert auc(wrong, np.where(wrong, 0.0, np.inf)) == 1


@pytest.mark.parametrize("seed", range(8))
def test_equal_confidences_come_in_no_order(seed):
    rng = np.random.default_rng(seed)
    errors, confidence = rng.integers(0, 3, 6), rng.integers(0, 3, 6).astype(float)
    errors[0] = 1
    orders = [order for order in permutations(range(6)) if (np.diff(confidence[list(order)]) <= 0).all()]
    curves = [np.cumsum(errors[list(order)]) / np.arange(1, 7) for order in orders]
    found = figure_11(errors, confidence, steps=6)
    assert found.share.tolist() == pytest.approx(np.arange(1, 7) / 6)
    assert found.errors == pytest.approx(np.mean(curves, axis=0))
    last = [np.cumsum(errors[list(order)][::-1])[1] / errors.sum() for order in orders]
    assert share_of_errors_in_lowest(errors, confidence, 2 / 6) == pytest.approx(np.mean(last))


def test_a_perfect_order_has_its_errors_last():
    wrong = np.zeros(200, bool)
    wrong[:20] = True
    curve = figure_11(wrong, np.arange(200.0))
    assert (curve.errors[curve.share <= 0.9] == 0).all()
    assert curve.errors[-1] == pytest.approx(0.1)
    assert share_of_errors_in_lowest(wrong, np.arange(200.0)) == 1
    assert share_of_errors_in_lowest(wrong, np.arange(200.0), 0.05) == 0.5
    assert share_of_errors_in_lowest(wrong, -np.arange(200.0)) == 0
    assert share_of_errors_in_lowest(wrong, np.arange(200.0), 0) == 0
    assert share_of_errors_in_lowest(wrong, -np.arange(200.0), 1) == 1


def test_without_errors_there_is_nothing_to_find():
    right, sure = np.zeros(5, bool), np.arange(5.0)
    assert np.isnan(auc(right, sure))
    assert np.isnan(auc(~right, sure))
    assert np.isnan(share_of_errors_in_lowest(right, sure))
    assert (figure_11(right, sure).errors == 0).all()


def test_what_makes_no_sense_is_refused():
    wrong = np.array([True, False])
    for confidence in (np.array([1.0]), np.array([1.0, np.nan]), np.ones((2, 1))):
        for measure in (auc, figure_11, share_of_errors_in_lowest):
            with pytest.raises(DataError, match="Leave out links"):
                measure(wrong, confidence)
    with pytest.raises(DataError, match="share of links"):
        share_of_errors_in_lowest(wrong, np.ones(2), 1.5)
    with pytest.raises(DataError, match="Give chosen links"):
        figure_11(wrong[:0], np.ones(0))
