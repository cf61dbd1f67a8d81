"""Sequences to learn from: short walks through labelled volumes, away from a slice drawn at random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.augment import STANDARD, Augmentation, augment
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.predict.views import VIEWS, apply
from napari_em_seg.propagate.loss import sequence_loss
from napari_em_seg.volume import Volume

__all__ = ["IdStack", "PropagatorTask", "SequenceSampler", "id_stack", "thinned"]

_LEAST = 24  # pixels of an object on the reference slice


@dataclass(frozen=True, eq=False)
class IdStack:
    """An image with zero mean and unit deviation, and its object ids (0: none), in pixels of the network."""

    image: NDArray[np.float32]
    ids: NDArray[np.int32]


def thinned(plane: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Return means of squares of pixels; what is left over at the far edges is repeated there."""
    if factor == 1:
        return plane.astype(np.float32)
    height, width = plane.shape
    padded = np.pad(plane.astype(np.float32), ((0, -height % factor), (0, -width % factor)), mode="edge")
    rows, columns = (n // factor for n in padded.shape)
    return np.asarray(padded.reshape(rows, factor, columns, factor).mean(axis=(1, 3), dtype=np.float32))


def id_stack(raw: Volume, labels: Volume, slices: slice, factor: int) -> IdStack:
    """Read a labelled volume, at the pixel size of the network."""
    if raw.shape != labels.shape:
        raise DataError(f"The image is {raw.shape} and its labels are {labels.shape} (z, y, x)",
                        "labels of the same shape as the image", "Give those that belong together")  # fmt: skip
    levels, start = Levels(raw), range(len(raw))[slices].start
    planes = []
    for z, plane in enumerate(raw[slices], start):
        mean, deviation = levels.of(z)
        planes.append((thinned(plane, factor) - np.float32(mean)) / np.float32(deviation))
    ids = labels[slices][:, factor // 2 :: factor, factor // 2 :: factor].astype(np.int32)
    image = np.stack(planes)
    height, width = (min(a, b) for a, b in zip(image.shape[1:], ids.shape[1:], strict=True))
    return IdStack(image[:, :height, :width], ids[:, :height, :width])


@dataclass(frozen=True, eq=False)
class SequenceSampler:
    """Draws walks of a few slices with a few objects on them.

    Parameters
    ----------
    stacks
        Drawn from in proportion to their slices.
    n_slices
        Slices of a walk, the reference slice among them.
    n_objects
        Objects in each; where there are fewer, the rest is empty.
    side
        Height and width in pixels.
    augmentation
        How strong.
    """

    stacks: Sequence[IdStack]
    n_slices: int = 5
    n_objects: int = 3
    side: int = 96
    augmentation: Augmentation = STANDARD

    def __post_init__(self) -> None:
        if not self.stacks or min(self.n_slices - 1, self.n_objects, self.side) < 1:
            raise DataError(f"{len(self.stacks)} volumes, walks of {self.n_slices} slices with "
                            f"{self.n_objects} objects of {self.side} pixels a side",
                            "at least one volume, two slices, one object", "Give larger numbers")  # fmt: skip
        for stack in self.stacks:
            if stack.image.shape[0] < self.n_slices or min(stack.image.shape[1:]) < self.side:
                raise DataError(f"A labelled volume is {stack.image.shape} (z, y, x) in pixels of the network",
                                f"at least {self.n_slices} slices of {self.side}×{self.side} pixels",
                                "Give a larger volume, or smaller crops")  # fmt: skip

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return images (1, slices, y, x) and masks (1, slices, objects, y, x), the reference slice first."""
        sizes = np.array([len(stack.image) for stack in self.stacks], float)
        for _ in range(100):
            stack = self.stacks[rng.choice(len(self.stacks), p=sizes / sizes.sum())]
            image, ids = self._walk(stack, rng)
            chosen = self._chosen(ids[0], rng)
            if len(chosen):
                break
        masks = np.zeros((self.n_slices, self.n_objects, self.side, self.side), np.float32)
        for k, label in enumerate(chosen):
            masks[:, k] = ids == label
        return torch.from_numpy(np.ascontiguousarray(image))[None], torch.from_numpy(masks)[None]

    def _walk(self, stack: IdStack, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        depth, height, width = stack.image.shape
        z = int(rng.integers(depth - self.n_slices + 1))
        y, x = (int(rng.integers(n - self.side + 1)) for n in (height, width))
        part = np.s_[z : z + self.n_slices, y : y + self.side, x : x + self.side]
        view = VIEWS[rng.integers(len(VIEWS))]  # half of them walk the other way
        image = np.asarray(apply(view, stack.image[part]), np.float32)
        ids = np.asarray(apply(view, stack.ids[part]))
        # what befalls single sections spares the one in the middle: that has to be the reference
        turn = self.n_slices // 2
        changed, moved = augment(
            np.roll(image, turn, axis=0), np.roll(ids, turn, axis=0), rng, self.augmentation
        )
        return np.roll(changed, -turn, axis=0), np.roll(moved, -turn, axis=0)

    def _chosen(self, ids: NDArray[np.int32], rng: np.random.Generator) -> list[int]:
        """Return objects of the reference slice, neighbours of one of them: those compete for pixels."""
        labels, counts = np.unique(ids, return_counts=True)
        fit = labels[(labels > 0) & (counts >= _LEAST)]
        if not len(fit):
            return []
        centres = np.array([np.argwhere(ids == label).mean(axis=0) for label in fit])
        first = int(rng.integers(len(fit)))
        near = np.argsort(np.hypot(*(centres - centres[first]).T))
        return [int(label) for label in rng.permutation(fit[near[: self.n_objects]])]


class PropagatorTask:
    """Learns to follow masks; `predict.train.Task`.

    Parameters
    ----------
    sampler
        Where walks come from.
    measure
        Called with the network for a validation.
    is_given
        Whether the network is given the true masks of the slice before, as in the first part of the training,
        or has to live with its own.
    """

    def __init__(
        self,
        sampler: SequenceSampler,
        measure: Callable[[nn.Module], Mapping[str, float]],
        *,
        is_given: bool,
    ) -> None:
        self._sampler, self._measure, self._is_given = sampler, measure, is_given

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw one walk."""
        return self._sampler.draw(rng)

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Walk away from the reference slice; the masks on it are known, so identities are matched there."""
        images, truth = batch
        logits = walk(net, images, truth, self._is_given)
        order = np.tile(np.arange(truth.shape[2]), (len(truth), 1))
        return sequence_loss(logits, truth, order)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Measure how well objects are followed."""
        return self._measure(net)


def walk(net: nn.Module, images: Tensor, truth: Tensor, is_given: bool) -> Tensor:
    """Return logits (n, slices, objects, y, x) on all slices, the reference slice first."""
    images, truth = images.contiguous(), truth.contiguous()  # slices and objects are no channels
    n, n_slices = images.shape[:2]
    seeds, masks, memory, found = truth[:, 0], truth[:, 0], None, []
    levels = net.encode(images.reshape(n * n_slices, 1, *images.shape[2:]))  # type: ignore[operator]
    levels = [level.reshape(n, n_slices, *level.shape[1:]) for level in levels]
    for t in range(n_slices):
        logits, memory = net([level[:, t] for level in levels], masks, seeds, memory)
        found.append(logits)
        masks = truth[:, t] if is_given or t == 0 else torch.sigmoid(logits)
    return torch.stack(found, dim=1)
