"""Multi-page TIFF: plain, ImageJ and OME, with the voxel size where the file says it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._lazy import Block, LazyArray
from napari_em_seg.io._location import Location, clear_read_errors
from napari_em_seg.io._write import require_dtype
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["find", "recognises", "write"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ERRORS = (tifffile.TiffFileError, ValueError, RuntimeError, KeyError, IndexError)
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


def recognises(path: Path) -> bool:
    """Whether the file begins as TIFF or BigTIFF does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) in _MAGIC


def find(location: Location) -> list[Found]:
    """Give the file's first series of pages; there is nothing inside a TIFF to choose from."""
    with clear_read_errors(str(location), _ERRORS), _open_whole(location.path) as file:
        series = file.series[0]
        _refuse_truncated(series, location)
        _refuse_colour(series, location)
        shape, dtype = _without_single_axes(series), series.dtype
    kind = guess_kind(location.path.stem, dtype)
    return [Found(location, shape, dtype, kind, lambda kind: _open(location, shape, kind))]


def _open_whole(path: Path) -> tifffile.TiffFile:
    """Open a TIFF file; what tifffile merely logs (pages that are missing at the end) is an error here."""
    file = tifffile.TiffFile(path)
    try:
        with _complaints() as messages:
            n_pages = len(file.pages)  # walks through the whole chain of pages
            n_series = len(file.series)
        if messages or not n_pages or not n_series:
            raise tifffile.TiffFileError("; ".join(messages) or "it has no pages")
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs as errors, instead of letting it print them."""
    handler = _Complaints()
    logger = logging.getLogger("tifffile")
    was_propagating, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = was_propagating


class _Complaints(logging.Handler):
    """Collects what tifffile logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _open(location: Location, shape: tuple[int, ...], kind: Kind) -> Volume:
    file = _open_whole(location.path)
    series, where = file.series[0], str(location)
    voxel_size = _voxel_size(file)
    if series.dataoffset is not None:
        file.close()
        flat = np.memmap(location.path, file.byteorder + series.dtype.char, "r", series.dataoffset, shape)
        data = LazyArray(shape, series.dtype, lambda block: flat[block], where)
    else:
        pages = [page for page in series.pages if page is not None]
        data = LazyArray(
            shape, series.dtype, lambda block: _read_pages(pages, block), where, _ERRORS, file.close
        )
    return Volume(data, voxel_size, location.name, where, kind)


def _read_pages(pages: list[Any], block: Block) -> NDArray[Any]:
    z, y, x = block
    return np.stack([np.squeeze(page.asarray())[y, x] for page in pages[z]])


def _without_single_axes(series: Any) -> tuple[int, ...]:
    """Drop axes of length 1 other than the last two: a single channel or time point."""
    return tuple(n for n in series.shape[:-2] if n > 1) + tuple(series.shape[-2:])


def _refuse_truncated(series: Any, location: Location) -> None:
    """Raise where pages are missing or their bytes lie beyond the end of the file."""
    size = location.path.stat().st_size
    last = series.dataoffset + series.nbytes if series.dataoffset is not None else 0
    for page in (page for page in series.pages if page is not None):
        page = page.aspage()
        last = max(last, *(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), 0)
    if last > size:
        raise tifffile.TiffFileError(f"it ends after {size} bytes, but its pages need {last}")


def _refuse_colour(series: Any, location: Location) -> None:
    if "S" in series.axes and series.shape[series.axes.index("S")] > 1:
        raise DataError(
            f"{location} holds colour slices (RGB, shape {'×'.join(map(str, series.shape))})",
            "slices with one grey value per pixel",
            "Convert the slices to grey (in Fiji: Image ▸ Type ▸ 8-bit) and save them again",
        )


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
    return to_nm([metadata.get("spacing"), *(length / count for count, length in per_unit)], (unit,) * 3)


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write OME-TIFF under ``.ome.tif``, else ImageJ TIFF where it can hold the dtype, else plain BigTIFF."""
    is_ome = location.path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    if is_ome:
        require_dtype(volume, _OME_DTYPES, "OME-TIFF")
    is_imagej = not is_ome and volume.dtype.name in _IMAGEJ_DTYPES and volume.nbytes < 2**31
    options = _ome(volume) if is_ome else _imagej(volume) if is_imagej else _plain(volume)
    with atomic(location.path, overwrite=overwrite) as partial:
        tifffile.imwrite(
            partial,
            _slices(volume, progress),
            shape=volume.shape,
            dtype=volume.dtype,
            photometric="minisblack",
            compression="zlib",
            **options,
        )


def _slices(volume: Volume, progress: Progress) -> Iterator[NDArray[Any]]:
    for z in range(volume.shape[0]):
        yield volume[z]
        if progress is not None:
            progress(z + 1, volume.shape[0])


def _ome(volume: Volume) -> dict[str, Any]:
    sizes = dict(zip("ZYX", volume.voxel_size_nm or (), strict=False))
    metadata: dict[str, Any] = {"axes": "ZYX"}
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
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if volume.voxel_size_nm is not None:
        metadata["voxel_size_nm"] = list(volume.voxel_size_nm)
    return {"bigtiff": volume.nbytes >= 2**31, "metadata": metadata}
