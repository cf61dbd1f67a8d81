"""Hypotheses from a boundary map: all its minimal cuts, as level sets of one smooth map, and their tree."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _level_set_kernels as kernels
from napari_em_seg.assign._hypothesis_kernels import preorder
from napari_em_seg.assign._minimal_cuts import minimal_cuts, smoothed
from napari_em_seg.assign.hypotheses import Hypotheses, SliceRegions, of_slices, pruned
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = [
    "Connectivity", "component_tree", "evidence", "grown", "level_set_hypotheses", "level_set_regions",
    "level_thresholds", "minimal_cuts", "smoothed",
]  # fmt: skip

Connectivity = Literal[4, 8]

LEAST = 0.002
"""Probabilities are kept this far from 0 and 1: half a step of a map of bytes."""


def evidence(boundary: NDArray[Any]) -> NDArray[np.float32]:
    r"""Return :math:`f = \log\frac{1 - p}{p}` of a slice of boundary probabilities p, high inside of neurons.

    It is :math:`D(x, 0) - D(x, 1)` with :math:`D = -\log p(y \mid x)`: what is saved by calling a pixel neuron.
    """
    scale = 255 if boundary.dtype == np.uint8 else 1
    p = np.clip(np.asarray(boundary, np.float32) / scale, LEAST, 1 - LEAST)
    return np.asarray(np.log((1 - p) / p), np.float32)


def level_thresholds(n_levels: int) -> NDArray[np.float64]:
    """Return thresholds of evidence at even distances, rising, within what `evidence` can be."""
    if n_levels < 1:
        raise DataError(f"There are to be {n_levels} levels", "one or more", "Give a number such as 100")
    end = math.log((1 - LEAST) / LEAST)
    return np.asarray(end * ((2 * np.arange(n_levels) + 1) / n_levels - 1))


def component_tree(
    rank: NDArray[np.int16], levels: NDArray[np.floating[Any]], *, connectivity: Connectivity = 4
) -> SliceRegions:
    """Return the connected parts of all sets {rank ≥ k} of a slice, k from 1 on, as nested regions.

    Parameters
    ----------
    rank
        From 0, in no region, to the number of levels (y, x).
    levels
        ``levels[k - 1]`` is what to call k; they fall from 1 to 0, since sets grow as k falls. A region's birth
        is the level of the largest k at which it is there as it is, its death that of the region around it,
        where it is no longer by itself; 1 where there is none.
    connectivity
        4: pixels are joined across edges; 8: across corners too. A membrane one pixel wide, going slantwise,
        holds together by corners alone. If cells did so as well, they would leak through it at every step;
        therefore 4 is the default, although pairs in the energy are of eight neighbours: there they measure how
        long a border is, and say nothing of what it separates.
    """
    if connectivity not in get_args(Connectivity):
        raise DataError(f"The connectivity is {connectivity!r}", "4 or 8", "Choose one of them")
    nodes, parent, ranks = kernels.tree(np.ascontiguousarray(rank, np.int16), len(levels), connectivity)
    birth = np.asarray(levels, np.float32)[ranks - 1]
    death = np.where(parent >= 0, birth[parent], np.float32(1))
    return SliceRegions(nodes, parent, birth, death)


def grown(part: SliceRegions, n_pixels: int) -> SliceRegions:
    """Let regions grow by so many pixels into what surrounds them, except into each other.

    A region takes pixels of the one around it that are in none of those beside it, and its own regions do the
    same within it, so that the tree stays as it is. Pixels have four neighbours, as in `component_tree`.
    """
    if n_pixels < 0:
        raise DataError(f"Regions are to grow by {n_pixels} pixels", "0 or more", "Give 0 for none")
    order, last = preorder(part.parent)
    return replace(part, nodes=kernels.grow(part.nodes, order, last, n_pixels))


def level_set_regions(
    boundary: NDArray[Any],
    *,
    smoothness: float = 0.05,
    n_levels: int = 100,
    connectivity: Connectivity = 4,
    min_area: int = 25,
    max_area: int | None = 100_000,
    max_depth: int | None = 10,
    grow: int = 2,
    exact: bool = True,
    threads: int | None = None,
) -> SliceRegions:
    r"""Return the components of all minimal cuts of one slice as nested regions.

    Levels are thresholds of the boundary probability of the smooth map: the level of :math:`\lambda_N = t` is
    :math:`1 / (1 + e^t)`. A region is born at the level at which it is there first, and dies at that at which
    it is part of a larger one.

    Predicted boundaries are wider than membranes, as the labels are that networks learn from, so that regions
    are smaller than cells. Therefore they grow a little in the end, where that does not join them. Set that to
    0 for a map with thin boundaries.

    Parameters
    ----------
    boundary
        Probability of a boundary (y, x): floats from 0 to 1, or uint8 from 0 to 255.
    smoothness
        :math:`\lambda_S`, the price of each pair of neighbours (of eight) that a border separates.
    n_levels
        Number of cuts, at even distances of :math:`\lambda_N`.
    connectivity
        As for `component_tree`.
    min_area, max_area, max_depth
        As for `pruned`, before they grow. Without a bound of areas the depth has to be large: from level to
        level the largest region takes in one more cell.
    grow
        By how many pixels regions grow in the end.
    exact, threads
        As for `minimal_cuts`.
    """
    _check_plane(boundary, "The slice")
    thresholds = level_thresholds(n_levels)
    rank = minimal_cuts(evidence(boundary), smoothness, thresholds, exact=exact, threads=threads)
    part = component_tree(rank, 1 / (1 + np.exp(thresholds)), connectivity=connectivity)
    return grown(pruned(part, min_area=min_area, max_area=max_area, max_depth=max_depth), grow)


def level_set_hypotheses(
    boundary: ArrayLike,
    *,
    smoothness: float = 0.05,
    n_levels: int = 100,
    connectivity: Connectivity = 4,
    min_area: int = 25,
    max_area: int | None = 100_000,
    max_depth: int | None = 10,
    grow: int = 2,
    exact: bool = True,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Hypotheses:
    """Return the components of all minimal cuts of all slices; parameters as those of `level_set_regions`.

    Slices are read one by one and done several at a time: about 45 bytes for each pixel of those in work, and
    4 for each voxel of the result.

    Parameters
    ----------
    boundary
        Probability of a boundary (z, y, x): floats from 0 to 1, or uint8 from 0 to 255.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every slice; what is done by then is returned, and nothing done is an error.
    """
    _check_stack(boundary)

    def one(z: int) -> SliceRegions:
        plane = np.asarray(boundary[z])
        _check_plane(plane, f"Slice {z}")
        return level_set_regions(
            plane, smoothness=smoothness, n_levels=n_levels, connectivity=connectivity, min_area=min_area,
            max_area=max_area, max_depth=max_depth, grow=grow, exact=exact, threads=1,
        )  # fmt: skip

    return of_slices(one, boundary.shape[0], progress=progress, cancelled=cancelled)


def _check_stack(boundary: ArrayLike) -> None:
    if len(boundary.shape) != 3 or 0 in boundary.shape:
        raise DataError(f"The map has the shape {'×'.join(map(str, boundary.shape))}",
                        "a boundary map (z, y, x) that is not empty", "Give a stack of slices")  # fmt: skip


def _check_plane(plane: NDArray[Any], name: str) -> None:
    if plane.ndim != 2 or 0 in plane.shape:
        raise DataError(f"{name} has the shape {'×'.join(map(str, plane.shape))}", "pixels (y, x)",
                        "Give one slice of a boundary map")  # fmt: skip
    if plane.dtype != np.uint8 and plane.dtype.kind != "f":
        raise DataError(f"{name} holds {plane.dtype} numbers",
                        "probabilities of a boundary, uint8 from 0 to 255 or floats from 0 to 1",
                        "Predict a boundary map first")  # fmt: skip
    low, high = float(plane.min()), float(plane.max())
    if plane.dtype != np.uint8 and not (low >= 0 and high <= 1):  # also where one is not a number
        raise DataError(f"{name} holds numbers from {low:g} to {high:g}",
                        "probabilities of a boundary from 0 to 1, all of them numbers",
                        "Divide by the highest value, or predict a boundary map first")  # fmt: skip
