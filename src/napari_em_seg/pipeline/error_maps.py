"""Error maps: the voxels of false splits and merges, and the parts of one object; worked out slice by slice."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.metrics.table import Ids
from napari_em_seg.pipeline.evaluation import Evaluation
from napari_em_seg.volume import ArrayLike, SliceWise

__all__ = ["LEFT_OUT", "OTHERS", "FalseMerges", "FalseSplits", "Parts"]

Marks = NDArray[np.uint8]

WRONG, LEFT_OUT, OTHERS = 1, 4, 3
_TABLE_BELOW = 2**24  # larger labels are looked up by search, which takes longer but no memory


class _Partners:
    """Says of every label of a slice what its partner is; 0 for labels that have none."""

    def __init__(self, labels: Ids, partners: Ids) -> None:
        order = np.argsort(labels)
        self._labels, self._partners = labels[order], partners[order]
        self._table: Ids | None = None
        largest = int(labels.max(initial=0))
        if largest < _TABLE_BELOW:
            self._table = np.zeros(largest + 2, np.uint64)  # the last one is for what is larger
            self._table[labels] = partners

    def of(self, plane: NDArray[Any]) -> Ids:
        if self._table is not None:
            return np.take(self._table, plane.astype(np.int64), mode="clip")
        place = np.minimum(np.searchsorted(self._labels, plane), len(self._labels) - 1)
        return np.where(self._labels[place] == plane, self._partners[place], np.uint64(0))


class _Compared(SliceWise):
    """Marks of voxels by what two labelings say of them."""

    dtype = np.dtype(np.uint8)

    def __init__(self, evaluation: Evaluation, segmentation: ArrayLike, truth: ArrayLike) -> None:
        z, y, x = segmentation.shape
        self.shape = (z, y, x)
        self._evaluation, self._segmentation, self._truth = evaluation, segmentation, truth
        self._has_background = evaluation.table.background == "singletons"
        self._main = self._partners()

    @abstractmethod
    def _partners(self) -> _Partners:
        """Say what belongs together."""

    def _read(self, z: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.asarray(self._segmentation[z]), np.asarray(self._truth[z])


class FalseSplits(_Compared):
    """1 where an object of the truth is in another segment than its largest, `LEFT_OUT` where it is in none."""

    def _partners(self) -> _Partners:
        objects = self._evaluation.objects
        return _Partners(objects.ids, objects.largest_segment)

    def _plane(self, z: int) -> Marks:
        segments, objects = self._read(z)
        marks = np.where(segments != self._main.of(objects), WRONG, 0).astype(np.uint8)
        if self._has_background:
            marks[segments == 0] = LEFT_OUT
        marks[objects == 0] = 0
        return marks


class FalseMerges(_Compared):
    """1 where a segment is in another object of the truth than its largest."""

    def _partners(self) -> _Partners:
        segments = self._evaluation.segments
        return _Partners(segments.ids, segments.largest_object)

    def _plane(self, z: int) -> Marks:
        segments, objects = self._read(z)
        marks = np.where((objects != self._main.of(segments)) & (objects != 0), WRONG, 0).astype(np.uint8)
        if self._has_background:
            marks[segments == 0] = 0
        return marks


class Parts(SliceWise):
    """One label of an array, and in which labels of another one it lies.

    1 is in the first of them, 2 in the second, `OTHERS` in any other, ``in_none`` in 0. Without another array
    all of it is 1.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        whole: ArrayLike,
        name: int,
        other: ArrayLike | None = None,
        parts: Any = (),
        in_none: int = LEFT_OUT,
    ) -> None:
        z, y, x = whole.shape
        self.shape = (z, y, x)
        self._whole, self._name, self._other = whole, name, other
        self._parts, self._in_none = [int(p) for p in parts[:2]], in_none

    def _plane(self, z: int) -> Marks:
        is_meant = np.asarray(self._whole[z]) == self._name
        if self._other is None:
            return np.asarray(is_meant, np.uint8)
        other = np.asarray(self._other[z])
        marks = np.where(other == 0, np.uint8(self._in_none), np.uint8(OTHERS))
        for value, part in enumerate(self._parts, 1):
            if part:
                marks[other == part] = value
        marks[~is_meant] = 0
        return marks
