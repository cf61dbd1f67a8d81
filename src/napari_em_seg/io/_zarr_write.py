"""Zarr 2 and 3, and OME-Zarr 0.4 and 0.5 with their scales: writing."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._folders import write_json
from napari_em_seg.io._location import Location, split_at_missing
from napari_em_seg.io._pyramid import downsampled, pyramid_factors
from napari_em_seg.io._tensorstore import Target, lazy, open_store
from napari_em_seg.io._write import chunk_shape, write_slabs
from napari_em_seg.io._zarr import DRIVERS, Version, zarr_version
from napari_em_seg.volume import ArrayLike, Progress, Volume

__all__ = ["write"]


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

    OME-Zarr 0.5 is Zarr 3, OME-Zarr 0.4 is Zarr 2. What is added to a group has the group's version,
    since other readers do not see members of another.
    """
    root, inner = split_at_missing(location)
    if location.inner:
        version = zarr_version(location.path) or version
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
        write_json(folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
        return
    write_json(folder / ".zgroup", {"zarr_format": 2})
    if attributes:
        write_json(folder / ".zattrs", attributes)


def _plain_attributes(volume: Volume) -> dict[str, Any]:
    attributes: dict[str, Any] = {"kind": volume.kind}
    if volume.voxel_size_nm is not None:
        attributes |= {"resolution": list(volume.voxel_size_nm), "units": ["nm"] * 3}
    return attributes


def _write_array(
    volume: Volume | ArrayLike,
    folder: Path,
    version: Version,
    attributes: dict[str, Any],
    progress: Progress = None,
) -> None:
    chunks = list(chunk_shape(volume.shape))
    store = open_store(
        DRIVERS[version],
        folder,
        spec={"metadata": _metadata3(chunks, attributes) if version == 3 else _metadata2(chunks)},
        create=True,
        dtype=np.dtype(volume.dtype).name,
        shape=volume.shape,
    )
    if version == 2 and attributes:
        write_json(folder / ".zattrs", attributes)
    write_slabs(volume, Target(store), progress)


def _metadata2(chunks: list[int]) -> dict[str, Any]:
    compressor = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1}
    return {"chunks": chunks, "compressor": compressor, "dimension_separator": "/"}


def _metadata3(chunks: list[int], attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 3}},
        ],
        "attributes": attributes,
        "dimension_names": ["z", "y", "x"],
    }


def _write_multiscale(volume: Volume, folder: Path, version: Version, progress: Progress) -> None:
    _write_group(folder, version, {})
    _write_array(volume, folder / "0", version, {}, progress)
    scales = [np.array(volume.voxel_size_nm or (1.0, 1.0, 1.0))]
    for factors in pyramid_factors(volume.shape, volume.voxel_size_nm):
        level = folder / str(len(scales) - 1)
        finer = lazy(open_store(DRIVERS[version], level, open=True, read=True), "the finer level", level)
        _write_array(downsampled(finer, factors, volume.kind), folder / str(len(scales)), version, {})
        scales.append(scales[-1] * factors)
    _write_group(folder, version, _ome_attributes(volume, scales, version))


def _ome_attributes(volume: Volume, scales: list[Any], version: Version) -> dict[str, Any]:
    ome_version = "0.5" if version == 3 else "0.4"
    unit = {"unit": "nanometer"} if volume.voxel_size_nm is not None else {}
    multiscales: dict[str, Any] = {
        "name": volume.name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale.tolist()}]}
            for i, scale in enumerate(scales)
        ],
        "type": "stride" if volume.kind == "labels" else "mean",
    }
    ome: dict[str, Any] = {"multiscales": [multiscales]}
    if volume.kind == "labels":
        ome["image-label"] = {"version": ome_version}
    if version == 2:
        multiscales["version"] = ome_version
        return {**ome, "kind": volume.kind}
    return {"ome": {"version": ome_version, **ome}, "kind": volume.kind}
