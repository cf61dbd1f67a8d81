"""Region graph: which labels touch, and statistics of their boundaries that can be merged by adding."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.segment import _graph_kernels as kernels
from napari_em_seg.segment._graph_kernels import BINS, STEPS
from napari_em_seg.volume import ArrayLike, Progress, VoxelSize, as_voxel_size

__all__ = ["BINS", "STEPS", "RegionGraph", "Shift", "merge_graphs", "region_graph"]

Shift = tuple[int, int, int]
Labels = NDArray[np.uint32]
Sums = NDArray[np.int64]

_SLICES = 4  # read at a time by each thread
_SPARE = 1.25  # room for more than is expected
_SOON = 0.1  # share of rows before which nothing is expected: the first slice has none before it


@dataclass(frozen=True, eq=False)
class RegionGraph:
    r"""Labels that touch, and what is known of their boundaries and of themselves.

    Everything can be merged: where two boundaries or two regions become one, their rows are added (the least
    and greatest values: the least and greatest taken), and give exactly what a look at the voxels would. For a
    boundary with the affinities :math:`a_k` (whole steps, :math:`a / 65280`) at the faces :math:`k`,

    .. math:: n = \sum_k 1, \quad s = \sum_k a_k, \quad q = \sum_k a_k^2, \quad
              \bar a = s / n, \quad \operatorname{var} a = q / n - \bar a^2.

    Channels are z, y, x: faces across each of these axes, kept apart.

    Attributes
    ----------
    labels
        The nodes (m,), increasing.
    edges
        Pairs of labels (n, 2), the smaller one first, in lexicographic order.
    histogram
        Faces (n, 3, 32) by channel and affinity, in bins of equal width.
    sums
        Whole numbers (n, 15): faces, affinities, squared affinities (three channels each); twice the position
        and four times the squared position of the middle of the faces (z, y, x each).
    extremes
        Least and greatest affinity in steps (n, 3, 2); (65535, 0) where a channel has no faces.
    node_sums
        Whole numbers (m, 10): voxels, positions z, y, x, and products of positions zz, yy, xx, zy, zx, yx.
    boxes
        First and last z, y, x (m, 6): three that are least, three that are greatest.
    voxel_size
        Of the labels, (z, y, x); lengths and areas in features are in its unit.
    """

    labels: Labels
    edges: Labels
    histogram: NDArray[np.uint32]
    sums: Sums
    extremes: NDArray[np.uint16]
    node_sums: Sums
    boxes: NDArray[np.int32]
    voxel_size: VoxelSize = (1.0, 1.0, 1.0)

    @property
    def contacts(self) -> Sums:
        """Faces of each edge across z, y and x."""
        return self.sums[:, :3]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean affinity of each edge, all channels together."""
        return np.asarray(self.sums[:, 3:6].sum(1) / (STEPS * self.contacts.sum(1)))

    @property
    def contact_centres(self) -> NDArray[np.float64]:
        """Mean position (z, y, x) of the faces of each edge, in voxels."""
        return np.asarray(self.sums[:, 9:12] / (2 * self.contacts.sum(1, keepdims=True)))

    @property
    def sizes(self) -> Sums:
        """Voxels of each node."""
        return self.node_sums[:, 0]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Mean position (z, y, x) of each node, in voxels."""
        return np.asarray(self.node_sums[:, 1:4] / self.node_sums[:, :1])

    @cached_property
    def ends(self) -> NDArray[np.int32]:
        """The places of both ends of each edge among the labels."""
        return np.searchsorted(self.labels, self.edges).astype(np.int32)


def region_graph(
    labels: ArrayLike,
    affinities: ArrayLike,
    *,
    voxel_size: object = (1.0, 1.0, 1.0),
    origin: Shift = (0, 0, 0),
    margin: Shift = (0, 0, 0),
    progress: Progress = None,
) -> RegionGraph:
    """Gather the statistics of all boundaries between labels in one pass over the voxels.

    The graph of a volume is the sum (`merge_graphs`) of those of its blocks, to the last digit. Each voxel
    belongs to one block; a block that has another one before it along an axis reads its last plane as margin.

    Memory: a few slices for each thread, and about 600 bytes for each edge.

    Parameters
    ----------
    labels
        Label of each voxel (z, y, x); 0 is nothing, and touches nothing. Read slab by slab.
    affinities
        (3, z, y, x): that of each voxel with its neighbour at −1 along z, y and x; floats from 0 to 1, or
        uint8 from 0 to 255. Only those between two labels count.
    voxel_size
        (z, y, x), in nanometres or any other unit.
    origin
        The place of the first voxel in the whole volume.
    margin
        Along each axis, how many of the first planes (0 or 1) are there as neighbours only.
    progress
        Called with slices done and slices in all.

    Raises
    ------
    DataError
        Shapes, types or values are not those above.
    """
    _check(labels, affinities, origin, margin)
    size, n = as_voxel_size(voxel_size), labels.shape[0] - margin[0]
    report, n_parts = _Report(n, progress), max(1, min(os.cpu_count() or 1, 8, n // _SLICES))
    limits = [margin[0] + n * i // n_parts for i in range(n_parts + 1)]

    def part(i: int) -> RegionGraph:
        return _gathered(labels, affinities, (limits[i], limits[i + 1]), origin, margin, size, report)

    with ThreadPoolExecutor(n_parts) as pool:
        parts = list(pool.map(part, range(n_parts)))
    return merge_graphs(parts)


def merge_graphs(graphs: Iterable[RegionGraph]) -> RegionGraph:
    """Sum graphs of blocks whose labels are those of one volume; see `region_graph` for how to cut blocks."""
    parts = list(graphs)
    if not parts or any(part.voxel_size != parts[0].voxel_size for part in parts):
        sizes = sorted({part.voxel_size for part in parts})
        raise DataError(f"There are {len(parts)} graphs, of the voxel sizes {sizes}",
                        "graphs of blocks of one volume", "Make them with the same voxel size")  # fmt: skip
    keys = np.unique(np.concatenate([_keys(part.edges) for part in parts]))
    labels = np.unique(np.concatenate([part.labels for part in parts]))
    graph = _empty(keys, labels, parts[0].voxel_size)
    for part in parts:
        _add(graph, part, np.searchsorted(keys, _keys(part.edges)), np.searchsorted(labels, part.labels))
    return graph


def _empty(keys: NDArray[np.uint64], labels: Labels, voxel_size: VoxelSize) -> RegionGraph:
    """Return a graph of which nothing is known yet but its edges and nodes."""
    n, m = len(keys), len(labels)
    extremes, boxes = np.zeros((n, 3, 2), np.uint16), np.full((m, 6), -1, np.int32)
    extremes[..., 0], boxes[:, :3] = 0xFFFF, 0x7FFFFFFF
    return RegionGraph(
        labels, _edges(keys), np.zeros((n, 3, BINS), np.uint32), np.zeros((n, 15), np.int64), extremes,
        np.zeros((m, 10), np.int64), boxes, voxel_size,
    )  # fmt: skip


def _add(graph: RegionGraph, part: RegionGraph, edge: NDArray[np.intp], node: NDArray[np.intp]) -> None:
    """Add the rows of a part, in any order but each edge and node once, to those of the whole."""
    n = len(edge)
    kernels.add_rows(part.histogram.reshape(n, 3 * BINS), edge, graph.histogram.reshape(-1, 3 * BINS))
    kernels.add_rows(part.sums, edge, graph.sums)
    kernels.add_rows(part.node_sums, node, graph.node_sums)
    for rows, place, whole, low, high in (
        (part.extremes, edge, graph.extremes, np.s_[..., 0], np.s_[..., 1]),
        (part.boxes, node, graph.boxes, np.s_[:, :3], np.s_[:, 3:]),
    ):
        met = whole[place]
        met[low], met[high] = np.minimum(met[low], rows[low]), np.maximum(met[high], rows[high])
        whole[place] = met


class _Report:
    """Adds up the slices of all threads."""

    def __init__(self, n_slices: int, progress: Progress) -> None:
        self._n_slices, self._progress, self._done, self._lock = n_slices, progress, 0, Lock()

    def __call__(self, n_slices: int) -> None:
        with self._lock:
            self._done += n_slices
            if self._progress is not None:
                self._progress(self._done, self._n_slices)


def _gathered(
    labels: ArrayLike, affinities: ArrayLike, slices: tuple[int, int], origin: Shift, margin: Shift,
    voxel_size: VoxelSize, report: _Report,
) -> RegionGraph:  # fmt: skip
    """Return the graph of some slices, in no order yet; the slice before them is read as a neighbour."""
    tables, scale = kernels.empty_tables(), 256.0 if affinities.dtype == np.uint8 else float(STEPS)
    for start in range(slices[0], slices[1], _SLICES):
        stop, low = min(start + _SLICES, slices[1]), max(start - 1, 0)
        slab = _as_labels(np.asarray(labels[low:stop]))
        values = np.asarray(affinities[:, low:stop])
        values = values.astype(np.uint8 if scale == 256 else np.float32, order="C", copy=False)
        place = np.array((origin[0] + low, origin[1], origin[2]), np.int64)
        edge = np.array((start - low, margin[1], margin[2]), np.int64)
        n_rows, row = (stop - start) * (slab.shape[1] - margin[1]), 0
        while row < n_rows:
            share = (start - slices[0] + (stop - start) * row / n_rows) / (slices[1] - slices[0])
            tables = _with_room(tables, slab.shape[2], share)
            row = kernels.accumulate(slab, values, scale, place, edge, row, tables)
        _check_values(tables, low, stop)
        report(stop - start)
    n, m = int(tables.used[0]), int(tables.used[1])
    return RegionGraph(
        tables.node_labels[:m].astype(np.uint32), _edges(tables.edge_keys[:n]), tables.histogram[:n],
        tables.sums[:n], tables.extremes[:n], tables.node_sums[:m], tables.boxes[:m], voxel_size,
    )  # fmt: skip


def _with_room(tables: kernels.Tables, width: int, share: float) -> kernels.Tables:
    """Return tables that take at least another row: each voxel of it may begin three edges.

    From the share of rows that is done follows how large they become: to copy them again and again would take
    as long as to fill them.
    """
    for i, (new, room, grown) in enumerate(
        ((3, len(tables.edge_keys), kernels.grown_edges), (4, len(tables.node_labels), kernels.grown_nodes))
    ):
        used = int(tables.used[i])
        if used + new * width > room:
            expected = int(_SPARE * used / share) if share > _SOON else 0
            needed = max(2 * room, expected, used + new * width)
            tables = grown(tables, 1 << (needed - 1).bit_length())
    return tables


def _keys(edges: Labels) -> NDArray[np.uint64]:
    wide = edges.astype(np.uint64)
    return np.asarray(wide[:, 0] << np.uint64(32) | wide[:, 1])


def _edges(keys: NDArray[np.uint64]) -> Labels:
    return np.stack((keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)), 1).astype(np.uint32)


def _as_labels(slab: NDArray[Any]) -> Labels:
    if slab.dtype.itemsize > 4 or slab.dtype.kind == "i":
        low, high = int(slab.min(initial=0)), int(slab.max(initial=0))
        if low < 0 or high > 0xFFFFFFFF:
            raise DataError(f"Labels go from {low} to {high}", "labels from 0 to 4294967295 (uint32)",
                            "Number the labels anew")  # fmt: skip
    return np.ascontiguousarray(slab, np.uint32)


def _check(labels: ArrayLike, affinities: ArrayLike, origin: Shift, margin: Shift) -> None:
    shape, kind = tuple(labels.shape), affinities.dtype.kind
    if len(shape) != 3 or 0 in shape or labels.dtype.kind not in "iu":
        raise DataError(f"The labels have the shape {shape} and the type {labels.dtype}",
                        "whole numbers (z, y, x)", "Give a segmentation of a stack")  # fmt: skip
    if tuple(affinities.shape) != (3, *shape) or not (kind == "f" or affinities.dtype == np.uint8):
        raise DataError(f"The affinities have the shape {tuple(affinities.shape)}, the type {affinities.dtype}",
                        f"the shape {(3, *shape)}, floats from 0 to 1 or uint8",
                        "Give those to the neighbours at -1 along z, y and x, of the same crop")  # fmt: skip
    if any(m not in (0, 1) or m >= n for m, n in zip(margin, shape, strict=True)) or min(origin) < 0:
        raise DataError(f"The margin is {margin} and the origin {origin}, for labels of the shape {shape}",
                        "0 or 1 plane along each axis beside one that counts, and an origin from 0 on",
                        "Cut the block anew")  # fmt: skip


def _check_values(tables: kernels.Tables, low: int, stop: int) -> None:
    if tables.used[2]:
        raise DataError(f"{int(tables.used[2])} affinities in slices {low} to {stop - 1} are not from 0 to 1",
                        "floats from 0 to 1 (NaN is none), or uint8 from 0 to 255",
                        "Scale them, or check the prediction")  # fmt: skip
