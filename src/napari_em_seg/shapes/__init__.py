"""Shapes: what each object of a segmentation looks like: its voxels, its surface, its skeleton."""

from napari_em_seg.shapes.objects import Objects, Runs, find_objects
from napari_em_seg.shapes.skeleton import Skeleton, skeletonise
from napari_em_seg.shapes.surface import surface_of

__all__ = ["Objects", "Runs", "Skeleton", "find_objects", "skeletonise", "surface_of"]
