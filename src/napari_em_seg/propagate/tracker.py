"""Tracker: walks a volume from a reference slice, in both directions, with any number of objects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from torch import Tensor
from torch.nn.functional import interpolate

from napari_em_seg.errors import DataError
from napari_em_seg.predict.nets.propagator import Propagator
from napari_em_seg.propagate.confidence import Evidence, evidence_of, probability
from napari_em_seg.propagate.looking import Looker, State, View, moved_state
from napari_em_seg.propagate.sequences import thinned
from napari_em_seg.propagate.windows import Box, around, groups, moved, union
from napari_em_seg.volume import Progress, Volume

__all__ = ["Sections", "Settings", "TrackedSlice", "follow", "whole_sections"]

Labels = NDArray[np.uint32]

Sections = Callable[[int], NDArray[Any]]
"""From a slice to its sections (y, x), finer than objects: an object has a section whole, or not at all."""

_INSIDE, _OUTSIDE = 0.75, 0.25  # the least and most of a mask's probabilities within and without its sections
_BLANK = 0.15  # deviation of a slice, in those of the volume, below which it shows nothing


@dataclass(frozen=True)
class Settings:
    """How objects are followed.

    Parameters
    ----------
    group
        Objects that are looked at together, where they are neighbours.
    margin
        Pixels of the network around a mask that it looks at.
    least
        Pixels of the network below which an object counts as not there.
    doubt
        Confidence below which it counts as not there either; its mask is shown all the same.
    patience
        Slices that an object may be away before it counts as ended.
    """

    group: int = 3
    margin: int = 24
    least: int = 6
    doubt: float = 0.05
    patience: int = 2


@dataclass(frozen=True, eq=False)
class TrackedSlice:
    """What was found on a slice.

    Attributes
    ----------
    z
        Which slice.
    labels
        The objects (y, x), under the numbers of their seeds.
    confidence
        How probable it is that the mask of an object is right; 0 where it was not found, or where the slice
        shows nothing, so that masks are those of the slice before. Objects that had ended before are left out.
    evidence
        What that is made of, for the objects that were found.
    """

    z: int
    labels: Labels
    confidence: Mapping[int, float]
    evidence: Mapping[int, Evidence]


def follow(
    net: Propagator,
    volume: Volume,
    seeds: NDArray[Any],
    reference: int,
    *,
    slices: slice = slice(None),
    settings: Settings = Settings(),
    sections: Sections | None = None,
    calibration: Sequence[float] | None = None,
    device: torch.device | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[TrackedSlice]:
    """Follow objects from a reference slice; give the slices as they are done, nearest first.

    To go on from a slice where something was corrected, call it again with that slice and its labels.

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
    sections
        Where one section ends and another begins on a slice, for outlines that follow membranes; 0 where it
        says nothing. By default objects end where the network says.
    calibration
        The weights of `confidence.probability`.
    device
        Where to compute; by default the CPU.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every tile, each of which takes less than a second; once it says true, `Cancelled` is
        raised, and what was given before stays.
    """
    start, stop, step = slices.indices(len(volume))
    if step != 1 or not start <= reference < stop:
        raise DataError(f"The reference slice {reference} is not among the slices {start} to {stop - 1}",
                        "a slice within those to be followed through", "Choose another one")  # fmt: skip
    labels = _checked(seeds, volume.shape[1:], reference)
    looker = Looker(net, volume, device or torch.device("cpu"), cancelled)
    walker = _Walker(looker, settings, sections, calibration)
    return _reported(walker, labels, reference, (start, stop), progress)


def _checked(seeds: NDArray[Any], shape: tuple[int, ...], reference: int) -> Labels:
    seeds = np.asarray(seeds)
    if seeds.shape != shape or seeds.dtype.kind not in "iub":
        raise DataError(f"The seeds are {seeds.dtype} of the shape {seeds.shape}",
                        f"whole numbers of the shape {shape}", "Give labels of that slice")  # fmt: skip
    if seeds.size and not 0 <= int(seeds.min()) <= int(seeds.max()) < 2**32:
        raise DataError(f"The seeds have numbers from {seeds.min()} to {seeds.max()}", "0 to 4294967295",
                        "Give the objects other numbers")  # fmt: skip
    if not seeds.any():
        raise DataError(f"There are no seeds on slice {reference}", "at least one object",
                        "Paint one, or choose the slice where they are")  # fmt: skip
    return seeds.astype(np.uint32)


def _reported(
    walker: "_Walker", seeds: Labels, reference: int, ends: tuple[int, int], progress: Progress
) -> Iterator[TrackedSlice]:
    names = [int(label) for label in np.unique(seeds) if label > 0]
    there = walker.begin(seeds, names, reference)
    back = [replace(one) for one in there]
    sure = Evidence(1.0, 1.0, 0.0)
    yield TrackedSlice(reference, seeds, dict.fromkeys(names, 1.0), dict.fromkeys(names, sure))
    start, stop = ends
    ways = (walker.walk(there, range(reference + 1, stop)),
            walker.walk(back, range(reference - 1, start - 1, -1)))  # fmt: skip
    found = (one for one in chain.from_iterable(zip_longest(*ways)) if one is not None)
    for done, one in enumerate(found, 2):
        if progress is not None:
            progress(done, stop - start)
        yield one
    if progress is not None:
        progress(stop - start, stop - start)


@dataclass(eq=False)
class _Object:
    """An object on the slice before: its window, the mask and the seed there, and all that is remembered."""

    name: int
    box: Box
    mask: Tensor
    seed: Tensor
    state: State | None = None
    away: int = 0


@dataclass(eq=False)
class _Found:
    """What was found of an object on a slice, before others had their say."""

    box: Box
    mask: Tensor
    before: Tensor
    state: State | None


class _Walker:
    """Takes objects from slice to slice: looks, settles who gets which pixel, lets go of what has ended."""

    def __init__(
        self, looker: Looker, settings: Settings, sections: Sections | None,
        calibration: Sequence[float] | None,
    ) -> None:  # fmt: skip
        self._looker, self._settings, self._calibration = looker, settings, calibration
        self._sections = sections

    @torch.inference_mode()
    def begin(self, seeds: Labels, names: list[int], reference: int) -> list[_Object]:
        """Look at the reference slice, which all memories begin with."""
        view = self._looker.encoded(reference)
        values, compact = np.unique(seeds, return_inverse=True)
        places = dict(zip(values.tolist(), find_objects(compact.reshape(seeds.shape) + 1), strict=True))
        objects = [self._seeded(seeds, name, places[name], view.shape) for name in names]
        for members in self._groups(objects):
            for one, found in zip(members, self._look(members, view)[2], strict=True):
                one.state = moved_state(found.state, found.box, one.box, self._looker.strides)
        return objects

    def walk(self, objects: list[_Object], slices: range) -> Iterator[TrackedSlice]:
        """Give slice after slice, until no object is left."""
        for z in slices:
            if not objects:
                return
            yield self._step(objects, z)
            objects[:] = [one for one in objects if one.away <= self._settings.patience]

    @torch.inference_mode()
    def _step(self, objects: list[_Object], z: int) -> TrackedSlice:
        view = self._looker.encoded(z)
        best = np.zeros(self._looker.size, np.float32)  # the background's logit
        owner = np.zeros(self._looker.size, np.uint32)
        if view.deviation < _BLANK:
            for one in objects:
                self._claim([one], one.box, (one.mask[None] > 0.5) * 2.0 - 1, best, owner)
                one.away += 1
            return TrackedSlice(z, owner, dict.fromkeys((one.name for one in objects), 0.0), {})
        found: list[tuple[_Object, _Found]] = []
        for members in self._groups(objects):
            box, logits, parts = self._look(members, view)
            self._claim(members, box, logits, best, owner)
            found.extend(zip(members, parts, strict=True))
        if self._sections is not None:
            owner = whole_sections(owner, self._sections(z))
        evidence: dict[int, Evidence] = {}
        confidence = {one.name: self._settled(one, part, owner, evidence) for one, part in found}
        return TrackedSlice(z, owner, confidence, evidence)

    def _seeded(self, seeds: Labels, name: int, place: tuple[slice, slice], shape: tuple[int, int]) -> _Object:
        f = self._looker.factor
        y, x = place[0].start // f, place[1].start // f
        part = seeds[y * f : place[0].stop, x * f : place[1].stop] == name
        small = torch.from_numpy(thinned(part, f))
        if not bool((small > 0.5).any()):
            small = (small > 0).float()  # thinner than a pixel of the network
        tight = (y, x, y + small.shape[0], x + small.shape[1])
        is_in = torch.ones_like(small, dtype=torch.bool)
        box = around(is_in, tight, shape, self._settings.margin, self._looker.strides[0])
        mask = moved(small.to(self._looker.device), tight, box or tight)
        return _Object(name, box or tight, mask, mask)

    def _groups(self, objects: list[_Object]) -> Iterator[list[_Object]]:
        for members in groups([one.box for one in objects], self._settings.group):
            yield [objects[k] for k in members]

    def _look(self, members: list[_Object], view: View) -> tuple[Box, Tensor, list[_Found]]:
        """Return the window of a group, the logits there, and what was found of each object."""
        box = union([one.box for one in members])
        masks, seeds = (
            torch.stack([moved(getattr(one, name), one.box, box) for one in members])
            for name in ("mask", "seed")
        )
        states = [one.state for one in members]
        logits, now = self._looker.look(view, box, masks, seeds, [one.box for one in members], states)
        found = []
        for k, one in enumerate(members):
            mask = torch.sigmoid(logits[k])
            there = around(mask > 0.5, box, view.shape, self._settings.margin, self._looker.strides[0])
            state = moved_state(now[k], box, there or one.box, self._looker.strides)
            where = there or one.box
            found.append(_Found(where, moved(mask, box, where), moved(masks[k], box, where), state))
        return box, logits, found

    def _claim(
        self, members: list[_Object], box: Box, logits: Tensor, best: NDArray[np.float32], owner: Labels
    ) -> None:
        """Give each pixel to the object that is likeliest there, if one is likelier than none."""
        f = self._looker.factor
        y, x = box[0] * f, box[1] * f
        bottom, right = min(box[2] * f, best.shape[0]), min(box[3] * f, best.shape[1])
        window, names = best[y:bottom, x:right], owner[y:bottom, x:right]
        for one, small in zip(members, logits, strict=True):
            large = small[None, None]
            if f > 1:
                large = interpolate(large, scale_factor=f, mode="bilinear", align_corners=False)
            mine = large[0, 0, : bottom - y, : right - x].cpu().numpy()
            is_won = mine > window
            window[is_won] = mine[is_won]
            names[is_won] = one.name

    def _settled(self, one: _Object, found: _Found, owner: Labels, evidence: dict[int, Evidence]) -> float:
        """Keep the mask for the next slice, as others and sections have left it, and return how sure it is."""
        is_mine, is_other, box = self._shares(one.name, found, owner)
        predicted = moved(found.mask, found.box, box)
        mask = predicted * ~is_other
        if self._sections is not None:
            mask = torch.where(is_mine, mask.clamp(min=_INSIDE), mask.clamp(max=_OUTSIDE))
        if int((mask > 0.5).sum()) < self._settings.least:
            one.away += 1  # the old mask stays, so that the object can be found again
            one.state = moved_state(found.state, found.box, one.box, self._looker.strides)
            return 0.0
        evidence[one.name] = evidence_of(mask, moved(found.before, found.box, box), predicted)
        sure = probability(evidence[one.name], self._calibration)
        one.seed = moved(one.seed, one.box, box)
        one.state = moved_state(found.state, found.box, box, self._looker.strides)
        one.box, one.mask = box, mask
        one.away = 0 if sure >= self._settings.doubt else one.away + 1
        return sure

    def _shares(self, name: int, found: _Found, owner: Labels) -> tuple[Tensor, Tensor, Box]:
        """Return what is an object's, what is others', and the window: sections may reach beyond that found."""
        f, stride, margin = self._looker.factor, self._looker.strides[0], self._settings.margin
        thin = owner[f // 2 :: f, f // 2 :: f]
        shape = (-(-thin.shape[0] // stride) * stride, -(-thin.shape[1] // stride) * stride)
        y, x, bottom, right = found.box
        if self._sections is not None:
            y, x = max(0, y - margin), max(0, x - margin)
            bottom, right = min(shape[0], bottom + margin), min(shape[1], right + margin)
        names = np.zeros((bottom - y, right - x), np.uint32)
        part = thin[y:bottom, x:right]
        names[: part.shape[0], : part.shape[1]] = part
        won = torch.from_numpy(names.astype(np.int64)).to(found.mask.device)
        wide: Box = (y, x, bottom, right)
        box = found.box if self._sections is None else around(won == name, wide, shape, margin, stride)
        won = moved(won, wide, box or found.box)
        return won == name, (won != name) & (won != 0), box or found.box


def whole_sections(owner: Labels, sections: NDArray[Any]) -> Labels:
    """Give each section to the object, or to none, that has most of its pixels; 0 leaves pixels as they are."""
    names, objects = np.unique(owner, return_inverse=True)
    pairs = sections.reshape(-1), objects.reshape(-1)
    table = coo_array((np.ones(owner.size, np.int32), pairs)).tocsr()
    best = names[np.asarray(table.argmax(axis=1)).reshape(-1)]
    return np.where(sections > 0, best[sections], owner).astype(np.uint32)
