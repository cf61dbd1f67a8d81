"""Compiled loops of the local shape descriptors: moments of one object around each of its voxels."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["describe"]

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

_LEAST = np.float32(1e-4)  # of a variance, in σ²: what is flatter has no direction
_HALF = np.float32(0.5)


@njit(cache=True, nogil=True)
def describe(inside: Array, along_z: Array, along_y: Array, along_x: Array, out: Array) -> None:
    """Write the ten descriptors of every voxel inside.

    Parameters
    ----------
    inside
        The voxels of the object in its bounding box.
    along_z, along_y, along_x
        The filters g, t g and t² g of each axis.
    out
        Where to write, (10, z, y, x); voxels that are not inside are left alone.
    """
    depth, rows, width = inside.shape
    planes = np.empty((3, rows, width), np.float32)
    lines, moments = np.empty((6, width), np.float32), np.empty((10, width), np.float32)
    reach = along_x.shape[1] // 2
    for z in range(depth):
        _filter_z(inside, z, along_z, planes)
        for y in range(rows):
            first, stop = _extent(inside[z, y])
            if first < stop:
                _filter_y(planes, y, along_y, max(0, first - reach), min(width, stop + reach), lines)
                _filter_x(lines, along_x, first, stop, moments)
                for x in range(first, stop):
                    if inside[z, y, x]:
                        _write(moments[:, x], out[:, z, y, x])


@njit(cache=True, nogil=True)
def _extent(row: Array) -> tuple[Index, Index]:
    """Return where the voxels inside begin and end."""
    first, stop = 0, len(row)
    while first < stop and not row[first]:
        first += 1
    while stop > first and not row[stop - 1]:
        stop -= 1
    return first, stop


@njit(cache=True, nogil=True)
def _add(target: Array, source: Array, weight: Index) -> None:
    for x in range(len(target)):
        target[x] += weight * source[x]


@njit(cache=True, nogil=True)
def _filter_z(inside: Array, z: Index, weights: Array, planes: Array) -> None:
    """Set plane i to Σ tⁱ g over the slices around z."""
    radius = weights.shape[1] // 2
    planes[:] = 0
    for other in range(max(0, z - radius), min(len(inside), z + radius + 1)):
        for y in range(inside.shape[1]):
            first, stop = _extent(inside[other, y])
            for i in range(3):
                _add(planes[i, y][first:stop], inside[other, y][first:stop], weights[i, other - z + radius])


@njit(cache=True, nogil=True)
def _filter_y(planes: Array, y: Index, weights: Array, first: Index, stop: Index, lines: Array) -> None:
    """Set the lines, from first to stop, to the powers (z, y): 00, 01, 02, 10, 11, 20."""
    radius = weights.shape[1] // 2
    n = 0
    for i in range(3):
        for j in range(3 - i):
            lines[n, first:stop] = 0
            for other in range(max(0, y - radius), min(planes.shape[1], y + radius + 1)):
                _add(lines[n][first:stop], planes[i, other][first:stop], weights[j, other - y + radius])
            n += 1


@njit(cache=True, nogil=True)
def _filter_x(lines: Array, weights: Array, first: Index, stop: Index, moments: Array) -> None:
    """Set the moments, from first to stop, to 000, 001, 002, 010, 011, 020, 100, 101, 110, 200."""
    radius, width = weights.shape[1] // 2, lines.shape[1]
    line, n = 0, 0
    for i in range(3):
        for j in range(3 - i):
            for k in range(3 - i - j):
                moments[n, first:stop] = 0
                for t in range(-radius, radius + 1):
                    a, b = max(first, -t), min(stop, width - t)
                    if a < b:
                        _add(moments[n][a:b], lines[line][a + t : b + t], weights[k, t + radius])
                n += 1
            line += 1


@njit(cache=True, nogil=True)
def _write(moments: Array, out: Array) -> None:
    """Turn sums into mean, covariance and correlation, and scale all to 0 to 1."""
    size = moments[0]
    mz, my, mx = moments[6] / size, moments[3] / size, moments[1] / size
    zz = max(_LEAST, moments[9] / size - mz * mz)
    yy = max(_LEAST, moments[5] / size - my * my)
    xx = max(_LEAST, moments[2] / size - mx * mx)
    out[0], out[1], out[2] = mz * _HALF + _HALF, my * _HALF + _HALF, mx * _HALF + _HALF
    out[3], out[4], out[5] = zz, yy, xx
    out[6] = (moments[8] / size - mz * my) / np.sqrt(zz * yy) * _HALF + _HALF
    out[7] = (moments[7] / size - mz * mx) / np.sqrt(zz * xx) * _HALF + _HALF
    out[8] = (moments[4] / size - my * mx) / np.sqrt(yy * xx) * _HALF + _HALF
    out[9] = size
    for i in range(10):
        out[i] = min(max(out[i], np.float32(0)), np.float32(1))
