"""What the z-watershed is given: affinities, masks, labels, graphs, thresholds; checked, and read in slabs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike

__all__ = [
    "BYTES",
    "check_affinities",
    "check_graph",
    "check_labels",
    "check_linkage",
    "check_size",
    "check_thresholds",
    "check_weight",
    "native",
    "read_mask",
    "read_slab",
]

BYTES = np.arange(256, dtype=np.float32) / np.float32(255)
"""The affinity that a byte stands for."""

_MOST_VOXELS = 2**31 - 2


def check_affinities(affinities: ArrayLike, mask: ArrayLike | None) -> None:
    """Raise a DataError unless these can be affinities, and the mask fits; `read_slab` checks the numbers."""
    shape, dtype = tuple(affinities.shape), np.dtype(affinities.dtype)
    if len(shape) != 4 or shape[0] != 3 or 0 in shape:
        raise DataError(
            f"The affinities have the shape ({_text(shape)})",
            "(3×z×y×x) with at least one voxel: to the neighbours at −1 along z, y and x",
            "Put the channels first, and leave out those of longer range (affinities[:3])",
        )
    if math.prod(shape[1:]) > _MOST_VOXELS:
        raise DataError(f"The affinities are those of {math.prod(shape[1:]):,} voxels",
                        f"at most {_MOST_VOXELS:,} at once", "Cut them into overlapping blocks")  # fmt: skip
    if dtype.kind != "f" and dtype != np.uint8:
        raise DataError(f"The affinities are {dtype} numbers", "floats from 0 to 1 or uint8 from 0 to 255",
                        "Divide them by their largest possible value")  # fmt: skip
    if mask is not None and (tuple(mask.shape) != shape[1:] or np.dtype(mask.dtype).kind != "b"):
        raise DataError(
            f"The mask holds {mask.dtype} numbers in the shape ({_text(mask.shape)})",
            f"booleans in the shape ({_text(shape[1:])}), true where there is tissue",
            "Compare it with a number (mask > 0), and crop or pad it to fit",
        )


def check_thresholds(low: float, high: float) -> None:
    """Raise a DataError unless these are two affinities in order."""
    if not 0 <= low <= high <= 1 or high == 0:  # not: true for NaN as well
        raise DataError(
            f"The thresholds are low = {low} and high = {high}",
            "0 ≤ low ≤ high ≤ 1 with high above 0",
            "Exchange them, or divide by 255 what was meant for uint8; they count from 0 to 1 there, too",
        )


def check_weight(weight: float) -> None:
    """Raise a DataError unless this is an affinity."""
    if not 0 <= weight <= 1:
        raise DataError(f"The least affinity for joining is {weight}", "a number from 0 to 1",
                        "Try 0.5; for uint8 it counts in units of 255")  # fmt: skip


def check_size(size: int) -> None:
    """Raise a DataError unless this is a number of voxels."""
    if not (size >= 0 and float(size).is_integer()):
        raise DataError(f"The size of a segment is {size}", "a whole number of voxels, 0 or more",
                        "Use 0 to do nothing")  # fmt: skip


def check_linkage(size_threshold: int, weight_threshold: float) -> None:
    """Raise a DataError unless these are a size and an affinity."""
    check_size(size_threshold)
    check_weight(weight_threshold)


def check_labels(labels: NDArray[Any], affinities: ArrayLike | None) -> None:
    """Raise a DataError unless these are labels in 32 bits that fit the affinities."""
    if labels.dtype.kind not in "iu" or labels.ndim != 3 or not labels.size:
        raise DataError(f"The labels are {labels.dtype} numbers in the shape ({_text(labels.shape)})",
                        "whole numbers (z×y×x), one at least",
                        "Give what steepest_ascent returns")  # fmt: skip
    if affinities is not None and labels.shape != tuple(affinities.shape[1:]):
        raise DataError(f"The labels have the shape ({_text(labels.shape)})",
                        f"that of the affinities, ({_text(affinities.shape[1:])})",
                        "Crop or pad one to fit the other")  # fmt: skip
    if int(labels.min()) < 0 or int(labels.max()) > _MOST_VOXELS:
        raise DataError(f"The labels go from {labels.min()} to {labels.max()}",
                        f"labels from 0 to {_MOST_VOXELS}", "Number them again from 1 on")  # fmt: skip


def check_graph(edges: NDArray[Any], weights: NDArray[Any], sizes: NDArray[Any]) -> None:
    """Raise a DataError unless these make a graph of segments."""
    if (
        edges.ndim != 2
        or edges.shape[1] != 2
        or weights.shape != edges.shape[:1]
        or edges.dtype.kind not in "iu"
    ):
        raise DataError(
            f"There are {edges.dtype} edges in the shape ({_text(edges.shape)}) and weights in "
            f"({_text(weights.shape)})",
            "pairs of whole numbers (k×2) and k weights",
            "Give what max_affinity_graph returns",
        )
    if sizes.ndim != 1 or not sizes.size:
        raise DataError(f"The sizes have the shape ({_text(sizes.shape)})",
                        "one number for each label, that of the background first",
                        "Give numpy.bincount(labels.ravel())")  # fmt: skip
    if edges.size and not 1 <= int(edges.min()) <= int(edges.max()) < len(sizes):
        raise DataError(f"The edges join labels from {edges.min()} to {edges.max()}",
                        f"labels from 1 to {len(sizes) - 1}, those with a size",
                        "Give the sizes of all labels, that of the background first")  # fmt: skip
    if weights.size and not (np.isfinite(weights).all() and float(weights.min()) >= 0):
        raise DataError(f"The weights go from {weights.min()} to {weights.max()}", "numbers of 0 or more",
                        "Replace what is not finite")  # fmt: skip


def native(affinity: float, dtype: np.dtype[Any]) -> Any:
    """Return a threshold in the type that is computed with: the least number that stands for as much."""
    return np.uint8(np.searchsorted(BYTES, np.float32(affinity))) if dtype == np.uint8 else np.float32(affinity)


def read_slab(affinities: ArrayLike, channels: slice, start: int, stop: int) -> NDArray[Any]:
    """Read slices, each contiguous, as uint8 or float32; numbers that cannot be affinities are a DataError."""
    slab = np.asarray(affinities[channels, start:stop])
    if slab.dtype == np.uint8:
        return _with_rows(slab)
    slab = _with_rows(slab.astype(np.float32, copy=False))
    low, high = float(slab.min()), float(slab.max())
    if not (low >= 0 and high <= 1):  # true for NaN as well
        is_finite = math.isfinite(low + high)
        raise DataError(
            f"Slices {start} to {stop - 1} of the affinities hold numbers "
            + (f"from {low:g} to {high:g}" if is_finite else "that are not finite (NaN, infinity)"),
            "affinities from 0 to 1",
            "Replace what is not finite, divide by the largest possible value, clip what rounding led beyond",
        )
    return slab


def read_mask(mask: ArrayLike | None, z: int, depth: int) -> NDArray[np.bool_]:
    """Return the mask of slices z − 1, z and z + 1, False beyond the volume; nothing for no mask."""
    if mask is None:
        return np.empty((0, 0, 0), np.bool_)
    inside = np.zeros((3, *mask.shape[1:]), np.bool_)
    for k in range(3):
        if 0 <= z + k - 1 < depth:
            inside[k] = np.asarray(mask[z + k - 1])
    return inside


def _with_rows(slab: NDArray[Any]) -> NDArray[Any]:
    """Return the slab itself if each of its slices is contiguous, else a copy."""
    is_fine = slab[0, 0].flags.c_contiguous and slab.dtype.isnative
    return slab if is_fine else np.ascontiguousarray(slab, slab.dtype.newbyteorder("="))


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
