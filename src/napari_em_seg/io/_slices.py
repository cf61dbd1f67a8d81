"""A folder of PNG or TIFF slices, in natural order (slice 2 before slice 10)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import natsort
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.io import _tiff
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._lazy import Block, LazyArray
from napari_em_seg.io._location import Location, clear_read_errors
from napari_em_seg.io._write import require_dtype
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["SIDECAR", "find", "holds_only_slices", "recognises", "write", "write_tiff"]

SIDECAR = "volume.json"
"""Holds the voxel size and the kind, for which PNG has no place."""

WRITTEN_DTYPES = ("bool", "uint8", "uint16")
"""What PNG slices are written as; slices of 32 bits are read only."""

_TIFF = (".tif", ".tiff")
_SUFFIXES = (".png", *_TIFF)
_PNG_DTYPES = {"1": np.bool_, "L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32}

_Header = tuple[tuple[int, ...], np.dtype[Any]]


def recognises(path: Path) -> bool:
    """Whether it is a folder with at least one PNG or TIFF image in it."""
    return path.is_dir() and any(_is_slice(file) for file in path.iterdir())


def holds_only_slices(path: Path) -> bool:
    """Whether nothing is lost but slices when the folder is replaced."""
    return all(_is_slice(file) or file.name == SIDECAR for file in path.iterdir())


def _is_slice(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and not file.is_dir()


def find(location: Location) -> list[Found]:
    """Give the one stack that the folder is; every slice's header is looked at."""
    with clear_read_errors(str(location)):
        files = natsort.natsorted((f for f in location.path.iterdir() if _is_slice(f)), key=lambda f: f.name)
    headers = [_header(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        _refuse_different(files[0], headers[0], file, header)
    (size, dtype), stated = headers[0], _sidecar(location.path).get("kind")
    kind = guess_kind(location.path.name, dtype, stated)
    shape = (len(files), *size)
    return [Found(location, shape, dtype, kind, lambda kind: _open(location, files, shape, dtype, kind))]


def _open(
    location: Location, files: list[Path], shape: tuple[int, ...], dtype: np.dtype[Any], kind: Kind
) -> Volume:
    def read(block: Block) -> NDArray[Any]:
        return np.stack([_read(file, shape[1:])[block[1:]] for file in files[block[0]]])

    voxel_size = to_nm(_sidecar(location.path).get("voxel_size_nm"), ("nm",) * 3)
    return Volume(LazyArray(shape, dtype, read, str(location)), voxel_size, location.name, str(location), kind)


def _sidecar(folder: Path) -> dict[str, Any]:
    path = folder / SIDECAR
    with clear_read_errors(str(path)):
        described = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return described if isinstance(described, dict) else {}


def _header(file: Path) -> _Header:
    """Size and dtype of a slice, without decoding it; a file whose end is missing is an error."""
    with clear_read_errors(str(file)):
        return _tiff_header(file) if _tiff.recognises(file) else _png_header(file)


def _tiff_header(file: Path) -> _Header:
    with _tiff.open_tiff(file) as tif:
        page = tif.pages.first
        if page.samplesperpixel > 1:
            raise _colour(file, f"{page.samplesperpixel} values per pixel")
        if len(tif.pages) > 1:
            raise DataError(
                f"{file} is a stack of {len(tif.pages)} pages",
                "one slice per file in a folder of slices",
                "Open that file itself, or save its pages one by one",
            )
        return (page.imagelength, page.imagewidth), np.dtype(page.dtype)


def _png_header(file: Path) -> _Header:
    with PngImageFile(file) as image:  # Image.open refuses large sections as an attack
        if image.mode not in _PNG_DTYPES:
            raise _colour(file, f"mode {image.mode}")
        header = (image.height, image.width), np.dtype(_PNG_DTYPES[image.mode])
    if b"IEND" not in _end(file):
        raise FormatError(
            f"{file} ends too early", "a whole PNG file", "Copy it again from its origin; it is truncated"
        )
    return header


def _end(file: Path, n_bytes: int = 4096) -> bytes:
    """Read the last bytes; some programs write their own after the end of the image."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - n_bytes))
        return stream.read()


def _colour(file: Path, what: str) -> DataError:
    return DataError(
        f"{file} is a colour slice (RGB or palette: {what})",
        "slices with one grey value per pixel",
        "Convert the slices to grey (in Fiji: Image ▸ Type ▸ 8-bit) and save them again",
    )


def _refuse_different(first: Path, wanted: _Header, file: Path, header: _Header) -> None:
    if header == wanted:
        return
    (height, width), dtype = header
    (first_height, first_width), first_dtype = wanted
    raise DataError(
        f"{file} is {height}×{width} {dtype}, but {first.name} is {first_height}×{first_width} {first_dtype}",
        "slices of equal size and dtype in one folder",
        "Crop or convert the slices that differ, or move them elsewhere",
    )


def _read(file: Path, size: tuple[int, ...]) -> NDArray[Any]:
    with clear_read_errors(str(file)):
        if _tiff.recognises(file):
            return np.asarray(tifffile.imread(file)).reshape(size)
        with PngImageFile(file) as image:
            return np.asarray(image)


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write a folder of PNG slices and a small file with voxel size and kind."""
    require_dtype(volume, WRITTEN_DTYPES, "PNG slices")
    _write(volume, location, overwrite, progress, ".png", _write_png)


def write_tiff(
    volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None
) -> None:
    """Write a folder of TIFF slices and a small file with voxel size and kind."""
    _write(volume, location, overwrite, progress, ".tif", _write_tiff)


def _write_png(path: Path, image: NDArray[Any]) -> None:
    Image.fromarray(image).save(path)


def _write_tiff(path: Path, image: NDArray[Any]) -> None:
    tifffile.imwrite(path, image, compression="zlib", metadata=None)


def _write(
    volume: Volume,
    location: Location,
    overwrite: bool,
    progress: Progress,
    suffix: str,
    write_slice: Callable[[Path, NDArray[Any]], None],
) -> None:
    n_slices = volume.shape[0]
    with atomic(location.path, overwrite=overwrite) as partial:
        partial.mkdir()
        for z in range(n_slices):
            write_slice(partial / f"{z:0{len(str(n_slices - 1))}d}{suffix}", volume[z])
            if progress is not None:
                progress(z + 1, n_slices)
        described = {"voxel_size_nm": _listed(volume.voxel_size_nm), "kind": volume.kind}
        (partial / SIDECAR).write_text(json.dumps(described, indent=1), "utf-8")


def _listed(voxel_size: VoxelSize | None) -> list[float] | None:
    return None if voxel_size is None else list(voxel_size)
