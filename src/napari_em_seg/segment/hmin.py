"""Watershed of a boundary map from its H-minima, in 3-D or slice by slice; every depth h from one flooding."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike as Numbers
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.metrics import Contingency, Scores, contingency, evaluate
from napari_em_seg.segment import _flood
from napari_em_seg.segment._minima import STEPS, check_depth, check_map, estimate_drift, quantised, read_plane
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Basins", "Mode", "basins", "best_h", "hmin_watershed"]

Mode = Literal["3d", "2d"]
Labels = NDArray[np.uint32]
Drift = NDArray[np.int64]
T = TypeVar("T")

_CHUNK = 8  # slices; fixed, so that ties are settled alike whatever the number of threads
_PASSES = 4  # over the volume, for the progress


@dataclass(frozen=True, eq=False)
class Basins:
    r"""The finest watershed of a map, and the tree of passes that gives that of its H-minima for any h.

    Each basin is what runs down to one minimum. Two groups of basins that meet at a pass of height :math:`s`
    have the minima :math:`m_1 \le m_2`; the dynamics of that pass is :math:`s - m_2`, the depth of the
    shallower group. An H-minima filter of depth h fills exactly the minima whose dynamics is below h (one of
    dynamics h stays, as in scikit-image; of two equal minima one stays), and flooding from those that are left
    joins exactly the basins across passes whose dynamics is below h:

    .. math:: a \sim_h b \iff \text{all passes on the tree between a and b have dynamics} < h

    So results for growing h are nested, and each costs one look-up per voxel.

    Attributes
    ----------
    labels
        The basin of each voxel (z, y, x), from 1 on; 0 outside the mask.
    edges
        Pairs of basins (k, 2) that meet, along the minimum spanning forest of passes, lowest pass first.
    saddles
        How high these passes are, as a boundary probability.
    dynamics
        The depth at which each pass gives way.
    minima
        The lowest probability of each basin, that of basin 1 first.
    """

    labels: Labels
    edges: Labels
    saddles: NDArray[np.float64]
    dynamics: NDArray[np.float64]
    minima: NDArray[np.float64]

    def at(self, h: float) -> Labels:
        """Return the watershed of the H-minima of depth h: labels from 1 on, in the order of their basins."""
        out = np.empty_like(self.labels)
        _relabel(self.labels, self.table(h), out)
        return out

    def table(self, h: float) -> Labels:
        """Return the label at depth h of each basin; of 0, outside, it is 0."""
        check_depth(h)
        is_joined = np.rint(self.dynamics * STEPS) < np.rint(h * STEPS)
        return np.asarray(_flood.unite(self.edges, is_joined, len(self.minima)))


def hmin_watershed(
    boundary: ArrayLike,
    h: float,
    *,
    sigma: float = 1.0,
    mode: Mode = "3d",
    mask: ArrayLike | None = None,
    drift: Numbers | Literal["auto"] | None = "auto",
    progress: Progress = None,
) -> Labels:
    """Segment a boundary map by a watershed from those minima that are at least h deep.

    Each slice is smoothed by a Gaussian; the relief is flooded across the six faces of a voxel ("3d"), or
    slice by slice across the four edges of a pixel ("2d"). Voxels run down to the lowest neighbour, on level
    ground to the nearest way down. There are no lines between labels.

    A slice that is displaced as a whole puts one cell on top of another, and nothing in the map stands between
    them. Such slices are found, and their voxels have as neighbours those that match them, not those that lie
    above; a label is connected in that sense.

    Memory: 6 bytes per voxel beside the map and the mask, of which 4 are the result, and on level ground
    another 4; basins and passes are few next to that.

    Parameters
    ----------
    boundary
        Probability of a boundary (z, y, x): floats from 0 to 1, or uint8 from 0 to 255. Read slice by slice.
    h
        The depth in units of probability, from 0 (keep every minimum) to less than 1.
    sigma
        Standard deviation of the Gaussian in pixels; 0: none.
    mode
        "3d", or "2d" for each slice on its own, with labels that no other slice has.
    mask
        True where there is tissue; elsewhere the label is 0, and nothing passes.
    drift
        For "3d", the step (rows, columns) from each slice to its place in the next one, n − 1 or n rows of
        whole pixels; None for none; "auto" to find slices that are plainly displaced.
    progress
        Called with slices done and slices in all.

    Returns
    -------
    labels
        From 1 to the number of segments, in the order in which their first basins are met.

    Raises
    ------
    DataError
        The map is not a map of probabilities in three dimensions, or an argument does not fit it.
    """
    check_depth(h)
    found = basins(boundary, sigma=sigma, mode=mode, mask=mask, drift=drift, progress=progress)
    _relabel(found.labels, found.table(h), found.labels)
    return found.labels


def basins(
    boundary: ArrayLike,
    *,
    sigma: float = 1.0,
    mode: Mode = "3d",
    mask: ArrayLike | None = None,
    drift: Numbers | Literal["auto"] | None = "auto",
    progress: Progress = None,
) -> Basins:
    """Flood a boundary map once, for all depths; parameters as those of `hmin_watershed`."""
    if mode not in get_args(Mode):
        raise DataError(f"The mode is {mode!r}", "'3d' or '2d'", "Choose one of them")
    check_map(boundary, mask, sigma)
    report = _Report(boundary.shape[0], progress)
    steps = _drift(boundary, drift if mode == "3d" else None)
    heights = _relief(boundary, mask, sigma, report)
    pointers, minima = _descended(heights, steps, mode == "3d", report)
    keys, passes, dynamics = _passes(heights, steps, mode == "3d", pointers, minima, report)
    edges = np.stack((keys >> 32, keys & 0xFFFFFFFF), axis=1).astype(np.uint32)
    return Basins(pointers, edges, passes / STEPS, dynamics / STEPS, minima[1:] / STEPS)


def best_h(
    boundary: ArrayLike,
    truth: ArrayLike,
    candidates: Iterable[float],
    *,
    sigma: float = 1.0,
    mode: Mode = "3d",
    mask: ArrayLike | None = None,
    drift: Numbers | Literal["auto"] | None = "auto",
    progress: Progress = None,
) -> tuple[float, dict[float, Scores]]:
    """Find the depth whose segments come closest to the truth: the least adapted Rand error, then the least h.

    The map is flooded once and compared once; each candidate only adds up rows of that comparison.
    With ``mode="2d"`` an object of the truth counts as another one in every slice.

    Parameters
    ----------
    truth
        Object of each voxel; 0 does not count.
    candidates
        The depths to try.
    boundary, sigma, mode, mask, drift, progress
        As for `hmin_watershed`.

    Returns
    -------
    h
        The best candidate.
    scores
        The measures of each candidate, by increasing h.
    """
    depths = sorted(set(map(float, candidates)))
    if not depths:
        raise DataError("There are no depths to try", "at least one candidate for h", "Try 0.02, 0.04 … 0.3")
    for h in depths:
        check_depth(h)
    if tuple(truth.shape) != tuple(boundary.shape):
        raise DataError(f"The truth has the shape {truth.shape} and the boundary map {boundary.shape}",
                        "the same shape for both", "Crop or pad one to fit the other")  # fmt: skip
    found = basins(boundary, sigma=sigma, mode=mode, mask=mask, drift=drift, progress=progress)
    overlaps = _overlaps(found.labels, truth, mask, is_flat=mode == "2d")
    scores = {h: evaluate(overlaps.joined(found.table(h))) for h in depths}
    return min(depths, key=lambda h: scores[h].adapted_rand_error), scores


class _Report:
    """Adds up slices over all passes and tells how many that makes of one."""

    def __init__(self, n_slices: int, progress: Progress) -> None:
        self._n_slices, self._progress, self._done = n_slices, progress, 0

    def __call__(self, n_slices: int) -> None:
        self._done += n_slices
        if self._progress is not None:
            self._progress(self._done // _PASSES, self._n_slices)


def _threads() -> int:
    """Return how many threads to use: memory is the limit before many cores are busy."""
    return max(1, min(8, os.cpu_count() or 1))


def _each(function: Callable[[int], T], items: range, report: Callable[[int], None] | None = None) -> list[T]:
    """Call the function for all items in a few threads; results in order."""
    results = []
    with ThreadPoolExecutor(_threads()) as pool:
        try:
            for item, result in zip(items, pool.map(function, items), strict=True):
                results.append(result)
                if report is not None:
                    report(min(items.step, items.stop - item))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _chunks(heights: NDArray[Any], size: int = _CHUNK) -> range:
    """Return the first slice of each chunk."""
    return range(0, len(heights), size)


def _drift(boundary: ArrayLike, drift: Numbers | Literal["auto"] | None) -> Drift:
    """Return one step for each slice, zero for the last."""
    n = boundary.shape[0]
    if isinstance(drift, str):
        if drift != "auto":
            raise DataError(f"The drift is {drift!r}", "'auto', None or steps (rows, columns)", "Use 'auto'")
        return estimate_drift(boundary, _each)
    steps = np.zeros((n, 2), np.int64)
    if drift is not None:
        given = np.asarray(drift)
        if given.dtype.kind not in "iu" or given.shape not in ((n - 1, 2), (n, 2)):
            raise DataError(
                f"The drift holds {given.dtype} numbers in the shape {given.shape}",
                f"whole pixels in the shape {(n - 1, 2)}, one step (rows, columns) between two slices",
                "Round the steps; leave none out",
            )
        steps[: n - 1] = given[: n - 1]
    return steps


def _relief(
    boundary: ArrayLike, mask: ArrayLike | None, sigma: float, report: Callable[[int], None]
) -> NDArray[np.uint16]:
    """Read and smooth the map, slice by slice, to heights in whole steps."""
    z, y, x = boundary.shape
    heights = np.empty((z, y, x), np.uint16)

    def one(z: int) -> None:
        inside = None if mask is None else np.asarray(mask[z])
        quantised(read_plane(boundary, z), inside, sigma, heights[z])

    _each(one, range(z), report)
    return heights


def _descended(
    heights: NDArray[np.uint16], drift: Drift, is_deep: bool, report: Callable[[int], None]
) -> tuple[Labels, NDArray[np.uint16]]:
    """Return the number of each voxel's basin (marked by a high bit) and the minima, from number 1 on."""
    pointers = np.empty(heights.shape, np.uint32)
    plane = heights[0].size
    chunks = _chunks(heights, _CHUNK if is_deep else 1)

    def descend(start: int) -> int:
        stop = min(start + chunks.step, len(heights))
        n_level = int(_flood.descend(heights, drift, is_deep, start, stop, pointers))
        if not is_deep and n_level:
            queue = np.empty(n_level, np.uint32)
            _flood.level_out(heights, drift, False, start, stop, pointers, queue)
        return n_level

    n_level = sum(_each(descend, chunks, report))
    if is_deep and n_level:
        queue = np.empty(n_level, np.uint32)
        _flood.level_out(heights, drift, True, 0, len(heights), pointers, queue)
        del queue

    parts = [slice(start, start + chunks.step) for start in chunks]
    counts = _each(lambda i: _flood.count_minima(pointers[parts[i]], parts[i].start * plane), range(len(parts)))
    ends = np.cumsum([0, *counts])
    minima = np.empty(ends[-1] + 1, np.uint16)

    def number(i: int) -> None:
        part = parts[i]
        _flood.number_minima(heights[part], pointers[part], part.start * plane, int(ends[i]) + 1, minima)

    _each(number, range(len(parts)))
    flat = pointers.reshape(-1)
    _each(lambda z: _flood.resolve(flat, z * plane, min(z + chunks.step, len(heights)) * plane), chunks, report)
    return pointers, minima


def _passes(
    heights: NDArray[np.uint16], drift: Drift, is_deep: bool, labels: Labels, minima: NDArray[np.uint16],
    report: Callable[[int], None],
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]]:  # fmt: skip
    """Return pairs of basins, passes and dynamics along the spanning forest; bares the numbers in labels.

    The forest of all passes lies within the forests of the chunks, so that no more than these are held.
    """
    chunks = _chunks(heights, _CHUNK if is_deep else 1)

    def forest(start: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        stop = min(start + chunks.step, len(heights))
        keys, passes = _flood.collect(heights, drift, is_deep, start, stop, labels)
        kept, _ = _flood.span(keys, passes, np.argsort(passes, kind="stable"), minima)
        return keys[kept], passes[kept]

    parts = _each(forest, chunks, report)
    keys = np.concatenate([part[0] for part in parts])
    passes = np.concatenate([part[1] for part in parts])
    kept, dynamics = _flood.span(keys, passes, np.argsort(passes, kind="stable"), minima)
    return keys[kept], passes[kept], dynamics


def _relabel(labels: Labels, table: Labels, out: Labels) -> None:
    """Write the new label of every voxel; out may be labels itself."""
    _each(lambda z: _flood.relabel(labels[z].reshape(-1), table, out[z].reshape(-1)), range(len(labels)))


def _overlaps(labels: Labels, truth: ArrayLike, mask: ArrayLike | None, *, is_flat: bool) -> Contingency:
    """Compare the basins with the truth; slice by slice, where each slice has objects of its own."""
    if not is_flat:
        return contingency(labels, truth, mask=mask)
    tables, first = [], 0
    for z in range(len(labels)):
        plane = np.asarray(truth[z])
        if not plane.any() or (mask is not None and not (plane[np.asarray(mask[z])]).any()):
            continue
        table = contingency(labels[z], plane, mask=None if mask is None else np.asarray(mask[z]))
        tables.append((table.segmentation, table.objects.index + first, table.counts))
        first += len(table.objects.ids)
    if not tables:
        return contingency(labels, truth, mask=mask)  # says what is wrong
    segments, objects, counts = (np.concatenate(column) for column in zip(*tables, strict=True))
    return Contingency(segments, objects.astype(np.uint64), counts)
