"""Compiled loops of the basin graph: which segments touch, how strongly, and joining them by size."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["collect", "count", "link", "relabel"]

Array = NDArray[Any]
Planes = tuple[Array, Array, Array]
Index = Any  # a Python int, or one of numpy's

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HALF = np.uint64(32)

# Machine code is kept on disk (cache=True), and no kernel here calls one in another file, so that it is made
# anew whenever it has to be.


@njit(cache=True, nogil=True)
def count(labels: Array, sizes: Array) -> None:
    """Add the number of voxels of each label to its size."""
    for v in range(labels.size):
        sizes[labels[v]] += 1


@njit(cache=True, nogil=True)
def relabel(labels: Array, table: Array, out: Array) -> None:
    """Write the new label of every voxel; labels and out may be the same."""
    for v in range(labels.size):
        out[v] = table[labels[v]]


@njit(cache=True, nogil=True)
def collect(planes: Planes, labels: Array, before: Array, least: Any) -> tuple[Array, Array]:
    """Return the pairs of labels that touch in a slice or from the one before, and their greatest affinities.

    A pair is smaller << 32 | greater; affinities below ``least`` do not count.
    """
    rows = len(labels)
    keys, weights, used = np.zeros(1 << 12, np.int64), np.zeros(1 << 12, planes[0].dtype), 0
    for y in range(rows):
        keys, weights, used = _collect_row(
            planes[2][y, 1:], labels[y, 1:], labels[y, :-1], least, keys, weights, used
        )
        if y > 0:
            keys, weights, used = _collect_row(
                planes[1][y], labels[y], labels[y - 1], least, keys, weights, used
            )
        if before.size:
            keys, weights, used = _collect_row(planes[0][y], labels[y], before[y], least, keys, weights, used)
    is_used = keys != 0
    return keys[is_used], weights[is_used]


@njit(cache=True, nogil=True)
def _collect_row(
    row: Array, label: Array, other: Array, least: Any, keys: Array, weights: Array, used: int
) -> tuple[Array, Array, int]:
    """Note the affinities between the voxels of a row and their neighbours along one axis."""
    last, slot = np.int64(0), np.int64(0)
    for x in range(len(label)):
        a, b = np.int64(label[x]), np.int64(other[x])
        if a == b or a == 0 or b == 0 or row[x] < least:
            continue
        key = min(a, b) << 32 | max(a, b)
        if key != last:
            slot, last = _slot(keys, key), key
            if keys[slot] == 0:
                keys[slot], weights[slot] = key, row[x]
                used += 1
                if 2 * used > len(keys):
                    keys, weights = _grown(keys, weights)
                    last = np.int64(0)
                continue
        weights[slot] = max(weights[slot], row[x])
    return keys, weights, used


@njit(cache=True, nogil=True)
def _slot(keys: Array, key: Index) -> Index:
    """Return the place of a key in the table, or the free one (0) where it belongs."""
    last = len(keys) - 1
    mixed = np.uint64(key) * _MULTIPLIER  # unsigned: signed numbers may not overflow
    mixed = (mixed ^ (mixed >> _HALF)) * _MULTIPLIER
    slot = np.int64(mixed >> _HALF) & last
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def _grown(keys: Array, weights: Array) -> tuple[Array, Array]:
    """Return a table with the same pairs and twice the room."""
    larger, values = np.zeros(2 * len(keys), np.int64), np.zeros(2 * len(keys), weights.dtype)
    for i in range(len(keys)):
        if keys[i] != 0:
            slot = _slot(larger, keys[i])
            larger[slot], values[slot] = keys[i], weights[i]
    return larger, values


@njit(cache=True, nogil=True)
def link(edges: Array, order: Array, sizes: Array, size_threshold: Index) -> Array:
    """Join segments along edges, in order, where one is too small; return the least label joined with each.

    The sizes of the representatives are updated.
    """
    parent = np.arange(len(sizes)).astype(np.uint32)
    for i in order:
        a, b = _top(parent, np.int64(edges[i, 0])), _top(parent, np.int64(edges[i, 1]))
        if a != b and min(sizes[a], sizes[b]) < size_threshold:
            a, b = min(a, b), max(a, b)
            parent[b] = a
            sizes[a] += sizes[b]
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]  # parents are smaller, so that theirs are settled
    return parent


@njit(cache=True, nogil=True)
def _top(parent: Array, i: Index) -> Index:
    """Return the one that stands for all that were joined with i."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = np.int64(parent[i])
    return i
