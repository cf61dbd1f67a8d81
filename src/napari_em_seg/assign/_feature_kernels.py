"""Compiled loops of features: sums over regions and their outlines, aligned overlaps, cross-correlations."""

# mypy: disallow-untyped-decorators=False

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["N_BINS", "aligned", "correlate", "inside", "outline"]

Array = NDArray[Any]

N_BINS = 16
_RANGE = 3.0  # grey values count up to so many standard deviations from the mean
_MOST = 4096  # pixels of a region that are looked at, spread evenly over larger ones


@njit(cache=True, nogil=True)
def inside(nodes: Array, raw: Array, boundary: Array, counts: Array, sums: Array, first: int) -> None:
    """Add the pixels of one slice to those of their smallest regions: histogram; sums of raw and boundary."""
    for y in range(nodes.shape[0]):
        for x in range(nodes.shape[1]):
            i = nodes[y, x] - first
            if i < 0:
                continue
            k = int((raw[y, x] + _RANGE) / (2 * _RANGE) * N_BINS)
            counts[i, min(max(k, 0), N_BINS - 1)] += 1
            sums[i, 0] += raw[y, x]
            sums[i, 1] += boundary[y, x]


@njit(cache=True, nogil=True)
def outline(nodes: Array, boundary: Array, parent: Array, last: Array, sums: Array) -> None:
    """Add to each region of a slice its outline: edges of pixels that leave it, and the boundary there.

    The boundary at an edge is the larger one of both pixels. An edge from a region a to b leaves every region
    around a that does not hold b as well.
    """
    height, width = nodes.shape
    for y in range(height):
        for x in range(width):
            a = nodes[y, x]
            for down, right in ((1, 0), (0, 1)):
                if y + down >= height or x + right >= width:
                    continue
                b = nodes[y + down, x + right]
                if a == b:
                    continue
                value = max(boundary[y, x], boundary[y + down, x + right])
                _leave(a, b, value, parent, last, sums)
                _leave(b, a, value, parent, last, sums)


@njit(cache=True, nogil=True)
def _leave(a: int, b: int, value: float, parent: Array, last: Array, sums: Array) -> None:
    while a >= 0 and not (a <= b <= last[a]):
        sums[a, 0] += 1
        sums[a, 1] += value
        a = parent[a]


@njit(cache=True, nogil=True)
def _is_in(node: int, members: Array, last: Array) -> Any:
    for k in range(2):
        i = members[k]
        if i >= 0 and i <= node <= last[i]:
            return True
    return False


@njit(cache=True, nogil=True)
def aligned(
    nodes: Array, z: Array, sources: Array, targets: Array, boxes: Array, last: Array, shift: Array, out: Array
) -> None:
    """Set the share of the sources' pixels that are pixels of the targets once these are moved by the shift."""
    height, width = nodes.shape[1:]
    for m in range(len(sources)):
        out[m] = -1
        if sources[m, 0] < 0 or targets[m, 0] < 0:
            continue
        i = sources[m, 0]
        y0, x0, y1, x1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        k = sources[m, 1]
        if k >= 0:
            y0, x0 = min(y0, boxes[k, 0]), min(x0, boxes[k, 1])
            y1, x1 = max(y1, boxes[k, 2]), max(x1, boxes[k, 3])
        upper, lower = nodes[z[i]], nodes[z[targets[m, 0]]]
        step = max(1, int(np.sqrt((y1 - y0 + 1) * (x1 - x0 + 1) / _MOST)))
        n, both = 0, 0
        for y in range(y0, y1 + 1, step):
            for x in range(x0, x1 + 1, step):
                if not _is_in(upper[y, x], sources[m], last):
                    continue
                n += 1
                yy, xx = y + shift[m, 0], x + shift[m, 1]
                if 0 <= yy < height and 0 <= xx < width and _is_in(lower[yy, xx], targets[m], last):
                    both += 1
        out[m] = both / max(n, 1)


@njit(cache=True, nogil=True)
def correlate(
    raw: Array, z: Array, at: Array, other: Array, radius: int, reach: int, step: int, out: Array
) -> None:
    r"""Set for each pair of places the greatest normalised cross-correlation, and how far off it is found.

    A patch of :math:`(2 r + 1)^2` samples around a place in one slice is compared with such patches of the next
    one, around the other place and up to ``reach`` samples from it along y and x; samples are ``step`` pixels
    apart. The correlation of two patches p and q is

    .. math:: \frac{\sum (p - \bar p)(q - \bar q)}{\sqrt{\sum (p - \bar p)^2 \sum (q - \bar q)^2}}
    """
    side = 2 * radius + 1
    wide = side + 2 * reach
    patch, field = np.empty((side, side), np.float32), np.empty((wide, wide), np.float32)
    for m in range(len(at)):
        _sample(raw[z[m]], at[m, 0], at[m, 1], radius, step, patch)
        _sample(raw[z[m] + 1], other[m, 0], other[m, 1], radius + reach, step, field)
        patch -= np.float32(patch.mean())
        norm = np.sqrt((patch * patch).sum()) + np.float32(1e-6)
        best, far = np.float32(-2), np.float32(0)
        for dy in range(2 * reach + 1):
            for dx in range(2 * reach + 1):
                product, total, squares = np.float32(0), np.float32(0), np.float32(0)
                for y in range(side):
                    for x in range(side):
                        value = field[y + dy, x + dx]
                        product += patch[y, x] * value
                        total += value
                        squares += value * value
                spread = squares - total * total / np.float32(side * side)
                value = product / (norm * np.sqrt(max(spread, np.float32(1e-6))))
                if value > best:
                    best = value
                    far = np.float32(step * np.sqrt((dy - reach) ** 2 + (dx - reach) ** 2))
        out[m, 0], out[m, 1] = best, far


@njit(cache=True, nogil=True)
def _sample(plane: Array, y: float, x: float, radius: int, step: int, out: Array) -> None:
    """Read a patch; beyond the image its border goes on."""
    height, width = plane.shape
    for i in range(2 * radius + 1):
        yy = min(max(round(y) + (i - radius) * step, 0), height - 1)
        for k in range(2 * radius + 1):
            xx = min(max(round(x) + (k - radius) * step, 0), width - 1)
            out[i, k] = plane[yy, xx]
