"""A plain 2-D U-Net, as a peer that the published networks have to beat."""

import torch
from torch import Tensor, nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.nets._blocks import check_input, check_n_slices, conv, pad_to_multiple
from napari_em_seg.predict.nets._net import BoundaryNet

__all__ = ["UNet"]


class UNet(BoundaryNet):
    """Two 3×3 convolutions per level, pooling on the way down, transposed convolutions and skips on the way up.

    Parameters
    ----------
    n_slices
        Slices taken in as channels: 1, 3 or 5.
    base_channels
        Channels at full size; each level below has twice as many.
    levels
        Sizes, the full one among them; the coarsest has the stride 2^(levels − 1).
    """

    def __init__(self, n_slices: int = 3, *, base_channels: int = 16, levels: int = 4) -> None:
        super().__init__()
        check_n_slices(n_slices)
        if levels < 1 or base_channels < 1:
            raise DataError(f"The U-Net is to have {levels} levels and {base_channels} base channels",
                            "at least 1 of each", "Leave them out for 4 levels and 16 channels")  # fmt: skip
        self.n_slices = n_slices
        self.stride = 2 ** (levels - 1)
        widths = [base_channels * 2**level for level in range(levels)]
        self.pool = nn.MaxPool2d(2)
        self.encoders = nn.ModuleList(
            _double(n_in, n_out) for n_in, n_out in zip([n_slices, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1])
        self.decoders = nn.ModuleList(_double(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, 1, y, x) of the centre slice."""
        check_input(images, self.n_slices)
        x = pad_to_multiple(images, self.stride)
        skips: list[Tensor] = []
        for encoder in self.encoders:
            x = encoder(self.pool(x) if skips else x)
            skips.append(x)
        for level in reversed(range(len(self.ups))):
            x = self.decoders[level](torch.cat([skips[level], self.ups[level](x)], 1))
        logits: Tensor = self.head(x)
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def thin(self) -> "UNet":
        """Return a network of the same geometry with as few channels as can be."""
        return UNet(self.n_slices, base_channels=1, levels=len(self.encoders))


def _double(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(conv(n_in, n_out), conv(n_out, n_out))
