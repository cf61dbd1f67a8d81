"""Fine-tuning: a trained boundary network learns on from what somebody painted on a few slices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.io.data_sets import tissue_of
from napari_em_seg.pipeline.models import choose_model
from napari_em_seg.pipeline.painted import INSIDE, MEMBRANE, Convention, Painted, Said, read_painted
from napari_em_seg.pipeline.segmentation import DEPTHS
from napari_em_seg.pipeline.training import (
    check_target,
    fingerprint,
    forget_training,
    measures_of,
    save_kept,
    training_folder,
)
from napari_em_seg.predict.registry import architecture
from napari_em_seg.predict.watch import UNWATCHED, Limit, Watch
from napari_em_seg.predict.weights import (
    SUFFIX,
    Card,
    ModelFile,
    load_weights,
    resolve,
)
from napari_em_seg.segment import best_h
from napari_em_seg.volume import ArrayLike, Progress, Volume

if TYPE_CHECKING:
    from napari_em_seg.predict.boundary import Validation
    from napari_em_seg.predict.crops import LabelledVolume
    from napari_em_seg.predict.train import Plan

__all__ = ["FineTuned", "FineTuning", "fine_tune", "model_to_tune"]

_ERRORS: Mapping[Convention, str] = {"objects": "adapted_rand_error", "scribbles": "pixel_error"}
_MARGIN_PX = 64  # around what is validated; networks see about as much


@dataclass(frozen=True)
class FineTuning:
    """How a network learns on.

    Parameters
    ----------
    convention
        What the painted labels mean.
    begin_from
        The boundary model to begin with: "auto" (see `models.choose_model`), a name or a file.
    minutes
        How long at most, validation included.
    steps
        Batches at most.
    batch, side, learning_rate, seed
        Crops in a batch, their height and width, the highest rate, and the seed of all chance.
    tissue
        What the image shows, for the card; by default what its source is known for, else what the model knew.
    """

    convention: Convention = "scribbles"
    begin_from: str = "auto"
    minutes: float = 10.0
    steps: int = 4000
    batch: int = 2
    side: int = 160
    learning_rate: float = 1e-3
    seed: int = 0
    tissue: str = ""


@dataclass(frozen=True)
class FineTuned:
    """What came of it.

    Attributes
    ----------
    before, after
        How wrong it was on what was kept aside, from 0 to 1: for objects the segmentation error (adapted Rand),
        for scribbles the share of wrong pixels.
    card
        Of the new model; None where it got no better, so that nothing was written.
    curves
        Loss and measures of every validation; the first is that of the model that it began with.
    """

    before: float
    after: float
    card: Card | None
    curves: Sequence[Mapping[str, float]] = field(default=(), repr=False)


def model_to_tune(volume: Volume, name: str = "auto") -> ModelFile:
    """Return the boundary model that fine-tuning begins with."""
    model = choose_model(volume).model if name == "auto" else resolve(name)
    if model.card.task != "boundary":
        raise DataError(f"{model.name} predicts {model.card.task}", "a boundary model", "Choose another")
    return model


def fine_tune(
    out: Path,
    volume: Volume,
    labels: ArrayLike,
    tuning: FineTuning = FineTuning(),
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = None,
    on_validation: Callable[[Mapping[str, float]], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    watch: Watch = UNWATCHED,
) -> FineTuned | None:
    """Let a boundary model learn on from painted slices, and write it if it got better.

    Part of what is painted is kept aside, see `painted.read_painted`. The model is validated there before
    anything is learned, and the best one is kept. A run that was stopped goes on where it was.

    Parameters
    ----------
    out
        The weights to write; the model that it begins with stays as it is.
    volume, labels
        An image, and what was painted, of the same shape.
    tuning
        How.
    watch
        Its limit is that of ``tuning``.

    Returns
    -------
    None where the run was cancelled before its end.
    """
    check_target(out, overwrite)
    if volume.shape != labels.shape:
        raise DataError(f"The image is {volume.shape} and what is painted is {labels.shape} (z, y, x)",
                        "both of the same shape", "Paint on a layer of this image")  # fmt: skip
    painted = read_painted(labels, tuning.convention)
    model = model_to_tune(volume, tuning.begin_from)
    if out.resolve() == model.path.resolve():
        raise DataError(f"{out} is the model that it begins with", "a new file", "Choose another name")

    from napari_em_seg.predict.boundary import BoundaryTask
    from napari_em_seg.predict.crops import CropSampler
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.train import train

    net, card = load_weights(model.path)
    windows = _Windows(volume, card)
    material = windows.material(painted.learned, tuning.side)
    validations = windows.validations(painted)
    side = min(tuning.side, *material.image.shape[1:])
    task = BoundaryTask(
        CropSampler([material], windows.n, side, tuning.batch),
        architecture(card.architecture).loss,
        validations,
        _segmentation_error if tuning.convention == "objects" else _pixel_error,
        device,
        normalise="none",
        on_picture=watch.on_picture,
        cancelled=cancelled,
    )
    arrays = (material.image, material.boundary, material.known, *(part.truth for part in validations))
    trained = train(
        net, task, _plan(tuning), training_folder(out), device=choose_device(device),
        about=fingerprint(replace(tuning, begin_from=str(model.path)), arrays),
        on_step=watch.on_step, on_validation=on_validation, progress=progress,
        limit=Limit(60 * tuning.minutes), is_enough=watch.is_enough, validates_first=True, cancelled=cancelled,
    )  # fmt: skip
    if cancelled():
        return None
    before, after = (row[_ERRORS[tuning.convention]] for row in (trained.curves[0], trained.best))
    new = _card(out, volume, card, tuning, sorted({*painted.learned, *painted.kept}))
    if not trained.best_step:
        forget_training(out)
        return FineTuned(before, after, None, trained.curves)
    return FineTuned(
        before, after, save_kept(out, net, new, measures_of(trained.best), overwrite), trained.curves
    )


@dataclass(frozen=True, eq=False)
class _Windows:
    """The slices that a network sees around each painted one, as `predict` would give them to it."""

    volume: Volume
    card: Card

    @property
    def n(self) -> int:
        """How many slices the network takes."""
        return self.card.n_slices or 1

    def read(self, z: int, box: tuple[slice, slice]) -> NDArray[np.float32]:
        """Return the slices around one, mirrored at the ends of the stack, with zero mean and unit variance."""
        from napari_em_seg.predict.tiling import Levels, Reader

        reader = Reader(self.volume, Levels(self.volume, self.card.normalisation), budget=0)
        first = z - self.n // 2
        return reader.block((slice(first, first + self.n), *box))

    def material(self, learned: Mapping[int, Said], side: int) -> "LabelledVolume":
        """Put all windows into one volume, of which only the slices in their middles are known."""
        from napari_em_seg.predict.crops import LabelledVolume

        box = _box_around([one.known for one in learned.values()], side)
        image = np.concatenate([self.read(z, box) for z in learned])
        boundary, known = np.zeros(image.shape, np.uint8), np.zeros(image.shape, bool)
        for k, one in enumerate(learned.values()):
            middle = k * self.n + self.n // 2
            boundary[middle], known[middle] = one.boundary[box], one.known[box]
        return LabelledVolume(image, boundary, known)

    def validations(self, painted: Painted) -> "list[Validation]":
        """Return what is kept aside, with some image around it."""
        from napari_em_seg.predict.boundary import Validation

        found = []
        for z, truth in painted.truth.items():
            box = _box_around([painted.kept[z].known], _MARGIN_PX)
            middle = self.n // 2
            window = Volume(self.read(z, box), self.volume.voxel_size_nm, self.volume.name)
            found.append(Validation(window, slice(middle, middle + 1), truth[box][None]))
        return found


def _box_around(masks: Sequence[NDArray[np.bool_]], margin: int) -> tuple[slice, slice]:
    """Return the part of a slice where any mask is true, with a margin as far as there is one."""
    found = []
    for along in (1, 0):
        is_there = np.any([mask.any(axis=along) for mask in masks], axis=0)
        places = np.flatnonzero(is_there)
        first, last = int(places[0]) - margin, int(places[-1]) + margin
        found.append(slice(max(0, first), min(len(is_there), last + 1)))
    return found[0], found[1]


def _segmentation_error(
    maps: Sequence[NDArray[np.float32]], truths: Sequence[NDArray[Any]]
) -> Mapping[str, float]:
    """Return the adapted Rand error at the best depth of the watershed; its mean over all depths decides.

    Few sections are kept aside, among which some depth does well by chance; the mean asks for a map that
    segments well at whatever depth.
    """
    tables = [best_h(found, truth, DEPTHS, mode="2d")[1] for found, truth in zip(maps, truths, strict=True)]
    errors = {h: float(np.mean([table[h].adapted_rand_error for table in tables])) for h in DEPTHS}
    h = min(DEPTHS, key=lambda h: errors[h])
    return {"score": float(np.mean(list(errors.values()))), "adapted_rand_error": errors[h], "h": h}


def _pixel_error(maps: Sequence[NDArray[np.float32]], truths: Sequence[NDArray[Any]]) -> Mapping[str, float]:
    r"""Return how many pixels of strokes are on the wrong side of one half.

    With M the pixels said to be membrane and I those said to be inside, it is
    :math:`\tfrac12 (|\{v \in M: p_v < ½\}| / |M| + |\{v \in I: p_v ≥ ½\}| / |I|)`. The cross-entropy, likewise
    the mean over both kinds, decides, since it tells networks apart that have the same pixels wrong.
    """
    p, truth = (np.concatenate([part.reshape(-1) for part in parts]) for parts in (maps, truths))
    p = np.clip(p.astype(np.float64), 1e-6, 1 - 1e-6)
    is_membrane, is_inside = truth == MEMBRANE, truth == INSIDE
    wrong = (np.mean(p[is_membrane] < 0.5) + np.mean(p[is_inside] >= 0.5)) / 2
    entropy = -(np.log(p[is_membrane]).mean() + np.log(1 - p[is_inside]).mean()) / 2
    return {"score": float(entropy), "pixel_error": float(wrong)}


def _plan(tuning: FineTuning) -> "Plan":
    from napari_em_seg.predict.train import Plan

    return Plan(tuning.steps, tuning.learning_rate, warm_up=10, validate_every=tuning.steps, seed=tuning.seed)


def _card(out: Path, volume: Volume, begun: Card, tuning: FineTuning, slices: Sequence[int]) -> Card:
    """Return the card of the new model, without measures: what it began with, and what it saw since."""
    said = f"then {tuning.convention} painted on slices {', '.join(map(str, slices))} of {volume.name}"
    return replace(
        begun, name=out.name.removesuffix(SUFFIX), voxel_size_nm=volume.voxel_size_nm or begun.voxel_size_nm,
        tissue=tuning.tissue or tissue_of(volume.source) or begun.tissue,
        data=(*begun.data, said), seed=tuning.seed, measures={},
        command=f"fine-tuned from {begun.name}, {tuning.minutes:g} min at most",
        licence=f"{begun.licence}; and that of what it was fine-tuned on",
    )  # fmt: skip
