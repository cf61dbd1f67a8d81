"""How far a segmentation is from the truth: one sparse table of overlaps, and every measure read off it."""

from napari_em_seg.metrics.parts import ObjectScores, SegmentScores, per_object, per_segment
from napari_em_seg.metrics.plausibility import ObjectShapes, PlausibilityFigures, plausibility
from napari_em_seg.metrics.scores import Scores, evaluate
from napari_em_seg.metrics.table import Background, Contingency, contingency

__all__ = [
    "Background",
    "Contingency",
    "ObjectScores",
    "ObjectShapes",
    "PlausibilityFigures",
    "Scores",
    "SegmentScores",
    "contingency",
    "evaluate",
    "per_object",
    "per_segment",
    "plausibility",
]
