"""A segmentation judged: against the truth, or by its looks; where each error is to be seen, and as a file."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.metrics import (
    Background,
    Contingency,
    ObjectScores,
    ObjectShapes,
    Scores,
    SegmentScores,
    contingency,
    evaluate,
    per_object,
    per_segment,
    plausibility,
)
from napari_em_seg.metrics.table import Ids
from napari_em_seg.pipeline.agglomeration import THRESHOLDS
from napari_em_seg.pipeline.blocks import Cancelling
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.segment import MergeTree
from napari_em_seg.volume import ArrayLike, Progress, VoxelSize

__all__ = [
    "Course", "Evaluation", "Place", "cumulative", "evaluate_labels", "judge_file", "judge_labels",
    "n_for", "place_of_error", "write_table",
]  # fmt: skip


Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """Supervoxels, and the tree of all their merges, of which a segmentation is one cut."""

    supervoxels: ArrayLike
    tree: MergeTree


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A segmentation measured against the truth.

    Attributes
    ----------
    table
        How many voxels each segment shares with each object.
    thresholds
        The scores of all cuts of a tree of merges, if there was one.
    """

    table: Contingency
    thresholds: Mapping[float, Scores]

    @cached_property
    def scores(self) -> Scores:
        """All measures in total."""
        return evaluate(self.table)

    @cached_property
    def objects(self) -> ObjectScores:
        """Each object of the truth, those that are split worst first."""
        return per_object(self.table)

    @cached_property
    def segments(self) -> SegmentScores:
        """Each segment, those that merge most first."""
        return per_segment(self.table)

    def segments_of(self, name: int) -> Ids:
        """Return the segments that share voxels with an object, largest overlap first; 0 last if it is none."""
        return self._partners(self.table.truth == name, self.table.segmentation)

    def objects_of(self, segment: int) -> Ids:
        """Return the objects that share voxels with a segment, largest overlap first."""
        return self._partners(self.table.segmentation == segment, self.table.truth)

    def _partners(self, is_meant: NDArray[np.bool_], partners: Ids) -> Ids:
        rows = np.flatnonzero(is_meant)
        order = np.lexsort((partners[rows], -self.table.overlaps[rows], self.table.is_singletons[rows]))
        return partners[rows][order]


@dataclass(frozen=True)
class Place:
    """Where something is to be seen: a slice, a voxel in it, and the box [y, bottom) × [x, right) around it."""

    z: int
    y: int
    x: int
    box: tuple[int, int, int, int]


def evaluate_labels(
    segmentation: ArrayLike,
    truth: ArrayLike,
    *,
    background: Background = "singletons",
    course: Course | None = None,
    progress: Progress = None,
    cancelled: Cancelling = None,
) -> Evaluation:
    """Measure a segmentation against the truth, and all cuts of the tree that it comes from, if it is known.

    Each pair of arrays is read once, a few slices at a time; `Cancelled` is raised when asked to stop.
    """
    n_passes = 1 if course is None else 2
    table = contingency(
        segmentation, truth, background=background, progress=_watched(progress, cancelled, 0, n_passes)
    )
    thresholds = {}
    if course is not None:
        pieces = contingency(
            course.supervoxels, truth, background=background,
            progress=_watched(progress, cancelled, 1, n_passes),
        )  # fmt: skip
        thresholds = {t: evaluate(pieces.joined(course.tree.cut(t))) for t in THRESHOLDS}
    return Evaluation(table, thresholds)


def judge_labels(
    labels: ArrayLike,
    voxel_size_nm: VoxelSize | None,
    *,
    orphan_voxels: int = 1000,
    large_share: float = 0.1,
    progress: Progress = None,
    cancelled: Cancelling = None,
) -> ObjectShapes:
    """Describe the objects of a segmentation of which no truth is known; see `metrics.plausibility`."""
    return plausibility(
        labels, voxel_size_nm, orphan_voxels=orphan_voxels, large_share=large_share,
        progress=_watched(progress, cancelled, 0, 1),
    )  # fmt: skip


def judge_file(
    segmentation: str,
    *,
    voxel_size_nm: VoxelSize | None = None,
    orphan_voxels: int = 1000,
    progress: Progress = None,
) -> ObjectShapes:
    """Describe the objects of a segmentation given by its path, see `pipeline.volumes.open_labels`."""
    labels = open_labels(segmentation)
    if voxel_size_nm is not None:
        labels = labels.with_voxel_size(voxel_size_nm)
    return plausibility(labels, labels.voxel_size_nm, orphan_voxels=orphan_voxels, progress=progress)


def _watched(progress: Progress, cancelled: Cancelling, n_before: int, n_passes: int) -> Progress:
    """Return a progress of one of several passes, which ends the pass when asked to stop."""

    def report(step: int, steps: int) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("The evaluation was cancelled")
        if progress is not None:
            progress(n_before * steps + step, n_passes * steps)

    return report


def cumulative(parts: Floats) -> Floats:
    r"""Return the share of the whole that the first k of some parts hold.

    .. math:: c_k = \sum_{i \le k} v_i / \sum_i v_i

    for parts :math:`v_1 \ge v_2 \ge …`; 1 for all where the whole is 0.
    """
    whole = float(parts.sum())
    shares: Floats = np.cumsum(parts) / whole if whole > 0 else np.ones(len(parts))
    return shares


def n_for(parts: Floats, share: float) -> int:
    """Return how many of the worst parts hold a share of the whole; 0 where there is nothing to share."""
    if not parts.sum():
        return 0
    return int(np.searchsorted(cumulative(parts), share - 1e-12)) + 1


# Where an error is to be seen


def place_of_error(
    whole: ArrayLike, name: int, other: ArrayLike, parts: Ids, cancelled: Cancelling = None
) -> Place | None:
    """Return where the error of an object or a segment is to be seen best; None if it is not there any more.

    That is the slice where the second largest of its parts is largest; with one part, where that is.

    Parameters
    ----------
    whole
        The truth for splits, the segmentation for merges.
    name
        Of the object or segment in it.
    other, parts
        The other array, and what it has there, see `Evaluation.segments_of` and `Evaluation.objects_of`.
    """
    part = parts[min(1, len(parts) - 1)]
    return _largest_section(
        lambda z: (np.asarray(whole[z]) == name) & (np.asarray(other[z]) == part), whole.shape[0], cancelled
    )


def _largest_section(
    mask_of: Callable[[int], NDArray[np.bool_]], n_slices: int, cancelled: Cancelling = None
) -> Place | None:
    """Return the slice where a mask is largest, and its largest piece there; None if it is empty.

    The voxel is the one of that piece next to its centre.
    """
    best, area = -1, 0
    for z in range(n_slices):
        if cancelled is not None and cancelled():
            raise Cancelled("The search was cancelled")
        here = int(np.count_nonzero(mask_of(z)))
        if here > area:
            best, area = z, here
    if best < 0:
        return None
    pieces, _ = ndimage.label(mask_of(best))
    where = np.argwhere(pieces == np.bincount(pieces[pieces > 0]).argmax())
    y, x = where[np.square(where - where.mean(axis=0)).sum(axis=1).argmin()]
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
    return Place(best, int(y), int(x), (int(top), int(left), int(bottom), int(right)))


# Files


def write_table(
    path: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any]], *, overwrite: bool = False
) -> None:
    """Write named columns as CSV, whole or not at all."""
    if path.suffix.lower() != ".csv":
        raise DataError(f"The table is to be {path.name}", "a name that ends in .csv", "Add that to the name")
    with atomic(path, overwrite=overwrite) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        plain = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
        writer.writerows(zip(*plain, strict=True))
