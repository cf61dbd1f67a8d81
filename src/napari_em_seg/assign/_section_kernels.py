"""Compiled loops over the sections of supervoxels in one slice: connected parts, contacts, their merging."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["components", "contacts", "merge"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _root(up: Array, i: int) -> int:
    while up[i] != i:
        up[i] = up[up[i]]
        i = up[i]
    return i


@njit(cache=True, nogil=True)
def components(labels: Array) -> Any:
    """Return the 4-connected parts of equal label (−1 for label 0), from 0 on, and the label of each part."""
    height, width = labels.shape
    up = np.arange(height * width).astype(np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] == 0:
                continue
            i = y * width + x
            if x > 0 and labels[y, x - 1] == labels[y, x]:
                a, b = _root(up, i), _root(up, i - 1)
                up[max(a, b)] = min(a, b)
            if y > 0 and labels[y - 1, x] == labels[y, x]:
                a, b = _root(up, i), _root(up, i - width)
                up[max(a, b)] = min(a, b)
    pieces = np.full((height, width), -1, np.int32)
    ids = np.empty(height * width, np.uint32)
    n = 0
    for y in range(height):
        for x in range(width):
            if labels[y, x] == 0:
                continue
            root = _root(up, y * width + x)
            if root == y * width + x:
                pieces[y, x] = n
                ids[n] = labels[y, x]
                n += 1
            else:
                pieces[y, x] = pieces[root // width, root % width]
    return pieces, ids[:n].copy()


@njit(cache=True, nogil=True)
def contacts(pieces: Array) -> Array:
    """Return pairs of parts that touch by an edge of a pixel; each pair may come several times."""
    height, width = pieces.shape
    found = np.empty((2 * height * width, 2), np.int32)
    n = 0
    for y in range(height):
        for x in range(width):
            a = pieces[y, x]
            if a < 0:
                continue
            if x > 0 and pieces[y, x - 1] >= 0 and pieces[y, x - 1] != a:
                b = pieces[y, x - 1]
                found[n, 0], found[n, 1] = min(a, b), max(a, b)
                n += 1
            if y > 0 and pieces[y - 1, x] >= 0 and pieces[y - 1, x] != a:
                b = pieces[y - 1, x]
                found[n, 0], found[n, 1] = min(a, b), max(a, b)
                n += 1
    return found[:n].copy()


@njit(cache=True, nogil=True)
def merge(tables: Array, pairs: Array) -> Any:
    """Return the tree of what grows together: the parent of each region, and the level from which it exists.

    The parts come first, at level 0. At the levels 1, 2 … parts that touch and are of one segment are joined;
    whatever several regions of the level below are joined into is a new region.
    """
    n_levels, n = tables.shape
    up = np.arange(n).astype(np.int32)
    region = np.arange(n).astype(
        np.int32
    )  # what each root stands for; after each level, not while it is joined
    parent, level = np.full(2 * n, -1, np.int32), np.zeros(2 * n, np.int32)
    n_regions = n
    left = pairs.copy()
    joined = np.empty(2 * len(pairs), np.int32)
    for t in range(n_levels):
        n_left, n_joined = 0, 0
        for k in range(len(left)):
            a, b = _root(up, left[k, 0]), _root(up, left[k, 1])
            if a == b:
                continue
            if tables[t, a] != tables[t, b]:
                left[n_left, 0], left[n_left, 1] = a, b
                n_left += 1
                continue
            up[max(a, b)] = min(a, b)
            joined[n_joined], joined[n_joined + 1] = a, b
            n_joined += 2
        left = left[:n_left]
        fresh = n_regions
        for k in range(n_joined):
            root = _root(up, joined[k])
            if root == joined[k] and parent[region[root]] < 0:
                parent[region[root]] = n_regions
                level[n_regions] = t + 1
                n_regions += 1
        for k in range(n_joined):
            root = _root(up, joined[k])
            if root != joined[k]:
                parent[region[joined[k]]] = parent[region[root]]
        for k in range(n_joined):
            root = _root(up, joined[k])
            if region[root] < fresh:
                region[root] = parent[region[root]]
    return parent[:n_regions].copy(), level[:n_regions].copy()
