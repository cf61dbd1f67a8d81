"""Boundary maps made from instance labels, for networks to learn."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError

__all__ = ["Kernel", "boundary_labels", "from_m2fcn_convention"]

Kernel = Literal["l3", "c3", "c5"]


def boundary_labels(ids: NDArray[Any], kernel: Kernel) -> NDArray[np.uint8]:
    r"""Mark the voxels whose surroundings hold more than one label.

    With :math:`K_v` the kernel around voxel v and L the labels, it is
    :math:`B(v) = 1` where :math:`|\{L(u) : u \in K_v\}| > 1`, else 0.

    A window of more than one label has two neighbours that differ, one behind the other along an axis. So the
    changes along x are found first and spread over the window's row, then rows over its area, then areas over
    the cube: linear time, and beside the labels only a few arrays of one byte a voxel.

    Parameters
    ----------
    ids
        Labels (z, y, x). 0 (membrane, or nothing) counts as a label of its own.
    kernel
        ``c5`` and ``c3``: a cube of 5³ or 3³ voxels. ``l3``: the voxel and its six neighbours.
        At the border of the volume the kernel is cut.

    Returns
    -------
    NDArray[np.uint8]
        1 at a boundary, 0 elsewhere.
    """
    _check(ids, kernel)
    radius = 2 if kernel == "c5" else 1
    boundary = np.zeros(ids.shape, bool)
    for axis in (2, 1, 0):
        if kernel != "l3":
            boundary = _spread(boundary, axis, radius)
        _mark_changes(np.moveaxis(boundary, axis, 0), np.moveaxis(ids, axis, 0), radius)
    return boundary.view(np.uint8)


def from_m2fcn_convention(labels: NDArray[Any]) -> NDArray[Any]:
    """Turn a map in which 0 means boundary, as in the M2FCN paper, into ours, in which 1 does; and back.

    Takes and returns labels (0 and 1, or booleans) or probabilities (0 to 1), of the same type.
    """
    if labels.dtype.kind == "b":
        return ~labels
    if labels.dtype.kind not in "iuf":
        raise _not_a_boundary_map(f"{labels.dtype} numbers")
    if labels.size:
        low, high = labels.min(), labels.max()
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise _not_a_boundary_map(f"numbers from {low} to {high}")
    turned: NDArray[Any] = labels.dtype.type(1) - labels
    return turned


def _not_a_boundary_map(came: str) -> DataError:
    return DataError(
        f"The map holds {came}",
        "labels 0 and 1, or probabilities from 0 to 1",
        "Divide a map of 0 to 255 by 255 first",
    )


def _check(ids: NDArray[Any], kernel: str) -> None:
    if kernel not in get_args(Kernel):
        raise DataError(f"The kernel is {kernel!r}", f"one of {', '.join(get_args(Kernel))}", "Choose one")
    if ids.ndim != 3 or ids.dtype.kind not in "bui":
        raise DataError(
            f"The labels are {ids.dtype} numbers along {ids.ndim} axes",
            "whole numbers along three axes (z, y, x)",
            "Give the label volume; a single slice needs a first axis (labels[None])",
        )


def _spread(boundary: NDArray[np.bool_], axis: int, radius: int) -> NDArray[np.bool_]:
    """Return true wherever something within the radius along the axis is true."""
    wide = boundary.copy()
    source, target = np.moveaxis(boundary, axis, 0), np.moveaxis(wide, axis, 0)
    for step in range(1, radius + 1):
        target[step:] |= source[:-step]
        target[:-step] |= source[step:]
    return wide


def _mark_changes(boundary: NDArray[np.bool_], ids: NDArray[Any], radius: int) -> None:
    """Set true wherever two neighbours along the first axis, both within the radius, differ.

    A change between i and i + 1 is within the radius r of i + 1 − r to i + r.
    """
    changes = ids[1:] != ids[:-1]
    for step in range(radius):
        boundary[: len(ids) - 1 - step] |= changes[step:]
        boundary[1 + step :] |= changes[: len(changes) - step]
