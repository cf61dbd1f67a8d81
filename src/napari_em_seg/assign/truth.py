"""What is right: the assignments that come nearest to a labelled truth, found by the same program."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, Assignments
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike

__all__ = ["TrueIds", "true_ids", "truth_costs"]

_FRAGMENT = 20.0  # pixels: two regions where one would do have to be better by so many
_BREAK = 60.0  # pixels: what an end is worth where the object goes on


@dataclass(frozen=True, eq=False)
class TrueIds:
    """The true object of each hypothesis.

    Attributes
    ----------
    ids
        The object that most labelled pixels of each hypothesis are of; 0 where none is labelled.
    right, wrong
        Pixels of it, and labelled pixels of others.
    present
        Objects in each slice.
    """

    ids: NDArray[np.int64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    present: tuple[NDArray[np.int64], ...]


def true_ids(hypotheses: Hypotheses, truth: ArrayLike) -> TrueIds:
    """Return the true object of each hypothesis; 0 in the truth stands for membrane or not labelled."""
    if tuple(truth.shape) != hypotheses.nodes.shape:
        raise DataError(f"The truth is {tuple(truth.shape)} and the volume {hypotheses.nodes.shape} (z, y, x)",
                        "labels of the same shape", "Give the labels that belong to this volume")  # fmt: skip
    n = len(hypotheses)
    ids, right, total = (np.zeros(n, np.int64) for _ in range(3))
    present = []
    for z in range(hypotheses.n_slices):
        labels, first, end = np.asarray(truth[z]), *(int(v) for v in hypotheses.starts[z : z + 2])
        known, compact = np.unique(labels, return_inverse=True)
        present.append(known[known != 0].astype(np.int64))
        inside = (hypotheses.nodes[z] >= 0) & (labels != 0)
        rows = hypotheses.nodes[z][inside].astype(np.int64) - first
        keys = rows * len(known) + compact.reshape(labels.shape)[inside]
        keys, counts = np.unique(keys, return_counts=True)
        own: list[dict[int, int]] = [{} for _ in range(end - first)]
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            own[key // len(known)][key % len(known)] = count
        for i in range(end - 1, first - 1, -1):  # what a region holds comes after it, and is complete by then
            shares = own[i - first]
            if shares:
                best = max(shares, key=lambda key: (shares[key], -key))
                ids[i], right[i], total[i] = known[best], shares[best], sum(shares.values())
            above = int(hypotheses.parent[i]) - first
            if above >= 0:
                for key, count in shares.items():
                    own[above][key] = own[above].get(key, 0) + count
    return TrueIds(ids, right, total - right, tuple(present))


def truth_costs(
    hypotheses: Hypotheses, assignments: Assignments, true: TrueIds
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return costs, and those of leaving leaves out, whose optimum is the best answer that there can be.

    In pixels: a region costs what it holds of other objects, and a little for itself, so that none is parted
    without need; leaving a leaf out costs what it holds; ending where the object goes on costs something, and
    linking two objects more than all else.
    """
    never = 10.0 * float(hypotheses.nodes[0].size)
    involved = assignments.involved
    is_there = involved >= 0
    used = np.where(true.ids > 0, true.wrong + _FRAGMENT, hypotheses.area + _FRAGMENT)
    costs = np.where(is_there, used[involved], 0).sum(axis=1) / 2
    ids = np.where(is_there, true.ids[involved], -1)
    most, least = ids.max(axis=1), np.where(is_there, ids, np.iinfo(np.int64).max).min(axis=1)
    costs = costs + np.where((most != least) | (least == 0), never, 0.0)
    goes_on = np.zeros((2, len(hypotheses)), np.bool_)
    for z in range(hypotheses.n_slices):
        here = slice(*hypotheses.starts[z : z + 2])
        for side, other in enumerate((z - 1, z + 1)):
            if 0 <= other < hypotheses.n_slices:
                goes_on[side][here] = np.isin(true.ids[here], true.present[other])
    for kind, side, members in (
        (APPEARANCE, 0, assignments.targets[:, 0]), (DISAPPEARANCE, 1, assignments.sources[:, 0])
    ):  # fmt: skip
        ends = assignments.kind == kind
        costs[ends] = used[members[ends]] / 2 + np.where(goes_on[side][members[ends]], _BREAK, 0.0)
    leaves = hypotheses.is_leaf
    return costs, (true.right + true.wrong)[leaves].astype(np.float64)
