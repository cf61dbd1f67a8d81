"""Sections of the sample: what the microscope sees of the tissue, and the true labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_em_seg.sample._grow import Tissue
from napari_em_seg.sample._kernels import nearest_two
from napari_em_seg.sample._noise import Lattice
from napari_em_seg.sample._organelles import Organelles
from napari_em_seg.sample._paint import paint_bodies, paint_synapses

__all__ = ["SECTION", "Look", "Scene", "render"]

SECTION = 5.0
"""Thickness of a section in pixels: 30 nm at 6 nm per pixel."""

_OFFSETS = np.array([-0.4, -0.2, 0.0, 0.2, 0.4]) * SECTION
_MIDDLE = len(_OFFSETS) // 2
_REACH = 64.0  # tubes further than this from a section are never first or second in it


@dataclass(frozen=True)
class Look:
    """One section's position and exposure."""

    shift: tuple[float, float]
    turn: float
    brightness: float
    contrast: float
    tilt: tuple[float, float]
    noise: float
    blur: float


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that the sections are cut from.

    `warp` moves pixels (z, y, x, coarse and fine), `width`, `strength` and `gap` vary the membranes,
    `tone` is the darkness of each neurite's cytoplasm, `shade` varies the stain.
    """

    tissue: Tissue
    organelles: Organelles
    warp: tuple[tuple[Lattice, float], ...]
    width: Lattice
    strength: Lattice
    gap: Lattice
    shade: Lattice
    tone: NDArray[np.float32]


def render(
    scene: Scene, z: int, shape: tuple[int, int], look: Look, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Cut section z: return its image and its labels (neurite + 1, 0 on membranes)."""
    place = _place(scene, z, shape, look)
    near = scene.tissue.near((z + 0.5) * SECTION, _REACH)
    tubes, owner = scene.tissue.tubes[near], scene.tissue.owner[near]
    first = np.empty((len(_OFFSETS), *shape), np.int32)
    second, depth = np.empty_like(first), np.empty(first.shape, np.float32)
    nearest_two(tubes, owner, place, _OFFSETS, first, second, depth)
    dark = _darkness(scene, z, place, first, second, depth)
    labels = np.where(depth[_MIDDLE] > _rim(scene, z, shape), first[_MIDDLE] + 1, 0)
    return _expose(scene, z, dark, first[_MIDDLE], look, rng), labels.astype(np.uint32)


def _place(scene: Scene, z: int, shape: tuple[int, int], look: Look) -> NDArray[np.float32]:
    """Find where in the tissue each pixel of the section lies: shifted, turned and warped."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    cy, cx = shape[0] / 2, shape[1] / 2
    place = np.empty((3, *shape), np.float32)
    place[0] = (z + 0.5) * SECTION
    place[1] = y + look.shift[0] + look.turn * (x - cx)
    place[2] = x + look.shift[1] - look.turn * (y - cy)
    for n, (field, size) in enumerate(scene.warp):
        place[n % 3] += size * field.section(z, shape)
    return place


def _rim(scene: Scene, z: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Half the width of the membranes in the labels."""
    return np.asarray(1.5 + 0.4 * np.clip(scene.width.section(z, shape), -1.5, 2.5), np.float32)


def _darkness(
    scene: Scene, z: int, place: NDArray[Any], first: NDArray[Any], second: NDArray[Any], depth: NDArray[Any]
) -> NDArray[np.float32]:
    """Sum what absorbs electrons through the thickness of the section, 0 (clear) to 1."""
    shape = place.shape[1:]
    gap = (0.8 + 0.7 * np.clip(scene.gap.section(z, shape), -1.1, 1.8)).astype(np.float32)
    width = (0.98 + 0.25 * np.clip(scene.width.section(z, shape), -1.5, 2)).astype(np.float32)
    strength = (0.54 + 0.16 * np.clip(scene.strength.section(z, shape), -2, 1.6)).astype(np.float32)
    bodies = scene.organelles
    level = (z + 0.5) * SECTION
    near = bodies.near(level, float(np.abs(place[0] - level).max()) + SECTION)
    tubes, owner, kind, phase = (
        bodies.tubes[near].astype(np.float32),
        bodies.owner[near],
        bodies.kind[near],
        bodies.phase[near],
    )
    total = np.zeros(shape, np.float32)
    for s, offset in enumerate(_OFFSETS):
        u = (depth[s] - gap - 0.9) / width
        dark = strength * np.where(u < 0, 0.4 + 0.6 * np.exp(-u * u), np.exp(-u * u))
        paint_synapses(dark, first[s], second[s], depth[s], place, offset, bodies.discs, bodies.pairs)
        taken = np.zeros(shape, np.int32)
        paint_bodies(dark, taken, first[s], depth[s], place, offset, tubes, owner, kind, phase)
        total += dark
    return total / np.float32(len(_OFFSETS))


def _grain(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    """White noise, blurred and scaled to standard deviation 1."""
    grain = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3.0)
    return np.asarray(grain * np.float32(2 * np.sqrt(np.pi) * sigma))


def _cytoplasm(scene: Scene, z: int, first: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """Darkness of the cytoplasm: a tone per neurite, dark granules, mottle."""
    shape = (first.shape[0], first.shape[1])
    fine, granules, mottle = (_grain(rng, shape, s) for s in (1.1, 2.0, 5.0))
    dark = scene.tone[first] + 0.035 * scene.shade.section(z, shape)
    dark += 0.06 * fine + 0.11 * np.maximum(granules + 0.3, 0) ** 1.4 + 0.03 * mottle
    return np.asarray(dark, np.float32)


def _expose(
    scene: Scene, z: int, dark: NDArray[Any], first: NDArray[Any], look: Look, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn darkness into gray levels: cytoplasm, blur, uneven exposure, noise."""
    height, width = dark.shape
    light = 1 - dark - _cytoplasm(scene, z, first, rng) * (1 - 0.75 * dark)
    light = gaussian_filter(light.astype(np.float32), look.blur, mode="nearest")
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ramp = look.tilt[0] * (y / height - 0.5) + look.tilt[1] * (x / width - 0.5)
    image = look.brightness + ramp + look.contrast * (light - 0.8)
    shot = gaussian_filter(rng.standard_normal(dark.shape, dtype=np.float32), 0.45, mode="nearest")
    image += look.noise * shot * np.sqrt(np.clip(light, 0.1, 1.2))
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)
