"""Propagator: follows the masks of several objects from slice to slice, by chained CConvLSTM layers."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.predict.nets._blocks import conv, down, pad_to_multiple

__all__ = ["CConvLSTM", "Memory", "Propagator", "ResNet50Encoder", "SmallEncoder", "load_resnet50"]

Cell = tuple[Tensor, Tensor]
"""Hidden and cell state of one ConvLSTM."""


class Memory(NamedTuple):
    """What is remembered of one object at one layer: both directions, and the hidden state on the reference."""

    forward: Cell
    backward: Cell | None
    reference: Tensor | None


class _ConvLSTM(nn.Module):
    r"""A convolutional LSTM whose hidden input comes from two sides: the object before, and the slice before.

    .. math:: (i, f, o, g) = W * [x | h_{t,o-1} | h_{t-1,o}], \quad
              c = \sigma(f) c_{t-1,o} + \sigma(i) \tanh g, \quad h = \sigma(o) \tanh c
    """

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.gates = nn.Conv2d(n_in + 2 * n_hidden, 4 * n_hidden, 3, padding=1)

    def forward(self, x: Tensor, spatial: Tensor, temporal: Cell) -> Cell:
        gates = self.gates(torch.cat((x, spatial, temporal[0]), dim=1))
        i, f, o, g = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f + 1) * temporal[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


class CConvLSTM(nn.Module):
    r"""One layer for all objects of a slice: both directions, and the skip from the reference slice.

    .. math:: \overrightarrow h_{t,o} = \operatorname{ConvLSTM}_{\to}
              (x, [\overrightarrow h_{t,o-1} | \overrightarrow h_{t-1,o}]), \qquad
              h_{t,o} = \operatorname{Conv}([\overrightarrow h_{t,o} | \overleftarrow h_{t,o} | h_{r,o}])

    The second direction runs over the objects from the last one to the first, with weights of its own. Both
    remember the slice before, seen from the reference; so a volume is walked slice by slice, without a look at
    slices that come later.

    Parameters
    ----------
    n_in, n_hidden
        Channels.
    is_local
        Whether there is the second direction.
    is_nonlocal
        Whether there is the skip from the reference slice.
    """

    def __init__(self, n_in: int, n_hidden: int, is_local: bool, is_nonlocal: bool) -> None:
        super().__init__()
        self.n_hidden, self.is_nonlocal = n_hidden, is_nonlocal
        self.there = _ConvLSTM(n_in, n_hidden)
        self.back = _ConvLSTM(n_in, n_hidden) if is_local else None
        n_joined = n_hidden * (1 + is_local + is_nonlocal)
        self.join = nn.Sequential(nn.Conv2d(n_joined, n_hidden, 3, padding=1), nn.ReLU(inplace=True))

    def forward(
        self, x: Sequence[Tensor], memory: Sequence[Memory | None]
    ) -> tuple[list[Tensor], list[Memory]]:
        """Return the hidden state of each object, and what to remember for the next slice."""
        zero = x[0].new_zeros(x[0].shape[0], self.n_hidden, *x[0].shape[-2:])
        ways = [(self.there, range(len(x)), 0)]
        if self.back is not None:
            ways.append((self.back, range(len(x))[::-1], 1))
        cells: list[list[Cell]] = []
        for lstm, order, side in ways:
            found: dict[int, Cell] = {}
            spatial = zero
            for o in order:
                before = memory[o]
                temporal = (zero, zero) if before is None else before[side]
                found[o] = lstm(x[o], spatial, temporal)
                spatial = found[o][0]
            cells.append([found[o] for o in range(len(x))])
        hidden, kept = [], []
        for o, before in enumerate(memory):
            parts = [way[o][0] for way in cells]
            reference = None if before is None else before.reference
            if self.is_nonlocal:
                parts.append(zero if reference is None else reference)
            h = self.join(torch.cat(parts, dim=1))
            if self.is_nonlocal and reference is None:
                reference = h
            hidden.append(h)
            kept.append(Memory(cells[0][o], cells[1][o] if self.back is not None else None, reference))
        return hidden, kept


class SmallEncoder(nn.Module):
    """A few convolutions at strides 1, 2, 4 and 8, for machines without a GPU."""

    strides = (8, 4, 2, 1)

    def __init__(self, channels: Sequence[int] = (12, 24, 36, 48)) -> None:
        super().__init__()
        self.channels = tuple(channels)[::-1]
        self.first = nn.Sequential(conv(1, channels[0], 5), conv(channels[0], channels[0]))
        self.levels = nn.ModuleList(
            nn.Sequential(down(a, b), conv(b, b), conv(b, b)) for a, b in pairwise(channels)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of a slice (n, 1, y, x), the coarsest first."""
        found = [self.first(images)]
        for level in self.levels:
            found.append(level(found[-1]))
        return found[::-1]


class ResNet50Encoder(nn.Module):
    """The encoder of the paper: ResNet-50 up to its last convolution, a slice in all three channels.

    It has no weights but random ones unless somebody gives it a file of them (`load_resnet50`).
    """

    strides = (32, 16, 8, 4, 2)
    channels = (2048, 1024, 512, 256, 64)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        counts, widths = (3, 4, 6, 3), (64, 128, 256, 512)
        n_in, layers = 64, []
        for k, (count, width) in enumerate(zip(counts, widths, strict=True)):
            blocks = []
            for i in range(count):
                blocks.append(_Bottleneck(n_in, width, 2 if k > 0 and i == 0 else 1))
                n_in = 4 * width
            layers.append(nn.Sequential(*blocks))
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of a slice (n, 1, y, x), the coarsest first."""
        found = [self.stem(images.expand(-1, 3, -1, -1))]
        x = self.pool(found[0])
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found[::-1]


class _Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, with a shortcut."""

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        n_out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(n_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, n_out, 1, bias=False), nn.BatchNorm2d(n_out),
        )  # fmt: skip
        self.shortcut = (
            nn.Identity() if n_in == n_out and stride == 1 else nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def load_resnet50(net: "Propagator", path: Path) -> None:
    """Give the encoder weights from a safetensors file, under torchvision's names, without the classifier."""
    encoder = net.encoder
    if not isinstance(encoder, ResNet50Encoder):
        raise DataError("The weights of a ResNet-50 were given to another encoder", "propagator-resnet50",
                        "Choose that architecture, or leave the weights out")  # fmt: skip
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} cannot be read: {error}", "a safetensors file",
                          "Save them with safetensors.torch.save_file") from error  # fmt: skip
    ours = {_resnet_name(name): x for name, x in given.items() if not name.startswith("fc.")}
    try:
        encoder.load_state_dict(ours)
    except RuntimeError as error:
        raise FormatError(f"{path} does not fit: {str(error).splitlines()[-1].strip()}",
                          "the weights of a ResNet-50, under torchvision's names",
                          "Choose another file") from error  # fmt: skip


def _resnet_name(name: str) -> str:
    """Return our name of a tensor: layer1.0.conv2.weight is layers.0.0.body.3.weight."""
    name = re.sub(r"^conv1\.", "stem.0.", re.sub(r"^bn1\.", "stem.1.", name))
    name = re.sub(r"^layer(\d)\.", lambda found: f"layers.{int(found[1]) - 1}.", name)
    name = re.sub(r"\.conv(\d)\.", lambda found: f".body.{3 * int(found[1]) - 3}.", name)
    name = re.sub(r"\.bn(\d)\.", lambda found: f".body.{3 * int(found[1]) - 2}.", name)
    return name.replace(".downsample.", ".shortcut.")


_ENCODERS: dict[str, Any] = {"small": SmallEncoder, "resnet50": ResNet50Encoder}


class Propagator(nn.Module):
    """From a slice, the masks on the slice before, and memories, to the masks on this slice.

    Parameters
    ----------
    encoder
        "small" or "resnet50".
    hidden
        Channels of each CConvLSTM layer, the coarsest first; as many as the encoder has levels.
    projected
        Channels to which the features of the encoder are projected, likewise.
    variant
        "ST" (space and time), "STL" (also the second direction), "STN" (also the skip), "STC" (both).
    pixel_nm
        Size of the pixels that it works on.
    saves_memory
        Whether training computes layers twice instead of keeping what they need.
    """

    n_slices = 1

    def __init__(
        self,
        encoder: str = "small",
        hidden: Sequence[int] = (24, 20, 12, 8),
        projected: Sequence[int] = (24, 16, 12, 8),
        variant: str = "STC",
        pixel_nm: float = 12.0,
        saves_memory: bool = False,
    ) -> None:
        super().__init__()
        is_local, is_nonlocal = {"ST": (False, False), "STL": (True, False), "STN": (False, True),
                                 "STC": (True, True)}[variant]  # fmt: skip
        self.encoder = _ENCODERS[encoder]()
        self.variant, self.pixel_nm, self.saves_memory = variant, float(pixel_nm), saves_memory
        self.strides: tuple[int, ...] = self.encoder.strides
        if not len(hidden) == len(projected) == len(self.strides):
            raise ValueError(f"{len(self.strides)} layers need {len(self.strides)} numbers of channels")
        self.project = nn.ModuleList(
            nn.Conv2d(n, p, 1) for n, p in zip(self.encoder.channels, projected, strict=True)
        )
        before = (1, *hidden[:-1])  # the mask on the reference slice stands before the first layer
        self.layers = nn.ModuleList(
            CConvLSTM(b + p + 1, h, is_local, is_nonlocal)
            for b, p, h in zip(before, projected, hidden, strict=True)
        )
        self.head = nn.Conv2d(hidden[-1], 1, 1)
        nn.init.constant_(self.head.get_parameter("bias"), -2.0)  # most pixels are no part of an object

    @property
    def stride(self) -> int:
        """Sizes of slices and windows are multiples of it."""
        return self.strides[0]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the projected features of a slice (n, 1, y, x), once for all objects."""
        found = self.encoder(pad_to_multiple(image, self.stride))
        return [project(level) for project, level in zip(self.project, found, strict=True)]

    def forward(
        self,
        features: Sequence[Tensor],
        masks: Tensor,
        seeds: Tensor,
        memory: Sequence[Sequence[Memory | None]] | None = None,
    ) -> tuple[Tensor, list[list[Memory]]]:
        """Return logits (n, objects, y, x) of the masks, and what to remember: by layer, by object.

        Parameters
        ----------
        features
            Of this slice.
        masks
            On the slice before, seen from the reference; on the reference slice its own (n, objects, y, x).
        seeds
            The masks on the reference slice.
        memory
            Of the slice before; None on the reference slice.
        """
        n = masks.shape[1]
        memory = [[None] * n for _ in self.layers] if memory is None else memory
        above = [_resized(seeds[:, o : o + 1], features[0]) for o in range(n)]
        kept = []
        for layer, level, remembered in zip(self.layers, features, memory, strict=True):
            x = [
                torch.cat((_resized(above[o], level), level, _resized(masks[:, o : o + 1], level)), dim=1)
                for o in range(n)
            ]
            if self.saves_memory and self.training:
                above, now = checkpoint(layer, x, remembered, use_reentrant=False)
            else:
                above, now = layer(x, remembered)
            kept.append(now)
        logits = torch.cat([self.head(h) for h in above], dim=1)
        return _resized(logits, masks), kept


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """Bring to the size of another tensor: bilinear up, means down."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    if x.shape[-1] > like.shape[-1]:
        return interpolate(x, like.shape[-2:], mode="area")
    return interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
