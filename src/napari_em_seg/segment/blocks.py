"""Volumes larger than memory: supervoxels block by block, stitched where blocks overlap, agglomerated once."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_em_seg.errors import DataError
from napari_em_seg.segment._block_files import Files, sample_of
from napari_em_seg.segment._block_work import Passes, Supervoxels, Work, Writable
from napari_em_seg.segment._stitch import grid
from napari_em_seg.segment.agglomerate import Score, agglomerate
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import RegionGraph, Shift, merge_graphs
from napari_em_seg.volume import ArrayLike, Progress, as_voxel_size

__all__ = ["Supervoxels", "Writable", "graph_in_blocks", "places_of", "prepare_block", "segment_in_blocks"]


def segment_in_blocks(
    affinities: ArrayLike,
    folder: Path,
    supervoxels: Supervoxels,
    *,
    block: Shift,
    overlap: Shift,
    score: Score = "mean",
    quantile: float = 0.5,
    share: float = 0.5,
    voxel_size: object = (1.0, 1.0, 1.0),
    out: Writable | None = None,
    about: str = "",
    threads: int = 1,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Writable, MergeTree]:
    """Return the supervoxels of a volume that is worked on in blocks, and the tree of all their merges.

    The tree is that of `agglomerate` for the graph of the whole volume, so it can be cut at any threshold. It
    is not kept in the folder, and made anew each time: another score takes no other folder. For parameters,
    files, memory and errors see `graph_in_blocks`; for scores and quantiles `agglomerate`.
    """
    labels, graph = graph_in_blocks(
        affinities, folder, supervoxels, block=block, overlap=overlap, share=share, voxel_size=voxel_size,
        out=out, about=about, threads=threads, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    return labels, agglomerate(graph, score, quantile=quantile, cancelled=cancelled)


def graph_in_blocks(
    affinities: ArrayLike,
    folder: Path,
    supervoxels: Supervoxels,
    *,
    block: Shift,
    overlap: Shift,
    share: float = 0.5,
    voxel_size: object = (1.0, 1.0, 1.0),
    out: Writable | None = None,
    about: str = "",
    threads: int = 1,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Writable, RegionGraph]:
    """Return the supervoxels of a volume that is worked on in blocks, and their region graph.

    Supervoxels of neighbouring blocks (with a common face) are one where each has its largest overlap with the
    other in what both blocks read, `_stitch.same_labels`; also through other blocks. A voxel takes its label
    from the block that has it in its core. The graph is that of the labels, to the last digit.

    The result depends neither on threads nor on when a run was killed. It is that of the whole volume at once
    where the blocks agree on what they share. With a watershed they do not quite: at the border of what a block
    reads, basins and segments are cut off, so they flow and join in another way, and supervoxels that neither
    block finds like the other stay cut at the border of their cores. Cuts inside an object are mostly mended
    by agglomeration. `benchmarks/blocks.py` says how much is left; more overlap leaves less.

    Each block is written into the folder once it is done, whole or not at all; a run with the same folder goes
    on with what is missing or damaged. Labels are written to `out` anew.

    Memory, for each thread: a block with its overlap, and what `supervoxels` takes for it; then the graph,
    twice; and the labels where there is no `out`.

    Parameters
    ----------
    affinities
        (3, z, y, x): that of each voxel with its neighbour at −1 along z, y and x; floats from 0 to 1, or
        uint8 from 0 to 255. Read block by block.
    folder
        Where to keep blocks. Each takes about a third of a byte for each voxel, overlap included, and 55 bytes
        for each edge of its graph. The folder is made if it is missing.
    supervoxels
        Returns the labels (z, y, x) of the affinities of a block, as from `zwatershed`; 0 is background. The
        same affinities must give the same labels. With several threads it is called by all of them.
    block
        Voxels of each block (z, y, x) without overlap. Multiples of the chunks of files are read fastest.
    overlap
        How many voxels more are read on each side (z, y, x), at most those of a block. With 0, nothing is
        stitched along that axis, and all joining across it left to agglomeration.
    share
        How much of both supervoxels the overlap must be, from 0 to 1, in what both blocks read.
    voxel_size
        (z, y, x), in nanometres or any other unit.
    out
        Where to write the labels: whole numbers of 32 bits or more, of the shape of the volume.
    about
        How supervoxels are made, in words; to tell a folder with others, which is refused.
    threads
        Blocks at once. `zwatershed` has threads of its own.
    progress
        Called with steps done and steps in all, four for each block.
    cancelled
        Asked before each step, by all threads; once it says true, `Cancelled` is raised. What is done is kept.

    Raises
    ------
    DataError
        An argument is not one of those above.
    FormatError
        The folder belongs to other affinities or arguments.
    """
    _check(affinities, block, overlap, share, threads)
    shape, size = tuple(affinities.shape[1:]), as_voxel_size(voxel_size)
    labels: Writable = np.zeros(shape, np.uint32) if out is None else _checked_out(out, shape)
    work = _work(affinities, folder, supervoxels, block, overlap, share, about)
    passes = Passes(list(work.blocks.values()), threads, progress, cancelled)
    passes.run(0, work.prepare)
    names = work.names(passes)
    passes.run(2, lambda one: work.write(one, names[one.place], labels))
    graph = _summed(passes(3, lambda one: work.graph(one, labels)))
    return labels, replace(graph, voxel_size=size)


def places_of(shape: tuple[int, ...], block: Shift, overlap: Shift) -> list[tuple[int, int, int]]:
    """Return which block each one of a volume is, along z, y and x, in order."""
    return list(grid(shape, block, overlap))


def prepare_block(
    affinities: ArrayLike,
    folder: Path,
    supervoxels: Supervoxels,
    place: tuple[int, int, int],
    *,
    block: Shift,
    overlap: Shift,
    share: float = 0.5,
    about: str = "",
) -> None:
    """Find the supervoxels of one block and keep them, as another process may, for `graph_in_blocks`.

    That takes longest by far; it goes on with what is in the folder. Arguments are the same.
    """
    _check(affinities, block, overlap, share, 1)
    work = _work(affinities, folder, supervoxels, block, overlap, share, about)
    work.prepare(work.blocks[place])


def _work(
    affinities: ArrayLike, folder: Path, supervoxels: Supervoxels, block: Shift, overlap: Shift, share: float,
    about: str,
) -> Work:  # fmt: skip
    """Open the folder of a run, or make it."""
    shape = tuple(affinities.shape[1:])
    blocks = grid(shape, block, overlap)
    run = {
        "version": 1, "shape": [int(n) for n in shape], "dtype": str(np.dtype(affinities.dtype)),
        "block": [int(n) for n in block], "overlap": [int(n) for n in overlap], "share": float(share),
        "about": about, "sample": sample_of(affinities, blocks.values()),
    }  # fmt: skip
    return Work(affinities, supervoxels, blocks, Files.opened(Path(folder), run), float(share))


def _summed(graphs: Iterable[RegionGraph]) -> RegionGraph:
    """Sum as many with as many, so that no row is copied more often than the logarithm of their number."""
    parts: list[tuple[int, RegionGraph]] = []
    for graph in graphs:
        n = 1
        while parts and parts[-1][0] == n:
            graph, n = merge_graphs((parts.pop()[1], graph)), 2 * n
        parts.append((n, graph))
    return merge_graphs(graph for _, graph in parts)


def _checked_out(out: Writable, shape: tuple[int, ...]) -> Writable:
    dtype = np.dtype(out.dtype)
    if tuple(out.shape) != shape or dtype.kind not in "iu" or dtype.itemsize < 4:
        raise DataError(f"The array to write to is {dtype} of the shape {tuple(out.shape)}",
                        f"whole numbers of 32 bits or more of the shape {shape}", "Make it uint32")  # fmt: skip
    return out


def _check(affinities: ArrayLike, block: Shift, overlap: Shift, share: float, threads: int) -> None:
    shape, dtype = tuple(affinities.shape), np.dtype(affinities.dtype)
    if len(shape) != 4 or shape[0] != 3 or 0 in shape or not (dtype.kind == "f" or dtype == np.uint8):
        raise DataError(f"The affinities have the shape {shape} and the type {dtype}",
                        "(3, z, y, x), floats from 0 to 1 or uint8",
                        "Give those to the neighbours at −1 along z, y and x")  # fmt: skip
    sizes = (*block, *overlap)
    is_whole = len(block) == len(overlap) == 3 and all(isinstance(n, int | np.integer) for n in sizes)
    if not is_whole or min(block) < 1 or not all(0 <= m <= n for m, n in zip(overlap, block, strict=True)):
        raise DataError(f"The blocks are {tuple(block)} with an overlap of {tuple(overlap)}",
                        "three whole numbers of voxels (z, y, x) each, overlaps from 0 up to the block",
                        "Take larger blocks, or less overlap")  # fmt: skip
    if not 0 <= share <= 1 or threads < 1:
        raise DataError(f"The share is {share}, and there are {threads} threads",
                        "a share from 0 to 1, and one thread at least", "Leave them out")  # fmt: skip
