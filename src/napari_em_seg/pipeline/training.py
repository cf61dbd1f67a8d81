"""Training by name: volumes and choices in, a weight file with its card out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.pipeline.segmentation import sections, segmentation_scores
from napari_em_seg.predict.labels import Kernel
from napari_em_seg.predict.registry import architecture, build
from napari_em_seg.predict.weights import SUFFIX, Card, load_weights, resolve, save_weights
from napari_em_seg.volume import Progress, Volume, VoxelSize

if TYPE_CHECKING:
    from napari_em_seg.predict.boundary import Validation
    from napari_em_seg.predict.crops import LabelledVolume, Zero
    from napari_em_seg.predict.nets._net import BoundaryNet

__all__ = ["BoundaryRecipe", "LabelledPart", "Provenance", "train_boundary", "training_folder"]


@dataclass(frozen=True, eq=False)
class LabelledPart:
    """Slices of an image and of its labels: object ids, or membranes where they are not 0."""

    raw: Volume
    labels: Volume
    slices: slice = field(default_factory=lambda: slice(None))

    def __post_init__(self) -> None:
        start, stop, step = self.slices.indices(len(self.raw))
        if step != 1 or stop <= start:
            raise DataError(
                f"{self.raw.source} has {len(self.raw)} slices; the part is {self.slices.start}:"
                f"{self.slices.stop}",
                "at least one of its slices",
                f"Give a range within 0:{len(self.raw)}",
            )


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
) -> Card | None:
    """Train a boundary network and write its weights; a run that was stopped goes on where it was.

    Checkpoints and curves are in a folder beside ``out``, see `training_folder`. The network is kept that
    gives the best *segmentation* of the validation slices, by the watershed from H-minima: in 3-D where
    labels are ids, slice by slice where they are membranes.

    Returns
    -------
    The card, or None where the run was cancelled before its end.
    """
    _check_target(out, overwrite)
    voxel_size = _voxel_size(training)
    architecture(recipe.architecture)  # a wrong name shows before volumes are read

    from napari_em_seg.predict.boundary import BoundaryTask
    from napari_em_seg.predict.crops import CropSampler
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.train import Plan, train

    device_ = choose_device(device)
    net = _first_net(recipe)
    sampler = CropSampler([_read(part, recipe) for part in training], net.n_slices, recipe.side, recipe.batch)
    task = BoundaryTask(
        sampler,
        architecture(recipe.architecture).loss,
        [_validation(part, recipe) for part in validation],
        lambda maps, truths: segmentation_scores(maps, truths, is_flat=recipe.kernel is None),
        device,
    )
    plan = Plan(recipe.steps, recipe.learning_rate, validate_every=recipe.validate_every, seed=recipe.seed)
    trained = train(
        net, task, plan, training_folder(out), device=device_, on_validation=on_validation, cancelled=cancelled,
        on_step=lambda step, _: progress(step, recipe.steps) if progress else None,
    )  # fmt: skip
    if cancelled():
        return None
    card = _card(out, net, recipe, provenance, training, voxel_size, trained.best)
    save_weights(out, net, card, overwrite=overwrite)
    return card


def training_folder(out: Path) -> Path:
    """Return where checkpoints and curves of a training lie."""
    return out.with_name(out.name.removesuffix(SUFFIX) + ".training")


def _check_target(out: Path, overwrite: bool) -> None:
    if out.suffix != SUFFIX:
        raise DataError(f"The weights are to go into {out}", f"a file ending in {SUFFIX}", "Add that ending")
    if out.exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new file", "Choose another name, or say --overwrite")


def _voxel_size(training: Sequence[LabelledPart]) -> VoxelSize:
    if not training:
        raise DataError("No labelled volume is given", "at least one", "Name an image and its labels")
    found = training[0].raw.voxel_size_nm
    if found is None:
        raise DataError(
            f"The voxel size of {training[0].raw.source} is unknown",
            "one that the weights can be chosen by later",
            "Give it with --voxel-size Z Y X",
        )
    return found


def _first_net(recipe: BoundaryRecipe) -> "BoundaryNet":
    import torch

    from napari_em_seg.predict.boundary import begin_from

    torch.manual_seed(recipe.seed)
    net = build(recipe.architecture)
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


def _card(
    out: Path,
    net: "BoundaryNet",
    recipe: BoundaryRecipe,
    provenance: Provenance,
    training: Sequence[LabelledPart],
    voxel_size: VoxelSize,
    best: Mapping[str, float],
) -> Card:
    return Card(
        name=provenance.name or out.name.removesuffix(SUFFIX),
        architecture=recipe.architecture,
        n_slices=net.n_slices,
        kernel=recipe.kernel,
        voxel_size_nm=voxel_size,
        tissue=provenance.tissue,
        data=provenance.data or tuple(Path(part.raw.source).name for part in training),
        licence=provenance.licence,
        measures={f"{name} (validation)": value for name, value in best.items() if name != "score"},
        command=provenance.command,
        seed=recipe.seed,
        normalisation="volume",
    )
