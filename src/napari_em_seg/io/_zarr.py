"""Zarr 2 and 3, and OME-Zarr 0.4 and 0.5 with their scales."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._found import Found, nothing_inside
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._location import Location, clear_read_errors, split_at_missing
from napari_em_seg.io._pyramid import downsampled, pyramid_factors
from napari_em_seg.io._tensorstore import Target, lazy, open_store
from napari_em_seg.io._write import chunk_shape, write_slabs
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["find", "recognises", "write"]

Version = Literal[2, 3]
_ERRORS = (ValueError, RuntimeError, KeyError, IndexError, TypeError)
_DRIVERS: dict[Version, str] = {2: "zarr", 3: "zarr3"}
_MARKS = ("zarr.json", ".zarray", ".zgroup")


def recognises(path: Path) -> bool:
    """Whether it is a folder with Zarr metadata, or with Zarr arrays right below it."""
    return path.is_dir() and any(
        (folder / mark).is_file() for folder in (path, *(p for p in _subfolders(path))) for mark in _MARKS
    )


def find(location: Location) -> list[Found]:
    """List arrays and OME multiscale images at and below the location."""
    path = location.path / location.inner
    with clear_read_errors(str(location), _ERRORS):
        if location.inner and not path.is_dir():
            raise nothing_inside(location, (f.location.inner for f in _walk(location.path)))
        return list(_walk(path))


def _walk(path: Path, below: str = "") -> Iterator[Found]:
    version, kind_of_node, attributes = _metadata(path / below)
    location = Location(path, below)
    scales = (attributes.get("ome") or attributes).get("multiscales")
    if scales:
        yield _found_multiscale(location, scales[0], attributes)
    elif kind_of_node == "array" and version:
        yield _found_array(location, attributes)
        return
    levels = {dataset["path"].split("/")[0] for dataset in scales[0]["datasets"]} if scales else set()
    for folder in _subfolders(path / below):
        if folder.name not in levels:
            yield from _walk(path, f"{below}/{folder.name}".lstrip("/"))


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _metadata(path: Path) -> tuple[Version | None, str, dict[str, Any]]:
    """Zarr version, "array" or "group", and attributes of a folder."""
    if (path / "zarr.json").is_file():
        node = _json(path / "zarr.json")
        return 3, node.get("node_type", "group"), node.get("attributes") or {}
    attributes = _json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    if (path / ".zarray").is_file():
        return 2, "array", attributes
    return (2 if (path / ".zgroup").is_file() else None), "group", attributes


def _json(path: Path) -> dict[str, Any]:
    with clear_read_errors(str(path), _ERRORS):
        content = json.loads(path.read_text("utf-8"))
        return dict(content)  # a ValueError or TypeError where it is no JSON object


def _store(path: Path) -> Any:
    version, kind_of_node, _ = _metadata(path)
    if kind_of_node != "array":
        raise ValueError(f"there is no Zarr array at {path}")
    return open_store(_DRIVERS[version or 2], path, open=True, read=True)


def _found_array(location: Location, attributes: dict[str, Any]) -> Found:
    store = _store(location.path / location.inner)
    where = _where(location)
    voxel_size = to_nm(
        attributes.get("resolution", attributes.get("voxel_size")), attributes.get("units", ("nm",) * 3)
    )
    dtype = store.dtype.numpy_dtype or np.dtype(object)
    return Found(
        location,
        store.shape,
        dtype,
        attributes.get("kind") or guess_kind(where.name, dtype),
        lambda kind: Volume(lazy(store, str(where)), voxel_size, where.name, str(where), kind),
    )


def _where(location: Location) -> Location:
    """Name an array that was given by its own folder after that folder: ``cells.zarr/raw`` is ``raw``."""
    if location.inner or location.path.suffix:
        return location
    return Location(location.path.parent, location.path.name)


def _found_multiscale(location: Location, scales: dict[str, Any], attributes: dict[str, Any]) -> Found:
    where = _where(location)
    folder = location.path / location.inner
    stores = [_store(folder / dataset["path"]) for dataset in scales["datasets"]]
    keep = _spatial_axes(scales, stores[0].shape, where)
    stores = [store[tuple(slice(None) if k else 0 for k in keep)] for store in stores]
    dtype = stores[0].dtype.numpy_dtype
    is_label = "image-label" in (attributes.get("ome") or attributes)
    voxel_size = _voxel_size(scales, keep)

    def opened(kind: Kind) -> Volume:
        first, *coarser = (lazy(store, str(where)) for store in stores)
        return Volume(first, voxel_size, where.name, str(where), kind, tuple(coarser))

    kind: Kind = "labels" if is_label else guess_kind(where.name, dtype)
    return Found(location, stores[0].shape, dtype, kind, opened)


def _spatial_axes(scales: dict[str, Any], shape: tuple[int, ...], where: Location) -> list[bool]:
    """Say which axes to keep: all but times and channels, of which there may be only one."""
    axes = scales.get("axes", "tczyx"[-len(shape) :])
    names = [axis if isinstance(axis, str) else axis["name"] for axis in axes]
    keep = [name not in ("t", "c") or n > 1 for name, n in zip(names, shape, strict=True)]
    kept = [name for name, k in zip(names, keep, strict=True) if k]
    if kept != ["z", "y", "x"]:
        raise DataError(
            f"{where} has the axes ({', '.join(names)}) with lengths {'×'.join(map(str, shape))}",
            "one stack of slices (z, y, x)",
            "Save the one channel and time point that you want to reconstruct",
        )
    return keep


def _voxel_size(scales: dict[str, Any], keep: list[bool]) -> VoxelSize | None:
    """Multiply the first level's scale with that of the whole image, where the axes name a unit."""
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in scales.get("axes", ())]
    total = np.ones(len(keep))
    stated = False
    for source in (scales["datasets"][0], scales):
        for transform in source.get("coordinateTransformations", ()):
            if transform.get("type") == "scale":
                total, stated = total * np.asarray(transform["scale"], float), True
    if not stated or len(units) != len(keep):
        return None
    return to_nm(total[keep].tolist(), [u for u, k in zip(units, keep, strict=True) if k])


def write(
    volume: Volume,
    location: Location,
    *,
    overwrite: bool = False,
    progress: Progress = None,
    version: Version = 3,
    ome: bool = True,
) -> None:
    """Write one array or multiscale image, beside what the Zarr group already holds.

    OME-Zarr 0.5 is Zarr 3, OME-Zarr 0.4 is Zarr 2.
    """
    root, inner = split_at_missing(location)
    if root != location.path.parent and not recognises(location.path) and any(location.path.iterdir()):
        raise FormatError(
            f"{location.path} is a folder without Zarr metadata",
            "a Zarr group to add to",
            "Choose a new name ending in .zarr",
        )
    with atomic(root / inner.parts[0], overwrite=overwrite) as partial:
        array = partial.joinpath(*inner.parts[1:])
        for group in reversed(array.relative_to(partial.parent).parents[:-1]):
            _write_group(partial.parent / group, version, {})
        if ome:
            _write_multiscale(volume, array, version, progress)
        else:
            _write_array(volume, array, version, _plain_attributes(volume), progress)


def _write_group(folder: Path, version: Version, attributes: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    if version == 3:
        _dump(folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
        return
    _dump(folder / ".zgroup", {"zarr_format": 2})
    if attributes:
        _dump(folder / ".zattrs", attributes)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")


def _plain_attributes(volume: Volume) -> dict[str, Any]:
    attributes: dict[str, Any] = {"kind": volume.kind}
    if volume.voxel_size_nm is not None:
        attributes |= {"resolution": list(volume.voxel_size_nm), "units": ["nm"] * 3}
    return attributes


def _write_array(
    volume: Any, folder: Path, version: Version, attributes: dict[str, Any], progress: Progress = None
) -> None:
    shape, dtype = volume.shape, np.dtype(volume.dtype)
    chunks = list(chunk_shape(shape))
    if version == 3:
        spec = {
            "metadata": {
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
                "chunk_key_encoding": {"name": "default"},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 3}},
                ],
                "attributes": attributes,
                "dimension_names": ["z", "y", "x"],
            }
        }
    else:
        compressor = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1}
        spec = {"metadata": {"chunks": chunks, "compressor": compressor, "dimension_separator": "/"}}
    store = open_store(_DRIVERS[version], folder, spec=spec, create=True, dtype=dtype.name, shape=shape)
    if version == 2 and attributes:
        _dump(folder / ".zattrs", attributes)
    write_slabs(volume, Target(store), progress)


def _write_multiscale(volume: Volume, folder: Path, version: Version, progress: Progress) -> None:
    _write_group(folder, version, {})
    _write_array(volume, folder / "0", version, {}, progress)
    scale = np.array(volume.voxel_size_nm or (1.0, 1.0, 1.0))
    scales = [scale]
    for factors in pyramid_factors(volume.shape, volume.voxel_size_nm):
        finer = lazy(_store(folder / str(len(scales) - 1)), "the finer level")
        _write_array(downsampled(finer, factors, volume.kind), folder / str(len(scales)), version, {})
        scales.append(scales[-1] * factors)
    _write_group(folder, version, _ome_attributes(volume, scales, version))


def _ome_attributes(volume: Volume, scales: list[Any], version: Version) -> dict[str, Any]:
    unit = {"unit": "nanometer"} if volume.voxel_size_nm is not None else {}
    multiscales = {
        "name": volume.name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {
                "path": str(i),
                "coordinateTransformations": [{"type": "scale", "scale": [float(n) for n in scale]}],
            }
            for i, scale in enumerate(scales)
        ],
        "type": "stride" if volume.kind == "labels" else "mean",
    }
    attributes: dict[str, Any] = {"multiscales": [multiscales]}
    if version == 3:
        attributes["version"] = "0.5"
    else:
        multiscales["version"] = "0.4"
    if volume.kind == "labels":
        attributes["image-label"] = {"version": "0.5" if version == 3 else "0.4"}
    return {"ome": attributes} if version == 3 else attributes
