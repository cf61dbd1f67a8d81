"""Compiled loops over nested regions: which used one lies around each."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["used_around"]

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def used_around(is_used: Array, parent: Array) -> Array:
    """Return for each region the largest used one that holds it, or is it; −1: none.

    Every region stands before those that it holds.
    """
    found = np.full(len(parent), -1, np.int32)
    for i in range(len(parent)):
        if parent[i] >= 0:
            found[i] = found[parent[i]]
        if found[i] < 0 and is_used[i]:
            found[i] = i
    return found
