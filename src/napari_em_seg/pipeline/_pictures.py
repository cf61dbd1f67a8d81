"""Pictures for reports: sections with their objects, objects seen from two sides, regions of a link."""

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from napari_em_seg.review.scene import Place
from napari_em_seg.volume import ArrayLike, VoxelSize

__all__ = ["Views", "colours_of", "contrast_of", "data_uri", "figure_uri", "regions_picture", "section_picture"]

SOURCE, TARGET = (230, 159, 0), (86, 180, 233)
"""Orange and sky blue, which colour-blind eyes tell apart; as in the docks."""

_MOST = 900  # pixels along a side
_GOLDEN = 0.6180339887
_DEPTH = 0.65  # how much darker the farthest is than the nearest

Picture = NDArray[np.uint8]
Grey = NDArray[np.uint8]


def data_uri(picture: Picture) -> str:
    """Return a picture as PNG within a text."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def figure_uri(figure: Any) -> str:
    """Return a figure of matplotlib as SVG within a text."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "napari-em-seg"}):  # else names within it are drawn by chance
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def colours_of(ids: NDArray[Any]) -> Picture:
    """Return a colour for each object, always the same; black for 0."""
    found = np.zeros((len(ids), 3), np.uint8)
    for row, name in enumerate(ids.tolist()):
        if name:
            hue, third = (name * _GOLDEN) % 1, name % 3
            found[row] = [round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.55 + 0.15 * third, 0.95)]
    return found


def contrast_of(image: ArrayLike) -> tuple[float, float]:
    """Return the grey values to show as black and white, from the slice in the middle."""
    low, high = np.percentile(np.asarray(image[image.shape[0] // 2]), (0.5, 99.5))
    return float(low), float(max(high, low + 1e-9))


def section_picture(
    image: ArrayLike | None, labels: ArrayLike, z: int, contrast: tuple[float, float]
) -> Picture:
    """Return a slice with its objects in colour over the image."""
    step = _step(labels.shape[1:])
    plane = np.asarray(labels[z])[::step, ::step]
    names, place = np.unique(plane, return_inverse=True)
    colour = colours_of(names)[place.reshape(plane.shape)].astype(np.float32)
    if image is None:
        return colour.astype(np.uint8)
    grey = _grey(np.asarray(image[z])[::step, ::step], contrast)[..., None].astype(np.float32)
    return np.where(plane[..., None] > 0, 0.6 * grey + 0.4 * colour, grey).astype(np.uint8)


class Views:
    """Some objects seen along z and along y, nearer ones brighter; slices are put in one by one."""

    def __init__(self, shape: tuple[int, int, int], ids: NDArray[np.uint64], size: VoxelSize) -> None:
        self._ids, self._shape, self._size = np.sort(ids), shape, size
        self._step = _step(shape[1:])
        n_y, n_x = (-(-n // self._step) for n in shape[1:])
        self._above, self._depth_above = (np.zeros((n_y, n_x), np.int64) for _ in range(2))
        self._side, self._depth_side = (np.zeros((shape[0], n_x), np.int64) for _ in range(2))

    def put(self, z: int, plane: NDArray[Any]) -> None:
        """Take a slice into account; in order."""
        thin = plane[:: self._step, :: self._step].astype(np.uint64)
        place = np.searchsorted(self._ids, thin).clip(max=len(self._ids) - 1)
        row = np.where(self._ids[place] == thin, place + 1, 0)
        is_new = (self._above == 0) & (row > 0)
        self._above[is_new], self._depth_above[is_new] = row[is_new], z
        first = (row > 0).argmax(axis=0)
        self._side[z], self._depth_side[z] = row[first, np.arange(row.shape[1])], first * self._step

    def from_above(self) -> Picture:
        """Return what is seen along z, from the first slice."""
        return self._shaded(self._above, self._depth_above / max(1, self._shape[0] - 1), self._size[1:])

    def from_the_side(self) -> Picture:
        """Return what is seen along y: the first slice is at the top."""
        edges = self._size[0] / self._step, self._size[2]
        return self._shaded(self._side, self._depth_side / max(1, self._shape[1] - 1), edges)

    def _shaded(self, rows: NDArray[np.int64], depth: NDArray[Any], edges: Sequence[float]) -> Picture:
        table = np.vstack((np.zeros((1, 3), np.uint8), colours_of(self._ids)))
        flat = (table[rows] * (1 - _DEPTH * depth[..., None])).astype(np.uint8)
        tall, wide = rows.shape[0] * edges[0] / edges[1], rows.shape[1]
        picture = Image.fromarray(flat).resize((wide, max(1, round(tall))), Image.Resampling.NEAREST)
        picture.thumbnail((_MOST, _MOST))
        return np.asarray(picture)


def regions_picture(
    image: ArrayLike | None, z: int, box: tuple[int, int, int, int], places: Sequence[Place],
    contrast: tuple[float, float], colour: tuple[int, int, int], side: int = 160,
) -> Picture:  # fmt: skip
    """Return what is around a box in a slice, square, with the outlines of some regions of that slice."""
    y, x, bottom, right = box
    half = max(bottom - y, right - x) // 2 + 16
    top, left = (y + bottom) // 2 - half, (x + right) // 2 - half
    picture = np.zeros((2 * half, 2 * half, 3), np.uint8)
    if image is not None and z < image.shape[0]:
        inside = [slice(max(0, start), min(n, start + 2 * half))
                  for start, n in zip((top, left), image.shape[1:], strict=True)]  # fmt: skip
        grey = _grey(np.asarray(image[(z, *inside)]), contrast)
        there = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, (top, left), strict=True))
        picture[there] = grey[..., None]
    for place in places:
        if place.z == z:
            outline = place.mask & ~binary_erosion(place.mask)
            rows, columns = np.nonzero(outline)
            picture[rows + place.y - top, columns + place.x - left] = colour
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def _grey(plane: NDArray[Any], contrast: tuple[float, float]) -> Grey:
    low, high = contrast
    found: Grey = (255 * np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)).astype(np.uint8)
    return found


def _step(sides: Sequence[int]) -> int:
    return max(1, -(-max(sides) // _MOST))
