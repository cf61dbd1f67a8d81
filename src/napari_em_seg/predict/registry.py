"""All networks by name, how each is built, what it costs and how far it sees. Loads torch when used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from napari_em_seg.errors import DataError

if TYPE_CHECKING:
    from napari_em_seg.predict.nets import AnyNet

__all__ = ["ARCHITECTURES", "PROPAGATORS", "Architecture", "Figures", "architecture", "build", "describe"]

Family = Literal["deepem3d", "m2fcn", "unet", "affinity", "propagator"]


@dataclass(frozen=True)
class Architecture:
    """A network that can be chosen by name.

    What a name means never changes, since weight files refer to it: other numbers get another name.

    Attributes
    ----------
    name
        As on the command line.
    family
        The paper it is from.
    build
        Makes the network, with random weights; takes the arguments of its class.
    n_slices
        Slices it takes, unless an argument of that name says otherwise; None for one that takes blocks.
    arguments
        What ``build`` is given, unless a caller says otherwise.
    loss
        The loss of its paper, a key of ``losses.LOSSES``, or for affinities of ``AFFINITY_LOSSES``.
    is_small
        Whether it is meant for machines without a GPU.
    """

    name: str
    family: Family
    build: "Callable[..., AnyNet]" = field(repr=False)
    n_slices: int | None
    arguments: Mapping[str, Any]
    loss: str
    is_small: bool

    @property
    def task(self) -> str:
        """What it predicts."""
        return self.family if self.family in ("affinity", "propagator") else "boundary"


@dataclass(frozen=True)
class Figures:
    """What a network costs and sees; computed, not written down.

    Attributes
    ----------
    n_parameters
        Numbers that training sets.
    receptive_field
        Voxels along y, and along x, that one voxel of the output can depend on, wherever it lies on the grid
        of the strides.
    reach
        The most voxels to one side among them: the network's ``halo``, the overlap that tiles need.
    multiply_adds
        Multiplications with addition, of all convolutions, for each voxel predicted.
    n_slices
        Slices that one slice out depends on.
    stride
        Sizes and shifts that are multiples of it need no padding, and shift the output likewise.
    """

    n_parameters: int
    receptive_field: int
    reach: int
    multiply_adds: int
    n_slices: int
    stride: int


def architecture(name: str) -> Architecture:
    """Return the architecture of that name, or raise a DataError that lists them."""
    known = {**ARCHITECTURES, **PROPAGATORS}
    found = known.get(name)
    if found is None:
        close = get_close_matches(name, known, n=1)
        raise DataError(
            f"There is no network named {name!r}",
            f"one of {', '.join(known)}",
            f"Did you mean {close[0]}" if close else "Choose one of these",
        )
    return found


def build(name: str, **arguments: Any) -> "AnyNet":
    """Build a network with random weights; the arguments go before those of its architecture."""
    from napari_em_seg.predict.nets._blocks import clear_arguments

    chosen = architecture(name)
    with clear_arguments(name):
        return chosen.build(**{**chosen.arguments, **arguments})


def describe(name: str, **arguments: Any) -> Figures:
    """Compute what a network costs and sees; takes the same as ``build``, and allocates no large network."""
    import torch

    with torch.device("meta"):
        net: Any = build(name, **arguments).eval()
    if net.n_slices is None:
        deep, reach, _ = net.halo
        left, right, n_slices, stride = reach, reach, 2 * deep + 1, net.stride[-1]
    else:
        (left, right), n_slices, stride = net.reach, net.n_slices, net.stride
    return Figures(
        n_parameters=sum(parameter.numel() for parameter in net.parameters()),
        receptive_field=left + 1 + right,
        reach=max(left, right),
        multiply_adds=_multiply_adds(net),
        n_slices=n_slices,
        stride=stride,
    )


def _multiply_adds(net: "AnyNet", size: int = 512) -> int:
    """Count by torch's own counter, on tensors without content."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shape = (1, 1, 1, size, size) if net.n_slices is None else (1, net.n_slices, size, size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(torch.empty(shape, device="meta"))
    return round(float(counter.get_total_flops()) / 2 / size**2)


def _deepem3d(**arguments: Any) -> "AnyNet":
    from napari_em_seg.predict.nets.deepem3d import DeepEM3D

    return DeepEM3D(**arguments)


def _m2fcn(**arguments: Any) -> "AnyNet":
    from napari_em_seg.predict.nets.m2fcn import M2FCN

    return M2FCN(**arguments)


def _unet(**arguments: Any) -> "AnyNet":
    from napari_em_seg.predict.nets.unet import UNet

    return UNet(**arguments)


def _affinity(**arguments: Any) -> "AnyNet":
    from napari_em_seg.predict.nets.affinity_unet import AffinityUNet

    return AffinityUNet(**arguments)


def _propagator(**arguments: Any) -> "AnyNet":
    from napari_em_seg.predict.nets.propagator import Propagator

    return Propagator(**arguments)


def _architecture(
    family: Family, name: str, loss: str, n_slices: int | None = None, **arguments: Any
) -> Architecture:
    builders = {
        "deepem3d": _deepem3d,
        "m2fcn": _m2fcn,
        "unet": _unet,
        "affinity": _affinity,
        "propagator": _propagator,
    }
    if n_slices is not None:
        arguments = {"n_slices": n_slices, **arguments}
    return Architecture(
        name=name,
        family=family,
        build=builders[family],
        n_slices=n_slices,
        arguments=MappingProxyType(arguments),
        loss=loss,
        is_small="small" in name,
    )


def _all() -> dict[str, Architecture]:
    deepem3d = partial(_architecture, "deepem3d", loss="class-weighted")
    m2fcn = partial(_architecture, "m2fcn", loss="class-balanced", n_slices=1)
    unet = partial(_architecture, "unet", loss="class-weighted", base_channels=16, levels=4)
    small_deepem3d = partial(deepem3d, width=0.2, rates=((1, 3, 5),) * 4, maps=4, squeeze=16)
    small_m2fcn = partial(m2fcn, widths=(16, 24, 48, 64, 64))
    affinity = partial(_architecture, "affinity", loss="malis")
    small_affinity = partial(affinity, channels=(16, 32, 64, 128), depths=((1, 1), (3, 1), (3, 1), (3, 1)))
    found = [
        *(deepem3d(name=f"deepem3d-s{n}", n_slices=n) for n in (1, 3, 5)),
        *(small_deepem3d(name=f"deepem3d-small-s{n}", n_slices=n) for n in (1, 3, 5)),
        *(m2fcn(name=f"m2fcn-{n}", stages=n) for n in (1, 2, 3)),
        *(small_m2fcn(name=f"m2fcn-small-{n}", stages=n) for n in (1, 2, 3)),
        *(unet(name=f"unet-small-s{n}", n_slices=n) for n in (1, 3, 5)),
        affinity(name="affinity-unet"),
        small_affinity(name="affinity-unet-small"),
    ]
    return {entry.name: entry for entry in found}


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_all())
"""All networks that predict maps, by name."""

_RESNET: dict[str, Any] = {"hidden": (128, 64, 32, 16, 16), "projected": (128, 64, 32, 16, 16)}

PROPAGATORS: Mapping[str, Architecture] = MappingProxyType({
    found.name: found for found in (
        _architecture("propagator", "propagator-small", "soft-iou", encoder="small"),
        _architecture("propagator", "propagator-resnet50", "soft-iou", encoder="resnet50", **_RESNET),
    )
})  # fmt: skip
"""Networks that follow objects from slice to slice; they need seeds, so they are not among the others."""
