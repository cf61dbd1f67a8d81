"""Conflicts: where an object from elsewhere overlaps what people have accepted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.review.drafts import Known
from napari_em_seg.review.scene import place_of
from napari_em_seg.review.view import View

__all__ = ["Conflict", "conflicts_of"]


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
