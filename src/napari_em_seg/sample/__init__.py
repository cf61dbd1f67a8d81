"""Synthetic serial-section EM with dense ground truth, so that everything can be tried without a download."""

from napari_em_seg.sample._generate import Sample, generate

__all__ = ["Sample", "generate"]
