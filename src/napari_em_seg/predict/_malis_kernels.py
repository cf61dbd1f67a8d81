"""Compiled loops of MALIS: join voxels along the strongest edges first, and count the pairs that each joins.

An edge has the number ``c * n + v``: it joins voxel v, of n, to the one before it along axis c, which lies
``steps[c]`` before it. Equally strong edges come in the order of their numbers. Groups of voxels are trees:
``parent[v]`` is a voxel nearer to the root, and at the root minus the number of voxels in the tree.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["join_across", "join_within", "list_edges"]

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

_KEYS = 1 << 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HALF = np.uint64(32)

# Machine code is kept on disk (cache=True): it takes seconds to make, and no kernel here calls one in another
# file, so that it is made anew whenever it has to be.


@njit(cache=True, nogil=True)
def list_edges(affinities: Array, ids: Array, known: Array, keys: Array) -> tuple[Array, Array]:
    """Return the edges within objects and all others, and set the keys: how weak each is, in 16 bits.

    Where ``known`` (not empty) is false there is no edge.
    """
    depth, rows, width = ids.shape
    within, across = np.empty(3 * ids.size, np.int32), np.empty(3 * ids.size, np.int32)
    n_within, n_across = 0, 0
    for c in range(3):
        for z in range(c == 0, depth):
            for y in range(c == 1, rows):
                here, before = ids[z, y], ids[z - (c == 0), y - (c == 1)]
                strength = affinities[c, z, y]
                first = ((c * depth + z) * rows + y) * width
                for x in range(c == 2, width):
                    if known.size > 0 and not known[c, z, y, x]:
                        continue
                    keys[first + x] = np.uint16(
                        (np.float32(1) - strength[x]) * np.float32(65535) + np.float32(0.5)
                    )
                    is_within = here[x] != 0 and here[x] == before[x - (c == 2)]
                    within[n_within] = across[n_across] = first + x
                    n_within += is_within
                    n_across += not is_within
    return within[:n_within], across[:n_across]


@njit(cache=True, nogil=True)
def _top(parent: Array, i: Index) -> Index:
    """Return the root of the tree that i is in; the way there is halved for those who come next."""
    above = parent[i]
    if above < 0:
        return i
    beyond = parent[above]
    while beyond >= 0:
        parent[i] = beyond
        i, above = above, beyond
        beyond = parent[above]
    return above


@njit(cache=True, nogil=True)
def _ends(edge: Index, n: Index, steps: Array) -> tuple[Index, Index]:
    """Return the two voxels of an edge; without a division, which would take as long as all the rest."""
    axis = np.int32(edge >= n) + np.int32(edge >= 2 * n)
    voxel = edge - axis * n
    return voxel, voxel - steps[axis]


@njit(cache=True, nogil=True)
def _hang(parent: Array, a: Index, b: Index) -> Index:
    """Hang the smaller of two trees on the root of the larger, and return that."""
    if parent[a] > parent[b]:
        a, b = b, a
    parent[a] += parent[b]
    parent[b] = a
    return a


@njit(cache=True, nogil=True)
def _strongest(edges: Array, keys: Array, wanted: Index) -> tuple[Array, Index]:
    """Return the first edges in the order of their keys, at least as many as wanted, and the next key."""
    starts = np.zeros(_KEYS + 1, np.int32)
    for edge in edges:
        starts[np.int64(keys[edge]) + 1] += 1
    stop = 0
    while stop < _KEYS and starts[stop] < wanted:
        stop += 1
        starts[stop] += starts[stop - 1]
    order = np.empty(starts[stop], np.int32)
    for edge in edges:
        key = np.int64(keys[edge])
        if key < stop:
            order[starts[key]] = edge
            starts[key] += 1
    return order, stop


@njit(cache=True, nogil=True)
def _still_apart(edges: Array, keys: Array, stop: Index, steps: Array, parent: Array) -> Array:
    """Return the edges from a key on that do not lie within one group.

    Neighbours after neighbours, this is many times faster than finding it out in the order of strength.
    """
    kept, k = np.empty(len(edges), np.int32), 0
    for edge in edges:
        if keys[edge] >= stop:
            v, u = _ends(edge, np.int32(len(parent)), steps)
            kept[k] = edge
            k += _top(parent, v) != _top(parent, u)
    return kept[:k]


@njit(cache=True, nogil=True)
def join_within(edges: Array, keys: Array, steps: Array, parent: Array) -> tuple[Array, Array]:
    """Join voxels along edges; return the edges that joined two groups, and the products of their sizes."""
    n = np.int32(len(parent))
    joined, pairs, k = np.empty(n, np.int32), np.empty(n, np.int64), 0
    while len(edges) > 0:
        order, stop = _strongest(edges, keys, n)
        for edge in order:
            v, u = _ends(edge, n, steps)
            a, b = _top(parent, v), _top(parent, u)
            if a != b:
                joined[k], pairs[k] = edge, np.int64(parent[a]) * np.int64(parent[b])
                k += 1
                _hang(parent, a, b)
        edges = _still_apart(edges, keys, stop, steps, parent)
    return joined[:k], pairs[:k]


@njit(cache=True, nogil=True)
def join_across(
    edges: Array, keys: Array, steps: Array, parent: Array, mass: Array, bag: Array, labels: Array
) -> tuple[Array, Array]:
    """Join objects along edges; return the edges that parted different objects, and how many pairs of voxels.

    Parameters
    ----------
    edges, keys, steps
        As in the pass within objects, which comes first and leaves each piece of an object one tree.
    parent, mass
        The trees, and at each root how many voxels of the tree are in objects. Both are changed.
    bag, labels
        For objects in several pieces: where voxel v is the root of piece k, ``bag[v]`` is k + 1 (else 0), and
        ``labels[k]`` numbers the object. Empty where there are none. Pairs within an object do not count.
    """
    n = np.int32(len(parent))
    for v in range(n):
        if parent[v] >= 0:
            parent[v] = _top(parent, v)
    joined, pairs, k = np.empty(n, np.int32), np.empty(n, np.int64), 0
    table, used, items, bags = _bags(bag, labels, mass)
    while len(edges) > 0:
        order, stop = _strongest(edges, keys, n)
        for edge in order:
            v, u = _ends(edge, n, steps)
            a, b = _top(parent, v), _top(parent, u)
            if a == b:
                continue
            count = np.int64(mass[a]) * np.int64(mass[b])
            if len(bag) > 0 and bag[a] > 0 and bag[b] > 0:
                bag[a], same, table, used = _pour(bag[a], bag[b], table, used, items, bags)
                count -= same
            elif len(bag) > 0:
                bag[a] += bag[b]
            top = _hang(parent, a, b)
            mass[top] = mass[a] + mass[b]
            if len(bag) > 0:
                bag[top] = bag[a]
            if count > 0:
                joined[k], pairs[k] = edge, count
                k += 1
        edges = _still_apart(edges, keys, stop, steps, parent)
    return joined[:k], pairs[:k]


# A bag says how many voxels of each object in several pieces a group holds. It is a chain of items (object,
# voxels, next item) from the first to the last; a hash table finds the item of an object in a bag.


@njit(cache=True, nogil=True)
def _bags(bag: Array, labels: Array, mass: Array) -> tuple[Array, Index, Array, Array]:
    """Return a table (key, item), how many it holds, the items, and the bags (first, last item, length)."""
    items, bags = np.zeros((len(labels) + 1, 3), np.int64), np.zeros((len(labels) + 1, 3), np.int64)
    table, used = np.zeros((1 << 4, 2), np.int64), 0
    for v in range(len(bag)):
        k = bag[v]
        if k > 0:
            items[k, 0], items[k, 1] = labels[k - 1], mass[v]
            bags[k, 0], bags[k, 1], bags[k, 2] = k, k, 1
            table, used = _noted(table, used, np.int64(k) << 32 | labels[k - 1], np.int64(k))
    return table, used, items, bags


@njit(cache=True, nogil=True)
def _pour(
    large: Index, small: Index, table: Array, used: Index, items: Array, bags: Array
) -> tuple[Index, Index, Array, Index]:
    """Pour the bag with fewer objects into the other; return that, and the pairs that have one object.

    An item moves only into a bag twice as long as the one it was in, so at most log₂ n times.
    """
    if bags[large, 2] < bags[small, 2]:
        large, small = small, large
    same, item = np.int64(0), bags[small, 0]
    while item > 0:
        next_item = items[item, 2]
        key = np.int64(large) << 32 | items[item, 0]
        slot = _slot(table, key)
        if table[slot, 0] == key:
            there = table[slot, 1]
            same += items[there, 1] * items[item, 1]
            items[there, 1] += items[item, 1]
        else:
            table, used = _noted(table, used, key, item)
            items[bags[large, 1], 2], items[item, 2] = item, 0
            bags[large, 1] = item
            bags[large, 2] += 1
        item = next_item
    return large, same, table, used


@njit(cache=True, nogil=True)
def _slot(table: Array, key: Index) -> Index:
    """Return the place of a key in the table, or the free one (0) where it belongs."""
    last = len(table) - 1
    mixed = np.uint64(key) * _MULTIPLIER  # unsigned: signed numbers may not overflow
    mixed = (mixed ^ (mixed >> _HALF)) * _MULTIPLIER
    slot = np.int64(mixed >> _HALF) & last
    while table[slot, 0] != 0 and table[slot, 0] != key:
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def _noted(table: Array, used: Index, key: Index, item: Index) -> tuple[Array, Index]:
    """Put a new key into the table; return it, or one with twice the room where it is half full."""
    if 2 * used >= len(table):
        larger = np.zeros((2 * len(table), 2), np.int64)
        for k in range(len(table)):
            if table[k, 0] != 0:
                larger[_slot(larger, table[k, 0])] = table[k]
        table = larger
    slot = _slot(table, key)
    table[slot, 0], table[slot, 1] = key, item
    return table, used + 1
