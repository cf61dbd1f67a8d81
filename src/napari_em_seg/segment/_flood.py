"""Compiled loops of the watershed: every voxel runs downhill to a minimum; basins meet at their lowest passes.

A pointer is the flat index of the neighbour that a voxel runs to, in 31 bits; with the highest bit set it is
the number of a basin instead. Slices may be displaced: ``drift[z]`` is the step (rows, columns) that leads from
a voxel to its neighbour in slice ``z + 1``. All kernels that take ``start`` and ``stop`` work on these slices,
and may run side by side; the result does not depend on who is first.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "OUTSIDE",
    "collect",
    "count_minima",
    "descend",
    "level_out",
    "number_minima",
    "relabel",
    "resolve",
    "span",
    "unite",
]

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

OUTSIDE = 0xFFFF  # height of what is not flooded
_BASIN = np.uint32(0x80000000)
_NUMBER = np.uint32(0x7FFFFFFF)
_LEVEL = np.uint32(0x7FFFFFFF)  # pointer of a voxel without lower neighbours, but with one as high
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HALF = np.uint64(32)

# Machine code is kept on disk (cache=True): it takes seconds to make, and no kernel here calls one in another
# file, so that it is made anew whenever it has to be.


@njit(cache=True, nogil=True)
def _read(heights: Array, z: int, y: int, shift: int, row: Array) -> None:
    """Set row[1 + x] to the height at (z, y, x + shift); OUTSIDE beyond the volume."""
    depth, rows, width = heights.shape
    if z < 0 or z >= depth or y < 0 or y >= rows:
        row[:] = OUTSIDE
        return
    first, last = max(0, -shift), min(width, width - shift)
    row[: first + 1] = OUTSIDE
    row[max(last, first) + 1 :] = OUTSIDE
    for x in range(first, last):
        row[1 + x] = heights[z, y, x + shift]


@njit(cache=True, nogil=True)
def descend(heights: Array, drift: Array, is_deep: bool, start: int, stop: int, pointers: Array) -> int:
    """Point every voxel to its lowest neighbour, if that is lower; return the voxels left on level ground.

    Of equally low neighbours the first in the order z−1, y−1, x−1, x+1, y+1, z+1 is taken.
    """
    depth, rows, width = heights.shape
    row = np.full((5, width + 2), OUTSIDE, np.uint16)
    steps = np.zeros(6, np.int32)
    steps[1:5] = -width, -1, 1, width
    n_level = 0
    for z in range(start, stop):
        down = drift[z - 1] if z > 0 else drift[depth - 1]
        up = drift[z]
        steps[0] = -(rows + down[0]) * width - down[1]
        steps[5] = (rows + up[0]) * width + up[1]
        for y in range(rows):
            _read(heights, z, y, 0, row[0])
            _read(heights, z, y - 1, 0, row[1])
            _read(heights, z, y + 1, 0, row[2])
            if is_deep:
                _read(heights, z - 1, y - down[0], -down[1], row[3])
                _read(heights, z + 1, y + up[0], up[1], row[4])
            n_level += _point(row, steps, np.uint32((z * rows + y) * width), pointers[z, y])
    return n_level


@njit(cache=True, nogil=True)
def _point(row: Array, steps: Array, first: np.uint32, pointers: Array) -> Index:
    """Set the pointers of one row, free of branches; return how many voxels lie on level ground."""
    n_level = np.int32(0)
    here, above, below, under, over = row[0], row[1], row[2], row[3], row[4]
    s0, s1, s2, s3, s4, s5 = steps[0], steps[1], steps[2], steps[3], steps[4], steps[5]
    for x in range(len(pointers)):
        height = here[x + 1]
        low, step = under[x + 1], s0
        low, step = (above[x + 1], s1) if above[x + 1] < low else (low, step)
        low, step = (here[x], s2) if here[x] < low else (low, step)
        low, step = (here[x + 2], s3) if here[x + 2] < low else (low, step)
        low, step = (below[x + 1], s4) if below[x + 1] < low else (low, step)
        low, step = (over[x + 1], s5) if over[x + 1] < low else (low, step)
        step = step if low < height else np.int32(0)
        pointer = np.uint32(first + np.uint32(x) + np.uint32(step))
        is_level = low == height
        pointer = _LEVEL if is_level else pointer
        is_outside = height == OUTSIDE
        pointers[x] = _BASIN if is_outside else pointer
        n_level += np.int32(is_level and not is_outside)
    return n_level


@njit(cache=True, nogil=True)
def _beside(z: Index, y: Index, x: Index, k: int, drift: Array, shape: tuple[int, int, int]) -> Index:
    """Return the flat index of the k-th neighbour (z−1, y−1, x−1, x+1, y+1, z+1); −1 beyond the volume."""
    depth, rows, width = shape
    if k == 0:
        z -= 1
        if z < 0:
            return -1
        y, x = y - drift[z, 0], x - drift[z, 1]
    elif k == 5:
        if z == depth - 1:
            return -1
        y, x = y + drift[z, 0], x + drift[z, 1]
        z += 1
    elif k == 1 or k == 4:
        y += 1 if k == 4 else -1
    else:
        x += 1 if k == 3 else -1
    return (z * rows + y) * width + x if 0 <= y < rows and 0 <= x < width else -1


@njit(cache=True, nogil=True)
def level_out(
    heights: Array, drift: Array, is_deep: bool, start: int, stop: int, pointers: Array, queue: Array
) -> None:
    """Point the voxels on level ground to the nearest way down, or to one voxel of their minimum.

    The queue has room for all of them. In three dimensions it has to be the whole volume at once.
    """
    _spread(heights, drift, is_deep, pointers, queue,
            _shores(heights, drift, is_deep, start, stop, pointers, queue))  # fmt: skip
    height, pointer = heights.ravel(), pointers.ravel()
    rows, width = heights.shape[1:]
    for z in range(start, stop):
        for y in range(rows):
            for x in range(width):
                v = (z * rows + y) * width + x
                if pointer[v] != _LEVEL:
                    continue
                pointer[v] = v
                for k in range(0 if is_deep else 1, 3):  # as high means in the same minimum
                    u = _beside(z, y, x, k, drift, heights.shape)
                    if u >= 0 and height[u] == height[v]:
                        a, b = _top(pointer, u), _top(pointer, v)
                        pointer[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _shores(
    heights: Array, drift: Array, is_deep: bool, start: int, stop: int, pointers: Array, queue: Array
) -> int:
    """Queue the level voxels beside one as high that has a way down, and point them there; return how many."""
    height, pointer = heights.ravel(), pointers.ravel()
    first, last = (0, 6) if is_deep else (1, 5)
    rows, width = heights.shape[1:]
    n = 0
    for z in range(start, stop):
        for y in range(rows):
            for x in range(width):
                v = (z * rows + y) * width + x
                if pointer[v] != _LEVEL:
                    continue
                for k in range(first, last):
                    u = _beside(z, y, x, k, drift, heights.shape)
                    if u >= 0 and height[u] == height[v] and pointer[u] < _LEVEL:
                        pointer[v] = np.uint32(u) | _BASIN  # no way down yet for the voxels that come after
                        queue[n] = v
                        n += 1
                        break
    for i in range(n):
        pointer[queue[i]] &= _NUMBER
    return n


@njit(cache=True, nogil=True)
def _spread(heights: Array, drift: Array, is_deep: bool, pointers: Array, queue: Array, tail: int) -> None:
    """Walk level ground from the queued voxels, nearest first, and point back."""
    height, pointer = heights.ravel(), pointers.ravel()
    first, last = (0, 6) if is_deep else (1, 5)
    rows, width = heights.shape[1:]
    head = 0
    while head < tail:
        v = np.int64(queue[head])
        head += 1
        line = v // width
        z = line // rows
        for k in range(first, last):
            u = _beside(z, line - z * rows, v - line * width, k, drift, heights.shape)
            if u >= 0 and pointer[u] == _LEVEL and height[u] == height[v]:
                pointer[u] = v
                queue[tail] = u
                tail += 1


@njit(cache=True, nogil=True)
def count_minima(pointers: Array, first: int) -> int:
    """Count the voxels that point to themselves, where the first has this flat index."""
    n = 0
    for v, pointer in enumerate(pointers.ravel()):
        n += pointer == first + v
    return n


@njit(cache=True, nogil=True)
def number_minima(heights: Array, pointers: Array, first: int, number: int, minima: Array) -> None:
    """Give the minima numbers, from ``number`` on, and note how high they are."""
    height, pointer = heights.ravel(), pointers.ravel()
    for v in range(pointer.size):
        if pointer[v] == first + v:
            minima[number] = height[v]
            pointer[v] = np.uint32(number) | _BASIN
            number += 1


@njit(cache=True, nogil=True)
def resolve(pointers: Array, start: int, stop: int) -> None:
    """Follow all pointers of these voxels down to the number of a basin, and leave that on the way."""
    for v in range(start, stop):
        u = pointers[v]
        while u < _BASIN:
            u = pointers[u]
        basin, w = u, pointers[v]
        pointers[v] = basin
        while w < _BASIN:
            pointers[w], w = basin, pointers[w]


@njit(cache=True, nogil=True)
def collect(
    heights: Array, drift: Array, is_deep: bool, start: int, stop: int, labels: Array
) -> tuple[Array, Array]:
    """Return the pairs of basins that touch (first << 32 | second) and their lowest passes; bare the numbers.

    A pass is the higher of two neighbours, one in each basin.
    """
    depth, rows, width = heights.shape
    keys, passes, used = np.zeros(1 << 12, np.int64), np.zeros(1 << 12, np.uint16), 0
    for z in range(start, stop):
        for y in range(rows):
            keys, passes, used = _collect_row(heights[z, y, :-1], heights[z, y, 1:], labels[z, y, :-1],
                                              labels[z, y, 1:], keys, passes, used)  # fmt: skip
            if y < rows - 1:
                keys, passes, used = _collect_row(heights[z, y], heights[z, y + 1], labels[z, y],
                                                  labels[z, y + 1], keys, passes, used)  # fmt: skip
            dy, dx = drift[z]
            if is_deep and z < depth - 1 and 0 <= y + dy < rows:
                a, b = max(0, -dx), max(0, dx)
                n = max(0, width - a - b)
                keys, passes, used = _collect_row(
                    heights[z, y, a : a + n], heights[z + 1, y + dy, b : b + n],
                    labels[z, y, a : a + n], labels[z + 1, y + dy, b : b + n], keys, passes, used,
                )  # fmt: skip
            for x in range(width):
                labels[z, y, x] &= _NUMBER
    is_used = keys != 0
    return keys[is_used], passes[is_used]


@njit(cache=True, nogil=True)
def _collect_row(
    height: Array, beside: Array, label: Array, other: Array, keys: Array, passes: Array, used: int
) -> tuple[Array, Array, int]:
    """Note the passes between the voxels of a row and their neighbours along one axis."""
    last, slot = np.int64(0), 0
    for x in range(len(label)):
        a, b = np.int64(label[x] & _NUMBER), np.int64(other[x] & _NUMBER)
        if a == b or a == 0 or b == 0:
            continue
        key = min(a, b) << 32 | max(a, b)
        saddle = max(height[x], beside[x])
        if key != last:
            slot, last = _slot(keys, key), key
            if keys[slot] == 0:
                keys[slot], passes[slot] = key, saddle
                used += 1
                if 2 * used > len(keys):
                    keys, passes = _grown(keys, passes)
                    last = np.int64(0)
                continue
        passes[slot] = min(passes[slot], saddle)
    return keys, passes, used


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
def _grown(keys: Array, passes: Array) -> tuple[Array, Array]:
    """Return a table with the same pairs and twice the room."""
    larger, values = np.zeros(2 * len(keys), np.int64), np.zeros(2 * len(keys), np.uint16)
    for i in range(len(keys)):
        if keys[i] != 0:
            slot = _slot(larger, keys[i])
            larger[slot], values[slot] = keys[i], passes[i]
    return larger, values


@njit(cache=True, nogil=True)
def _top(parent: Array, i: Index) -> Index:
    """Return the one that stands for all that were joined with i."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = np.int64(parent[i])
    return i


@njit(cache=True, nogil=True)
def span(keys: Array, passes: Array, order: Array, minima: Array) -> tuple[Array, Array]:
    """Join basins across their passes, lowest first: return which passes joined two, and the dynamics there.

    Of two groups that meet, the one with the higher minimum ends. How far the pass lies above that minimum
    is its dynamics, the depth at which an H-minima filter fills it.
    """
    low: Index = np.int64(len(minima))
    high: Index = np.int64(0)
    for key in keys:
        low, high = min(low, key >> 32), max(high, key & 0xFFFFFFFF)
    parent = np.arange(max(0, high - low + 1)).astype(np.uint32)
    kept, dynamics = np.empty(len(parent), np.int64), np.empty(len(parent), np.uint16)
    n = 0
    for i in order:
        a, b = _top(parent, (keys[i] >> 32) - low), _top(parent, (keys[i] & 0xFFFFFFFF) - low)
        if a == b:
            continue
        if minima[b + low] < minima[a + low] or (minima[a + low] == minima[b + low] and b < a):
            a, b = b, a
        parent[b] = a
        kept[n], dynamics[n] = i, passes[i] - minima[b + low]
        n += 1
    return kept[:n], dynamics[:n]


@njit(cache=True, nogil=True)
def unite(edges: Array, is_joined: Array, n: int) -> Array:
    """Return the new number, from 1 on and in order, of each basin from 0 (nothing) to n."""
    parent = np.arange(n + 1).astype(np.uint32)
    for i in range(len(edges)):
        if is_joined[i]:
            a, b = _top(parent, np.int64(edges[i, 0])), _top(parent, np.int64(edges[i, 1]))
            parent[max(a, b)] = min(a, b)
    number = np.uint32(0)
    table = np.zeros(n + 1, np.uint32)
    for i in range(1, n + 1):
        if parent[i] == i:
            number += np.uint32(1)
            table[i] = number
        else:
            table[i] = table[parent[i]]
    return table


@njit(cache=True, nogil=True)
def relabel(labels: Array, table: Array, out: Array) -> None:
    """Write the new number of every voxel; labels and out may be the same."""
    for v in range(labels.size):
        out[v] = table[labels[v]]
