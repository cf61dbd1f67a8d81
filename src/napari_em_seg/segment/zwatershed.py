"""Z-watershed of affinities: voxels climb along their strongest edges, small segments join others by size."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.segment import _affinities as given
from napari_em_seg.segment import _basin_links, _steepest
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["link_by_size", "max_affinity_graph", "remove_dust", "steepest_ascent", "zwatershed"]

Labels = NDArray[np.uint32]
Weights = NDArray[np.float32]
T = TypeVar("T")

_SLAB = 4  # slices read at once


def zwatershed(
    affinities: ArrayLike,
    *,
    low: float,
    high: float,
    size_threshold: int,
    weight_threshold: float,
    dust: int,
    mask: ArrayLike | None = None,
    progress: Progress = None,
) -> Labels:
    """Segment by the z-watershed: steepest ascent, size-dependent single linkage, removal of dust.

    After Zlateski and Seung, "Image segmentation by size-dependent single linkage clustering of a watershed
    basin graph" (2015). Its steps are `steepest_ascent`, `max_affinity_graph`, `link_by_size`, `remove_dust`.

    The affinities are read twice, a few slices at a time. Memory beside them and the mask: 4 bytes per voxel,
    which are the result, about 100 per pair of basins with an affinity of at least ``weight_threshold``, and
    for a while another 4 per voxel with several equally strong edges below ``high``.

    Parameters
    ----------
    affinities
        ``affinities[c, z, y, x]`` joins a voxel to its neighbour at −1 along axis c of (z, y, x): floats from 0
        to 1, or uint8 from 0 to 255, which stands for the same. Edges out of the volume do not count.
    low
        Weaker edges are removed.
    high
        Edges as strong as this, or stronger, always join.
    size_threshold
        Segments of fewer voxels are joined to another one, if they can be.
    weight_threshold
        The least affinity across which they are.
    dust
        Segments of fewer voxels that are left then become background.
    mask
        True (z, y, x) where there is tissue; elsewhere the label is 0, and nothing passes.
    progress
        Called with slices done and slices in all.

    Returns
    -------
    labels
        From 1 to the number of segments, in the order in which they are met; 0: background.

    Raises
    ------
    DataError
        The affinities are not affinities, or an argument does not fit them.
    """
    given.check_affinities(affinities, mask)
    given.check_thresholds(low, high)
    given.check_linkage(size_threshold, weight_threshold)
    given.check_size(dust)
    report = _Report(affinities.shape[1], progress, 2)
    labels = _ascend(affinities, low, high, mask, report)
    edges, weights = _graph(labels, affinities, weight_threshold, report)
    sizes = _sizes(labels)
    table = link_by_size(edges, weights, sizes, size_threshold, weight_threshold)
    merged = np.bincount(table, sizes).astype(np.int64)  # exact below 2⁵³
    return _relabelled(labels, _kept(merged, dust)[table], labels)


def steepest_ascent(
    affinities: ArrayLike,
    low: float,
    high: float,
    mask: ArrayLike | None = None,
    progress: Progress = None,
) -> Labels:
    r"""Segment into the basins of attraction of steepest ascent, in nearly linear time.

    Voxels are joined by edges of affinity :math:`a`, and

    .. math:: w(u, v) = \min(a(u, v), high) \text{ where } a(u, v) \ge low \text{ and } a(u, v) > 0

    are those that count. A voxel without any is background. Every other one points along its strongest edges:

    .. math:: u \to v \iff w(u, v) = \max_t w(u, t)

    A plateau is connected by edges that point both ways. One with exits, edges that only point out of it, is
    divided: each voxel goes to the nearest voxel with an exit (in steps on the plateau), of equally near ones
    to the first in C order, and that one takes the exit to the first of its neighbours. Voxels that now run to
    the same plateau without exits, a local maximum of affinity, are one basin. So nothing is left to the order
    of computing; and edges of at least ``high`` always join, since from there nothing leads to stronger ones.

    Memory, parameters and errors are those of `zwatershed`.
    """
    given.check_affinities(affinities, mask)
    given.check_thresholds(low, high)
    return _ascend(affinities, low, high, mask, _Report(affinities.shape[1], progress, 1))


def max_affinity_graph(labels: Labels, affinities: ArrayLike, least: float = 0.0) -> tuple[Labels, Weights]:
    r"""Return which segments touch, and the greatest affinity between them.

    .. math:: w(A, B) = \max_{u \in A,\, v \in B} a(u, v)

    Parameters
    ----------
    labels
        Segment of each voxel; 0 is background and touches nothing.
    affinities
        As for `zwatershed`; read a few slices at a time.
    least
        Leave out pairs whose greatest affinity is less.

    Returns
    -------
    edges
        Pairs (k, 2) of segments, the smaller label first, in rising order.
    weights
        Affinities from 0 to 1, whatever the type of those given.
    """
    given.check_affinities(affinities, None)
    given.check_weight(least)
    given.check_labels(labels, affinities)
    return _graph(np.ascontiguousarray(labels, np.uint32), affinities, least, _Report(len(labels), None, 1))


def link_by_size(
    edges: NDArray[Any],
    weights: NDArray[Any],
    sizes: NDArray[Any],
    size_threshold: int,
    weight_threshold: float,
) -> Labels:
    r"""Join small segments across their strongest edges: single linkage that depends on size.

    Edges are visited by falling weight, equal ones by rising index, down to ``weight_threshold``. One joins the
    segments A and B that its ends belong to by then if

    .. math:: \min(|A|, |B|) < size\_threshold

    Parameters
    ----------
    edges
        Pairs (k, 2) of labels; of several between the same two the strongest decides.
    weights
        Their weights, not negative, with or without order.
    sizes
        Number of voxels of each label; the first is that of the background, which no edge may have as its end.
    size_threshold, weight_threshold
        As for `zwatershed`.

    Returns
    -------
    table
        The new label of each old one: 0 for 0, and from 1 on in the order of the least label of each group.
    """
    given.check_linkage(size_threshold, weight_threshold)
    edges, weights, sizes = np.asarray(edges), np.asarray(weights), np.asarray(sizes)
    given.check_graph(edges, weights, sizes)
    first = _basin_links.link(
        edges, _falling(weights, weight_threshold), sizes.astype(np.int64), int(size_threshold)
    )
    is_first = first == np.arange(len(sizes), dtype=np.uint32)
    return (np.cumsum(is_first, dtype=np.uint32) - np.uint32(1))[first]


def remove_dust(labels: Labels, size: int) -> Labels:
    """Return labels where segments of fewer voxels became 0, and the others are 1, 2 … in the same order."""
    given.check_size(size)
    given.check_labels(labels, None)
    whole = np.ascontiguousarray(labels, np.uint32)
    return _relabelled(whole, _kept(_sizes(whole), size), np.empty_like(whole))


class _Report:
    """Adds up slices over all passes and tells how many that makes of one."""

    def __init__(self, n_slices: int, progress: Progress, n_passes: int) -> None:
        self._n_slices, self._progress, self._n_passes, self._done = n_slices, progress, n_passes, 0

    def __call__(self, n_slices: int) -> None:
        self._done += n_slices
        if self._progress is not None:
            self._progress(self._done // self._n_passes, self._n_slices)


def _over_slabs(function: Callable[[int, int], T], report: _Report, depth: int) -> Iterator[T]:
    """Call the function for the bounds of all slabs, in a few threads; yield results in order."""
    starts = range(0, depth, _SLAB)
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        try:
            for start, result in zip(
                starts, pool.map(lambda z: function(z, min(z + _SLAB, depth)), starts), strict=True
            ):
                yield result
                report(min(_SLAB, depth - start))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ascend(affinities: ArrayLike, low: float, high: float, mask: ArrayLike | None, report: _Report) -> Labels:
    """Do the work of `steepest_ascent`, where all was checked."""
    depth, rows, width = shape = affinities.shape[1:]
    pointers = np.empty(shape, np.uint32)
    least, most = given.native(low, affinities.dtype), given.native(high, affinities.dtype)

    def climb(start: int, stop: int) -> int:
        slab = given.read_slab(affinities, slice(None), start, stop)
        last = given.read_slab(affinities, slice(0, 1), stop, stop + 1)[0] if stop < depth else slab[0, -1:]
        n_tied = 0
        for z in range(start, stop):
            after = slab[0, z + 1 - start] if z + 1 < stop else last[0]
            planes = tuple(slab[:, z - start])
            n_tied += _steepest.climb(
                planes, after, given.read_mask(mask, z, depth), least, most, z, depth, pointers[z]
            )
        return n_tied

    n_tied = sum(_over_slabs(climb, report, depth))
    flat = pointers.reshape(-1)
    _steepest.level_out(flat, np.empty(n_tied, np.uint32), (depth, rows, width))
    _steepest.number(flat)
    return pointers


def _graph(labels: Labels, affinities: ArrayLike, least: float, report: _Report) -> tuple[Labels, Weights]:
    """Do the work of `max_affinity_graph`, where all was checked."""
    weakest = given.native(least, affinities.dtype)

    def collect(start: int, stop: int) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
        slab = given.read_slab(affinities, slice(None), start, stop)
        parts = []
        for z in range(start, stop):
            before = labels[z - 1] if z > 0 else labels[0, :0]
            parts.append(_basin_links.collect(tuple(slab[:, z - start]), labels[z], before, weakest))
        return parts

    parts = [part for slab in _over_slabs(collect, report, len(labels)) for part in slab]
    keys, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    order = np.argsort(keys)
    keys, weights = keys[order], weights[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if len(starts):
        keys, weights = keys[starts], np.maximum.reduceat(weights, starts)
    edges = np.stack((keys >> 32, keys & 0xFFFFFFFF), axis=1).astype(np.uint32)
    return edges, given.BYTES[weights] if weights.dtype == np.uint8 else weights


def _sizes(labels: Labels) -> NDArray[np.int64]:
    """Count the voxels of each label, from 0 to the greatest."""
    sizes = np.zeros(int(labels.max()) + 1, np.int64)
    _basin_links.count(labels.reshape(-1), sizes)
    return sizes


def _falling(weights: NDArray[Any], least: float) -> NDArray[np.int64]:
    """Return where the weights are at least this, greatest first, equal ones as they come, by a radix sort.

    The bits of numbers that are not negative rise with them; turned over, they fall. numpy sorts 16 bits in
    linear time.
    """
    places = np.flatnonzero(weights >= least)
    bits = ~(weights[places].astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: there is a −0
    order = np.argsort((bits & np.uint32(0xFFFF)).astype(np.uint16), kind="stable")
    order = order[np.argsort((bits >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    return np.asarray(places[order])


def _kept(sizes: NDArray[np.int64], least: int) -> Labels:
    """Return the new label of each one: 0 where it has fewer voxels, for the others 1, 2 … in order."""
    is_kept = sizes >= least
    is_kept[0] = False
    is_kept &= sizes > 0
    return np.where(is_kept, np.cumsum(is_kept, dtype=np.uint32), np.uint32(0)).astype(np.uint32)


def _relabelled(labels: Labels, table: Labels, out: Labels) -> Labels:
    """Write the new label of every voxel; out may be labels itself."""
    _basin_links.relabel(labels.reshape(-1), table, out.reshape(-1))
    return out
