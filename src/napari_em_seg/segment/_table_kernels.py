"""Compiled loops of merge trees: what each leaf is after some merges, and the new label of every voxel."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["first_misfit", "look_up", "unite"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def unite(a: Array, b: Array, n_merges: int, labels: Array) -> Array:
    """Return the least label in the segment of each leaf: up the tree to find it, down again to tell it."""
    n = len(labels)
    least = np.empty(n + n_merges, np.uint32)
    least[:n] = labels
    for i in range(n_merges):
        least[n + i] = min(least[a[i]], least[b[i]])
    for i in range(n_merges - 1, -1, -1):
        least[a[i]] = least[b[i]] = least[n + i]
    return least[:n].copy()


@njit(cache=True, nogil=True)
def look_up(labels: Array, table: Array, out: Array) -> None:
    """Write the new label of every voxel; labels beyond the table stay. Labels and out may be the same."""
    n = np.uint32(len(table))
    for v in range(labels.size):
        label = labels[v]
        out[v] = table[label] if label < n else label


@njit(cache=True, nogil=True)
def first_misfit(a: Array, b: Array, n: int) -> int:
    """Return the first merge that does not take two nodes that are there, the lower one first; −1: none."""
    is_gone = np.zeros(n + len(a), np.bool_)
    for i in range(len(a)):
        if not 0 <= a[i] < b[i] < n + i or is_gone[a[i]] or is_gone[b[i]]:
            return i
        is_gone[a[i]] = is_gone[b[i]] = True
    return -1
