"""The networks: DeepEM3D, M2FCN and a plain U-Net give logits of boundaries, another U-Net of affinities."""

from napari_em_seg.predict.nets._net import BoundaryNet
from napari_em_seg.predict.nets.affinity_unet import AffinityUNet
from napari_em_seg.predict.nets.deepem3d import DeepEM3D
from napari_em_seg.predict.nets.m2fcn import M2FCN
from napari_em_seg.predict.nets.propagator import Propagator
from napari_em_seg.predict.nets.unet import UNet

__all__ = ["M2FCN", "AffinityUNet", "AnyNet", "BoundaryNet", "DeepEM3D", "Propagator", "UNet"]

AnyNet = BoundaryNet | AffinityUNet | Propagator
"""What the registry builds."""
