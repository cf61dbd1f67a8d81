"""Multi-page TIFF: plain, ImageJ and OME, with the voxel size where the file says it."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._lazy import Block, LazyArray, loaded
from napari_em_seg.io._location import Location, clear_read_errors
from napari_em_seg.io._write import require_dtype
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["find", "open_tiff", "recognises", "refuse_colour", "write"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_STACK = ": stack of slices (z, y, x)"  # after the kind, in the description of the image
OME_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


def recognises(path: Path) -> bool:
    """Whether the file begins as TIFF or BigTIFF does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) in _MAGIC


def find(location: Location) -> list[Found]:
    """Give the one stack that the file is; there is nothing inside a TIFF to choose from."""
    with clear_read_errors(str(location)), open_tiff(location.path) as file:
        stack = _stack(file, location)
    kind = guess_kind(location.path.stem, stack.dtype, stack.kind)
    return [Found(location, stack.shape, stack.dtype, kind, lambda kind: _open(location, kind))]


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF file; what tifffile merely logs (pages that are missing at the end) is an error here."""
    file = tifffile.TiffFile(path)
    try:
        with _complaints() as messages:
            n_pages = len(file.pages)  # walks through the whole chain of pages
            n_series = len(file.series)
            last_byte = max((_last_byte(page.aspage()) for page in file.pages), default=0)
        if messages or not n_pages or not n_series:
            raise tifffile.TiffFileError("; ".join(messages) or "it has no pages")
        if last_byte > path.stat().st_size:
            raise tifffile.TiffFileError(f"it ends before byte {last_byte}, where its last page does")
    except BaseException:
        file.close()
        raise
    return file


_heard: ContextVar[list[str] | None] = ContextVar("complaints of tifffile", default=None)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs as errors in this thread, instead of letting it print them."""
    messages: list[str] = []
    token = _heard.set(messages)
    try:
        yield messages
    finally:
        _heard.reset(token)


def _hear(record: logging.LogRecord) -> bool:
    """Keep a complaint for whoever listens in this thread; without a listener it goes its usual way."""
    messages = _heard.get()
    if messages is None:
        return True
    if record.levelno >= logging.ERROR:
        messages.append(record.getMessage())
    return False


logging.getLogger("tifffile").addFilter(_hear)


def _last_byte(page: Any) -> int:
    return max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)


@dataclass(frozen=True)
class _Stack:
    """What a TIFF file holds: shape and dtype, its pages in order, or where they lie in one piece."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pages: list[Any]
    offset: int | None
    voxel_size_nm: VoxelSize | None
    kind: Any


def _stack(file: tifffile.TiffFile, location: Location) -> _Stack:
    series = file.series[0]
    pages = [page for one in file.series for page in one.pages]
    if None in pages:
        raise tifffile.TiffFileError("its description names pages that are not in it")
    if len(file.series) > 1:
        _refuse_different(file.series, location)
        shape: tuple[int, ...] = (len(file.series), *series.shape)
    else:
        refuse_colour(series, str(location))
        shape = _shape(file, series)
    offset = series.dataoffset if len(file.series) == 1 else None
    return _Stack(shape, series.dtype, pages, offset, _voxel_size(file), _stated_kind(file))


def _stated_kind(file: tifffile.TiffFile) -> Any:
    """Kind as we write it; other programs have no place for it."""
    if file.is_ome:
        kinds = ("labels", "image")
        return next((kind for kind in kinds if f"{kind}{_OME_STACK}" in (file.ome_metadata or "")), None)
    return (file.shaped_metadata or ({},))[0].get("kind")


def _shape(file: tifffile.TiffFile, series: Any) -> tuple[int, ...]:
    """Drop axes of length 1, but for rows and columns, and for z where the file names it."""
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    at_y = axes.index("Y")
    rows_and_columns = tuple(shape[at_y : at_y + 2])
    longer = tuple(n for n in shape[:at_y] if n > 1)
    is_one_slice = not longer and "Z" in axes[:at_y] and _names_z(file)
    return (1, *rows_and_columns) if is_one_slice else (*longer, *rows_and_columns)


def _names_z(file: tifffile.TiffFile) -> bool:
    """Whether a file with one slice means a stack of it; ImageJ and OME give every image a z axis."""
    if file.is_ome:
        return any(mark in (file.ome_metadata or "") for mark in ("PhysicalSizeZ=", _OME_STACK))
    return not file.is_imagej


def refuse_colour(series: Any, where: str) -> None:
    """Raise where a pixel has several values."""
    if "S" in series.axes and series.shape[series.axes.index("S")] > 1:
        raise DataError(
            f"{where} holds colour slices (RGB, shape {'×'.join(map(str, series.shape))})",
            "slices with one grey value per pixel",
            "Convert the slices to grey (in Fiji: Image ▸ Type ▸ 8-bit) and save them again",
        )


def _refuse_different(all_series: Any, location: Location) -> None:
    """Raise where the pages are no stack: others than equal 2-D images."""
    for series in all_series:
        refuse_colour(series, str(location))
    kinds = {f"{'×'.join(map(str, series.shape))} {series.dtype}" for series in all_series}
    if len(kinds) > 1 or len(all_series[0].shape) != 2:
        raise DataError(
            f"{location} holds {len(all_series)} images that are no stack ({', '.join(sorted(kinds))})",
            "pages of equal size and dtype",
            "Save the one stack that you want to reconstruct in a file of its own",
        )


def _open(location: Location, kind: Kind) -> Volume:
    with clear_read_errors(str(location)):
        file = open_tiff(location.path)
        stack = _stack(file, location)
    where = str(location)
    if stack.offset is not None:
        file.close()
        dtype = file.byteorder + stack.dtype.char
        flat = np.memmap(location.path, dtype, "r", stack.offset, stack.shape)
        data = LazyArray(stack.shape, stack.dtype, lambda block: flat[block], where)
    elif len(stack.pages) != stack.shape[0]:  # several slices in a page; rare, so no effort is made
        with file, clear_read_errors(where):
            data = loaded(file.asarray().reshape(stack.shape), where)
    else:
        reader = _PageReader(stack)
        data = LazyArray(stack.shape, stack.dtype, reader, where, file.close)
    return Volume(data, stack.voxel_size_nm, location.name, where, kind)


class _PageReader:
    """Reads pages one after the other: they share one file handle, and so one position in the file."""

    def __init__(self, stack: _Stack) -> None:
        self._pages, self._page_shape = stack.pages, stack.shape[-2:]
        self._lock = Lock()

    def __call__(self, block: Block) -> NDArray[Any]:
        z, y, x = block
        with self._lock:
            return np.stack([page.asarray().reshape(self._page_shape)[y, x] for page in self._pages[z]])


def _voxel_size(file: tifffile.TiffFile) -> VoxelSize | None:
    if file.is_ome:
        return _ome_voxel_size(file)
    if file.is_imagej:
        return _imagej_voxel_size(file)
    described = file.shaped_metadata[0] if file.shaped_metadata else {}
    return to_nm(described.get("voxel_size_nm"), ("nm",) * 3)


def _ome_voxel_size(file: tifffile.TiffFile) -> VoxelSize | None:
    images = tifffile.xml2dict(file.ome_metadata or "<OME/>").get("OME", {}).get("Image", {})
    pixels = (images[0] if isinstance(images, list) else images).get("Pixels", {})
    return to_nm(
        [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"],
        [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"],  # the schema's default
    )


def _imagej_voxel_size(file: tifffile.TiffFile) -> VoxelSize | None:
    metadata, tags = file.imagej_metadata or {}, file.pages.first.tags
    per_unit = [tags[name].value for name in ("YResolution", "XResolution") if name in tags]
    if len(per_unit) < 2 or not all(count for count, _ in per_unit):
        return None
    unit = metadata.get("unit")
    units = (metadata.get("zunit", unit), metadata.get("yunit", unit), unit)
    return to_nm([metadata.get("spacing"), *(length / count for count, length in per_unit)], units)


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write OME-TIFF under ``.ome.tif``, else ImageJ TIFF where it can hold the volume, else plain TIFF."""
    is_ome = re.search(r"\.ome\.tiff?$", location.path.name.lower()) is not None
    if is_ome:
        require_dtype(volume, OME_DTYPES, "OME-TIFF")
    options = _ome(volume) if is_ome else _imagej(volume) if _fits_imagej(volume) else _plain(volume)
    # tifffile takes a last axis of length 1 for the values of a pixel, so that one is added.
    is_narrow = volume.shape[2] == 1 and not is_ome
    with atomic(location.path, overwrite=overwrite) as partial:
        tifffile.imwrite(
            partial,
            np.stack(list(_slices(volume, progress)))[..., None] if is_narrow else _slices(volume, progress),
            shape=(*volume.shape, 1) if is_narrow else volume.shape,
            dtype=volume.dtype,
            photometric="minisblack",
            compression="zlib",
            **options,
        )


def _fits_imagej(volume: Volume) -> bool:
    """ImageJ knows three dtypes, no labels, and writes one slice as a 2-D image."""
    is_known = volume.dtype.name in _IMAGEJ_DTYPES and volume.kind == "image"
    return is_known and min(volume.shape) > 1 and volume.nbytes < 2**31


def _slices(volume: Volume, progress: Progress) -> Iterator[NDArray[Any]]:
    for z in range(len(volume)):
        plane = volume[z]
        if progress is not None:  # before the slice is given: after the last one nobody comes back
            progress(z + 1, len(volume))
        yield plane


def _ome(volume: Volume) -> dict[str, Any]:
    sizes = dict(zip("ZYX", volume.voxel_size_nm or (), strict=False))
    metadata: dict[str, Any] = {"axes": "ZYX", "Description": f"{volume.kind}{_OME_STACK}"}
    metadata |= {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
    metadata |= {f"PhysicalSize{axis}Unit": "nm" for axis in sizes}
    return {"ome": True, "bigtiff": volume.nbytes >= 2**31, "metadata": metadata}


def _imagej(volume: Volume) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if volume.voxel_size_nm is None:
        return {"imagej": True, "metadata": metadata}
    z, y, x = volume.voxel_size_nm
    metadata |= {"spacing": z, "unit": "nm"}
    return {"imagej": True, "metadata": metadata, "resolution": (1 / x, 1 / y)}


def _plain(volume: Volume) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYXS"[: 4 if volume.shape[2] == 1 else 3], "kind": volume.kind}
    if volume.voxel_size_nm is not None:
        metadata["voxel_size_nm"] = list(volume.voxel_size_nm)
    return {"bigtiff": volume.nbytes >= 2**31, "metadata": metadata}
