"""Training by name: volumes and choices in, a weight file with its card out."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.io._location import locate
from napari_em_seg.pipeline.segmentation import sections, segmentation_scores
from napari_em_seg.predict.labels import Kernel
from napari_em_seg.predict.registry import ARCHITECTURES, architecture, build
from napari_em_seg.predict.watch import UNWATCHED, Watch
from napari_em_seg.predict.weights import SUFFIX, Card, load_weights, resolve, save_weights
from napari_em_seg.volume import Progress, Volume, VoxelSize

if TYPE_CHECKING:
    from torch import nn

    from napari_em_seg.predict.boundary import Validation
    from napari_em_seg.predict.crops import LabelledVolume, Zero
    from napari_em_seg.predict.nets import AnyNet
    from napari_em_seg.predict.train import Plan, Task

_log = logging.getLogger(__name__)

__all__ = ["BoundaryRecipe", "LabelledPart", "Provenance", "train_boundary", "training_folder"]


@dataclass(frozen=True, eq=False)
class LabelledPart:
    """Slices of an image and of its labels: object ids, or membranes where they are not 0."""

    raw: Volume
    labels: Volume
    slices: slice = field(default_factory=lambda: slice(None))

    def __post_init__(self) -> None:
        start, stop, step = self.slices.indices(len(self.raw))
        if step != 1 or stop <= start or (self.slices.stop or 0) > len(self.raw):
            ends = ("" if end is None else str(end) for end in (self.slices.start, self.slices.stop))
            raise DataError(
                f"{self.raw.label} has {len(self.raw)} slices; the part is {':'.join(ends)}",
                "a range of at least one of its slices, without step",
                f"Give a range within 0:{len(self.raw)}",
            )
        if self.raw.source and self.raw.source == self.labels.source:
            raise DataError(
                f"Image and labels are the same array, {self.raw.source}",
                "an image, and labels that belong to it",
                "Name the labels as well",
            )

    def overlaps(self, other: "LabelledPart") -> bool:
        """Whether both hold some slice of one image."""
        if self.raw is not other.raw and (not self.raw.source or self.raw.source != other.raw.source):
            return False
        (start, stop, _), (first, last, _) = (part.slices.indices(len(part.raw)) for part in (self, other))
        return max(start, first) < min(stop, last)

    @property
    def description(self) -> str:
        """Say which slices of what this is, for a model card: "cells.h5/volumes/raw, slices 0 to 14"."""
        start, stop, _ = self.slices.indices(len(self.raw))
        return f"{_place(self.raw)}, slices {start} to {stop - 1}"


class Begun(Protocol):
    """What may begin with weights that are there."""

    @property
    def begin_from(self) -> str | None: ...


class Recipe(Begun, Protocol):
    """What the training of every kind of network has: see `BoundaryRecipe`."""

    @property
    def architecture(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def validate_every(self) -> int: ...


@dataclass(frozen=True)
class BoundaryRecipe:
    """How a boundary network is trained.

    Parameters
    ----------
    architecture
        A name in the registry.
    kernel
        How boundaries are drawn from object ids; None where the labels are membranes.
    zero
        What the id 0 means, see `predict.crops.labelled`.
    steps, batch, side, learning_rate, seed
        Batches, crops in each, their height and width, the highest rate, and the seed of all chance.
    validate_every
        Steps.
    begin_from
        Weights to begin with: a name or a file.
    """

    architecture: str
    kernel: Kernel | None = "l3"
    zero: "Zero" = "label"
    steps: int = 8000
    batch: int = 4
    side: int = 192
    learning_rate: float = 2e-3
    seed: int = 0
    validate_every: int = 1000
    begin_from: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What the card of new weights says of where they are from; what is None is read from the data."""

    name: str | None = None
    tissue: str = "not named"
    data: tuple[str, ...] | None = None
    licence: str = "not named: ask whoever trained this model"
    command: str = ""


def train_boundary(
    out: Path,
    training: Sequence[LabelledPart],
    validation: Sequence[LabelledPart],
    recipe: BoundaryRecipe,
    provenance: Provenance = Provenance(),
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = None,
    on_validation: Callable[[Mapping[str, float]], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    watch: Watch = UNWATCHED,
) -> Card | None:
    """Train a boundary network and write its weights; a run that was stopped goes on where it was.

    Curves, and until the end a checkpoint, are in a folder beside ``out``, see `training_folder`. The network
    is kept that gives the best *segmentation* of the validation slices, by the watershed from H-minima: in
    3-D where labels are ids, slice by slice where they are membranes.

    Returns
    -------
    The card, or None where the run was cancelled before its end.
    """
    check_target(out, overwrite)
    voxel_size = check_parts(training, validation)
    check_task(recipe.architecture, "boundary")  # a wrong name shows before volumes are read

    from napari_em_seg.predict.boundary import BoundaryTask
    from napari_em_seg.predict.crops import CropSampler
    from napari_em_seg.predict.nets import BoundaryNet

    net = first_net(recipe)
    if not isinstance(net, BoundaryNet):
        raise TypeError(f"{recipe.architecture} is registered as a boundary network and is none")
    volumes = [_read(part, recipe) for part in training]
    validations = [_validation(part, recipe) for part in validation]
    card = new_card(out, net, recipe, provenance, training, voxel_size)  # what is wrong with it shows now
    card = replace(card, kernel=recipe.kernel)
    task = BoundaryTask(
        CropSampler(volumes, net.n_slices, recipe.side, recipe.batch),
        architecture(recipe.architecture).loss,
        validations,
        lambda maps, truths: segmentation_scores(maps, truths, is_flat=recipe.kernel is None),
        device,
        on_picture=watch.on_picture,
        cancelled=cancelled,
    )
    return run_training(
        out, net, task, recipe, card, _fingerprint(recipe, volumes, validations), device=device,
        overwrite=overwrite, progress=progress, on_validation=on_validation, cancelled=cancelled, watch=watch,
    )  # fmt: skip


def run_training(
    out: Path,
    net: "AnyNet",
    task: "Task",
    recipe: Recipe,
    card: Card,
    about: str,
    *,
    device: str,
    overwrite: bool,
    progress: Progress,
    on_validation: Callable[[Mapping[str, float]], object] | None,
    cancelled: Callable[[], bool],
    watch: Watch = UNWATCHED,
    measured: "Callable[[nn.Module], Mapping[str, float]] | None" = None,
) -> Card | None:
    """Run the loop, and write the weights that validated best with their card.

    ``measured`` gives what else is to stand among the measures on it.
    """
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.train import train

    trained = train(
        net, task, plan_of(recipe), training_folder(out), device=choose_device(device), about=about,
        on_validation=on_validation, cancelled=cancelled, progress=progress, on_step=watch.on_step,
        limit=watch.limit, is_enough=watch.is_enough,
    )  # fmt: skip
    if cancelled() or not trained.best:
        return None
    more = {} if measured is None else dict(measured(net))
    if cancelled():
        return None
    return save_kept(out, net, card, measures_of(trained.best) | more, overwrite)


def save_kept(out: Path, net: "AnyNet", card: Card, measures: Mapping[str, float], overwrite: bool) -> Card:
    """Write the weights that came out with their card; the run is over then."""
    from napari_em_seg.predict.train import CHECKPOINT

    card = replace(card, measures=measures)
    save_weights(out, net, card, overwrite=overwrite)
    # else a run that overwrites would be over at once
    (training_folder(out) / CHECKPOINT).unlink(missing_ok=True)
    return card


def plan_of(recipe: Recipe) -> "Plan":
    """Return the plan of the loop; a recipe that makes none is a DataError."""
    from napari_em_seg.predict.train import Plan

    return Plan(recipe.steps, recipe.learning_rate, validate_every=recipe.validate_every, seed=recipe.seed)


def training_folder(out: Path) -> Path:
    """Return where checkpoints and curves of a training lie."""
    return out.with_name(out.name.removesuffix(SUFFIX) + ".training")


def forget_training(out: Path) -> None:
    """Remove checkpoint and curves of a training that is not to go on."""
    shutil.rmtree(training_folder(out), ignore_errors=True)


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a target that could not be written in the end."""
    if out.suffix != SUFFIX:
        raise DataError(f"The weights are to go into {out}", f"a file ending in {SUFFIX}", "Add that ending")
    if out.exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new file", "Choose another name, or say --overwrite")


def check_task(name: str, task: str) -> None:
    """Refuse a network that is not there, or is for something else."""
    found = architecture(name)
    if found.task != task:
        fitting = [other.name for other in ARCHITECTURES.values() if other.task == task]
        raise DataError(f"{name} predicts {found.task}", f"one of {', '.join(fitting)}",
                        f"Choose one of these, or: napari-em-seg train {found.task}")  # fmt: skip


def check_parts(training: Sequence[LabelledPart], validation: Sequence[LabelledPart]) -> VoxelSize:
    """Return the voxel size to train for; refuse to train or validate on nothing."""
    if not training or not validation:
        raise DataError("No labelled volume is given", "at least one to train on and one to validate",
                        "Name an image and its labels")  # fmt: skip
    for part in validation:
        if any(part.overlaps(other) for other in training):
            _log.warning("%s is trained on as well, so its scores flatter the network", part.description)
    found = training[0].raw.voxel_size_nm
    if found is None:
        raise DataError(
            f"The voxel size of {training[0].raw.label} is unknown",
            "one that the weights can be chosen by later",
            "Give it with --voxel-size Z Y X, or in the dock Voxel size",
        )
    return found


def first_net(recipe: Recipe, **arguments: Any) -> "AnyNet":
    """Build the network with the weights that its training begins with."""
    import torch

    from napari_em_seg.predict.boundary import begin_from

    torch.manual_seed(plan_of(recipe).seed)
    net = build(recipe.architecture, **arguments)
    if recipe.begin_from is not None:
        begin_from(net, load_weights(resolve(recipe.begin_from).path)[0])
    return net


def _read(part: LabelledPart, recipe: BoundaryRecipe) -> "LabelledVolume":
    from napari_em_seg.predict.crops import labelled

    return labelled(part.raw, part.labels, recipe.kernel, part.slices, recipe.zero)


def _validation(part: LabelledPart, recipe: BoundaryRecipe) -> "Validation":
    from napari_em_seg.predict.boundary import Validation

    _read(part, recipe)  # refuses labels that do not fit
    truth = part.labels[part.slices]
    return Validation(part.raw, part.slices, sections(truth) if recipe.kernel is None else truth)


def _fingerprint(
    recipe: BoundaryRecipe, volumes: "Sequence[LabelledVolume]", validations: "Sequence[Validation]"
) -> str:
    """Return a number that is another one wherever another network would come out."""
    arrays = [array for volume in volumes for array in (volume.image, volume.boundary, volume.known)]
    kept = [array for part in validations for array in (part.image[part.slices], part.truth)]
    return fingerprint(recipe, (*arrays, *kept))


def fingerprint(recipe: Begun, arrays: Iterable[NDArray[Any] | None]) -> str:
    """Return a number for a recipe, what it begins from, and arrays; of those that are None nothing counts."""
    digest = sha256(repr(recipe).encode() + beginning(recipe))
    for array in arrays:
        if array is not None:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def beginning(recipe: Begun) -> bytes:
    """Return the weights that training begins with, if it does."""
    return b"" if recipe.begin_from is None else resolve(recipe.begin_from).path.read_bytes()


def _place(volume: Volume) -> str:
    """Name a volume by its file and the path inside, without the folders above."""
    if not volume.source:
        return volume.name
    location = locate(volume.source)
    return f"{location.path.name}/{location.inner}".rstrip("/")


def new_card(
    out: Path,
    net: "AnyNet",
    recipe: Recipe,
    provenance: Provenance,
    training: Sequence[LabelledPart],
    voxel_size: VoxelSize,
) -> Card:
    """Make a card without measures, which come with training."""
    return Card(
        name=provenance.name or out.name.removesuffix(SUFFIX),
        architecture=recipe.architecture,
        n_slices=net.n_slices,
        kernel=None,
        voxel_size_nm=voxel_size,
        tissue=provenance.tissue,
        data=provenance.data or tuple(part.description for part in training),
        licence=provenance.licence,
        command=provenance.command,
        seed=recipe.seed,
        normalisation="volume",
        task=architecture(recipe.architecture).task,
    )


def measures_of(best: Mapping[str, float]) -> dict[str, float]:
    return {f"{name} (validation)": value for name, value in best.items() if name != "score"}
