"""What an affinity network learns: blocks of ids and their affinities, judged by how well these segment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import NEAREST, Offset, affinity_labels, local_shape_descriptors
from napari_em_seg.predict.affinity_losses import AFFINITY_LOSSES
from napari_em_seg.predict.augment import STANDARD, Augmentation, augment
from napari_em_seg.predict.boundary import Measure, Validation
from napari_em_seg.predict.nets.affinity_unet import AffinityUNet
from napari_em_seg.predict.run import predict
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.predict.views import VIEWS, apply
from napari_em_seg.predict.watch import Picture
from napari_em_seg.volume import Volume, VoxelSize

__all__ = ["BLOCK_AUGMENTATION", "AffinityTask", "BlockSampler", "IdVolume", "id_volume"]

Shape = tuple[int, int, int]

# A slice that lies beside the others would need ids that do so too; a missing one is predicted through.
BLOCK_AUGMENTATION = replace(STANDARD, shift=0.0)


@dataclass(frozen=True, eq=False)
class IdVolume:
    """An image with zero mean and unit deviation, and the object of each voxel (0: none), in memory."""

    image: NDArray[np.float32]
    ids: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.image.shape != self.ids.shape:
            raise DataError(
                f"The image is {self.image.shape} and its labels are {self.ids.shape} (z, y, x)",
                "labels of the same shape as the image",
                "Give the labels that belong to this image, or cut both to the same part",
            )
        if not self.ids.any():
            raise DataError("The labels are 0 everywhere", "objects with numbers from 1 on",
                            "Check that these are the labels")  # fmt: skip


def id_volume(raw: Volume, labels: Volume, slices: slice = slice(None)) -> IdVolume:
    """Read slices of an image and its ids; these are numbered anew, which keeps them apart and small."""
    image, marks = raw[slices].astype(np.float32), labels[slices]
    mean, deviation = Levels(raw).of(0)  # those that prediction will use
    present, numbered = np.unique(marks, return_inverse=True)
    ids = numbered.reshape(marks.shape).astype(np.int32) + np.int32(present[0] != 0)
    return IdVolume((image - np.float32(mean)) / np.float32(deviation), ids)


@dataclass(frozen=True, eq=False)
class BlockSampler:
    """Draws batches of blocks: any place, any of the sixteen views, augmented as serial sections are.

    Parameters
    ----------
    volumes
        Drawn from in proportion to their voxels.
    shape
        Of a block, (z, y, x).
    batch_size
        Blocks in a batch.
    offsets
        What the affinities join.
    voxel_size_nm
        For local shape descriptors, which are drawn as well if it is given.
    augmentation
        How strong.
    """

    volumes: Sequence[IdVolume]
    shape: Shape
    batch_size: int = 1
    offsets: Sequence[Offset] = NEAREST
    voxel_size_nm: VoxelSize | None = None
    augmentation: Augmentation = BLOCK_AUGMENTATION

    def __post_init__(self) -> None:
        if not self.volumes:
            raise DataError("No labelled volume is given", "at least one", "Name an image and its labels")
        side = max(self.shape[1:])
        for volume in self.volumes:
            if volume.image.shape[0] < self.shape[0] or min(volume.image.shape[1:]) < side:
                raise DataError(
                    f"A labelled volume is {volume.image.shape} (z, y, x)",
                    f"at least {self.shape[0]} slices of {side}×{side} pixels",
                    "Give a larger volume, or smaller blocks",
                )

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Return images (n, 1, z, y, x), ids (n, z, y, x), and descriptors (n, 10, z, y, x) if wanted.

        Affinities are not among them: they follow from the ids where the network has these.
        """
        sizes = np.array([volume.image.size for volume in self.volumes], float)
        chosen = rng.choice(len(self.volumes), self.batch_size, p=sizes / sizes.sum())
        blocks = [self._block(self.volumes[i], rng) for i in chosen]
        images, ids = (np.stack(parts) for parts in zip(*blocks, strict=True))
        drawn = torch.from_numpy(images[:, None]), torch.from_numpy(ids)
        if self.voxel_size_nm is None:
            return drawn
        described = [local_shape_descriptors(block, voxel_size_nm=self.voxel_size_nm) for block in ids]
        return *drawn, torch.from_numpy(np.stack(described))

    def _block(
        self, volume: IdVolume, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        view = VIEWS[rng.integers(len(VIEWS))]
        z, y, x = self.shape
        before = (z, x, y) if view.swaps_axes else self.shape
        starts = [int(rng.integers(n - m + 1)) for n, m in zip(volume.image.shape, before, strict=True)]
        part = tuple(slice(start, start + n) for start, n in zip(starts, before, strict=True))
        image, ids = augment(
            np.asarray(apply(view, volume.image[part]), np.float32), apply(view, volume.ids[part]), rng,
            self.augmentation,
        )  # fmt: skip
        return np.ascontiguousarray(image), np.ascontiguousarray(ids, np.int32)


@dataclass(frozen=True, eq=False)
class AffinityTask:
    """A `train.Task`: affinities, judged by the segmentation that they give.

    Parameters
    ----------
    sampler
        Draws blocks.
    loss_name
        A key of ``affinity_losses.AFFINITY_LOSSES``.
    validations, measure
        What is predicted at each validation, and how well that segments; the caller knows how.
    descriptor_weight
        Of the mean squared error of shape descriptors beside the loss of the affinities.
    device
        Where validation predicts.
    on_picture
        Called with a picture of the first of the validations: the boundaries between pixels of one slice.
    cancelled
        Asked while these are predicted; once it says yes, `Cancelled` is raised.
    """

    sampler: BlockSampler
    loss_name: str
    validations: Sequence[Validation]
    measure: Measure
    descriptor_weight: float = 5.0
    device: str = "auto"
    on_picture: Callable[[Picture], object] | None = None
    cancelled: Callable[[], bool] | None = None

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw images, ids, affinities, whether these are known, and descriptors if wanted."""
        images, ids, *described = self.sampler.draw(rng)
        made = [affinity_labels(block, self.sampler.offsets) for block in ids.numpy()]
        targets, known = (torch.from_numpy(np.stack(parts)) for parts in zip(*made, strict=True))
        return images, ids, targets, known, *described

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of the affinities, and of the descriptors where they are learned."""
        images, ids, targets, known, *described = batch
        if not isinstance(net, AffinityUNet):
            raise DataError(f"The network is a {type(net).__name__}", "an affinity network", "Choose one")
        logits, guessed = net.forward_all(images)
        if net.padding == "valid":
            ids, targets, known = (_cropped(part, net.halo) for part in (ids, targets, known))
            described = [_cropped(part, net.halo) for part in described]
        total = AFFINITY_LOSSES[self.loss_name](logits, targets, known, ids)
        if guessed is None or not described:
            return total
        inside = (ids != 0).unsqueeze(1)
        return total + self.descriptor_weight * mse_loss(guessed.float() * inside, described[0] * inside)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Predict the slices kept aside, in one view, and measure their segmentation."""
        maps = [
            predict(part.image, [net], views=1, device=self.device, dtype="float32", slices=part.slices,
                    cancelled=self.cancelled)
            for part in self.validations
        ]  # fmt: skip
        if self.on_picture is not None:
            self.on_picture(self.validations[0].picture(1 - maps[0][1:3].min(axis=0)))
        return self.measure([found[:3] for found in maps], [part.truth for part in self.validations])


def _cropped(part: Tensor, halo: Shape) -> Tensor:
    """Cut the halo off the last three axes."""
    z, y, x = (slice(h, n - h) for h, n in zip(halo, part.shape[-3:], strict=True))
    return part[..., z, y, x]
