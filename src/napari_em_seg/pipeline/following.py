"""Following: what the propagator says of all sections, for the assignment program to look at."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from napari_em_seg.assign.agreement import Step
from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.errors import Cancelled
from napari_em_seg.pipeline.models import choose_model
from napari_em_seg.pipeline.propagation import Propagation, propagate, watershed_seeds
from napari_em_seg.volume import ArrayLike, Progress, Volume, VoxelSize

__all__ = ["FOLLOWS", "Followed", "follow_sections", "following", "follows"]

FOLLOWS = "follows"
"""Says in the card of an assignment model whether it was trained with sections that were followed."""

Followed = Callable[[Progress], Iterable[Step]]
"""Follows, and tells how far it is."""


def follows(model: AssignmentModel | None) -> bool:
    """Whether a model was trained with sections that were followed, and so wants them."""
    return model is not None and bool(model.card.get(FOLLOWS))


def following(
    raw: ArrayLike, voxel_size_nm: VoxelSize | None, device: str, cancelled: Callable[[], bool]
) -> Followed:
    """Return what will follow the sections of an image; if no propagator can, say so before any work."""
    image = Volume(raw, voxel_size_nm, "image")
    choose_model(image, "propagator")
    return partial(follow_sections, image, device=device, cancelled=cancelled)


def follow_sections(
    image: Volume,
    progress: Progress = None,
    *,
    device: str = "auto",
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Follow the sections of every other slice to both of its neighbours: so each two slices come up once.

    Sections are those that a watershed of the predicted boundaries finds.
    """
    references = range(0, len(image), 2)
    for done, z in enumerate(references, 1):
        if cancelled():
            raise Cancelled("The work was cancelled")
        seeds = watershed_seeds(image, z, device=device)
        if seeds.any():
            wanted = Propagation(z, extent=1, device=device)
            found = {one.z: one.labels for one in propagate(image, seeds, wanted, cancelled=cancelled)}
            for first in (z - 1, z):
                if {first, first + 1} <= found.keys():
                    yield first, found[first], found[first + 1]
        if progress is not None:
            progress(done, len(references))
