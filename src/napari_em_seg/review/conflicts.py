"""Conflicts: where an object from elsewhere overlaps what was accepted, or only touches what is there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.review.drafts import Known
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.review.scene import place_of
from napari_em_seg.review.view import View

__all__ = ["Conflict", "conflicts_of", "without_margins"]


@dataclass(frozen=True)
class Conflict:
    """So many pixels of a slice are part of an object that was accepted there."""

    z: int
    object: int
    pixels: int


def conflicts_of(view: View, masks: Mapping[int, NDArray[np.bool_]]) -> list[Conflict]:
    """Return where masks (y, x), given by slice, overlap regions of links that were accepted."""
    known = Known(view.reconstruction, view.state)
    held: set[int] = set()
    for link, value in view.state.assignment_pins.items():
        if value:
            made = known.link(link)
            held.update(i for i in (*made.sources, *made.targets) if i >= 0)
    found = []
    for region in sorted(held):
        place = place_of(view, region, view.objects)
        if place.z in masks:
            y, x, bottom, right = place.box
            pixels = int(np.count_nonzero(masks[place.z][y:bottom, x:right] & place.mask))
            if pixels:
                found.append(Conflict(place.z, place.object, pixels))
    return found


def without_margins(
    objects: ObjectVolume, masks: Mapping[int, NDArray[np.bool_]]
) -> dict[int, NDArray[np.bool_]]:
    """Return masks (y, x), given by slice, without pixels of objects that they only touch.

    No two methods draw a border at the same pixels, and a section that an accepted mask overlaps at all cannot
    be used any more: its object would be lost for its margin. With a mask M and what one object covers of its
    slice S, the mask becomes M without S where |M ∩ S| < min(|M|, |S|) / 2; else S gives way. A mask that
    would lose half of itself stays as it is.
    """
    found = {}
    for z, mask in masks.items():
        plane = np.asarray(objects[z]).astype(np.intp)
        sizes = np.bincount(plane.ravel())
        shared = np.bincount(plane[mask], minlength=len(sizes))
        is_touched = 2 * shared < np.minimum(sizes, np.count_nonzero(mask))
        is_touched[0] = False
        kept = mask & ~is_touched[plane]
        found[z] = kept if 2 * np.count_nonzero(kept) > np.count_nonzero(mask) else mask
    return found
