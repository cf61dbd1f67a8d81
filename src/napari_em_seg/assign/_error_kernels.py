"""Compiled loops over labelled slices: connected sections, the pixels that two slices share, sums up trees."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["climbed", "components", "shared"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _root(up: Array, i: int) -> int:
    while up[i] != i:
        up[i] = up[up[i]]
        i = up[i]
    return i


@njit(cache=True, nogil=True)
def _unite(up: Array, a: int, b: int) -> None:
    a, b = _root(up, a), _root(up, b)
    up[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def components(labels: Array, least: int) -> Any:
    """Return the 8-connected parts of equal label in a slice, of at least so many pixels.

    They are numbered from 0 on in the order of their first pixels; −1 stands for label 0 and for smaller parts.
    Beside that the label and the pixels of each part.
    """
    height, width = labels.shape
    up = np.arange(height * width).astype(np.int32)
    for y in range(height):
        for x in range(width):
            value, i = labels[y, x], y * width + x
            if value == 0:
                continue
            if x > 0 and labels[y, x - 1] == value:
                _unite(up, i, i - 1)
            if y == 0:
                continue
            if labels[y - 1, x] == value:
                _unite(up, i, i - width)
            if x > 0 and labels[y - 1, x - 1] == value:
                _unite(up, i, i - width - 1)
            if x + 1 < width and labels[y - 1, x + 1] == value:
                _unite(up, i, i - width + 1)
    pixels = np.zeros(height * width, np.int32)
    for i in range(height * width):
        up[i] = _root(up, i)
        pixels[up[i]] += 1
    n = 0
    place = np.full(height * width, -1, np.int32)
    ids, area = np.empty(height * width, labels.dtype), np.empty(height * width, np.int64)
    parts = np.full((height, width), -1, np.int32)
    for i in range(height * width):
        y, x = i // width, i % width
        if labels[y, x] == 0 or pixels[up[i]] < least:
            continue
        if up[i] == i:
            place[i], ids[n], area[n] = n, labels[y, x], pixels[i]
            n += 1
        parts[y, x] = place[up[i]]
    return parts, ids[:n].copy(), area[:n].copy()


@njit(cache=True, nogil=True)
def shared(one: Array, other: Array) -> Any:
    """Return the pairs of numbers from 0 on that pixels have in two slices, sorted, and the pixels of each."""
    n = 0
    last = np.int64(-1)
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            key = _key(one[y, x], other[y, x])
            n += key >= 0 and key != last
            last = key
    keys, counts = np.empty(n, np.int64), np.zeros(n, np.int64)
    n = -1
    last = np.int64(-1)
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            key = _key(one[y, x], other[y, x])
            if key >= 0 and key != last:
                n += 1
                keys[n] = key
            if key >= 0:
                counts[n] += 1
            last = key
    return _summed(keys, counts)


@njit(cache=True, nogil=True)
def _key(one: Any, other: Any) -> Any:
    """Return both numbers as one; −1 where one of them is missing."""
    if one < 0 or other < 0:
        return np.int64(-1)
    return (np.int64(one) << 32) | np.int64(other)


@njit(cache=True, nogil=True)
def _summed(keys: Array, counts: Array) -> Any:
    """Add up equal keys; return both halves of the keys, and the sums."""
    order = np.argsort(keys, kind="mergesort")
    n = -1
    last = np.int64(-1)
    one, other = np.empty(len(keys), np.int32), np.empty(len(keys), np.int32)
    sums = np.zeros(len(keys), np.int64)
    for k in order:
        if keys[k] != last:
            n += 1
            last = keys[k]
            one[n], other[n] = np.int32(last >> 32), np.int32(last & 0x7FFFFFFF)
        sums[n] += counts[k]
    return one[: n + 1].copy(), other[: n + 1].copy(), sums[: n + 1].copy()


@njit(cache=True, nogil=True)
def climbed(one: Array, other: Array, counts: Array, parent: Array) -> Any:
    """Return the same for nested regions: what a region shares with another, all that hold it share as well."""
    n = 0
    for k in range(len(one)):
        i = one[k]
        while i >= 0:
            n += 1
            i = parent[i]
    keys, number = np.empty(n, np.int64), np.empty(n, np.int64)
    n = 0
    for k in range(len(one)):
        i = one[k]
        while i >= 0:
            keys[n] = _key(i, other[k])
            number[n] = counts[k]
            n += 1
            i = parent[i]
    return _summed(keys, number)
