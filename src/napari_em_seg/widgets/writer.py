"""The writers that napari calls when layers are saved."""

from typing import Any

from napari_em_seg import io
from napari_em_seg.widgets.layers import LayerData, to_volume

__all__ = ["write_image", "write_labels", "write_layers"]


def write_image(path: str, data: Any, options: dict[str, Any]) -> list[str]:
    """Save one image layer; napari has asked whether to overwrite."""
    io.write_volume(to_volume(data, options, "image"), path, overwrite=True)
    return [path]


def write_labels(path: str, data: Any, options: dict[str, Any]) -> list[str]:
    """Save one labels layer with its dtype."""
    io.write_volume(to_volume(data, options, "labels"), path, overwrite=True)
    return [path]


def write_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Save several layers into one container, under their names."""
    volumes = {}
    for data, options, layer_type in layers:
        volume = to_volume(data, options, layer_type)
        volumes[_free_name(volume.name, volumes)] = volume
    io.write_volumes(volumes, path, overwrite=True)
    return [path]


def _free_name(name: str, taken: dict[str, Any]) -> str:
    clean = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip(" .") or "layer"
    number, free = 1, clean
    while free in taken:
        number += 1
        free = f"{clean} {number}"
    return free
