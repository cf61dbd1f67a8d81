"""Compiled loops over conflicts: which assignments cannot be chosen together, and the cheapest of them."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["cheapest_conflict", "in_conflict", "lists"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def lists(members: Array, n: int) -> Any:
    """Return for each hypothesis the assignments that have it among their members, as starts and one list."""
    starts = np.zeros(n + 2, np.int64)
    for m in range(len(members)):
        for k in range(2):
            if members[m, k] >= 0:
                starts[members[m, k] + 2] += 1
    for i in range(n):
        starts[i + 2] += starts[i + 1]
    listed = np.empty(starts[n + 1], np.int32)
    for m in range(len(members)):
        for k in range(2):
            i = members[m, k]
            if i >= 0:
                listed[starts[i + 1]] = m
                starts[i + 1] += 1
    return starts[: n + 1].copy(), listed


@njit(cache=True, nogil=True)
def in_conflict(members: Array, parent: Array, last: Array, is_chosen: Array) -> Array:
    """Return which assignments have a member that overlaps a member of a chosen one."""
    n = len(parent)
    inside, around = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for m in range(len(members)):
        if is_chosen[m]:
            for k in range(2):
                if members[m, k] >= 0:
                    inside[members[m, k]] = around[members[m, k]] = True
    for i in range(n):  # a parent comes before what it holds
        if parent[i] >= 0 and inside[parent[i]]:
            inside[i] = True
    for i in range(n - 1, -1, -1):
        if around[i] and parent[i] >= 0:
            around[parent[i]] = True
    found = np.zeros(len(members), np.bool_)
    for m in range(len(members)):
        for k in range(2):
            i = members[m, k]
            if i >= 0 and (inside[i] or around[i]):
                found[m] = True
    return found


@njit(cache=True, nogil=True)
def cheapest_conflict(
    chosen: Array, members: Array, costs: Array, parent: Array, last: Array, starts: Array, listed: Array,
    best: Array, which: Array,
) -> None:  # fmt: skip
    """Lower for each chosen assignment the cheapest other one that has a member overlapping one of its own."""
    n = len(parent)
    low, second = np.full(n, np.inf), np.full(n, np.inf)  # of each region alone
    low_of, second_of = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    for i in range(n):
        for p in range(starts[i], starts[i + 1]):
            _insert(low, second, low_of, second_of, i, costs[listed[p]], listed[p])
    below, below_second, below_of, below_second_of = low.copy(), second.copy(), low_of.copy(), second_of.copy()
    for i in range(n - 1, -1, -1):  # and of all that it holds
        if parent[i] >= 0:
            _insert(below, below_second, below_of, below_second_of, parent[i], below[i], below_of[i])
            _insert(
                below, below_second, below_of, below_second_of, parent[i], below_second[i], below_second_of[i]
            )
    for c in range(len(chosen)):
        m = chosen[c]
        for k in range(2):
            i = members[m, k]
            if i < 0:
                continue
            _take(best, which, c, m, below[i], below_of[i], below_second[i], below_second_of[i])
            i = parent[i]
            while i >= 0:
                _take(best, which, c, m, low[i], low_of[i], second[i], second_of[i])
                i = parent[i]


@njit(cache=True, nogil=True)
def _insert(low: Array, second: Array, low_of: Array, second_of: Array, i: int, cost: float, m: int) -> None:
    """Keep the two cheapest, of different assignments."""
    if m < 0 or m == low_of[i] or m == second_of[i]:
        return
    if cost < low[i]:
        second[i], second_of[i] = low[i], low_of[i]
        low[i], low_of[i] = cost, m
    elif cost < second[i]:
        second[i], second_of[i] = cost, m


@njit(cache=True, nogil=True)
def _take(
    best: Array, which: Array, c: int, own: int, low: float, low_of: int, second: float, second_of: int
) -> None:
    cost, m = (second, second_of) if low_of == own else (low, low_of)
    if m >= 0 and cost < best[c]:
        best[c], which[c] = cost, m
