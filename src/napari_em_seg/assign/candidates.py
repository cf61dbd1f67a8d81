"""Candidates: which assignments between neighbouring slices are possible at all."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_em_seg.assign import _candidate_kernels as kernels
from napari_em_seg.assign.assignments import (
    APPEARANCE,
    CONTINUATION,
    DISAPPEARANCE,
    MERGE,
    SPLIT,
    Assignments,
)
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Candidates", "Limits", "Pairs", "find_candidates"]

Index = NDArray[np.int32]


@dataclass(frozen=True)
class Limits:
    """What is near enough to be considered.

    Parameters
    ----------
    distance
        θ_D, between the centres of two regions in pixels. Regions that overlap well are considered wherever
        their centres are: those of large ones move far as their outlines change.
    overlap
        Least intersection over union of such regions.
    links
        Most links from a region into each neighbouring slice, the best first: by overlap, then by distance.
    partners
        Most splits, and merges, of a region.
    fit
        Least intersection over union of a region and both its partners.
    """

    distance: float = 30.0
    overlap: float = 0.03
    links: int = 12
    partners: int = 12
    fit: float = 0.1

    def __post_init__(self) -> None:
        if (
            self.distance < 0
            or not 0 <= min(self.overlap, self.fit) <= max(self.overlap, self.fit) <= 1
            or min(self.links, self.partners) < 1
        ):
            raise DataError(f"The limits of candidates are {self}",
                            "a distance from 0 on, overlaps from 0 to 1, and at least one link",
                            "Use the defaults")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pairs:
    """Regions of neighbouring slices that may belong together, sorted by source and then by target.

    Attributes
    ----------
    source, target
        A region, and one in the next slice (p,).
    overlap
        Pixels that both have.
    evidence
        Sum of the evidence over these pixels.
    """

    source: Index
    target: Index
    overlap: NDArray[np.int64]
    evidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Assignments, and which pairs of regions each one links: rows of the pairs (m, 2), −1 for none."""

    assignments: Assignments
    pairs: Pairs
    rows: Index


def find_candidates(
    hypotheses: Hypotheses,
    evidence: ArrayLike | None = None,
    limits: Limits = Limits(),
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Candidates:
    """Return what may become of every hypothesis, their number in proportion to that of the hypotheses.

    Overlaps are counted once for the smallest regions of each pixel and summed up both trees, so that it takes
    time in proportion to the pixels, not to pairs of regions.

    Parameters
    ----------
    hypotheses
        Of all slices.
    evidence
        For each voxel how likely it belongs together with the one before it in z (z, y, x); what the pairs then
        hold sums of. None: zero.
    limits
        What is near enough.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before each slice; what there is by then is returned.
    """
    found = []
    for z in range(hypotheses.n_slices - 1):
        if cancelled():
            break
        found.append(_pairs_below(hypotheses, z, evidence, limits))
        if progress is not None:
            progress(z + 1, hypotheses.n_slices - 1)
    columns = zip(*found, strict=True) if found else (np.zeros((1, 0), t) for t in "iilf")
    source, target, overlap, summed = (np.concatenate(list(column)) for column in columns)
    pairs = Pairs(
        source.astype(np.int32), target.astype(np.int32), overlap.astype(np.int64), summed.astype(float)
    )
    return _assignments(hypotheses, pairs, limits)


def _pairs_below(
    hypotheses: Hypotheses, z: int, evidence: ArrayLike | None, limits: Limits
) -> tuple[Index, Index, NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of slice z and the next one that are near enough."""
    first, second, end = (int(v) for v in hypotheses.starts[z : z + 3])
    n_first, upper, lower = second - first, hypotheses.nodes[z], hypotheses.nodes[z + 1]
    if not n_first or end == second:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0)
    values = np.zeros(upper.shape, np.float32) if evidence is None else np.asarray(evidence[z + 1], np.float32)
    shared = kernels.joint(upper, lower, values, first, n_first, second)
    keys, counts, sums = kernels.climbed(shared, hypotheses.parent, first, n_first, second)
    tree, other = (KDTree(hypotheses.centre[a:b]) for a, b in ((first, second), (second, end)))
    near = tree.sparse_distance_matrix(other, limits.distance, output_type="ndarray")
    near_keys = near["j"].astype(np.int64) * n_first + near["i"]
    all_keys = np.union1d(keys, near_keys)
    overlap, summed = np.zeros(len(all_keys), np.int64), np.zeros(len(all_keys))
    place = np.searchsorted(all_keys, keys)
    overlap[place], summed[place] = counts, sums
    source, target = (
        (all_keys % n_first + first).astype(np.int32),
        (all_keys // n_first + second).astype(np.int32),
    )

    union = hypotheses.area[source] + hypotheses.area[target] - overlap
    distance = np.linalg.norm(hypotheses.centre[source] - hypotheses.centre[target], axis=1)
    rank = overlap / union - distance / 1e6
    is_kept = (overlap >= limits.overlap * union) | (distance <= limits.distance)
    is_kept &= (_place_among(source, rank) < limits.links) | (_place_among(target, rank) < limits.links)
    order = np.lexsort((target, source))
    order = order[is_kept[order]]
    return source[order], target[order], overlap[order], summed[order]


def _place_among(group: Index, rank: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return how many of the same group are before each one, the highest rank first."""
    order = np.lexsort((-rank, group))
    sorted_group = group[order]
    starts = np.searchsorted(sorted_group, sorted_group)
    place = np.empty(len(group), np.intp)
    place[order] = np.arange(len(group)) - starts
    return place


def _assignments(hypotheses: Hypotheses, pairs: Pairs, limits: Limits) -> Candidates:
    """Return continuations for all pairs, splits and merges for the best two of them, and both ends for all."""
    n, area, last = len(hypotheses), hypotheses.area, hypotheses.last

    def best(one: Index, other: Index) -> Index:
        order = np.lexsort((other, one)).astype(np.int32)
        starts = np.searchsorted(one[order], np.arange(n + 1))
        found = kernels.partners(
            one[order], other[order], starts, pairs.overlap[order], area, last, limits.fit, limits.partners
        )
        return np.asarray(order[found])

    splits, merges = best(pairs.source, pairs.target), best(pairs.target, pairs.source)
    none = np.full(n, -1, np.int32)
    alone = np.stack((np.arange(n, dtype=np.int32), none), axis=1)
    nobody, nowhere = np.stack((none, none), axis=1), np.full(len(pairs), -1, np.int32)
    rows = [np.stack((np.arange(len(pairs), dtype=np.int32), nowhere), 1), splits, merges, nobody, nobody]
    sources = [
        np.stack((pairs.source, nowhere), 1),
        np.stack((pairs.source[splits[:, 0]], np.full(len(splits), -1, np.int32)), 1),
        pairs.source[merges], nobody, alone,
    ]  # fmt: skip
    targets = [
        np.stack((pairs.target, nowhere), 1), pairs.target[splits],
        np.stack((pairs.target[merges[:, 0]], np.full(len(merges), -1, np.int32)), 1), alone, nobody,
    ]  # fmt: skip
    kinds = np.repeat(
        np.array([CONTINUATION, SPLIT, MERGE, APPEARANCE, DISAPPEARANCE], np.int8), [len(part) for part in rows]
    )
    made = Assignments(kinds, np.concatenate(sources), np.concatenate(targets))
    return Candidates(made, pairs, np.concatenate(rows).astype(np.int32))
