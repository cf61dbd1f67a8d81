"""Training of affinity networks by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.pipeline.agglomeration import THRESHOLDS, agglomerated, scores_of_tree
from napari_em_seg.pipeline.training import (
    LabelledPart,
    Provenance,
    check_parts,
    check_target,
    check_task,
    fingerprint,
    first_net,
    new_card,
    run_training,
)
from napari_em_seg.predict.affinities import NEAREST, Offset
from napari_em_seg.predict.watch import UNWATCHED, Watch
from napari_em_seg.predict.weights import Card
from napari_em_seg.volume import Progress

if TYPE_CHECKING:
    from napari_em_seg.predict.affinity import IdVolume
    from napari_em_seg.predict.boundary import Validation

__all__ = ["LONG_RANGE", "AffinityRecipe", "train_affinity"]

LONG_RANGE: tuple[Offset, ...] = ((-2, 0, 0), (0, -9, 0), (0, 0, -9), (0, -27, 0), (0, 0, -27))
"""What is learned beside the nearest neighbours, if wanted: two slices, 9 and 27 pixels."""


@dataclass(frozen=True)
class AffinityRecipe:
    """How an affinity network is trained.

    Parameters
    ----------
    architecture
        A name in the registry.
    loss
        A key of ``predict.affinity_losses.AFFINITY_LOSSES``.
    long_range, descriptors
        Whether affinities to voxels farther away, and local shape descriptors, are learned as well.
    shape, batch
        Of a block (z, y, x), and blocks in a batch.
    steps, learning_rate, seed, validate_every, begin_from
        As in `training.BoundaryRecipe`.
    """

    architecture: str = "affinity-unet-small"
    loss: str = "malis"
    long_range: bool = False
    descriptors: bool = False
    shape: tuple[int, int, int] = (12, 160, 160)
    batch: int = 1
    steps: int = 4000
    learning_rate: float = 2e-3
    seed: int = 0
    validate_every: int = 1000
    begin_from: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built with, beside what its name says."""
        options: dict[str, Any] = {"descriptors": True} if self.descriptors else {}
        return options | ({"offsets": [list(o) for o in self.offsets]} if self.long_range else {})

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """What the affinities join."""
        return NEAREST + (LONG_RANGE if self.long_range else ())


def train_affinity(
    out: Path,
    training: Sequence[LabelledPart],
    validation: Sequence[LabelledPart],
    recipe: AffinityRecipe,
    provenance: Provenance = Provenance(),  # noqa: B008 - it is frozen
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = None,
    on_validation: Callable[[Mapping[str, float]], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    watch: Watch = UNWATCHED,
) -> Card | None:
    """Train an affinity network and write its weights; see `training.train_boundary`.

    The network is kept whose affinities, agglomerated by their mean, segment the validation slices best.
    """
    check_target(out, overwrite)
    voxel_size = check_parts(training, validation)
    check_task(recipe.architecture, "affinity")

    from napari_em_seg.predict.affinity import AffinityTask, BlockSampler, id_volume
    from napari_em_seg.predict.boundary import Validation

    net = first_net(recipe, **recipe.arguments)
    card = new_card(out, net, recipe, provenance, training, voxel_size)
    card = replace(card, arguments=recipe.arguments)
    volumes = [id_volume(part.raw, part.labels, part.slices) for part in training]
    validations = [Validation(part.raw, part.slices, part.labels[part.slices]) for part in validation]
    sampler = BlockSampler(
        volumes, recipe.shape, recipe.batch, recipe.offsets, voxel_size if recipe.descriptors else None
    )
    task = AffinityTask(
        sampler, recipe.loss, validations, _measure, device=device, on_picture=watch.on_picture,
        cancelled=cancelled,
    )  # fmt: skip
    return run_training(
        out, net, task, recipe, card, _fingerprint(recipe, volumes, validations), device=device,
        overwrite=overwrite, progress=progress, on_validation=on_validation, cancelled=cancelled, watch=watch,
    )  # fmt: skip


def _measure(maps: Sequence[NDArray[np.float32]], truths: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Return the mean scores at the threshold that is best for all maps together."""
    tables = [scores_of_tree(*agglomerated(found), truth) for found, truth in zip(maps, truths, strict=True)]
    names = ("adapted_rand_error", "vi_split", "vi_merge")
    means = {
        t: {n: float(np.mean([getattr(table[t], n) for table in tables])) for n in names} for t in THRESHOLDS
    }
    best = min(THRESHOLDS, key=lambda t: means[t]["adapted_rand_error"])
    return {"score": means[best]["adapted_rand_error"], **means[best], "threshold": best}


def _fingerprint(
    recipe: AffinityRecipe, volumes: "Sequence[IdVolume]", validations: "Sequence[Validation]"
) -> str:
    """Return a number that is another one wherever another network would come out."""
    arrays = [array for volume in volumes for array in (volume.image, volume.ids)]
    kept = [array for part in validations for array in (part.image[part.slices], part.truth)]
    return fingerprint(recipe, (*arrays, *kept))
