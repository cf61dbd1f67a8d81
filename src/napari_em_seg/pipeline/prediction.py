"""Boundary prediction by name: a volume and models in, a boundary map out."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_em_seg import io
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline.models import Choice, choose_model
from napari_em_seg.predict.weights import Card, load_weights, resolve
from napari_em_seg.volume import Progress, Volume, VoxelSize

if TYPE_CHECKING:
    from napari_em_seg.predict.nets import AnyNet

__all__ = ["Prediction", "predict_boundary", "predict_to_file"]

Misaligned = Literal["auto"] | Sequence[int]


@dataclass(frozen=True)
class Prediction:
    """What is to be predicted with what.

    Parameters
    ----------
    models
        Names or files, of which the voxel-wise maximum is taken; "auto" chooses one by voxel size.
    local_models
        Names or files that join in on misaligned slices only.
    misaligned
        Those slices; "auto" finds them.
    slices
        Which slices.
    views
        1, 4, 8 or 16 symmetries that are averaged; None: 16 on a GPU, 4 on a CPU.
    device, tile, dtype
        See `predict.run.predict`.
    """

    models: Sequence[str] = ("auto",)
    local_models: Sequence[str] = ()
    misaligned: Misaligned = "auto"
    slices: slice = field(default_factory=lambda: slice(None))
    views: int | None = None
    device: str = "auto"
    tile: int | None = None
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
    from napari_em_seg.predict.device import choose_device
    from napari_em_seg.predict.run import predict

    device = choose_device(wanted.device)
    views = (4 if device.type == "cpu" else 16) if wanted.views is None else wanted.views
    global_models = [_loaded(name, volume, on_choice) for name in wanted.models]
    local_models = [_loaded(name, volume, on_choice) for name in wanted.local_models]
    return predict(
        volume,
        [net for net, _ in global_models],
        local_models=[net for net, _ in local_models],
        misaligned=wanted.misaligned,
        views=views,
        device=str(device),
        tile=wanted.tile,
        normalise=_normalisation([card for _, card in global_models + local_models]),
        dtype=wanted.dtype,
        out=out,
        slices=wanted.slices,
        progress=progress,
        cancelled=cancelled,
    )


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
    """Predict a boundary map and write it; what is done lies in an unnamed file until all is."""
    io.check_volume_target(out, overwrite=overwrite)
    volume = io.open_volume(source)
    if voxel_size_nm is not None:
        volume = volume.with_voxel_size(voxel_size_nm)
    start, stop, _ = wanted.slices.indices(len(volume))
    shape = (max(1, stop - start), *volume.shape[1:])  # no slices at all is an error that predict raises
    with tempfile.TemporaryFile(dir=_folder_of(out)) as spool:
        found = np.memmap(spool, wanted.dtype, "w+", shape=shape)
        predict_boundary(volume, wanted, out=found, on_choice=on_choice, progress=progress)
        result = Volume(found, volume.voxel_size_nm, "boundary")
        io.write_volume(result, out, overwrite=overwrite)


def _loaded(name: str, volume: Volume, on_choice: Callable[[Choice], object] | None) -> "tuple[AnyNet, Card]":
    if name == "auto":
        choice = choose_model(volume)
        if on_choice is not None:
            on_choice(choice)
        return load_weights(choice.model.path)
    net, card = load_weights(resolve(name).path)
    if card.task != "boundary":
        raise DataError(f"{card.name} predicts {card.task}", "a boundary model", "Choose another model")
    return net, card


def _normalisation(cards: Sequence[Card]) -> Literal["slice", "volume"]:
    found = {card.normalisation for card in cards}
    if len(found) > 1:
        raise DataError(
            f"The models {', '.join(card.name for card in cards)} want the image normalised in different ways",
            "models that were trained alike",
            "Predict with each alone",
        )
    return next(iter(found), "volume")


def _folder_of(out: str) -> Path:
    """Return the nearest folder above the target that exists, where there should be room for it."""
    return next(folder for folder in Path(out).absolute().parents if folder.is_dir())
