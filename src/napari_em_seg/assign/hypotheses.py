"""Segmentation hypotheses: nested regions of every slice, wherever they come from."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _hypothesis_kernels as kernels
from napari_em_seg.errors import DataError
from napari_em_seg.volume import Progress

__all__ = ["Hypotheses", "Region", "SliceRegions", "joined", "of_slices", "pruned"]

Index = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SliceRegions:
    """Nested regions of one slice, in any order: what a source of hypotheses makes.

    Attributes
    ----------
    nodes
        The smallest region that holds each pixel (y, x); −1 where there is none.
    parent
        The smallest region that holds each region; −1 for those that no other one holds.
    birth, death
        The levels between which each region exists, from 0 to 1; those below ``birth`` hold only parts of it.
    """

    nodes: Index
    parent: Index
    birth: NDArray[np.float32]
    death: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Nested regions of all slices: any two of one slice hold one another, or have no pixel in common.

    They are numbered slice by slice and each before what it holds, so that the pixels of region i are those
    with ``i <= nodes <= last[i]``, and whatever i holds is ``i + 1`` to ``last[i]``.

    Attributes
    ----------
    nodes
        The smallest region that holds each pixel (z, y, x); −1 where there is none.
    z
        The slice of each region (n,), in order.
    parent
        The smallest region that holds each region; −1 for those that no other one holds.
    last
        The last region that each one holds; the region itself if it holds none.
    birth, death
        The levels between which each region exists, from 0 to 1; the farther apart, the more sure it is.
    """

    nodes: Index
    z: Index
    parent: Index
    last: Index
    birth: NDArray[np.float32]
    death: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return int(self.nodes.shape[0])

    @cached_property
    def starts(self) -> Index:
        """The first region of each slice, and in the end the number of regions."""
        return np.searchsorted(self.z, np.arange(self.n_slices + 1)).astype(np.int32)

    @cached_property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Which regions hold no other one."""
        return np.asarray(self.last == np.arange(len(self)))

    @cached_property
    def leaves(self) -> Index:
        """Number of regions without others below each region; one for such a region itself."""
        counted = np.concatenate(([0], np.cumsum(self.is_leaf))).astype(np.int32)
        return np.asarray(counted[self.last + 1] - counted[:-1])

    def leaves_under(self, involved: Index) -> Index:
        """Return the number of leaves under the regions of each row (m, k) together; −1 stands for no one."""
        return np.asarray(np.where(involved >= 0, self.leaves[involved], 0).sum(axis=1))

    @cached_property
    def depth(self) -> Index:
        """Number of regions around each region."""
        depth = np.zeros(len(self), np.int32)
        for i, parent in enumerate(self.parent):
            if parent >= 0:
                depth[i] = depth[parent] + 1
        return depth

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """Sums over the pixels of each region (n, 6): 1, y, x, yy, xx, yx."""
        own = kernels.own_moments(self.nodes, len(self))
        return np.asarray(kernels.add_up(own, self.parent))

    @property
    def area(self) -> NDArray[np.int64]:
        """Number of pixels of each region."""
        return self.moments[:, 0].astype(np.int64)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Mean position (y, x) of each region (n, 2); 0 of one that was cut away whole by others."""
        return np.asarray(self.moments[:, 1:3] / np.maximum(self.moments[:, :1], 1))

    @cached_property
    def box(self) -> Index:
        """First y and x, and last y and x, of each region (n, 4)."""
        return np.asarray(kernels.boxes(self.nodes, self.parent))

    def path(self, leaf: int) -> list[int]:
        """Return a region and all that hold it, the largest last."""
        found = [leaf]
        while self.parent[found[-1]] >= 0:
            found.append(int(self.parent[found[-1]]))
        return found

    def is_conflict(self, a: int, b: int) -> bool:
        """Whether two regions have pixels in common, which is to say that one holds the other or is it."""
        first, second = min(a, b), max(a, b)
        return bool(second <= self.last[first])

    def region(self, i: int) -> "Region":
        """Return where a region is."""
        y0, x0, y1, x1 = (int(v) for v in self.box[i])
        nodes = self.nodes[self.z[i], y0 : y1 + 1, x0 : x1 + 1]
        return Region(int(self.z[i]), y0, x0, (nodes >= i) & (nodes <= self.last[i]))


@dataclass(frozen=True, eq=False)
class Region:
    """A region as a mask within its bounding box, which begins at (y, x) in slice z."""

    z: int
    y: int
    x: int
    mask: NDArray[np.bool_]


def of_slices(
    make: Callable[[int], SliceRegions],
    n_slices: int,
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Hypotheses:
    """Make the regions of every slice, several slices at a time, and number them.

    Once ``cancelled``, which is asked before every slice, says true, those before are all.
    """

    def one(z: int) -> SliceRegions | None:
        return None if cancelled() else make(z)

    parts: list[SliceRegions] = []
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        for part in pool.map(one, range(n_slices)):
            if part is None:
                break
            parts.append(part)
            if progress is not None:
                progress(len(parts), n_slices)
    return joined(parts)


def joined(slices: Sequence[SliceRegions]) -> Hypotheses:
    """Return the regions of all slices, numbered in order; levels and pixels stay what they are."""
    if not slices:
        raise DataError("There are no slices", "the regions of at least one", "Give a volume")
    parts, n = [], 0
    for z, part in enumerate(slices):
        order, last = kernels.preorder(part.parent)
        place = np.empty(len(order) + 1, np.int32)  # the last entry is for −1
        place[order], place[-1] = np.arange(n, n + len(order)), -1
        parts.append((
            place[part.nodes], np.full(len(order), z, np.int32), place[part.parent[order]], last + n,
            part.birth[order], part.death[order],
        ))  # fmt: skip
        n += len(order)
    nodes, *rows = zip(*parts, strict=True)
    slices_of, parent, last, birth, death = (np.concatenate(column) for column in rows)
    return Hypotheses(np.stack(nodes), slices_of, parent, last.astype(np.int32), birth, death)


def pruned(
    part: SliceRegions, *, min_area: int = 25, max_area: int | None = None, max_depth: int | None = None
) -> SliceRegions:
    """Drop regions that say nothing new, or are too small, too large, or too deep.

    Of a region and the only one right below it the larger one is kept, with the levels of both; so are the
    pixels of what is dropped. Too small ones are dropped first, since a crumb would keep its brother from being
    an only child; then too large ones, which are never below one that is kept; then only children; then what
    more than ``max_depth`` others hold.
    """
    if (
        min_area < 1
        or (max_area is not None and max_area < min_area)
        or (max_depth is not None and max_depth < 0)
    ):
        raise DataError(f"Regions are to have {min_area} to {max_area} pixels, {max_depth} deep",
                        "from 1 pixel on, a maximum not below the minimum, and a depth from 0 on",
                        "Use the defaults")  # fmt: skip
    most = np.iinfo(np.int64).max if max_area is None else max_area
    deepest = np.iinfo(np.int32).max if max_depth is None else max_depth
    target, birth = kernels.prune(part.nodes, part.parent, part.birth, min_area, most, deepest)
    is_kept = target == np.arange(len(target))
    place = np.full(len(target) + 1, -1, np.int32)
    place[:-1][is_kept] = np.arange(is_kept.sum())
    return SliceRegions(
        place[np.append(target, np.int32(-1))[part.nodes]],
        place[kernels.kept_parent(part.parent, is_kept)[is_kept]],
        birth[is_kept], part.death[is_kept],
    )  # fmt: skip
