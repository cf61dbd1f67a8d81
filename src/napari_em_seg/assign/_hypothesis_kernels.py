"""Compiled loops over nested regions: their order, their sums, and which of them are worth keeping."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["add_up", "boxes", "kept_parent", "own_moments", "preorder", "prune"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _children(parent: Array) -> Any:
    """Return the children of each node as linked lists (first child, next brother), and the roots likewise."""
    n = len(parent)
    first, after = np.full(n + 1, -1, np.int32), np.full(n, -1, np.int32)
    for i in range(n - 1, -1, -1):
        up = parent[i] if parent[i] >= 0 else n
        after[i] = first[up]
        first[up] = i
    return first, after


@njit(cache=True, nogil=True)
def preorder(parent: Array) -> Any:
    """Return the nodes so that each stands before all below it, and the place of the last one below each."""
    n = len(parent)
    first, after = _children(parent)
    order, last, place = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
    done = 0
    node = first[n]
    while node >= 0:
        order[done] = node
        place[node] = done
        done += 1
        if first[node] >= 0:
            node = first[node]
            continue
        while node >= 0:
            last[place[node]] = done - 1
            if after[node] >= 0:
                node = after[node]
                break
            node = parent[node]
    return order, last


@njit(cache=True, nogil=True)
def own_moments(nodes: Array, n: int) -> Array:
    """Return sums over the pixels that are in no smaller region: 1, y, x, yy, xx, yx."""
    sums = np.zeros((n, 6))
    for z in range(nodes.shape[0]):
        for y in range(nodes.shape[1]):
            for x in range(nodes.shape[2]):
                i = nodes[z, y, x]
                if i >= 0:
                    sums[i, 0] += 1
                    sums[i, 1] += y
                    sums[i, 2] += x
                    sums[i, 3] += y * y
                    sums[i, 4] += x * x
                    sums[i, 5] += y * x
    return sums


@njit(cache=True, nogil=True)
def add_up(own: Array, parent: Array) -> Array:
    """Return for each node the sum over itself and all below; every node stands before those."""
    total = own.copy()
    for i in range(len(parent) - 1, -1, -1):
        if parent[i] >= 0:
            total[parent[i]] += total[i]
    return total


@njit(cache=True, nogil=True)
def boxes(nodes: Array, parent: Array) -> Array:
    """Return first y and x, last y and x of each region; every node stands before those below."""
    found = np.empty((len(parent), 4), np.int32)
    found[:, :2], found[:, 2:] = np.iinfo(np.int32).max, -1
    for z in range(nodes.shape[0]):
        for y in range(nodes.shape[1]):
            for x in range(nodes.shape[2]):
                i = nodes[z, y, x]
                if i >= 0:
                    found[i, 0], found[i, 1] = min(found[i, 0], y), min(found[i, 1], x)
                    found[i, 2], found[i, 3] = max(found[i, 2], y), max(found[i, 3], x)
    for i in range(len(parent) - 1, -1, -1):
        p = parent[i]
        if p >= 0:
            for k in range(2):
                found[p, k] = min(found[p, k], found[i, k])
                found[p, 2 + k] = max(found[p, 2 + k], found[i, 2 + k])
    return found


@njit(cache=True, nogil=True)
def prune(nodes: Array, parent: Array, birth: Array, min_area: int, max_area: int, max_depth: int) -> Any:
    """Return for each region the kept one that its pixels go to (−1: none), and the births of those kept."""
    n = len(parent)
    order, _ = preorder(parent)
    area = np.zeros(n, np.int64)
    for y in range(nodes.shape[0]):
        for x in range(nodes.shape[1]):
            if nodes[y, x] >= 0:
                area[nodes[y, x]] += 1
    for k in range(n - 1, -1, -1):
        if parent[order[k]] >= 0:
            area[parent[order[k]]] += area[order[k]]

    n_children = np.zeros(n, np.int32)  # those kept, or dropped in favour of what they hold
    only = np.full(n, -1, np.int32)  # the one of them
    birth = birth.copy()
    is_kept = np.zeros(n, np.bool_)
    for k in range(n - 1, -1, -1):  # from the smallest on
        i = order[k]
        is_kept[i] = min_area <= area[i] <= max_area
        if is_kept[i] and n_children[i] == 1:
            is_kept[only[i]] = False
            birth[i] = min(birth[i], birth[only[i]])
        if is_kept[i] and parent[i] >= 0:
            n_children[parent[i]] += 1
            only[parent[i]] = i
    target, depth = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    for k in range(n):  # from the largest on
        i = order[k]
        above = target[parent[i]] if parent[i] >= 0 else -1
        if is_kept[i] and above >= 0 and depth[above] >= max_depth:
            is_kept[i] = False
        target[i] = i if is_kept[i] else above
        if is_kept[i] and above >= 0:
            depth[i] = depth[above] + 1
    return target, birth


@njit(cache=True, nogil=True)
def kept_parent(parent: Array, is_kept: Array) -> Array:
    """Return the smallest kept region around each region; −1: none."""
    order, _ = preorder(parent)
    found = np.full(len(parent), -1, np.int32)
    for i in order:
        p = parent[i]
        if p >= 0:
            found[i] = p if is_kept[p] else found[p]
    return found
