"""M2FCN: stages of holistically-nested edge detectors, each of which reads the maps of the one before."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_em_seg.errors import DataError
from napari_em_seg.predict.nets._blocks import check_input, check_n_slices, conv, pad_to_multiple
from napari_em_seg.predict.nets._net import BoundaryNet

__all__ = ["M2FCN", "Stage"]

_DEPTHS = (2, 2, 3, 3, 3)  # convolutions per level, as in VGG-16
_STRIDE = 16


class Stage(nn.Module):
    """One sub-net: VGG-16's convolutions in five levels, with a side output at each and their fusion.

    A score of level 1 to 5 has the stride 1, 2, 4, 8, 16 and sees 5, 14, 40, 92, 196 voxels. Bilinear
    interpolation from voxel centres brings it to full size (the paper's fixed deconvolution), where a voxel
    of the input stays put.
    """

    def __init__(self, n_in: int, widths: Sequence[int], *, norm: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.levels = nn.ModuleList(
            _level(before, width, depth, norm=norm)
            for (before, width), depth in zip(pairwise([n_in, *widths]), _DEPTHS, strict=True)
        )
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths)
        self.fuse = nn.Conv2d(len(widths), 1, 1)
        nn.init.constant_(self.fuse.weight, 1 / len(widths))  # begin with the mean, as HED does

    def scores(self, x: Tensor) -> list[Tensor]:
        """Return the logits of all levels, each at its own stride; x has whole strides."""
        scores: list[Tensor] = []
        for level, side in zip(self.levels, self.sides, strict=True):
            x = level(self.pool(x) if scores else x)
            scores.append(side(x))
        return scores

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return five side outputs, fine to coarse, and the fused one, all as logits at full size."""
        scores = self.scores(x)
        full = scores[0].shape[-2:]
        sides = [scores[0]] + [
            interpolate(score, size=full, mode="bilinear", align_corners=False) for score in scores[1:]
        ]
        return [*sides, self.fuse(torch.cat(sides, 1))]


class M2FCN(BoundaryNet):
    """Multi-stage, multi-recursive-input fully convolutional network (Shen et al. 2017).

    Stage m > 1 takes the image and all side outputs of stage m − 1 (equation 1: as logits). Where we differ:
    batch norm, since no ImageNet weights are loaded to begin from, and the input may have several slices.

    Parameters
    ----------
    n_slices
        Slices taken in as channels: 1, as in the paper, 3 or 5.
    stages
        1, 2 or 3.
    widths
        Channels of the five levels; those of VGG-16 by default.
    norm
        Whether a batch norm follows each convolution.
    """

    def __init__(
        self,
        n_slices: int = 1,
        *,
        stages: int = 2,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_n_slices(n_slices)
        if stages not in (1, 2, 3) or len(widths) != len(_DEPTHS):
            raise DataError(
                f"M2FCN is to have {stages} stages of {len(widths)} levels",
                "1, 2 or 3 stages of 5 levels",
                "Choose the number of stages, and give a width for each level",
            )
        self.n_slices = n_slices
        self.stride = _STRIDE
        n_in = [n_slices] + [n_slices + len(widths)] * (stages - 1)
        self.stages = nn.ModuleList(Stage(n, widths, norm=norm) for n in n_in)

    def forward_all(self, images: Tensor) -> list[Tensor]:
        """Return all outputs for training, as logits (n, 1, y, x): six per stage.

        The order is side 1 (fine) to side 5 (coarse) and fused of stage 1, the same of stage 2, and so on; the
        last one is the network's own output.
        """
        check_input(images, self.n_slices)
        padded = pad_to_multiple(images, self.stride)
        outputs: list[Tensor] = []
        x = padded
        for stage in self.stages:
            current = stage(x)
            outputs += current
            x = torch.cat([padded, *current[:-1]], 1)
        return [output[..., : images.shape[-2], : images.shape[-1]] for output in outputs]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, 1, y, x) of the centre slice: the fused output of the last stage."""
        return self.forward_all(images)[-1]

    def thin(self) -> "M2FCN":
        """Return a network of the same geometry with as few channels as can be."""
        return M2FCN(self.n_slices, stages=len(self.stages), widths=(1,) * len(_DEPTHS))

    def init_from_single_stage(self, single: "M2FCN") -> None:
        """Copy a trained network of one stage into stage 1, as the paper does before training all stages.

        The stages after it are left as they are, at random from the constructor.
        """
        try:
            if len(single.stages) != 1 or single.n_slices != self.n_slices:
                raise ValueError(f"{len(single.stages)} stages, {single.n_slices} slices")
            self.stages[0].load_state_dict(single.stages[0].state_dict())
        except (ValueError, RuntimeError) as error:
            raise DataError(
                f"The network to begin from does not fit stage 1 ({error})",
                f"an M2FCN of one stage that takes {self.n_slices} slices, of the same widths",
                "Train one with stages=1 and otherwise the same arguments",
            ) from error


def _level(n_in: int, n_out: int, depth: int, *, norm: bool) -> nn.Sequential:
    widths = [n_in] + [n_out] * depth
    return nn.Sequential(*(conv(before, after, norm=norm) for before, after in pairwise(widths)))
