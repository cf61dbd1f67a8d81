"""Volume: a stack of slices that is read as needed; what its axes and units are is said here alone."""

import math
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError

__all__ = [
    "AXES",
    "ArrayLike",
    "Kind",
    "Progress",
    "SliceWise",
    "Volume",
    "VoxelSize",
    "as_voxel_size",
    "range_of",
    "runs_of",
    "slabs",
]

AXES = ("z", "y", "x")

Kind = Literal["image", "labels"]
VoxelSize = tuple[float, float, float]

Progress = Callable[[int, int], object] | None
"""Called with the number of slices done and of all slices."""


class ArrayLike(Protocol):
    """Anything with a shape and a dtype that gives numbers when sliced: numpy, h5py, our lazy readers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Read a part."""
        ...


class SliceWise(ABC):
    """An array (z, y, x) that is worked out slice by slice, as each one is read; nothing is stored.

    It has what a napari layer asks of its data.
    """

    ndim = 3
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @abstractmethod
    def _plane(self, z: int) -> NDArray[Any]:
        """Work out one slice, from 0 on."""

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> Any:
        """Work out one slice, several, or a part of them."""
        z, *rest = key if isinstance(key, tuple) else (key,)
        if z is Ellipsis:
            z, rest = slice(None), [Ellipsis, *rest]
        if isinstance(z, slice):
            planes = [self._plane(i) for i in range(*z.indices(self.shape[0]))]
            found = np.stack(planes) if planes else np.zeros((0, *self.shape[1:]), self.dtype)
            return found[(slice(None), *rest)]
        n = self.shape[0]
        if not -n <= operator.index(z) < n:
            raise IndexError(f"slice {z} of {n}")
        return self._plane(operator.index(z) % n)[tuple(rest)]


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of an array, as places along each axis; nothing is read before it is asked for."""

    data: ArrayLike
    places: tuple[range, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(map(len, self.places))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return np.dtype(self.data.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def __getitem__(self, key: Any) -> Any:
        """Read a part of the part; for lists and masks all of it."""
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(k, int | np.integer | EllipsisType) or _is_forward(k) for k in keys):
            return np.asarray(self)[key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys = (*keys[:at], *[slice(None)] * (len(self.places) + 1 - len(keys)), *keys[at + 1 :])
        full = [*keys, *[slice(None)] * (len(self.places) - len(keys))]
        found = [places[k] for places, k in zip(self.places, full, strict=True)]
        return self.data[tuple(slice(p.start, p.stop, p.step) if isinstance(p, range) else p for p in found)]


def _is_forward(key: Any) -> bool:
    return isinstance(key, slice) and (key.step is None or key.step > 0)


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices: a lazy array with axes (z, y, x), its voxel size in nm, and where it comes from.

    Slicing reads only what is asked for and gives a numpy array. A volume has all that a napari layer
    asks of its data, so it can be one without being loaded.

    Parameters
    ----------
    data
        A 3-D array, read when sliced.
    voxel_size_nm
        Edge lengths of a voxel (z, y, x), or None where the source does not say.
    name
        What to call it.
    source
        The path it was read from; empty for arrays made in memory.
    kind
        "image" for intensities and probabilities, "labels" for object numbers (0: none).
    pyramid
        Coarser copies of ``data``, each smaller than the one before.
    """

    data: ArrayLike
    voxel_size_nm: VoxelSize | None = None
    name: str = "volume"
    source: str = ""
    kind: Kind = "image"
    pyramid: tuple[ArrayLike, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.data.shape), self.dtype
        if self.kind not in get_args(Kind):
            raise DataError(
                f"{self.label} is opened as {self.kind!r}", "'image' or 'labels'", "Choose one of them"
            )
        if len(shape) != 3:
            raise DataError(
                f"{self.label} has {len(shape)} axes (shape {'×'.join(map(str, shape))})",
                "a stack of slices with the three axes (z, y, x)",
                "Choose one channel or time point, or stack the slices, and save that",
            )
        if 0 in shape:
            raise DataError(
                f"{self.label} is empty (shape {'×'.join(map(str, shape))})",
                "at least one voxel along every axis",
                "Check how the file was written",
            )
        if dtype.kind not in "buif":
            raise DataError(
                f"{self.label} holds {dtype} numbers",
                "integers, floats or booleans",
                "Convert the array and save it again",
            )
        if self.kind == "labels" and dtype.kind not in "bui":
            raise DataError(
                f"{self.label} holds {dtype} numbers",
                "whole numbers, since it is used as labels",
                "Give the label array, or convert this one to integers",
            )
        if self.voxel_size_nm is not None:
            object.__setattr__(self, "voxel_size_nm", as_voxel_size(self.voxel_size_nm))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y and x."""
        z, y, x = self.data.shape
        return int(z), int(y), int(x)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return np.dtype(self.data.dtype)

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Memory that the whole volume would take."""
        return self.size * self.dtype.itemsize

    @property
    def label(self) -> str:
        """What messages call this volume: its source where it has one."""
        return self.source or self.name

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part as a numpy array; not-a-number and infinity are an error that says where."""
        part = np.asarray(self.data[key])
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise DataError(
                f"{self.label} has values that are not finite numbers (NaN or infinity), "
                f"{int((~np.isfinite(part)).sum())} within [{_key_text(key)}]",
                "finite numbers",
                "Replace them (numpy.nan_to_num) and save the volume again",
            )
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole volume."""
        whole = self[:] if dtype is None else self[:].astype(dtype, copy=False)
        return whole.copy() if copy else whole

    def with_voxel_size(self, voxel_size_nm: VoxelSize) -> "Volume":
        """Return the same volume with another voxel size."""
        return replace(self, voxel_size_nm=voxel_size_nm)

    def part(self, slices: Sequence[slice]) -> "Volume":
        """Return a part, by slices, rows and columns as far as they are given; it is read when asked for."""
        if len(slices) > 3 or any(one.step not in (None, 1) for one in slices):
            raise DataError(f"The part is {_key_text(tuple(slices))}", "up to three ranges without steps",
                            "Give slices, rows and columns, such as 10:20,0:512,256:768")  # fmt: skip
        wanted = [*slices, *[slice(None)] * (3 - len(slices))]
        places = tuple(range(n)[one] for n, one in zip(self.shape, wanted, strict=True))
        if not all(places):
            shape, part = "×".join(map(str, self.shape)), _key_text(tuple(slices)).replace(", ", ",")
            raise DataError(f"{self.label} is {shape} (z, y, x); the part is {part}",
                            "at least one voxel of it", "Count from 0, and give ranges within it")  # fmt: skip
        return replace(self, data=_Part(self.data, places), pyramid=())


def as_voxel_size(sizes: Any) -> VoxelSize:
    """Return three positive edge lengths in nm, or raise a DataError."""
    try:
        z, y, x = (float(size) for size in (() if isinstance(sizes, str) else sizes))
    except (TypeError, ValueError):
        z = y = x = math.nan
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        raise DataError(
            f"The voxel size is {sizes!r}",
            "three positive numbers in nm (z, y, x)",
            "Give it in that order, for instance 30 6 6",
        )
    return z, y, x


def range_of(text: str) -> slice | None:
    """Read a range such as 10:20, either end of which may be left out; None if it is none."""
    ends = re.fullmatch(r"(\d*):(\d*)", text.strip())
    return ends and slice(*(int(end) if end else None for end in ends.groups()))


def runs_of(plane: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where runs of equal numbers along the rows of a slice (y, x) begin, row by row, and how long."""
    flat = plane.reshape(-1)
    is_first = np.ones(flat.size, np.bool_)
    is_first[1:] = flat[1:] != flat[:-1]
    is_first[:: plane.shape[1]] = True
    start = np.flatnonzero(is_first)
    return start, np.diff(start, append=flat.size)


def slabs(shape: tuple[int, ...], bytes_per_slice: int, budget: int = 64 * 2**20) -> Iterator[slice]:
    """Cut the z axis into runs of slices that take about ``budget`` bytes each, at least one slice."""
    step = max(1, budget // max(1, bytes_per_slice))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _key_text(key: Any) -> str:
    """Write an index the way a user would: ``3, 0:64, :``."""
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join(
        f"{'' if p.start is None else p.start}:{'' if p.stop is None else p.stop}"
        if isinstance(p, slice)
        else "..."
        if p is Ellipsis
        else str(p)
        for p in parts
    )
