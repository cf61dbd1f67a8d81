"""What comes out of a solution: objects across slices, labels, and the check that all fits together."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import watershed

from napari_em_seg.assign import _result_kernels as kernels
from napari_em_seg.assign.assignments import (
    APPEARANCE,
    CONTINUATION,
    DISAPPEARANCE,
    KINDS,
    MERGE,
    SPLIT,
    Assignments,
)
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["check_forest", "label_table", "label_volume", "links", "objects", "objects_linked", "used"]

Index = NDArray[np.int32]
Mask = NDArray[np.bool_]

_ENDS = {CONTINUATION: (1, 1), SPLIT: (1, 2), MERGE: (2, 1), APPEARANCE: (0, 1), DISAPPEARANCE: (1, 0)}


def used(hypotheses: Hypotheses, assignments: Assignments, chosen: Mask) -> Mask:
    """Return which hypotheses take part in a chosen assignment."""
    check_chosen(assignments, chosen)
    involved = assignments.involved[chosen]
    found = np.zeros(len(hypotheses), np.bool_)
    found[involved[involved >= 0]] = True
    return found


def links(assignments: Assignments, chosen: Mask) -> tuple[Index, Index, Index]:
    """Return the links that chosen assignments make, as columns: assignment, source and target.

    A continuation makes one, a split or a merge two, an end none.
    """
    check_chosen(assignments, chosen)
    rows = np.flatnonzero(chosen).astype(np.int32)
    sources, targets = assignments.sources[rows], assignments.targets[rows]
    both = (sources[:, :, None] >= 0) & (targets[:, None, :] >= 0)
    k, i, j = np.nonzero(both)
    return rows[k], sources[k, i], targets[k, j]


def objects(hypotheses: Hypotheses, assignments: Assignments, chosen: Mask) -> Index:
    """Return the object of each hypothesis; 0 where it is not used. See `objects_linked`."""
    check_chosen(assignments, chosen)
    return objects_linked(assignments.sources[chosen], assignments.targets[chosen], len(hypotheses))


def objects_linked(sources: Index, targets: Index, n: int) -> Index:
    """Return the object of each of n hypotheses, from both sides of all links; 0 where it takes part in none.

    Those linked across slices, directly or through others, are one object, and so are the branches of a split
    or a merge. An object is called by the number of its first hypothesis, plus one. So objects are numbered
    slice by slice, and one keeps its number whatever becomes of others.
    """
    ends = np.concatenate((sources, targets), axis=1)
    pairs = np.concatenate((ends[:, [0, 1]], ends[:, [2, 3]], ends[:, [0, 2]]))
    a, b = pairs[(pairs >= 0).all(axis=1)].T
    graph = sparse.csr_array((np.ones(len(a), np.bool_), (a, b)), shape=(n, n))
    n_parts, part = connected_components(graph, directed=False)
    first = np.full(n_parts, n)
    used = np.unique(ends[ends >= 0])
    np.minimum.at(first, part[used], used)
    numbers = np.zeros(n, np.int32)
    numbers[used] = first[part[used]] + 1
    return numbers


def label_table(numbers: Index, parent: Index) -> NDArray[np.uint32]:
    """Return the object of each hypothesis or of the used one that holds it; the last entry, 0, is for −1.

    So the table, indexed with the smallest hypothesis of each pixel, gives the object of each pixel.
    """
    around = kernels.used_around(numbers > 0, parent)
    return np.append(np.where(around >= 0, numbers[around], 0), 0).astype(np.uint32)


def label_volume(
    hypotheses: Hypotheses,
    numbers: Index,
    *,
    fill: float = 0.0,
    boundary: ArrayLike | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> NDArray[np.uint32]:
    """Return the object of each pixel (z, y, x): that of the used hypothesis which holds it; 0 where none does.

    Parameters
    ----------
    hypotheses
        Of all slices.
    numbers
        The object of each, 0 where it is not used: from `objects`.
    fill
        How far objects grow within their slices into what is not labelled, in pixels, since the truth often
        leaves no gap between them. 0: not at all.
    boundary
        A map (z, y, x) that they meet on the ridges of. None: each pixel goes to the nearest object.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every slice; once it says true, the rest stays 0.
    """
    _check_labelling(hypotheses, numbers, fill, boundary)
    table = label_table(numbers, hypotheses.parent)
    labels = np.zeros(hypotheses.nodes.shape, np.uint32)

    def one(z: int) -> bool:
        if cancelled():
            return False
        labels[z] = table[hypotheses.nodes[z]]
        if fill > 0:
            labels[z] = _filled(labels[z], fill, None if boundary is None else np.asarray(boundary[z]))
        return True

    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        for done, is_there in enumerate(pool.map(one, range(hypotheses.n_slices)), 1):
            if is_there and progress is not None:
                progress(done, hypotheses.n_slices)
    return labels


def check_forest(hypotheses: Hypotheses, assignments: Assignments, chosen: Mask) -> None:
    """Raise a DataError unless chosen assignments fit together.

    Each links a slice with the next one and is of its kind; every hypothesis that is used comes from one
    assignment and goes into one; and no two of those overlap.
    """
    check_chosen(assignments, chosen)
    picked = assignments[chosen]
    names = np.flatnonzero(chosen)
    _check_kinds(picked, names)
    _check_slices(hypotheses, picked, names)
    n = len(hypotheses)
    incoming, outgoing = (
        np.bincount(side[side >= 0], minlength=n) for side in (picked.targets, picked.sources)
    )
    for i in np.flatnonzero((incoming != outgoing) | (incoming > 1))[:1]:
        raise _unfit(f"Hypothesis {i} comes from {incoming[i]} assignments and goes into {outgoing[i]}",
                     "one of both, or none")  # fmt: skip
    is_used = incoming > 0
    around = kernels.used_around(is_used, hypotheses.parent)
    for i in np.flatnonzero(is_used & (around != np.arange(n)))[:1]:
        raise _unfit(f"Hypotheses {around[i]} and {i} are both used, and the first one holds the second",
                     "hypotheses without common pixels")  # fmt: skip


def check_chosen(assignments: Assignments, chosen: Mask) -> None:
    """Refuse what is no choice among these assignments."""
    if chosen.dtype != np.bool_ or chosen.shape != (len(assignments),):
        raise DataError(f"The choice is {chosen.dtype} of the shape {chosen.shape}",
                        f"true or false for each of {len(assignments)} assignments",
                        "Leave out the variables of leaves that are not explained")  # fmt: skip


def _check_kinds(picked: Assignments, names: NDArray[np.intp]) -> None:
    n_ends = np.array([_ENDS[kind] for kind in range(len(KINDS))])
    is_known = (picked.kind >= 0) & (picked.kind < len(KINDS))
    wanted = n_ends[np.where(is_known, picked.kind, 0)]
    found = np.stack([(side >= 0).sum(axis=1) for side in (picked.sources, picked.targets)], axis=1)
    is_odd = ~is_known | (found != wanted).any(axis=1)
    for side in (picked.sources, picked.targets):  # one hypothesis twice, or the second one alone
        is_odd |= (side[:, 1] >= 0) & ((side[:, 0] == side[:, 1]) | (side[:, 0] < 0))
    for k in np.flatnonzero(is_odd)[:1]:
        kind = KINDS[picked.kind[k]] if is_known[k] else f"of the kind {picked.kind[k]}"
        came = f"Assignment {names[k]}, {kind}, goes from {picked.sources[k]} to {picked.targets[k]}"
        raise _unfit(came, "as many hypotheses on each side as its kind has, −1 for the rest")


def _check_slices(hypotheses: Hypotheses, picked: Assignments, names: NDArray[np.intp]) -> None:
    z = np.append(hypotheses.z, 0)  # the last is for −1, and does not count
    is_there = np.stack((picked.sources >= 0, picked.targets >= 0))
    upper = np.stack((z[picked.sources], z[picked.targets] - 1))
    low = np.where(is_there, upper, np.iinfo(np.int32).max).min(axis=(0, 2))
    high = np.where(is_there, upper, -2).max(axis=(0, 2))
    for k in np.flatnonzero(low != high)[:1]:
        ends = (z[side[k][side[k] >= 0]] for side in (picked.sources, picked.targets))
        came = f"Assignment {names[k]} links hypotheses of the slices {' and '.join(map(str, ends))}"
        raise _unfit(came, "a slice and the next one")


def _unfit(came: str, expected: str) -> DataError:
    return DataError(came, expected, "Solve the program again; its answers fit together")


def _check_labelling(hypotheses: Hypotheses, numbers: Index, fill: float, boundary: ArrayLike | None) -> None:
    if numbers.shape != (len(hypotheses),) or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise DataError(f"The objects are {numbers.dtype} of the shape {numbers.shape}",
                        f"a number from 0 on for each of {len(hypotheses)} hypotheses",
                        "Take what objects() gives")  # fmt: skip
    if not (np.isfinite(fill) and fill >= 0):
        raise DataError(f"Objects are to grow by {fill} pixels", "a number from 0 on", "Try 5")
    if boundary is not None and tuple(boundary.shape) != hypotheses.nodes.shape:
        raise DataError(f"The map is {tuple(boundary.shape)} and the volume {hypotheses.nodes.shape} (z, y, x)",
                        "a map of the same shape", "Give the map that belongs to this volume")  # fmt: skip


def _filled(
    labels: NDArray[np.uint32], reach: float, boundary: NDArray[np.generic] | None
) -> NDArray[np.uint32]:
    """Grow the labels of one slice."""
    if not labels.any():
        return labels
    distance, place = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    is_near = distance <= reach
    if boundary is None:
        return np.where(is_near, labels[place[0], place[1]], 0).astype(np.uint32)
    return np.asarray(watershed(boundary, labels.astype(np.int32), mask=is_near), np.uint32)
