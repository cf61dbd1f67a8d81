"""LazyArray: the one array type that all readers give; it reads a block when it is sliced."""

import math
import operator
import weakref
from collections.abc import Callable
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.io._location import clear_read_errors

__all__ = ["Block", "LazyArray", "index_of", "loaded", "without_single_axes"]

Block = tuple[slice, slice, slice]


class LazyArray:
    """A 3-D array on disk.

    Parameters
    ----------
    shape, dtype
        As of the whole array.
    read
        Reads a block given by three slices without step, all within the shape.
    where
        The source, for messages.
    close
        Called when nobody holds the array any more.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        read: Callable[[Block], NDArray[Any]],
        where: str,
        close: Callable[[], object] | None = None,
    ) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self._read = read
        self._where = where
        if close is not None:
            weakref.finalize(self, close)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read what the key asks for: whole numbers, slices and an ellipsis."""
        ranges = [
            range(n)[k] if isinstance(k, slice) else range(n)[k : (k + 1) or None]
            for n, k in zip(self.shape, expand_key(key, len(self.shape)), strict=True)
        ]
        out = np.empty([len(r) for r in ranges], self.dtype)
        if out.size:
            self._fill(out, ranges)
        squeeze = tuple(0 if not isinstance(k, slice) else slice(None) for k in expand_key(key, out.ndim))
        return out[squeeze]

    def _fill(self, out: NDArray[Any], ranges: list[range]) -> None:
        # Slices that are skipped are not read; within a slice the bounding box is read and thinned out.
        inside = tuple(slice(min(r), max(r) + 1) for r in ranges[1:])
        thin = tuple(slice(None, None, r.step) for r in ranges[1:])
        zs = ranges[0]
        runs = (
            [(slice(zs.start, zs.stop), slice(None))]
            if zs.step == 1
            else [(slice(z, z + 1), slice(i, i + 1)) for i, z in enumerate(zs)]
        )
        with clear_read_errors(self._where):
            for z, target in runs:
                out[target] = np.asarray(self._read((z, *inside)))[(slice(None), *thin)]  # type: ignore[arg-type]


def expand_key(key: Any, ndim: int) -> tuple[int | slice, ...]:
    """Write an index out to one whole number or slice per axis.

    >>> expand_key((0, ...), 3)
    (0, slice(None, None, None), slice(None, None, None))
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    n_ellipses = sum(isinstance(part, EllipsisType) for part in parts)
    if n_ellipses > 1 or len(parts) - n_ellipses > ndim:
        raise IndexError(f"{key!r} has too many indices for an array with {ndim} axes")
    if not n_ellipses:
        parts.append(...)
    at = next(i for i, part in enumerate(parts) if isinstance(part, EllipsisType))
    parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    return tuple(part if isinstance(part, slice) else _whole_number(part) for part in parts)


def _whole_number(part: Any) -> int:
    if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__"):
        raise IndexError(f"{part!r} is no index; whole numbers, slices and an ellipsis are")
    return operator.index(part)


def without_single_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Say which axes to keep of an array whose further axes have length 1: one channel, one time point.

    >>> without_single_axes((1, 5, 64, 64, 1))
    (1, 2, 3)
    """
    axes = list(range(len(shape)))
    while len(axes) > 3 and shape[axes[-1]] == 1:
        axes.pop()
    while len(axes) > 3 and shape[axes[0]] == 1:
        axes.pop(0)
    return tuple(axes)


def index_of(block: tuple[slice, ...], axes: tuple[int, ...], ndim: int) -> tuple[slice | int, ...]:
    """Write a block of the kept axes as an index into all of them."""
    at = dict(zip(axes, block, strict=True))
    return tuple(at.get(axis, 0) for axis in range(ndim))


def loaded(array: NDArray[Any], where: str) -> LazyArray:
    """Give an array that is in memory, or mapped into it, the same face."""
    return LazyArray(array.shape, array.dtype, lambda block: array[block], where)
