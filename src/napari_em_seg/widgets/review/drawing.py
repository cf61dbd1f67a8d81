"""Drawing: outlines of regions, and small pictures of the tissue with outlines on it; NumPy alone."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_em_seg.review.scene import Place
from napari_em_seg.widgets.colours import rgb

__all__ = ["Box", "outline", "picture", "square_around"]

Box = tuple[int, int, int, int]
"""First row and column, and those after the last ones."""


def outline(mask: NDArray[np.bool_], thickness: int = 1) -> NDArray[np.bool_]:
    """Return the pixels of a mask that are near its edge, or the edge of the array."""
    inner = ndimage.binary_erosion(mask, iterations=max(1, thickness), border_value=0)
    return mask & ~inner


def square_around(
    box: Box, shape: tuple[int, int], margin: float = 0.35, least: int = 96, most: int = 700
) -> Box:
    """Return a square around a box with a margin, within the slice where that is possible."""
    y, x, bottom, right = box
    side = int(min(max((1 + 2 * margin) * max(bottom - y, right - x), least), most))
    corner = []
    for centre, length in (((y + bottom) / 2, shape[0]), ((x + right) / 2, shape[1])):
        corner.append(max(0, min(round(centre - side / 2), length - side)))
    return corner[0], corner[1], min(corner[0] + side, shape[0]), min(corner[1] + side, shape[1])


def picture(
    plane: NDArray[np.generic],
    limits: tuple[float, float],
    box: Box,
    outlined: Iterable[tuple[Sequence[Place], str]],
    size: int,
) -> NDArray[np.uint8]:
    """Return a picture (RGB) of a part of a slice, about ``size`` pixels wide, with outlines in colours.

    Parameters
    ----------
    plane
        The pixels within the box.
    limits
        What is black and what is white.
    box
        The part of the slice.
    outlined
        Regions, and the colour of their outlines.
    size
        What it is enlarged to, by a whole factor, so that outlines are thin lines; or thinned out to.
    """
    low, high = limits
    step = max(1, min(plane.shape) // size)
    plane = plane[::step, ::step]
    grey = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1) * 255
    factor = max(1, size // max(1, *plane.shape))
    grey = np.repeat(np.repeat(grey.astype(np.uint8), factor, axis=0), factor, axis=1)
    found = np.stack((grey,) * 3, axis=-1)
    thickness = max(1, max(grey.shape) // 150)
    for places, colour in outlined:
        for place in places:
            part, mask = _within(place, box)
            if part is None:
                continue
            y, x = (-(-s.start // step) * factor for s in part)
            first = (-part[0].start % step, -part[1].start % step)
            thin = mask[first[0] :: step, first[1] :: step]
            large = np.repeat(np.repeat(thin, factor, axis=0), factor, axis=1)
            window = found[y : y + large.shape[0], x : x + large.shape[1]]
            window[outline(large, thickness)] = rgb(colour)
    return found


def _within(place: Place, box: Box) -> tuple[tuple[slice, slice] | None, NDArray[np.bool_]]:
    """Return where a region lies in a box, and the part of its mask there."""
    y, x = max(place.y, box[0]), max(place.x, box[1])
    bottom, right = min(place.box[2], box[2]), min(place.box[3], box[3])
    if y >= bottom or x >= right:
        return None, place.mask
    mask = place.mask[y - place.y : bottom - place.y, x - place.x : right - place.x]
    return (slice(y - box[0], bottom - box[0]), slice(x - box[1], right - box[1])), mask
