"""Training: from assignments that are right to a forest that says how probable each one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _conflict_kernels as kernels
from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.features import FEATURES
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.forest import Forest, fit_forest

__all__ = ["Samples", "conflicting", "samples_of", "train_costs"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features (n, f) of assignments, and which of these are right."""

    features: NDArray[np.float32]
    is_right: Mask


def conflicting(hypotheses: Hypotheses, assignments: Assignments, chosen: Mask) -> Mask:
    """Return which assignments cannot be chosen together with at least one of those chosen, and are not these.

    Two assignments conflict if targets of both overlap, or sources of both: each region comes from one
    assignment and goes into one.
    """
    found = np.zeros(len(assignments), np.bool_)
    for members in (assignments.sources, assignments.targets):
        found |= kernels.in_conflict(members, hypotheses.parent, hypotheses.last, chosen)
    return found & ~chosen


def samples_of(
    hypotheses: Hypotheses, assignments: Assignments, features: NDArray[np.float32], right: Mask
) -> Samples:
    """Return what can be learned from assignments that are right: these, and whatever conflicts with them.

    Only positive samples have to be given, since a right assignment makes all those wrong that conflict with
    it. Ends at the border of the volume teach nothing.
    """
    inside = ~is_at_border(hypotheses, assignments)
    rows = np.flatnonzero((right | conflicting(hypotheses, assignments, right)) & inside)
    return Samples(features[rows], right[rows])


def train_costs(
    samples: Sequence[Samples],
    *,
    seed: int = 0,
    n_trees: int = 100,
    negatives: int = 12,
    card: Mapping[str, Any] | None = None,
) -> Forest:
    """Train the forest of costs, one for all kinds of assignments.

    Parameters
    ----------
    samples
        Of one or several volumes.
    seed
        The same seed and samples give the same forest.
    n_trees
        Of the forest; beyond a hundred nothing was gained.
    negatives
        Most wrong samples for each right one. If there are more, some are drawn, and each counts for those left
        out: so the forest's probabilities stay what they would be.
    card
        What else to write down.
    """
    if not samples or negatives < 1:
        raise DataError(f"There are {len(samples)} sets of samples, and {negatives} negatives to each positive",
                        "at least one of both", "Give reviewed links or a truth")  # fmt: skip
    features = np.concatenate([part.features for part in samples])
    is_right = np.concatenate([part.is_right for part in samples])
    wrong, n_most = np.flatnonzero(~is_right), negatives * int(is_right.sum())
    weights = np.ones(len(is_right))
    if len(wrong) > n_most > 0:
        weights[wrong] = len(wrong) / n_most
        drawn = np.random.default_rng(seed).choice(wrong, n_most, replace=False)
        rows = np.sort(np.concatenate((np.flatnonzero(is_right), drawn)))
        features, is_right, weights = features[rows], is_right[rows], weights[rows]
    return fit_forest(
        FEATURES, features, is_right, weights=weights, seed=seed, n_trees=n_trees, per_node=12, card=card
    )
