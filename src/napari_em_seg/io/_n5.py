"""N5, whose files count axes x, y, z."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._folders import find_below, read_json, subfolders, write_json
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._location import Location, split_at_missing
from napari_em_seg.io._tensorstore import Target, lazy, open_store
from napari_em_seg.io._write import chunk_shape, require_dtype, write_slabs
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["DEFAULT_PATHS", "find", "recognises", "write"]

DEFAULT_PATHS: dict[Kind, str] = {"image": "raw", "labels": "labels"}

DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float32", "float64"),
)


def recognises(path: Path) -> bool:
    """Whether it is a folder with N5 metadata, or a folder of folders that is named as N5."""
    if not path.is_dir():
        return False
    if path.suffix == ".n5" and any(child.is_dir() for child in path.iterdir()):
        return True
    attributes = path / "attributes.json"
    return attributes.is_file() and any(mark in attributes.read_bytes() for mark in (b'"n5"', b'"dimensions"'))


def find(location: Location) -> list[Found]:
    """List the arrays at and below the location."""
    return find_below(location, _walk)


def _walk(location: Location) -> Iterator[Found]:
    folder = location.full_path
    attributes = _attributes(folder)
    if "dimensions" in attributes:
        yield _found(location, attributes)
        return
    for child in subfolders(folder):
        yield from _walk(location / child.name)


def _attributes(folder: Path) -> dict[str, Any]:
    path = folder / "attributes.json"
    return read_json(path) if path.is_file() else {}


def _found(location: Location, attributes: dict[str, Any]) -> Found:
    folder = location.full_path
    store = open_store("n5", folder, open=True, read=True).T
    dtype, voxel_size = store.dtype.numpy_dtype, _voxel_size(attributes)
    where = str(location)
    return Found(
        location,
        store.shape,
        dtype,
        guess_kind(location.name, dtype, attributes.get("kind")),
        lambda kind: Volume(lazy(store, where, folder), voxel_size, location.name, where, kind),
    )


def _voxel_size(attributes: dict[str, Any]) -> VoxelSize | None:
    """``pixelResolution`` with its unit (Fiji), else ``resolution`` in nm (Paintera); both x, y, z."""
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, dict):
        sizes, unit = pixel.get("dimensions"), pixel.get("unit")
    else:
        sizes, unit = attributes.get("resolution"), "nm"
    return to_nm(sizes[::-1], (unit,) * 3) if isinstance(sizes, list) and len(sizes) == 3 else None


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write one array, beside what the N5 container already holds."""
    require_dtype(volume, DTYPES, "N5")
    inside = location.inner or DEFAULT_PATHS[volume.kind]
    root, inner = split_at_missing(Location(location.path, inside))
    with atomic(root / inner.parts[0], overwrite=overwrite) as partial:
        array = partial.joinpath(*inner.parts[1:])
        array.parent.mkdir(parents=True, exist_ok=True)
        if root == location.path.parent:
            write_json(partial / "attributes.json", {"n5": "4.0.0"})
        metadata = {
            "blockSize": list(chunk_shape(volume.shape))[::-1],
            "compression": {"type": "gzip", "level": 4},
            "kind": volume.kind,
        }
        if volume.voxel_size_nm is not None:
            sizes = list(volume.voxel_size_nm)[::-1]
            metadata |= {"resolution": sizes, "pixelResolution": {"dimensions": sizes, "unit": "nm"}}
        store = open_store(
            "n5",
            array,
            spec={"metadata": metadata},
            create=True,
            dtype=np.dtype(volume.dtype).name,
            shape=volume.shape[::-1],
        )
        write_slabs(volume, Target(store.T), progress)
