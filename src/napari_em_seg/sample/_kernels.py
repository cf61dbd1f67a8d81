"""Compiled loops of the sample generator: distances to tubes, the two nearest neurites, growth."""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["carve", "grow_path", "nearest_two", "probe", "tube_distance", "upsample"]

Array = NDArray[Any]

_DEEP = 16.0  # distances from a border are not told apart beyond this many pixels
_ORDER = (2, 0, 4, 1, 3)  # sub-slices, the middle one first


@njit(cache=True, nogil=True)
def tube_distance(tubes: Array, i: int, z: float, y: float, x: float) -> float:
    """Signed distance of a point from tube i, whose row is start, vector, radius, growth, 1/length²."""
    pz, py, px = z - tubes[i, 0], y - tubes[i, 1], x - tubes[i, 2]
    t = (pz * tubes[i, 3] + py * tubes[i, 4] + px * tubes[i, 5]) * tubes[i, 8]
    t = min(1.0, max(0.0, t))
    pz, py, px = pz - t * tubes[i, 3], py - t * tubes[i, 4], px - t * tubes[i, 5]
    return math.sqrt(pz * pz + py * py + px * px) - tubes[i, 6] - t * tubes[i, 7]  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _two(f: float, o: int, f1: float, o1: int, f2: float, o2: int) -> tuple[float, int, float, int]:
    """Put a distance f of neurite o into the best two distances of different neurites."""
    if o == o1:
        return min(f, f1), o1, f2, o2
    if f < f1:
        return f, o, f1, o1
    if f < f2:
        return f1, o1, f, o
    return f1, o1, f2, o2


@njit(cache=True, nogil=True)
def _spline(s: float) -> tuple[int, float, float, float, float]:
    """Return the second of the four grid points around s, and the cubic B-spline weights of all four."""
    i = math.floor(s)
    t = s - i
    third, fourth = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6
    return i, (1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, third, fourth


@njit(cache=True, nogil=True)
def upsample(grid: Array, y0: float, x0: float, spacing: float, height: int, width: int) -> Array:
    """Sample a coarse grid at every pixel with cubic B-splines; (y0, x0) is the pixel of grid point (0, 0)."""
    rows = np.empty((grid.shape[0], width), np.float32)
    out = np.empty((height, width), np.float32)
    for x in range(width):
        i, a, b, c, d = _spline((x - x0) / spacing)
        for j in range(grid.shape[0]):
            rows[j, x] = a * grid[j, i - 1] + b * grid[j, i] + c * grid[j, i + 1] + d * grid[j, i + 2]
    for y in range(height):
        i, a, b, c, d = _spline((y - y0) / spacing)
        for x in range(width):
            out[y, x] = a * rows[i - 1, x] + b * rows[i, x] + c * rows[i + 1, x] + d * rows[i + 2, x]
    return out


@njit(cache=True, nogil=True)
def _clearance(field: Array, origin: Array, step: float, z: float, y: float, x: float) -> float:
    """Free distance at a point, linear between grid points; -1 outside the grid."""
    gz, gy, gx = (z - origin[0]) / step, (y - origin[1]) / step, (x - origin[2]) / step
    k, j, i = math.floor(gz), math.floor(gy), math.floor(gx)
    n, h, w = field.shape
    if k < 0 or j < 0 or i < 0 or k >= n - 1 or j >= h - 1 or i >= w - 1:
        return -1.0
    c, b, a = gz - k, gy - j, gx - i
    low = (1 - b) * ((1 - a) * field[k, j, i] + a * field[k, j, i + 1])
    low += b * ((1 - a) * field[k, j + 1, i] + a * field[k, j + 1, i + 1])
    high = (1 - b) * ((1 - a) * field[k + 1, j, i] + a * field[k + 1, j, i + 1])
    high += b * ((1 - a) * field[k + 1, j + 1, i] + a * field[k + 1, j + 1, i + 1])
    return (1 - c) * low + c * high  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def carve(field: Array, origin: Array, step: float, tubes: Array, reach: float) -> None:
    """Lower the free distance around new tubes, as far as they can be the nearest."""
    for i in range(tubes.shape[0]):
        low, high = np.empty(3, np.int64), np.empty(3, np.int64)
        radius = max(tubes[i, 6], tubes[i, 6] + tubes[i, 7]) + reach
        for a in range(3):
            p, q = tubes[i, a], tubes[i, a] + tubes[i, 3 + a]
            low[a] = max(0, int((min(p, q) - radius - origin[a]) / step))
            high[a] = min(field.shape[a], int((max(p, q) + radius - origin[a]) / step) + 2)
        for k in range(low[0], high[0]):
            for j in range(low[1], high[1]):
                y = origin[1] + j * step
                for m in range(low[2], high[2]):
                    f = tube_distance(tubes, i, origin[0] + k * step, y, origin[2] + m * step)
                    field[k, j, m] = min(field[k, j, m], f)


@njit(cache=True, nogil=True)
def grow_path(
    field: Array,
    origin: Array,
    step: float,
    start: Array,
    ahead: Array,
    radii: Array,
    stride: float,
    turns: Array,
) -> Array:
    """Let one path grow through free space until it has no room or has used up its radii.

    Of the random `turns` (step, try, axis) at each step the one is taken that leaves most room and bends least.
    Returns rows of z, y, x, radius.
    """
    path = np.empty((radii.size, 4))
    point, ahead = start.copy(), ahead.copy()
    for k in range(radii.size):
        best, room, course = -1e9, 0.0, ahead
        for t in range(turns.shape[1]):
            trial = ahead + turns[k, t]
            trial /= math.sqrt((trial**2).sum())
            q = point + stride * trial
            free = _clearance(field, origin, step, q[0], q[1], q[2])
            score = min(free, 1.4 * radii[k]) + 0.6 * radii[k] * (trial * ahead).sum()
            if score > best:
                best, room, course = score, free, trial
        radius = min(radii[k], room / 0.6)
        if radius < max(5.5, 0.4 * radii[k]):
            return path[:k]
        point, ahead = point + stride * course, course
        path[k, :3], path[k, 3] = point, radius
    return path


@njit(cache=True, nogil=True)
def probe(tubes: Array, owner: Array, points: Array) -> tuple[Array, Array]:
    """For each point (z, y, x): the nearest and second nearest neurite, and the distance from their border."""
    pair = np.empty((len(points), 2), np.int32)
    depth = np.empty(len(points), np.float32)
    for n in range(len(points)):
        f1, o1, f2, o2 = 1e9, -1, 1e9, -1
        for i in range(len(tubes)):
            f = tube_distance(tubes, i, points[n, 0], points[n, 1], points[n, 2])
            if f < f2:
                f1, o1, f2, o2 = _two(f, owner[i], f1, o1, f2, o2)
        pair[n, 0], pair[n, 1], depth[n] = o1, o2, (f2 - f1) / 2
    return pair, depth


@njit(cache=True, nogil=True)
def _candidates(
    tubes: Array, owner: Array, among: Array, count: int, centre: tuple[float, float, float], slack: float,
    chosen: Array, at: Array,
) -> int:  # fmt: skip
    """Choose the tubes that can be first or second somewhere within `slack` of the centre."""
    f1, o1, f2, o2 = 1e9, -1, 1e9, -1
    for n in range(count):
        i = among[n]
        f = tube_distance(tubes, i, centre[0], centre[1], centre[2])
        at[n] = f
        f1, o1, f2, o2 = _two(f, owner[i], f1, o1, f2, o2)
    limit, kept = min(f2, f1 + 2 * _DEEP) + 2 * slack, 0
    for n in range(count):
        if at[n] <= limit:
            chosen[kept], at[kept] = among[n], at[n]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _sort(chosen: Array, at: Array, count: int) -> None:
    for n in range(1, count):
        i, f, k = chosen[n], at[n], n
        while k > 0 and at[k - 1] > f:
            chosen[k], at[k] = chosen[k - 1], at[k - 1]
            k -= 1
        chosen[k], at[k] = i, f


@njit(cache=True, nogil=True)
def _spread(
    place: Array, y0: int, x0: int, size: int, thick: float
) -> tuple[tuple[float, float, float], float]:
    """Place of a tile's middle in the tissue, and how far from it its pixels lie."""
    y1, x1 = min(y0 + size, place.shape[1]), min(x0 + size, place.shape[2])
    cy, cx = (y0 + y1) // 2, (x0 + x1) // 2
    z, y, x = place[0, cy, cx], place[1, cy, cx], place[2, cy, cx]
    far = 0.0
    for j in range(y0, y1):
        for i in range(x0, x1):
            d = (place[0, j, i] - z) ** 2 + (place[1, j, i] - y) ** 2 + (place[2, j, i] - x) ** 2
            far = max(far, d)
    return (z, y, x), math.sqrt(far) * 1.03 + thick


@njit(cache=True, nogil=True)
def nearest_two(
    tubes: Array, owner: Array, place: Array, offsets: Array, first: Array, second: Array, depth: Array
) -> None:
    """Find the nearest two neurites and the distance from the border between them, for every pixel.

    `place` holds z, y, x in the tissue of each pixel of a section, `offsets` the five sub-slices through its
    thickness. Squares of 32, then of 8 pixels narrow down the tubes that matter; they are met nearest first.
    """
    height, width = place.shape[1], place.shape[2]
    everything = np.arange(len(tubes))
    large, small = np.empty(len(tubes), np.int64), np.empty(len(tubes), np.int64)
    at = np.empty(len(tubes), np.float64)
    thick = np.abs(offsets).max()
    for by in range(0, height, 32):
        for bx in range(0, width, 32):
            centre, slack = _spread(place, by, bx, 32, thick)
            n_large = _candidates(tubes, owner, everything, len(tubes), centre, slack, large, at)
            for ty in range(by, min(by + 32, height), 8):
                for tx in range(bx, min(bx + 32, width), 8):
                    centre, slack = _spread(place, ty, tx, 8, thick)
                    n = _candidates(tubes, owner, large, n_large, centre, slack, small, at)
                    _sort(small, at, n)
                    _tile(tubes, owner, place, offsets, small, at, n, ty, tx, centre, first, second, depth)


@njit(cache=True, nogil=True)
def _tile(
    tubes: Array, owner: Array, place: Array, offsets: Array, chosen: Array, at: Array, count: int,
    ty: int, tx: int, centre: tuple[float, float, float], first: Array, second: Array, depth: Array,
) -> None:  # fmt: skip
    for y in range(ty, min(ty + 8, place.shape[1])):
        for x in range(tx, min(tx + 8, place.shape[2])):
            py, px = place[1, y, x], place[2, y, x]
            for s in _ORDER:
                if s != 2 and _guess(s, y, x, first, second, depth):
                    continue
                pz = place[0, y, x] + offsets[s]
                away = 1.03 * math.sqrt((pz - centre[0]) ** 2 + (py - centre[1]) ** 2 + (px - centre[2]) ** 2)
                f1, o1, f2, o2 = 1e9, -1, 1e9, -1
                for n in range(count):
                    if at[n] - away > min(f2, f1 + 2 * _DEEP):
                        break
                    f = tube_distance(tubes, chosen[n], pz, py, px)
                    if f < f2:
                        f1, o1, f2, o2 = _two(f, owner[chosen[n]], f1, o1, f2, o2)
                first[s, y, x], second[s, y, x] = o1, o2
                depth[s, y, x] = min(_DEEP, (f2 - f1) / 2)


@njit(cache=True, nogil=True)
def _guess(s: int, y: int, x: int, first: Array, second: Array, depth: Array) -> bool:
    """Fill a sub-slice in from those found before, where that is safe: deep inside, or between two alike."""
    if depth[2, y, x] > 12.0:
        first[s, y, x], second[s, y, x], depth[s, y, x] = first[2, y, x], second[2, y, x], depth[2, y, x]
        return True
    if s == 0 or s == 4:
        return False
    a, b, c, d = first[s - 1, y, x], second[s - 1, y, x], first[s + 1, y, x], second[s + 1, y, x]
    if a == c and b == d:
        far = (depth[s - 1, y, x] + depth[s + 1, y, x]) / 2
    elif a == d and b == c:
        far = (depth[s - 1, y, x] - depth[s + 1, y, x]) / 2
    else:
        return False
    first[s, y, x], second[s, y, x] = (a, b) if far >= 0 else (b, a)
    depth[s, y, x] = abs(far)
    return True
