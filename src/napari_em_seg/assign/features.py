"""Features of assignments: what the forest that sets their costs looks at."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _feature_kernels as kernels
from napari_em_seg.assign import _hypothesis_kernels
from napari_em_seg.assign.candidates import Candidates, Pairs
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["DUMMY", "FEATURES", "MEANINGS", "Evidence", "assignment_features"]

Rows = NDArray[np.float32]
Column = NDArray[np.float64]

DUMMY = -1.0
"""Stands where a feature makes no sense: an end has no distance."""

MEANINGS: dict[str, str] = {
    "kind": "continuation 0, split 1, merge 2, appearance 3, disappearance 4",
    "log_area_small": "logarithm of the pixels of the smaller side (both partners together)",
    "log_area_large": "logarithm of the pixels of the larger side",
    "area_ratio": "smaller side as a share of the larger one",
    "distance": "distance of the centres of both sides in pixels",
    "relative_distance": "that distance / square root of the pixels of the smaller side",
    "overlap_source": "share of the source side that the target side covers",
    "overlap_target": "share of the target side that the source side covers",
    "overlap": "intersection over union of both sides",
    "difference": "symmetric set difference / pixels of both sides",
    "overlap_aligned": "share of the source side that the target side covers once their centres coincide",
    "overlap_partner": "least share of a partner that the other side covers",
    "area_partner": "pixels of the smaller partner as a share of both",
    "distance_partners": "distance of the centres of both partners / square root of their pixels",
    "evidence": "mean evidence across the slices, where both sides overlap",
    "evidence_partner": "the lesser one of both partners",
    "correlation_near": "greatest cross-correlation of patches 17 pixels wide around both centres",
    "offset_near": "how far off that is found, in pixels",
    "correlation_far": "the same for patches 65 pixels wide, every fourth pixel",
    "offset_far": "how far off that is found, in pixels",
    "histograms": "half the summed difference of both sides' histograms of grey values",
    "grey": "mean grey value of both sides, in standard deviations of the slice",
    "grey_difference": "difference of the mean grey values",
    "elongation_source": "source side: longer principal axis / shorter one",
    "elongation_target": "target side: longer principal axis / shorter one",
    "turn": "sine of the angle between both longer axes, times the lesser elongation − 1 (1 at most)",
    "stability": "least range of levels over which a region exists, of all regions involved",
    "birth": "greatest level from which a region exists",
    "death": "least level at which a region is swallowed",
    "leaves": "logarithm of the number of smallest regions under those involved",
    "boundary_inside": "greatest mean boundary probability within a region",
    "boundary_outline": "least mean boundary probability along the outline of a region",
    "join": "level at which the agglomeration joins a supervoxel of either side (0: the same one; 2: never)",
    "join_partners": "the same of both partners",
    "join_late": "join − greatest birth of the regions involved",
    "rival_source": "best overlap of a source with any one region of the next slice (−2: none is near)",
    "rival_target": "best overlap of a target with any one region of the slice before",
    "rival_evidence_source": "greatest evidence of a source with any region of the next slice that it overlaps",
    "rival_evidence_target": "the same of a target with any region of the slice before",
    "rival_join_source": "earliest join of a source with any region of the next slice",
    "rival_join_target": "the same of a target with any region of the slice before",
    "agreement": "share of followed sections that both sides have in common (−1: none was followed)",
}
"""What each feature means. Two partners count as one region where it says side."""

FEATURES: tuple[str, ...] = tuple(MEANINGS)
"""Names of the features, in order."""

_NEVER = 2.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the features are computed from.

    Attributes
    ----------
    raw
        The image (z, y, x).
    boundary
        Boundary probability from 0 to 1, 1 = boundary.
    across
        For each voxel how likely it belongs together with the one before it in z, from 0 to 1.
    cuts, levels, labels
        Of an agglomeration, if there is one: for each of the rising levels the segment of each label, and the
        labels (z, y, x).
    agreement
        Of each pair of regions with the propagator's masks, from 0 to 1, if there are any; and of each pair's
        absence −1.
    """

    raw: ArrayLike
    boundary: ArrayLike
    across: ArrayLike
    cuts: Sequence[NDArray[np.uint32]] = ()
    levels: Sequence[float] = ()
    labels: ArrayLike | None = None
    agreement: NDArray[np.float32] | None = None


def assignment_features(
    hypotheses: Hypotheses,
    candidates: Candidates,
    evidence: Evidence,
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Rows:
    """Return the features of all assignments (m, f), in the order of `FEATURES`.

    What belongs to regions and to pairs of regions is computed once for these. Moments, histograms, overlaps
    and sums of evidence add up, so that two partners are one region in all of them.
    """
    regions = _Regions.of(hypotheses, evidence, progress, cancelled)
    pairs = _PairFeatures.of(hypotheses, regions, candidates.pairs, evidence)
    return _Table(hypotheses, candidates, regions, pairs, evidence).rows()


@dataclass(frozen=True, eq=False)
class _Regions:
    """What is known of each region."""

    raw: NDArray[np.float32]
    histogram: Column
    grey: Column
    inside: Column
    outline: Column
    label: NDArray[np.int64]

    @classmethod
    def of(
        cls, hypotheses: Hypotheses, evidence: Evidence, progress: Progress, cancelled: Callable[[], bool]
    ) -> "_Regions":
        n = len(hypotheses)
        counts, sums, border = np.zeros((n, kernels.N_BINS)), np.zeros((n, 2)), np.zeros((n, 2))
        raw = np.empty(hypotheses.nodes.shape, np.float32)
        label = np.full(n, -1, np.int64)

        def one(z: int) -> None:
            if cancelled():
                return
            plane, boundary = _normalised(evidence.raw[z]), np.asarray(evidence.boundary[z], np.float32)
            nodes, (a, b) = hypotheses.nodes[z], hypotheses.starts[z : z + 2]
            raw[z] = plane
            kernels.inside(nodes, plane, boundary, counts[a:b], sums[a:b], a)
            kernels.outline(nodes, boundary, hypotheses.parent, hypotheses.last, border)
            if evidence.labels is not None:
                found, first = np.unique(nodes, return_index=True)
                label[found[found >= 0]] = np.asarray(evidence.labels[z]).reshape(-1)[first[found >= 0]]

        _in_threads(one, range(hypotheses.n_slices), progress)
        parent = hypotheses.parent
        counts, sums = _hypothesis_kernels.add_up(counts, parent), _hypothesis_kernels.add_up(sums, parent)
        means = sums / hypotheses.moments[:, :1]
        for i in range(n - 1, -1, -1):  # any pixel will do: a region is in one segment from its birth on
            if parent[i] >= 0 and label[parent[i]] < 0:
                label[parent[i]] = label[i]
        return cls(raw, counts, means[:, 0], means[:, 1], border[:, 1] / np.maximum(border[:, 0], 1), label)


@dataclass(frozen=True, eq=False)
class _PairFeatures:
    """What is known of each pair of regions."""

    fit: Column
    evidence: Column
    near: NDArray[np.float32]
    far: NDArray[np.float32]
    join: Column

    @classmethod
    def of(cls, hypotheses: Hypotheses, regions: _Regions, pairs: Pairs, evidence: Evidence) -> "_PairFeatures":
        area, centre = hypotheses.area, hypotheses.centre
        union = area[pairs.source] + area[pairs.target] - pairs.overlap
        mean = np.where(pairs.overlap > 0, pairs.evidence / np.maximum(pairs.overlap, 1), DUMMY)
        near, far = (np.empty((len(pairs), 2), np.float32) for _ in range(2))
        z = hypotheses.z[pairs.source]

        def part(limits: tuple[int, int]) -> None:
            rows = slice(*limits)
            places = centre[pairs.source[rows]], centre[pairs.target[rows]]
            kernels.correlate(regions.raw, z[rows], *places, 8, 4, 1, near[rows])
            kernels.correlate(regions.raw, z[rows], *places, 8, 4, 4, far[rows])

        _in_threads(part, _parts(len(pairs)))
        join = _joins(evidence, regions.label[pairs.source], regions.label[pairs.target])
        return cls(pairs.overlap / union, mean, near, far, join)


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """Return values and a 0 behind them, for which −1 stands, be there any values or none."""
    return np.concatenate((values, np.zeros((1, *values.shape[1:]), values.dtype)))


class _Table:
    """Puts together the columns."""

    def __init__(
        self, hypotheses: Hypotheses, candidates: Candidates, regions: _Regions, pairs: _PairFeatures,
        evidence: Evidence,
    ) -> None:  # fmt: skip
        self._hypotheses, self._candidates, self._regions = hypotheses, candidates, regions
        self._pairs, self._evidence = pairs, evidence
        self._assignments, self._links = candidates.assignments, candidates.rows
        self._is_link = self._links[:, 0] >= 0
        self._has_partner = self._links[:, 1] >= 0

    def rows(self) -> Rows:
        """Return all columns, in the order of their names."""
        columns: dict[str, NDArray[np.generic]] = {"kind": self._assignments.kind}
        for made in (
            self._sizes, self._places, self._partners, self._texture, self._shapes, self._members, self._joins,
            self._rivals,
        ):  # fmt: skip
            columns |= made()
        columns["agreement"] = self._agreement()
        return np.stack([columns[name].astype(np.float32) for name in FEATURES], axis=1)

    def _side(self, values: NDArray[np.generic], members: NDArray[np.int32]) -> Column:
        """Return the sum over one or two members; 0 for none."""
        padded = _padded(values).astype(np.float64)
        return np.asarray(padded[members[:, 0]] + padded[members[:, 1]])

    @property
    def _sides(self) -> tuple[Column, Column]:
        moments = self._hypotheses.moments
        sides = self._assignments.sources, self._assignments.targets
        return self._side(moments, sides[0]), self._side(moments, sides[1])

    def _of_links(self, values: NDArray[np.generic], how: np.ufunc) -> Column:
        """Return a value of pairs, of both rows of an assignment that has two; the dummy for ends."""
        padded = _padded(values).astype(np.float64)
        first, second = padded[self._links[:, 0]], padded[self._links[:, 1]]
        both = np.where(self._has_partner, how(first, second), first)
        return np.where(self._is_link, both, DUMMY)

    def _sizes(self) -> dict[str, Column]:
        source, target = (side[:, 0] for side in self._sides)
        small, large = np.minimum(source, target), np.maximum(source, target)
        shared = self._side(self._candidates.pairs.overlap, self._links)
        self._small = np.where(self._is_link, small, large)
        return {
            "log_area_small": np.log(self._small),
            "log_area_large": np.log(large),
            "area_ratio": self._linked(small / large),
            "overlap_source": self._linked(shared / np.maximum(source, 1)),
            "overlap_target": self._linked(shared / np.maximum(target, 1)),
            "overlap": self._linked(shared / (source + target - shared)),
            "difference": self._linked((source + target - 2 * shared) / (source + target)),
        }

    def _linked(self, values: Column) -> Column:
        return np.where(self._is_link, values, DUMMY)

    def _places(self) -> dict[str, Column]:
        source, target = self._sides
        with np.errstate(invalid="ignore"):
            shift = target[:, 1:3] / target[:, :1] - source[:, 1:3] / source[:, :1]
        shift = np.where(self._is_link[:, None], shift, 0)
        distance = np.linalg.norm(shift, axis=1)
        aligned, whole = np.empty(len(shift)), np.rint(shift).astype(np.int64)
        sources, targets = self._assignments.sources, self._assignments.targets

        def part(limits: tuple[int, int]) -> None:
            rows = slice(*limits)
            h = self._hypotheses
            kernels.aligned(
                h.nodes, h.z, sources[rows], targets[rows], h.box, h.last, whole[rows], aligned[rows]
            )

        _in_threads(part, _parts(len(shift)))
        return {
            "distance": self._linked(distance),
            "relative_distance": self._linked(distance / np.sqrt(self._small)),
            "overlap_aligned": aligned,
        }

    def _partners(self) -> dict[str, Column]:
        pair = np.where(
            (self._assignments.targets[:, 1] >= 0)[:, None],
            self._assignments.targets,
            self._assignments.sources,
        )
        area, centre = self._hypotheses.area, self._hypotheses.centre
        both = area[pair[:, 0]] + area[pair[:, 1]]
        apart = np.linalg.norm(centre[pair[:, 0]] - centre[pair[:, 1]], axis=1) / np.sqrt(both)
        shared = _padded(self._candidates.pairs.overlap)[self._links]
        least = (shared / area[pair]).min(axis=1)
        smaller = area[pair].min(axis=1) / both
        columns = {"overlap_partner": least, "area_partner": smaller, "distance_partners": apart}
        return {name: np.where(self._has_partner, values, DUMMY) for name, values in columns.items()}

    def _texture(self) -> dict[str, Column]:
        shared = self._side(self._candidates.pairs.overlap, self._links)
        summed = self._side(self._candidates.pairs.evidence, self._links)
        histograms = [self._side(self._regions.histogram, side) for side in self._both]
        total = [np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in histograms]
        apart = np.abs(histograms[0] / total[0] - histograms[1] / total[1]).sum(axis=1) / 2
        area = self._hypotheses.area.astype(np.float64)
        sums = [self._side(self._regions.grey * area, side) for side in self._both]
        areas = [self._side(area, side) for side in self._both]
        grey = [total / np.maximum(n, 1) for total, n in zip(sums, areas, strict=True)]
        return {
            "evidence": np.where(shared > 0, summed / np.maximum(shared, 1), DUMMY),
            "evidence_partner": self._of_links(self._pairs.evidence, np.minimum),
            "correlation_near": self._of_links(self._pairs.near[:, 0], np.minimum),
            "offset_near": self._of_links(self._pairs.near[:, 1], np.maximum),
            "correlation_far": self._of_links(self._pairs.far[:, 0], np.minimum),
            "offset_far": self._of_links(self._pairs.far[:, 1], np.maximum),
            "histograms": self._linked(apart),
            "grey": (sums[0] + sums[1]) / (areas[0] + areas[1]),
            "grey_difference": np.where(self._is_link, np.abs(grey[0] - grey[1]), DUMMY),
        }

    @property
    def _both(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return self._assignments.sources, self._assignments.targets

    def _shapes(self) -> dict[str, Column]:
        (long_s, angle_s), (long_t, angle_t) = (_axes(side) for side in self._sides)
        turn = np.abs(np.sin(angle_s - angle_t)) * np.minimum(np.minimum(long_s, long_t) - 1, 1)
        has = [side[:, 0] > 0 for side in self._sides]
        return {
            "elongation_source": np.where(has[0], long_s, DUMMY),
            "elongation_target": np.where(has[1], long_t, DUMMY),
            "turn": self._linked(turn),
        }

    def _members(self) -> dict[str, Column]:
        h, regions = self._hypotheses, self._regions
        involved = self._assignments.involved
        absent = involved < 0

        def most(values: NDArray[np.generic]) -> Column:
            return np.asarray(np.where(absent, -np.inf, values[involved]).max(axis=1))

        self._birth = most(h.birth)
        return {
            "stability": -most(h.birth - h.death),
            "birth": self._birth,
            "death": -most(-h.death),
            "leaves": np.log(h.leaves_under(involved)),
            "boundary_inside": most(regions.inside),
            "boundary_outline": -most(-regions.outline),
        }

    def _joins(self) -> dict[str, Column]:
        pair = np.where(
            (self._assignments.targets[:, 1] >= 0)[:, None],
            self._assignments.targets,
            self._assignments.sources,
        )
        label = self._regions.label
        partners = _joins(self._evidence, label[pair[:, 0]], label[pair[:, 1]])
        join = self._of_links(self._pairs.join, np.maximum)
        return {
            "join": join,
            "join_partners": np.where(self._has_partner, partners, DUMMY),
            "join_late": np.where(join >= 0, join - self._birth, DUMMY),
        }

    def _rivals(self) -> dict[str, Column]:
        columns, pairs, own = {}, self._candidates.pairs, self._pairs
        ends = {"source": (pairs.source, self._assignments.sources),
                "target": (pairs.target, self._assignments.targets)}  # fmt: skip
        for name, (end, members) in ends.items():
            for key, values in (
                ("rival", own.fit),
                ("rival_evidence", own.evidence),
                ("rival_join", -own.join),
            ):
                best = np.full(len(self._hypotheses) + 1, -_NEVER)  # the last entry is for no one
                np.maximum.at(best, end, values)
                best[-1] = -_NEVER
                found = np.maximum(best[members[:, 0]], best[members[:, 1]])
                found = -found if key == "rival_join" else found
                columns[f"{key}_{name}"] = np.where(members[:, 0] < 0, DUMMY, found)
        return columns

    def _agreement(self) -> Column:
        if self._evidence.agreement is None:
            return np.full(len(self._links), DUMMY)
        return self._of_links(self._evidence.agreement, np.minimum)


def _normalised(plane: NDArray[np.generic]) -> NDArray[np.float32]:
    plane = np.asarray(plane, np.float32)
    return np.asarray((plane - plane.mean()) / max(float(plane.std()), 1e-6), np.float32)


def _axes(moments: Column) -> tuple[Column, Column]:
    """Return the longer principal axis over the shorter one, and the angle of the longer one."""
    n = np.maximum(moments[:, 0], 1)
    y, x = moments[:, 1] / n, moments[:, 2] / n
    yy, xx, yx = (
        moments[:, 3] / n - y * y + 1 / 12,
        moments[:, 4] / n - x * x + 1 / 12,
        moments[:, 5] / n - y * x,
    )
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    ratio = np.sqrt((middle + apart) / np.maximum(middle - apart, 1 / 12))
    return ratio, np.arctan2(2 * yx, xx - yy) / 2


def _joins(evidence: Evidence, a: NDArray[np.int64], b: NDArray[np.int64]) -> Column:
    """Return the level at which the agglomeration joins two labels; the dummy where there is none."""
    if not len(evidence.cuts):
        return np.full(len(a), DUMMY)
    found = np.full(len(a), _NEVER)
    for level, cut in zip(reversed(evidence.levels), reversed(evidence.cuts), strict=True):
        found[cut[a] == cut[b]] = level
    found[a == b] = 0
    return found


def _parts(n: int) -> list[tuple[int, int]]:
    """Return the bounds of a few parts of n rows."""
    limits = np.linspace(0, n, 4 * (os.cpu_count() or 1) + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(limits)]


def _in_threads(function: Callable[..., None], parts: Sequence[object], progress: Progress = None) -> None:
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        for done, _ in enumerate(pool.map(function, parts)):
            if progress is not None:
                progress(done + 1, len(parts))
