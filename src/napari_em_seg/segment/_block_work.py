"""The steps that each block of a volume goes through: supervoxels, links to others, names, graph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled, DataError, FormatError
from napari_em_seg.segment import _basin_links
from napari_em_seg.segment._block_files import Arrays, Files, Types
from napari_em_seg.segment._stitch import Block, Link, Place, same_labels, stitched, within
from napari_em_seg.segment.region_graph import RegionGraph, region_graph
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Passes", "Supervoxels", "Work", "Writable"]

Supervoxels = Callable[[NDArray[Any]], NDArray[Any]]
T = TypeVar("T")

_LABELS: Types = {"labels": (np.uint32, 3), "sizes": (np.int64, 1)}
_NAMES: Types = {"names": (np.uint32, 1), "starts": (np.int64, 1)}
_GRAPH: Types = {
    "labels": (np.uint32, 1), "edges": (np.uint32, 2), "histogram": (np.uint32, 3), "sums": (np.int64, 2),
    "extremes": (np.uint16, 3), "node_sums": (np.int64, 2), "boxes": (np.int32, 2),
}  # fmt: skip


class Writable(ArrayLike, Protocol):
    """An array that takes what is written to a part of it: numpy, a memory map, h5py, Zarr."""

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Write a part."""
        ...


@dataclass(frozen=True)
class Work:
    """The steps of each block."""

    affinities: ArrayLike
    supervoxels: Supervoxels
    blocks: Mapping[Place, Block]
    files: Files
    share: float
    writing: Lock = field(default_factory=Lock)

    def prepare(self, block: Block) -> None:
        """Make the supervoxels unless they are there; whether they are whole shows when they are needed."""
        if not self.files.path(_name("supervoxels", block)).exists():
            self.labels(block)

    def labels(self, block: Block) -> Arrays:
        """Return the supervoxels in the region, from 1 on, and their voxels in the core."""
        return self.files.kept(_name("supervoxels", block), _LABELS, lambda: self._made(block))

    def linked(self, block: Block) -> tuple[NDArray[np.int64], list[Link]]:
        """Return the voxels of the supervoxels in the core, and which are the same in the blocks before."""
        own, links = self.labels(block), []
        for place in block.before():
            other = self.blocks[place]
            shared = block.shared(other)
            if shared is not None:
                theirs = self.labels(other)["labels"][within(shared, other.region)]
                ours = own["labels"][within(shared, block.region)]
                links.append((place, block.place, same_labels(theirs, ours, self.share)))
        return own["sizes"], links

    def names(self, passes: "Passes") -> dict[Place, NDArray[np.uint32]]:
        """Return the name in the whole volume of each supervoxel of each block."""

        def make() -> Arrays:
            sizes, links = zip(*passes(1, self.linked), strict=True)
            names, starts = stitched(
                dict(zip(self.blocks, sizes, strict=True)), [k for some in links for k in some]
            )
            return {"names": names, "starts": starts}

        kept = self.files.kept("names", _NAMES, make)
        limits = pairwise(kept["starts"].tolist())
        return {place: kept["names"][slice(*pair)] for place, pair in zip(self.blocks, limits, strict=True)}

    def write(self, block: Block, names: NDArray[np.uint32], out: Writable) -> None:
        """Write the core, one block at a time: two may lie in the same chunk of a file."""
        own = self.labels(block)
        if len(own["sizes"]) != len(names):
            came = f"Block {_text(block)} now has {len(own['sizes']) - 1} supervoxels, and had {len(names) - 1}"
            raise FormatError(came, "the same each time", "Empty the folder to begin anew")
        core = names[own["labels"][block.inside]].astype(out.dtype, copy=False)
        with self.writing:
            out[block.core] = core

    def graph(self, block: Block, labels: Writable) -> RegionGraph:
        """Return the graph of the core; the plane before it, along each axis that has one, is its margin."""
        z, y, x = (slice(max(axis.start - 1, 0), axis.stop) for axis in block.core)
        origin = z.start, y.start, x.start
        margin = tuple(int(axis.start > first) for axis, first in zip(block.core, origin, strict=True))

        def make() -> Arrays:
            part, values = np.asarray(labels[z, y, x]), np.asarray(self.affinities[:, z, y, x])
            with _told_where(block):
                graph = region_graph(part, values, origin=origin, margin=(margin[0], margin[1], margin[2]))
            return {name: getattr(graph, name) for name in _GRAPH}

        kept: dict[str, Any] = self.files.kept(_name("graph", block), _GRAPH, make)
        return RegionGraph(**kept)

    def _made(self, block: Block) -> Arrays:
        values = np.asarray(self.affinities[(slice(None), *block.region)])
        with _told_where(block):
            labels = _numbered(np.asarray(self.supervoxels(values)), values.shape[1:])
        sizes = np.zeros(int(labels.max()) + 1, np.int64)
        _basin_links.count(np.ascontiguousarray(labels[block.inside]).reshape(-1), sizes)
        return {"labels": labels, "sizes": sizes}


@dataclass(frozen=True)
class Passes:
    """Goes over all blocks, again and again, in threads."""

    blocks: Sequence[Block]
    threads: int
    progress: Progress
    cancelled: Callable[[], bool] | None

    def __call__(self, n: int, function: Callable[[Block], T]) -> Iterator[T]:
        """Yield what the function returns for each block, in order; this is the pass n, of four."""

        def step(block: Block) -> T:
            if self.cancelled is not None and self.cancelled():
                raise Cancelled("The segmentation in blocks was cancelled")
            return function(block)

        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for i, result in enumerate(pool.map(step, self.blocks)):
                    yield result
                    if self.progress is not None:
                        self.progress(n * len(self.blocks) + i + 1, 4 * len(self.blocks))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def run(self, n: int, function: Callable[[Block], object]) -> None:
        """Do the same where nothing is returned."""
        for _ in self(n, function):
            pass


def _numbered(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Return the labels as 1, 2 … in the same order."""
    if labels.shape != shape or labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        raise DataError(f"The supervoxels are {labels.dtype} numbers in the shape {labels.shape}",
                        f"labels from 0 on in the shape {shape}",
                        "Let the function return one for each voxel")  # fmt: skip
    if int(labels.max()) > 2 * labels.size:  # a table of all numbers would be larger than they are
        found, places = np.unique(labels, return_inverse=True)
        return np.asarray(places.reshape(shape) + (found[0] > 0), np.uint32)
    whole = np.ascontiguousarray(labels, np.uint32)
    sizes = np.zeros(int(whole.max()) + 1, np.int64)
    _basin_links.count(whole.reshape(-1), sizes)
    sizes[0] = 0
    numbered = np.empty_like(whole)
    table = np.where(sizes > 0, np.cumsum(sizes > 0), 0).astype(np.uint32)
    _basin_links.relabel(whole.reshape(-1), table, numbered.reshape(-1))
    return numbered


@contextmanager
def _told_where(block: Block) -> Iterator[None]:
    """Say in errors which block is meant."""
    try:
        yield
    except DataError as error:
        raise DataError(f"Block {_text(block)}: {error.came}", error.expected, error.do) from error


def _name(kind: str, block: Block) -> str:
    return "-".join((kind, *map(str, block.place)))


def _text(block: Block) -> str:
    return "[" + ", ".join(f"{axis.start}:{axis.stop}" for axis in block.region) + "]"
