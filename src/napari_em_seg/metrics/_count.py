"""Counting pairs of labels: a hash table in numba that takes runs of voxels, without the GIL."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["PairCounter"]

Cells = NDArray[np.uint64]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: neighbouring ids land far apart
_SHIFT = np.uint64(32)
_ONE = np.uint64(1)
_NEVER_MASKED = np.empty(0, np.bool_)


class PairCounter:
    """Counts how often each pair of labels occurs; takes one run of voxels after the other.

    The memory grows with the number of distinct pairs, not with the number of voxels. One counter is for
    one thread at a time; several counters can work side by side.
    """

    def __init__(self) -> None:
        self._cells: Cells = np.zeros((1 << 12, 3), np.uint64)
        self._used = 0

    def add(self, first: NDArray[Any], second: NDArray[Any], keep: NDArray[np.bool_] | None) -> None:
        """Count the pairs ``(first[k], second[k])`` of flat unsigned arrays, where ``keep[k]`` is true."""
        keep = _NEVER_MASKED if keep is None else keep
        self._cells, self._used = _count(first, second, keep, self._cells, self._used)

    def rows(self) -> Cells:
        """Return one row ``(first, second, count)`` per pair that was met, in no particular order."""
        rows: Cells = self._cells[self._cells[:, 2] != 0]
        return rows


@njit(nogil=True, cache=True)
def _count(
    first: NDArray[Any], second: NDArray[Any], keep: NDArray[np.bool_], cells: Cells, used: int
) -> tuple[Cells, int]:
    """Add all pairs to the table: voxels that repeat the pair before them only lengthen a run."""
    is_masked = keep.size > 0
    k = 0
    while k < first.size:
        if is_masked and not keep[k]:
            k += 1
            continue
        a, b, start = first[k], second[k], k
        k += 1
        while k < first.size and first[k] == a and second[k] == b and (not is_masked or keep[k]):
            k += 1
        slot = _slot(cells, np.uint64(a), np.uint64(b))
        if cells[slot, 2] == 0:
            cells[slot, 0], cells[slot, 1] = a, b
            used += 1
        cells[slot, 2] += np.uint64(k - start)
        if 2 * used > len(cells):
            cells = _grown(cells)
    return cells, used


@njit(nogil=True, cache=True)
def _slot(cells: Cells, a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the row that holds the pair, or the free one where it belongs (a count of zero is free)."""
    last = np.uint64(len(cells) - 1)
    mixed = a * _MULTIPLIER
    mixed = (mixed ^ (mixed >> _SHIFT) ^ b) * _MULTIPLIER
    slot = (mixed ^ (mixed >> _SHIFT)) & last
    while cells[slot, 2] != 0 and (cells[slot, 0] != a or cells[slot, 1] != b):
        slot = (slot + _ONE) & last
    return slot


@njit(nogil=True, cache=True)
def _grown(cells: Cells) -> Cells:
    """Return a table with the same pairs and twice the room."""
    larger = np.zeros((2 * len(cells), 3), np.uint64)
    for row in cells:
        if row[2] != 0:
            larger[_slot(larger, row[0], row[1])] = row
    return larger
