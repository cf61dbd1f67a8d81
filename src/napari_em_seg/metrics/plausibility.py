"""How plausible a segmentation is where no truth is known: lengths, ends inside the volume, orphans, giants."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.metrics._check import check_arrays, check_positive, shape_text
from napari_em_seg.metrics.table import Ids, Sizes
from napari_em_seg.volume import ArrayLike, Progress, VoxelSize, runs_of

__all__ = ["ObjectShapes", "PlausibilityFigures", "plausibility"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PlausibilityFigures:
    """What `ObjectShapes` says in total; lengths are NaN where the voxel size is not known.

    Attributes
    ----------
    n_objects, n_voxels
        Labels other than 0, and their voxels.
    length_median_um, length_longest_um, length_total_um
        Of the objects' lengths.
    n_ends, n_with_ends
        Ends inside the volume, and objects that have some.
    n_orphans, n_large
        Orphans, and objects so large that they may be merged.
    largest_share
        The largest object's part of all labelled voxels.
    """

    n_objects: int
    n_voxels: int
    length_median_um: float
    length_longest_um: float
    length_total_um: float
    n_ends: int
    n_with_ends: int
    n_orphans: int
    n_large: int
    largest_share: float

    def to_dict(self) -> dict[str, float | int]:
        """Return all figures under their names."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class ObjectShapes:
    r"""What each object of a segmentation looks like, as columns; least plausible first.

    A neurite enters the volume and leaves it. What ends inside is often cut off, what lies inside altogether
    is often a piece of something else, and what is very large is often several. So orphans come first, then
    the objects with most ends; the larger ones first.

    A *section* is all of an object in one slice. Let :math:`c_k` be the centre of its k-th section, in µm,
    and :math:`e` the edges of the box around the object, whole voxels, in µm.

    Attributes
    ----------
    ids
        The object.
    voxels
        Its size.
    length_um
        :math:`\max(\sum_k |c_{k+1} - c_k|, |e|)`: the way through the centres, for objects that cross the
        slices, or the diagonal of the box, for those that lie in them, whichever is longer. No length of
        objects that branch. NaN where the voxel size is not known.
    n_slices
        Slices with a section of it.
    ends
        Ends inside the volume: sections at the top or the bottom of a run of consecutive slices that touch
        no edge of the image and do not lie in the first or last slice (where the run ends there).
    touches_border
        Whether it has a voxel on one of the six faces of the volume.
    is_orphan
        Whether it touches no border, and is no smaller than what counts as an orphan.
    is_large
        Whether it has so great a share of all labelled voxels that it may be merged.
    z, y, x
        Where to look at it: the largest of its sections that are ends, for orphans and what has no ends the
        largest of all; its slice, and its centre.
    height, width
        Of the box around that section, in pixels.
    """

    ids: Ids
    voxels: Sizes
    length_um: Floats
    n_slices: Sizes
    ends: Sizes
    touches_border: Flags
    is_orphan: Flags
    is_large: Flags
    z: Sizes
    y: Floats
    x: Floats
    height: Sizes
    width: Sizes

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.ids)

    def figures(self) -> PlausibilityFigures:
        """Return what there is in total."""
        return PlausibilityFigures(
            n_objects=len(self),
            n_voxels=int(self.voxels.sum()),
            length_median_um=float(np.median(self.length_um)),
            length_longest_um=float(self.length_um.max()),
            length_total_um=float(self.length_um.sum()),
            n_ends=int(self.ends.sum()),
            n_with_ends=int((self.ends > 0).sum()),
            n_orphans=int(self.is_orphan.sum()),
            n_large=int(self.is_large.sum()),
            largest_share=float(self.voxels.max() / self.voxels.sum()),
        )


@dataclass(frozen=True, eq=False)
class _Sections:
    """All sections, ordered by object and then by slice; boxes are [y, bottom) and [x, right)."""

    ids: Ids
    z: Sizes
    area: Sizes
    sum_y: Floats
    sum_x: Floats
    y: Sizes
    bottom: Sizes
    x: Sizes
    right: Sizes
    is_at_edge: Flags


def plausibility(
    labels: ArrayLike,
    voxel_size_nm: VoxelSize | None = None,
    *,
    orphan_voxels: int = 1000,
    large_share: float = 0.1,
    progress: Progress = None,
) -> ObjectShapes:
    """Describe the objects of a segmentation, reading one slice at a time.

    The time grows with the voxels. Memory holds a slice and a row for each section.

    Parameters
    ----------
    labels
        Whole numbers (z, y, x); 0 is no object.
    voxel_size_nm
        Edge lengths of a voxel; None where they are not known.
    orphan_voxels
        What touches no border is an orphan from this size on.
    large_share
        What has more than this share of all labelled voxels may be merged.
    progress
        Called with slices done and slices in all.

    Raises
    ------
    DataError
        Where these are no labels of a stack, or all of them are 0.
    """
    check_arrays(labels, labels, None)
    if len(labels.shape) != 3:
        raise DataError(f"The labels have {len(labels.shape)} axes ({shape_text(labels)})",
                        "a stack with the three axes (z, y, x)", "Give the labels of a stack")  # fmt: skip
    sections = _sections(labels, progress)
    check_positive(sections.ids, labels, "segmentation")
    if not len(sections.ids):
        raise DataError(f"All {shape_text(labels)} labels are 0", "at least one object",
                        "Choose the layer or array that holds the segmentation")  # fmt: skip
    return _shapes(sections, labels.shape[0], voxel_size_nm, orphan_voxels, large_share)


def _sections(labels: ArrayLike, progress: Progress) -> _Sections:
    """Collect the sections of all slices."""
    found = []
    for z in range(labels.shape[0]):
        plane = np.ascontiguousarray(labels[z], np.dtype(labels.dtype).newbyteorder("="))
        found.append(_sections_of_plane(plane.view(f"u{plane.dtype.itemsize}"), z))
        if progress is not None:
            progress(z + 1, labels.shape[0])
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return _Sections(*(column[order] for column in columns))


def _sections_of_plane(plane: NDArray[Any], z: int) -> Iterator[NDArray[Any]]:
    """Give the columns of `_Sections` for one slice, from runs of equal labels along its rows."""
    height, width = plane.shape
    flat = plane.reshape(-1)
    start, length = runs_of(plane)
    is_object = flat[start] != 0
    start, length = start[is_object], length[is_object]
    order = np.argsort(flat[start], kind="stable")
    start, length = start[order], length[order]
    label, y, x = flat[start], start // width, start % width
    right = x + length
    is_at_edge = (y == 0) | (y == height - 1) | (x == 0) | (right == width)
    first = np.flatnonzero(np.concatenate(([True], label[1:] != label[:-1]))) if len(label) else start

    def each(how: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        return how.reduceat(values, first) if len(first) else values

    yield label[first].astype(np.uint64)
    yield np.full(len(first), z)
    yield each(np.add, length)
    yield each(np.add, length * y.astype(np.float64))
    yield each(np.add, length * (x + (length - 1) / 2))
    yield each(np.minimum, y)
    yield each(np.maximum, y) + 1
    yield each(np.minimum, x)
    yield each(np.maximum, right)
    yield each(np.logical_or, is_at_edge)


def _shapes(
    of: _Sections, n: int, voxel_size_nm: VoxelSize | None, orphan_voxels: int, large_share: float
) -> ObjectShapes:
    """Put the sections of each object together."""
    is_new = np.concatenate(([True], of.ids[1:] != of.ids[:-1]))
    first = np.flatnonzero(is_new)
    voxels = np.add.reduceat(of.area, first)
    is_end, n_ends = _ends(of, is_new, n)
    ends = np.add.reduceat(n_ends, first)
    is_at_face = of.is_at_edge | (of.z == 0) | (of.z == n - 1)
    touches = np.logical_or.reduceat(is_at_face, first)
    is_orphan = ~touches & (voxels >= orphan_voxels)
    is_shown = is_end & ~np.repeat(is_orphan, np.diff(first, append=len(of.ids)))
    best = np.lexsort((-of.area, ~is_shown, of.ids))[first]
    worst = np.lexsort((of.ids[first], -voxels, -ends, ~is_orphan))
    look = best[worst]
    return ObjectShapes(
        ids=of.ids[first][worst],
        voxels=voxels[worst],
        length_um=_lengths(of, is_new, voxel_size_nm)[worst],
        n_slices=np.diff(first, append=len(of.ids))[worst],
        ends=ends[worst],
        touches_border=touches[worst],
        is_orphan=is_orphan[worst],
        is_large=(voxels > large_share * voxels.sum())[worst],
        z=of.z[look],
        y=(of.sum_y / of.area)[look],
        x=(of.sum_x / of.area)[look],
        height=(of.bottom - of.y)[look],
        width=(of.right - of.x)[look],
    )


def _ends(of: _Sections, is_new: Flags, n: int) -> tuple[Flags, Sizes]:
    """Say which sections are ends inside the volume, and of how many runs: 2 where one section is a run."""
    begins = is_new | np.concatenate(([True], np.diff(of.z) != 1))
    stops = np.concatenate((begins[1:], [True]))
    is_bottom = begins & (of.z > 0) & ~of.is_at_edge
    is_top = stops & (of.z < n - 1) & ~of.is_at_edge
    return is_bottom | is_top, is_bottom.astype(np.int64) + is_top


def _lengths(of: _Sections, is_new: Flags, voxel_size_nm: VoxelSize | None) -> Floats:
    """Return the length of each object, see `ObjectShapes`."""
    first = np.flatnonzero(is_new)
    if voxel_size_nm is None:
        return np.full(len(first), np.nan)
    size = np.array(voxel_size_nm) / 1000
    centres = np.stack((of.z, of.sum_y / of.area, of.sum_x / of.area), axis=1) * size
    steps = np.zeros(len(of.ids))
    steps[1:] = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    steps[is_new] = 0
    low = np.stack([np.minimum.reduceat(part, first) for part in (of.z, of.y, of.x)], axis=1)
    high = np.stack([np.maximum.reduceat(part, first) for part in (of.z + 1, of.bottom, of.right)], axis=1)
    diagonals: Floats = np.linalg.norm((high - low) * size, axis=1)
    return np.maximum(np.add.reduceat(steps, first), diagonals)
