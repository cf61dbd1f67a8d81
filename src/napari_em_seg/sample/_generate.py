"""The sample: draws tissue and exposures from a seed, cuts the sections, and makes the truth consistent."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from napari_em_seg.errors import DataError
from napari_em_seg.sample._damage import damage
from napari_em_seg.sample._grow import grow
from napari_em_seg.sample._noise import Lattice
from napari_em_seg.sample._organelles import plan
from napari_em_seg.sample._render import SECTION, Look, Scene, render

__all__ = ["Sample", "generate"]

VOXEL_SIZE_NM = (30.0, 6.0, 6.0)
LEAST = (3, 64, 64)

_MARGIN = 66.0  # pixels of tissue around the volume, so that its borders look like its inside
_TINY = 60  # voxels; smaller scraps, left where a neurite was pinched off, count as membrane


@dataclass(frozen=True, eq=False)
class Sample:
    """A stack of sections and its truth.

    Parameters
    ----------
    raw
        Gray levels (z, y, x).
    labels
        The neurite of each voxel, 1 to n; 0 on membranes.
    voxel_size_nm
        Size of a voxel (z, y, x) in nanometres.
    """

    raw: NDArray[np.uint8]
    labels: NDArray[np.uint32]
    voxel_size_nm: tuple[float, float, float]


def generate(
    shape: tuple[int, int, int] = (30, 512, 512),
    seed: int = 0,
    *,
    missing_slice: bool = False,
    fold: bool = False,
    stain: bool = False,
    misalignment: float = 1.0,
) -> Sample:
    """Make synthetic serial-section EM with dense truth, modelled on mouse cortex at 30×6×6 nm.

    Parameters
    ----------
    shape
        Sections, rows and columns; at least 3×64×64.
    seed
        The same seed gives the same bytes on the same machine, however many threads there are.
    missing_slice, fold, stain
        Damage one inner section each; the labels stay as they are.
    misalignment
        Standard deviation of the sections' shifts in pixels; raw and labels are shifted together.

    Raises
    ------
    DataError
        The shape is not three whole numbers, or too small; or the seed or misalignment is negative.
    """
    shape = _checked(shape, seed, misalignment)
    streams = np.random.SeedSequence(int(seed)).spawn(4)
    scene = _scene(shape, np.random.default_rng(streams[0]))
    looks = _looks(shape[0], misalignment, np.random.default_rng(streams[1]))
    raw, labels = _cut(scene, shape, looks, streams[2])
    damage(np.random.default_rng(streams[3]), raw, folded=fold, stained=stain, lost=missing_slice)
    return Sample(raw, _connected(labels), VOXEL_SIZE_NM)


def _checked(shape: tuple[int, int, int], seed: int, misalignment: float) -> tuple[int, int, int]:
    """Return the shape as three ints, or raise."""
    numbers = tuple(shape) if isinstance(shape, list | tuple | np.ndarray) else (shape,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
    if len(numbers) != 3 or not whole or any(n < m for n, m in zip(numbers, LEAST, strict=True)):
        raise DataError(
            f"The shape of the sample is {shape!r}",
            "three whole numbers (sections, rows, columns), at least (3, 64, 64)",
            "Give a shape such as (30, 512, 512)",
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"The seed is {seed!r}", "a whole number, 0 or more", "Give a seed such as 0")
    if not 0 <= misalignment <= 10:
        raise DataError(
            f"The misalignment is {misalignment!r} pixels",
            "0 to 10 pixels",
            "Give 0 for perfectly aligned sections, or about 1",
        )
    depth, height, width = (int(n) for n in numbers)
    return depth, height, width


def _scene(shape: tuple[int, int, int], rng: np.random.Generator) -> Scene:
    """Draw the tissue, what is in it, and how its membranes and cytoplasm vary."""
    size = (shape[0] * SECTION, float(shape[1]), float(shape[2]))
    tissue = grow(rng, size, _MARGIN)
    # z, y, x in turn: large bends, small wiggles, and what each section is stretched by on its own
    warp = [
        (60.0, 7.0, 5.0),
        (60.0, 7.0, 8.0),
        (60.0, 7.0, 8.0),
        (26.0, 3.0, 2.0),
        (26.0, 3.0, 3.0),
        (26.0, 3.0, 3.0),
    ]
    fields = tuple((Lattice.draw(rng, shape, spacing, depth), amount) for spacing, depth, amount in warp)
    return Scene(
        tissue=tissue,
        organelles=plan(rng, tissue, size),
        warp=fields,
        width=Lattice.draw(rng, shape, 26.0, 2.0),
        strength=Lattice.draw(rng, shape, 34.0, 1.5),
        gap=Lattice.draw(rng, shape, 17.0, 1.5),
        shade=Lattice.draw(rng, shape, 70.0, 3.0),
        tone=np.clip(rng.normal(0.08, 0.05, tissue.count), 0, 0.2).astype(np.float32),
    )


def _looks(count: int, misalignment: float, rng: np.random.Generator) -> list[Look]:
    """Draw each section's position, brightness, contrast, noise and focus."""
    return [
        Look(
            shift=(misalignment * rng.standard_normal(), misalignment * rng.standard_normal()),
            turn=0.002 * min(misalignment, 1.0) * rng.standard_normal(),
            brightness=float(np.clip(rng.normal(148, 20), 100, 190)),
            contrast=rng.uniform(165, 215),
            tilt=(20 * rng.standard_normal(), 20 * rng.standard_normal()),
            noise=rng.uniform(7, 12),
            blur=rng.uniform(0.65, 1.0),
        )
        for _ in range(count)
    ]


def _cut(
    scene: Scene, shape: tuple[int, int, int], looks: list[Look], seeds: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Render all sections, several at a time; each has random numbers of its own, so order is free."""
    raw, labels = np.empty(shape, np.uint8), np.empty(shape, np.uint32)
    children = seeds.spawn(shape[0])

    def cut(z: int) -> None:
        rng = np.random.default_rng(children[z])
        raw[z], labels[z] = render(scene, z, shape[1:], looks[z], rng)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(cut, range(shape[0])))
    return raw, labels


def _connected(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Give each connected part a number of its own, 1 to n, and scraps to the membrane.

    A neurite that leaves the volume and comes back is two neurites to whoever sees only the volume.
    """
    label: Any = measure.label  # scikit-image has types for some functions only
    parts = label(labels, background=0, connectivity=1)
    sizes = np.bincount(parts.ravel())
    kept = sizes >= _TINY
    kept[0] = False
    number = np.zeros(sizes.size, np.uint32)
    number[kept] = 1 + np.arange(kept.sum(), dtype=np.uint32)
    return np.asarray(number[parts])
