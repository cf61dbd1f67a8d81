"""Compiled loops over the voxels of one object: distance to its surface, and shortest ways within it."""

from heapq import heappop, heappush
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["spread", "sweep"]


@numba.njit(cache=True, nogil=True)
def sweep(
    squared: NDArray[np.float64], order: NDArray[np.int64], position: NDArray[np.int32],
    first: NDArray[np.int64], extent: int, edge: float, is_open: bool,
) -> None:  # fmt: skip
    """Take the lower envelope of parabolas along one axis, within each run of voxels.

    The surface lies half a voxel beyond both ends of a run; where these are at the border of the volume and
    that is open, there is none.
    """
    places, values, begins = np.empty(extent + 2), np.empty(extent + 2), np.empty(extent + 2)
    weight = edge * edge
    for segment in range(len(first) - 1):
        start, stop = first[segment], first[segment + 1]
        low, high = position[order[start]], position[order[stop - 1]]
        k = -1
        for s in range(-1, stop - start + 1):
            if s == -1:
                if is_open and low == 0:
                    continue
                q, value = low - 0.5, 0.0
            elif s == stop - start:
                if is_open and high == extent - 1:
                    continue
                q, value = high + 0.5, 0.0
            else:
                value = squared[order[start + s]]
                if value == np.inf:
                    continue
                q = float(position[order[start + s]])
            begin = -np.inf
            while k >= 0:
                begin = (value - values[k] + weight * (q * q - places[k] * places[k])) / (
                    2 * weight * (q - places[k])
                )
                if begin > begins[k]:
                    break
                k -= 1
            k += 1
            places[k], values[k], begins[k] = q, value, begin if k else -np.inf
        if k < 0:
            continue
        at = 0
        for s in range(start, stop):
            p = float(position[order[s]])
            while at < k and begins[at + 1] <= p:
                at += 1
            squared[order[s]] = values[at] + weight * (p - places[at]) ** 2


@numba.njit(cache=True, nogil=True)
def spread(
    sources: NDArray[np.int64], values: NDArray[np.float64], limit: float, weight: NDArray[np.float64],
    z: NDArray[np.int32], y: NDArray[np.int32], x: NDArray[np.int32],
    rows: NDArray[np.int64], run_x: NDArray[np.int32], run_first: NDArray[np.int64], n_y: int,
    steps: NDArray[np.float64], reached: NDArray[np.float64], parent: NDArray[np.int32],
) -> Any:  # fmt: skip
    """Go from sources to the 26 neighbours of each voxel, the nearest first; return voxels in that order.

    A step costs its length times the mean weight of its ends. ``reached`` and ``parent`` are altered, only
    where a way is shorter than what was there, and not longer than the limit.
    """
    heap = [(0.0, 0)]
    heap.pop()
    for i in range(len(sources)):
        if values[i] < reached[sources[i]]:
            reached[sources[i]] = values[i]
            parent[sources[i]] = -1
            heappush(heap, (values[i], sources[i]))
    settled = [0]
    settled.pop()
    n_z = (len(rows) - 1) // n_y
    while heap:
        value, v = heappop(heap)
        if value > reached[v]:
            continue
        settled.append(v)
        for dz in range(-1, 2):
            if not 0 <= z[v] + dz < n_z:
                continue
            for dy in range(-1, 2):
                if not 0 <= y[v] + dy < n_y:
                    continue
                row = (z[v] + dz) * n_y + y[v] + dy
                for run in range(rows[row], rows[row + 1]):
                    low = run_x[run]
                    if low > x[v] + 1:
                        break
                    high = low + run_first[run + 1] - run_first[run]
                    for at in range(max(low, x[v] - 1), min(high, x[v] + 2)):
                        other = run_first[run] + at - low
                        length = steps[abs(dz), abs(dy), abs(at - x[v])]
                        there = value + length * 0.5 * (weight[v] + weight[other])
                        if there < reached[other] and there <= limit and other != v:
                            reached[other] = there
                            parent[other] = v
                            heappush(heap, (there, other))
    return np.array(settled, dtype=np.int64)
