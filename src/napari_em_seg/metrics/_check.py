"""What a comparison asks of its arguments, and the errors that say so."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike

__all__ = ["as_ids", "check_arrays", "check_positive", "shape_text"]


def as_ids(labels: Iterable[int]) -> NDArray[np.uint64]:
    """Return labels to ignore as an array, or raise a DataError."""
    try:
        return np.array([operator.index(label) for label in labels], dtype=np.uint64)
    except (TypeError, OverflowError) as error:
        raise DataError(
            f"The labels to ignore are {labels!r}",
            "a list of whole numbers from 0 to 2⁶⁴ − 1",
            "Give a list, even for a single label",
        ) from error


def check_arrays(segmentation: ArrayLike, truth: ArrayLike, mask: ArrayLike | None) -> None:
    """Raise a DataError unless the arrays fit together and hold what they should."""
    shape = tuple(segmentation.shape)
    if shape != tuple(truth.shape):
        raise DataError(
            f"The segmentation has the shape {shape_text(segmentation)} and the truth {shape_text(truth)}",
            "the same shape for both",
            "Crop or pad one to fit the other",
        )
    if not shape:
        raise DataError("The labels are single numbers", "arrays with at least one axis",
                        "Give the whole label arrays")  # fmt: skip
    for array, name in ((segmentation, "segmentation"), (truth, "truth")):
        if np.dtype(array.dtype).kind not in "bui":
            raise DataError(f"The {name} holds {array.dtype} numbers", "integers, since labels are compared",
                            "Give the label array, or convert this one to integers")  # fmt: skip
    if mask is not None and (tuple(mask.shape) != shape or np.dtype(mask.dtype).kind != "b"):
        raise DataError(
            f"The mask holds {mask.dtype} numbers in the shape {shape_text(mask)}",
            f"booleans in the shape {shape_text(segmentation)}, true where a voxel counts",
            "Compare it with a number (mask > 0), and crop or pad it to fit",
        )


def check_positive(ids: NDArray[np.uint64], array: ArrayLike, name: str) -> None:
    """Raise a DataError where an id, read as unsigned bits, stands for a negative number."""
    dtype: np.dtype[Any] = np.dtype(array.dtype)
    if dtype.kind != "i" or not len(ids):
        return
    example = int(ids.max()) - 2 ** (8 * dtype.itemsize)
    if example >= -(2 ** (8 * dtype.itemsize - 1)):
        raise DataError(
            f"The {name} has negative labels, {example} for one",
            "labels from 0 upwards",
            "Give those voxels a label of their own and ignore that, or leave them out by a mask",
        )


def shape_text(array: ArrayLike) -> str:
    """Write a shape the way a person would: 10×512×512."""
    return "×".join(map(str, array.shape)) or "()"
