"""What a boundary network learns: crops and their loss, and how well its map segments slices kept aside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.crops import CropSampler
from napari_em_seg.predict.losses import LOSSES
from napari_em_seg.predict.nets import AnyNet
from napari_em_seg.predict.nets.m2fcn import M2FCN
from napari_em_seg.predict.run import predict
from napari_em_seg.predict.tiling import Normalise
from napari_em_seg.predict.watch import Picture
from napari_em_seg.volume import Volume

__all__ = ["BoundaryTask", "Measure", "Validation", "begin_from"]

Measure = Callable[[Sequence[NDArray[np.float32]], Sequence[NDArray[Any]]], Mapping[str, float]]
"""Says how well boundary maps segment, given the truths: ``score``, where less is better, and others."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Slices kept aside, and the true objects in them."""

    image: Volume
    slices: slice
    truth: NDArray[Any]

    def picture(self, boundary: NDArray[np.float32]) -> Picture:
        """Return a picture of the middle slice, of which this boundary map was predicted."""
        z = len(self.truth) // 2
        image = self.image[self.slices.indices(len(self.image))[0] + z]
        return Picture.middle(np.asarray(image), boundary[z], self.truth[z])


@dataclass(frozen=True, eq=False)
class BoundaryTask:
    """A `train.Task`: boundaries, judged by the segmentation that they give.

    Parameters
    ----------
    sampler
        Draws crops.
    loss
        A key of ``losses.LOSSES``.
    validations, measure
        What is predicted at each validation, and how well that segments. The step that segments is not known
        here, so the caller brings it.
    device
        Where validation predicts.
    normalise
        How the images of the validations are brought to zero mean and unit variance.
    on_picture
        Called with a picture of the first of them.
    cancelled
        Asked while these are predicted; once it says yes, `Cancelled` is raised.
    """

    sampler: CropSampler
    loss_name: str
    validations: Sequence[Validation]
    measure: Measure
    device: str = "auto"
    normalise: Normalise = "volume"
    on_picture: Callable[[Picture], object] | None = None
    cancelled: Callable[[], bool] | None = None

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw images, boundaries, and where these are known."""
        return self.sampler.draw(rng)

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of all outputs that the network has in training."""
        images, boundaries, known = batch
        outputs = net.forward_all(images) if isinstance(net, M2FCN) else net(images)
        return LOSSES[self.loss_name](outputs, boundaries, known)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Predict the slices kept aside, in one view, and measure their segmentation."""
        maps = [
            predict(part.image, [net], views=1, device=self.device, dtype="float32", slices=part.slices,
                    normalise=self.normalise, cancelled=self.cancelled)
            for part in self.validations
        ]  # fmt: skip
        if self.on_picture is not None:
            self.on_picture(self.validations[0].picture(maps[0]))
        return self.measure(maps, [part.truth for part in self.validations])


def begin_from(net: AnyNet, trained: AnyNet) -> None:
    """Take over trained weights: of the same network, or into stage 1 of an M2FCN with more stages."""
    try:
        if isinstance(net, M2FCN) and isinstance(trained, M2FCN) and len(net.stages) > len(trained.stages):
            net.init_from_single_stage(trained)
        else:
            net.load_state_dict(trained.state_dict())
    except (DataError, RuntimeError) as error:
        came = sum(parameter.numel() for parameter in trained.parameters())
        raise DataError(
            f"The weights to begin from are those of another network ({came:,} parameters)",
            "the same architecture, or one M2FCN stage for an M2FCN of more",
            "Leave --begin-from out, or train the architecture of those weights",
        ) from error
