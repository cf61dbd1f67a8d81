"""napari-em-seg propagate: follow seeded objects from a reference slice."""

from typing import Annotated

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
from napari_em_seg.errors import Cancelled

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
    voxel_size: VoxelSizeOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Follow objects from the slice where they are seeded, in both directions."""
    wanted = pipeline.Propagation(reference, model, as_slices(slices), device)
    try:
        with progress_bar("Propagating") as progress, stop_on_interrupt() as cancelled:
            found = pipeline.propagate_to_file(
                raw, seeds, out, wanted, voxel_size_nm=voxel_size, overwrite=overwrite, progress=progress,
                cancelled=cancelled,
            )  # fmt: skip
    except Cancelled:
        typer.echo("Stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"Wrote {out}: {len(found.objects):,} objects")
