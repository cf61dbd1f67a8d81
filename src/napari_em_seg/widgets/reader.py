"""The reader that napari calls when a file or folder is opened or dropped."""

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_em_seg import io
from napari_em_seg.pipeline import refuse_not_finite
from napari_em_seg.widgets.layers import LayerData, to_layer_data

__all__ = ["get_reader"]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Offer to read one path; several files at once are napari's own affair."""
    if isinstance(path, list):
        return get_reader(path[0]) if len(path) == 1 else None
    return read_layers


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Open every volume at a path as a layer."""
    paths = [path] if isinstance(path, str | Path) else path
    volumes = [volume for one in paths for volume in io.open_volumes(one)]
    for volume in volumes:
        refuse_not_finite(volume)
    unknown = [volume.name for volume in volumes if volume.voxel_size_nm is None]
    if unknown:
        _warn_soon(
            f"Voxel size unknown: {', '.join(unknown)}. "
            "Set it in Plugins ▸ EM segmentation ▸ Voxel size, since the file does not say it."
        )
    images_first = sorted(volumes, key=lambda volume: volume.kind == "labels")
    return [to_layer_data(volume) for volume in images_first]


def _warn_soon(message: str) -> None:
    """Warn once the layers are there: their sliders would push a warning out of sight."""
    if QApplication.instance() is None:
        show_warning(message)
    else:
        QTimer.singleShot(50, lambda: show_warning(message))
