"""Confidence: how sure each chosen assignment is, and what the best alternative to it is."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _conflict_kernels as kernels
from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.features import FEATURES
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.forest import Forest

__all__ = [
    "LINK_FEATURES",
    "Rivals",
    "cheapest_rivals",
    "error_probability",
    "impact",
    "link_features",
    "ratio",
]

Column = NDArray[np.float64]
Rows = NDArray[np.float32]

_SHIFT = 0.01

LINK_FEATURES: tuple[str, ...] = (
    *FEATURES,
    "probability",  # of the assignment, by the forest of costs
    "cost_per_leaf",
    "regret_per_leaf",
    "ratio",  # log of (9)
    "rival_cost",  # of the cheapest conflict, per leaf
    "rival_probability",  # the greatest of any conflict
    "leaf_share",  # how many smallest regions hang on it, logarithm
)
"""What the forest looks at that says how likely a chosen assignment is wrong."""


@dataclass(frozen=True, eq=False)
class Rivals:
    """The cheapest other assignment that conflicts with each chosen one, and its cost; −1 and ∞: none."""

    which: NDArray[np.int32]
    cost: Column

    def __getitem__(self, rows: NDArray[np.intp]) -> "Rivals":
        return Rivals(self.which[rows], self.cost[rows])


def cheapest_rivals(
    hypotheses: Hypotheses, assignments: Assignments, costs: Column, chosen: NDArray[np.intp]
) -> Rivals:
    r"""Return :math:`\bar c_i = \min c_{\perp i}` (8): the least cost of those in direct conflict with i.

    In direct conflict are assignments that come from, or go to, a region that overlaps one that i comes from,
    or goes to. Takes time in proportion to assignments and to depths of trees: two least costs are kept for
    every region and for all that it holds.
    """
    which, best = np.full(len(chosen), -1, np.int32), np.full(len(chosen), np.inf)
    for members in (assignments.sources, assignments.targets):
        starts, listed = kernels.lists(members, len(hypotheses))
        kernels.cheapest_conflict(
            chosen, members, costs, hypotheses.parent, hypotheses.last, starts, listed, best, which
        )
    return Rivals(which, best)


def ratio(costs: Column, rivals: Rivals, chosen: NDArray[np.intp]) -> Column:
    r"""Return the paper's confidence :math:`\bar c_i / c_i` (9) of each chosen assignment.

    A ratio has no meaning where a cost is 0 or below, as with segmentation costs. So all costs are shifted
    alike by what makes the least of them 0.01, if it is below that; the order of the rest changes little.
    """
    own = costs[chosen]
    shift = max(0.0, _SHIFT - float(costs.min(initial=_SHIFT)))
    return np.asarray((rivals.cost + shift) / (own + shift))


def link_features(
    hypotheses: Hypotheses,
    assignments: Assignments,
    features: Rows,
    probability: Column,
    costs: Column,
    regret: Column,
    chosen: NDArray[np.intp],
    rivals: tuple[Rivals, Rivals] | None = None,
) -> Rows:
    """Return the features of chosen assignments, in the order of `LINK_FEATURES`.

    Parameters
    ----------
    hypotheses, assignments, features
        All of them, not only those chosen.
    probability, costs
        Of all assignments.
    regret
        Of those chosen.
    chosen
        Which assignments.
    rivals
        Of those chosen, by costs and by −probability, where they are known already: what is chosen beside them
        does not matter.
    """
    if rivals is None:
        rivals = (cheapest_rivals(hypotheses, assignments, costs, chosen),
                  cheapest_rivals(hypotheses, assignments, -probability, chosen))  # fmt: skip
    cheapest, likely = rivals
    leaves = hypotheses.leaves_under(assignments.involved[chosen])
    rival_leaves = hypotheses.leaves_under(assignments.involved[cheapest.which])
    far = 50.0  # stands for: there is none
    own = [
        probability[chosen], costs[chosen] / leaves, np.minimum(regret / leaves, far),
        np.log(np.clip(ratio(costs, cheapest, chosen), 1e-3, 1e3)),
        np.where(np.isfinite(cheapest.cost), cheapest.cost / rival_leaves, far),
        np.where(np.isfinite(likely.cost), -likely.cost, 0), np.log(leaves),
    ]  # fmt: skip
    return np.concatenate((features[chosen], np.stack(own, axis=1).astype(np.float32)), axis=1)


def error_probability(
    hypotheses: Hypotheses,
    assignments: Assignments,
    rows: Rows,
    chosen: NDArray[np.intp],
    forest: Forest | None,
) -> Column:
    """Return how likely each chosen assignment is wrong: 0 where only the volume ends.

    Without a forest it is what the forest of costs leaves: 1 − probability.
    """
    if forest is not None and forest.names != LINK_FEATURES:
        raise DataError(f"The forest is on {len(forest.names)} features", f"{len(LINK_FEATURES)} of links",
                        "Give one that train_errors made")  # fmt: skip
    guess = 1.0 - rows[:, LINK_FEATURES.index("probability")].astype(np.float64)
    found = guess if forest is None else forest.probability(rows)
    return np.where(is_at_border(hypotheses, assignments)[chosen], 0.0, found)


def impact(
    hypotheses: Hypotheses, assignments: Assignments, chosen: NDArray[np.intp], p_error: Column
) -> Column:
    r"""Return what an error would spoil, in pixels, times its probability.

    A link that is wrong spoils what hangs on it: the smaller one of what lies before and behind it. Of an
    object whose links form a tree, cutting one leaves two parts; where there are loops the parts hang together
    otherwise, and the smaller side counts what is nearer to that end of the object in z.
    """
    sources, targets = assignments.sources[chosen], assignments.targets[chosen]
    linked = (sources[:, 0] >= 0) & (targets[:, 0] >= 0)
    slices = np.where(linked, hypotheses.z[np.maximum(sources[:, 0], 0)], -1)
    order = np.argsort(slices, kind="stable")
    bounds = np.searchsorted(slices[order], np.arange(hypotheses.n_slices + 1))
    by_slice = [order[a:b] for a, b in pairwise(bounds.tolist())]
    above, below = (np.append(hypotheses.area.astype(np.float64), 0) for _ in range(2))  # the last is for −1
    for rows in by_slice:  # pixels of all that a region comes from
        _hand_on(above, sources[rows], targets[rows])
    for rows in by_slice[::-1]:  # and goes into
        _hand_on(below, targets[rows], sources[rows])
    up, down = above[sources].sum(axis=1), below[targets].sum(axis=1)
    return np.asarray(p_error * np.where(linked, np.minimum(up, down), up + down))


def _hand_on(pixels: Column, source: NDArray[np.int32], target: NDArray[np.int32]) -> None:
    """Add what the sources of links have to each of their targets; −1, which is no one, keeps 0."""
    np.add.at(pixels, target, pixels[source].sum(axis=1)[:, None])
    pixels[-1] = 0
