"""Forests that come with the package, and whether a forest fits a volume."""

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from napari_em_seg.errors import DataError, SourceNotFoundError
from napari_em_seg.forest import Forest
from napari_em_seg.segment._forest import load_forest
from napari_em_seg.volume import VoxelSize

__all__ = ["bundled_folder", "bundled_forest", "check_voxel_size"]

_FAR = 1.25  # volumes and areas among the features are absolute: sides of voxels may not differ by more


def bundled_folder() -> Path:
    """Return where the forests that come with the package are."""
    return Path(str(files("napari_em_seg.segment") / "bundled"))


def bundled_forest(voxel_size: VoxelSize | None, own: Sequence[Path] = ()) -> Forest:
    r"""Return the forest, one's own or one that came along, whose training voxels are nearest in size to these.

    The distance is :math:`\sum_a |\log_2 (v_a / m_a)|` over the axes a; of equals one's own goes
    first, then the first by name.

    Parameters
    ----------
    voxel_size
        (z, y, x) in nm of the affinities that are to be agglomerated; None where it is unknown.
    own
        Files of the user's own forests.

    Raises
    ------
    SourceNotFoundError
        No forest came along.
    DataError
        The voxel size is unknown, or none of the forests was trained on voxels of about this size.
    """
    paths = [*own, *sorted(bundled_folder().glob("*.npz"))]
    if not paths:
        raise SourceNotFoundError(
            "No forest came with this version", "the file of a trained one for --agglomerate learned",
            "Give --forest, train one (napari-em-seg train agglomeration), or take --agglomerate mean",
        )  # fmt: skip
    if voxel_size is None:
        raise DataError(
            "The voxel size of the affinities is unknown, and the forest that came along looks at lengths",
            "affinities that know it", "Predict them again with --voxel-size Z Y X, or give --forest",
        )  # fmt: skip
    forest = min((load_forest(path) for path in paths), key=lambda found: _distance(found, voxel_size))
    check_voxel_size(forest, voxel_size)
    return forest


def check_voxel_size(forest: Forest, voxel_size: VoxelSize) -> None:
    """Raise a DataError if the forest says that it was trained on voxels of another size."""
    trained = _trained(forest)
    if trained is None:
        return
    if any(max(a / b, b / a) > _FAR for a, b in zip(trained, voxel_size, strict=True)):
        raise DataError(
            f"The forest was trained on voxels of {_text(trained)} nm, and those of the affinities are "
            f"{_text(voxel_size)} nm", f"sides that differ by a factor of {_FAR:g} at most",
            "Train a forest on such voxels (napari-em-seg train agglomeration), or take --agglomerate mean",
        )  # fmt: skip


def _trained(forest: Forest) -> VoxelSize | None:
    found = forest.card.get("voxel_size")
    return None if found is None else (float(found[0]), float(found[1]), float(found[2]))


def _distance(forest: Forest, size: VoxelSize) -> float:
    trained = _trained(forest)
    if trained is None:
        return math.inf
    return sum(abs(math.log2(a / b)) for a, b in zip(size, trained, strict=True))


def _text(size: VoxelSize) -> str:
    return " × ".join(f"{length:g}" for length in size)
