"""The writers that napari calls when layers are saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_em_seg import io
from napari_em_seg.errors import EmSegError
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import LayerData, to_volume

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
        volume = to_volume(data, options, layer_type)
        io.write_volume(volume, _member(path, volume) if io.is_container(path) else path, overwrite=True)
    return [path]


def _member(path: str, volume: Volume) -> str:
    """Say where in a container a layer belongs: where it came from, else under its name."""
    inside = Path(volume.source).as_posix().removeprefix(f"{Path(path).absolute().as_posix()}/")
    return f"{path}/{_clean(volume.name) if inside == Path(volume.source).as_posix() else inside}"


def write_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Save several layers into one container; what is in it already stays, but for what they replace."""
    volumes: dict[str, Volume] = {}
    with _shown_by_napari():
        for layer in layers:
            volume = to_volume(*layer)
            volumes[_free_name(volume.name, volumes)] = volume
        if not io.is_container(path):
            io.write_volumes(volumes, path)
            return [path]
        taken: set[str] = set()
        for name, volume in volumes.items():
            inside = _member(path, volume)
            if not volume.source or inside in taken:  # a duplicated layer names the source of its original
                inside = f"{path}/{name}"
            taken.add(inside)
            io.write_volume(volume, inside, overwrite=True)
    return [path]


def _clean(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip(" .") or "layer"


def _free_name(name: str, taken: dict[str, Any]) -> str:
    clean = _clean(name)
    number, free = 1, clean
    while free in taken:
        number += 1
        free = f"{clean} {number}"
    return free
