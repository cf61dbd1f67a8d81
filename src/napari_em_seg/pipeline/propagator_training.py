"""Training of propagators by name: first with the true masks of the slice before, then with their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline.propagation import sections_of
from napari_em_seg.pipeline.training import (
    LabelledPart,
    Provenance,
    check_parts,
    check_target,
    fingerprint,
    first_net,
    new_card,
    plan_of,
    run_training,
    training_folder,
)
from napari_em_seg.predict.registry import PROPAGATORS
from napari_em_seg.predict.watch import UNWATCHED, Limit, Picture, Watch
from napari_em_seg.predict.weights import Card
from napari_em_seg.volume import Progress, Volume

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_em_seg.predict.nets import Propagator
    from napari_em_seg.propagate.sequences import IdStack, SequenceSampler

__all__ = ["PropagatorRecipe", "calibration_of", "train_propagator"]

Variant = Literal["ST", "STL", "STN", "STC"]

_WALKS = 24  # of a validation
_SIDE = 512  # pixels of the part of a slice that confidences are calibrated on


@dataclass(frozen=True)
class PropagatorRecipe:
    """How a propagator is trained.

    Parameters
    ----------
    architecture
        "propagator-small" or "propagator-resnet50".
    variant
        What it remembers: "ST", "STL", "STN" or "STC".
    pixel_nm
        Size of the pixels it works on; volumes are thinned out to it by whole factors.
    n_slices, n_objects, side
        Of a walk that is learned from: slices with the reference slice, objects, and pixels along y and x.
    given
        The part of the steps in which the true masks of the slice before are given.
    steps, learning_rate, seed, validate_every, begin_from
        As in `training.BoundaryRecipe`.
    encoder_weights
        A safetensors file with weights of a ResNet-50 under torchvision's names, to begin with.
    saves_memory
        Whether layers are computed twice instead of keeping what their gradients need.
    """

    architecture: str = "propagator-small"
    variant: Variant = "STC"
    pixel_nm: float = 12.0
    n_slices: int = 6
    n_objects: int = 3
    side: int = 112
    given: float = 0.25
    steps: int = 6000
    learning_rate: float = 2e-3
    seed: int = 0
    validate_every: int = 500
    begin_from: str | None = None
    encoder_weights: str | None = None
    saves_memory: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built with, beside what its name says."""
        return {"variant": self.variant, "pixel_nm": self.pixel_nm}


def train_propagator(
    out: Path,
    training: Sequence[LabelledPart],
    validation: Sequence[LabelledPart],
    recipe: PropagatorRecipe,
    provenance: Provenance = Provenance(),  # noqa: B008 - it is frozen
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = None,
    on_validation: Callable[[Mapping[str, float]], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    watch: Watch = UNWATCHED,
) -> Card | None:
    """Train a propagator and write its weights; a run that was stopped goes on where it was.

    The network is kept that follows the objects of the validation slices best, without being given more than
    their masks on the reference slice.
    """
    check_target(out, overwrite)
    voxel_size = check_parts(training, validation)
    if recipe.architecture not in PROPAGATORS:
        raise DataError(f"{recipe.architecture} is no propagator", f"one of {', '.join(PROPAGATORS)}",
                        "Choose one of these")  # fmt: skip
    if not 0 <= recipe.given < 1:
        raise DataError(f"In a part of {recipe.given} of the steps true masks are to be given",
                        "a part from 0 to below 1", "Try 0.25")  # fmt: skip

    from napari_em_seg.predict.augment import NONE
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.train import train
    from napari_em_seg.propagate.sequences import PropagatorTask, SequenceSampler

    net = first_net(recipe, **recipe.arguments)
    _prepare(net, recipe)
    pixel = (recipe.pixel_nm, recipe.pixel_nm)
    card = new_card(out, net, recipe, provenance, training, (voxel_size[0], *pixel))
    card = replace(card, arguments=recipe.arguments)
    stacks, kept = ([_stack(part, recipe.pixel_nm) for part in parts] for parts in (training, validation))
    shape = recipe.n_slices, recipe.n_objects, recipe.side
    sampler = SequenceSampler(stacks, *shape)
    validations = SequenceSampler(kept, *shape, NONE)
    about = fingerprint(recipe, (a for stack in (*stacks, *kept) for a in (stack.image, stack.ids)))

    def measured(found: "nn.Module") -> dict[str, float]:
        return _measure(found, validations, choose_device(device), watch.on_picture)

    def calibrated(found: "nn.Module") -> dict[str, float]:
        return calibration_of(found, validation, choose_device(device), cancelled)

    given = round(recipe.given * recipe.steps)
    if given:
        train(
            net, PropagatorTask(sampler, measured, is_given=True), plan_of(replace(recipe, steps=given)),
            training_folder(out) / "given", device=choose_device(device), about=about,
            on_validation=on_validation, cancelled=cancelled, on_step=watch.on_step,
            progress=_part_of(progress, recipe.steps, 0, given / recipe.steps),
            limit=_part_of_time(watch.limit, recipe.given),
            is_enough=watch.is_enough,
        )  # fmt: skip
        if cancelled():
            return None
    rest = replace(recipe, steps=recipe.steps - given)
    watch = replace(
        watch, limit=_part_of_time(watch.limit, 1 - recipe.given),
        on_step=None if (told := watch.on_step) is None else lambda step, loss: told(given + step, loss),
    )  # fmt: skip
    return run_training(
        out, net, PropagatorTask(sampler, measured, is_given=False), rest, card, about, device=device,
        overwrite=overwrite, cancelled=cancelled, watch=watch, measured=calibrated,
        on_validation=None if on_validation is None else
        lambda row: on_validation({**row, "step": given + row["step"]}),
        progress=_part_of(progress, recipe.steps, given / recipe.steps, 1 - given / recipe.steps),
    )  # fmt: skip


def _part_of(progress: Progress, n: int, begin: float, share: float) -> Progress:
    """Return the progress of a part of what is to be done."""
    if progress is None:
        return None
    return lambda done, total: progress(round(n * (begin + share * done / total)), n)


def _part_of_time(limit: Limit | None, share: float) -> Limit | None:
    return None if limit is None else replace(limit, seconds=share * limit.seconds)


def calibration_of(
    net: "nn.Module",
    parts: Sequence[LabelledPart],
    device: Any,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Return the weights that make confidences probabilities, under the names they have on a card.

    Objects end at membranes in it, as they do where nobody says otherwise.
    """
    from napari_em_seg.propagate.calibration import Known, calibrate
    from napari_em_seg.propagate.confidence import WEIGHTS

    known = []
    for part in parts:
        where = (part.slices, *(_middle(n) for n in part.raw.shape[1:]))
        volume = Volume(part.raw[where], part.raw.voxel_size_nm, part.raw.name)
        known.append(Known(volume, np.asarray(part.labels[where])))
    try:
        weights = calibrate(
            cast("Propagator", net), known, device,
            sections=lambda volume: sections_of(volume, str(device)), cancelled=cancelled,
        )  # fmt: skip
    except Cancelled:
        return {}
    return dict(zip(WEIGHTS, weights, strict=True)) if weights else {}


def _middle(n: int) -> slice:
    return slice(max(0, (n - _SIDE) // 2), (n + _SIDE) // 2)


def _prepare(net: "nn.Module", recipe: PropagatorRecipe) -> None:
    """Give the encoder the weights that it is to begin with."""
    propagator = cast("Propagator", net)
    propagator.saves_memory = recipe.saves_memory
    if recipe.encoder_weights is not None:
        from napari_em_seg.predict.nets.propagator import load_resnet50

        load_resnet50(propagator, Path(recipe.encoder_weights))


def _stack(part: LabelledPart, pixel_nm: float) -> "IdStack":
    from napari_em_seg.propagate.looking import thinning
    from napari_em_seg.propagate.sequences import id_stack

    return id_stack(part.raw, part.labels, part.slices, thinning(part.raw.voxel_size_nm, pixel_nm))


def _measure(
    net: "nn.Module",
    sampler: "SequenceSampler",
    device: Any,
    on_picture: Callable[[Picture], object] | None = None,
) -> dict[str, float]:
    """Return the mean intersection over union on all slices but the first, and on the last one."""
    import torch

    from napari_em_seg.propagate.sequences import walk

    found = []
    for k in range(_WALKS):
        images, truth = (x.to(device) for x in sampler.draw(np.random.default_rng((1, k))))
        likely = torch.sigmoid(walk(net, images, truth, False))
        if k == 0 and on_picture is not None:
            on_picture(_picture(images, likely, truth))
        masks = likely > 0.5
        for o in range(truth.shape[2]):
            ours, theirs = masks[0, :, o], truth[0, :, o] > 0
            if theirs[0].any():
                either = (ours | theirs).sum(dim=(1, 2)).float()
                iou = torch.where(either > 0, (ours & theirs).sum(dim=(1, 2)) / either.clamp_min(1), 1.0)
                found.append(iou.cpu().numpy())
    table = np.array(found)
    mean, last = float(table[:, 1:].mean()), float(table[:, -1].mean())
    return {"score": 1 - mean, "iou": mean, "iou_last": last}


def _picture(images: "Tensor", likely: "Tensor", truth: "Tensor") -> Picture:
    """Return the last slice of a walk, how likely each pixel is of any object, and the true objects."""
    image, masks, true = (part[0, -1].float().cpu().numpy() for part in (images, likely, truth))
    numbers = (np.arange(1, len(true) + 1)[:, None, None] * (true > 0)).max(axis=0)
    return Picture.middle(np.squeeze(image), masks.max(axis=0), numbers)
