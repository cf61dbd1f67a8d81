"""From boundaries to objects."""

from napari_em_seg.segment._intensity import intensity_watershed

__all__ = ["intensity_watershed"]
