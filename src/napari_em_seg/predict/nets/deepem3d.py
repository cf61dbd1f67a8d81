"""DeepEM3D-Net: inception-residual features at four strides, upsampled by dilated deconvolutions."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from napari_em_seg.errors import DataError
from napari_em_seg.predict.nets._blocks import check_input, check_n_slices, conv, down, pad_to_multiple
from napari_em_seg.predict.nets._deconvolution import Deconvolution, joined
from napari_em_seg.predict.nets._net import BoundaryNet

__all__ = ["DeepEM3D", "InceptionResidual", "Pyramid", "Stem"]

_STRIDES = (2, 4, 8, 16)
_WIDE = (1, 5, 11, 17, 23)


class Stem(nn.Module):
    """Two 3-D convolutions that use up the slices, then two inception branches; stride 2.

    Each 3-D kernel is (slices + 1)/2 slices deep, without padding: 5 → 3 → 1, or 3 → 2 → 1. For one slice the
    kernels are one deep, which is a 2-D convolution.
    """

    def __init__(self, n_slices: int, first: int, second: int, branch: int) -> None:
        super().__init__()
        deep = (n_slices + 1) // 2
        self.use_slices = nn.Sequential(
            nn.Conv3d(1, first, (deep, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
            nn.Conv3d(first, second, (deep, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(second),
            nn.ReLU(inplace=True),
        )
        self.branches = nn.ModuleList([
            nn.Sequential(conv(second, second, 1), conv(second, branch)),
            nn.Sequential(conv(second, second, 1), conv(second, second, (7, 1)),
                          conv(second, second, (1, 7)), conv(second, branch)),
        ])  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Return features of the centre slice."""
        flat = self._flat(images)
        return torch.cat([branch(flat) for branch in self.branches], 1)

    def _flat(self, images: Tensor) -> Tensor:
        """Use up the slices; the second kernel takes all that are left, which a 2-D one does much faster."""
        deep = self.use_slices[:3](images[:, None])
        second = cast("nn.Conv3d", self.use_slices[3])
        flat = conv2d(deep.flatten(1, 2), second.weight.flatten(1, 2), padding=1)
        return cast("Tensor", self.use_slices[4:](flat[:, :, None])).squeeze(2)


class InceptionResidual(nn.Module):
    """Parallel branches, joined by a 1×1 convolution to a tenth of which the input is added (Inception-v4)."""

    def __init__(self, width: int, joined: int, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join = nn.Sequential(nn.Conv2d(joined, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        change = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        return torch.relu(x + 0.1 * change)


class Reduction(nn.Module):
    """Parallel branches of stride 2, one of them a max pooling, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.MaxPool2d(2), *branches])

    def forward(self, x: Tensor) -> Tensor:
        """Return features of half the size."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class Pyramid(nn.Module):
    """Transposed convolutions of several dilations in parallel, summed, that bring one stride to full size.

    The kernel has 2·stride taps along each axis. The rates are odd, so that, whatever the dilation, two taps
    per axis reach each voxel of the output; the padding centres them all on the same voxel.
    """

    def __init__(self, n_in: int, stride: int, rates: Sequence[int], maps: int, squeeze: int | None) -> None:
        super().__init__()
        self.squeeze = conv(n_in, squeeze, 1) if squeeze else nn.Identity()
        self.branches = nn.ModuleList(
            Deconvolution(
                squeeze or n_in, maps, 2 * stride, stride=stride, dilation=rate, bias=False,
                padding=((2 * stride - 1) * rate - (stride - 1)) // 2,
            )
            for rate in rates
        )  # fmt: skip
        self.norm = nn.Sequential(nn.BatchNorm2d(maps), nn.ReLU(inplace=True))
        self.score = nn.Conv2d(maps, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return this level's share of the logits."""
        x = self.squeeze(x)
        if torch.is_grad_enabled() or x.device.type != "cpu":
            total = sum(branch(x) for branch in self.branches)
        else:
            places = cast("Deconvolution", self.branches[0]).empty_places(x)
            for branch in self.branches:  # each called as a layer, so that a prediction can stop between them
                branch(x, places)
            total = joined(places)
        logits: Tensor = self.score(self.norm(total))
        return logits


class DeepEM3D(BoundaryNet):
    """DeepEM3D-Net (Zeng, Wu, Ji 2017): 3-D at the start, 2-D after, skips from every stride to full size.

    The numbers of channels are those that the authors released; the paper does not print them. Where we
    differ: strided kernels are centred (see ``down``); the coarsest level, too, has a pyramid (of small
    rates, since those of the others would reach over 370 voxels), as the paper says but not the released
    network; and one logit takes the place of a softmax over two classes, of which it is the difference.

    Parameters
    ----------
    n_slices
        1, 3 or 5 slices around the one that is predicted.
    width
        The share of the full number of channels.
    rates
        Dilations of the pyramids at the strides 2, 4, 8 and 16; odd numbers.
    maps
        Channels that a pyramid gives at full size.
    squeeze
        Channels to which a 1×1 convolution brings the input of each pyramid; None to take it whole.
    """

    def __init__(
        self,
        n_slices: int = 5,
        *,
        width: float = 1.0,
        rates: Sequence[Sequence[int]] = (_WIDE, _WIDE, _WIDE, (1, 3, 5)),
        maps: int = 2,
        squeeze: int | None = None,
    ) -> None:
        super().__init__()
        check_n_slices(n_slices)
        _check_sizes(width, rates)
        self.n_slices = n_slices
        self.stride = _STRIDES[-1]
        self._rates = rates
        c = _Channels(width)
        self.stem = Stem(n_slices, c(32), c(64), c(96))
        at_4, at_8 = c(384), 3 * c(384)
        at_16 = at_8 + c(384) + c(288) + c(320)
        self.levels = nn.ModuleList([_level_4(c), _level_8(c), _level_16(c, at_8, at_16)])
        self.pyramids = nn.ModuleList(
            Pyramid(n_in, stride, of_level, maps, squeeze)
            for n_in, stride, of_level in zip((2 * c(96), at_4, at_8, at_16), _STRIDES, rates, strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, 1, y, x) of the centre slice."""
        check_input(images, self.n_slices)
        x = self.stem(pad_to_multiple(images, self.stride))
        logits = self.pyramids[0](x)
        for level, pyramid in zip(self.levels, self.pyramids[1:], strict=True):
            x = level(x)
            logits = logits + pyramid(x)
        return cast("Tensor", logits)[..., : images.shape[-2], : images.shape[-1]]

    def thin(self) -> "DeepEM3D":
        """Return a network of the same geometry with as few channels as can be."""
        return DeepEM3D(self.n_slices, width=0.01, rates=self._rates, maps=1, squeeze=1)


class _Channels:
    """The full number of channels → that of a narrower network, in steps of 4."""

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, full: int) -> int:
        return max(4, 4 * round(full * self.width / 4))


def _level_4(c: _Channels) -> nn.Sequential:
    block = InceptionResidual(c(384), 2 * c(32) + c(64), [
        conv(c(384), c(32), 1),
        nn.Sequential(conv(c(384), c(32), 1), conv(c(32), c(32))),
        nn.Sequential(conv(c(384), c(32), 1), conv(c(32), c(48)), conv(c(48), c(64))),
    ])  # fmt: skip
    return nn.Sequential(
        Reduction(down(2 * c(96), c(192))), conv(2 * c(96) + c(192), c(384), 1), block
    )  # fmt: skip


def _level_8(c: _Channels) -> nn.Sequential:
    n_in, width = c(384), 3 * c(384)
    reduction = Reduction(
        down(n_in, c(384)),
        nn.Sequential(conv(n_in, c(256), 1), conv(c(256), c(256)), down(c(256), c(384))),
    )
    block = InceptionResidual(width, 2 * c(192), [
        conv(width, c(192), 1),
        nn.Sequential(conv(width, c(128), 1), conv(c(128), c(160), (1, 7)), conv(c(160), c(192), (7, 1))),
    ])  # fmt: skip
    return nn.Sequential(reduction, block)


def _level_16(c: _Channels, n_in: int, width: int) -> nn.Sequential:
    reduction = Reduction(
        nn.Sequential(conv(n_in, c(256), 1), down(c(256), c(384))),
        nn.Sequential(conv(n_in, c(256), 1), down(c(256), c(288))),
        nn.Sequential(conv(n_in, c(256), 1), conv(c(256), c(288)), down(c(288), c(320))),
    )
    block = InceptionResidual(width, c(192) + c(256), [
        conv(width, c(192), 1),
        nn.Sequential(conv(width, c(192), 1), conv(c(192), c(224), (1, 3)), conv(c(224), c(256), (3, 1))),
    ])  # fmt: skip
    return nn.Sequential(reduction, block)


def _check_sizes(width: float, rates: Sequence[Sequence[int]]) -> None:
    if not width > 0:
        raise DataError(f"The width is {width}", "a share above 0 of the full number of channels",
                        "Take 1 for the full network")  # fmt: skip
    odd = all(rate > 0 and rate % 2 for of_level in rates for rate in of_level)
    if len(rates) != len(_STRIDES) or not all(rates) or not odd:
        raise DataError(
            f"The dilations are {rates}",
            "four lists, for the strides 2, 4, 8 and 16, of at least one odd number each",
            "Leave them out for those of the paper; an even dilation leaves holes in the output",
        )
