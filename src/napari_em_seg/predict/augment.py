"""What happens to serial sections between knife and screen, done to training crops on purpose."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["NONE", "STANDARD", "Augmentation", "augment"]

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How much of what; images are normalised, so that 1 is the standard deviation of their grey values.

    Parameters
    ----------
    brightness, contrast
        Standard deviation of what is added to a slice, and of the logarithm of what it is multiplied by;
        each slice has its own, as each section its thickness and stain.
    noise
        Largest standard deviation of the noise.
    blur
        Largest standard deviation of a Gaussian in pixels, for one slice out of three.
    missing
        Probability of a neighbouring slice to be black.
    shift, shift_px
        Probability of a neighbouring slice to lie beside the others, and by how many pixels at most.
    elastic_px, elastic_period
        Amplitude of an elastic deformation in pixels, and the distance over which it changes.
    """

    brightness: float = 0.25
    contrast: float = 0.15
    noise: float = 0.25
    blur: float = 1.2
    missing: float = 0.03
    shift: float = 0.1
    shift_px: int = 12
    elastic_px: float = 4.0
    elastic_period: float = 40.0


STANDARD = Augmentation()
NONE = Augmentation(0, 0, 0, 0, 0, 0, 0, 0)


def augment(
    image: Image, labels: NDArray[Any], rng: np.random.Generator, settings: Augmentation = STANDARD
) -> tuple[Image, NDArray[Any]]:
    """Change a crop (slices, y, x) and its labels, given for the centre slice or for all of them.

    What moves the tissue (elastic deformation) moves image and labels alike. What befalls one section
    (shift, loss) befalls neighbours only: the labels are those of the centre slice where it lies.
    """
    image = np.array(image, np.float32)
    if settings.elastic_px > 0:
        image, labels = _deform(image, labels, rng, settings)
    centre = len(image) // 2
    for z in range(len(image)):
        if z != centre:
            image[z] = _misplaced(image[z], rng, settings)
        image[z] = _exposed(image[z], rng, settings)
    return image, labels


def _deform(
    image: Image, labels: NDArray[Any], rng: np.random.Generator, settings: Augmentation
) -> tuple[Image, NDArray[Any]]:
    """Bend all slices by one smooth random field: linear between grey values, nearest between labels."""
    shape = image.shape[1:]
    coarse = [max(2, round(n / settings.elastic_period) + 1) for n in shape]
    places = np.indices(shape, np.float32)
    zoom = [(c - 1) / max(1, n - 1) for c, n in zip(coarse, shape, strict=True)]
    at = places * np.array(zoom, np.float32).reshape(2, 1, 1)
    for axis in range(2):
        bend = rng.uniform(-settings.elastic_px, settings.elastic_px, coarse).astype(np.float32)
        places[axis] += ndimage.map_coordinates(bend, at, order=3, mode="nearest")
    bent = [ndimage.map_coordinates(plane, places, order=1, mode="reflect") for plane in image]
    moved = [ndimage.map_coordinates(plane, places, order=0, mode="reflect") for plane in labels]
    return np.stack(bent), np.stack(moved)


def _misplaced(plane: Image, rng: np.random.Generator, settings: Augmentation) -> Image:
    if rng.random() < settings.missing:
        return np.full_like(plane, plane.min())
    if rng.random() < settings.shift:
        by = rng.integers(-settings.shift_px, settings.shift_px + 1, 2)
        return ndimage.shift(plane, by, order=0, mode="reflect")  # type: ignore[no-any-return]
    return plane


def _exposed(plane: Image, rng: np.random.Generator, settings: Augmentation) -> Image:
    """Photograph a section anew: focus, contrast, brightness, noise."""
    if rng.random() < 1 / 3 and settings.blur > 0:
        plane = ndimage.gaussian_filter(plane, rng.uniform(0, settings.blur))
    plane = plane * np.float32(np.exp(rng.normal(0, settings.contrast)))
    plane = plane + np.float32(rng.normal(0, settings.brightness))
    strength = np.float32(rng.uniform(0, settings.noise))
    return plane + strength * rng.standard_normal(plane.shape, np.float32)
