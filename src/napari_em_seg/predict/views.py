"""The sixteen ways to turn and mirror a stack that leave its voxels voxels, and the way back from each."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from napari_em_seg.errors import DataError

__all__ = ["VIEWS", "View", "apply", "choose_views", "invert"]

Array = TypeVar("Array", torch.Tensor, NDArray[np.generic])


@dataclass(frozen=True)
class View:
    """A mirroring along z, one along y and then a rotation in the plane, in this order.

    Parameters
    ----------
    rot
        Quarter turns from y towards x, 0 to 3.
    flip_y, flip_z
        Whether the order of rows, or of slices, is reversed first.
    """

    rot: int = 0
    flip_y: bool = False
    flip_z: bool = False

    def __post_init__(self) -> None:
        if self.rot not in range(4):
            raise DataError(f"A view has {self.rot!r} quarter turns", "0 to 3", "Give one of these")

    @property
    def swaps_axes(self) -> bool:
        """Whether height becomes width."""
        return self.rot % 2 == 1


VIEWS = tuple(
    View(rot, flip_y, flip_z) for flip_z in (False, True) for flip_y in (False, True) for rot in range(4)
)
"""All sixteen, ordered so that the first 1, 4 and 8 are groups: nothing; turns; turns and mirrorings."""


def choose_views(n: int, n_slices: int | None = None) -> tuple[View, ...]:
    """Return the views that are averaged: 1, 4 (turns), 8 (and mirrored in the plane) or 16 (and in z).

    Each set is a group, so that an average over it turns with the image. A net that sees one slice gives
    the same answer with and without the mirroring in z: of its 16 views, 8 have the same mean as all.

    Parameters
    ----------
    n
        1, 4, 8 or 16.
    n_slices
        Slices that the net sees; None for nets that see blocks.
    """
    if n not in (1, 4, 8, 16):
        raise DataError(f"{n!r} views are asked for", "1, 4, 8 or 16", "Choose one of these")
    return VIEWS[: min(n, 8) if n_slices == 1 else n]


def apply(view: View, x: Array) -> Array:
    """Turn an array as the view says; its last three axes are (z, y, x).

    For nets that take slices as channels, (batch, slices, y, x), these are the axes as well.
    """
    if view.flip_z:
        x = _flip(x, -3)
    if view.flip_y:
        x = _flip(x, -2)
    return _turn(x, view.rot)


def invert(view: View, y: Array) -> Array:
    """Turn an array back: ``invert(view, apply(view, x)) == x``.

    A z axis of length one, as that of a net that predicts its centre slice, passes the mirroring
    unchanged. Values that point somewhere need more: an affinity towards −1 becomes, in a mirrored or
    turned block, one towards +1 or along another axis, so its channels have to be permuted and shifted by
    one voxel beside this. That is the affinity net's own business (`device.BlockNet.undo`).
    """
    y = _turn(y, -view.rot)
    if view.flip_y:
        y = _flip(y, -2)
    return _flip(y, -3) if view.flip_z else y


def _flip(x: Array, axis: int) -> Array:
    return torch.flip(x, (axis,)) if isinstance(x, torch.Tensor) else np.flip(x, axis)


def _turn(x: Array, times: int) -> Array:
    if times % 4 == 0:
        return x
    return torch.rot90(x, times, (-2, -1)) if isinstance(x, torch.Tensor) else np.rot90(x, times, (-2, -1))
