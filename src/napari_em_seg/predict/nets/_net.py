"""What every boundary network is: how many slices it takes, its stride, and how far it sees."""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor, nn

__all__ = ["BoundaryNet"]


class BoundaryNet(nn.Module, ABC):
    """A network that maps (n, slices, y, x), of any size, to the logits (n, 1, y, x) of the centre slice.

    Attributes
    ----------
    n_slices
        Slices taken in: 1, 3 or 5.
    stride
        Inputs whose size is a multiple of it need no padding, and shifts by a multiple commute.
    """

    n_slices: int
    stride: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, 1, y, x) of the centre slice."""

    @abstractmethod
    def thin(self) -> "BoundaryNet":
        """Return a network of the same geometry with as few channels as can be."""

    @cached_property
    def reach(self) -> tuple[int, int]:
        """How many voxels to the left and right, as above and below, the output can see; at least (0, 0).

        Measured on a thin copy: with all weights above 0 and no bias, a single bright voxel makes exactly
        those outputs positive that depend on it. It is put on each place of the grid of the strides.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.autocast("cpu", enabled=False):
            return _measure(self.thin().eval())

    @property
    def halo(self) -> int:
        """The overlap that makes tiles agree with the whole, if they begin at multiples of the stride."""
        return max(self.reach)


@torch.inference_mode()
def _measure(net: BoundaryNet) -> tuple[int, int]:
    """Put bright voxels in a strip, which grows until all that depends on them lies within."""
    _make_transparent(net)
    length = 1024
    while True:
        places = length // 2 // net.stride * net.stride + torch.arange(net.stride)
        images = torch.zeros(net.stride, net.n_slices, 1, length)
        images[torch.arange(net.stride), :, :, places] = 1e20  # far above what float32 rounds away
        is_reached = net(images)[:, 0, 0] > 0
        if not is_reached[:, [0, -1]].any():
            break
        length *= 2
    marks = is_reached.int()
    first, last = marks.argmax(1), length - 1 - marks.flip(1).argmax(1)
    return int((last - places).max()), int((places - first).max())


@torch.no_grad()
def _make_transparent(net: nn.Module) -> None:
    """Let every layer take the mean of its inputs."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_running_stats()
            module.reset_parameters()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim > 1:
            parameter.fill_(parameter.shape[0] / parameter.numel())
