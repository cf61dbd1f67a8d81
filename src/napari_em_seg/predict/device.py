"""How a net is called and where it runs: device, precision, layout, and the tile that fits the memory."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.tiling import Sizes
from napari_em_seg.predict.views import View, apply, invert

__all__ = [
    "BlockNet",
    "Net",
    "Runtime",
    "SliceNet",
    "as_net",
    "choose_device",
    "free_memory",
    "is_out_of_memory",
    "three",
    "tile_side",
]

CPU_SIDE = 1024  # larger tiles save little halo, and make each layer, hence cancelling, slower
GPU_SIDE = 2048
LEAST_SIDE = 64
SHARE = 0.5  # of the free memory; the rest is for what the estimate does not see

_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True, eq=False)
class SliceNet:
    """A net that sees ``n_slices`` slices and predicts their middle: (n, slices, y, x) → (n, c, y, x)."""

    model: nn.Module
    n_slices: int
    halo: Sizes | None
    stride: Sizes = (1, 1, 1)

    def __call__(self, block: torch.Tensor, margin: int, view: View, slices: list[int]) -> torch.Tensor:
        """Predict some slices, counted from ``margin``, of a block (z, y, x): logits (c, slices, y, x)."""
        first = margin - self.n_slices // 2
        stacks = block.unfold(0, self.n_slices, 1).movedim(-1, 1)[[first + z for z in slices]]
        logits: torch.Tensor = self.model(channels_last(apply(view, stacks)))
        return invert(view, logits.unsqueeze(2))[:, :, 0].movedim(0, 1)


@dataclass(frozen=True, eq=False)
class BlockNet:
    """A net that predicts a block of the size that it sees: (n, 1, z, y, x) → (n, c, z, y, x).

    Affinity nets set ``undo``, since their channels change places when a block is turned.
    """

    model: nn.Module
    halo: Sizes | None
    stride: Sizes = (1, 1, 1)
    undo: Callable[[View, torch.Tensor], torch.Tensor] = invert

    n_slices: None = None

    def __call__(self, block: torch.Tensor, margin: int, view: View, slices: list[int]) -> torch.Tensor:
        """Predict a block (z, y, x), and return some slices, counted from ``margin``: (c, slices, y, x)."""
        logits = self.model(channels_last(apply(view, block[None, None])))
        return self.undo(view, logits)[0][:, [margin + z for z in slices]]


Net = SliceNet | BlockNet


def as_net(model: nn.Module) -> Net:
    """Read from a model how it wants to be run.

    ``n_slices`` (odd): a net for slices; without it, a net for blocks. ``halo``: how far it looks, in voxels,
    one number for y and x or three; ``stride``: the product of its poolings, likewise; ``undo``: see
    `BlockNet`.
    """
    halo, n_slices = getattr(model, "halo", None), getattr(model, "n_slices", None)
    stride = three(getattr(model, "stride", 1), 1)
    if n_slices is None:
        return BlockNet(model, None if halo is None else three(halo, 0), stride, getattr(model, "undo", invert))
    if not isinstance(n_slices, int) or n_slices < 1 or n_slices % 2 == 0:
        raise DataError(f"A net sees {n_slices!r} slices", "an odd number", "Set its n_slices to 1, 3 or 5")
    reach = n_slices // 2
    return SliceNet(model, n_slices, None if halo is None else (reach, *three(halo, 0)[1:]), (1, *stride[1:]))


def three(sizes: int | Sequence[int], least: int) -> Sizes:
    """Return three whole numbers (z, y, x); one number stands for all."""
    numbers = (sizes,) * 3 if isinstance(sizes, int) else tuple(sizes)
    if len(numbers) != 3 or not all(isinstance(n, int) and n >= least for n in numbers):
        raise DataError(
            f"A size is {sizes!r}", f"one whole number or three (z, y, x) from {least}", "Give such sizes"
        )
    return numbers


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called "auto" (CUDA, else MPS, else CPU), "cuda", "cuda:1", "mps" or "cpu"."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    kind, _, number = name.partition(":")
    numbers = range(torch.cuda.device_count()) if kind == "cuda" else range(1)
    if not there.get(kind, False) or (number and number not in map(str, numbers)):
        raise DataError(
            f"The device is {name!r}, which is not there",
            f"auto, {', '.join(kind for kind, is_there in there.items() if is_there)}",
            "Choose one of these, or install a PyTorch built for that device and its driver",
        )
    return torch.device(name)


@dataclass(frozen=True)
class Runtime:
    """How nets are run on a device.

    Parameters
    ----------
    device
        Where.
    half
        Whether in half precision (autocast); None: on CUDA and MPS.
    is_compiled
        Whether through ``torch.compile``: minutes at first, faster for large volumes.
    """

    device: torch.device
    half: bool | None = None
    is_compiled: bool = False

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a CUDA or MPS one."""
        return self.device.type != "cpu"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return a copy for inference on the device; the model given stays as and where it is."""
        return lay_out(copy.deepcopy(model).eval().requires_grad_(False).to(self.device))

    def compiled(self, model: nn.Module) -> nn.Module:
        """Return the model compiled if that is wanted."""
        return torch.compile(model) if self.is_compiled else model  # type: ignore[return-value]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run without gradients, deterministically, in half precision if that is wanted."""
        half = self.is_gpu if self.half is None else self.half
        dtype = torch.float16 if self.is_gpu else torch.bfloat16
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype, enabled=half),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            yield

    def release(self) -> None:
        """Give cached memory back, after it ran out."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Lay a tensor of four or five axes out with channels last, which convolutions are fastest on."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()]) if x.dim() in formats else x


def lay_out(model: nn.Module) -> nn.Module:
    """Lay all kernels of a model out with channels last, in place, and return it."""
    for parameter in model.parameters():
        parameter.data = channels_last(parameter.data)
    return model


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return int(psutil.virtual_memory().available)


def tile_side(bytes_per_pixel: float, halo: int, device: torch.device, free: int | None = None) -> int:
    """Return the side of a tile that fits the free memory: a power of two, so that it seldom changes.

    The largest side with ``bytes_per_pixel · (side + 2·halo)² ≤ free / 2``, 64 to 1024 on a CPU and to 2048
    on a GPU. Where results must repeat bit for bit whatever else runs, name the tile yourself.
    """
    free = free_memory(device) if free is None else free
    most = CPU_SIDE if device.type == "cpu" else GPU_SIDE
    fits = math.sqrt(SHARE * free / max(1.0, bytes_per_pixel)) - 2 * halo
    return int(min(most, 2 ** int(math.log2(max(LEAST_SIDE, fits)))))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, whichever way the device says so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)
