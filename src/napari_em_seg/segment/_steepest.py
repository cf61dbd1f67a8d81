"""Compiled loops of steepest ascent on affinities: every voxel runs along its strongest edges.

A pointer is the flat index of the voxel that a voxel runs to. With the highest bit set it is a label instead
(0: background) or, until that is settled, the state of a voxel with several strongest edges: bits 0 to 5 say
which (z−1, y−1, x−1, x+1, y+1, z+1: as indices rise), bit 6 that they are as strong as edges can be, and bit 7
that the voxel is in the queue, to run off along the edge given by bits 8 to 10.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["climb", "level_out", "number"]

Array = NDArray[Any]
Planes = tuple[Array, Array, Array]
Index = Any  # a Python int, or one of numpy's

_MARK = np.uint32(0x80000000)
_NUMBER = np.uint32(0x7FFFFFFF)
_EDGES = np.uint32(0x3F)
_STRONGEST = np.uint32(0x40)
_QUEUED = np.uint32(0x80)
_ONE = np.uint32(1)
_EXIT = np.uint32(8)  # bits below those that give the way out

# Machine code is kept on disk (cache=True), and no kernel here calls one in another file, so that it is made
# anew whenever it has to be.


@njit(cache=True, nogil=True)
def climb(
    planes: Planes, after: Array, inside: Array, low: Any, high: Any, z: int, depth: int, out: Array
) -> int:
    """Point the voxels of slice z along their strongest edges; return how many have several below ``high``.

    Parameters
    ----------
    planes, after
        Affinities along z, y and x of this slice, and along z of the next one (not read if there is none).
    inside
        The mask of the slices before, here and after (3, y, x), False beyond the volume; empty for no mask.
    """
    rows, width = out.shape
    edges = np.zeros((6, width + 1), after.dtype)  # the last of each row stays 0: no edge
    steps = np.array((-rows * width, -width, -1, 1, width, rows * width), np.int32)
    n_tied = 0
    for y in range(rows):
        if z > 0:
            _read(planes[0][y], low, high, edges[0])
        if z < depth - 1:
            _read(after[y], low, high, edges[5])
        _read(planes[2][y], low, high, edges[2])
        edges[2, 0] = 0
        for k, line in ((1, y), (4, y + 1)):
            edges[k, :] = 0
            if 0 < line < rows:
                _read(planes[1][line], low, high, edges[k])
        if inside.size:
            _cut(inside, y, edges)
        n_tied += _point(edges, steps, np.uint32((z * rows + y) * width), high, out[y])
    return n_tied


@njit(cache=True, nogil=True)
def _read(affinities: Array, low: Any, high: Any, out: Array) -> None:
    """Drop weak edges, and make all strong ones equally strong."""
    none = out.dtype.type(0)
    for x in range(len(affinities)):
        a = affinities[x]
        out[x] = min(a, high) if a >= low else none


@njit(cache=True, nogil=True)
def _cut(inside: Array, y: int, edges: Array) -> None:
    """Remove the edges of one row that lead into or out of the mask."""
    here = inside[1, y]
    rows, width = inside.shape[1:]
    for x in range(width):
        if not (here[x] and inside[0, y, x]):
            edges[0, x] = 0
        if not (here[x] and y > 0 and inside[1, y - 1, x]):
            edges[1, x] = 0
        if not (here[x] and x > 0 and here[x - 1]):
            edges[2, x] = 0
        if not (here[x] and y < rows - 1 and inside[1, y + 1, x]):
            edges[4, x] = 0
        if not (here[x] and inside[2, y, x]):
            edges[5, x] = 0


@njit(cache=True, nogil=True)
def _point(edges: Array, steps: Array, first: np.uint32, high: Any, out: Array) -> Index:
    """Set the pointers of one row, free of branches; return how many voxels have several strongest edges."""
    n_tied = np.int32(0)
    e0, e1, e2, e3, e4, e5 = edges[0], edges[1], edges[2], edges[2, 1:], edges[4], edges[5]
    s0, s1, s2, s3, s4, s5 = steps[0], steps[1], steps[2], steps[3], steps[4], steps[5]
    for x in range(len(out)):
        most = max(e0[x], e1[x], e2[x], e3[x], e4[x], e5[x])
        bits = np.int32(e0[x] == most) | np.int32(e1[x] == most) << 1 | np.int32(e2[x] == most) << 2
        bits |= np.int32(e3[x] == most) << 3 | np.int32(e4[x] == most) << 4 | np.int32(e5[x] == most) << 5
        step = s0 if bits == 1 else (s1 if bits == 2 else s2)
        step = s3 if bits == 8 else (s4 if bits == 16 else (s5 if bits == 32 else step))
        is_tied = (bits & (bits - 1)) != 0
        is_strongest = most >= high
        state = bits | (np.int32(is_strongest) << 6)
        state = state if most > 0 else np.int32(0)
        pointer = np.uint32(first + np.uint32(x) + np.uint32(step))
        out[x] = (np.uint32(state) | _MARK) if is_tied or most == 0 else pointer
        n_tied += np.int32(is_tied and not is_strongest and most > 0)
    return n_tied


@njit(cache=True, nogil=True)
def level_out(pointers: Array, queue: Array, shape: tuple[int, int, int]) -> None:
    """Let the voxels with several strongest edges run to the nearest way up, or to one voxel of their plateau.

    The queue has room for those with edges below ``high``; a plateau of edges of ``high`` has no way up.
    """
    steps = np.array((-shape[1] * shape[2], -shape[2], -1, 1, shape[2], shape[1] * shape[2]))
    if len(queue):
        _spread(pointers, queue, steps, _exits(pointers, queue, steps))
    for v in range(pointers.size):
        p = pointers[v]
        if p & _MARK == 0:
            if p > v and pointers[p] == v:  # two that run to each other
                pointers[v] = v
        elif p & _EDGES:
            pointers[v] = v
            for k in range(3):
                u = v + steps[k]
                if p >> np.uint32(k) & _ONE and pointers[u] != v:  # else it runs to v, and to nothing else
                    a, b = _top(pointers, u), _top(pointers, v)
                    pointers[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _is_mutual(pointers: Array, v: Index, u: Index, k: Index) -> bool:
    """Say if u, which v reaches along its k-th edge, has that edge among its strongest too."""
    p = pointers[u]
    return bool(p == v if p & _MARK == 0 else p >> np.uint32(5 - k) & _ONE)


@njit(cache=True, nogil=True)
def _exits(pointers: Array, queue: Array, steps: Array) -> int:
    """Queue the plateau voxels with a strongest edge to a voxel that has a stronger one; return how many."""
    n = 0
    for v in range(pointers.size):
        p = pointers[v]
        if p & _MARK == 0 or p & _EDGES == 0 or p & _STRONGEST:
            continue
        for k in range(6):
            if p >> np.uint32(k) & _ONE and not _is_mutual(pointers, v, v + steps[k], k):
                pointers[v] = p | _QUEUED | np.uint32(k) << _EXIT
                queue[n] = v
                n += 1
                break
    return n


@njit(cache=True, nogil=True)
def _spread(pointers: Array, queue: Array, steps: Array, tail: int) -> None:
    """Walk plateaus from the queued voxels, nearest first, and point back.

    First come, first served: each level of the queue is in the order of the exits from which it was reached, so
    that of equally near ones the first in the volume gets the voxel.
    """
    head = 0
    while head < tail:
        v = np.int64(queue[head])
        head += 1
        p = pointers[v]
        for k in range(6):
            if p >> np.uint32(k) & _ONE:
                u = v + steps[k]
                q = pointers[u]
                if q & _MARK and q >> np.uint32(5 - k) & _ONE and q & _QUEUED == 0:
                    pointers[u] = q | _QUEUED | np.uint32(5 - k) << _EXIT
                    queue[tail] = u
                    tail += 1
        pointers[v] = v + steps[p >> _EXIT & np.uint32(7)]


@njit(cache=True, nogil=True)
def _top(parent: Array, i: Index) -> Index:
    """Return the one that stands for all that were joined with i."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = np.int64(parent[i])
    return i


@njit(cache=True, nogil=True)
def number(pointers: Array) -> int:
    """Replace pointers by labels from 1 on, in the order in which they are met; return how many there are."""
    n = np.uint32(0)
    for v in range(pointers.size):
        u, p = np.uint32(v), pointers[v]
        while p & _MARK == 0 and p != u:
            u, p = p, pointers[p]
        if p & _MARK == 0:  # nobody was here before
            n += _ONE
            p = n | _MARK
            pointers[u] = p
        w = pointers[v]
        pointers[v] = p
        while w & _MARK == 0:
            pointers[w], w = p, pointers[w]
    for v in range(pointers.size):
        pointers[v] &= _NUMBER
    return int(n)
