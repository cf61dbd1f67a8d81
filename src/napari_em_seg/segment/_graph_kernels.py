"""Compiled loops of the region graph: statistics of touching labels, added up row by row in hash tables.

All numbers are whole, so that sums do not depend on their order: affinities count in `STEPS` to one.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["BINS", "STEPS", "Tables", "accumulate", "add_rows", "empty_tables", "grown_edges", "grown_nodes"]

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

STEPS = 65280  # 255 × 256: bytes are whole numbers of steps, and so are the limits of the bins
BINS = 32
_WIDTH = STEPS // BINS
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HALF = np.uint64(32)
_ONE = np.uint64(1)


class Tables(NamedTuple):
    """Statistics in the order in which edges and nodes were met, and hash tables that find them.

    The slots hold the place of an entry, from 1 on; 0 is free. `used` counts edges, nodes, and affinities that
    are not from 0 to 1.
    """

    used: Array
    edge_slots: Array
    edge_keys: Array
    histogram: Array
    sums: Array
    extremes: Array
    node_slots: Array
    node_labels: Array
    node_sums: Array
    boxes: Array


def empty_tables(n: int = 1 << 10) -> Tables:
    """Return tables with room for n edges and n nodes; n is a power of two."""
    return Tables(
        np.zeros(3, np.int64),
        np.zeros(2 * n, np.int32), np.empty(n, np.uint64), np.empty((n, 3, BINS), np.uint32),
        np.empty((n, 15), np.int64), np.empty((n, 3, 2), np.uint16),
        np.zeros(2 * n, np.int32), np.empty(n, np.uint64), np.empty((n, 10), np.int64),
        np.empty((n, 6), np.int32),
    )  # fmt: skip


def grown_edges(tables: Tables, n: int) -> Tables:
    """Return the tables with room for n edges; n is a power of two."""
    keys = _larger(tables.edge_keys, n)
    return tables._replace(
        edge_slots=_slots(keys, tables.used[0]), edge_keys=keys, histogram=_larger(tables.histogram, n),
        sums=_larger(tables.sums, n), extremes=_larger(tables.extremes, n),
    )  # fmt: skip


def grown_nodes(tables: Tables, n: int) -> Tables:
    """Return the tables with room for n nodes; n is a power of two."""
    labels = _larger(tables.node_labels, n)
    return tables._replace(
        node_slots=_slots(labels, tables.used[1]), node_labels=labels, node_sums=_larger(tables.node_sums, n),
        boxes=_larger(tables.boxes, n),
    )  # fmt: skip


def _larger(array: Array, n: int) -> Array:
    """Return the array with n rows; those that are new take no memory before they are written to."""
    larger = np.empty((n, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def add_rows(rows: Array, place: Array, whole: Array) -> None:
    """Add each row to that of the whole which has its place."""
    for i in range(len(rows)):
        for k in range(rows.shape[1]):
            whole[place[i], k] += rows[i, k]


@njit(cache=True, nogil=True)
def _slot(slots: Array, keys: Array, key: np.uint64) -> np.uint64:
    """Return the slot that holds the key, or the free one where it belongs."""
    last = np.uint64(len(slots) - 1)
    mixed = key * _MULTIPLIER
    slot = (mixed ^ (mixed >> _HALF)) & last
    while slots[slot] != 0 and keys[slots[slot] - 1] != key:
        slot = (slot + _ONE) & last
    return slot


@njit(cache=True, nogil=True)
def _slots(keys: Array, n: int) -> Array:
    """Return the hash table of the first n keys."""
    slots = np.zeros(2 * len(keys), np.int32)
    for i in range(n):
        slots[_slot(slots, keys, keys[i])] = i + 1
    return slots


@njit(cache=True, nogil=True)
def accumulate(
    labels: Array, affinities: Array, scale: float, origin: Array, margin: Array, start: int, tables: Tables
) -> Index:
    """Add the rows from `start` on; return the row before which there was no room left, or their number.

    A row is one of (z, y), without the margin: planes at the lower ends that are neighbours only. Affinities
    times `scale` are steps; `origin` is the place of the first voxel.
    """
    depth, height, width = labels.shape
    first = margin[2]
    per_plane = height - margin[1]
    n_rows = (depth - margin[0]) * per_plane
    for row in range(start, n_rows):
        if (
            tables.used[0] + 3 * width > len(tables.edge_keys)
            or tables.used[1] + 4 * width > len(tables.node_labels)
        ):  # fmt: skip
            return row
        z, y = margin[0] + row // per_plane, margin[1] + row % per_plane
        here = labels[z, y, first:]
        at_z, at_y, at_x = origin[0] + z, origin[1] + y, origin[2] + first
        _add_runs(here, at_z, at_y, at_x, tables)
        if z > 0:
            _add_faces(
                0, here, labels[z - 1, y, first:], affinities[0, z, y, first:], scale, at_z, at_y, at_x, tables
            )
        if y > 0:
            _add_faces(
                1, here, labels[z, y - 1, first:], affinities[1, z, y, first:], scale, at_z, at_y, at_x, tables
            )
        x = max(first, 1)
        _add_faces(2, labels[z, y, x:], labels[z, y, x - 1 : width - 1], affinities[2, z, y, x:], scale,
                   at_z, at_y, origin[2] + x, tables)  # fmt: skip
    return n_rows


@njit(cache=True, nogil=True)
def _node(label: np.uint64, tables: Tables) -> Index:
    """Return the place of a node, a new one if it was not met yet."""
    slot = _slot(tables.node_slots, tables.node_labels, label)
    if tables.node_slots[slot] == 0:
        n = tables.used[1]
        tables.node_labels[n] = label
        tables.node_sums[n] = 0
        tables.boxes[n, :3] = 0x7FFFFFFF
        tables.boxes[n, 3:] = -1
        tables.used[1] = n + 1
        tables.node_slots[slot] = n + 1
    return np.int64(tables.node_slots[slot]) - 1


@njit(cache=True, nogil=True)
def _add_runs(here: Array, z: int, y: int, x: int, tables: Tables) -> None:
    """Add one row of voxels to their nodes, run by run; x is the place of the first."""
    start = 0
    while start < len(here):
        label = here[start]
        stop = start + 1
        while stop < len(here) and here[stop] == label:
            stop += 1
        if label != 0:
            _add_run(_node(np.uint64(label), tables), z, y, x + start, x + stop - 1, tables)
        start = stop


@njit(cache=True, nogil=True)
def _add_run(node: int, z: int, y: int, x: int, last: int, tables: Tables) -> None:
    """Add voxels x to last: size, positions, and their products zz, yy, xx, zy, zx, yx."""
    n = last - x + 1
    along = (x + last) * n // 2
    squares = (last * (last + 1) * (2 * last + 1) - (x - 1) * x * (2 * x - 1)) // 6
    sums, box = tables.node_sums[node], tables.boxes[node]
    sums[0] += n
    sums[1] += n * z
    sums[2] += n * y
    sums[3] += along
    sums[4] += n * z * z
    sums[5] += n * y * y
    sums[6] += squares
    sums[7] += n * z * y
    sums[8] += along * z
    sums[9] += along * y
    box[0], box[1], box[2] = min(box[0], z), min(box[1], y), min(box[2], x)
    box[3], box[4], box[5] = max(box[3], z), max(box[4], y), max(box[5], last)


@njit(cache=True, nogil=True)
def _edge(key: np.uint64, tables: Tables) -> Index:
    """Return the place of an edge, a new one if it was not met yet; its ends become nodes."""
    slot = _slot(tables.edge_slots, tables.edge_keys, key)
    if tables.edge_slots[slot] == 0:
        n = tables.used[0]
        tables.edge_keys[n] = key
        tables.histogram[n] = 0
        tables.sums[n] = 0
        tables.extremes[n, :, 0] = 0xFFFF
        tables.extremes[n, :, 1] = 0
        tables.used[0] = n + 1
        tables.edge_slots[slot] = n + 1
        _node(key >> _HALF, tables)
        _node(key & np.uint64(0xFFFFFFFF), tables)
    return np.int64(tables.edge_slots[slot]) - 1


@njit(cache=True, nogil=True)
def _add_faces(
    c: int, here: Array, beside: Array, values: Array, scale: float, z: int, y: int, x: int, tables: Tables
) -> None:
    """Add one row of faces across axis c; positions count in halves, since a face lies between two voxels."""
    known, edge = np.uint64(0), 0
    row_z, row_y, shift = 2 * z - (c == 0), 2 * y - (c == 1), 2 * x - (c == 2)
    for i in range(len(here)):
        a, b = here[i], beside[i]
        if a == b or a == 0 or b == 0:
            continue
        scaled = values[i] * scale
        if not (-0.5 <= scaled < STEPS + 0.5):  # NaN is neither
            tables.used[2] += 1
            continue
        key = (np.uint64(min(a, b)) << _HALF) | np.uint64(max(a, b))
        if key != known:
            known, edge = key, _edge(key, tables)
        v = np.int64(scaled + 0.5)
        position = 2 * i + shift
        k: Index = v // _WIDTH
        tables.histogram[edge, c, min(k, BINS - 1)] += np.uint32(1)
        sums, extremes = tables.sums[edge], tables.extremes[edge, c]
        sums[c] += 1
        sums[3 + c] += v
        sums[6 + c] += v * v
        sums[9] += row_z
        sums[10] += row_y
        sums[11] += position
        sums[12] += row_z * row_z
        sums[13] += row_y * row_y
        sums[14] += position * position
        extremes[0], extremes[1] = min(extremes[0], np.uint16(v)), max(extremes[1], np.uint16(v))
