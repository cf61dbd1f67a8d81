"""From boundaries to objects."""

from napari_em_seg.segment._intensity import intensity_watershed
from napari_em_seg.segment.hmin import Basins, Mode, basins, best_h, hmin_watershed

__all__ = ["Basins", "Mode", "basins", "best_h", "hmin_watershed", "intensity_watershed"]
