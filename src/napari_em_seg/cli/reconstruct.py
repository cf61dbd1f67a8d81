"""napari-em-seg predict, segment, models: from an image to a boundary map to objects."""

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
    Overwrite,
    Slices,
    VolumePath,
    VoxelSizeOption,
    as_slices,
    progress_bar,
)
from napari_em_seg.errors import DataError
from napari_em_seg.metrics import Scores
from napari_em_seg.predict.registry import Architecture, Figures

__all__ = ["models", "predict", "segment"]

Out = Annotated[
    str, typer.Option("--out", metavar="OUT", help="What to write; the format follows from the suffix.")
]


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


def segment(
    source: VolumePath,
    out: Out,
    method: Annotated[
        Literal["hmin", "zwatershed"],
        typer.Option(
            metavar="hmin|zwatershed",
            help="Of a boundary map: the watershed from its H-minima. Of affinities: z-watershed and "
            "agglomeration.",
        ),
    ] = "hmin",
    h: Annotated[
        float | None,
        typer.Option(
            "--h", metavar="DEPTH", help="hmin: depth of minima that count, 0 to 1; more gives fewer segments."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="zwatershed: how unlike what is merged may be, 0 to 1; more gives fewer segments.",
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS[,A:B]",
            help="Look for the --h or --threshold that comes closest to these labels, or to their slices A:B.",
        ),
    ] = None,
    agglomerate: Annotated[
        Literal["mean", "quantile", "learned"],
        typer.Option(metavar="mean|quantile|learned", help="zwatershed: what merges are judged by."),
    ] = "mean",
    quantile: Annotated[
        float, typer.Option(metavar="Q", help="For --agglomerate quantile; 0.5 is the median.")
    ] = 0.5,
    forest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --agglomerate learned: a trained forest.")
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(metavar="OUT.npz", help="zwatershed: keep the tree of all merges as well.")
    ] = None,
    per_slice: Annotated[
        bool, typer.Option("--per-slice", help="hmin: segment every slice on its own, with its own labels.")
    ] = False,
    sigma: Annotated[
        float, typer.Option(metavar="PIXELS", help="hmin: of the Gaussian that smooths each slice first.")
    ] = 1.0,
    mask: Annotated[
        str | None, typer.Option(metavar="LABELS", help="hmin: where there is tissue (not 0); 0 stays 0.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment a boundary map, or affinities, into objects."""
    others: dict[str, dict[str, object]] = {
        "hmin": {"threshold": threshold, "forest": forest, "tree": tree},
        "zwatershed": {"h": h, "mask": mask, "per-slice": per_slice or None},
    }
    unused = [f"--{name}" for name, value in others[method].items() if value is not None]
    if unused:
        raise DataError(f"{', '.join(unused)} does nothing for --method {method}",
                        "options of that method", "Leave it out, or choose the other method")  # fmt: skip
    with progress_bar("Segmenting") as progress:
        if method == "hmin":
            found = pipeline.segment_to_file(
                source, out, h=h, truth=truth, mode="2d" if per_slice else "3d", sigma=sigma, mask=mask,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip
            name, best, scores, n = "h", found.h, found.scores, found.n_segments
        else:
            merged = pipeline.segment_affinities_to_file(
                source, out, score=agglomerate, forest=forest, quantile=quantile, threshold=threshold,
                truth=truth, tree_file=tree, overwrite=overwrite, progress=progress,
            )  # fmt: skip
            name, best, scores, n = "threshold", merged.threshold, merged.scores, merged.n_segments
    _print_scores(name, best, scores)
    typer.echo(f"Wrote {out}: {n:,} segments at {name} = {best:g}")


def _print_scores(name: str, best: float, scores: Mapping[float, Scores]) -> None:
    if scores:
        typer.echo(f"{name:9}  adapted Rand error  VI split  VI merge")
    for value, found in scores.items():
        numbers = f"{found.adapted_rand_error:18.4f} {found.vi_split:9.3f} {found.vi_merge:9.3f}"
        typer.echo(f"{value:<9g}  {numbers}{'  best' if value == best else ''}")


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
    found = pipeline.models()
    if as_json:
        typer.echo(json.dumps([_as_json(info) for info in found], indent=1, ensure_ascii=False))
        return
    if not found:
        typer.echo("There are no trained models. Train one: napari-em-seg train boundary")
    for info in found:
        typer.echo(_model_text(info))


def _as_json(info: pipeline.ModelInfo) -> dict[str, object]:
    file = info.file
    return {"path": str(file.path), "origin": file.origin, **asdict(file.card), **asdict(info.figures)}


def _model_text(info: pipeline.ModelInfo) -> str:
    card, file = info.file.card, info.file
    size = " × ".join(f"{length:g}" for length in card.voxel_size_nm)
    measures = ", ".join(f"{name} {value:.4g}" for name, value in card.measures.items())
    lines = {
        "predicts": card.task,
        "network": f"{card.architecture}: {_figures_text(info.figures)}",
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
