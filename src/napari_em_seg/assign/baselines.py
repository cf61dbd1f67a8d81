"""Plain rivals of the program: sections linked by overlap, and hypotheses of a single level."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _error_kernels as kernels
from napari_em_seg.assign import _result_kernels
from napari_em_seg.assign.errors import Comparison
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["best_level", "link_by_overlap", "single_level"]


def link_by_overlap(
    labels: ArrayLike,
    least: float = 0.35,
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> NDArray[np.uint32]:
    """Return objects made of the segments of every slice, linked where they overlap best.

    Of two neighbouring slices the pair of the greatest intersection over union is linked first, then the next
    of those left over, as long as it is above the least one: so no segment has two partners on one side.

    Parameters
    ----------
    labels
        Segments (z, y, x), 0 for none; what slices have the same number counts for nothing.
    least
        An intersection over union that a pair has to be above.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every slice; once it says true, the rest stays 0.
    """
    if not 0 <= least < 1:
        raise DataError(f"The least overlap is {least}", "a number from 0 to less than 1", "Try 0.35")
    found = np.zeros(tuple(labels.shape), np.uint32)
    last, numbers, n = np.full(found.shape[1:], -1, np.int32), np.zeros(0, np.uint32), 0
    for z in range(len(found)):
        if cancelled():
            break
        plane = np.asarray(labels[z])
        if plane.dtype.kind not in "biu" or plane.ndim != 2:
            raise DataError(f"Slice {z} is {plane.dtype} with {plane.ndim} axes", "labels (y, x)",
                            "Give the segments of every slice")  # fmt: skip
        known, place = np.unique(plane, return_inverse=True)
        shift = np.cumsum(known != 0) - 1
        parts = np.where(plane != 0, shift[place.reshape(plane.shape)], -1).astype(np.int32)
        own = np.zeros(int((known != 0).sum()), np.uint32)
        for a, b in _best_pairs(last, parts, least):
            own[b] = numbers[a]
        fresh = np.flatnonzero(own == 0)
        own[fresh] = np.arange(n + 1, n + 1 + len(fresh))
        n += len(fresh)
        found[z] = np.append(own, np.uint32(0))[parts]
        last, numbers = parts, own
        if progress is not None:
            progress(z + 1, len(found))
    return found


def single_level(hypotheses: Hypotheses, level: float) -> Hypotheses:
    """Return the regions that exist at one level, as hypotheses that are not nested.

    They are those with birth ≤ level < death; should one hold another, as it may where regions of several
    sources were joined, the larger one.
    """
    if not 0 <= level < 1:
        raise DataError(f"The level is {level}", "a number from 0 to less than 1", "Try 0.5")
    is_alive = (hypotheses.birth <= np.float32(level)) & (np.float32(level) < hypotheses.death)
    around = _result_kernels.used_around(is_alive, hypotheses.parent)
    kept = np.flatnonzero(around == np.arange(len(hypotheses)))
    place = np.full(len(hypotheses) + 1, -1, np.int32)
    place[kept] = np.arange(len(kept))
    table = place[np.append(around, np.int32(-1))]  # the last is for −1
    return Hypotheses(
        table[hypotheses.nodes], hypotheses.z[kept], np.full(len(kept), -1, np.int32),
        np.arange(len(kept), dtype=np.int32), hypotheses.birth[kept], hypotheses.death[kept],
    )  # fmt: skip


def best_level(
    hypotheses: Hypotheses, comparison: Comparison, levels: Iterable[float]
) -> tuple[float, dict[float, int]]:
    """Return the level whose regions have the fewest errors within slices, and those of each level.

    Of several the lowest is the best. The comparison is with a truth to choose by, not with the one that
    results are measured by.
    """
    none = np.zeros(0, np.int32)
    errors = {}
    for level in levels:
        is_alive = (hypotheses.birth <= np.float32(level)) & (np.float32(level) < hypotheses.death)
        around = _result_kernels.used_around(is_alive, hypotheses.parent)
        counted, _ = comparison.count(around == np.arange(len(hypotheses)), none, none)
        errors[level] = counted.intra
    if not errors:
        raise DataError("There are no levels", "at least one", "Try 0.3, 0.5 and 0.7")
    return min(errors, key=lambda level: (errors[level], level)), errors


def _best_pairs(upper: NDArray[np.int32], lower: NDArray[np.int32], least: float) -> list[tuple[int, int]]:
    """Return pairs of segments, numbered from 0 on, greatest intersection over union first."""
    a, b, shared = kernels.shared(upper, lower)
    if not len(a):
        return []
    area, other = np.bincount(upper[upper >= 0]), np.bincount(lower[lower >= 0])
    fit = shared / (area[a] + other[b] - shared)
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for k in np.lexsort((b, a, -fit)):
        if fit[k] <= least:
            break
        if a[k] not in taken[0] and b[k] not in taken[1]:
            taken[0].add(int(a[k]))
            taken[1].add(int(b[k]))
            pairs.append((int(a[k]), int(b[k])))
    return pairs
