"""Retraining of a session: what people said about its links, learned in a second or two, without a screen."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.costs import Prices, assignment_costs, probability_of
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.training import samples_of, train_costs
from napari_em_seg.review import Operation, Reconstruction, Report, Samples, Session, retrain

__all__ = ["HALF_WAY", "retrain_session"]

Column = NDArray[np.float64]

HALF_WAY = 60.0
"""Verdicts after which what was learned from them counts as much as what was known before."""


@dataclass(frozen=True, eq=False)
class _Learned:
    """New costs, as `review.Trained`."""

    costs: Column
    nothing: Column
    model: Mapping[str, Any]
    probability: Column

    def predict(self, links: NDArray[np.int64], /) -> Column:
        """Return the probability that assignments are right."""
        return self.probability[links]


def retrain_session(session: Session, **how: Any) -> tuple[Report, Operation | None]:
    r"""Learn from the verdicts of a session; the costs change if verdicts that were held out say so.

    A forest learns from what was accepted, chosen and rejected, and from all that conflicts with what is right.
    A few verdicts cannot replace what was learned from whole volumes, so both are mixed,

    .. math:: \operatorname{logit} p = (1 - w) \operatorname{logit} p_0 + w \operatorname{logit} p_1,
        \qquad w = n / (n + 60)

    with n verdicts, :math:`p_0` from the costs so far and :math:`p_1` from the forest.
    """
    made = session.reconstruction
    hypotheses, assignments = made.hypotheses(), made.assignments
    prices = Prices(**(made.model or {}).get("prices", {}))
    before = probability_of(hypotheses, assignments, made.costs, prices)

    def trainer(samples: Samples) -> _Learned:
        return _learned(made, hypotheses, assignments, prices, before, samples)

    return retrain(session, trainer, lambda links: before[links], **how)


def _learned(
    made: Reconstruction, hypotheses: Hypotheses, assignments: Assignments, prices: Prices, before: Column,
    samples: Samples,
) -> _Learned:  # fmt: skip
    right = np.zeros(len(assignments), np.bool_)
    right[samples.link[samples.is_right]] = True
    listed = samples_of(hypotheses, assignments, made.features, right)
    wrong = samples.link[~samples.is_right]
    features = np.concatenate((listed.features, made.features[wrong]))
    is_right = np.concatenate((listed.is_right, np.zeros(len(wrong), np.bool_)))
    forest = train_costs([type(listed)(features, is_right)])
    n = len(np.unique(samples.verdict))
    share = n / (n + HALF_WAY)
    mixed = (1 - share) * _logit(before) + share * _logit(forest.probability(made.features))
    probability = np.asarray(expit(mixed))
    costs, nothing = assignment_costs(hypotheses, assignments, probability, prices)
    digest = hashlib.blake2b(np.ascontiguousarray(costs).tobytes(), digest_size=8).hexdigest()
    model = {**(made.model or {}), "verdicts": n, "costs": digest}
    return _Learned(costs, nothing, model, probability)


def _logit(p: Column) -> Column:
    return np.asarray(logit(np.clip(p, 1e-4, 1 - 1e-4)))
