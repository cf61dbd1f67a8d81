"""How many errors are left among the links that nobody has looked at, with an interval, and when to stop."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, expit, gammaincc, logit

from napari_em_seg.errors import DataError

__all__ = ["Calibration", "Expected", "StoppingRule", "calibrate", "expected_left"]

Floats = NDArray[np.float64]

_EDGE = 1e-6
_BINS = 400
_WIDEST = 14.0  # logit of _EDGE is −13.8
_POINTS = 13
_REACH = 3.5


@dataclass(frozen=True, eq=False)
class Calibration:
    r"""How stated probabilities p relate to true ones q, as far as verdicts tell.

    .. math:: \operatorname{logit} q = \alpha + \beta \operatorname{logit} p

    Attributes
    ----------
    offset, slope
        Pairs (α, β) that are possible (g,).
    weight
        Of each pair; together 1.
    """

    offset: Floats
    slope: Floats
    weight: Floats

    def __call__(self, p: ArrayLike) -> Floats:
        """Return the true probabilities, averaged over what is possible."""
        x = _logit(p)
        return np.asarray(self.weight @ expit(self.offset[:, None] + self.slope[:, None] * x))


@dataclass(frozen=True)
class Expected:
    """Errors among links that are open.

    Attributes
    ----------
    mean
        How many are expected.
    low, high
        Between them lies the true number with the probability ``level``.
    upper
        Below or at it lies the true number with the probability ``level``, seen from that side alone.
    n_open
        Links that are open.
    """

    mean: float
    low: int
    high: int
    upper: int
    n_open: int
    level: float


def calibrate(p: ArrayLike, is_wrong: ArrayLike, *, spread: tuple[float, float] = (0.7, 0.25)) -> Calibration:
    r"""Learn from verdicts how far stated probabilities can be trusted.

    Before any verdict they are, within limits: :math:`\alpha \sim N(0, s_\alpha)`,
    :math:`\beta \sim N(1, s_\beta)`. Verdicts shrink what is possible to what they agree with. Which links were
    looked at, the worst ones first, does not matter, since only the outcome given p enters.

    What this cannot see is an error that stated probabilities do not reflect at all, such as 1 % among links
    that all have p = 0.0001, unless some of these are looked at, too.

    Parameters
    ----------
    p
        What was stated of each link before the verdict.
    is_wrong
        The verdict.
    spread
        The standard deviations :math:`s_\alpha` and :math:`s_\beta`.
    """
    x, y = _logit(p), np.asarray(is_wrong, float)
    if x.shape != y.shape or x.ndim != 1 or not np.isfinite(x).all():
        raise DataError(f"There are {x.size} probabilities for {y.size} verdicts", "one number for each",
                        "Leave out verdicts on links without a probability")  # fmt: skip
    precision = np.diag(1 / np.square(spread))
    mode, covariance = _laplace(x, y, precision)
    steps = np.linspace(-_REACH, _REACH, _POINTS)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    points = mode + grid @ np.linalg.cholesky(covariance).T
    log_density = -0.5 * np.einsum("gi,ij,gj->g", points - (0, 1), precision, points - (0, 1))
    log_density += _log_likelihood(points, x, y)
    weight = np.exp(log_density - log_density.max())
    return Calibration(points[:, 0], points[:, 1], weight / weight.sum())


def _log_likelihood(points: Floats, x: Floats, y: Floats) -> Floats:
    """Return it for each point, with the verdicts counted in bins, so that many cost no more than a few."""
    place, n, centre = _histogram(x)
    wrong = np.bincount(place, y, _BINS)[n > 0]
    n, centre = n[n > 0], centre[n > 0]
    z = points[:, :1] + points[:, 1:] * centre
    return np.asarray(wrong @ -np.logaddexp(0, -z).T + (n - wrong) @ -np.logaddexp(0, z).T)


def _laplace(x: Floats, y: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Return the most probable pair (α, β), by Newton's steps, and the covariance around it."""
    design = np.stack((np.ones_like(x), x), axis=1)
    pair = np.array([0.0, 1.0])
    for _ in range(50):
        q = expit(design @ pair)
        gradient = design.T @ (y - q) - precision @ (pair - (0, 1))
        hessian = (design.T * (q * (1 - q))) @ design + precision
        step = np.linalg.solve(hessian, gradient)
        pair = pair + step / max(1.0, float(np.abs(step).max()))  # at most 1, else it may overshoot
        if np.abs(step).max() < 1e-9:
            break
    q = expit(design @ pair)
    return pair, np.linalg.inv((design.T * (q * (1 - q))) @ design + precision)


def expected_left(p: ArrayLike, calibration: Calibration, *, level: float = 0.9) -> Expected:
    r"""Return how many of the open links are wrong.

    For each possible calibration the number of errors is the sum of independent draws with the probabilities
    :math:`q_i` (Poisson-binomial). It is taken as binomial with the same mean and variance:
    :math:`n' = \mu^2 / \sum q_i^2` draws of the probability :math:`\mu / n'`. The mixture of these, by the
    weight of each calibration, gives the interval; so it also holds how little a few verdicts say.

    Parameters
    ----------
    p
        What is stated of each open link.
    calibration
        What verdicts say about that; ``calibrate([], [])`` before there is one.
    level
        Probability that the true number is within the interval.
    """
    if not 0 < level < 1:
        raise DataError(f"The level is {level}", "a probability between 0 and 1", "Try 0.9")
    x = _logit(p)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise DataError(f"Of {x.size} probabilities some are not numbers", "one for each open link",
                        "Leave out links without a probability")  # fmt: skip
    _, n, centre = _histogram(x)
    q = expit(calibration.offset[:, None] + calibration.slope[:, None] * centre)
    mean, square = q @ n, np.square(q) @ n
    low, high, upper = (
        _quantile(share, mean, square, calibration.weight)
        for share in ((1 - level) / 2, (1 + level) / 2, level)
    )
    return Expected(float(calibration.weight @ mean), low, high, upper, x.size, level)


def _histogram(x: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the bin of each logit, how many are in each bin, and their mean."""
    place = np.clip((x / _WIDEST + 1) * (_BINS / 2), 0, _BINS - 1).astype(np.int64)
    n = np.bincount(place, minlength=_BINS).astype(float)
    return place, n, np.bincount(place, x, _BINS) / np.maximum(n, 1)


def _quantile(share: float, mean: Floats, square: Floats, weight: Floats) -> int:
    """Return the least count that is not exceeded with this probability."""
    low, high = -1, int(mean.max() + 40 * math.sqrt(mean.max()) + 40)
    while high - low > 1:
        middle = (low + high) // 2
        if float(weight @ _at_most(middle, mean, square)) >= share:
            high = middle
        else:
            low = middle
    return high


def _at_most(k: int, mean: Floats, square: Floats) -> Floats:
    """Return the probability of k errors or fewer for each pair of mean and sum of squares."""
    safe_mean, safe_square = np.maximum(mean, 1e-12), np.maximum(square, 1e-15)
    draws = safe_mean**2 / safe_square
    binomial = betainc(np.maximum(draws - k, 1e-9), k + 1, 1 - np.minimum(1, safe_square / safe_mean))
    binomial = np.where(k >= draws, 1.0, binomial)
    return np.asarray(np.where(draws > 1e9, gammaincc(k + 1, safe_mean), binomial))  # then it is Poisson's


def _logit(p: ArrayLike) -> Floats:
    return np.asarray(logit(np.clip(np.asarray(p, float), _EDGE, 1 - _EDGE)))


@dataclass(frozen=True)
class StoppingRule:
    """Stop when there are surely few errors left: with ``level``, at most ``per_100`` among 100 links.

    The links that were reviewed count among the 100, since they are right by then. ``level`` is that of one
    look; who asks again and again has more chances to hear "stop" too early, so it is higher than what is
    promised: 0.98 for a promise that is kept in 95 % of reviews at least (measured by `benchmarks/review.py`).
    """

    per_100: float = 1.0
    level: float = 0.98

    def bound(self, left: Expected, n_links: int) -> float:
        """Return the errors among 100 links that are surely not exceeded."""
        if left.level != self.level:
            raise DataError(f"The errors left are of the level {left.level}", f"that of the rule, {self.level}",
                            "Ask for the errors left at this level")  # fmt: skip
        return 100 * left.upper / max(1, n_links)

    def is_reached(self, left: Expected, n_links: int) -> bool:
        """Whether to stop."""
        return self.bound(left, n_links) <= self.per_100
