"""Objects: the voxels of each object as runs along x, found in one pass through the slices."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.volume import ArrayLike, Progress, runs_of

__all__ = ["Objects", "Runs", "find_objects"]

Index = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Runs:
    """The voxels of one object: runs [x, stop) in row y of slice z, in order; ``shape`` is the volume's."""

    z: Index
    y: Index
    x: Index
    stop: Index
    shape: tuple[int, int, int]

    @property
    def n_voxels(self) -> int:
        """How many there are."""
        return int((self.stop - self.x).sum(dtype=np.int64))

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """The smallest box that holds them."""
        pairs = ((self.z, self.z + 1), (self.y, self.y + 1), (self.x, self.stop))
        z, y, x = (slice(int(low.min()), int(high.max())) for low, high in pairs)
        return z, y, x

    def within(self, start: int, stop: int) -> "Runs":
        """Return those in the slices from start up to, not including, stop."""
        part = slice(*np.searchsorted(self.z, (start, stop)))
        return Runs(self.z[part], self.y[part], self.x[part], self.stop[part], self.shape)

    def paint(self, out: NDArray[Any], corner: tuple[int, int, int]) -> None:
        """Put 1 where they are into an array of which the first voxel is at the corner."""
        z, y, x = (a - c for a, c in zip((self.z, self.y, self.x), corner, strict=True))
        flat = out.reshape(-1)
        first = (z.astype(np.int64) * out.shape[1] + y) * out.shape[2] + x
        flat[_counted(first, self.stop - self.x)] = 1

    def voxels(self) -> tuple[Index, Index, Index]:
        """Return their coordinates z, y, x, in order."""
        length = self.stop - self.x
        z, y = np.repeat(self.z, length), np.repeat(self.y, length)
        return z, y, _counted(self.x, length).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Objects:
    """All objects that were asked for.

    Attributes
    ----------
    ids
        Of the objects, increasing.
    voxels
        How many each has.
    """

    ids: NDArray[np.uint64]
    voxels: NDArray[np.int64]
    _starts: NDArray[np.int64]
    _runs: Runs

    def __len__(self) -> int:
        return len(self.ids)

    def runs(self, place: int) -> Runs:
        """Return the voxels of the object at a place of ``ids``."""
        part, all_ = slice(*self._starts[place : place + 2]), self._runs
        return Runs(all_.z[part], all_.y[part], all_.x[part], all_.stop[part], all_.shape)


def find_objects(
    labels: ArrayLike,
    ids: Collection[int] | None = None,
    *,
    least: int = 1,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Objects:
    """Find objects; every slice is read once, and memory holds their runs.

    Parameters
    ----------
    labels
        Whole numbers (z, y, x); 0 is no object.
    ids
        Only these; one that is not there is an error.
    least
        Only those of so many voxels at least.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before each slice; once it says true, `Cancelled` is raised.
    """
    if len(labels.shape) != 3 or np.dtype(labels.dtype).kind not in "bui":
        raise DataError(
            f"The labels are {labels.dtype} of the shape {tuple(labels.shape)}",
            "whole numbers with the three axes (z, y, x)", "Give the labels of a stack",
        )  # fmt: skip
    n_z, n_y, n_x = labels.shape
    wanted = None if ids is None else np.unique(np.array([*ids], np.uint64))
    found = []
    for k in range(n_z):
        if cancelled():
            raise Cancelled("Looking for objects was cancelled")
        found.append(_runs_of_plane(np.asarray(labels[k]), k, wanted))
        if progress is not None:
            progress(k + 1, n_z)
    label, z, y, x, stop = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(label, kind="stable")
    names, starts = np.unique(label[order], return_index=True)
    if wanted is not None and len(names) < len(wanted):
        missing = ", ".join(map(str, np.setdiff1d(wanted, names)[:10].tolist()))
        raise DataError(f"There is no object {missing}", "numbers of objects in these labels",
                        "Look at the labels, or leave it out")  # fmt: skip
    runs = Runs(z[order], y[order], x[order], stop[order], (n_z, n_y, n_x))
    starts = np.append(starts, len(order))
    ends = np.concatenate(([0], np.cumsum(runs.stop - runs.x, dtype=np.int64)))
    sizes = np.diff(ends[starts])
    keep = np.flatnonzero(sizes >= least)
    return _only(Objects(names, sizes, starts, runs), keep)


def _only(found: Objects, keep: NDArray[np.intp]) -> Objects:
    if len(keep) == len(found):
        return found
    length = np.diff(found._starts)[keep]
    rows, runs = _counted(found._starts[keep], length), found._runs
    kept = Runs(runs.z[rows], runs.y[rows], runs.x[rows], runs.stop[rows], runs.shape)
    return Objects(found.ids[keep], found.voxels[keep], np.concatenate(([0], np.cumsum(length))), kept)


def _runs_of_plane(
    plane: NDArray[Any], z: int, wanted: NDArray[np.uint64] | None
) -> tuple[NDArray[np.uint64], Index, Index, Index, Index]:
    """Return label, z, y, x and stop of each run of equal labels along the rows of a slice."""
    width = plane.shape[1]
    if plane.dtype.kind == "i" and plane.size and int(plane.min()) < 0:
        raise DataError(f"Slice {z} of the labels has the number {int(plane.min())}", "numbers from 0 on",
                        "Give what is no object the number 0")  # fmt: skip
    flat = plane.reshape(-1)
    start, length = runs_of(plane)
    label = flat[start].astype(np.uint64)
    keep = label != 0 if wanted is None else np.isin(label, wanted) & (label != 0)
    start, length, label = start[keep], length[keep], label[keep]
    y, x = (start // width).astype(np.int32), (start % width).astype(np.int32)
    return label, np.full(len(start), z, np.int32), y, x, x + length.astype(np.int32)


def _counted(first: NDArray[Any], length: NDArray[Any]) -> NDArray[np.int64]:
    """Return first, first + 1 … for each run, one after the other."""
    before = np.cumsum(length, dtype=np.int64) - length
    return np.repeat(first - before, length) + np.arange(int(length.sum(dtype=np.int64)))
