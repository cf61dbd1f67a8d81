"""Organelles of the sample: mitochondria, cisterns, granules, vesicles, and synapses between neurites."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.sample._grow import Tissue
from napari_em_seg.sample._kernels import probe
from napari_em_seg.sample._paint import CISTERN, GRANULE, MITOCHONDRION, VESICLE

__all__ = ["Organelles", "plan"]

_SYNAPSES = 6e-7  # per cubic pixel of 6 nm, about 3 per µm³


@dataclass(frozen=True, eq=False)
class Organelles:
    """Bodies are tubes with owner, kind and phase; synapses discs (z, y, x, radius) with giver and receiver."""

    tubes: NDArray[np.float64]
    owner: NDArray[np.int32]
    kind: NDArray[np.int32]
    phase: NDArray[np.float64]
    discs: NDArray[np.float64]
    pairs: NDArray[np.int32]

    def near(self, z: float, reach: float) -> NDArray[np.bool_]:
        """Tell which bodies come nearer than `reach` to the plane at height z."""
        away = np.abs(self.tubes[:, 0] + self.tubes[:, 3] / 2 - z) - np.abs(self.tubes[:, 3]) / 2
        return np.asarray(away - self.tubes[:, 6] < reach)


@dataclass(frozen=True, eq=False)
class _Site:
    """Random places in the tubes: a point, the direction of the tube, its radius and its neurite."""

    point: NDArray[np.float64]
    way: NDArray[np.float64]
    radius: NDArray[np.float64]
    owner: NDArray[np.int32]


def plan(rng: np.random.Generator, tissue: Tissue, size: tuple[float, float, float]) -> Organelles:
    """Place organelles in the tissue within a box of `size` pixels."""
    discs, pairs = _synapses(rng, tissue, size)
    groups = [
        (MITOCHONDRION, *_mitochondria(rng, tissue)),
        (CISTERN, *_rods(rng, tissue, 0.016, (3.5, 8.0), 40.0)),
        (GRANULE, *_rods(rng, tissue, 0.011, (1.8, 4.2), 22.0)),
        (VESICLE, *_rods(rng, tissue, 0.035, (2.8, 4.2), 0.1)),
        (VESICLE, *_pools(rng, tissue, discs, pairs)),
    ]
    tubes = np.concatenate([g[1] for g in groups])
    owner = np.concatenate([g[2] for g in groups])
    kind = np.repeat(np.array([g[0] for g in groups], np.int32), [len(g[1]) for g in groups])
    near = _inside(tubes, size)
    phase = rng.uniform(0, 2 * np.pi, len(tubes))
    return Organelles(tubes[near], owner[near], kind[near], phase[near], discs, pairs)


def _inside(tubes: NDArray[Any], size: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Tell which tubes may touch the box, whose content may be shifted by up to 40 pixels."""
    middle = tubes[:, :3] + tubes[:, 3:6] / 2
    reach = np.abs(tubes[:, 3:6]) / 2 + tubes[:, 6:7] + 40.0
    return np.asarray(((middle + reach > 0) & (middle - reach < size)).all(1))


def _rows(
    start: NDArray[Any], vector: NDArray[Any], radius: NDArray[Any], taper: NDArray[Any] | float = 0.0
) -> NDArray[np.float64]:
    inverse = 1 / np.maximum((vector**2).sum(1), 1e-3)
    return np.column_stack([start, vector, radius, np.broadcast_to(taper, radius.shape), inverse])


def _sites(rng: np.random.Generator, tissue: Tissue, rate: float, power: float) -> _Site:
    """Draw places along the neurites: `rate` per pixel where the radius is 15, growing with its power."""
    tubes = tissue.tubes
    length = 1 / np.sqrt(tubes[:, 8])
    mean = rate * length * (np.maximum(tubes[:, 6], 5) / 15) ** power
    i = np.repeat(np.arange(len(tubes)), rng.poisson(mean))
    t = rng.uniform(size=(len(i), 1))
    return _Site(
        tubes[i, :3] + t * tubes[i, 3:6],
        tubes[i, 3:6] / length[i, None],
        tubes[i, 6] + t[:, 0] * tubes[i, 7],
        tissue.owner[i],
    )


def _off_axis(rng: np.random.Generator, site: _Site, furthest: float) -> NDArray[np.float64]:
    """Draw points around the places, up to `furthest` of the radius away from the axis."""
    out = rng.standard_normal(site.point.shape)
    out -= (out * site.way).sum(1, keepdims=True) * site.way
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    away = furthest * site.radius * np.sqrt(rng.uniform(size=len(out)))
    return site.point + away[:, None] * out


def _mitochondria(rng: np.random.Generator, tissue: Tissue) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Long tubes that follow their neurite."""
    site = _sites(rng, tissue, 0.0034, 1.4)
    n = len(site.radius)
    radius = np.minimum(rng.uniform(8.0, 17.0, n), 0.62 * site.radius)
    length = rng.gamma(3.0, 28.0, n) + 10
    way = site.way + 0.2 * rng.standard_normal((n, 3))
    start = _off_axis(rng, site, 0.55) - way * length[:, None] / 2
    rows = _rows(start, way * length[:, None], radius, radius * rng.uniform(-0.25, 0.25, n))
    good = (radius > 4.5) & _apart(rows, site.owner, 3.0)
    return rows[good], site.owner[good]


def _apart(tubes: NDArray[Any], owner: NDArray[np.int32], least: float) -> NDArray[np.bool_]:
    """Keep only those tubes that stay clear of all earlier ones of the same neurite."""
    along = np.linspace(0, 1, 7)[:, None]
    points = tubes[:, None, :3] + along * tubes[:, None, 3:6]
    kept = np.ones(len(tubes), bool)
    for i in range(len(tubes)):
        rivals = np.flatnonzero(kept[:i] & (owner[:i] == owner[i]))
        gap = np.linalg.norm(points[rivals][:, :, None] - points[i], axis=-1).min((1, 2), initial=np.inf)
        kept[i] = not (gap < tubes[rivals, 6] + tubes[i, 6] + least).any()
    return kept


def _rods(
    rng: np.random.Generator, tissue: Tissue, rate: float, radii: tuple[float, float], length: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Short bodies of any direction, the longer ones rather along the neurite."""
    site = _sites(rng, tissue, rate, 1.2)
    n = len(site.radius)
    way = site.way + 0.5 * rng.standard_normal((n, 3))
    vector = way * rng.exponential(length, n)[:, None]
    radius = np.minimum(rng.uniform(*radii, n), 0.45 * site.radius)
    return _rows(_off_axis(rng, site, 0.8) - vector / 2, vector, radius), site.owner


def _synapses(
    rng: np.random.Generator, tissue: Tissue, size: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Choose places on borders between two neurites; the thinner one there gives."""
    tries = rng.poisson(_SYNAPSES * np.prod(size)) + 1
    points = rng.uniform(size=(20 * tries, 3)) * size
    pair, depth = probe(tissue.tubes, tissue.owner, points)
    thick = np.bincount(tissue.owner, tissue.tubes[:, 6], tissue.count) / np.bincount(tissue.owner)
    thinner = thick[pair].min(1)
    fit = (depth < 4) & (thinner < 32)
    chosen = np.lexsort((-thinner, ~fit))[: min(tries, int(fit.sum()))]  # boutons are no thin axons
    pairs = pair[chosen]
    swap = thick[pairs[:, 0]] > thick[pairs[:, 1]]
    pairs[swap] = pairs[swap][:, ::-1]
    radius = rng.uniform(18, 42, len(chosen))
    return np.column_stack([points[chosen], radius]), pairs


def _pools(
    rng: np.random.Generator, tissue: Tissue, discs: NDArray[Any], pairs: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Gather vesicles on the giving side of each synapse."""
    rows, owners = [_rows(np.empty((0, 3)), np.empty((0, 3)), np.empty(0))], [np.empty(0, np.int32)]
    ends = tissue.tubes[:, :3] + tissue.tubes[:, 3:6]
    for disc, (giver, _) in zip(discs, pairs, strict=True):
        points = disc[:3] + 25.0 * rng.standard_normal((rng.integers(300, 900), 3))
        near = np.linalg.norm(ends - disc[:3], axis=1) < 170 + tissue.tubes[:, 6]
        pair, depth = probe(tissue.tubes[near], tissue.owner[near], points)
        points = points[(pair[:, 0] == giver) & (depth > 4.5)]
        rows.append(_rows(points, np.zeros_like(points), rng.uniform(2.9, 3.9, len(points))))
        owners.append(np.full(len(points), giver, np.int32))
    return np.concatenate(rows), np.concatenate(owners)
