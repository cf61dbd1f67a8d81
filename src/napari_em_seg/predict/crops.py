"""Labelled volumes, and the random crops of them that a boundary network is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.predict.augment import STANDARD, Augmentation, augment
from napari_em_seg.predict.labels import Kernel, boundary_labels
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.predict.views import VIEWS, apply
from napari_em_seg.volume import Volume

__all__ = ["CropSampler", "LabelledVolume", "Zero", "labelled"]

Zero = Literal["label", "boundary", "ignore"]
"""What the id 0 means: a label like others (as in the DeepEM3D paper), boundary, or nobody knows."""


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """An image with zero mean and unit deviation, and where its boundaries are (1), both in memory.

    Where ``known`` is false nothing is learned; None where everything is known.
    """

    image: NDArray[np.float32]
    boundary: NDArray[np.uint8]
    known: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.image.shape != self.boundary.shape:
            raise DataError(
                f"The image is {self.image.shape} and its labels are {self.boundary.shape} (z, y, x)",
                "labels of the same shape as the image",
                "Give the labels that belong to this image, or cut both to the same part",
            )
        judged = self.boundary if self.known is None else self.boundary[self.known]
        share = float(judged.mean()) if judged.size else -1
        if not 0 < share < 1:
            place = "wherever they are known" if self.known is not None else "everywhere"
            raise DataError(
                f"The labels are {'boundary' if share else 'object'} {place}"
                if judged.size
                else "No voxel is labelled in such a way that one can tell whether it is boundary",
                "labels with boundaries and objects",
                "Check that these are the labels, and that 0 or membranes are marked in them",
            )

    @cached_property
    def known_voxels(self) -> NDArray[np.int64]:
        """How many voxels are known in each slice."""
        size = self.boundary[0].size
        if self.known is None:
            return np.full(len(self.boundary), size)
        return np.asarray(np.count_nonzero(self.known.reshape(-1, size), axis=1), np.int64)


def labelled(
    raw: Volume,
    labels: Volume,
    kernel: Kernel | None = "l3",
    slices: slice = slice(None),
    zero: Zero = "label",
) -> LabelledVolume:
    """Read an image and its labels.

    Parameters
    ----------
    raw, labels
        Of the same shape.
    kernel
        How boundaries are drawn from object ids; None where the labels are membranes already, and other
        than 0 there.
    slices
        The slices to take, for instance those for training.
    zero
        What the id 0 means. With "boundary", thick membranes that are drawn as 0 are boundary inside too;
        with "ignore", what is not labelled yet is left out, and so are voxels whose kernel reaches into it:
        whether they are boundary depends on what lies there.
    """
    if zero not in get_args(Zero):
        raise DataError(f"The id 0 is to mean {zero!r}", f"one of {', '.join(get_args(Zero))}", "Choose one")
    if raw.shape != labels.shape:
        raise DataError(
            f"The image is {raw.shape} and its labels are {labels.shape} (z, y, x)",
            "labels of the same shape as the image",
            "Give the labels that belong to this image, or cut both to the same part",
        )
    image, marks = raw[slices].astype(np.float32), labels[slices]
    mean, deviation = Levels(raw).of(0)  # those that prediction will use
    image = (image - np.float32(mean)) / np.float32(deviation)
    if kernel is None:
        return LabelledVolume(image, (marks != 0).astype(np.uint8))
    boundary = boundary_labels(marks, kernel)
    if zero == "boundary":
        boundary |= marks == 0
    if zero != "ignore":
        return LabelledVolume(image, boundary)
    is_labelled = marks != 0
    return LabelledVolume(image, boundary, is_labelled & (boundary_labels(is_labelled, kernel) == 0))


@dataclass(frozen=True, eq=False)
class CropSampler:
    """Draws batches of crops: any place, any of the sixteen views, augmented as serial sections are.

    Where something is not known, crops are drawn around voxels that are.

    Parameters
    ----------
    volumes
        Drawn from in proportion to their voxels.
    n_slices
        That the network sees; the labels are those of the centre one.
    side
        Height and width of a crop in pixels.
    batch_size
        Crops in a batch.
    augmentation
        How strong.
    """

    volumes: Sequence[LabelledVolume]
    n_slices: int
    side: int = 256
    batch_size: int = 4
    augmentation: Augmentation = STANDARD

    def __post_init__(self) -> None:
        if not self.volumes:
            raise DataError("No labelled volume is given", "at least one", "Name an image and its labels")
        if min(self.side, self.batch_size) < 1:
            raise DataError(
                f"Batches are to have {self.batch_size} crops of {self.side}×{self.side} pixels",
                "at least one crop, of at least one pixel",
                "Give larger numbers",
            )
        for volume in self.volumes:
            if volume.image.shape[0] < self.n_slices or min(volume.image.shape[1:]) < self.side:
                raise DataError(
                    f"A labelled volume is {volume.image.shape} (z, y, x)",
                    f"at least {self.n_slices} slices of {self.side}×{self.side} pixels",
                    "Give a larger volume, or smaller crops",
                )

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images (batch, slices, side, side), boundaries and what is known (batch, 1, side, side)."""
        sizes = np.array([volume.image.size for volume in self.volumes], float)
        chosen = rng.choice(len(self.volumes), self.batch_size, p=sizes / sizes.sum())
        crops = [self._crop(self.volumes[i], rng) for i in chosen]
        images, targets = (np.stack(parts) for parts in zip(*crops, strict=True))
        marks = torch.from_numpy(targets.astype(np.float32))
        return torch.from_numpy(images), marks[:, :1], marks[:, 1:]

    def _crop(self, volume: LabelledVolume, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        z, y, x = self._place(volume, rng)
        part = np.s_[y : y + self.side, x : x + self.side]
        image = volume.image[(slice(z, z + self.n_slices), *part)]
        centre = (z + self.n_slices // 2, *part)
        target = np.ones((2, 1, self.side, self.side), np.uint8)  # boundary, and whether that is known
        target[0] = volume.boundary[centre]
        if volume.known is not None:
            target[1] = volume.known[centre]
        view = VIEWS[rng.integers(len(VIEWS))]
        image, target = augment(
            np.asarray(apply(view, image), np.float32), apply(view, target)[:, 0], rng, self.augmentation
        )
        return np.ascontiguousarray(image), np.ascontiguousarray(target)

    def _place(self, volume: LabelledVolume, rng: np.random.Generator) -> tuple[int, int, int]:
        """Return the first voxel of a crop, of whose centre slice something is known."""
        depth, *sizes = volume.image.shape
        first, n = self.n_slices // 2, depth - self.n_slices + 1
        counts = volume.known_voxels[first : first + n]
        if volume.known is None or not counts.any():
            z, y, x = (int(rng.integers(size + 1)) for size in (n - 1, *(size - self.side for size in sizes)))
            return z, y, x
        z = int(rng.choice(n, p=counts / counts.sum()))
        voxel = rng.choice(np.flatnonzero(volume.known[z + first]))
        y, x = (
            int(rng.integers(max(0, at - self.side + 1), min(at, size - self.side) + 1))
            for at, size in zip(np.unravel_index(voxel, sizes), sizes, strict=True)
        )
        return z, y, x
