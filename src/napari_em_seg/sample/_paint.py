"""Compiled loops that paint organelles and synapses into a section of the sample."""

# mypy: disallow-untyped-decorators=False

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from napari_em_seg.sample._kernels import tube_distance

__all__ = ["CISTERN", "GRANULE", "MITOCHONDRION", "VESICLE", "paint_bodies", "paint_synapses"]

Array = NDArray[Any]

MITOCHONDRION, CISTERN, GRANULE, VESICLE = range(4)


@njit(cache=True, nogil=True)
def _box(place: Array, low: Array, high: Array) -> tuple[int, int, int, int]:
    """Rows and columns in which pixels with a place between low and high can lie."""
    height, width = place.shape[1], place.shape[2]
    cy, cx = (low[1] + high[1]) / 2, (low[2] + high[2]) / 2
    y, x = cy, cx
    for _ in range(3):  # the place of a pixel is the pixel plus a smooth shift: undo the shift
        j = min(height - 1, max(0, int(y)))
        i = min(width - 1, max(0, int(x)))
        y, x = cy - (place[1, j, i] - j), cx - (place[2, j, i] - i)
    ry, rx = 0.75 * (high[1] - low[1]) + 4, 0.75 * (high[2] - low[2]) + 4
    return (
        max(0, int(y - ry)), min(height, int(y + ry) + 2), max(0, int(x - rx)), min(width, int(x + rx) + 2)
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _extent(tubes: Array, n: int, radius: float, start: float, stop: float, low: Array, high: Array) -> None:
    """Set low and high to the corners around a tube between two fractions of its length."""
    for a in range(3):
        p, q = tubes[n, a] + start * tubes[n, 3 + a], tubes[n, a] + stop * tubes[n, 3 + a]
        low[a], high[a] = min(p, q) - radius, max(p, q) + radius


@njit(cache=True, nogil=True)
def _window(
    place: Array, offset: float, tubes: Array, n: int, low: Array, high: Array
) -> tuple[int, int, int, int]:
    """Rows and columns that a tube can touch in a sub-slice; sets the corners around that part."""
    radius = max(tubes[n, 6], tubes[n, 6] + tubes[n, 7]) + 1.5
    _extent(tubes, n, radius, 0.0, 1.0, low, high)
    y0, y1, x0, x1 = _box(place, low, high)
    if y1 <= y0 or x1 <= x0:
        return 0, 0, 0, 0
    level = place[0, (y0 + y1) // 2, (x0 + x1) // 2] + offset
    spare = 1 + 0.2 * max(y1 - y0, x1 - x0)
    if level < low[0] - spare or level > high[0] + spare:
        return 0, 0, 0, 0
    rise = tubes[n, 3]
    if abs(rise) > 1:
        one = (level - radius - spare - tubes[n, 0]) / rise
        two = (level + radius + spare - tubes[n, 0]) / rise
        _extent(tubes, n, radius, max(0.0, min(one, two)), min(1.0, max(one, two)), low, high)
    return _box(place, low, high)


@njit(cache=True, nogil=True)
def _body(kind: int, s: float, along: float, across: float, phase: float) -> float:
    """Darkness of an organelle at signed distance s from its surface."""
    if kind == MITOCHONDRION:
        skin = 0.92 * math.exp(-(((s + 1.3) / 1.2) ** 2))
        if s > -1.3:
            return skin
        fold = math.sin(
            0.85 * along + 1.9 * math.sin(0.31 * across + phase) + 1.3 * math.sin(0.23 * along) + phase
        )
        return max(skin, 0.48 + 0.20 * max(0.0, fold) ** 2 + 0.08 * math.sin(phase * 7))
    if kind == CISTERN:
        return 0.62 * math.exp(-(((s + 1.0) / 1.0) ** 2))
    if kind == GRANULE:
        return 0.95 / (1 + math.exp(2.2 * (s + 0.4)))
    return max(0.72 * math.exp(-(((s + 0.9) / 1.0) ** 2)), 0.3 if s < -0.9 else 0.0)


@njit(cache=True, nogil=True)
def paint_bodies(
    dark: Array, taken: Array, first: Array, depth: Array, place: Array, offset: float, tubes: Array,
    owner: Array, kind: Array, phase: Array,
) -> None:  # fmt: skip
    """Darken organelles (tubes of some kind) where they lie in their neurite, clear of its membrane.

    `taken` (all 0 at first) notes whose pixel it is: the first body in a place hides later ones.
    """
    low, high = np.empty(3), np.empty(3)
    for n in range(len(tubes)):
        y0, y1, x0, x1 = _window(place, offset, tubes, n, low, high)
        length = math.sqrt(1 / tubes[n, 8])
        margin = 5.0 if kind[n] == MITOCHONDRION else 3.2
        for y in range(y0, y1):
            for x in range(x0, x1):
                pz = place[0, y, x] + offset
                if first[y, x] != owner[n] or pz < low[0] or pz > high[0]:
                    continue
                py, px = place[1, y, x], place[2, y, x]
                s = max(tube_distance(tubes, n, pz, py, px), margin - depth[y, x])
                if s < 2.0 and (taken[y, x] == 0 or taken[y, x] == n + 1):
                    if s < 0.5:
                        taken[y, x] = n + 1
                    u, v = py - tubes[n, 1], px - tubes[n, 2]
                    along = (u * tubes[n, 4] + v * tubes[n, 5]) / length
                    across = (v * tubes[n, 4] - u * tubes[n, 5]) / length
                    dark[y, x] = max(dark[y, x], _body(kind[n], s, along, across, phase[n]))


@njit(cache=True, nogil=True)
def paint_synapses(
    dark: Array,
    first: Array,
    second: Array,
    depth: Array,
    place: Array,
    offset: float,
    discs: Array,
    pairs: Array,
) -> None:
    """Darken both sides of each synapse (z, y, x, radius), the receiving side more and deeper."""
    for n in range(len(discs)):
        radius = discs[n, 3]
        y0, y1, x0, x1 = _box(place, discs[n, :3] - radius, discs[n, :3] + radius)
        for y in range(y0, y1):
            for x in range(x0, x1):
                a, b = first[y, x], second[y, x]
                if not ((a == pairs[n, 0] and b == pairs[n, 1]) or (a == pairs[n, 1] and b == pairs[n, 0])):
                    continue
                far = (place[0, y, x] + offset - discs[n, 0]) ** 2
                far += (place[1, y, x] - discs[n, 1]) ** 2 + (place[2, y, x] - discs[n, 2]) ** 2
                weight = min(1.0, max(0.0, 2.5 * (1 - math.sqrt(far) / radius)))
                if weight > 0:
                    d = max(0.0, depth[y, x] - 2.0) / (5.5 if a == pairs[n, 1] else 2.5)
                    dark[y, x] = max(dark[y, x], 0.66 * weight * math.exp(-d * d))
