"""Skeletons as SWC: one folder, one file for each object, lengths in µm as the format has them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.io._object_folder import check_object_folder, object_folder

__all__ = ["PutSkeleton", "check_skeleton_folder", "skeleton_folder", "write_swc"]

PutSkeleton = Callable[[int, NDArray[Any], NDArray[Any], NDArray[Any]], None]
"""Called with an object, its nodes (n, 3) as z, y, x in nm, their radii in nm, and the node before each."""

_NAMES = r"\d+\.swc"
_UNDEFINED = 0  # nobody knows which part is axon, and which dendrite


def check_skeleton_folder(target: Path, *, overwrite: bool = False) -> None:
    """Raise what `skeleton_folder` would raise, before the work."""
    check_object_folder(target, _NAMES, overwrite=overwrite)


@contextmanager
def skeleton_folder(target: Path, *, overwrite: bool = False) -> Iterator[PutSkeleton]:
    """Give a function that writes the skeleton of one object, 88.swc; the folder appears once all are there."""
    with object_folder(target, _NAMES, overwrite=overwrite) as folder:
        yield lambda name, *skeleton: write_swc(folder / f"{name}.swc", name, *skeleton)


def write_swc(path: Path, name: int, points: NDArray[Any], radius: NDArray[Any], parent: NDArray[Any]) -> None:
    """Write a skeleton; nodes are counted from 1, and the roots of its trees have −1 before them."""
    n = len(points)
    before = np.where(np.asarray(parent) < 0, -1, np.asarray(parent) + 1)
    rows = np.column_stack(
        (np.arange(1, n + 1), np.full(n, _UNDEFINED), np.asarray(points)[:, ::-1] / 1000,
         np.asarray(radius) / 1000, before)
    )  # fmt: skip
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(f"# object {name}: node, type, x, y, z, radius, parent; lengths in um,\n")
        stream.write("# from the outer corner of the first voxel\n")
        np.savetxt(stream, rows, "%d %d %.4f %.4f %.4f %.4f %d")
