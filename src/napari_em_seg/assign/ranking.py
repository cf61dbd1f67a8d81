"""How well a confidence finds errors: the paper's figure 11, the area under the curve, what comes first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from napari_em_seg.errors import DataError

__all__ = ["Figure11", "auc", "figure_11", "share_of_errors_in_lowest"]

Column = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Figure11:
    """Errors among the most confident links.

    Attributes
    ----------
    share
        Of the links, the most confident ones: from more than 0 to 1.
    errors
        Errors among them for each of them.
    """

    share: Column
    errors: Column


def figure_11(errors: NDArray[np.generic], confidence: NDArray[np.generic], steps: int = 100) -> Figure11:
    r"""Return the relative errors that the k % most confident links contribute.

    .. math:: e(k) = \frac{1}{k n} \sum_{i\ \text{among the}\ k n\ \text{most confident}} \text{errors}_i

    Links of equal confidence come in no order, so each stands for the mean of them all.

    Parameters
    ----------
    errors
        Of each link: wrong or not, or how many it contributes.
    confidence
        The higher the surer, of whatever scale; a probability of error goes in with a minus.
    steps
        Points of the curve.
    """
    values = _sorted(errors, confidence)
    if steps < 1 or not len(values):
        raise DataError(f"The curve is to have {steps} points, of {len(values)} links", "at least one of both",
                        "Give chosen links")  # fmt: skip
    total = np.concatenate(([0.0], np.cumsum(values[::-1])))
    share = np.arange(1, steps + 1) / steps
    return Figure11(share, np.interp(share * len(values), np.arange(len(total)), total) / (share * len(values)))


def auc(is_wrong: NDArray[np.bool_], confidence: NDArray[np.generic]) -> float:
    """Return how often a wrong link has a lower confidence than a right one, equal ones counted half.

    1 is a perfect order, 0.5 none. It is not a number where all links are right, or all wrong.
    """
    _check(is_wrong, confidence)
    wrong = np.asarray(is_wrong, np.bool_)
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return float("nan")
    ranks = rankdata(-np.asarray(confidence, np.float64))
    return float((ranks[wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


def share_of_errors_in_lowest(
    errors: NDArray[np.generic], confidence: NDArray[np.generic], share: float = 0.1
) -> float:
    """Return which part of all errors the least confident links hold; not a number where there are none."""
    if not 0 <= share <= 1:
        raise DataError(f"The share of links is {share}", "a number from 0 to 1", "Try 0.1")
    values = _sorted(errors, confidence)
    total = np.concatenate(([0.0], np.cumsum(values)))
    if total[-1] == 0:
        return float("nan")
    return float(np.interp(share * len(values), np.arange(len(total)), total) / total[-1])


def _sorted(errors: NDArray[np.generic], confidence: NDArray[np.generic]) -> Column:
    """Return the errors, least confident first, evened out among links of equal confidence."""
    _check(errors, confidence)
    order = np.argsort(np.asarray(confidence, np.float64), kind="stable")
    _, group = np.unique(np.asarray(confidence, np.float64)[order], return_inverse=True)
    values = np.asarray(errors, np.float64)[order]
    means = np.bincount(group, values) / np.bincount(group) if len(values) else np.zeros(0)
    return np.asarray(means[group])


def _check(errors: NDArray[np.generic], confidence: NDArray[np.generic]) -> None:
    if errors.shape != confidence.shape or errors.ndim != 1 or np.isnan(np.asarray(confidence, float)).any():
        raise DataError(f"Errors are of the shape {errors.shape}, confidences of {confidence.shape}",
                        "one for each link, each a number", "Leave out links without a confidence")  # fmt: skip
