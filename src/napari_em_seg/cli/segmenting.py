"""napari-em-seg segment: from a boundary map or affinities to objects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_em_seg import pipeline
from napari_em_seg.cli.common import Out, Overwrite, VolumePath, progress_bar, stop_on_interrupt
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.metrics import Scores

__all__ = ["segment"]


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
            help="Look for the --h or --threshold that comes closest to these labels, of which A:B, if given, "
            "are the slices that the map is of.",
        ),
    ] = None,
    agglomerate: Annotated[
        Literal["mean", "quantile", "learned"] | None,
        typer.Option(metavar="mean|quantile|learned", help="zwatershed: what merges are judged by; else mean."),
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option(metavar="Q", help="For --agglomerate quantile; else 0.5, the median."),
    ] = None,
    forest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For --agglomerate learned: a trained forest; else the one that came along."
        ),
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(metavar="OUT.npz", help="zwatershed: keep the tree of all merges as well.")
    ] = None,
    blocks: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="Z Y X",
            help="zwatershed: for volumes larger than memory, work on blocks of so many voxels; a run that was "
            "stopped goes on when the same command is given again.",
        ),
    ] = None,
    overlap: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="Z Y X", help="For --blocks: voxels more on each side; else a quarter of the block."
        ),
    ] = None,
    block_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For --blocks: where they are kept; else IN.blocks beside IN."),
    ] = None,
    per_slice: Annotated[
        bool, typer.Option("--per-slice", help="hmin: segment every slice on its own, with its own labels.")
    ] = False,
    sigma: Annotated[
        float | None,
        typer.Option(metavar="PIXELS", help="hmin: of the Gaussian that smooths each slice first; else 1."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="LABELS", help="hmin: where there is tissue (not 0); 0 stays 0.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment a boundary map, or affinities, into objects."""
    others: dict[str, dict[str, object]] = {
        "hmin": {
            "threshold": threshold, "agglomerate": agglomerate, "quantile": quantile, "forest": forest,
            "tree": tree, "blocks": blocks, "overlap": overlap, "block-folder": block_folder,
        },
        "zwatershed": {"h": h, "mask": mask, "per-slice": per_slice or None, "sigma": sigma},
    }  # fmt: skip
    unused = [f"--{name}" for name, value in others[method].items() if value is not None]
    if unused:
        raise DataError(f"{', '.join(unused)} does nothing for --method {method}",
                        "options of that method", "Leave it out, or choose the other method")  # fmt: skip
    score = agglomerate or "mean"
    for name, value, needed in (("quantile", quantile, "quantile"), ("forest", forest, "learned")):
        if value is not None and score != needed:
            raise DataError(f"--{name} does nothing for --agglomerate {score}",
                            f"--agglomerate {needed} with it", "Leave it out, or say so")  # fmt: skip
    if method == "hmin":
        with progress_bar("Segmenting") as progress:
            found = pipeline.segment_to_file(
                source, out, h=h, truth=truth, mode="2d" if per_slice else "3d",
                sigma=1.0 if sigma is None else sigma, mask=mask, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        name, best, scores, n = "h", found.h, found.scores, found.n_segments
    else:
        cut = _blocks(blocks, overlap, block_folder)
        with progress_bar("Segmenting") as progress, _stop_for(cut, source) as cancelled:
            merged = pipeline.segment_affinities_to_file(
                source, out, score=score, forest=forest, quantile=0.5 if quantile is None else quantile,
                threshold=threshold, truth=truth, blocks=cut, tree_file=tree, overwrite=overwrite,
                progress=progress, cancelled=cancelled,
            )  # fmt: skip
        name, best, scores, n = "threshold", merged.threshold, merged.scores, merged.n_segments
    _print_scores(name, best, scores)
    typer.echo(f"Wrote {out}: {n:,} segments at {name} = {best:g}")
    if method == "zwatershed" and cut is not None:
        typer.echo(f"{cut.folder_for(source)} keeps the blocks, for another threshold or --agglomerate")


def _blocks(
    shape: tuple[int, int, int] | None, overlap: tuple[int, int, int] | None, folder: Path | None
) -> pipeline.Blocks | None:
    if shape is not None:
        return pipeline.Blocks(shape, overlap, folder)
    if overlap is not None or folder is not None:
        raise DataError("--overlap or --block-folder is given without --blocks", "the size of the blocks",
                        "Give --blocks Z Y X as well, or neither")  # fmt: skip
    return None


@contextmanager
def _stop_for(blocks: pipeline.Blocks | None, source: str) -> Iterator[Callable[[], bool] | None]:
    """Let Ctrl-C stop a run in blocks so that it can go on; any other run ends at once."""
    if blocks is None:
        yield None
        return
    try:
        with stop_on_interrupt() as cancelled:
            yield cancelled
    except Cancelled:
        folder = blocks.folder_for(source)
        typer.echo(f"Stopped; give the same command again to go on ({folder} keeps what was done)", err=True)
        raise typer.Exit(130) from None


def _print_scores(name: str, best: float, scores: Mapping[float, Scores]) -> None:
    if scores:
        typer.echo(f"{name:9}  adapted Rand error  VI split  VI merge")
    for value, found in scores.items():
        numbers = f"{found.adapted_rand_error:18.4f} {found.vi_split:9.3f} {found.vi_merge:9.3f}"
        typer.echo(f"{value:<9g}  {numbers}{'  best' if value == best else ''}")
