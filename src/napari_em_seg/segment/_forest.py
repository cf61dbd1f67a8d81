"""Forests of agglomeration: how probable it is that two regions are one object, saved as one file."""

from pathlib import Path

import numpy as np

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.forest import Forest
from napari_em_seg.io._array_file import damaged, load_arrays, save_arrays
from napari_em_seg.segment import _agglomerate_kernels as kernels
from napari_em_seg.segment.features import FEATURES

__all__ = ["load_forest", "save_forest", "trees_of"]

_KIND = "agglomeration forest"
_TYPES: dict[str, tuple[type, int]] = {
    "roots": (np.int32, 1), "feature": (np.int32, 1), "threshold": (np.float64, 1), "children": (np.int32, 2),
    "value": (np.float64, 1),
}  # fmt: skip


def trees_of(forest: Forest) -> kernels.Trees:
    """Return the arrays as the compiled loops take them, which score every boundary again after each merge."""
    if forest.names != FEATURES:
        raise DataError(f"The forest asks for {', '.join(forest.names[:3])} …", "the features of boundaries",
                        "Give a forest of train agglomeration")  # fmt: skip
    return kernels.Trees(**forest.arrays())


def save_forest(forest: Forest, path: Path, *, overwrite: bool = False) -> None:
    """Write a forest as one file (.npz), whole or not at all."""
    card = {**forest.card, "features": list(forest.names)}
    save_arrays(path, _KIND, forest.arrays(), card, overwrite=overwrite)


def load_forest(path: Path) -> Forest:
    """Read a forest; a file that is damaged, or is none, is a FormatError."""
    arrays, card = load_arrays(path, _KIND, _TYPES)
    if card.get("features") != list(FEATURES):
        raise FormatError(f"{path} was trained on other features", f"these: {', '.join(FEATURES)}",
                          "Train it again, or use the version of napari-em-seg that wrote it")  # fmt: skip
    try:
        return Forest(FEATURES, **arrays, card=card)
    except DataError as error:
        raise damaged(Path(path), _KIND, error.came) from error
