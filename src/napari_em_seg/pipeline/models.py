"""Which trained weights are there and what networks there are, for listing and for the choice by voxel size."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_em_seg.assign.model import AssignmentModel, bundled_files
from napari_em_seg.errors import DataError, EmSegError, SourceNotFoundError
from napari_em_seg.forest import Forest
from napari_em_seg.pipeline.own_forests import FOREST_SUFFIX, own_forests
from napari_em_seg.predict.registry import ARCHITECTURES, Architecture, Figures
from napari_em_seg.predict.registry import describe as describe_architecture
from napari_em_seg.predict.weights import Card, ModelFile, find_models
from napari_em_seg.segment._forest import load_forest
from napari_em_seg.segment.forests import bundled_folder
from napari_em_seg.volume import Volume, VoxelSize

__all__ = ["Choice", "ForestInfo", "ModelInfo", "architectures", "choose_model", "forests", "misfit", "models"]

_log = logging.getLogger(__name__)
_FAR = 1.4  # voxels that much larger or smaller than those in training are worth a warning


@dataclass(frozen=True)
class ModelInfo:
    """Trained weights that are there, and what their network costs and sees."""

    file: ModelFile
    figures: Figures | None


@dataclass(frozen=True)
class Choice:
    """A model, why it was chosen, and what may be wrong with it (or nothing)."""

    model: ModelFile
    why: str
    warning: str = ""


def models() -> list[ModelInfo]:
    """List the trained weights that come with the package, and the user's own.

    Those whose network cannot be built are left out and logged as a warning.
    """
    found = []
    for file in find_models():
        try:
            figures = (
                None
                if file.card.task == "propagator"
                else describe_architecture(file.card.architecture, **file.card.arguments)
            )
        except EmSegError as error:
            _log.warning("The model %s was left out. %s", file.path.name, error)
            continue
        found.append(ModelInfo(file, figures))
    return found


@dataclass(frozen=True)
class ForestInfo:
    """A trained forest: for ``agglomeration`` or ``assignment``, its card, and whose it is."""

    path: Path
    task: str
    card: Mapping[str, Any]
    origin: Literal["bundled", "user"] = "bundled"


def forests() -> list[ForestInfo]:
    """List the user's own forests for each task, then those that come with the package."""
    bundled = sorted(bundled_folder().glob(f"*{FOREST_SUFFIX}"))
    return [
        *_listed("agglomeration", load_forest, own_forests("agglomeration"), bundled),
        *_listed("assignment", AssignmentModel.load, own_forests("assignment"), bundled_files()),
    ]


def _listed(
    task: str,
    load: Callable[[Path], Forest | AssignmentModel],
    own: Sequence[Path],
    bundled: Sequence[Path],
) -> list[ForestInfo]:
    return [
        *(ForestInfo(path, task, load(path).card, "user") for path in own),
        *(ForestInfo(path, task, load(path).card, "bundled") for path in bundled),
    ]


def model_names(task: str) -> list[str]:
    """Return the names of trained models for a task; reads their cards alone."""
    return [file.name for file in find_models() if file.card.task == task]


def architectures() -> list[tuple[Architecture, Figures]]:
    """List all networks that can be trained."""
    return [(found, describe_architecture(name)) for name, found in ARCHITECTURES.items()]


def choose_model(volume: Volume, task: str = "boundary") -> Choice:
    r"""Choose the weights whose training voxels are nearest in size to those of the volume.

    The distance is :math:`\sum_a |\log_2 (v_a / m_a)|` over the axes a; of equals the first counts, and the
    user's own go before those that come with the package.
    """
    found = [model for model in find_models() if model.card.task == task]
    if not found:
        raise SourceNotFoundError(
            f"No trained {task} model is there", "one that came with the package, or your own",
            f"Train one: napari-em-seg train {task}",
        )  # fmt: skip
    if volume.voxel_size_nm is None:
        raise DataError(
            f"The voxel size of {volume.source or volume.name} is unknown, so no model can be chosen by it",
            "a voxel size, or a model named",
            f"Give --voxel-size Z Y X, or --model with one of {', '.join(model.name for model in found)}",
        )
    size = volume.voxel_size_nm
    best = min(found, key=lambda model: _distance(size, model.card.voxel_size_nm))
    why = (
        f"trained on {best.card.tissue} at {_text(best.card.voxel_size_nm)}, the nearest of "
        f"{len(found)} {task} models to the volume's {_text(size)}; licence of its data: {best.card.licence}"
    )
    return Choice(best, why, misfit(best.card, size))


def _distance(one: VoxelSize, other: VoxelSize) -> float:
    return sum(abs(math.log2(a / b)) for a, b in zip(one, other, strict=True))


def misfit(card: Card, size: VoxelSize | None, tissue: str = "") -> str:
    """Say why a model may err on an image: voxels of another size, other tissue; nothing if neither is so.

    Parameters
    ----------
    card
        Of the model.
    size
        Of the image's voxels; None if it is not known.
    tissue
        Of the image, as cards call it; empty if nobody has said.
    """
    found = []
    if size is None:
        found.append(f"The voxel size of the image is unknown; in training it was {_text(card.voxel_size_nm)}")
    else:
        thick, *flat = (max(a / b, b / a) for a, b in zip(size, card.voxel_size_nm, strict=True))
        if max(flat) > _FAR:
            found.append(f"Pixels differ {max(flat):.1f} times in size from those in training; "
                         "expect errors, or train one on such voxels")  # fmt: skip
        if thick > _FAR and card.n_slices != 1:
            found.append(f"Slices differ {thick:.1f} times in thickness from those in training")
    if tissue and tissue.casefold() != card.tissue.casefold():
        found.append(f"It learned {card.tissue}, and this is {tissue}")
    return ". ".join(found)


def _text(size: Sequence[float]) -> str:
    return " × ".join(f"{length:g}" for length in size) + " nm"
