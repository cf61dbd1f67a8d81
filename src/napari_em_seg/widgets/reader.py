"""The reader that napari calls when a file or folder is opened or dropped."""

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_em_seg import io
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline import refuse_not_finite
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import LayerData, fits_memory, to_layer_data

__all__ = ["get_reader"]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Offer to read one path; several files at once are napari's own affair."""
    if isinstance(path, list):
        return get_reader(path[0]) if len(path) == 1 else None
    return read_layers


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Open every volume at a path as a layer; one that is unusable does not keep the others from opening."""
    paths = [path] if isinstance(path, str | Path) else path
    volumes = _usable([volume for one in paths for volume in io.open_volumes(one)])
    unknown = [volume.name for volume in volumes if volume.voxel_size_nm is None]
    if unknown:
        _warn_soon(f"Set the voxel size of {', '.join(unknown)}: Plugins ▸ EM segmentation ▸ Voxel size")
    for volume in volumes:
        if volume.kind == "labels" and not fits_memory(volume):
            _warn_soon(f"{volume.name} is too large to be painted; it is shown from the disk")
    images_first = sorted(volumes, key=lambda volume: volume.kind == "labels")
    return [to_layer_data(volume) for volume in images_first]


def _usable(volumes: list[Volume]) -> list[Volume]:
    """Leave out volumes with NaN, and say so; where that leaves none, it is an error."""
    usable = []
    for volume in volumes:
        try:
            refuse_not_finite(volume)
        except DataError as error:
            if len(volumes) == 1:
                raise
            _warn_soon(str(error))
        else:
            usable.append(volume)
    if not usable:
        refuse_not_finite(volumes[0])
    return usable


def _warn_soon(message: str) -> None:
    """Warn once the layers are there: their sliders would push a warning out of sight."""
    if QApplication.instance() is None:
        show_warning(message)
    else:
        QTimer.singleShot(50, lambda: show_warning(message))
