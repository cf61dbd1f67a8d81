"""napari-em-seg export, run: what a session has come to as files, and whole pipelines from a file."""

from typing import Annotated, Literal

import typer

from napari_em_seg import pipeline
from napari_em_seg.cli.common import Overwrite, progress_bar, stop_on_interrupt
from napari_em_seg.cli.session import SessionPath
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline.config import about_session, export_pipeline, read_config
from napari_em_seg.pipeline.running import run_config
from napari_em_seg.review import Session

__all__ = ["export", "run"]


def export(
    session: SessionPath,
    labels: Annotated[
        str | None, typer.Option(metavar="OUT", help="Objects as labels, in any format that can be written.")
    ] = None,
    table: Annotated[str | None, typer.Option("--links", metavar="OUT.csv", help="Links as CSV.")] = None,
    graph: Annotated[
        str | None, typer.Option(metavar="OUT.graphml|OUT.json", help="Sections and their links as a graph.")
    ] = None,
    log: Annotated[
        str | None, typer.Option("--history", metavar="OUT.jsonl|OUT.csv", help="All that was done.")
    ] = None,
    meshes: Annotated[
        str | None, typer.Option(metavar="DIR", help="Surfaces of objects, one file each, in nm.")
    ] = None,
    skeletons: Annotated[
        str | None, typer.Option(metavar="DIR", help="Skeletons of objects, one SWC file each, in µm.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="OUT.html", help="Pictures and numbers in one file.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--pipeline", metavar="OUT.yaml", help="All that made it, for run; reviews in a file beside it."
        ),
    ] = None,
    mesh_format: Annotated[
        Literal["ply", "obj", "precomputed"], typer.Option(metavar="ply|obj|precomputed", help="Of meshes.")
    ] = "ply",
    objects: Annotated[
        str, typer.Option(metavar="N,N,…", help="Meshes and skeletons of these objects; else of all.")
    ] = "",
    least: Annotated[
        int, typer.Option(metavar="N", help="Meshes and skeletons of objects with N voxels or more.")
    ] = 1,
    fill: Annotated[
        float, typer.Option(metavar="PIXELS", help="How far objects grow into what is between them.")
    ] = 30.0,
    overwrite: Overwrite = False,
) -> None:
    """Write what a session has come to."""
    if not (meshes or skeletons) and (mesh_format != "ply" or objects or least != 1):
        raise DataError("--mesh-format, --objects and --least say something of meshes and skeletons",
                        "--meshes or --skeletons with them", "Leave them out, or say where to")  # fmt: skip
    wanted = pipeline.Export(
        labels, table, graph, log, meshes, skeletons, report, mesh_format=mesh_format,
        objects=_numbers(objects), least=least, fill=fill,
    )  # fmt: skip
    if not wanted.targets and steps is None:
        raise DataError(
            "Nothing is to be written",
            "at least one of --labels, --links, --graph, --history, --meshes, --skeletons, --report or "
            "--pipeline",
            "Say what and where to",
        )
    with Session(session, mode="read") as opened:
        places = [] if steps is None else export_pipeline(opened, steps, overwrite)
        with progress_bar("Writing") as progress, stop_on_interrupt() as cancelled:
            try:
                found = pipeline.export_session(
                    opened, wanted, about=about_session(opened), overwrite=overwrite, progress=progress,
                    cancelled=cancelled,
                )  # fmt: skip
            except Cancelled:
                typer.echo("Stopped; what was complete is there", err=True)
                raise typer.Exit(130) from None
    for name in (*found.places, *places):
        typer.echo(f"Wrote {name}")
    if found.n_objects:
        length = f", {found.length_nm / 1000:,.1f} µm of skeletons" if skeletons else ""
        typer.echo(f"{found.n_objects:,} objects{length}")


def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="A pipeline, as the docks write it.")],
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A dask.distributed scheduler; its workers take blocks of segment."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Do all steps of a pipeline; what is done already is not done again.

    Ctrl-C stops it; the same command goes on.
    """
    read = read_config(config)
    with progress_bar("Running") as progress, stop_on_interrupt() as cancelled:
        try:
            done = run_config(
                read, scheduler=scheduler, overwrite=overwrite, progress=progress, cancelled=cancelled,
                on_step=lambda name: typer.echo(f"{name} …"),
            )  # fmt: skip
        except Cancelled:
            typer.echo("Stopped; give the same command again to go on", err=True)
            raise typer.Exit(130) from None
    for one in done:
        typer.echo(f"{one.name:10} {'was there' if one.was_there else 'done':9}  {one.place}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",") if number.strip())
    except ValueError:
        raise DataError(f"The objects are {text!r}", "numbers such as 88,412", "Write them so") from None
