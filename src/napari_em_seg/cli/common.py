"""What several commands share: kinds of arguments, the progress bar, ranges of slices."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Annotated

import typer

from napari_em_seg.errors import DataError
from napari_em_seg.volume import Progress, range_of

__all__ = [
    "Device", "Json", "Out", "Overwrite", "Slices", "VolumePath", "VoxelSizeOption", "as_part", "as_slices",
    "progress_bar", "stop_on_interrupt",
]  # fmt: skip

VolumePath = Annotated[
    str,
    typer.Argument(
        metavar="IN", help="A file or folder; inside HDF5, Zarr and N5 the path goes on: cells.h5/volumes/raw."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
VoxelSizeOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--voxel-size", metavar="Z Y X", help="Voxel size in nm, where the source does not know it."),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto (CUDA, else MPS, else CPU), cuda, cuda:1, mps or cpu.")
]
Out = Annotated[
    str, typer.Option("--out", metavar="OUT", help="What to write; the format follows from the suffix.")
]
Slices = Annotated[
    str | None, typer.Option("--slices", metavar="A:B", help="Only the slices from A up to, not including, B.")
]


def as_slices(text: str | None) -> slice:
    """Read a range A:B of slices, either end of which may be left out; None is all of them."""
    if text is None:
        return slice(None)
    found = range_of(text)
    if found is None:
        raise DataError(f"The slices are {text!r}", "a range A:B, such as 0:15", "Count slices from 0")
    return found


def as_part(text: str | None) -> list[slice]:
    """Read ranges of slices, rows and columns such as 10:20,0:512,256:768; None is all of them."""
    parts = [] if text is None else [range_of(part) for part in text.split(",")]
    if len(parts) > 3 or None in parts:
        expected = "ranges of slices, rows and columns, such as 10:20,0:512,256:768"
        raise DataError(f"The part is {text!r}", expected, "Count from 0; ends may be left out")
    return [part for part in parts if part is not None]


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Give a question that Ctrl-C answers with yes, so that what was done is kept; a second one ends."""
    stopped = Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        signal.signal(number, before)
        typer.echo("Stopping after this step; once more to stop at once", err=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a bar on a terminal, and nothing in a pipe."""
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield advance
