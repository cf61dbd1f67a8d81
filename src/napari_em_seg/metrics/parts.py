"""The measures one by one: which objects are split worst, and which segments merge most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.metrics.scores import information
from napari_em_seg.metrics.table import Contingency, Ids, Sizes

__all__ = ["ObjectScores", "SegmentScores", "per_object", "per_segment"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ObjectScores:
    r"""What happened to each object of the truth, as columns; worst first, by VI split.

    Attributes
    ----------
    ids
        The object.
    voxels
        Its size, among the voxels that count.
    n_segments
        Segments that share voxels with it; singletons of the background are not counted.
    largest_segment
        The segment that shares most voxels with it, the lowest id if there are several; 0 where there is
        only background.
    iou
        Intersection over union of the two; where there is only background, that of one voxel of it.
    vi_split
        Its part of the total, :math:`\sum_i p_{ij} \log_2 (t_j / p_{ij})` bits.
    v_rand_split
        The share of its pairs of voxels that are in one segment, :math:`\sum_i p_{ij}^2 / t_j^2`. The total
        is the mean of these, weighted by :math:`t_j^2`.
    """

    ids: Ids
    voxels: Sizes
    n_segments: Sizes
    largest_segment: Ids
    iou: Floats
    vi_split: Floats
    v_rand_split: Floats

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class SegmentScores:
    r"""What each segment is made of, as columns; worst first, by VI merge.

    Singletons of the background are left out; they merge nothing, so that the sum stays the same.

    Attributes
    ----------
    ids
        The segment.
    voxels
        Its size, among the voxels that count.
    n_objects
        Objects of the truth that share voxels with it.
    largest_object
        The object that shares most voxels with it, the lowest id if there are several.
    iou
        Intersection over union of the two.
    vi_merge
        Its part of the total, :math:`\sum_j p_{ij} \log_2 (s_i / p_{ij})` bits.
    v_rand_merge
        The share of its pairs of voxels that are in one object, :math:`\sum_j p_{ij}^2 / s_i^2`. The total
        is the mean of these, weighted by :math:`s_i^2`, singletons included.
    """

    ids: Ids
    voxels: Sizes
    n_objects: Sizes
    largest_object: Ids
    iou: Floats
    vi_merge: Floats
    v_rand_merge: Floats

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.ids)


def per_object(table: Contingency) -> ObjectScores:
    """Return the measures of each object of the truth, worst first."""
    objects, index = table.objects, table.objects.index
    vi_split = _sum_by(index, information(table, table.object_sizes))
    largest = _largest(index, table.overlaps, table.is_singletons, table.segmentation)
    worst = np.lexsort((objects.ids, -vi_split))
    return ObjectScores(
        ids=objects.ids[worst],
        voxels=objects.sizes[worst],
        n_segments=np.bincount(index, ~table.is_singletons).astype(np.int64)[worst],
        largest_segment=table.segmentation[largest][worst],
        iou=_iou(table, largest)[worst],
        vi_split=vi_split[worst],
        v_rand_split=_sum_by(index, _shares(table, table.object_sizes))[worst],
    )


def per_segment(table: Contingency) -> SegmentScores:
    """Return the measures of each segment, worst first."""
    segments, index = table.segments, table.segments.index
    vi_merge = _sum_by(index, information(table, table.segment_sizes))
    largest = _largest(index, table.overlaps, table.is_singletons, table.truth)
    worst = np.lexsort((segments.ids, -vi_merge))
    worst = worst[~table.is_singletons[largest][worst]]
    return SegmentScores(
        ids=segments.ids[worst],
        voxels=segments.sizes[worst],
        n_objects=np.bincount(index)[worst],
        largest_object=table.truth[largest][worst],
        iou=_iou(table, largest)[worst],
        vi_merge=vi_merge[worst],
        v_rand_merge=_sum_by(index, _shares(table, table.segment_sizes))[worst],
    )


def _sum_by(index: NDArray[np.intp], values: Floats) -> Floats:
    """Add up the values of each label."""
    return np.bincount(index, values).astype(np.float64, copy=False)


def _shares(table: Contingency, sizes: Sizes) -> Floats:
    """Return the share of its label's pairs of voxels that each overlap holds together."""
    shares: Floats = (table.counts / sizes) * (table.overlaps / sizes)
    return shares


def _largest(
    index: NDArray[np.intp], overlaps: Sizes, is_singletons: NDArray[np.bool_], partners: Ids
) -> NDArray[np.intp]:
    """Return for each label the pair with the largest overlap; proper segments first, then low ids."""
    order = np.lexsort((partners, is_singletons, -overlaps, index))
    first = np.searchsorted(index[order], np.arange(index.max() + 1))
    return order[first]


def _iou(table: Contingency, pairs: NDArray[np.intp]) -> Floats:
    """Return the intersection over union of the segment and the object of these pairs."""
    overlaps = table.overlaps[pairs]
    ious: Floats = overlaps / (table.segment_sizes[pairs] + table.object_sizes[pairs] - overlaps)
    return ious
