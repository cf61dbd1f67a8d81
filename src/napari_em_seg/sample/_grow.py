"""Neurites of the sample: trees of tubes that grow, thick ones first, into the room that is left."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.sample._kernels import carve, grow_path

__all__ = ["Tissue", "grow", "tubes_along"]

_GRID = 7.0  # pixels between the points at which free room is known
_SHORTEST = 140.0  # pixels; a gap without room for such a length is left to the neighbours
_ROOM = 90.0  # no place has more free room than this, in pixels


@dataclass(frozen=True)
class _Kind:
    """One kind of neurite: its radius in pixels, how much of the room it may fill, how it branches."""

    radius: tuple[float, float]
    fill: float
    branches: float
    spines: float
    upright: float


_KINDS = (
    _Kind((32.0, 52.0), 0.27, 0.6, 4.0, 0.2),  # dendrites
    _Kind((20.0, 33.0), 0.56, 0.8, 1.0, 0.4),  # thin dendrites, thick axons
    _Kind((12.0, 19.0), 2.0, 0.7, 0.2, 0.4),  # axons
)


@dataclass(frozen=True, eq=False)
class Tissue:
    """Tubes in space (z, y, x in pixels) and the neurite that each belongs to.

    A row of `tubes` is start (3), vector to the end (3), radius, growth of the radius, 1/length².
    """

    tubes: NDArray[np.float64]
    owner: NDArray[np.int32]
    count: int

    def near(self, z: float, reach: float) -> NDArray[np.bool_]:
        """Tell which tubes come nearer than `reach` to the plane at height z."""
        a, b = self.tubes[:, 0], self.tubes[:, 0] + self.tubes[:, 3]
        radius = np.maximum(self.tubes[:, 6], self.tubes[:, 6] + self.tubes[:, 7])
        away = np.maximum(np.minimum(a, b) - z, z - np.maximum(a, b))
        return np.asarray(away - radius < reach)


def tubes_along(path: NDArray[Any]) -> NDArray[np.float64]:
    """Join the points (z, y, x, radius) of a path by tubes."""
    step = np.diff(path, axis=0)
    inverse = 1 / np.maximum((step[:, :3] ** 2).sum(1), 1e-6)
    return np.column_stack([path[:-1, :3], step[:, :3], path[:-1, 3], step[:, 3], inverse])


def grow(rng: np.random.Generator, size: tuple[float, float, float], margin: float) -> Tissue:
    """Fill a box of `size` pixels, and a margin around it, with neurites; a small box gets no thick ones."""
    thickest = max(14.0, 0.16 * min(size[1:]))
    low = np.array([-margin] * 3)
    points = [int((s + 2 * margin) / _GRID) + 2 for s in size]
    room = np.full(points, _ROOM, np.float32)
    found: list[NDArray[np.float64]] = []
    for kind in _KINDS:
        misses = 0
        while misses < 80 and (room < 0).mean() < kind.fill:
            tubes = _neurite(rng, kind, room, low, thickest)
            misses = misses + 1 if tubes is None else 0
            if tubes is not None:
                carve(room, low, _GRID, tubes, float(room.max()))
                found.append(tubes)
    owner = np.repeat(np.arange(len(found), dtype=np.int32), [len(t) for t in found])
    return Tissue(np.concatenate(found), owner, len(found))


def _neurite(
    rng: np.random.Generator, kind: _Kind, room: NDArray[np.float32], low: NDArray[Any], thickest: float
) -> NDArray[np.float64] | None:
    """Grow one neurite from a random free place both ways, with branches; None where there is no room."""
    radius = min(rng.uniform(*kind.radius), thickest)
    free = np.flatnonzero(room > radius)
    if free.size == 0:
        return None
    seed = np.array(np.unravel_index(free[rng.integers(free.size)], room.shape))
    start = low + _GRID * seed
    ahead = _direction(rng, kind.upright)
    paths = [_path(rng, room, low, start, way, radius) for way in (ahead, -ahead)]
    trunk = np.concatenate([paths[1][::-1], [[*start, radius]], paths[0]])
    if np.linalg.norm(np.diff(trunk[:, :3], axis=0), axis=1).sum() < _SHORTEST:
        return None
    parts = [trunk]
    thinner = radius * rng.uniform(0.4, 0.8, rng.poisson(kind.branches))
    parts += [_branch(rng, room, low, trunk, r) for r in thinner]
    parts += [_spine(rng, room, low, trunk) for _ in range(rng.poisson(kind.spines))]
    return np.concatenate([tubes_along(part) for part in parts if len(part) > 1])


def _direction(rng: np.random.Generator, upright: float) -> NDArray[np.float64]:
    way = rng.standard_normal(3) * (1 + upright, 1, 1)
    return np.asarray(way / np.linalg.norm(way))


def _path(
    rng: np.random.Generator,
    room: NDArray[np.float32],
    low: NDArray[Any],
    start: NDArray[Any],
    ahead: NDArray[Any],
    radius: float,
    length: float | None = None,
) -> NDArray[np.float64]:
    """Grow one way; a free end comes after a random length, of about 1000 pixels if none is given."""
    stride = float(np.clip(0.7 * radius, 8.0, 28.0))
    steps = max(2, int((length or rng.exponential(1000.0)) / stride))
    steps = min(steps, int(3 * max(room.shape) * _GRID / stride))
    swell = rng.standard_normal(steps // 3 + 4)
    wave = np.interp(np.arange(steps) / 3, np.arange(swell.size), swell)
    radii = radius * np.clip(1 + 0.24 * wave, 0.7, 1.6)
    turns = 0.36 * rng.standard_normal((steps, 12, 3))
    grown: NDArray[np.float64] = grow_path(room, low, _GRID, start, ahead, radii, stride, turns)
    return grown


def _branch(
    rng: np.random.Generator, room: NDArray[np.float32], low: NDArray[Any], trunk: NDArray[Any], radius: float
) -> NDArray[np.float64]:
    """Grow a branch from some point of the trunk, off to a side."""
    root = trunk[rng.integers(len(trunk))]
    radius = max(radius, 7.0)
    path = _path(rng, room, low, root[:3], _direction(rng, 0.3), radius)
    return np.concatenate([[[*root[:3], radius]], path])


def _spine(
    rng: np.random.Generator, room: NDArray[np.float32], low: NDArray[Any], trunk: NDArray[Any]
) -> NDArray[np.float64]:
    """Grow a spine from the trunk: a thin neck with a head."""
    root = trunk[rng.integers(len(trunk))]
    neck, head = rng.uniform(5.5, 8.0), rng.uniform(11.0, 21.0)
    way = _direction(rng, 0.0)
    path = _path(rng, room, low, root[:3], way, neck, root[3] + rng.uniform(30, 80))
    if len(path) > 3 and np.linalg.norm(path[-1, :3] - root[:3]) > root[3] + 15:
        path[-1, 3] = head
        path[-2, 3] = max(path[-2, 3], 0.7 * head)
    return np.concatenate([[[*root[:3], neck]], path])
