"""Neuroglancer precomputed volumes on a local disk: images and segmentations."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import to_nm
from napari_em_seg.io._location import Location, clear_read_errors
from napari_em_seg.io._pyramid import downsampled, pyramid_factors
from napari_em_seg.io._tensorstore import Target, lazy, open_store
from napari_em_seg.io._write import require_dtype, write_slabs
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["find", "recognises", "write"]

_DRIVER = "neuroglancer_precomputed"
_IMAGE_DTYPES = ("uint8", "uint16", "uint32", "uint64", "float32")
LABEL_DTYPES = ("uint8", "uint16", "uint32", "uint64")


def recognises(path: Path) -> bool:
    """Whether it is a folder with a file ``info`` that lists scales."""
    info = path / "info"
    return path.is_dir() and info.is_file() and b'"scales"' in info.read_bytes()


def holds_only_scales(path: Path) -> bool:
    """Whether a folder holds nothing but the volume, so that nothing else is lost with it."""
    with clear_read_errors(str(path)):
        scales = json.loads((path / "info").read_text("utf-8"))["scales"]
        known = {"info", "provenance", *(str(scale["key"]).split("/")[0] for scale in scales)}
    return all(child.name in known for child in path.iterdir())


def find(location: Location) -> list[Found]:
    """Give the one volume; its coarser scales are its pyramid."""
    with clear_read_errors(str(location)):
        info = dict(json.loads((location.path / "info").read_text("utf-8")))
        stores = [
            open_store(_DRIVER, location.path, spec={"scale_index": i}, open=True, read=True)
            for i in range(len(info["scales"]))
        ]
        if info["num_channels"] != 1:
            raise DataError(
                f"{location} has {info['num_channels']} channels",
                "one channel",
                "Save the one channel that you want to reconstruct",
            )
        voxel_size = to_nm(info["scales"][0]["resolution"][::-1], ("nm",) * 3)
        if voxel_size is None:
            raise ValueError(f"it gives {info['scales'][0]['resolution']} as its resolution")
        arrays = [_zyx(store) for store in stores]
        kind: Kind = "labels" if info.get("type") == "segmentation" else "image"
        shape, dtype = arrays[0].shape, arrays[0].dtype.numpy_dtype
    return [Found(location, shape, dtype, kind, lambda kind: _open(location, arrays, voxel_size, kind))]


def _zyx(store: Any) -> Any:
    """Axes x, y, z, channel become z, y, x, counted from 0."""
    return store[..., 0].T.translate_to[0]


def _open(location: Location, arrays: list[Any], voxel_size: VoxelSize, kind: Kind) -> Volume:
    first, *coarser = (lazy(array, str(location), location.path) for array in arrays)
    return Volume(first, voxel_size, location.name, str(location), kind, tuple(coarser))


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write all scales; the format has no way to leave the voxel size open."""
    dtypes = LABEL_DTYPES if volume.kind == "labels" else _IMAGE_DTYPES
    require_dtype(volume, dtypes, "Neuroglancer precomputed")
    if volume.voxel_size_nm is None:
        raise DataError(
            f"The voxel size of {volume.label} is not known",
            "a voxel size, which precomputed volumes must have",
            "Set it first, in the dock Voxel size or with convert --voxel-size Z Y X",
        )
    with atomic(location.path, overwrite=overwrite) as partial:
        resolution = np.array(volume.voxel_size_nm)
        store = _create(partial, volume, volume.shape, resolution)
        write_slabs(volume, Target(_zyx(store)), progress)
        for factors in pyramid_factors(volume.shape, volume.voxel_size_nm):
            coarser = downsampled(lazy(_zyx(store), "the finer scale", partial), factors, volume.kind)
            resolution = resolution * factors
            store = _create(partial, volume, coarser.shape, resolution)
            write_slabs(coarser, Target(_zyx(store)))


def _create(folder: Path, volume: Volume, shape: tuple[int, ...], resolution: Any) -> Any:
    scale: dict[str, Any] = {
        "size": list(shape)[::-1],
        "resolution": [float(size) for size in resolution[::-1]],
        "encoding": _encoding(volume),
        "chunk_size": [min(n, most) for n, most in zip(shape[::-1], (256, 256, 8), strict=True)],
    }
    if scale["encoding"] == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    volume_metadata = {
        "type": "segmentation" if volume.kind == "labels" else "image",
        "data_type": volume.dtype.name,
        "num_channels": 1,
    }
    spec = {"multiscale_metadata": volume_metadata, "scale_metadata": scale}
    return open_store(_DRIVER, folder, spec=spec, create=True)


def _encoding(volume: Volume) -> str:
    """Choose the lossless compression that the format has for a dtype; for some it has none."""
    if volume.dtype.name in ("uint8", "uint16"):
        return "png"
    return "compressed_segmentation" if volume.kind == "labels" else "raw"
