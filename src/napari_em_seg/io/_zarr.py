"""Zarr 2 and 3, and OME-Zarr 0.4 and 0.5 with their scales: reading."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_em_seg.errors import DataError, EmSegError, FormatError
from napari_em_seg.io._folders import find_below, read_json, subfolders
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._lazy import index_of, without_single_axes
from napari_em_seg.io._location import Location
from napari_em_seg.io._tensorstore import lazy, open_store
from napari_em_seg.volume import Kind, Volume, VoxelSize

__all__ = ["DRIVERS", "Version", "find", "holds_only_nodes", "recognises", "zarr_version"]

Version = Literal[2, 3]
DRIVERS: dict[Version, str] = {2: "zarr", 3: "zarr3"}
_MARKS = ("zarr.json", ".zarray", ".zgroup")


def recognises(path: Path) -> bool:
    """Whether it is a folder with Zarr metadata, or one named so with such folders right below it."""
    if not path.is_dir():
        return False
    folders = (path, *subfolders(path)) if path.suffix == ".zarr" else (path,)
    return any((folder / mark).is_file() for folder in folders for mark in _MARKS)


def holds_only_nodes(path: Path) -> bool:
    """Whether a folder holds nothing but Zarr groups and arrays, so that nothing else is lost with it."""
    if zarr_version(path) is None:
        return False
    if _metadata(path)[0] == "array":
        return True
    metadata = {*_MARKS, ".zattrs", ".zmetadata"}
    return all(
        holds_only_nodes(child) if child.is_dir() else child.name in metadata for child in path.iterdir()
    )


def zarr_version(folder: Path) -> Version | None:
    """Zarr format of a node, or None where the folder is none."""
    if (folder / "zarr.json").is_file():
        return 3
    return 2 if any((folder / mark).is_file() for mark in (".zarray", ".zgroup")) else None


def find(location: Location) -> list[Found]:
    """List arrays and OME multiscale images at and below the location."""
    return find_below(location, _walk)


def _walk(location: Location) -> Iterator[Found]:
    folder = location.full_path
    kind_of_node, attributes = _metadata(folder)
    scales = _multiscales(attributes)
    if scales:
        yield _found_multiscale(location, scales, attributes)
    elif kind_of_node == "array":
        yield _found_array(location, attributes)
        return
    levels = {str(dataset["path"]).split("/")[0] for dataset in scales["datasets"]} if scales else set()
    for below in subfolders(folder):
        if below.name not in levels:
            yield from _walk(location / below.name)


def _metadata(folder: Path) -> tuple[str, dict[str, Any]]:
    """Kind of node ("array" or "group") and attributes of a folder."""
    version = zarr_version(folder)
    if version == 3:
        node = read_json(folder / "zarr.json")
        return str(node.get("node_type")), dict(node.get("attributes") or {})
    attributes = read_json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    return "array" if (folder / ".zarray").is_file() else "group", attributes


def _ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """OME's attributes, which are a part of all since version 0.5."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _multiscales(attributes: dict[str, Any]) -> dict[str, Any]:
    listed = _ome(attributes).get("multiscales")
    return dict(listed[0]) if listed else {}


def _store(folder: Path) -> Any:
    kind_of_node, _ = _metadata(folder)
    version = zarr_version(folder)
    if kind_of_node != "array" or version is None:
        raise ValueError(f"there is no Zarr array at {folder}")
    return open_store(DRIVERS[version], folder, open=True, read=True)


def _found_array(location: Location, attributes: dict[str, Any]) -> Found:
    try:
        store = _store(location.full_path)
    except ValueError as error:
        if not re.search("[Uu]nsupported|not one of the supported|Must specify a .field", str(error)):
            raise
        refusal = FormatError(
            f"{location} holds something else than plain numbers",
            "integers, floats or booleans in a stack of slices (z, y, x)",
            "Choose another array",
        )
        return _found_other(location, (), object, refusal)
    axes = without_single_axes(store.shape)
    store = store[index_of((slice(None),) * len(axes), axes, store.ndim)]
    sizes = attributes.get("resolution", attributes.get("voxel_size"))
    voxel_size = to_nm(sizes, attributes.get("units", ("nm",) * 3))
    dtype = store.dtype.numpy_dtype or np.dtype(object)
    return Found(
        location,
        store.shape,
        dtype,
        guess_kind(location.name, dtype, attributes.get("kind")),
        lambda kind: _volume(location, [store], voxel_size, kind),
    )


def _found_other(location: Location, shape: tuple[int, ...], dtype: Any, refusal: EmSegError) -> Found:
    """Show what is nobody's volume; it is refused only where it is asked for."""

    def refuse(kind: Kind) -> Volume:
        raise refusal

    return Found(location, shape, np.dtype(dtype), "image", refuse, refusal)


def _volume(location: Location, stores: list[Any], voxel_size: VoxelSize | None, kind: Kind) -> Volume:
    first, *coarser = (lazy(store, str(location), location.full_path) for store in stores)
    return Volume(first, voxel_size, location.name, str(location), kind, tuple(coarser))


def _found_multiscale(location: Location, scales: dict[str, Any], attributes: dict[str, Any]) -> Found:
    stores = [_store(location.full_path / dataset["path"]) for dataset in scales["datasets"]]
    names = _axis_names(scales, stores[0].shape)
    keep = [name not in ("t", "c") or n > 1 for name, n in zip(names, stores[0].shape, strict=True)]
    if [name for name, kept in zip(names, keep, strict=True) if kept] != ["z", "y", "x"]:
        refusal = DataError(
            f"{location} has the axes ({', '.join(names)}) with lengths {'×'.join(map(str, stores[0].shape))}",
            "one stack of slices (z, y, x)",
            "Save the one channel and time point that you want to reconstruct",
        )
        return _found_other(location, stores[0].shape, stores[0].dtype.numpy_dtype, refusal)
    stores = [store[tuple(slice(None) if kept else 0 for kept in keep)] for store in stores]
    dtype, voxel_size = stores[0].dtype.numpy_dtype, _voxel_size(scales, keep)
    stated = "labels" if "image-label" in _ome(attributes) else attributes.get("kind")
    return Found(
        location,
        stores[0].shape,
        dtype,
        guess_kind(location.name, dtype, stated),
        lambda kind: _volume(location, stores, voxel_size, kind),
    )


def _axis_names(scales: dict[str, Any], shape: tuple[int, ...]) -> list[str]:
    axes = scales.get("axes", "tczyx"[-len(shape) :])  # the default before version 0.4
    return [axis if isinstance(axis, str) else axis["name"] for axis in axes]


def _voxel_size(scales: dict[str, Any], keep: list[bool]) -> VoxelSize | None:
    """Multiply the first level's scale with that of the whole image, where the axes name a unit."""
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in scales.get("axes", ())]
    transforms = [
        transform["scale"]
        for source in (scales["datasets"][0], scales)
        for transform in source.get("coordinateTransformations") or ()
        if transform.get("type") == "scale"
    ]
    if not transforms or len(units) != len(keep) or any(len(scale) != len(keep) for scale in transforms):
        return None
    total = np.prod(np.array(transforms, float), axis=0)
    return to_nm(total[keep].tolist(), [unit for unit, kept in zip(units, keep, strict=True) if kept])
