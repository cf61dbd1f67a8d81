"""napari-em-seg propagate: follow seeded objects from a reference slice."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_em_seg import pipeline
from napari_em_seg.cli.common import (
    Device,
    Overwrite,
    VoxelSizeOption,
    as_slices,
    progress_bar,
    stop_on_interrupt,
)

__all__ = ["propagate"]


def propagate(
    raw: Annotated[str, typer.Argument(metavar="RAW", help="The image.")],
    seeds: Annotated[
        str,
        typer.Argument(
            metavar="SEEDS",
            help="Labels of the objects on the reference slice: of the whole image, or of that slice alone; "
            "'watershed' takes all sections that a watershed finds there.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="OUT", help="Where the labels go.")],
    reference: Annotated[int, typer.Option(metavar="Z", help="The slice where the seeds are.")],
    model: Annotated[
        str, typer.Option(metavar="auto|NAME|FILE", help="A propagator; auto chooses by voxel size.")
    ] = "auto",
    slices: Annotated[
        str | None, typer.Option("--slices", metavar="A:B", help="Only through the slices A up to B.")
    ] = None,
    direction: Annotated[
        Literal["both", "up", "down"],
        typer.Option(metavar="both|up|down", help="To slices of higher numbers (up), of lower ones, or both."),
    ] = "both",
    extent: Annotated[
        int | None, typer.Option(metavar="N", help="At most N slices away from the reference slice.")
    ] = None,
    outlines: Annotated[
        Literal["membranes", "network"],
        typer.Option(
            metavar="membranes|network",
            help="Where objects end: at predicted membranes, or where the propagator alone says.",
        ),
    ] = "membranes",
    confidence: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Where to write how sure each mask is.")
    ] = None,
    voxel_size: VoxelSizeOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Follow objects from the slice where they are seeded, in both directions.

    Ctrl-C stops it; what was done until then is written.
    """
    wanted = pipeline.Propagation(
        reference, model, as_slices(slices), device, direction, extent, outlines == "membranes"
    )
    with progress_bar("Propagating") as progress, stop_on_interrupt() as cancelled:
        found = pipeline.propagate_to_file(
            raw, seeds, out, wanted, confidence=confidence, voxel_size_nm=voxel_size, overwrite=overwrite,
            progress=progress, cancelled=cancelled,
        )  # fmt: skip
    if not found.objects:
        typer.echo("Stopped before the first slice was done; nothing was written", err=True)
        raise typer.Exit(130)
    typer.echo(f"Wrote {out}: {len(found.objects):,} objects, {len(found.slices):,} slices")
    if not found.is_complete:
        typer.echo("Stopped; the other slices are empty", err=True)
        raise typer.Exit(130)
