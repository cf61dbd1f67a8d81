"""Sums of dilated transposed convolutions as plain convolutions: the same numbers, sooner on a CPU."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

__all__ = ["Deconvolution", "joined"]

Group = tuple[int, slice, int]
"""Places of the output, counted within a stride, that read the same inputs: shift, places, first tap."""


class Deconvolution(nn.ConvTranspose2d):
    r"""A dilated transposed convolution that, without gradients, is done as a plain one.

    It has a stride s that is a power of two, 2s taps along each axis and an odd dilation r, as in a `Pyramid`.
    Output o along an axis gathers the taps k and inputs i with :math:`o = s i + r k - p`, p being the padding.
    As r is odd, each place :math:`o \bmod s` has exactly two such taps, k and k + s with k < s, at the inputs
    i and i − r. So every place is a 2×2 convolution dilated by r, all places together are one with s² as many
    channels, and what is left is to put them where they belong.
    """

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the output; or add it to ``places``, see `empty_places`."""
        if places is None:
            return super().forward(x)
        _add(x, self, places)
        return places

    def empty_places(self, x: Tensor) -> Tensor:
        """Return zeros (n, y, place in y, x, place in x, channel), to which several of these can add."""
        (n, _, height, width), stride = x.shape, self.stride[0]
        return x.new_zeros((n, height, stride, width, stride, self.out_channels))


def joined(places: Tensor) -> Tensor:
    """Return the output (n, channel, y, x) that was gathered place by place; it lies with channels last."""
    n, height, stride, width, _, maps = places.shape
    return places.view(n, height * stride, width * stride, maps).permute(0, 3, 1, 2)


def _add(x: Tensor, layer: nn.ConvTranspose2d, out: Tensor) -> None:
    rate, stride = layer.dilation[0], layer.stride[0]
    groups = list(_groups(stride, rate, int(layer.padding[0])))
    most = max(shift for shift, _, _ in groups)
    places = conv2d(pad(x, (rate, most) * 2), _kernels(layer.weight, groups), dilation=rate)
    _, height, _, width, _, maps = out.shape
    found = places.permute(0, 2, 3, 1).unflatten(-1, (stride, stride, maps))  # type: ignore[no-untyped-call]
    for down, rows, _ in groups:
        for right, columns, _ in groups:
            there = found[:, down : down + height, right : right + width, rows, columns]
            out[:, :, rows, :, columns] += there.permute(0, 1, 3, 2, 4, 5)


def _groups(stride: int, rate: int, padding: int) -> Iterator[Group]:
    """Give the places that read from input i (and i − rate) for the first tap: every rate-th, from some on.

    With o the place itself: i = (o + p − r k) / s, so of all taps k < s one makes that whole.
    """
    read = [o + padding - rate * k for o in range(stride) for k in range(stride)]
    for shift in sorted({number // stride for number in read if number % stride == 0}):
        members = [(k * rate + shift * stride - padding, k) for k in range(stride)]
        members = [(place, k) for place, k in members if 0 <= place < stride]
        yield shift, slice(members[0][0], members[-1][0] + 1, rate), members[0][1]


def _kernels(weight: Tensor, groups: Sequence[Group]) -> Tensor:
    """Rearrange a kernel (in, maps, 2s, 2s) to (places · maps, in, 2, 2), places (y, x) in order."""
    stride = weight.shape[-1] // 2
    first = torch.empty(stride, dtype=torch.int64)
    for _, places, tap in groups:
        numbers = range(stride)[places]
        first[places] = torch.arange(tap, tap + len(numbers))
    taps = torch.stack([first + stride, first], 1)  # the later tap reads the earlier input
    chosen = weight[:, :, taps[:, :, None, None], taps[None, None]]  # (in, maps, place, 2, place, 2)
    return chosen.permute(2, 4, 1, 0, 3, 5).flatten(0, 2)
