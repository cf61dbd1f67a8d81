"""Errors left: against exact sums, and honest where stated probabilities are right, too high or too low."""

import numpy as np
import pytest
from scipy.special import expit, logit

from napari_em_seg.errors import DataError
from napari_em_seg.review import Calibration, Expected, StoppingRule, calibrate, expected_left

SURE = Calibration(np.zeros(1), np.ones(1), np.ones(1))
"""Stated probabilities are true ones."""


def exact_distribution(p):
    """Return the probability of each number of errors, by adding one link after the other."""
    found = np.ones(1)
    for value in p:
        found = np.convolve(found, [1 - value, value])
    return found


@pytest.mark.parametrize("n", [1, 3, 20, 300])
@pytest.mark.parametrize("shape", [(0.2, 8), (1, 1), (5, 20), (0.3, 0.3)])
def test_quantiles_against_exact_sums(n, shape):
    p = np.random.default_rng(n).beta(*shape, n).clip(1e-6, 1 - 1e-6)
    total = np.cumsum(exact_distribution(p))
    for level in (0.5, 0.9, 0.95):
        left = expected_left(p, SURE, level=level)
        assert left.mean == pytest.approx(p.sum(), rel=1e-3)
        for value, share in ((left.low, (1 - level) / 2), (left.high, (1 + level) / 2), (left.upper, level)):
            exact = int(np.searchsorted(total, share))
            assert abs(value - exact) <= 1


def test_nothing_left_is_nothing():
    assert expected_left([], SURE) == Expected(0.0, 0, 0, 0, 0, 0.9)
    left = expected_left(np.full(100, 1e-6), calibrate([], []))
    assert (left.low, left.high) == (0, 0)


def test_without_verdicts_the_interval_is_wide_and_many_verdicts_narrow_it():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 5, 2000)
    widths = []
    for n in (0, 20, 200, 2000):
        left = expected_left(p, calibrate(p[:n], rng.random(n) < p[:n]))
        widths.append(left.high - left.low)
        assert left.low <= left.mean <= left.high
    assert widths == sorted(widths, reverse=True)
    known = expected_left(p, SURE)
    assert widths[-1] < 2 * (known.high - known.low) < widths[0]


@pytest.mark.parametrize(("offset", "slope"), [(0.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (0.3, 0.7), (0.0, 1.4)])
def test_calibration_finds_the_truth(offset, slope):
    rng = np.random.default_rng(1)
    p = rng.beta(0.7, 2, 20_000)
    truth = expit(offset + slope * logit(p))
    learned = calibrate(p, rng.random(len(p)) < truth)
    ask = np.array([0.02, 0.1, 0.3, 0.6, 0.9])
    assert learned(ask) == pytest.approx(expit(offset + slope * logit(ask)), abs=0.03)
    assert learned.weight.sum() == pytest.approx(1)


def simulated_review(rng, offset, slope, after, n=1500, level=0.9):
    """Review the worst links first; return after some verdicts what was said and what was true."""
    p = rng.beta(0.4, 6, n)
    p = p[np.argsort(-p)]
    is_wrong = rng.random(n) < expit(offset + slope * logit(np.clip(p, 1e-6, 1 - 1e-6)))
    for k in after:
        yield k, expected_left(p[k:], calibrate(p[:k], is_wrong[:k]), level=level), int(is_wrong[k:].sum())


@pytest.mark.parametrize(
    ("offset", "slope"), [(0.0, 1.0), (0.6, 1.0), (-0.6, 1.0), (0.0, 0.8), (0.5, 1.2), (-0.5, 0.8)]
)
def test_the_interval_holds_the_truth(offset, slope):
    """Whatever the stated probabilities are: in at least about 90 % of the simulations it is inside."""
    rng = np.random.default_rng(2)
    inside = {k: [] for k in (25, 200)}
    for _ in range(100):
        for k, left, truth in simulated_review(rng, offset, slope, inside):
            inside[k].append(left.low <= truth <= left.high)
    for k, found in inside.items():
        assert np.mean(found) >= 0.83, (k, np.mean(found))  # 90 % but for the chance of 100 simulations


def test_without_calibration_it_would_not():
    """Else the test above could not fail: probabilities taken at their word miss the truth."""
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(100):
        p = rng.beta(0.4, 6, 1500)
        truth = (rng.random(1500) < expit(0.6 + logit(np.clip(p, 1e-6, 1)))).sum()
        left = expected_left(p, SURE)
        inside.append(left.low <= truth <= left.high)
    assert np.mean(inside) < 0.5


@pytest.mark.parametrize(("offset", "slope"), [(0.0, 1.0), (0.6, 1.0), (-0.6, 1.0), (0.0, 0.8)])
def test_who_stops_when_told_to_has_few_errors_left(offset, slope):
    """The rule is asked again and again; where it says stop, the promise holds in 95 % of the simulations."""
    rng, rule = np.random.default_rng(4), StoppingRule()
    kept, stopped_at = [], []
    for _ in range(50):
        for k, left, truth in simulated_review(rng, offset, slope, range(0, 1500, 100), level=rule.level):
            if rule.is_reached(left, 1500):
                kept.append(100 * truth / 1500 <= rule.per_100)
                stopped_at.append(k)
                break
    assert len(kept) == 50
    assert np.mean(kept) >= 0.86, np.mean(kept)  # 95 % but for the chance of 50 simulations
    assert 0 < np.mean(stopped_at) < 1000  # it does say stop before all is reviewed, and not at once


def test_the_level_of_the_rule_is_that_of_the_bound():
    left = Expected(3.0, 1, 6, 5, 700, 0.9)
    assert StoppingRule(1.0, 0.9).bound(left, 1000) == 0.5
    assert StoppingRule(0.5, 0.9).is_reached(left, 1000)
    assert not StoppingRule(0.4, 0.9).is_reached(left, 1000)
    with pytest.raises(DataError, match=r"level 0\.9\b"):
        StoppingRule(0.4, 0.95).is_reached(left, 1000)


@pytest.mark.parametrize("act", [
    lambda: calibrate([0.1], [True, False]), lambda: calibrate([np.nan], [True]),
    lambda: expected_left([np.nan], SURE), lambda: expected_left([0.1], SURE, level=1.0),
])  # fmt: skip
def test_what_is_wrong_is_said(act):
    with pytest.raises(DataError):
        act()
