"""The relief that is flooded: a boundary map checked, smoothed and quantised; and how far slices shifted."""

# mypy: disallow-untyped-decorators=False

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

from napari_em_seg.errors import DataError
from napari_em_seg.segment._flood import OUTSIDE
from napari_em_seg.volume import ArrayLike

__all__ = ["STEPS", "check_depth", "check_map", "estimate_drift", "quantised", "read_plane"]

STEPS = 255 * 256
"""Heights of the relief per unit of probability: uint8 maps, and steps of 0.05, are kept exactly."""

Plane = NDArray[np.float32]
MapOver = Callable[[Callable[[int], Any], range], list[Any]]

_SPARE = 1e-3  # how far rounding may lead out of [0, 1]
_MOST_VOXELS = 2**31 - 2
_LEAST_SHIFT = 3  # pixels; less than a membrane with its blur cannot lead from cell to cell
_MOST_SHIFT = 64
_GAIN = 0.1  # by how much the correlation of two slices must rise before a shift is believed


def check_map(boundary: ArrayLike, mask: ArrayLike | None, sigma: float) -> None:
    """Raise a DataError unless this is a map of boundary probabilities that fits its mask."""
    shape, dtype = tuple(boundary.shape), np.dtype(boundary.dtype)
    text = "×".join(map(str, shape))
    if len(shape) != 3 or 0 in shape:
        raise DataError(
            f"The boundary map has the shape ({text})",
            "a stack of slices (z, y, x) with at least one voxel",
            "Give one channel of the map; add an axis in front (boundary[None]) where it is a single slice",
        )
    if math.prod(shape) > _MOST_VOXELS:
        raise DataError(
            f"The boundary map has {math.prod(shape):,} voxels",
            f"at most {_MOST_VOXELS:,} at once",
            "Cut it into overlapping blocks",
        )
    if dtype.kind not in "bf" and dtype != np.uint8:
        raise DataError(
            f"The boundary map holds {dtype} numbers",
            "probabilities as floats from 0 to 1 or as uint8 from 0 to 255",
            "Divide it by its largest possible value",
        )
    if mask is not None and (tuple(mask.shape) != shape or np.dtype(mask.dtype).kind != "b"):
        raise DataError(
            f"The mask holds {mask.dtype} numbers in the shape ({'×'.join(map(str, mask.shape))})",
            f"booleans in the shape ({text}), true where there is tissue",
            "Compare it with a number (mask > 0), and crop or pad it to fit",
        )
    if not (math.isfinite(sigma) and sigma >= 0):
        raise DataError(f"Sigma is {sigma}", "a standard deviation in pixels, 0 or more", "Try 1")


def check_depth(h: float) -> None:
    """Raise a DataError unless h is a depth in units of probability."""
    if not 0 <= h < 1:
        raise DataError(f"The depth h is {h}", "a probability from 0 to less than 1",
                        "Try 0.1; for a uint8 map h counts in units of 255")  # fmt: skip


def read_plane(boundary: ArrayLike, z: int) -> Plane:
    """Read a slice as probabilities; numbers that cannot be any are a DataError."""
    plane = np.asarray(boundary[z])
    if plane.dtype == np.uint8:
        return plane.astype(np.float32) / np.float32(255)
    plane = np.ascontiguousarray(plane, np.float32)
    low, high = float(plane.min()), float(plane.max())
    if not (low >= -_SPARE and high <= 1 + _SPARE):  # false for NaN as well
        what = (
            "from {low:g} to {high:g}" if math.isfinite(low + high) else "that are not finite (NaN, infinity)"
        )
        raise DataError(
            f"Slice {z} of the boundary map holds numbers {what.format(low=low, high=high)}",
            "probabilities from 0 to 1",
            "Replace what is not finite, and divide by the largest possible value",
        )
    return plane


def quantised(plane: Plane, mask: NDArray[np.bool_] | None, sigma: float, out: NDArray[np.uint16]) -> None:
    """Smooth a slice with a Gaussian (cut off at 4 sigma, mirrored at the edges) and round to whole steps."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, 1e-9)) ** 2)
    weights /= 2 * weights.sum() - weights[0]
    _smooth(plane, weights.astype(np.float32), np.float32(STEPS), out)
    if mask is not None:
        out[~mask] = OUTSIDE


@njit(cache=True, nogil=True)
def _mirror(i: int, n: int) -> int:
    """Return the index inside that i mirrors, where the edge pixel is doubled."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


@njit(cache=True, nogil=True)
def _smooth(plane: Plane, weights: Plane, scale: np.float32, out: NDArray[np.uint16]) -> None:
    """Convolve the columns and then the rows with a symmetric kernel, given from its centre on."""
    height, width = plane.shape
    radius = len(weights) - 1
    row, total = np.empty(width + 2 * radius, np.float32), np.empty(width, np.float32)
    inner = row[radius : radius + width]
    for y in range(height):
        centre = plane[y]
        for x in range(width):
            inner[x] = weights[0] * centre[x]
        for k in range(1, radius + 1):
            before, after, weight = plane[_mirror(y - k, height)], plane[_mirror(y + k, height)], weights[k]
            for x in range(width):
                inner[x] += weight * (before[x] + after[x])
        for k in range(1, radius + 1):
            row[radius - k] = inner[_mirror(-k, width)]
            row[radius + width - 1 + k] = inner[_mirror(width - 1 + k, width)]
        for x in range(width):
            total[x] = weights[0] * inner[x]
        for k in range(1, radius + 1):
            weight = weights[k]
            for x in range(width):
                total[x] += weight * (row[radius + x - k] + row[radius + x + k])
        for x in range(width):
            out[y, x] = np.uint16(min(max(total[x], np.float32(0)), np.float32(1)) * scale + np.float32(0.5))


def estimate_drift(boundary: ArrayLike, run: MapOver) -> NDArray[np.int64]:
    """Return the step (rows, columns) from each slice to its place in the next; the last is zero.

    The step is the peak of the phase correlation of the two maps, within 64 pixels. It counts as 0 where it is
    shorter than 3 pixels, since a shift within the blurred width of a membrane leads into no other cell, and
    where it does not raise the correlation of the maps by 0.1: only a slice that is plainly displaced counts.
    """
    n = boundary.shape[0]
    drift = np.zeros((n, 2), np.int64)
    for z, step in zip(range(n - 1), run(lambda z: _step(boundary, z), range(n - 1)), strict=True):
        drift[z] = step
    return drift


def _step(boundary: ArrayLike, z: int) -> tuple[int, int]:
    """Return how far slice z + 1 is displaced against slice z."""
    one, two = read_plane(boundary, z), read_plane(boundary, z + 1)
    thin = 2 if min(one.shape) >= 256 else 1
    small = [plane[::thin, ::thin] for plane in (one, two)]
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in small[0].shape)).astype(np.float32)
    first, second = (fft.rfft2((plane - plane.mean()) * window) for plane in small)
    cross = second * first.conj()
    peaks = fft.irfft2(cross / (np.abs(cross) + 1e-6), s=small[0].shape)
    reach = [min(_MOST_SHIFT // thin, n // 4) for n in peaks.shape]
    near = np.roll(peaks, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    dy, dx = thin * (int(y) - reach[0]), thin * (int(x) - reach[1])
    around = [(dy + j, dx + i) for j in range(1 - thin, thin) for i in range(1 - thin, thin)]
    gain, step = max((_correlation(one, two, *step), step) for step in around)
    is_shift = max(map(abs, step)) >= _LEAST_SHIFT and gain > _correlation(one, two, 0, 0) + _GAIN
    return step if is_shift else (0, 0)


def _correlation(one: Plane, two: Plane, dy: int, dx: int) -> float:
    """Correlate one slice with the other displaced, where they overlap, on every second pixel."""
    height, width = one.shape
    a = one[max(0, -dy) : height - max(0, dy) : 2, max(0, -dx) : width - max(0, dx) : 2]
    b = two[max(0, dy) : height + min(0, dy) : 2, max(0, dx) : width + min(0, dx) : 2]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / max(1e-12, float(a.std() * b.std())))
