"""The contingency table: how many voxels each segment shares with each object of the truth."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.metrics._check import as_ids, check_arrays, check_positive, shape_text
from napari_em_seg.metrics._read import count_pairs
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Background", "Contingency", "Ids", "Marginal", "Sizes", "contingency"]

Background = Literal["singletons", "label"]
Ids = NDArray[np.uint64]
Sizes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Marginal:
    """The labels of one side of a table: their ids in order, their voxels, and the label of each pair."""

    ids: Ids
    sizes: Sizes
    index: NDArray[np.intp]

    @property
    def per_pair(self) -> Sizes:
        """Voxels of the label that each pair belongs to."""
        return self.sizes[self.index]


@dataclass(frozen=True, eq=False)
class Contingency:
    r"""Sparse table of the overlaps of segments ``i`` with objects ``j`` of the truth, one row per pair.

    All measures are sums over pairs of a function of three sizes: those of the overlap
    (``overlaps``), of its segment (``segment_sizes``) and of its object (``object_sizes``).

    With ``background="singletons"``, the convention of SNEMI3D and ISBI 2012, each voxel with the label 0
    in the segmentation is a segment of its own. The row of ``c`` such voxels then stands for ``c`` overlaps
    of one voxel, each with a segment of one voxel. To the sum of squared overlaps and to that of squared
    segments it adds :math:`c \cdot 1^2 = c`. To VI split, in a volume of ``n`` voxels and for an object of
    ``t``, it adds :math:`(c/n) \log_2 t`, and to VI merge nothing. With ``background="label"`` 0 is a segment
    like any other.

    The Python versions of the SNEMI3D script that went around (gala until 2017, CREMI; see issue 3 of
    cremi_python) add ``c/n`` to sums of counts, where ``c`` is meant. Precision and recall then differ from
    ours by at most ``c`` divided by the sum of squared sizes: nothing that shows on a real volume.

    Parameters
    ----------
    segmentation, truth
        The labels of each pair; a pair occurs once.
    counts
        Voxels that have both labels; at least one.
    background
        What the label 0 means in the segmentation.
    """

    segmentation: Ids
    truth: Ids
    counts: Sizes
    background: Background = "singletons"

    @property
    def n_voxels(self) -> int:
        """Number of voxels that were counted."""
        return int(self.counts.sum())

    @cached_property
    def segments(self) -> Marginal:
        """The labels of the segmentation, 0 among them whatever it means."""
        return _marginal(self.segmentation, self.counts)

    @cached_property
    def objects(self) -> Marginal:
        """The labels of the truth."""
        return _marginal(self.truth, self.counts)

    @cached_property
    def is_singletons(self) -> NDArray[np.bool_]:
        """Which pairs stand for many segments of one voxel each."""
        if self.background == "label":
            return np.zeros(len(self.counts), np.bool_)
        return np.equal(self.segmentation, 0)

    @cached_property
    def overlaps(self) -> Sizes:
        """Voxels of each overlap: the count, or 1 for singletons."""
        return np.where(self.is_singletons, 1, self.counts)

    @cached_property
    def segment_sizes(self) -> Sizes:
        """Voxels of the segment of each pair; 1 for singletons."""
        return np.where(self.is_singletons, 1, self.segments.per_pair)

    @cached_property
    def object_sizes(self) -> Sizes:
        """Voxels of the object of each pair."""
        return self.objects.per_pair

    def joined(self, table: NDArray[np.unsignedinteger[Any]]) -> "Contingency":
        """Return the comparison after segments were joined: ``table[label]`` is the new label."""
        segments = table[self.segmentation]
        order = np.lexsort((self.truth, segments))
        a, b, n = segments[order].astype(np.uint64), self.truth[order], self.counts[order]
        is_first = np.ones(len(a), np.bool_)
        is_first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
        return replace(
            self, segmentation=a[is_first], truth=b[is_first],
            counts=np.add.reduceat(n, np.flatnonzero(is_first)),
        )  # fmt: skip


def contingency(
    segmentation: ArrayLike,
    truth: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ignore_segmentation: Iterable[int] = (),
    ignore_truth: Iterable[int] = (0,),
    background: Background = "singletons",
    progress: Progress = None,
) -> Contingency:
    """Count the overlaps of two labelings, reading a few slices at a time.

    Memory holds a few slabs and the distinct pairs, never a copy of an array; numpy arrays are not even
    copied in part, as long as their slices lie in one piece.

    Parameters
    ----------
    segmentation, truth
        Labels of the same shape, with any number of axes: integers of any width, or booleans.
    mask
        Booleans of the same shape; only voxels where it is true count.
    ignore_segmentation, ignore_truth
        Voxels with one of these labels do not count.
    background
        What the label 0 means in the segmentation; see `Contingency`.
    progress
        Called with slices done and slices in all.

    Returns
    -------
    Contingency
        The table, ordered by segment and then by object.

    Raises
    ------
    DataError
        Where shapes differ, labels are not whole numbers or negative, or nothing is left to count.
    """
    if background not in get_args(Background):
        raise DataError(f"The background is {background!r}", "'singletons' or 'label'", "Choose one of them")
    ignored = as_ids(ignore_segmentation), as_ids(ignore_truth)
    check_arrays(segmentation, truth, mask)

    first, second, counts = _merged(count_pairs(segmentation, truth, mask, progress))
    check_positive(first, segmentation, "segmentation")
    check_positive(second, truth, "truth")
    kept = ~(np.isin(first, ignored[0]) | np.isin(second, ignored[1]))
    if not kept.any():
        raise DataError(
            f"No voxel is left to compare, of {shape_text(segmentation)}",
            "at least one that is inside the mask and whose labels are not ignored",
            "Check the mask and the ignored labels, and that the truth has labels other than 0",
        )
    return Contingency(first[kept], second[kept], counts[kept], background)


def _marginal(labels: Ids, counts: Sizes) -> Marginal:
    """Sum the counts of each label."""
    order = np.argsort(labels, kind="stable")
    is_first = _is_first(labels[order])
    index = np.empty(len(labels), np.intp)
    index[order] = np.cumsum(is_first) - 1
    return Marginal(labels[order][is_first], np.add.reduceat(counts[order], np.flatnonzero(is_first)), index)


def _merged(rows: NDArray[np.uint64]) -> tuple[Ids, Ids, Sizes]:
    """Sort the rows of all workers and add up those of the same pair."""
    if not len(rows):
        return rows[:, 0], rows[:, 1], rows[:, 2].astype(np.int64)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    is_first = _is_first(rows[:, 0]) | _is_first(rows[:, 1])
    counts = np.add.reduceat(rows[:, 2].astype(np.int64), np.flatnonzero(is_first))
    return rows[is_first, 0], rows[is_first, 1], counts


def _is_first(ids: Ids) -> NDArray[np.bool_]:
    """Say where an id differs from the one before it."""
    return np.concatenate(([True], ids[1:] != ids[:-1]))
