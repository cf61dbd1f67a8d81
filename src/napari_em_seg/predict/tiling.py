"""Cutting a volume into tiles with a halo, reading them as a net wants them, and joining what it gives."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike

__all__ = ["Box", "Canvas", "Levels", "Normalise", "Reader", "Sizes", "Tile", "Tiler"]

Sizes = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Normalise = Literal["volume", "slice", "none"]

SAMPLED_SLICES = 16
SAMPLED_SIDE = 1024


@dataclass(frozen=True)
class Tile:
    """One block of output.

    Parameters
    ----------
    core
        The block that the net answers for; may stick out of the volume at its far ends.
    keep
        The part inside. All tiles' ``keep`` are disjoint and together the volume.
    """

    core: Box
    keep: Box

    @property
    def sizes(self) -> Sizes:
        """Edge lengths of the core."""
        z, y, x = (part.stop - part.start for part in self.core)
        return z, y, x


@dataclass(frozen=True)
class Tiler:
    """Cuts a volume into tiles of one size, which are predicted with a halo around them.

    All cores begin at multiples of the stride and are multiples of it long, as is the halo, so that a net
    with pooling meets the same grid in every tile and in every view of it. Where the halo is at least the
    net's reach, tiles are then the same as the whole predicted at once, and are cropped (``blend`` 0).
    Where it is smaller, tiles overlap by ``blend`` on each side and are joined by weights that fall
    linearly across the overlap. Blending is in y and x only; along z the halo always has to be enough.

    Parameters
    ----------
    shape
        Of the volume (z, y, x).
    tile
        The largest size of a core; smaller where that makes all tiles equal.
    halo
        What is read around a core, on each side.
    stride
        Product of the net's poolings along each axis.
    blend
        Width of the overlap on each side of ``keep``; at most the halo.
    border
        The most that is mirrored beyond the volume in y and x; None: the whole halo. All tiles end at the
        same places, so that they still agree, but a wide halo does not multiply the work on small images.
    """

    shape: Sizes
    tile: Sizes
    halo: Sizes = (0, 0, 0)
    stride: Sizes = (1, 1, 1)
    blend: int = 0
    border: int | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.tile) < 1 or min(self.stride) < 1 or min(self.halo) < 0:
            raise DataError(
                f"The tiling is {self}", "sizes of 1 or more, and a halo of 0 or more", "Give such sizes"
            )
        if not 0 <= self.blend <= min(self.halo[1:]):
            raise DataError(
                f"The overlap of tiles is {self.blend} with a halo of {self.halo}",
                "at most the halo",
                "Give a larger halo or a smaller overlap",
            )
        halo = tuple(_up(h, s) for h, s in zip(self.halo, self.stride, strict=True))
        object.__setattr__(self, "halo", halo)

    @property
    def sizes(self) -> Sizes:
        """Edge lengths of every core."""
        z, y, x = map(_even, self.shape, self.tile, self.stride)
        return z, y, x

    def __len__(self) -> int:
        """Return the number of tiles."""
        return math.prod(-(-n // size) for n, size in zip(self.shape, self.sizes, strict=True))

    def __iter__(self) -> Iterator[Tile]:
        """Yield all tiles, x fastest."""
        for row in self.rows():
            yield from row

    def rows(self) -> Iterator[list[Tile]]:
        """Yield the tiles in rows along x; rows go down in y, then to the next slices."""
        z_cores, y_cores, x_cores = map(_cores, self.shape, self.sizes)
        for z in z_cores:
            for y in y_cores:
                yield [self._tile((z, y, x)) for x in x_cores]

    def around(self, box: Box) -> Tile:
        """Return a tile of its own that answers for a box, and a little more where the strides want it."""
        z, y, x = (
            slice(part.start // step * step, _up(part.stop, step))
            for part, step in zip(box, self.stride, strict=True)
        )
        return self._tile((z, y, x))

    def split(self, tile: Tile, axis: int) -> list[Tile]:
        """Halve a tile along an axis; a single tile comes back where it cannot be halved."""
        core = tile.core[axis]
        half = _up(-(-(core.stop - core.start) // 2), self.stride[axis])
        cores = [slice(start, min(start + half, core.stop)) for start in range(core.start, core.stop, half)]
        boxes = [(*tile.core[:axis], part, *tile.core[axis + 1 :]) for part in cores]
        inside = [box for box in boxes if box[axis].start < self.shape[axis]]
        return [self._tile((z, y, x)) for z, y, x in inside]

    def outer(self, tile: Tile) -> Box:
        """Return what the net has to see: the core and the halo; may stick out of the volume anywhere."""
        z, y, x = tile.core
        z = slice(z.start - self.halo[0], z.stop + self.halo[0])
        return z, self._surrounded(y, 1), self._surrounded(x, 2)

    def cover(self, tile: Tile) -> Box:
        """Return what is used of the answer: ``keep`` and the overlap with the neighbours."""
        z, y, x = tile.keep
        return z, self._widened(y, 1), self._widened(x, 2)

    def inner(self, tile: Tile) -> Box:
        """Return the place of ``cover`` within ``outer``, less the halo along z."""
        begins = [part.start for part in (tile.core[0], *self.outer(tile)[1:])]
        z, y, x = (
            slice(used.start - begin, used.stop - begin)
            for used, begin in zip(self.cover(tile), begins, strict=True)
        )
        return z, y, x

    def weight(self, tile: Tile) -> NDArray[np.float32]:
        """Return the weights (y, x) of ``cover``: 1 inside, falling linearly across each overlap."""
        return np.outer(self._ramp(tile.keep[1], 1), self._ramp(tile.keep[2], 2))

    def _tile(self, core: Box) -> Tile:
        z, y, x = (slice(c.start, min(c.stop, n)) for c, n in zip(core, self.shape, strict=True))
        return Tile(core, (z, y, x))

    def _surrounded(self, core: slice, axis: int) -> slice:
        halo, stride = self.halo[axis], self.stride[axis]
        border = halo if self.border is None else min(halo, _up(self.border, stride))
        end = _up(self.shape[axis], stride) + border
        return slice(max(core.start - halo, -border), min(core.stop + halo, end))

    def _widened(self, keep: slice, axis: int) -> slice:
        return slice(max(0, keep.start - self.blend), min(self.shape[axis], keep.stop + self.blend))

    def _ramp(self, keep: slice, axis: int) -> NDArray[np.float32]:
        """``min(1, (i + ½ − start + blend) / (2 · blend))``, the same from the end; no fall at the border."""
        used = self._widened(keep, axis)
        place = np.arange(used.start, used.stop, dtype=np.float32) + np.float32(0.5)
        ramp = np.ones_like(place)
        if keep.start > 0 and self.blend:
            ramp = np.minimum(ramp, (place - (keep.start - self.blend)) / (2 * self.blend))
        if keep.stop < self.shape[axis] and self.blend:
            ramp = np.minimum(ramp, (keep.stop + self.blend - place) / (2 * self.blend))
        return ramp.astype(np.float32)


class Canvas:
    """Sums weighted tiles over a band of rows, and gives away the rows that no later tile touches.

    Tiles come in rows from top to bottom. Each voxel is ``Σ weight · value / Σ weight`` over its tiles, so
    that tiles of several sizes join as well.

    Parameters
    ----------
    channels
        Values per voxel.
    z
        The slices that are painted.
    height, width
        Where it ends: of the whole slices, usually.
    corner
        Where it begins along y and x.
    """

    def __init__(
        self, channels: int, z: slice, height: int, width: int, corner: tuple[int, int] = (0, 0)
    ) -> None:
        self._z = z
        self._height = height
        self._top, self._left = corner
        width -= self._left
        self._sum = np.zeros((channels, z.stop - z.start, 0, width), np.float32)
        self._weight = np.zeros((z.stop - z.start, 0, width), np.float32)

    def add(self, box: Box, values: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
        """Add the values (c, z, y, x) of a box with their weights (y, x)."""
        z, y, x = box
        missing = y.stop - self._top - self._weight.shape[1]
        if missing > 0:
            self._sum = np.pad(self._sum, ((0, 0), (0, 0), (0, missing), (0, 0)))
            self._weight = np.pad(self._weight, ((0, 0), (0, missing), (0, 0)))
        place = (
            slice(z.start - self._z.start, z.stop - self._z.start),
            slice(y.start - self._top, y.stop - self._top),
            slice(x.start - self._left, x.stop - self._left),
        )
        self._sum[:, *place] += values * weight
        self._weight[place] += weight

    def take(self, stop: int) -> tuple[slice, NDArray[np.float32]]:
        """Return the rows before ``stop`` that were not taken yet, and forget them."""
        stop = max(self._top, min(stop, self._height))
        rows, n = slice(self._top, stop), stop - self._top
        done = np.divide(self._sum[:, :, :n], self._weight[:, :n], dtype=np.float32)
        self._sum, self._weight = self._sum[:, :, n:].copy(), self._weight[:, n:].copy()
        self._top = stop
        return rows, done


class Levels:
    """Mean and deviation of the gray levels, by which images are brought to zero mean and unit variance.

    They are taken from the middle of each slice (at most 1024×1024), with the darkest and brightest half
    per cent clipped. "volume": medians over at most 16 slices, evenly spaced; slices of one single value,
    which were lost, do not count. "slice": each slice by itself. "none": 0 and 1. The same volume
    gives the same numbers.
    """

    def __init__(self, volume: ArrayLike, mode: Normalise = "volume") -> None:
        if mode not in get_args(Normalise):
            raise DataError(
                f"The normalisation is {mode!r}", f"one of {', '.join(get_args(Normalise))}", "Choose one"
            )
        self._volume = volume
        self._mode = mode
        self._slices: dict[int, tuple[float, float]] = {}
        self._overall = self._measure_all() if mode == "volume" else (0.0, 1.0)

    def of(self, z: int) -> tuple[float, float]:
        """Return mean and deviation that hold for a slice; the deviation is never zero."""
        if self._mode != "slice":
            return self._overall
        if z not in self._slices:
            mean, deviation = self._measure(z)
            self._slices[z] = mean, deviation or 1.0
        return self._slices[z]

    def _measure_all(self) -> tuple[float, float]:
        depth = self._volume.shape[0]
        chosen = np.unique(np.linspace(0, depth - 1, min(depth, SAMPLED_SLICES)).round().astype(int))
        levels = np.array([self._measure(int(z)) for z in chosen])
        varied = levels[levels[:, 1] > 0]
        if not len(varied):
            return float(levels[0, 0]), 1.0
        mean, deviation = np.median(varied, axis=0)
        return float(mean), float(deviation)

    def _measure(self, z: int) -> tuple[float, float]:
        starts = [max(0, (n - SAMPLED_SIDE) // 2) for n in self._volume.shape[1:]]
        y, x = (slice(s, min(n, s + SAMPLED_SIDE)) for s, n in zip(starts, self._volume.shape[1:], strict=True))
        part = np.asarray(self._volume[z : z + 1, y, x], dtype=np.float64)
        part = np.clip(part, *np.percentile(part, (0.5, 99.5)))
        return float(part.mean()), float(part.std())


class Reader:
    """Reads normalised blocks, mirrored at the volume's border; holds a run of whole slices if affordable.

    Tiles are asked for slice by slice, and many files can give only whole slices or chunks of several. So
    as many slices as fit ``budget`` are read at once and held; where the ones a tile needs do not fit, the
    tile's own block is read. At the border, voxel −i is voxel i; a single slice is repeated.

    Parameters
    ----------
    volume
        What to read.
    levels
        Its gray levels.
    budget
        Bytes that may be held.
    stop
        The slice before which nobody will ask for more.
    """

    def __init__(self, volume: ArrayLike, levels: Levels, budget: int, stop: int | None = None) -> None:
        self._volume = volume
        self._levels = levels
        self._first = 0
        self._held: NDArray[Any] | None = None
        slice_bytes = math.prod(volume.shape[1:]) * np.dtype(volume.dtype).itemsize
        self._affordable = budget // slice_bytes
        self._stop = min(volume.shape[0], volume.shape[0] if stop is None else stop)

    def block(self, box: Box) -> NDArray[np.float32]:
        """Read a block that may stick out of the volume on any side."""
        z, y, x = (_mirrored(part, n) for part, n in zip(box, self._volume.shape, strict=True))
        part = self._part(*(slice(int(i.min()), int(i.max()) + 1) for i in (z, y, x)))
        part = part[np.ix_(z - z.min(), y - y.min(), x - x.min())].astype(np.float32)
        for image, i in zip(part, z, strict=True):
            mean, deviation = self._levels.of(int(i))
            image -= mean
            image /= deviation
        return part

    def _part(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        if z.stop - z.start > self._affordable:
            return np.asarray(self._volume[z, y, x])
        held = self._held
        if held is None or z.start < self._first or z.stop > self._first + len(held):
            stop = max(z.stop, min(self._stop, z.start + self._affordable))
            self._held = None  # both at once would be twice the budget
            self._held = held = np.asarray(self._volume[z.start : stop])
            self._first = z.start
        return held[z.start - self._first : z.stop - self._first, y, x]


def _mirrored(part: slice, n: int) -> NDArray[np.intp]:
    """Return the places within 0 … n − 1 that stand for ``part``: a triangle wave of period 2(n − 1)."""
    period = max(1, 2 * (n - 1))
    place = np.arange(part.start, part.stop) % period
    return np.minimum(place, period - place) if n > 1 else np.zeros(len(place), np.intp)


def _even(n: int, most: int, stride: int) -> int:
    """Return the core's length: the fewest equal tiles of at most ``most``, in whole strides."""
    most = max(stride, most // stride * stride)
    return _up(-(-n // -(-n // most)), stride)


def _cores(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _up(n: int, stride: int) -> int:
    """Round up to a multiple of the stride."""
    return -(-n // stride) * stride
