"""From boundaries or affinities to objects."""

from napari_em_seg.segment._intensity import intensity_watershed
from napari_em_seg.segment.agglomerate import agglomerate
from napari_em_seg.segment.hmin import Basins, Mode, basins, best_h, hmin_watershed
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import RegionGraph, merge_graphs, region_graph
from napari_em_seg.segment.zwatershed import zwatershed

__all__ = [
    "Basins",
    "MergeTree",
    "Mode",
    "RegionGraph",
    "agglomerate",
    "basins",
    "best_h",
    "hmin_watershed",
    "intensity_watershed",
    "merge_graphs",
    "region_graph",
    "zwatershed",
]
