"""How sure a mask is: what is known of it, and the probability that is learned from that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["WEIGHTS", "Evidence", "evidence_of", "fit", "probability"]

WEIGHTS = (
    "confidence offset",
    "confidence of probability",
    "confidence of overlap",
    "confidence of growth",
)
"""Under these names the weights of `probability` stand on a card."""


class Evidence(NamedTuple):
    """What is known of a mask.

    Attributes
    ----------
    probability
        Mean of the predicted probabilities within it.
    overlap
        Intersection over union with the mask on the slice before.
    growth
        Logarithm of the ratio of both areas, without its sign.
    """

    probability: float
    overlap: float
    growth: float


def evidence_of(mask: Tensor, before: Tensor, predicted: Tensor | None = None) -> Evidence:
    """Compare the mask on a slice (y, x) with that on the slice before, in the same window.

    ``predicted`` are the network's probabilities, where it did not have the last word on the mask.
    """
    is_in, was_in = mask > 0.5, before > 0.5
    now, old, both = (int(x.sum()) for x in (is_in, was_in, is_in & was_in))
    mean = float((mask if predicted is None else predicted)[is_in].float().mean()) if now else 0.0
    return Evidence(mean, both / max(now + old - both, 1), abs(float(np.log((now + 1) / (old + 1)))))


def probability(evidence: Evidence, weights: Sequence[float] | None) -> float:
    r"""Return how probable it is that a mask overlaps the true section by more than half (IoU > 0.5).

    With p, u and a the probability, overlap and growth of `Evidence`,

    .. math:: \sigma(w_0 + w_1 \operatorname{logit} p + w_2 u + w_3 a).

    Without weights it is p.
    """
    if weights is None:
        return evidence.probability
    return float(1 / (1 + np.exp(-_terms([evidence])[0] @ np.asarray(weights, float))))


def fit(evidence: Sequence[Evidence], is_right: Sequence[bool]) -> tuple[float, ...] | None:
    """Return the weights of `probability` by logistic regression; None where all are right, or all wrong."""
    from sklearn.linear_model import LogisticRegression

    if len(set(is_right)) < 2:
        return None
    model = LogisticRegression(C=10.0, max_iter=1000).fit(_terms(evidence)[:, 1:], np.asarray(is_right))
    return float(model.intercept_[0]), *(float(w) for w in model.coef_[0])


def _terms(evidence: Sequence[Evidence]) -> NDArray[np.float64]:
    p, overlap, growth = np.array(evidence, float).T
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.stack([np.ones_like(p), np.log(p / (1 - p)), overlap, growth], axis=1)
