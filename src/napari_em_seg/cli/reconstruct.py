"""napari-em-seg predict, models: from an image to a boundary map or affinities, and by what."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_em_seg import pipeline
from napari_em_seg.cli.common import (
    Device,
    Json,
    Out,
    Overwrite,
    Slices,
    VolumePath,
    VoxelSizeOption,
    as_slices,
    progress_bar,
)
from napari_em_seg.cli.segmenting import segment
from napari_em_seg.errors import DataError
from napari_em_seg.predict.registry import Architecture, Figures

__all__ = ["models", "predict", "segment"]


def predict(
    source: VolumePath,
    out: Out,
    model: Annotated[
        list[str],
        typer.Option(
            metavar="auto|affinity|NAME|FILE",
            help="auto chooses a boundary model by voxel size, affinity one for affinities; "
            "given again, the maximum of all models is taken.",
        ),
    ] = ["auto"],  # noqa: B006 - typer copies it
    local_model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="A model that joins in on misaligned slices only."),
    ] = None,
    misaligned: Annotated[
        str, typer.Option(metavar="auto|Z,Z,…", help="Those slices; auto finds them.")
    ] = "auto",
    slices: Slices = None,
    views: Annotated[
        int | None,
        typer.Option(
            metavar="1|4|8|16",
            help="Symmetries that are averaged: better, and slower. Else 16 on a GPU, 4 on a CPU.",
        ),
    ] = None,
    dtype: Annotated[
        Literal["uint8", "float32"],
        typer.Option(metavar="uint8|float32", help="Probability from 0 to 255, or from 0 to 1."),
    ] = "uint8",
    tile: Annotated[
        int | None, typer.Option(metavar="N", help="Height and width of a tile; else what fits the memory.")
    ] = None,
    precision: Annotated[
        Literal["auto", "full", "half"],
        typer.Option(metavar="auto|full|half", help="Of the network's numbers; auto: half on a GPU."),
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: minutes, for large volumes.")
    ] = False,
    device: Device = "auto",
    voxel_size: VoxelSizeOption = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict a boundary map, or affinities of neighbouring voxels.

    A boundary map is one volume. Affinities are three, OUT/affinities/z, y and x, in HDF5, Zarr or N5.
    """
    wanted = pipeline.Prediction(
        model,
        local_model or (),
        _slice_numbers(misaligned),
        as_slices(slices),
        views,
        device,
        tile,
        {"auto": None, "full": False, "half": True}[precision],
        compiled,
        dtype,
    )
    with progress_bar("Predicting") as progress:
        pipeline.predict_to_file(
            source, out, wanted, voxel_size_nm=voxel_size, overwrite=overwrite, on_choice=_print_choice,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"Wrote {out}")


def _print_choice(choice: pipeline.Choice) -> None:
    typer.echo(f"Model {choice.model.name}: {choice.why}")
    if choice.warning:
        typer.echo(f"Warning: {choice.warning}", err=True)


def _slice_numbers(text: str) -> Literal["auto"] | list[int]:
    if text == "auto":
        return "auto"
    try:
        return [int(number) for number in text.split(",") if number]
    except ValueError:
        raise DataError(
            f"The misaligned slices are {text!r}", "auto, or numbers such as 9,10,11", "Count slices from 0"
        ) from None


def models(
    as_json: Json = False,
    networks: Annotated[
        bool, typer.Option("--networks", help="List the networks that can be trained instead.")
    ] = False,
) -> None:
    """List trained models: on what, under which licence, at what cost."""
    if networks:
        _print_networks(as_json)
        return
    found, forests = pipeline.models(), pipeline.forests()
    if as_json:
        listed = [*map(_as_json, found), *map(_forest_json, forests)]
        typer.echo(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    if not found:
        typer.echo("There are no trained models. Train one: napari-em-seg train boundary")
    for info in found:
        typer.echo(_model_text(info))
    for forest in forests:
        typer.echo(_forest_text(_forest_json(forest)))


def _forest_json(forest: pipeline.ForestInfo) -> dict[str, object]:
    card = forest.card
    return {
        "path": str(forest.path), "origin": forest.origin, "name": card.get("name", forest.path.stem),
        "task": forest.task,
        "voxel_size_nm": card.get("voxel_size_nm", card.get("voxel_size")), "data": card.get("data"),
        "licence": card.get("licence"), "command": card.get("command"), "seed": card.get("seed"),
    }  # fmt: skip


def _forest_text(card: Mapping[str, object]) -> str:
    data, path = card["data"], Path(str(card["path"]))
    lines = {
        "predicts": f"{card['task']} (a forest)",
        "data": "; ".join(data) if isinstance(data, list) else str(data),
        "licence": card["licence"],
        "made by": card["command"],
        "file": f"{path} ({path.stat().st_size / 2**20:.1f} MiB, {card['origin']})",
    }
    return "\n".join([str(card["name"]), *(f"  {name:11} {value}" for name, value in lines.items())])


def _as_json(info: pipeline.ModelInfo) -> dict[str, object]:
    file = info.file
    return {
        "path": str(file.path),
        "origin": file.origin,
        **asdict(file.card),
        **({} if info.figures is None else asdict(info.figures)),
    }


def _model_text(info: pipeline.ModelInfo) -> str:
    card, file = info.file.card, info.file
    size = " × ".join(f"{length:g}" for length in card.voxel_size_nm)
    measures = ", ".join(f"{name} {value:.4g}" for name, value in card.measures.items())
    lines = {
        "predicts": card.task,
        "network": card.architecture + ("" if info.figures is None else f": {_figures_text(info.figures)}"),
        "trained on": f"{card.tissue}, {size} nm",
        "data": "; ".join(card.data),
        "licence": card.licence,
        "measures": measures or "none",
        "made by": card.command or "unknown",
        "file": f"{file.path} ({file.path.stat().st_size / 2**20:.1f} MiB, {file.origin})",
    }
    return "\n".join([card.name, *(f"  {name:11} {value}" for name, value in lines.items())])


def _figures_text(figures: Figures) -> str:
    return (
        f"{figures.n_slices} slice{'s' * (figures.n_slices > 1)} in, {figures.n_parameters:,} parameters, "
        f"sees {figures.receptive_field} pixels, {figures.multiply_adds:,} multiply-adds a voxel"
    )


def _print_networks(as_json: bool) -> None:
    found = pipeline.architectures()
    if as_json:
        entries = [
            {"name": network.name, "loss": network.loss, **asdict(figures)} for network, figures in found
        ]
        typer.echo(json.dumps(entries, indent=1))
        return
    typer.echo("network            slices  parameters  sees (pixels)  multiply-adds a voxel")
    for network, figures in found:
        typer.echo(_network_text(network, figures))


def _network_text(network: Architecture, figures: Figures) -> str:
    return (
        f"{network.name:18} {figures.n_slices:6} {figures.n_parameters:11,} {figures.receptive_field:14,} "
        f"{figures.multiply_adds:22,}"
    )
