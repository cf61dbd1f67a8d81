"""How a prediction is cut up: the tile, halo and overlap that nets need and memory allows."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.device import BlockNet, Net, Runtime, three, tile_side
from napari_em_seg.predict.tiling import Sizes, Tiler
from napari_em_seg.predict.views import View

__all__ = ["plan_tiles"]

UNKNOWN_HALO = 64  # pixels, for nets that do not say how far they look
PROBE_SIDE = 64
GPU_BATCH = 4  # slices
BLOCK_DEPTH = 16  # slices of a tile for nets that predict blocks


def plan_tiles(
    nets: list[Net],
    shape: Sizes,
    runtime: Runtime,
    tile: int | Sizes | None,
    halo: int | Sizes | None,
    batch: int | None,
    border: int,
    most: int | None = None,
) -> tuple[Tiler, int]:
    """Choose tile, halo and overlap, and find out how many channels the nets have.

    At most ``border`` pixels are mirrored beyond the volume; a tile whose size is not given is at most
    ``most`` wide.
    """
    lcm = [math.lcm(*(net.stride[axis] for net in nets)) for axis in range(3)]
    stride = (lcm[0], math.lcm(*lcm[1:]), math.lcm(*lcm[1:]))  # views turn y into x
    reach, overlap = _halo(nets, halo)
    has_blocks = any(isinstance(net, BlockNet) for net in nets)
    usual = BLOCK_DEPTH if has_blocks else GPU_BATCH if runtime.is_gpu else 1
    depth = three(usual if batch is None else batch, 1)[0]
    if isinstance(tile, Sequence):
        depth = three(tile, 1)[0]
    least = (depth if has_blocks else 1, PROBE_SIDE, PROBE_SIDE)
    probe = Tiler(least, least, reach, stride)
    found = [_probed(net, probe, runtime.device) for net in nets]
    if len({channels for channels, _ in found}) > 1:
        raise DataError(
            f"The nets have {', '.join(str(channels) for channels, _ in found)} channels",
            "the same number for all",
            "Choose models that predict the same",
        )
    if tile is None:
        n_bytes = max(n_bytes for _, n_bytes in found) * depth / least[0]
        fits = tile_side(n_bytes, probe.halo[1], runtime.device)
        tile = fits if most is None else min(fits, most)
    sizes = (depth, *three(tile, 1)[1:])
    return Tiler(shape, sizes, reach, stride, overlap, border), found[0][0]


def _halo(nets: list[Net], wanted: int | Sizes | None) -> tuple[Sizes, int]:
    """Return the halo, the same along y and x since views turn them, and the overlap if it may be too small."""
    named = [net.halo for net in nets if net.halo is not None]
    is_known = len(named) == len(nets)
    if any(net.halo is None and isinstance(net, BlockNet) for net in nets) and not isinstance(wanted, Sequence):
        raise DataError(
            "A net for blocks does not say how far it looks",
            "its reach along z, y and x",
            "Set the model's halo, or give one as three numbers",
        )
    along_z = max([net.n_slices // 2 for net in nets if net.n_slices] + [halo[0] for halo in named], default=0)
    reach = max([halo[axis] for halo in named for axis in (1, 2)] + ([] if is_known else [UNKNOWN_HALO]))
    in_plane = reach if wanted is None else max(three(wanted, 0)[1:])
    if isinstance(wanted, Sequence):
        along_z = max(along_z, wanted[0])
    return (along_z, in_plane, in_plane), 0 if is_known and in_plane >= reach else in_plane // 2


def _probed(net: Net, probe: Tiler, device: torch.device) -> tuple[int, float]:
    """Run a net once on nothing: return its channels, and the memory it takes at most per pixel in y and x.

    That is the size of all layers' outputs together, though most are given back before the last is made.
    """
    tile = next(iter(probe))
    shape = [part.stop - part.start for part in probe.outer(tile)]
    n_bytes = 0

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal n_bytes
        n_bytes += output.nbytes if isinstance(output, torch.Tensor) else 0

    hooks = [m.register_forward_hook(count) for m in net.model.modules() if not list(m.children())]
    try:
        logits = net(torch.zeros(shape, device=device), probe.halo[0], View(), list(range(tile.sizes[0])))
    finally:
        for hook in hooks:
            hook.remove()
    expected = (logits.shape[0], tile.sizes[0], *shape[1:])
    if tuple(logits.shape) != expected:
        raise DataError(
            f"A net gives {tuple(logits.shape)} (channels, z, y, x) for a block of {tuple(shape)}",
            f"{expected}, the size of what it was given",
            "Choose a model that keeps the size",
        )
    return len(logits), (n_bytes + logits.nbytes) / (shape[1] * shape[2])
