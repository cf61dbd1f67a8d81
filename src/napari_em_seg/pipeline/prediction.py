"""Boundary prediction by name: a volume and models in, a boundary map out."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_em_seg import io
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline.models import Choice, choose_model
from napari_em_seg.predict.weights import Card, load_weights, read_card, resolve
from napari_em_seg.volume import Progress, Volume, VoxelSize

if TYPE_CHECKING:
    from napari_em_seg.predict.nets import AnyNet

_log = logging.getLogger(__name__)

__all__ = [
    "AFFINITY_MAPS",
    "Models",
    "Prediction",
    "misaligned_slices",
    "predict_affinities",
    "predict_boundary",
    "predict_to_file",
    "resolved",
]

Misaligned = Literal["auto"] | Sequence[int]

AFFINITY_MAPS = ("affinities/z", "affinities/y", "affinities/x")
"""Where the affinities of each voxel to its neighbour at −1 along z, y and x lie in a container."""

_AUTO = {"auto": "boundary", "boundary": "boundary", "affinity": "affinity"}


@dataclass(frozen=True)
class Prediction:
    """What is to be predicted with what.

    Parameters
    ----------
    models
        Names or files, of which the voxel-wise maximum is taken; "auto" chooses a boundary model by voxel
        size, "affinity" an affinity model.
    local_models
        Names or files that join in on misaligned slices only.
    misaligned
        Those slices; "auto" finds them.
    slices
        Which slices.
    views
        1, 4, 8 or 16 symmetries that are averaged; None: 16 on a GPU, 4 on a CPU.
    device, tile, half, compiled, dtype
        See `predict.run.predict`.
    """

    models: Sequence[str] = ("auto",)
    local_models: Sequence[str] = ()
    misaligned: Misaligned = "auto"
    slices: slice = field(default_factory=lambda: slice(None))
    views: int | None = None
    device: str = "auto"
    tile: int | None = None
    half: bool | None = None
    compiled: bool = False
    dtype: Literal["uint8", "float32"] = "uint8"


def predict_boundary(
    volume: Volume,
    wanted: Prediction = Prediction(),
    *,
    out: Any = None,
    on_choice: Callable[[Choice], object] | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> Any:
    """Predict a boundary map (1, or 255, at a boundary) of a volume or layer; see `predict.run.predict`.

    ``on_choice`` is told which model "auto" became, and why.
    """
    models = Models(volume, wanted, on_choice, "boundary")
    return models.predict(volume, wanted, out, progress, cancelled)


def predict_affinities(
    volume: Volume,
    wanted: Prediction = Prediction(("affinity",)),
    *,
    out: Any = None,
    on_choice: Callable[[Choice], object] | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> Any:
    """Predict affinities (c, z, y, x), of which the first three are those to the nearest neighbours."""
    models = Models(volume, wanted, on_choice, "affinity")
    return models.predict(volume, wanted, out, progress, cancelled)


def predict_to_file(
    source: str,
    out: str,
    wanted: Prediction = Prediction(),
    *,
    voxel_size_nm: VoxelSize | None = None,
    overwrite: bool = False,
    on_choice: Callable[[Choice], object] | None = None,
    progress: Progress = None,
) -> None:
    """Predict and write a boundary map, or a container with the three maps in `AFFINITY_MAPS`.

    What is done lies in an unnamed file until all is.
    """
    volume = io.open_volume(source)
    if voxel_size_nm is not None:
        volume = volume.with_voxel_size(voxel_size_nm)
    models = Models(volume, wanted, on_choice)
    _check_out(out, models.task, overwrite)
    start, stop, _ = wanted.slices.indices(len(volume))
    channels = (models.n_channels,) if models.n_channels > 1 else ()
    shape = (*channels, max(1, stop - start), *volume.shape[1:])  # predict refuses to predict no slices at all
    with tempfile.TemporaryFile(dir=_folder_of(out)) as spool:
        found = np.memmap(spool, wanted.dtype, "w+", shape=shape)
        models.predict(volume, wanted, found, progress)
        if models.task == "boundary":
            io.write_volume(Volume(found, volume.voxel_size_nm, "boundary"), out, overwrite=overwrite)
            return
        maps = {place: Volume(found[c], volume.voxel_size_nm, place) for c, place in enumerate(AFFINITY_MAPS)}
        io.write_volumes(maps, out, overwrite=overwrite)


def misaligned_slices(
    volume: Volume, progress: Progress = None, cancelled: Callable[[], bool] | None = None
) -> tuple[int, ...]:
    """Return the slices that do not lie on their neighbours; see `predict.misaligned` for the figures."""
    from napari_em_seg.predict.misaligned import measure_alignment

    found = measure_alignment(volume, progress, cancelled)
    if cancelled is not None and cancelled():
        raise Cancelled("Looking for misaligned slices was cancelled")
    return found.flagged()


def resolved(volume: Volume, wanted: Prediction) -> Prediction:
    """Return the same prediction with names of models and a number of views in place of what was left open."""
    from napari_em_seg.predict.device import choose_device

    names = Models(volume, wanted).names[: len(wanted.models)]
    is_cpu = choose_device(wanted.device).type == "cpu"
    return replace(
        wanted,
        models=tuple(name if said in _AUTO else said for said, name in zip(wanted.models, names, strict=True)),
        views=(4 if is_cpu else 16) if wanted.views is None else wanted.views,
    )


class Models:
    """The models of a prediction, all of one task; their networks are loaded when they are needed."""

    def __init__(
        self,
        volume: Volume,
        wanted: Prediction,
        on_choice: Callable[[Choice], object] | None = None,
        task: str | None = None,
    ) -> None:
        if not wanted.models:
            raise DataError("No model is given", "at least one", "Choose a model")
        if wanted.misaligned != "auto" and wanted.misaligned and not wanted.local_models:
            raise DataError("Misaligned slices are given, but no model for them", "a local model",
                            "Give --local-model as well, or leave --misaligned out")  # fmt: skip
        if volume.dtype.kind in "iu" and volume.dtype.itemsize > 2:
            raise DataError(f"{volume.label} holds {volume.dtype} numbers, as labels do", "grey values",
                            "Name the image in the container, or convert it to uint8 or uint16")  # fmt: skip
        names = [*wanted.models, *wanted.local_models]
        paths = [_path_of(name, volume, on_choice) for name in names]
        cards = [read_card(path) for path in paths]
        tasks = {card.task for card in cards}
        if len(tasks) > 1 or (task is not None and tasks != {task}):
            raise DataError(
                " and ".join(f"{card.name} predicts {card.task}" for card in cards),
                f"{task or 'the same'} from each", "Choose other models",
            )  # fmt: skip
        self.task = next(iter(tasks))
        self._normalisation = _normalisation(cards)
        self.names = tuple(card.name for card in cards)
        self._paths, self._n_global = paths, len(wanted.models)

    @property
    def n_channels(self) -> int:
        """Maps that are predicted."""
        return len(getattr(self.nets[0], "offsets", (0,)))

    @property
    def nets(self) -> "list[AnyNet]":
        """The networks, those for misaligned slices last."""
        return [_loaded(path, path.stat().st_mtime_ns) for path in self._paths]

    def predict(
        self,
        volume: Volume,
        wanted: Prediction,
        out: Any,
        progress: Progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> Any:
        """Run `predict.run.predict` with what is wanted."""
        from napari_em_seg.predict.run import predict

        options = self.options(volume, wanted)
        return predict(volume, dtype=wanted.dtype, out=out, progress=progress, cancelled=cancelled, **options)

    def options(self, volume: Volume, wanted: Prediction) -> dict[str, Any]:
        """Return what `predict` and `TileRun` are given beside the volume: nets, and how they are run."""
        from napari_em_seg.predict.device import choose_device

        misaligned = wanted.misaligned
        if misaligned == "auto" and wanted.local_models:
            misaligned = misaligned_slices(volume)
            _log.warning("Misaligned slices: %s", ", ".join(map(str, misaligned)) or "none")
        device = choose_device(wanted.device)
        return {
            "models": self.nets[: self._n_global],
            "local_models": self.nets[self._n_global :],
            "misaligned": misaligned,
            "views": (4 if device.type == "cpu" else 16) if wanted.views is None else wanted.views,
            "device": str(device),
            "tile": wanted.tile,
            "half": wanted.half,
            "compiled": wanted.compiled,
            "normalise": self._normalisation,
            "slices": wanted.slices,
        }


@lru_cache(maxsize=4)
def _loaded(path: Path, _changed: int) -> "AnyNet":
    """Load a network, or return it as it was loaded before, if its file has not changed since."""
    return load_weights(path)[0]


def _check_out(out: str, task: str, overwrite: bool) -> None:
    if task == "boundary":
        io.check_volume_target(out, overwrite=overwrite)
    else:
        io.check_target(out, AFFINITY_MAPS, overwrite=overwrite)


def _path_of(name: str, volume: Volume, on_choice: Callable[[Choice], object] | None) -> Path:
    task = _AUTO.get(name)
    if task is None:
        return resolve(name).path
    choice = choose_model(volume, task)
    if on_choice is not None:
        on_choice(choice)
    return choice.model.path


def _normalisation(cards: Sequence[Card]) -> Literal["slice", "volume"]:
    found = {card.normalisation for card in cards}
    if len(found) > 1:
        raise DataError(
            f"The models {', '.join(card.name for card in cards)} want the image normalised in different ways",
            "models that were trained alike",
            "Predict with each alone",
        )
    return next(iter(found))


def _folder_of(out: str) -> Path:
    """Return the nearest folder above the target that exists, where there should be room for it."""
    return next(folder for folder in Path(out).absolute().parents if folder.is_dir())
