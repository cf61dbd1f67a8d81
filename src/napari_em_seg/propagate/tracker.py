"""Tracker: walks a volume from a reference slice, in both directions, with any number of objects."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.predict.nets.propagator import Memory, Propagator
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.propagate.sequences import thinned
from napari_em_seg.volume import Progress, Volume, VoxelSize

__all__ = ["Settings", "TrackedSlice", "follow", "thinning"]

Labels = NDArray[np.uint32]
Box = tuple[int, int, int, int]

_TILE, _HALO = 512, 64  # of what is encoded at once, in pixels of the network
_BLANK = 0.15  # deviation of a slice, in those of the volume, below which it shows nothing


@dataclass(frozen=True)
class Settings:
    """How objects are followed.

    Parameters
    ----------
    group
        Objects that are followed together, neighbours if possible; what memory is needed depends on it.
    margin
        Pixels of the network around the masks of a group that it looks at.
    least
        Pixels of the network below which an object counts as not there.
    patience
        Slices that an object may be away before it counts as ended.
    """

    group: int = 3
    margin: int = 24
    least: int = 6
    patience: int = 2


@dataclass(frozen=True, eq=False)
class TrackedSlice:
    """What was found on a slice: labels (y, x), and how sure each object that is followed is there.

    ``confidence`` has an entry for each object that was not ended by then; 0 where it was not found.
    """

    z: int
    labels: Labels
    confidence: Mapping[int, float]


def thinning(voxel_size_nm: VoxelSize | None, pixel_nm: float) -> int:
    """Return how many pixels of a volume make one of the network, along y and x."""
    if voxel_size_nm is None:
        raise DataError("The voxel size of the image is unknown", "one, as the network works on pixels of "
                        f"{pixel_nm:g} nm", "Give it with --voxel-size Z Y X, or set it in napari")  # fmt: skip
    return max(1, round(pixel_nm / (sum(voxel_size_nm[1:]) / 2)))


def follow(
    net: Propagator,
    volume: Volume,
    seeds: NDArray[Any],
    reference: int,
    *,
    slices: slice = slice(None),
    settings: Settings = Settings(),
    calibration: Sequence[float] | None = None,
    device: torch.device | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[TrackedSlice]:
    """Follow objects from a reference slice; give the slices as they are done, nearest first.

    Parameters
    ----------
    net
        A trained propagator.
    volume
        The image, with its voxel size.
    seeds
        Objects on the reference slice (y, x), 0 for none.
    reference
        Which slice that is.
    slices
        Where to go at most; the reference slice has to be among them.
    settings
        How.
    calibration
        Offset and weights that make a probability of what is known of a mask, see `confidence_of`.
    device
        Where to compute; by default the CPU.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every group of objects; once it says true, `Cancelled` is raised, and what was given stays.
    """
    start, stop, step = slices.indices(len(volume))
    seeds = np.asarray(seeds)
    if step != 1 or not start <= reference < stop:
        raise DataError(f"The reference slice {reference} is not among the slices {start} to {stop - 1}",
                        "a slice within those to be followed through", "Choose another one")  # fmt: skip
    if seeds.shape != volume.shape[1:] or seeds.dtype.kind not in "iub":
        raise DataError(f"The seeds are {seeds.dtype} of the shape {seeds.shape}", "whole numbers of the shape "
                        f"{volume.shape[1:]}", "Give labels of that slice")  # fmt: skip
    names = [int(label) for label in np.unique(seeds) if label > 0]
    if not names:
        raise DataError(f"There are no seeds on slice {reference}", "at least one object",
                        "Paint one, or choose the slice where they are")  # fmt: skip
    walker = _Walker(net, volume, settings, calibration, device or torch.device("cpu"), cancelled)
    there = walker.begin(seeds.astype(np.uint32), names, reference)
    back = [group.copy() for group in there]
    yield TrackedSlice(reference, seeds.astype(np.uint32), dict.fromkeys(names, 1.0))
    ways = (walker.walk(there, range(reference + 1, stop)),
            walker.walk(back, range(reference - 1, start - 1, -1)))  # fmt: skip
    found = chain.from_iterable(zip_longest(*ways))
    for done, one in enumerate((one for one in found if one is not None), 2):
        if progress is not None:
            progress(done, stop - start)
        yield one


@dataclass(eq=False)
class _Group:
    """Objects that are followed together: where they were, and what is remembered of them, within a window."""

    names: list[int]
    box: Box
    masks: Tensor
    seeds: Tensor
    memory: list[list[Memory]] | None = None
    away: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "_Group":
        memory = None if self.memory is None else list(self.memory)
        return replace(self, names=list(self.names), masks=self.masks.clone(), memory=memory, away={})


class _Walker:
    """Encodes each slice once, and has each group of objects look at its window of it."""

    def __init__(
        self, net: Propagator, volume: Volume, settings: Settings, calibration: Sequence[float] | None,
        device: torch.device, cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._net, self._volume, self._settings = net.to(device).eval(), volume, settings
        self._calibration, self._device, self._cancelled = calibration, device, cancelled
        self._factor = thinning(volume.voxel_size_nm, net.pixel_nm)
        self._levels = Levels(volume)

    @torch.inference_mode()
    def begin(self, seeds: Labels, names: list[int], reference: int) -> list[_Group]:
        """Look at the reference slice, which all memories begin with."""
        features, shape, _ = self._encoded(reference)
        groups = []
        for members in _neighbours(seeds, names, self._settings.group):
            masks = np.zeros((len(members), *shape), np.float32)
            for k, name in enumerate(members):
                part = thinned((seeds == name).astype(np.float32), self._factor)
                masks[k, : part.shape[0], : part.shape[1]] = part
                if not (masks[k] > 0.5).any():
                    masks[k] = masks[k] > 0  # thinner than a pixel of the network
            box = self._window(torch.from_numpy(masks), shape)
            window = torch.from_numpy(masks[:, box[0] : box[2], box[1] : box[3]])[None].to(self._device)
            group = _Group(members, box, window, window)
            _, group.memory = self._look(group, features)
            groups.append(group)
        return groups

    def walk(self, groups: list[_Group], slices: range) -> Iterator[TrackedSlice]:
        """Give slice after slice, until no object is left."""
        for z in slices:
            if not groups:
                return
            yield self._step(groups, z)
            groups[:] = [group for group in groups if group.names]

    @torch.inference_mode()
    def _step(self, groups: list[_Group], z: int) -> TrackedSlice:
        height, width = self._volume.shape[1:]
        features, shape, is_blank = self._encoded(z)
        best = np.zeros((height, width), np.float32)  # the background's logit
        owner = np.zeros((height, width), np.uint32)
        looked: list[tuple[_Group, Tensor]] = []
        for group in groups:
            if self._cancelled():
                raise Cancelled("The propagation was cancelled")
            if is_blank:
                logits = torch.where(group.masks > 0.5, 1.0, -1.0)
            else:
                self._move(group, shape)
                logits, group.memory = self._look(group, features)
            self._claim(group, logits[0], best, owner)
            looked.append((group, torch.sigmoid(logits)))
        confidence: dict[int, float] = {}
        for group, masks in looked:
            confidence |= self._settle(group, masks, owner, is_blank)
        return TrackedSlice(z, owner, confidence)

    def _look(self, group: _Group, features: list[Tensor]) -> tuple[Tensor, list[list[Memory]]]:
        y, x, bottom, right = group.box
        levels = [
            level[..., y // s : bottom // s, x // s : right // s]
            for level, s in zip(features, self._net.strides, strict=True)
        ]
        with self._quick():
            logits, memory = self._net(levels, group.masks, group.seeds, group.memory)
        return logits.float(), memory

    def _quick(self) -> torch.autocast:
        is_quick = self._device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(self._device.type, torch.bfloat16, enabled=is_quick)

    def _encoded(self, z: int) -> tuple[list[Tensor], tuple[int, int], bool]:
        """Return the features of a slice, its size in pixels of the network, and whether it shows nothing."""
        mean, deviation = self._levels.of(z)
        plane = (thinned(np.asarray(self._volume[z]), self._factor) - np.float32(mean)) / np.float32(deviation)
        stride = self._net.stride
        height, width = (-(-n // stride) * stride for n in plane.shape)
        padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
        image = torch.from_numpy(padded)[None, None].to(self._device)
        parts: list[Tensor] = []
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                parts = self._put(parts, image, y, x)
        return parts, (height, width), float(plane.std()) < _BLANK

    def _put(self, whole: list[Tensor], image: Tensor, y: int, x: int) -> list[Tensor]:
        """Encode a tile with what is around it, and put it into its place."""
        height, width = image.shape[-2:]
        top, left = max(0, y - _HALO), max(0, x - _HALO)
        bottom, right = min(height, y + _TILE + _HALO), min(width, x + _TILE + _HALO)
        with self._quick():
            levels = self._net.encode(image[..., top:bottom, left:right])
        if (top, left, bottom, right) == (0, 0, height, width):
            return levels
        if not whole:
            whole = [
                level.new_zeros(1, level.shape[1], height // s, width // s)
                for level, s in zip(levels, self._net.strides, strict=True)
            ]
        for target, level, s in zip(whole, levels, self._net.strides, strict=True):
            rows = slice(y // s, min(height, y + _TILE) // s)
            columns = slice(x // s, min(width, x + _TILE) // s)
            y0, x0 = top // s, left // s
            inner = level[..., rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
            target[..., rows, columns] = inner
        return whole

    def _window(self, masks: Tensor, shape: tuple[int, int], offset: tuple[int, int] = (0, 0)) -> Box:
        """Return the window around all masks (objects, y, x), in whole strides, within the slice."""
        stride, margin = self._net.stride, self._settings.margin
        is_there = (masks > 0.5).any(dim=0)
        box = []
        for axis, length in enumerate(shape):
            rows = torch.nonzero(is_there.any(dim=1 - axis))[:, 0]
            low = int(rows[0]) + offset[axis] if len(rows) else 0
            high = int(rows[-1]) + 1 + offset[axis] if len(rows) else length
            first, last = (low - margin) // stride * stride, -(-(high + margin) // stride) * stride
            box.append((max(0, first), min(length, last)))
        return box[0][0], box[1][0], box[0][1], box[1][1]

    def _move(self, group: _Group, shape: tuple[int, int]) -> None:
        """Put the window of a group around its masks, and all that it remembers into the new window."""
        old = group.box
        new = self._window(group.masks[0], shape, (old[0], old[1]))
        if new == old:
            return
        group.masks, group.seeds = (_moved(x, old, new, 1) for x in (group.masks, group.seeds))
        if group.memory is not None:
            group.memory = [
                [_moved_memory(one, old, new, stride) for one in layer]
                for layer, stride in zip(group.memory, self._net.strides, strict=True)
            ]
        group.box = new

    def _claim(self, group: _Group, logits: Tensor, best: NDArray[np.float32], owner: Labels) -> None:
        """Give each pixel to the object that is likeliest there, if one is likelier than none."""
        f = self._factor
        y, x, bottom, right = (n * f for n in group.box)
        bottom, right = min(bottom, best.shape[0]), min(right, best.shape[1])
        if f > 1:
            logits = interpolate(logits[None], scale_factor=f, mode="bilinear", align_corners=False)[0]
        large = logits[:, : bottom - y, : right - x].cpu().numpy()
        window, names = best[y:bottom, x:right], owner[y:bottom, x:right]
        for k, name in enumerate(group.names):
            is_won = large[k] > window
            window[is_won] = large[k][is_won]
            names[is_won] = name

    def _settle(self, group: _Group, masks: Tensor, owner: Labels, is_blank: bool) -> dict[int, float]:
        """Keep the masks for the next slice, without what others won; let go of objects that have ended."""
        f, (y, x, bottom, right) = self._factor, group.box
        small = owner[f // 2 :: f, f // 2 :: f][y:bottom, x:right]
        won = np.zeros((bottom - y, right - x), np.uint32)
        won[: small.shape[0], : small.shape[1]] = small
        confidence, keep = {}, []
        for k, name in enumerate(group.names):
            is_own = torch.from_numpy((won == name) | (won == 0)).to(self._device)
            mask = masks[0, k] * is_own
            area = int((mask > 0.5).sum())
            if area >= self._settings.least and not is_blank:
                group.away[name] = 0
                confidence[name] = confidence_of(mask, group.masks[0, k], self._calibration)
                group.masks[0, k] = mask
            else:  # the mask of the slice before stays, so that it can be found again behind a damaged slice
                group.away[name] = group.away.get(name, 0) + 1
                confidence[name] = 0.0
            if group.away[name] <= self._settings.patience:
                keep.append(k)
        if len(keep) < len(group.names):
            self._leave(group, keep)
        return confidence

    def _leave(self, group: _Group, keep: list[int]) -> None:
        group.names = [group.names[k] for k in keep]
        group.masks, group.seeds = group.masks[:, keep], group.seeds[:, keep]
        if group.memory is not None:
            group.memory = [[layer[k] for k in keep] for layer in group.memory]


def confidence_of(mask: Tensor, before: Tensor, calibration: Sequence[float] | None) -> float:
    r"""Return how sure a mask is, from 0 to 1.

    With p the mean probability within it, u its overlap with the mask on the slice before (intersection over
    union), and a the logarithm of the ratio of their areas,

    .. math:: \sigma(w_0 + w_1 \operatorname{logit} p + w_2 u + w_3 |a|)

    which is trained to be the probability that it overlaps the true section by more than half. Without weights
    it is p.
    """
    is_in, was_in = mask > 0.5, before > 0.5
    area, old = float(is_in.sum()), float(was_in.sum())
    p = float(mask[is_in].mean()) if area else 0.0
    if calibration is None:
        return p
    p = min(max(p, 1e-4), 1 - 1e-4)
    both = float((is_in & was_in).sum())
    overlap, growth = both / max(area + old - both, 1), abs(math.log((area + 1) / (old + 1)))
    features = (1.0, math.log(p / (1 - p)), overlap, growth)
    return 1 / (1 + math.exp(-sum(w * f for w, f in zip(calibration, features, strict=True))))


def _neighbours(seeds: Labels, names: list[int], size: int) -> Iterator[list[int]]:
    """Give groups of objects that lie near each other."""
    rows, columns = np.nonzero(seeds)
    labels = seeds[rows, columns]
    index = np.searchsorted(names, labels)
    counts = np.bincount(index, minlength=len(names))
    centres = np.stack([np.bincount(index, place, len(names)) / counts for place in (rows, columns)], axis=1)
    left = list(range(len(names)))
    while left:
        first = left[0]
        near = sorted(left, key=lambda i: float(np.hypot(*(centres[i] - centres[first]))))[:size]
        left = [i for i in left if i not in near]
        yield [names[i] for i in near]


def _moved(x: Tensor, old: Box, new: Box, stride: int) -> Tensor:
    """Return what a window holds after it was moved: 0 where nothing is known."""
    old, new = (tuple(n // stride for n in box) for box in (old, new))  # type: ignore[assignment]
    found = x.new_zeros(*x.shape[:-2], new[2] - new[0], new[3] - new[1])
    y, x0 = max(old[0], new[0]), max(old[1], new[1])
    bottom, right = min(old[2], new[2]), min(old[3], new[3])
    if y < bottom and x0 < right:
        found[..., y - new[0] : bottom - new[0], x0 - new[1] : right - new[1]] = x[
            ..., y - old[0] : bottom - old[0], x0 - old[1] : right - old[1]
        ]
    return found


def _moved_memory(memory: Memory, old: Box, new: Box, stride: int) -> Memory:
    def cell(pair: tuple[Tensor, Tensor] | None) -> Any:
        return None if pair is None else tuple(_moved(x, old, new, stride) for x in pair)

    reference = None if memory.reference is None else _moved(memory.reference, old, new, stride)
    return Memory(cell(memory.forward), cell(memory.backward), reference)
