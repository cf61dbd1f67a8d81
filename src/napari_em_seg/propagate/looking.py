"""Looking: encodes a slice once, and shows the network windows of it, large ones tile by tile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.predict.nets.propagator import Memory, Propagator
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.propagate.sequences import thinned
from napari_em_seg.propagate.windows import Box, moved, tiles
from napari_em_seg.volume import Volume, VoxelSize

__all__ = ["Looker", "State", "View", "moved_state", "thinning"]

State = list[list[Tensor]]
"""What is remembered of an object: by layer, the tensors of its `Memory`, in half precision."""

_TILE, _HALO = 256, 32  # of what is looked at at once, in pixels of the network
_FAR = 64  # of what is encoded at once: the encoder sees farther


def thinning(voxel_size_nm: VoxelSize | None, pixel_nm: float) -> int:
    """Return how many pixels of a volume make one of the network, along y and x."""
    if voxel_size_nm is None:
        raise DataError("The voxel size of the image is unknown", "one, as the network works on pixels of "
                        f"{pixel_nm:g} nm", "Give it with --voxel-size Z Y X, or set it in napari")  # fmt: skip
    return max(1, round(pixel_nm / (sum(voxel_size_nm[1:]) / 2)))


@dataclass(frozen=True, eq=False)
class View:
    """An encoded slice: its features, its size in whole strides, and the deviation of its grey values."""

    features: list[Tensor]
    shape: tuple[int, int]
    deviation: float


class Looker:
    """The network and the volume that it looks at.

    What objects remember is kept in half precision, each in its own window; that bounds the memory by the areas
    of the windows, and what is needed at once by a tile for each member of a group.
    """

    def __init__(
        self, net: Propagator, volume: Volume, device: torch.device, cancelled: Callable[[], bool]
    ) -> None:
        self._net, self._volume, self._cancelled = net.to(device).eval(), volume, cancelled
        self._levels = Levels(volume)
        self.device, self.strides, self.size = device, tuple(net.strides), volume.shape[1:]
        self.factor = thinning(volume.voxel_size_nm, net.pixel_nm)

    def encoded(self, z: int) -> View:
        """Encode a slice, tile by tile."""
        mean, deviation = self._levels.of(z)
        plane = (thinned(np.asarray(self._volume[z]), self.factor) - np.float32(mean)) / np.float32(deviation)
        below, right = (-n % self.strides[0] for n in plane.shape)
        padded = np.pad(plane, ((0, below), (0, right)), mode="edge")
        image = torch.from_numpy(padded)[None, None].to(self.device)
        height, width = padded.shape
        whole: list[Tensor] = []
        for inner, outer in tiles((0, 0, height, width), _TILE, _FAR, self.strides[0]):
            self._ask()
            with self._quick():
                levels = self._net.encode(_part(image, outer, 1))
            if not whole:
                whole = [level.new_empty(*level.shape[:2], height // s, width // s)
                         for level, s in zip(levels, self.strides, strict=True)]  # fmt: skip
            for target, level, s in zip(whole, levels, self.strides, strict=True):
                _part(target, inner, s)[:] = moved(level, outer, inner, s)
        return View(whole, (height, width), float(plane.std()))

    def look(
        self,
        view: View,
        box: Box,
        masks: Tensor,
        seeds: Tensor,
        boxes: Sequence[Box],
        states: Sequence[State | None],
    ) -> tuple[Tensor, list[State]]:
        """Return logits (objects, y, x) in a window, and what to remember of each object there.

        Parameters
        ----------
        view
            The slice.
        box
            The window.
        masks, seeds
            Those of the slice before and of the reference slice, in it (objects, y, x).
        boxes
            The windows in which each object remembers.
        states
            What; None on the reference slice.
        """
        logits = masks.new_empty(masks.shape, dtype=torch.float32)
        kept: list[State] = []
        for inner, outer in tiles(box, _TILE, _HALO, self.strides[0]):
            self._ask()
            found, now = self._look_at(view, box, outer, masks, seeds, boxes, states)
            if inner == box:
                return moved(found[0], outer, box).float(), [
                    [[_half(x, outer, box, s) for x in _tensors(layer[k])]
                     for layer, s in zip(now, self.strides, strict=True)] for k in range(len(masks))
                ]  # fmt: skip
            _part(logits, _within(inner, box), 1)[:] = moved(found[0], outer, inner)
            kept = kept or [[_empty(layer[k], box, s) for layer, s in zip(now, self.strides, strict=True)]
                            for k in range(len(masks))]  # fmt: skip
            self._put(kept, now, _within(inner, box), inner, outer)
        return logits, kept

    def _look_at(
        self, view: View, box: Box, outer: Box, masks: Tensor, seeds: Tensor, boxes: Sequence[Box],
        states: Sequence[State | None],
    ) -> tuple[Tensor, list[list[Memory]]]:  # fmt: skip
        features = [_part(level, outer, s) for level, s in zip(view.features, self.strides, strict=True)]
        memory = None
        if states[0] is not None:
            memory = [
                [_memory([moved(x, where, outer, s).to(masks.dtype) for x in state[layer]], self._net)
                 for state, where in zip(states, boxes, strict=True) if state is not None]
                for layer, s in enumerate(self.strides)
            ]  # fmt: skip
        with self._quick():
            logits, now = self._net(
                features, moved(masks, box, outer)[None], moved(seeds, box, outer)[None], memory
            )
        return logits, now

    def _put(self, kept: list[State], now: list[list[Memory]], place: Box, inner: Box, outer: Box) -> None:
        for k, state in enumerate(kept):
            for targets, layer, s in zip(state, now, self.strides, strict=True):
                for target, x in zip(targets, _tensors(layer[k]), strict=True):
                    _part(target, place, s)[:] = _half(x, outer, inner, s)

    def _ask(self) -> None:
        if self._cancelled():
            raise Cancelled("The propagation was cancelled")

    def _quick(self) -> torch.autocast:
        is_quick = self.device.type == "cuda" or (
            self.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_quick)


def moved_state(state: State | None, old: Box, new: Box, strides: Sequence[int]) -> State | None:
    """Return what is remembered in a new window."""
    if state is None:
        return None
    return [[moved(x, old, new, s) for x in layer] for layer, s in zip(state, strides, strict=True)]


def _half(x: Tensor, old: Box, new: Box, stride: int) -> Tensor:
    return moved(x, old, new, stride).half()


def _empty(memory: Memory, box: Box, stride: int) -> list[Tensor]:
    height, width = (box[2] - box[0]) // stride, (box[3] - box[1]) // stride
    return [x.new_zeros(*x.shape[:2], height, width, dtype=torch.half) for x in _tensors(memory)]


def _tensors(memory: Memory) -> list[Tensor]:
    rest = [] if memory.reference is None else [memory.reference]
    return [*memory.forward, *(memory.backward or ()), *rest]


def _memory(tensors: list[Tensor], net: Propagator) -> Memory:
    """Put a `Memory` together again; which parts it has follows from the variant."""
    is_local = net.variant in ("STL", "STC")
    backward = (tensors[2], tensors[3]) if is_local else None
    return Memory((tensors[0], tensors[1]), backward, tensors[-1] if net.variant in ("STN", "STC") else None)


def _within(box: Box, outer: Box) -> Box:
    y, x = outer[:2]
    return box[0] - y, box[1] - x, box[2] - y, box[3] - x


def _part(x: Tensor, box: Box, stride: int) -> Tensor:
    y, left, bottom, right = (n // stride for n in box)
    return x[..., y:bottom, left:right]
