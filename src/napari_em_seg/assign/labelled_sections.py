"""Sections of labelled slices, and which of them are linked: what errors are counted by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_em_seg.assign import _error_kernels as kernels
from napari_em_seg.errors import DataError

__all__ = ["RULES", "SectionReader", "SectionRules", "Sections"]

Index = NDArray[np.int32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class SectionRules:
    """What a section is, and what links two of them.

    Parameters
    ----------
    whole
        Whether all pixels of an object in a slice are one section, else its 8-connected parts are.
    min_area
        Smaller sections do not count: neither as missed nor as wrong. No hypothesis could be one.
    reach
        Sections of one object in neighbouring slices are linked where they overlap. One that overlaps none
        of them is linked to the nearest one, at most so many pixels away: slices may be shifted. (On the
        AC4 training slices that concerns 5 links of 5,748, and 88 branches farther away are not linked; on the
        ISBI 2012 ones, which jump, 79 of 1,198.)
    """

    whole: bool = False
    min_area: int = 25
    reach: float = 30.0

    def __post_init__(self) -> None:
        if self.min_area < 1 or not (np.isfinite(self.reach) and self.reach >= 0):
            raise DataError(f"Sections have at least {self.min_area} pixels and are linked over {self.reach}",
                            "a size from 1 and a distance from 0 on", "Use the defaults")  # fmt: skip


RULES = SectionRules()
"""The default."""


@dataclass(frozen=True, eq=False)
class Sections:
    """Sections of labelled slices, numbered slice by slice.

    Attributes
    ----------
    z, ids, area
        The slice, the label, and the pixels of each (n,).
    links
        Pairs of sections of one object in neighbouring slices (k, 2), the upper one first; sorted.
    """

    z: Index
    ids: Ids
    area: NDArray[np.int64]
    links: Index

    def __len__(self) -> int:
        return len(self.z)

    def is_link(self, upper: Index, lower: Index) -> NDArray[np.bool_]:
        """Return which pairs are linked; −1 is never."""
        known = self.links[:, 0].astype(np.int64) * len(self) + self.links[:, 1]
        asked = upper.astype(np.int64) * len(self) + lower
        return np.asarray((upper >= 0) & (lower >= 0) & np.isin(asked, known))

    def goes_on(self) -> NDArray[np.bool_]:
        """Return whether each is linked with the slice before (first row), and with the next one (second)."""
        found = np.zeros((2, len(self)), np.bool_)
        found[0, self.links[:, 1]] = found[1, self.links[:, 0]] = True
        return found


class SectionReader:
    """Finds sections slice by slice, so that a volume need not be in memory."""

    def __init__(self, rules: SectionRules) -> None:
        self._rules = rules
        self._ids: list[Ids] = []
        self._area: list[NDArray[np.int64]] = []
        self._links: list[Index] = [np.zeros((0, 2), np.int32)]
        self._starts = [0]
        self._last: Index | None = None

    def read(self, labels: NDArray[Any]) -> Index:
        """Take the next slice (y, x), 0 for what is not labelled; return its sections, −1 for none."""
        parts, ids, area = self._parts(labels)
        if self._last is not None:
            before, start = self._starts[-2:]
            self._links.append(_linked((self._last, self._ids[-1]), (parts, ids), self._rules.reach)
                               + np.array([before, start], np.int32))  # fmt: skip
        self._last = parts
        self._ids.append(ids)
        self._area.append(area)
        self._starts.append(self._starts[-1] + len(ids))
        return np.where(parts >= 0, parts + self._starts[-2], -1).astype(np.int32)

    def sections(self) -> Sections:
        """Return those of all slices so far."""
        z = np.repeat(np.arange(len(self._ids), dtype=np.int32), [len(ids) for ids in self._ids])
        links = np.concatenate(self._links)
        none = np.zeros(0, np.int64)
        return Sections(z, np.concatenate((none, *self._ids)), np.concatenate((none, *self._area)), links)

    def _parts(self, labels: NDArray[Any]) -> tuple[Index, Ids, NDArray[np.int64]]:
        if labels.ndim != 2 or labels.dtype.kind not in "biu":
            raise DataError(f"A slice of the labels is {labels.dtype} of the shape {labels.shape}",
                            "whole numbers (y, x)", "Give labels, 0 where nothing is labelled")  # fmt: skip
        if not self._rules.whole:
            parts, ids, area = kernels.components(np.ascontiguousarray(labels), self._rules.min_area)
            return parts, ids.astype(np.int64), area
        known, place, area = np.unique(labels, return_inverse=True, return_counts=True)
        is_kept = (known != 0) & (area >= self._rules.min_area)
        number = np.where(is_kept, np.cumsum(is_kept) - 1, -1).astype(np.int32)
        return number[place.reshape(labels.shape)], known[is_kept].astype(np.int64), area[is_kept]


def _linked(upper: tuple[Index, Ids], lower: tuple[Index, Ids], reach: float) -> Index:
    """Return the links between two slices, each given as its sections and their ids."""
    a, b, _ = kernels.shared(upper[0], lower[0])
    same = upper[1][a] == lower[1][b]
    pairs = np.stack((a[same], b[same]), axis=1)
    alone = [
        np.setdiff1d(np.flatnonzero(np.isin(own[1], other[1])), pairs[:, side])
        for side, (own, other) in enumerate(((upper, lower), (lower, upper)))
    ]
    found = [pairs, _nearest(upper, alone[0], lower, reach), _nearest(lower, alone[1], upper, reach)[:, ::-1]]
    return np.unique(np.concatenate(found), axis=0).astype(np.int32)


def _nearest(one: tuple[Index, Ids], alone: NDArray[np.intp], other: tuple[Index, Ids], reach: float) -> Index:
    """Return for sections that overlap none of their object the nearest one there, if it is near."""
    pairs = []
    pixels, others = (
        _pixels_of(one[0], alone),
        _pixels_of(other[0], np.flatnonzero(np.isin(other[1], one[1][alone]))),
    )
    for s in alone:
        theirs = [t for t in others if other[1][t] == one[1][s]]
        at = np.concatenate([others[t] for t in theirs])
        owner = np.repeat(theirs, [len(others[t]) for t in theirs])
        distance, which = KDTree(at).query(pixels[s])
        k = int(np.argmin(distance))
        if distance[k] <= reach:
            pairs.append((int(s), int(owner[which[k]])))
    return np.array(pairs, np.int32).reshape(-1, 2)


def _pixels_of(parts: Index, wanted: NDArray[np.intp]) -> dict[int, NDArray[np.int64]]:
    """Return where the pixels (y, x) of some sections are."""
    if not len(wanted):
        return {}
    is_wanted = np.zeros(max(int(parts.max()), int(wanted.max())) + 2, np.bool_)  # the last is for −1
    is_wanted[wanted] = True
    at = np.argwhere(is_wanted[parts])
    owner = parts[at[:, 0], at[:, 1]]
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], wanted)
    return dict(zip(wanted.tolist(), np.split(at[order], starts[1:]), strict=True))
