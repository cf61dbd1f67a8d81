"""Workers: a dask.distributed cluster finds the supervoxels of blocks, in the folder that the rest reads."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled, EmSegError
from napari_em_seg.io._location import absolute
from napari_em_seg.pipeline.affinity_maps import open_affinities
from napari_em_seg.pipeline.blocks import Blocks, Cancelling
from napari_em_seg.segment.blocks import places_of, prepare_block
from napari_em_seg.volume import Progress

__all__ = ["prepare_on_workers"]

_WAIT_S = 20.0  # for the scheduler
_ASK_S = 0.1  # how far they are, and whether to stop


class Fragmenting(Protocol):
    """What makes supervoxels, such as `agglomeration.Fragments`; workers get it pickled."""

    @property
    def of(self) -> Callable[[Any], NDArray[Any]]:
        """Returns the supervoxels of affinities."""
        ...


def prepare_on_workers(
    source: str, blocks: Blocks, fragments: Fragmenting, progress: Progress = None, cancelled: Cancelling = None
) -> None:
    """Have the workers of a scheduler find the supervoxels of all blocks; what is there is not done again."""
    try:
        from distributed import Client
    except ImportError as error:
        raise EmSegError("dask.distributed is not installed", "it, where there is a scheduler",
                         "Install it: pip install 'napari-em-seg[cluster]'") from error  # fmt: skip
    source, folder = str(absolute(source)), absolute(blocks.folder_for(source))
    places = places_of(open_affinities(source).shape[1:], blocks.shape, blocks.margin)
    _prepare(source, folder, blocks, fragments, places[0])  # makes the folder before others look at it
    try:
        client = Client(blocks.scheduler, timeout=_WAIT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EmSegError(f"The scheduler {blocks.scheduler} does not answer: {error}", "one there",
                         "Start it (dask scheduler) and workers (dask worker ADDRESS)") from error  # fmt: skip
    with client:
        jobs = [
            client.submit(_prepare, source, folder, blocks, fragments, place, pure=False) for place in places
        ]
        left = jobs
        while left:
            if cancelled is not None and cancelled():
                client.cancel(jobs)
                raise Cancelled("The segmentation in blocks was cancelled")
            time.sleep(_ASK_S)
            done = [job for job in left if job.done()]
            for job in done:
                job.result()  # raises what went wrong there
            left = [job for job in left if job not in done]
            if progress is not None:
                progress(len(jobs) - len(left), 4 * len(jobs))  # the first of four passes


def _prepare(
    source: str, folder: Path, blocks: Blocks, fragments: Fragmenting, place: tuple[int, int, int]
) -> None:
    """Find the supervoxels of one block; runs on a worker."""
    prepare_block(
        open_affinities(source), folder, fragments.of, place, block=blocks.shape, overlap=blocks.margin,
        about=repr(fragments),
    )  # fmt: skip
