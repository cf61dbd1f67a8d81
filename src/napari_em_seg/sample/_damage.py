"""Damage of the sample's sections: a missing one, a fold, a stain. The truth below it stays."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_em_seg.sample._noise import Lattice

__all__ = ["damage"]


def lose(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the black image, with a little camera noise, of a section that was lost."""
    noise = np.abs(rng.standard_normal(image.shape)) * 1.2
    return np.asarray(noise, np.uint8)


def fold(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with a band across it where the section lies double on itself, hence dark."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    normal, along = (np.sin(angle), np.cos(angle)), (np.cos(angle), -np.sin(angle))
    middle = (height * rng.uniform(0.3, 0.7), width * rng.uniform(0.3, 0.7))
    across = (y - middle[0]) * normal[0] + (x - middle[1]) * normal[1]
    length = (y - middle[0]) * along[0] + (x - middle[1]) * along[1]
    size = min(height, width)
    bend = np.sin(length / (0.23 * size) + rng.uniform(0, 6)) + np.sin(length / (0.11 * size)) * 0.4
    across = across + 0.018 * size * bend
    half = np.clip(0.028 * size, 5.0, 16.0) * (1 + 0.25 * np.sin(length / (0.3 * size) + 1))
    # the upper layer is the tissue beside the band, mirrored at its edge
    back = 2 * (half - np.abs(across)) * np.sign(across)
    places = np.stack([y + back * normal[0], x + back * normal[1]])
    upper = map_coordinates(image.astype(np.float32), places, order=1, mode="reflect")
    cover = 1 / (1 + np.exp(np.clip((np.abs(across) - half) / 0.8, -30, 30)))
    edge = np.exp(-(((np.abs(across) - half) / 1.6) ** 2))
    double = image / 255.0 * upper * 0.62
    folded = (1 - cover) * image + cover * double - 45 * edge
    return np.asarray(np.clip(np.rint(folded), 0, 255), np.uint8)


def stain(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with a dark blot of precipitate and specks around it."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    size = min(height, width)
    cy, cx = height * rng.uniform(0.25, 0.75), width * rng.uniform(0.25, 0.75)
    ragged = Lattice.draw(rng, (1, height, width), size / 14, 1).section(0, image.shape)
    away = np.hypot(y - cy, x - cx) / (0.13 * size) + 0.3 * ragged
    veil = 1 / (1 + np.exp(np.clip((away - 1) / 0.12, -30, 30)))
    specks = gaussian_filter((rng.uniform(size=image.shape) < 0.012).astype(np.float32), 1.6) * 14
    core = np.clip(specks * np.exp(-((away / 1.5) ** 2)), 0, 0.9)
    return np.asarray(np.rint(image * (1 - 0.6 * veil) * (1 - core)), np.uint8)


def damage(
    rng: np.random.Generator, raw: NDArray[np.uint8], *, folded: bool, stained: bool, lost: bool
) -> None:
    """Damage inner sections of a stack in place, each kind in a section of its own where there are enough."""
    inner = 1 + rng.permutation(len(raw) - 2)
    for n, (wanted, spoil) in enumerate(((folded, fold), (stained, stain), (lost, lose))):
        child = np.random.default_rng(rng.integers(2**63))  # drawn always: one kind does not move another
        z = inner[n % len(inner)]
        if wanted:
            raw[z] = spoil(child, raw[z])
