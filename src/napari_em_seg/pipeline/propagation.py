"""Propagation by name: an image, seeds on a slice and a model in, labels out."""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.errors import Cancelled, DataError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.pipeline.lazy_prediction import boundary_by_slice
from napari_em_seg.pipeline.models import choose_model
from napari_em_seg.pipeline.prediction import Prediction, predict_boundary
from napari_em_seg.predict.weights import load_weights, resolve
from napari_em_seg.segment import hmin_watershed
from napari_em_seg.volume import Progress, Volume, VoxelSize

if TYPE_CHECKING:
    from napari_em_seg.propagate.tracker import Sections, TrackedSlice

__all__ = ["Propagated", "Propagation", "propagate", "propagate_to_file", "watershed_seeds"]

_log = logging.getLogger(__name__)

Direction = Literal["both", "up", "down"]

DEPTH = 0.3
"""Of the watershed that makes seeds; lower ones make more and smaller sections."""

FINE, MEMBRANE = 0.02, 240
"""Depth of the watershed whose sections objects are made of; boundaries (of 255) above which there are none."""


@dataclass(frozen=True)
class Propagation:
    """How objects are followed.

    Parameters
    ----------
    reference
        The slice where the seeds are.
    model
        A name or file; "auto" chooses by voxel size.
    slices
        Where to go at most.
    device
        See `predict.device.choose_device`.
    direction
        "up": only to slices of higher numbers; "down": of lower ones.
    extent
        How many slices to go at most, in each direction.
    follows_membranes
        Whether objects end where a boundary model sees membranes: each slice is cut into fine sections, each of
        which goes to one object, or to none, as a whole.
    """

    reference: int
    model: str = "auto"
    slices: slice = field(default_factory=lambda: slice(None))
    device: str = "auto"
    direction: Direction = "both"
    extent: int | None = None
    follows_membranes: bool = True

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction) or (self.extent is not None and self.extent < 1):
            raise DataError(f"The direction is {self.direction}, the extent {self.extent}",
                            f"one of {', '.join(get_args(Direction))}, and at least one slice",
                            "Choose one of these, and a larger extent")  # fmt: skip

    def within(self, n_slices: int) -> slice:
        """Return the slices of a volume that are to be walked."""
        start, stop, _ = self.slices.indices(n_slices)
        reach = n_slices if self.extent is None else self.extent
        down, up = (0 if self.direction == other else reach for other in ("up", "down"))
        return slice(max(start, self.reference - down), min(stop, self.reference + up + 1))


@dataclass(frozen=True, eq=False)
class Propagated:
    """What was followed.

    Attributes
    ----------
    labels
        The objects (z, y, x).
    objects
        Their numbers.
    confidence
        How probable it is that a mask is right (objects, slices): 0 where the object was not found, NaN where
        it was not looked for.
    is_complete
        Whether all slices were done.
    """

    labels: NDArray[np.uint32]
    objects: tuple[int, ...]
    confidence: NDArray[np.float32]
    is_complete: bool = True

    @property
    def slices(self) -> list[int]:
        """Those that were done."""
        return [int(z) for z in np.flatnonzero(~np.isnan(self.confidence).all(axis=0))]


def propagate(
    volume: Volume,
    seeds: NDArray[Any],
    wanted: Propagation,
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> "Iterator[TrackedSlice]":
    """Follow seeds (y, x) on the reference slice; see `propagate.tracker.follow`."""
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.nets import Propagator
    from napari_em_seg.propagate.confidence import WEIGHTS
    from napari_em_seg.propagate.tracker import follow

    file = choose_model(volume, "propagator").model if wanted.model == "auto" else resolve(wanted.model)
    net, card = load_weights(file.path)
    if not isinstance(net, Propagator):
        raise DataError(f"{card.name} predicts {card.task}", "a propagator", "See: napari-em-seg models")
    calibration = [card.measures[name] for name in WEIGHTS if name in card.measures]
    return follow(
        net, volume, seeds, wanted.reference, slices=wanted.within(len(volume)),
        device=choose_device(wanted.device),
        sections=sections_of(volume, wanted.device) if wanted.follows_membranes else None,
        calibration=calibration if len(calibration) == len(WEIGHTS) else None,
        progress=progress, cancelled=cancelled,
    )  # fmt: skip


def sections_of(volume: Volume, device: str = "auto") -> "Sections | None":
    """Return what makes the fine sections of a slice, so that objects end at membranes."""
    try:
        model = choose_model(volume, "boundary").model.name
    except SourceNotFoundError as error:
        _log.warning("Objects end where the network says, not at membranes. %s", error)
        return None

    boundary_of = boundary_by_slice(volume, Prediction((model,), views=1, device=device))

    def sections(z: int) -> NDArray[Any]:
        boundary = boundary_of(z)
        found = hmin_watershed(boundary[None], FINE, mode="2d")[0]
        return np.where(boundary > MEMBRANE, 0, found)

    return sections


def collected(found: "Iterator[TrackedSlice]", shape: tuple[int, int, int]) -> Propagated:
    """Put slices together; where it is cancelled, those that were done until then."""
    labels, sure = np.zeros(shape, np.uint32), dict[int, dict[int, float]]()
    is_complete = True
    try:
        for one in found:
            labels[one.z] = one.labels
            for name, value in one.confidence.items():
                sure.setdefault(name, {})[one.z] = value
    except Cancelled:
        is_complete = False
    names = sorted(sure)
    return Propagated(labels, tuple(names), confidence_table(sure, shape[0]), is_complete)


def confidence_table(sure: Mapping[int, Mapping[int, float]], n_slices: int) -> NDArray[np.float32]:
    """Return confidences given by object and slice as a table (objects by number, slices); NaN for none."""
    rows = [[sure[name].get(z, np.nan) for z in range(n_slices)] for name in sorted(sure)]
    return np.array(rows, np.float32).reshape(len(sure), n_slices)


def propagate_to_file(
    raw: str,
    seeds: str,
    out: str,
    wanted: Propagation,
    *,
    confidence: Path | None = None,
    voxel_size_nm: VoxelSize | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Propagated:
    """Follow seeds through an image and write labels; once cancelled, those that were done until then.

    ``seeds`` are labels of the same volume, of which those of the reference slice count, or of that slice
    alone; "watershed" takes the sections that a watershed of its predicted boundaries finds.
    ``confidence`` is a table to write beside the labels.
    """
    io.check_volume_target(out, kind="labels", overwrite=overwrite)
    if confidence is not None and confidence.exists() and not overwrite:
        raise TargetExistsError(f"{confidence} exists", "a new file", "Choose another name, or say --overwrite")
    image = io.open_volume(raw, "image")
    if voxel_size_nm is not None:
        image = image.with_voxel_size(voxel_size_nm)
    if not 0 <= wanted.reference < len(image):
        raise DataError(f"The reference slice is {wanted.reference}", f"one of 0 to {len(image) - 1}",
                        "Give another --reference")  # fmt: skip
    if seeds == "watershed":
        plane = watershed_seeds(image, wanted.reference, device=wanted.device)
    else:
        plane = _plane_of(io.open_volume(seeds, "labels"), image, wanted.reference)
    found = collected(propagate(image, plane, wanted, progress=progress, cancelled=cancelled), image.shape)
    volume = Volume(found.labels, image.voxel_size_nm, "propagated", kind="labels")
    if found.objects:
        io.write_volume(volume, out, overwrite=overwrite)
        if confidence is not None:
            write_confidence(found, confidence, overwrite=overwrite)
    return found


def write_confidence(found: Propagated, path: Path, *, overwrite: bool = False) -> None:
    """Write how sure the mask of each object on each slice is, as CSV."""
    with (
        atomic(path, overwrite=overwrite) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("object", "z", "confidence"))
        for name, row in zip(found.objects, found.confidence, strict=True):
            writer.writerows((name, z, f"{row[z]:.4f}") for z in np.flatnonzero(~np.isnan(row)))


def watershed_seeds(
    image: Volume, reference: int, *, least: int = 150, device: str = "auto"
) -> NDArray[np.uint32]:
    """Return the sections that a watershed of the predicted boundaries of a slice finds.

    They meet in the middle of membranes; cut off where a boundary is predicted, they would be farther from
    true ones.

    Parameters
    ----------
    image
        The volume.
    reference
        The slice.
    least
        Pixels below which a section is left out.
    device
        For the prediction.
    """
    wanted = Prediction(slices=slice(reference, reference + 1), views=1, device=device)
    boundary = np.asarray(predict_boundary(image, wanted))
    found: NDArray[np.uint32] = hmin_watershed(boundary, DEPTH, mode="2d")[0].astype(np.uint32)
    found[np.isin(found, np.flatnonzero(np.bincount(found.reshape(-1)) < least))] = 0
    return found


def _plane_of(labels: Volume, image: Volume, reference: int) -> NDArray[Any]:
    if labels.shape == image.shape:
        return np.asarray(labels[reference])
    if labels.shape == (1, *image.shape[1:]):
        return np.asarray(labels[0])
    raise DataError(f"The seeds are {labels.shape}, the image {image.shape}", "labels of the image, or of one "
                    "of its slices", "Give the labels that belong to this image")  # fmt: skip
