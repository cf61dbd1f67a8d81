"""Coarser copies of a volume, as multiscale formats hold them."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.io._lazy import Block, LazyArray
from napari_em_seg.volume import ArrayLike, Kind

__all__ = ["Factors", "downsampled", "pyramid_factors"]

Factors = tuple[int, int, int]

_SMALL_ENOUGH = 512  # a level whose slices are no larger needs no coarser one
_MOST_LEVELS = 8


def pyramid_factors(shape: tuple[int, int, int], voxel_size: tuple[float, ...] | None) -> Iterator[Factors]:
    """Say by how much each next level is coarser than the one before.

    An axis is halved while its voxels are less than twice as long as the finest ones, so anisotropic
    volumes first lose resolution in the slices and only then across them.
    """
    sizes = np.array(voxel_size or (math.inf, 1.0, 1.0))
    lengths = np.array(shape)
    for _ in range(_MOST_LEVELS - 1):
        if max(lengths[1:]) <= _SMALL_ENOUGH:
            return
        factors = np.where((sizes < 2 * sizes.min()) & (lengths > 1), 2, 1)
        sizes, lengths = sizes * factors, -(-lengths // factors)
        yield int(factors[0]), int(factors[1]), int(factors[2])


def downsampled(level: ArrayLike, factors: Factors, kind: Kind) -> LazyArray:
    """Show a level coarser: means of images, single voxels of labels (a mean of two ids is no id)."""
    shape = tuple(-(-n // f) for n, f in zip(level.shape, factors, strict=True))

    def read(block: Block) -> NDArray[Any]:
        fine = np.asarray(
            level[tuple(slice(b.start * f, b.stop * f) for b, f in zip(block, factors, strict=True))]
        )
        if kind == "labels":
            return fine[tuple(slice(None, None, f) for f in factors)]
        padding = [(0, -n % f) for n, f in zip(fine.shape, factors, strict=True)]
        even = np.pad(fine, padding, mode="edge")
        split = [m for n, f in zip(even.shape, factors, strict=True) for m in (n // f, f)]
        mean = even.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)
        rounded: NDArray[Any] = np.rint(mean) if fine.dtype.kind in "ui" else mean
        return rounded.astype(fine.dtype)

    return LazyArray(shape, level.dtype, read, "a coarser level")
