"""What somebody painted on a few slices: what it says of membranes, and what of it is kept aside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_em_seg.errors import DataError
from napari_em_seg.predict.labels import boundary_labels
from napari_em_seg.volume import ArrayLike

__all__ = ["INSIDE", "MEMBRANE", "Convention", "Painted", "Said", "read_painted"]

Convention = Literal["scribbles", "objects"]
"""Scribbles: 1 is membrane, 2 is cell inside, 0 not said. Objects: each its number, 0 is membrane."""

MEMBRANE, INSIDE = 1, 2
GAP_PX = 24  # wider gaps between objects are not membrane but not painted yet
_KEPT = 4  # one part in so many is kept aside, where there are not slices enough

Plane = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Said:
    """What is said of one slice (y, x): where boundaries are, and where that is known."""

    boundary: Mask
    known: Mask

    def only(self, where: Mask) -> "Said":
        """Return what is said of a part."""
        return Said(self.boundary, self.known & where)


@dataclass(frozen=True, eq=False)
class Painted:
    """What was painted, by slices.

    Attributes
    ----------
    learned
        What is learned from.
    kept
        What is kept aside to validate with.
    truth
        Of the slices kept aside: numbers of the objects, 0 where nothing counts; for scribbles 1 and 2.
    """

    learned: Mapping[int, Said]
    kept: Mapping[int, Said]
    truth: Mapping[int, Plane]


def read_painted(labels: ArrayLike, convention: Convention) -> Painted:
    """Read what was painted, and keep some of it aside.

    With three painted slices or more the middle one is kept aside; else the right quarter of what was painted
    of objects on each slice, and of scribbles every fourth stroke of each kind.

    Parameters
    ----------
    labels
        Whole numbers (z, y, x).
    convention
        What they mean.
    """
    if convention not in get_args(Convention):
        raise DataError(f"The labels are to be {convention!r}", f"one of {', '.join(get_args(Convention))}",
                        "Choose one")  # fmt: skip
    planes = {z: plane for z in range(labels.shape[0]) if (plane := np.asarray(labels[z])).any()}
    if not planes:
        raise DataError("Nothing is painted", "membranes and the inside of cells on a slice or two",
                        "Paint with napari's brush")  # fmt: skip
    said = {z: (_scribbles if convention == "scribbles" else _objects)(z, plane) for z, plane in planes.items()}
    kept = _kept(planes, said, convention)
    learned = {z: part for z, one in said.items() if (part := one.only(~kept[z])).known.any()}
    aside = {z: part for z, one in said.items() if (part := one.only(kept[z])).known.any()}
    for what, where in (("to learn from", learned), ("to validate with", aside)):
        _check_both(what, where, convention)
    truth = {z: planes[z] * part.known for z, part in aside.items()}
    return Painted(
        learned, aside, truth if convention == "scribbles" else {z: _parts(t) for z, t in truth.items()}
    )


def _scribbles(z: int, plane: Plane) -> Said:
    others = np.setdiff1d(plane, (0, MEMBRANE, INSIDE))
    if len(others):
        raise DataError(f"Slice {z} has scribbles of the number {others[0]}",
                        "1 for membrane and 2 for the inside of cells",
                        "Correct them, or say that they are whole objects")  # fmt: skip
    return Said(plane == MEMBRANE, plane != 0)


def _objects(_z: int, plane: Plane) -> Said:
    """Take gaps between objects for membrane, and what lies beyond them for not painted."""
    is_object = plane != 0
    radius = GAP_PX / 2
    near = ndimage.distance_transform_edt(~is_object) <= radius
    # a closing; its erosion leaves the border of the image alone
    known = ndimage.distance_transform_edt(near) > radius if not near.all() else near
    touching = boundary_labels(plane[None], "l3")[0] != 0
    return Said(~is_object | touching, known | is_object)


def _kept(planes: Mapping[int, Plane], said: Mapping[int, Said], convention: Convention) -> dict[int, Mask]:
    slices = sorted(planes)
    if len(slices) > 2:
        middle = slices[len(slices) // 2]
        return {z: np.full(planes[z].shape, z == middle) for z in slices}
    if convention == "objects":
        return {z: _right_quarter(said[z].known) for z in slices}
    kept = {z: np.zeros(planes[z].shape, bool) for z in slices}
    for kind in (MEMBRANE, INSIDE):
        strokes = 0
        for z in slices:
            numbered, n = ndimage.label(planes[z] == kind, np.ones((3, 3)))
            numbers = np.arange(n)
            kept[z] |= np.isin(numbered, 1 + numbers[(strokes + numbers) % _KEPT == 1])  # the 2nd, 6th, …
            strokes += n
    return kept


def _right_quarter(known: Mask) -> Mask:
    columns = np.flatnonzero(known.any(axis=0))
    first, last = int(columns[0]), int(columns[-1]) + 1
    kept = np.zeros(known.shape, bool)
    kept[:, last - (last - first) // _KEPT :] = True
    return kept


def _check_both(what: str, parts: Mapping[int, Said], convention: Convention) -> None:
    """Refuse what shows no membrane, or no cell."""
    for name, is_there in (
        ("membrane", any((one.boundary & one.known).any() for one in parts.values())),
        ("the inside of a cell", any((~one.boundary & one.known).any() for one in parts.values())),
    ):
        if not is_there:
            more = "two strokes of each number" if convention == "scribbles" else "several objects side by side"
            raise DataError(f"What is painted shows too little of {name} {what}", f"at least {more}",
                            "Paint more")  # fmt: skip


def _parts(plane: Plane) -> Plane:
    """Return numbers in which each part of an object is one of its own: nothing in a slice joins them."""
    from skimage.measure import label

    return np.asarray(label(plane, connectivity=1, background=0), np.int32)
