"""napari-em-seg assign, links, pin, undo, redo, history: reconstructions and their review."""

import json
from typing import Annotated, Any, Literal

import typer

from napari_em_seg import pipeline
from napari_em_seg.cli.common import (
    Device,
    Json,
    Overwrite,
    VoxelSizeOption,
    as_slices,
    progress_bar,
    stop_on_interrupt,
)
from napari_em_seg.errors import DataError
from napari_em_seg.review import KINDS, Operation, Session, describe, parse_link

__all__ = ["assign", "history", "links", "pin", "redo", "undo"]

SessionPath = Annotated[str, typer.Argument(metavar="SESSION", help="A folder NAME.emseg that assign made.")]
User = Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; else your name on this computer.")]
Order = Literal["confidence", "regret", "p_error", "impact"]


def assign(
    raw: Annotated[str, typer.Argument(metavar="RAW", help="The image.")],
    maps: Annotated[
        str,
        typer.Argument(
            metavar="BOUNDARY", help="What predict made of it: a boundary map, or a container of affinities."
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="SESSION.emseg", help="The session to make.")],
    hypotheses: Annotated[
        Literal["auto", "sections", "levels"],
        typer.Option(
            metavar="auto|sections|levels",
            help="Sections of an agglomeration's nested segments, or level sets of the boundaries; auto: "
            "sections where there are affinities.",
        ),
    ] = "auto",
    model: Annotated[
        str,
        typer.Option(
            metavar="auto|none|FILE",
            help="From train assignment; auto: one that comes along; none: a plain rule.",
        ),
    ] = "auto",
    distance: Annotated[
        float, typer.Option(metavar="PIXELS", help="How far the centres of linked sections may be apart.")
    ] = 30.0,
    solver: Annotated[
        str, typer.Option(metavar="NAME", help="highs, or any that PuLP finds on this computer: cbc, gurobi, …")
    ] = "highs",
    gap: Annotated[
        float, typer.Option(metavar="SHARE", help="How far from the best answer is near enough.")
    ] = 1e-3,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="Then the best answer so far is taken, with its gap.")
    ] = 600.0,
    device: Device = "auto",
    voxel_size: VoxelSizeOption = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the best links of all sections across slices, and how sure each one is."""
    with progress_bar("Assigning") as progress, stop_on_interrupt() as cancelled:
        made = pipeline.assign_to_session(
            raw, maps, out, pipeline.AssignRecipe(hypotheses, model, pipeline.Limits(distance=distance)),
            solver=solver, gap=gap, time_limit=time_limit, device=device, voxel_size_nm=voxel_size,
            overwrite=overwrite, progress=progress, cancelled=cancelled,
        )  # fmt: skip
    typer.echo(
        f"Wrote {out}: {made.n_hypotheses:,} hypotheses, {made.n_assignments:,} assignments, "
        f"{made.n_links:,} links; {made.n_objects:,} objects; gap {made.gap:.3%}; {made.model}"
    )


def links(
    session: SessionPath,
    top: Annotated[int, typer.Option(metavar="N", help="How many, the worst first; 0 for all.")] = 20,
    order: Annotated[
        Order, typer.Option("--sort", metavar="confidence|regret|p_error|impact", help="What the worst is.")
    ] = "confidence",
    kind: Annotated[str | None, typer.Option(metavar="KIND", help=f"Only these: {', '.join(KINDS)}.")] = None,
    slices: Annotated[
        str | None, typer.Option("--slices", metavar="A:B", help="Only links out of the slices A up to B.")
    ] = None,
    label: Annotated[
        int | None, typer.Option("--object", metavar="N", help="Only links of this object.")
    ] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Only those that wait for an answer.")] = False,
    as_json: Json = False,
) -> None:
    """List links, the most doubtful first."""
    if kind is not None and kind not in KINDS:
        raise DataError(f"The kind is {kind!r}", f"one of {', '.join(KINDS)}", "Choose one of these")
    if top < 0:
        raise DataError(f"--top is {top}", "a number from 0 on", "Give 0 for all links")
    with Session(session, mode="read") as opened:
        listed = opened.links().sorted_by(order)
    kinds = None if kind is None else [KINDS.index(kind)]
    listed = listed.where(kinds=kinds, z=as_slices(slices), label=label)
    listed = listed[listed.is_open] if is_open else listed
    rows = listed[slice(top or None)].as_dicts()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo(f"{'link':>8} {'kind':13} {'slices':>9} {'regions':23} {'p(error)':>8} {'regret':>8} status")
    for row in rows:
        typer.echo(_line(row))


def _line(row: dict[str, Any]) -> str:
    sides = ("+".join(f"#{region}" for region in row[side]) or "–" for side in ("sources", "targets"))
    regions = " → ".join(sides)
    p_error, regret = ("–" if row[key] is None else f"{row[key]:.3f}" for key in ("p_error", "regret"))
    place = f"{row['z']}→{row['z'] + 1}"
    return (
        f"{row['id']:>8} {row['kind']:13.13} {place:>9} {regions:23} {p_error:>8} {regret:>8} {row['status']}"
    )


def pin(
    session: SessionPath,
    link: Annotated[str, typer.Argument(metavar="LINK", help="Its id, as links prints it.")],
    verdict: Annotated[
        str, typer.Argument(metavar="accept|reject|alternative=K", help="K counts from 1, the best first.")
    ],
    user: User = None,
) -> None:
    """Answer as a reviewer would: the link is right, wrong, or an alternative is; then solve anew."""
    with pipeline.open_session(session, user=user) as opened:
        number = parse_link(link)
        if verdict in ("accept", "reject"):
            done = opened.accept(number) if verdict == "accept" else opened.reject(number)
        elif verdict.startswith("alternative=") and verdict.partition("=")[2].isdecimal():
            done = opened.choose_alternative(number, int(verdict.partition("=")[2]))
        else:
            raise DataError(f"The verdict is {verdict!r}", "accept, reject or alternative=K",
                            "Say one of these; K counts from 1")  # fmt: skip
    typer.echo(_said(done))


def undo(session: SessionPath, user: User = None) -> None:
    """Take the last operation back."""
    with pipeline.open_session(session, user=user) as opened:
        typer.echo(_said(opened.undo()))


def redo(session: SessionPath, user: User = None) -> None:
    """Do again what was taken back last."""
    with pipeline.open_session(session, user=user) as opened:
        typer.echo(_said(opened.redo()))


def history(session: SessionPath, as_json: Json = False) -> None:
    """List all that was done, the first first."""
    with Session(session, mode="read") as opened:
        rows = [describe(operation) for operation in opened.operations]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        what = " ".join(
            str(row[key]) for key in ("kind", "link", "choice", "text", "target") if row[key] is not None
        )
        typer.echo(f"{row['id']:>5}  {row['time'][:19]}  {row['user']:12} {what}")


def _said(operation: Operation) -> str:
    row = describe(operation)
    changed = "" if row["objective_after"] is None else (
        f"; objective {row['objective_before']:.2f} → {row['objective_after']:.2f}"
    )  # fmt: skip
    link = "" if row["link"] is None else f" link {row['link']}"
    return f"{row['id']}: {row['kind']}{link}{changed}"
