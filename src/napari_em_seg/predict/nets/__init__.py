"""The boundary networks. All take (n, slices, y, x) and return the logits (n, 1, y, x) of the centre slice."""

from napari_em_seg.predict.nets._net import BoundaryNet
from napari_em_seg.predict.nets.deepem3d import DeepEM3D
from napari_em_seg.predict.nets.m2fcn import M2FCN
from napari_em_seg.predict.nets.unet import UNet

__all__ = ["M2FCN", "BoundaryNet", "DeepEM3D", "UNet"]
