"""The command line, napari-em-seg …: volumes, predictions, segmentations, sessions, training, measures."""

import json
import logging
import sys
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from napari_em_seg import __version__, io, pipeline
from napari_em_seg.cli import exporting, propagating, reconstruct, session, train
from napari_em_seg.cli.common import Json, Overwrite, VolumePath, VoxelSizeOption, as_part, progress_bar
from napari_em_seg.errors import EmSegError
from napari_em_seg.pipeline import VolumeInfo
from napari_em_seg.volume import Kind

__all__ = ["main"]

app = typer.Typer(
    name="napari-em-seg",
    help="Reconstruct neurons from serial-section electron microscopy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run a command; what a user can mend ends with one message and exit code 2, the rest with 1."""
    try:
        app()
    except EmSegError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv most.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Set up what all commands share."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logging.basicConfig(level=levels[min(verbose, 2)], format="%(levelname)s %(name)s: %(message)s")


@app.command()
def sample(
    out: Annotated[str, typer.Argument(metavar="OUT", help="What to write: OUT.zarr, OUT.h5 or OUT.n5.")],
    shape: Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Slices, rows and columns.")] = (
        30,
        512,
        512,
    ),
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The same seed gives the same tissue.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make synthetic tissue: OUT/raw, and its truth OUT/labels."""
    with progress_bar("Writing") as progress:
        pipeline.write_sample(out, shape, seed, overwrite=overwrite, progress=progress)
    typer.echo(f"Wrote {out}/raw and {out}/labels")


@app.command()
def info(source: VolumePath, as_json: Json = False) -> None:
    """Say what a file or folder holds."""
    described = pipeline.describe(source)
    if as_json:
        typer.echo(json.dumps([asdict(volume) for volume in described], indent=1))
        return
    for volume in described:
        typer.echo(_info_text(volume))


def _info_text(volume: VolumeInfo) -> str:
    z, y, x = volume.shape
    size = (
        " × ".join(f"{length:g}" for length in volume.voxel_size_nm) + " nm"
        if volume.voxel_size_nm
        else "unknown (the file does not say; convert --voxel-size Z Y X sets it)"
    )
    return "\n".join(
        (
            volume.source,
            f"  kind        {volume.kind}",
            f"  shape       {z} × {y} × {x} voxels (z, y, x)",
            f"  voxel size  {size}",
            f"  numbers     {volume.dtype}, {volume.lowest:g} to {volume.highest:g} in three slices",
            f"  size        {_size_text(volume.size_bytes)}",
            *([f"  levels      {volume.levels} resolutions"] if volume.levels > 1 else []),
        )
    )


def _size_text(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.4g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:,.1f} TiB"


@app.command()
def convert(
    source: VolumePath,
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="What to write; the format follows from the suffix.")
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(metavar="image|labels", help="Which kind of array to take, where there are both."),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help=f"One of {', '.join(f.name for f in io.FORMATS)}."),
    ] = None,
    voxel_size: VoxelSizeOption = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Only this part: ranges such as 10:20,0:512,256:768, or 10:20."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a volume, or a part, in another format, or with another voxel size."""
    with progress_bar("Writing") as progress:
        pipeline.convert(
            source,
            out,
            kind=kind,
            format_name=format_name,
            voxel_size_nm=voxel_size,
            part=as_part(part),
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(f"Wrote {out}")


app.command()(reconstruct.predict)
app.command()(reconstruct.segment)
app.command()(propagating.propagate)
app.command()(reconstruct.models)
app.command()(session.assign)
app.command()(session.links)
app.command()(session.pin)
app.command()(session.undo)
app.command()(session.redo)
app.command()(session.history)
app.command()(exporting.export)
app.command()(exporting.run)
app.add_typer(train.app, name="train")


@app.command()
def evaluate(
    segmentation: Annotated[str, typer.Argument(metavar="SEGMENTATION", help="Labels to measure.")],
    truth: Annotated[
        str | None,
        typer.Argument(
            metavar="TRUTH[,A:B]",
            help="True labels, or slices A:B of them; 0 is not judged. Without them, how plausible it is.",
        ),
    ] = None,
    orphan_voxels: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Without a truth: voxels of an orphan, which touches no border."),
    ] = 1000,
    voxel_size: VoxelSizeOption = None,
    as_json: Json = False,
) -> None:
    """Measure a segmentation against the truth; without one, say how plausible it is."""
    with progress_bar("Comparing" if truth else "Reading") as progress:
        found = (
            pipeline.compare(segmentation, truth, progress=progress)
            if truth
            else pipeline.judge_file(
                segmentation, voxel_size_nm=voxel_size, orphan_voxels=orphan_voxels, progress=progress
            ).figures()
        ).to_dict()
    if as_json:
        typer.echo(json.dumps({n: None if isnan(v) else v for n, v in found.items()}, indent=1))
        return
    for name, value in found.items():
        typer.echo(f"{name:24} {value:,}" if isinstance(value, int) else f"{name:24} {value:.4f}")


@app.command()
def demo(
    headless: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Do not wait for the user; leave pictures and a report in DIR."),
    ] = None,
) -> None:
    """Show what the plugin does, on synthetic tissue."""
    from napari_em_seg.widgets.demo import run_demo

    run_demo(headless, typer.echo)
