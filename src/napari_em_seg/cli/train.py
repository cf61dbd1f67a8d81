"""napari-em-seg train boundary, affinity, agglomeration."""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_em_seg import io, pipeline
from napari_em_seg.cli.common import (
    Device,
    Overwrite,
    VoxelSizeOption,
    as_slices,
    progress_bar,
    stop_on_interrupt,
)
from napari_em_seg.errors import DataError
from napari_em_seg.predict.weights import Card
from napari_em_seg.volume import VoxelSize

__all__ = ["app"]

app = typer.Typer(help="Train a network on labelled volumes.", no_args_is_help=True, rich_markup_mode=None)

_DATA = "IMAGE[,LABELS][,A:B]"
_RANGE = re.compile(r"[-\d]*:[-\d:]*")

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar=_DATA,
        help="A labelled volume to train on, all of it or the slices A:B; LABELS may be left out where one "
        "container holds both. Give it again for more.",
    ),
]
Validation = Annotated[
    list[str],
    typer.Option("--validate", metavar=_DATA, help="Slices that decide which checkpoint is kept; likewise."),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The weights to write: NAME.safetensors.")]
Network = Annotated[str, typer.Option("--architecture", metavar="NAME", help="See: models --networks.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", help="Batches in all.")]
Rate = Annotated[float, typer.Option("--learning-rate", metavar="RATE", help="At its highest.")]
Seed = Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of all chance.")]
ValidateEvery = Annotated[int, typer.Option("--validate-every", metavar="N", help="Steps between validations.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of the model; else that of OUT.")]
Tissue = Annotated[str, typer.Option("--tissue", metavar="TEXT", help="For the model card.")]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--source", metavar="TEXT", help="For the model card: where the data is from; may be given again."
    ),
]
Licence = Annotated[
    str, typer.Option("--licence", metavar="TEXT", help="For the model card: of the training data.")
]
NOT_NAMED, ASK = "not named", "not named: ask whoever trained this model"
Kernel = Literal["l3", "c3", "c5", "membranes"]
Zero = Literal["label", "boundary", "ignore"]


@app.command()
def boundary(
    out: Out,
    data: Data,
    validate: Validation,
    architecture: Network = "deepem3d-small-s3",
    kernel: Annotated[
        Kernel,
        typer.Option(
            metavar="l3|c3|c5|membranes",
            help="How boundaries are drawn from object ids; or the labels are membranes where not 0.",
        ),
    ] = "l3",
    zero: Annotated[
        Zero,
        typer.Option(
            metavar="label|boundary|ignore",
            help="What the id 0 means: a label like others, boundary, or not labelled yet.",
        ),
    ] = "label",
    steps: Steps = 8000,
    batch: Annotated[int, typer.Option(metavar="N", help="Crops in a batch.")] = 4,
    side: Annotated[int, typer.Option(metavar="N", help="Height and width of a crop in pixels.")] = 192,
    learning_rate: Rate = 2e-3,
    seed: Seed = 0,
    validate_every: ValidateEvery = 1000,
    begin_from: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weights to begin with; a stage of M2FCN for one of more."),
    ] = None,
    name: Name = None,
    tissue: Tissue = NOT_NAMED,
    source: Source = None,
    licence: Licence = ASK,
    voxel_size: VoxelSizeOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train a boundary network.

    A run that is stopped goes on where it was when the same command is given again.
    """
    recipe = pipeline.BoundaryRecipe(
        architecture, None if kernel == "membranes" else kernel, zero, steps, batch, side, learning_rate, seed,
        validate_every, begin_from,
    )  # fmt: skip
    with progress_bar("Training") as progress, stop_on_interrupt() as cancelled:
        card = pipeline.train_boundary(
            out, _parts(data, voxel_size), _parts(validate, voxel_size), recipe,
            _provenance(name, tissue, source, licence), device=device, overwrite=overwrite,
            progress=progress, on_validation=_print_validation, cancelled=cancelled,
        )  # fmt: skip
    _conclude(out, card)


@app.command()
def affinity(
    out: Out,
    data: Data,
    validate: Validation,
    architecture: Network = "affinity-unet-small",
    loss: Annotated[
        Literal["malis", "bce", "dice-bce"],
        typer.Option(metavar="malis|bce|dice-bce", help="What is made small; malis weighs what would merge."),
    ] = "malis",
    long_range: Annotated[
        bool, typer.Option("--long-range", help="Learn affinities over 2 slices, 9 and 27 pixels as well.")
    ] = False,
    descriptors: Annotated[
        bool, typer.Option("--descriptors", help="Learn local shape descriptors as well.")
    ] = False,
    shape: Annotated[
        tuple[int, int, int], typer.Option(metavar="Z Y X", help="Of a block that is learned from.")
    ] = (12, 160, 160),
    batch: Annotated[int, typer.Option(metavar="N", help="Blocks in a batch.")] = 1,
    steps: Steps = 4000,
    learning_rate: Rate = 2e-3,
    seed: Seed = 0,
    validate_every: ValidateEvery = 1000,
    begin_from: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Weights to begin with.")] = None,
    name: Name = None,
    tissue: Tissue = NOT_NAMED,
    source: Source = None,
    licence: Licence = ASK,
    voxel_size: VoxelSizeOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train an affinity network; LABELS are object ids, 0 where there is none.

    A run that is stopped goes on where it was when the same command is given again.
    """
    recipe = pipeline.AffinityRecipe(
        architecture, loss, long_range, descriptors, shape, batch, steps, learning_rate, seed, validate_every,
        begin_from,
    )  # fmt: skip
    with progress_bar("Training") as progress, stop_on_interrupt() as cancelled:
        card = pipeline.train_affinity(
            out, _parts(data, voxel_size), _parts(validate, voxel_size), recipe,
            _provenance(name, tissue, source, licence), device=device, overwrite=overwrite,
            progress=progress, on_validation=_print_validation, cancelled=cancelled,
        )  # fmt: skip
    _conclude(out, card)


@app.command()
def propagator(
    out: Out,
    data: Data,
    validate: Validation,
    architecture: Annotated[
        str, typer.Option(metavar="NAME", help="propagator-small or propagator-resnet50.")
    ] = "propagator-small",
    variant: Annotated[
        Literal["ST", "STL", "STN", "STC"],
        typer.Option(
            metavar="ST|STL|STN|STC",
            help="What it remembers: the slice before; also both directions; also the reference slice; all.",
        ),
    ] = "STC",
    pixel: Annotated[float, typer.Option(metavar="NM", help="Size of the pixels it works on.")] = 12.0,
    slices: Annotated[int, typer.Option(metavar="N", help="Slices of a walk that is learned from.")] = 6,
    objects: Annotated[int, typer.Option(metavar="N", help="Objects in it.")] = 3,
    side: Annotated[int, typer.Option(metavar="N", help="Its height and width in pixels.")] = 112,
    given: Annotated[
        float, typer.Option(metavar="SHARE", help="Part of the steps with the true masks of the slice before.")
    ] = 0.25,
    steps: Steps = 6000,
    learning_rate: Rate = 2e-3,
    seed: Seed = 0,
    validate_every: ValidateEvery = 500,
    begin_from: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Weights to begin with.")] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Of a ResNet-50 under torchvision's names (safetensors), to begin with."
        ),
    ] = None,
    save_memory: Annotated[
        bool, typer.Option("--save-memory", help="Compute layers twice rather than keep what gradients need.")
    ] = False,
    name: Name = None,
    tissue: Tissue = NOT_NAMED,
    source: Source = None,
    licence: Licence = ASK,
    voxel_size: VoxelSizeOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train a propagator, which follows seeded objects; LABELS are object ids, 0 where there is none.

    A run that is stopped goes on where it was when the same command is given again.
    """
    recipe = pipeline.PropagatorRecipe(
        architecture, variant, pixel, slices, objects, side, given, steps, learning_rate, seed, validate_every,
        begin_from, encoder_weights, save_memory,
    )  # fmt: skip
    with progress_bar("Training") as progress, stop_on_interrupt() as cancelled:
        card = pipeline.train_propagator(
            out, _parts(data, voxel_size), _parts(validate, voxel_size), recipe,
            _provenance(name, tissue, source, licence), device=device, overwrite=overwrite,
            progress=progress, on_validation=_print_validation, cancelled=cancelled,
        )  # fmt: skip
    _conclude(out, card)


@app.command()
def agglomeration(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The forest to write: NAME.npz.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="AFFINITIES,LABELS[,A:B]",
            help="A container of affinities, and the true labels; of LABELS the slices A:B, if those were "
            "predicted. Give it again for more.",
        ),
    ],
    rounds: Annotated[int, typer.Option(metavar="N", help="How often to agglomerate and learn.")] = 3,
    weights: Annotated[
        Literal["equal", "size"],
        typer.Option(metavar="equal|size", help="Whether mistakes between large regions count more."),
    ] = "equal",
    seed: Seed = 0,
    source: Source = None,
    licence: Licence = ASK,
    overwrite: Overwrite = False,
) -> None:
    """Train the forest that says what to merge: segment --agglomerate learned."""
    parts = [_affinity_part(text) for text in data]
    card = {
        "data": source or data,
        "licence": licence,
        "command": _command(),
    }
    with progress_bar("Training") as progress:
        pipeline.train_agglomeration(
            out, parts, seed=seed, rounds=rounds, weights=weights, card=card, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"Wrote {out}")


@app.command()
def assignment(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model to write: NAME.npz.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="IMAGE,MAPS,LABELS[,A:B]",
            help="An image, what was predicted of it (a boundary map, or a container of affinities), and the "
            "true labels; of IMAGE and LABELS the slices A:B, if those were predicted. Give it again for more.",
        ),
    ],
    hypotheses: Annotated[
        Literal["auto", "sections", "levels"],
        typer.Option(metavar="auto|sections|levels", help="Where hypotheses come from; see assign."),
    ] = "auto",
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Let the propagator follow all sections, and learn from how well it agrees; assign then does "
            "so too, which takes long without a GPU.",
        ),
    ] = False,
    seed: Seed = 0,
    name: Name = None,
    source: Source = None,
    licence: Licence = ASK,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train what assign knows of assignments: how probable each is, and how likely a chosen one is wrong."""
    parts = [_truth_part(text) for text in data]
    card = {
        "name": name or out.stem,
        "data": source or data,
        "licence": licence,
        "command": _command(),
    }
    with progress_bar("Training") as progress, stop_on_interrupt() as cancelled:
        model = pipeline.train_assignment(
            out, parts, pipeline.AssignRecipe(hypotheses), seed=seed, with_following=follow, device=device,
            card=card, overwrite=overwrite, progress=progress, cancelled=cancelled,
        )  # fmt: skip
    typer.echo(f"Wrote {out}; leaving out costs {model.prices.nothing:g}, ends {model.prices.end:g}")


def _paths_and_slices(text: str) -> tuple[list[str], slice]:
    """Take PATH,PATH,A:B apart; the slices may be left out."""
    *paths, last = text.split(",")
    return (paths, as_slices(last)) if _RANGE.fullmatch(last) else ([*paths, last], slice(None))


def _truth_part(text: str) -> pipeline.TruthPart:
    """Open IMAGE,MAPS,LABELS[,A:B]."""
    paths, slices = _paths_and_slices(text)
    if len(paths) != 3:
        raise DataError(f"The data is {text!r}", "IMAGE,MAPS,LABELS or IMAGE,MAPS,LABELS,A:B",
                        "Separate image, maps, labels and slices by commas")  # fmt: skip
    raw, truth = io.open_volume(paths[0], "image"), io.open_volume(paths[2], "labels")
    maps, size = pipeline.open_maps(paths[1])
    return pipeline.TruthPart(raw[slices], maps, truth[slices], raw.voxel_size_nm or size)


def _affinity_part(text: str) -> pipeline.AffinityPart:
    """Open AFFINITIES,LABELS[,A:B]."""
    paths, slices = _paths_and_slices(text)
    if len(paths) != 2:
        raise DataError(f"The data is {text!r}", "AFFINITIES,LABELS or AFFINITIES,LABELS,A:B",
                        "Separate affinities, labels and slices by commas")  # fmt: skip
    affinities = pipeline.open_affinities(paths[0])
    truth = io.open_volume(paths[1], "labels")[slices]
    return pipeline.AffinityPart(affinities, truth, affinities.voxel_size_nm)


def _conclude(out: Path, card: Card | None) -> None:
    folder = pipeline.training_folder(out)
    if card is not None:
        typer.echo(f"Wrote {out}; curves are in {folder}")
        return
    typer.echo(f"Stopped; give the same command again to go on ({folder} keeps what was done)", err=True)
    raise typer.Exit(130)


def _provenance(name: str | None, tissue: str, source: list[str] | None, licence: str) -> pipeline.Provenance:
    return pipeline.Provenance(name, tissue, tuple(source) if source else None, licence, _command())


def _command() -> str:
    return shlex.join(["napari-em-seg", *sys.argv[1:]])


def _parts(texts: list[str], voxel_size: VoxelSize | None) -> list[pipeline.LabelledPart]:
    return [_part(text, voxel_size) for text in texts]


def _part(text: str, voxel_size: VoxelSize | None) -> pipeline.LabelledPart:
    """Open IMAGE[,LABELS][,A:B]."""
    paths, slices = _paths_and_slices(text)
    if not 1 <= len(paths) <= 2:
        raise DataError(f"The data is {text!r}", _DATA, "Separate image, labels and slices by commas")
    raw, labels = io.open_volume(paths[0]), io.open_volume(paths[-1], "labels")
    if voxel_size is not None:
        raw = raw.with_voxel_size(voxel_size)
    return pipeline.LabelledPart(raw, labels, slices)


def _print_validation(row: Mapping[str, float]) -> None:
    measures = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("step", "score"))
    typer.echo(f"step {row['step']:.0f}  {measures}")
