"""Columns: what the tables of the dock "Evaluate" show of measures, objects and segments."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from napari_em_seg.metrics import ObjectScores, ObjectShapes, PlausibilityFigures, Scores, SegmentScores
from napari_em_seg.widgets.evaluate.table import Column

__all__ = ["columns_of_figures", "columns_of_objects", "columns_of_segments", "columns_of_shapes"]

_MEASURES = {
    "adapted_rand_error": ("adapted Rand error", "splits and merges together; 0 is perfect"),
    "adapted_rand_precision": ("Rand precision", "merges lower it; 1 is perfect"),
    "adapted_rand_recall": ("Rand recall", "splits lower it; 1 is perfect"),
    "vi_split": ("VI split (bits)", "how far objects are cut; 0 is perfect"),
    "vi_merge": ("VI merge (bits)", "how far objects are joined; 0 is perfect"),
    "vi": ("VI (bits)", "both together; 0 is perfect"),
    "v_rand_merge": ("V-Rand merge", "the same as Rand precision"),
    "v_rand_split": ("V-Rand split", "the same as Rand recall"),
    "v_rand_f": ("V-Rand F", "harmonic mean of both; 1 is perfect"),
    "n_voxels": ("voxels", "that were judged"),
    "n_segments": ("segments", "in the segmentation"),
    "n_objects": ("objects", "in the truth"),
}
_FIGURES = {
    "n_objects": ("objects", "labels other than 0"),
    "n_voxels": ("voxels", "that are labelled"),
    "length_median_um": ("median length (µm)", "half of the objects are shorter"),
    "length_longest_um": ("longest (µm)", "the longest object"),
    "length_total_um": ("total length (µm)", "of all objects"),
    "n_ends": ("ends inside", "where something may be cut off"),
    "n_with_ends": ("objects with ends", "inside the volume"),
    "n_orphans": ("orphans", "objects that touch no border, not small"),
    "n_large": ("very large", "objects that may be merged"),
    "largest_share": ("largest share", "of all labelled voxels"),
}


def _number(value: Any, places: int) -> str:
    """Write a number for people; nothing is known of NaN."""
    return "–" if value != value else f"{value:,.{places}f}"


def _either(value: float | int) -> str:
    return _number(value, 0 if isinstance(value, int) else 4)


_whole, _tenths, _share, _bits = (partial(_number, places=places) for places in (0, 2, 3, 5))


def columns_of_figures(figures: Scores | PlausibilityFigures) -> Sequence[Column]:
    """Return the measures in total, one below the other, with what they mean."""
    named = _MEASURES if isinstance(figures, Scores) else _FIGURES
    values = figures.to_dict()
    return (
        Column("measure", "measure", "What is measured", list(named), lambda key: named[key][0], 17),
        Column("value", "value", "How much", [values[key] for key in named], _either, 11),
        Column("meaning", "meaning", "How to read it", [said for _, said in named.values()]),
    )


def columns_of_objects(scores: ObjectScores) -> Sequence[Column]:
    """Return what became of each object of the truth."""
    return (
        Column("object", "object", "Its number in the truth", scores.ids, str, 8),
        Column("n_segments", "parts", "Segments that share voxels with it", scores.n_segments, _whole, 6),
        Column("vi_split", "VI split", "Its part of all VI split, in bits", scores.vi_split, _bits, 9),
        Column("voxels", "voxels", "Its size in voxels, where the truth is not 0", scores.voxels, _whole, 10),
        Column("iou", "IoU", "Intersection over union with its largest segment", scores.iou, _share, 6),
        Column("largest_segment", "largest", "The segment that has most of it; 0: none",
               scores.largest_segment, str, 8),
        Column("v_rand_split", "V-Rand", "How many of its pairs of voxels are in one segment, from 0 to 1",
               scores.v_rand_split, _share, 8),
    )  # fmt: skip


def columns_of_segments(scores: SegmentScores) -> Sequence[Column]:
    """Return what each segment is made of."""
    return (
        Column("segment", "segment", "Its number in the segmentation", scores.ids, str, 8),
        Column("n_objects", "objects", "True objects that share voxels with it", scores.n_objects, _whole, 7),
        Column("vi_merge", "VI merge", "Its part of all VI merge, in bits", scores.vi_merge, _bits, 9),
        Column("voxels", "voxels", "Its size in voxels, where the truth is not 0", scores.voxels, _whole, 10),
        Column("iou", "IoU", "Intersection over union with its largest object", scores.iou, _share, 6),
        Column("largest_object", "largest", "The object that most of it is in", scores.largest_object, str, 8),
        Column("v_rand_merge", "V-Rand", "How many of its pairs of voxels are in one object, from 0 to 1",
               scores.v_rand_merge, _share, 8),
    )  # fmt: skip


def columns_of_shapes(shapes: ObjectShapes) -> Sequence[Column]:
    """Return what is doubtful of each object by its looks."""
    doubts = np.where(shapes.is_orphan, "orphan", np.where(shapes.is_large, "very large", ""))
    return (
        Column("object", "object", "Its number in the segmentation", shapes.ids, str, 7),
        Column("doubt", "doubt", "Orphans touch no border; what is very large may be merged",
               doubts, str, 9),
        Column("ends", "ends", "Ends inside the volume", shapes.ends, _whole, 5),
        Column("length_um", "length (µm)", "Way through the centres of its sections, or diagonal of its box",
               shapes.length_um, _tenths, 11),
        Column("voxels", "voxels", "Its size in voxels", shapes.voxels, _whole, 9),
        Column("n_slices", "slices", "Slices that it is in", shapes.n_slices, _whole, 6),
    )  # fmt: skip
