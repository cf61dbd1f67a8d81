"""Compiled loops over neighbouring slices: how much regions overlap, and which two may be partners."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["climbed", "joint", "partners"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def joint(upper: Array, lower: Array, evidence: Array, first: int, n_first: int, second: int) -> Any:
    """Return the pixels that each pair of smallest regions shares, as key, count, and sum of the evidence.

    The key of regions a and b is ``(b − second) n_first + a − first``; keys come sorted.
    """
    n = 0
    for y in range(upper.shape[0]):
        for x in range(upper.shape[1]):
            n += upper[y, x] >= 0 and lower[y, x] >= 0
    keys, values = np.empty(n, np.int64), np.empty(n, np.float32)
    n = 0
    for y in range(upper.shape[0]):
        for x in range(upper.shape[1]):
            if upper[y, x] >= 0 and lower[y, x] >= 0:
                keys[n] = np.int64(lower[y, x] - second) * n_first + (upper[y, x] - first)
                values[n] = evidence[y, x]
                n += 1
    counts, sums = np.ones(n, np.int64), values.astype(np.float64)
    return _summed(_runs(keys, counts, sums))


@njit(cache=True, nogil=True)
def climbed(shared: Any, parent: Array, first: int, n_first: int, second: int) -> Any:
    """Return the same for all pairs of regions: what a pair shares, all that hold them share as well."""
    keys, counts, sums = shared
    n = 0
    for k in range(len(keys)):
        a, b = keys[k] % n_first + first, keys[k] // n_first + second
        up, down = 0, 0
        while a >= 0:
            up += 1
            a = parent[a]
        while b >= 0:
            down += 1
            b = parent[b]
        n += up * down
    new, number, total = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float64)
    n = 0
    for k in range(len(keys)):
        b = keys[k] // n_first + second
        while b >= 0:
            a = keys[k] % n_first + first
            while a >= 0:
                new[n] = np.int64(b - second) * n_first + (a - first)
                number[n], total[n] = counts[k], sums[k]
                n += 1
                a = parent[a]
            b = parent[b]
    return _summed((new, number, total))


@njit(cache=True, nogil=True)
def _runs(keys: Array, counts: Array, sums: Array) -> Any:
    """Join equal keys that follow one another: there are far fewer of them to sort."""
    n = -1
    last = np.int64(-1)
    for k in range(len(keys)):
        if keys[k] != last:
            n += 1
            last = keys[k]
            keys[n], counts[n], sums[n] = keys[k], counts[k], sums[k]
        else:
            counts[n] += counts[k]
            sums[n] += sums[k]
    return keys[: n + 1], counts[: n + 1], sums[: n + 1]


@njit(cache=True, nogil=True)
def _summed(rows: Any) -> Any:
    """Add up rows of equal key."""
    keys, counts, sums = rows
    order = np.argsort(keys, kind="mergesort")
    joined = _runs(keys[order], counts[order], sums[order])
    return joined[0].copy(), joined[1].copy(), joined[2].copy()


@njit(cache=True, nogil=True)
def partners(
    one: Array, other: Array, starts: Array, overlap: Array, area: Array, last: Array, least: float, most: int
) -> Any:
    """Return for each region the best pairs of partners in a neighbouring slice, as two rows of the pairs.

    Rows ``starts[r]`` to ``starts[r + 1]`` are those of one region, ``one``, with all that it may be linked to,
    ``other``. Two of these may be partners if they do not overlap; the better the region fits their union, the
    better they are: at most so many are kept, of an intersection over union not below `least`.
    """
    n = 0
    found = np.empty((most * max(1, len(starts) - 1), 2), np.int32)
    value = np.empty(most)
    pair = np.empty((most, 2), np.int32)
    for r in range(len(starts) - 1):
        held = 0
        for p in range(starts[r], starts[r + 1]):
            for q in range(p + 1, starts[r + 1]):
                a, b = min(other[p], other[q]), max(other[p], other[q])
                if b <= last[a]:
                    continue
                shared = overlap[p] + overlap[q]
                fit = shared / (area[one[p]] + area[a] + area[b] - shared)
                if fit < least or (held == most and fit <= value[held - 1]):
                    continue
                k = held if held < most else most - 1
                held = min(held + 1, most)
                while k > 0 and value[k - 1] < fit:
                    value[k], pair[k, 0], pair[k, 1] = value[k - 1], pair[k - 1, 0], pair[k - 1, 1]
                    k -= 1
                value[k], pair[k, 0], pair[k, 1] = fit, p, q
        for k in range(held):
            found[n, 0], found[n, 1] = pair[k, 0], pair[k, 1]
            n += 1
    return found[:n].copy()
