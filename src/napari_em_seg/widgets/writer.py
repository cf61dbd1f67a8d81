"""The writers that napari calls when layers are saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_em_seg import io
from napari_em_seg.errors import EmSegError
from napari_em_seg.widgets.layers import LayerData, to_volume

if TYPE_CHECKING:
    from napari_em_seg.volume import Volume

__all__ = ["write_image", "write_labels", "write_layers"]


@contextmanager
def _shown_by_napari() -> Iterator[None]:
    """Raise our errors as their base class: napari takes a ValueError for "no writer" and says only that."""
    try:
        yield
    except EmSegError as error:
        raise EmSegError(error.came, error.expected, error.do) from error


def write_image(path: str, data: Any, options: dict[str, Any]) -> list[str]:
    """Save one image layer; napari has asked whether to overwrite."""
    return _write(path, data, options, "image")


def write_labels(path: str, data: Any, options: dict[str, Any]) -> list[str]:
    """Save one labels layer with its dtype."""
    return _write(path, data, options, "labels")


def _write(path: str, data: Any, options: dict[str, Any], layer_type: str) -> list[str]:
    with _shown_by_napari():
        io.write_volume(to_volume(data, options, layer_type), path, overwrite=True)
    return [path]


def write_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Save several layers into one container, under their names."""
    volumes: dict[str, Volume] = {}
    with _shown_by_napari():
        for layer in layers:
            volume = to_volume(*layer)
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
