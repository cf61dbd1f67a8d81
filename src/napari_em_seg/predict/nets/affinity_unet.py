"""The 3-D U-Net that predicts affinities: whether a voxel belongs together with others beside it."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import NEAREST, Offset
from napari_em_seg.predict.nets._blocks import conv, pad_to_multiple
from napari_em_seg.predict.views import View, invert

__all__ = ["AffinityUNet", "Padding"]

Padding = Literal["same", "valid"]

N_DESCRIPTORS = 10


class AffinityUNet(nn.Module):
    """A 3-D U-Net that pools in y and x only, since sections are much thicker than pixels are wide.

    It sees a block (n, 1, z, y, x) of any size and gives logits (n, affinities, z, y, x), one channel per
    offset. With ``padding="same"`` the result is as large as the block; with ``"valid"`` it holds only voxels
    that saw nothing but tissue, ``halo`` less on each side.

    Parameters
    ----------
    channels
        At each level; the first is that at full size, each below has half the pixels along y and x.
    depths
        Slices that the two kernels of each level see.
    offsets
        What each channel joins a voxel with, (z, y, x). The first three are the nearest neighbours, those
        after them are learned beside them and serve as long-range evidence.
    descriptors
        Whether local shape descriptors are learned beside the affinities: ten more outputs, in training only.
    padding
        See above.
    """

    n_slices: None = None

    def __init__(
        self,
        *,
        channels: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[Sequence[int]] = ((3, 3),) * 4,
        offsets: Sequence[Sequence[int]] = NEAREST,
        descriptors: bool = False,
        padding: Padding = "same",
    ) -> None:
        super().__init__()
        _check(channels, depths, offsets, padding)
        self.offsets: tuple[Offset, ...] = tuple((int(z), int(y), int(x)) for z, y, x in offsets)
        self.padding: Padding = padding
        self._depths = [tuple(pair) for pair in depths]
        self.stride = (1, *(2 ** (len(channels) - 1),) * 2)
        self.pool = nn.MaxPool2d(2)
        self.encoders = nn.ModuleList(
            _Double(n_in, n_out, pair)
            for n_in, n_out, pair in zip([1, *channels], channels, self._depths, strict=False)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, width, 2, stride=2) for width, below in pairwise(channels)
        )
        self.decoders = nn.ModuleList(
            _Double(2 * width, width, pair) for width, pair in zip(channels[:-1], self._depths, strict=False)
        )
        self.head = nn.Conv2d(channels[0], len(self.offsets), 1)
        self.describe = nn.Conv2d(channels[0], N_DESCRIPTORS, 1) if descriptors else None

    def forward(self, block: Tensor) -> Tensor:
        """Return the logits of the affinities."""
        return self._blocks(self.head(self._features(block)), block)

    def forward_all(self, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the affinities, and the shape descriptors (0 to 1) if these are learned."""
        features = self._features(block)
        described = None if self.describe is None else torch.sigmoid(self.describe(features))
        return self._blocks(self.head(features), block), (
            None if described is None else self._blocks(described, block)
        )

    def undo(self, view: View, logits: Tensor) -> Tensor:
        r"""Turn logits (n, c, z, y, x) of a turned block back, so that each channel means its offset again.

        With the turn q = M p, the pair of p and p + o lies at q and q + M o. If M o is an offset, its channel
        at q says it. Else −M o is one, and its channel says it at q + M o, whose voxel is p + o:
        :math:`a_o(p) = a'_{-Mo}(p + o)`.
        """
        upright = invert(view, logits)
        channels = []
        for offset in self.offsets:
            turned = _turned(view, offset)
            if turned in self.offsets:
                channels.append(upright[:, self.offsets.index(turned)])
            else:
                opposite = (-turned[0], -turned[1], -turned[2])
                channels.append(_read_at(upright[:, self.offsets.index(opposite)], offset))
        return torch.stack(channels, 1)

    @cached_property
    def halo(self) -> tuple[int, int, int]:
        r"""How far the output sees along z, y and x.

        Along z every kernel of depth d adds (d − 1)/2. Along y and x each of the two convolutions at stride
        :math:`s = 2^l`, on the way down and again on the way up, adds s, and a pooling to the stride 2s adds
        s, as a voxel may lie at either end of what is pooled:
        :math:`\sum_{l<L} 5 \cdot 2^l + 2 \cdot 2^L` for the levels 0 to L.
        """
        n_below = len(self._depths) - 1
        reach = [sum((depth - 1) // 2 for depth in pair) for pair in self._depths]
        in_plane = sum(5 * 2**level for level in range(n_below)) + 2 * 2**n_below
        return 2 * sum(reach) - reach[-1], in_plane, in_plane

    def _features(self, block: Tensor) -> Tensor:
        """Return what the heads read, (blocks · slices, channels, y, x)."""
        if block.ndim != 5 or block.shape[1] != 1 or 0 in block.shape:
            raise DataError(f"The block has the shape {tuple(block.shape)}",
                            "(blocks, 1, z, y, x), none of them 0",
                            "Give an image with these axes")  # fmt: skip
        n_blocks = len(block)
        x = pad_to_multiple(block.movedim(2, 1).flatten(0, 1), self.stride[-1])
        skips: list[Tensor] = []
        for encoder in self.encoders:
            x = encoder(self.pool(x) if skips else x, n_blocks)
            skips.append(x)
        for level in reversed(range(len(self.ups))):
            x = self.decoders[level](torch.cat([skips[level], self.ups[level](x)], 1), n_blocks)
        return x

    def _blocks(self, x: Tensor, block: Tensor) -> Tensor:
        """Give slices back as blocks (n, c, z, y, x), without what was added to them."""
        x = x[..., : block.shape[-2], : block.shape[-1]].unflatten(0, (len(block), -1)).movedim(1, 2)  # type: ignore[no-untyped-call]
        return x if self.padding == "same" else self._valid(x)

    def _valid(self, x: Tensor) -> Tensor:
        z, y, width = self.halo
        sizes = [n - 2 * h for n, h in zip(x.shape[-3:], self.halo, strict=True)]
        if min(sizes) < 1:
            raise DataError(f"The block has {'×'.join(map(str, x.shape[-3:]))} voxels",
                            f"more than {2 * z}×{2 * y}×{2 * width}, which padding='valid' cuts off",
                            "Give a larger block, or use padding='same'")  # fmt: skip
        return x[..., z : z + sizes[0], y : y + sizes[1], width : width + sizes[2]]


class _Double(nn.Module):
    """Two convolutions of 3×3 pixels and some slices, each normalised by batch and cut off below 0.

    A 3-D convolution is done as one in 2-D, of which the slices around each one are further channels: a CPU
    takes a fifth of the time for that, and slices stay what they are.
    """

    def __init__(self, n_in: int, n_out: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.depths = tuple(depths)
        self.layers = nn.ModuleList(
            conv(before * depth, n_out) for before, depth in zip((n_in, n_out), depths, strict=True)
        )

    def forward(self, x: Tensor, n_blocks: int) -> Tensor:
        """Return features of the same size; x is (blocks · slices, channels, y, x)."""
        for layer, depth in zip(self.layers, self.depths, strict=True):
            x = layer(_with_neighbours(x, n_blocks, depth // 2))
        return x


def _with_neighbours(x: Tensor, n_blocks: int, reach: int) -> Tensor:
    """Put the channels of the slices around each slice beside its own; beyond the block they are 0."""
    if reach == 0:
        return x
    # channels last, as they lie in memory
    blocks = x.permute(0, 2, 3, 1).unflatten(0, (n_blocks, -1))  # type: ignore[no-untyped-call]
    depth = blocks.shape[1]
    padded = pad(blocks, (0, 0) * 3 + (reach, reach))
    stacked = torch.cat([padded[:, k : k + depth] for k in range(2 * reach + 1)], -1)
    return stacked.flatten(0, 1).permute(0, 3, 1, 2)


def _turned(view: View, offset: Offset) -> Offset:
    """Turn a vector as `views.apply` turns a block."""
    z, y, x = offset
    z = -z if view.flip_z else z
    y = -y if view.flip_y else y
    for _ in range(view.rot):
        y, x = -x, y
    return z, y, x


def _read_at(channel: Tensor, offset: Offset) -> Tensor:
    """Return at each voxel the value at voxel + offset; beyond the block, that at its border."""
    for axis, step in zip((-3, -2, -1), offset, strict=True):
        n = channel.shape[axis]
        places = (torch.arange(n, device=channel.device) + step).clamp(0, n - 1)
        channel = channel.index_select(channel.dim() + axis, places)
    return channel


def _check(
    channels: Sequence[int], depths: Sequence[Sequence[int]], offsets: Sequence[Sequence[int]], padding: str
) -> None:
    if padding not in get_args(Padding):
        raise DataError(f"The padding is {padding!r}", " or ".join(get_args(Padding)), "Choose one of these")
    if len(channels) != len(depths) or min(channels, default=0) < 1:
        raise DataError(
            f"The U-Net is to have {tuple(channels)} channels and the depths {tuple(depths)}",
            "as many of both, one for each level",
            "Leave them out for the usual sizes",
        )
    if any(len(pair) != 2 or any(depth < 1 or depth % 2 == 0 for depth in pair) for pair in depths):
        raise DataError(f"The depths are {tuple(depths)}", "two odd numbers for each level", "Take 1 or 3")
    if tuple(map(tuple, offsets[:3])) != NEAREST:
        raise DataError(f"The offsets are {tuple(offsets)}", f"{NEAREST}, and others after these",
                        "Put the nearest neighbours first")  # fmt: skip
    there = set(map(tuple, offsets)) | {tuple(-step for step in offset) for offset in offsets}
    alone = [tuple(o) for o in offsets if not {(o[0], o[2], -o[1]), (-o[0], o[1], o[2])} <= there]
    if alone or len(there) != 2 * len(offsets):
        raise DataError(
            f"The offsets {alone or list(offsets)} have no counterpart in a turned block, or are there twice",
            "with each offset along y the same one along x",
            "Add the missing ones, or leave these out",
        )
