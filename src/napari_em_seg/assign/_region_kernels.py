"""Parts of a sparse matrix, cut out by kernels: rows with the columns that they touch."""
# mypy: disallow-untyped-decorators=False

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["columns_of", "cut_out", "rows_of", "sums_of"]

Index = NDArray[np.int32]


@njit(cache=True, nogil=True)
def columns_of(starts, columns, rows, limits, limit, marks):  # type: ignore[no-untyped-def]
    """Return the columns of some rows whose value in ``limits`` is at most ``limit``; marks stay −1."""
    n = 0
    for r in rows:
        n += starts[r + 1] - starts[r]
    found, k = np.empty(n, np.int32), 0
    for r in rows:
        for e in range(starts[r], starts[r + 1]):
            v = columns[e]
            if marks[v] < 0 and limits[v] <= limit:
                marks[v] = 0
                found[k] = v
                k += 1
    for i in range(k):
        marks[found[i]] = -1
    return found[:k]


@njit(cache=True, nogil=True)
def rows_of(starts, rows, chosen, marks):  # type: ignore[no-untyped-def]
    """Return the rows of some columns, for a matrix sparse by columns; marks are −1, and stay so."""
    n = 0
    for v in chosen:
        n += starts[v + 1] - starts[v]
    found, k = np.empty(n, np.int32), 0
    for v in chosen:
        for e in range(starts[v], starts[v + 1]):
            r = rows[e]
            if marks[r] < 0:
                marks[r] = 0
                found[k] = r
                k += 1
    for i in range(k):
        marks[found[i]] = -1
    return found[:k]


@njit(cache=True, nogil=True)
def cut_out(starts, columns, values, rows, chosen, marks):  # type: ignore[no-untyped-def]
    """Return the rows and chosen columns as a matrix sparse by rows; marks are −1, and stay so."""
    for i in range(len(chosen)):
        marks[chosen[i]] = i
    n = 0
    for r in rows:
        n += starts[r + 1] - starts[r]
    new_starts, new_columns, new_values = np.zeros(len(rows) + 1, np.int32), np.empty(n, np.int32), np.empty(n)
    k = 0
    for i in range(len(rows)):
        for e in range(starts[rows[i]], starts[rows[i] + 1]):
            place = marks[columns[e]]
            if place >= 0:
                new_columns[k] = place
                new_values[k] = values[e]
                k += 1
        new_starts[i + 1] = k
    for v in chosen:
        marks[v] = -1
    return new_starts, new_columns[:k], new_values[:k]


@njit(cache=True, nogil=True)
def sums_of(starts, columns, values, rows, x):  # type: ignore[no-untyped-def]
    """Return what some rows of the matrix make of x."""
    sums = np.zeros(len(rows))
    for i in range(len(rows)):
        for e in range(starts[rows[i]], starts[rows[i] + 1]):
            sums[i] += values[e] * x[columns[e]]
    return sums


@njit(cache=True, nogil=True)
def underpriced(starts, rows, chosen, row_region, region_of, minima, prices):  # type: ignore[no-untyped-def]
    """Return the columns whose price is below the minima of the regions they touch, if not only their own."""
    found, k = np.empty(len(chosen), np.int32), 0
    seen = np.empty(64, np.int64)
    for v in chosen:
        total, n, own = 0.0, 0, region_of[v]
        if own >= 0:
            total, n, seen[0] = minima[own], 1, own
        is_foreign = own < 0
        for e in range(starts[v], starts[v + 1]):
            region = row_region[rows[e]]
            is_new = region >= 0
            for i in range(n):
                is_new = is_new and seen[i] != region
            if is_new:
                is_foreign = True
                total += minima[region]
                if n < 64:
                    seen[n] = region
                    n += 1
        if is_foreign and total > prices[v] + 1e-9:
            found[k] = v
            k += 1
    return found[:k]
