"""Surface: the closed surface of an object in nm, by marching cubes on its own box, a few slices at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from napari_em_seg.shapes.objects import Runs
from napari_em_seg.volume import VoxelSize

__all__ = ["surface_of"]

_VOXELS = 2**21  # of the part that is worked on at once


def surface_of(runs: Runs, voxel_size_nm: VoxelSize) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the surface of an object: corners (n, 3), z, y, x in nm, and triangles (m, 3) of them.

    It is closed, also where the object meets the border of the volume. Seen from outside, the corners of a
    triangle in the axes (x, y, z) go round against the clock. Lengths count from the outer corner of the
    first voxel, so that the centre of voxel k is at (k + ½) times its size.
    """
    vertices, faces, seams, n = [], [], [], 0
    for part, triangles, is_seam in _parts(runs):
        vertices.append(part)
        faces.append(triangles + n)
        seams.append(is_seam)
        n += len(part)
    corners, triangles = _sewn(np.concatenate(vertices), np.concatenate(faces), np.concatenate(seams))
    return ((corners + 0.5) * np.array(voxel_size_nm)).astype(np.float32), triangles


def _parts(runs: Runs) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]]:
    """Give the surface between some slices and the next, in voxels, and which corners lie in a seam."""
    z, y, x = runs.box
    area = (y.stop - y.start + 2) * (x.stop - x.start + 2)
    step = max(1, _VOXELS // area)
    first, last = z.start - 1, z.stop  # slices without the object, before and after it
    for start in range(first, last, step):
        stop = min(start + step, last)
        inside = runs.within(start, stop + 1)
        if not len(inside.z):
            continue
        _, rows, columns = inside.box
        shape = stop + 1 - start, rows.stop - rows.start + 2, columns.stop - columns.start + 2
        corner = start, rows.start - 1, columns.start - 1
        mask = np.zeros(shape, np.float32)
        inside.paint(mask, corner)
        corners, triangles = _marched(mask)
        corners += corner
        is_seam = ((corners[:, 0] == start) & (start > first)) | ((corners[:, 0] == stop) & (stop < last))
        yield corners, triangles, is_seam


def _marched(mask: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    found: tuple[NDArray[Any], ...] = marching_cubes(mask, 0.5)
    return found[0].astype(np.float64), found[1].astype(np.int64)


def _sewn(
    corners: NDArray[np.float64], triangles: NDArray[np.int64], is_seam: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make one corner of those that two parts have in common: all lie half way between two voxels."""
    rows = np.flatnonzero(is_seam)
    if not len(rows):
        return corners, triangles
    _, first, place = np.unique((2 * corners[rows]).astype(np.int64), axis=0, return_index=True,
                                return_inverse=True)  # fmt: skip
    same = np.arange(len(corners))
    same[rows] = rows[first[place.reshape(-1)]]
    kept, numbered = np.unique(same, return_inverse=True)
    return corners[kept], numbered.reshape(-1)[triangles]
