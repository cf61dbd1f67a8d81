"""HDF5: any dataset by its path, and the CREMI layout (volumes/raw, volumes/labels/neuron_ids)."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_em_seg.io._atomic import already_there, atomic
from napari_em_seg.io._found import Found, nothing_inside
from napari_em_seg.io._guess import guess_kind, to_nm
from napari_em_seg.io._lazy import LazyArray, index_of, without_single_axes
from napari_em_seg.io._location import Location, clear_read_errors
from napari_em_seg.io._write import chunk_shape, write_slabs
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize

__all__ = ["DEFAULT_PATHS", "find", "recognises", "write"]

_log = logging.getLogger(__name__)

DEFAULT_PATHS: dict[Kind, str] = {"image": "volumes/raw", "labels": "volumes/labels/neuron_ids"}

_CACHE_BYTES = 128 * 2**20  # keeps a row of chunks, so that scrolling does not decompress them again


def recognises(path: Path) -> bool:
    """Whether the file has the signature of HDF5, at its begin or after a user block."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def find(location: Location) -> list[Found]:
    """List the datasets at and below the location."""
    with clear_read_errors(str(location)):
        file = h5py.File(location.path, "r", rdcc_nbytes=_CACHE_BYTES)
        node = file.get(location.inner or "/")
        if node is None:  # also where a link leads nowhere
            raise nothing_inside(location, _dataset_paths(file))
        if isinstance(node, h5py.Dataset):
            return [_found(location, node)]
        return [_found(location / path, node[path]) for path in _dataset_paths(node)]


def _dataset_paths(group: Any) -> list[str]:
    paths: list[str] = []
    group.visititems(lambda path, node: paths.append(path) if isinstance(node, h5py.Dataset) else None)
    return paths


def _found(location: Location, dataset: Any) -> Found:
    kind = guess_kind(location.inner, dataset.dtype, dataset.attrs.get("kind"))
    shape = tuple(dataset.shape or ())
    shape = tuple(shape[axis] for axis in without_single_axes(shape))
    return Found(location, shape, dataset.dtype, kind, lambda kind: _open(location, dataset, kind))


def _open(location: Location, dataset: Any, kind: Kind) -> Volume:
    if np.any(dataset.attrs.get("offset", 0)):
        _log.warning("%s has an offset (%s), which is not used", location, dataset.attrs["offset"])
    axes = without_single_axes(dataset.shape)
    shape = tuple(dataset.shape[axis] for axis in axes)
    data = LazyArray(
        shape, dataset.dtype, lambda block: dataset[index_of(block, axes, dataset.ndim)], str(location)
    )
    return Volume(data, _voxel_size(dataset), location.name, str(location), kind)


def _voxel_size(dataset: Any) -> VoxelSize | None:
    """``resolution`` in nm as CREMI writes it, else ``element_size_um`` as ilastik and BigDataViewer do."""
    for name, unit in (("resolution", "nm"), ("element_size_um", "um")):
        sizes = np.ravel(dataset.attrs.get(name, ()))
        if sizes.size == 3:
            return to_nm(sizes.tolist(), (unit,) * 3)
    return None


def write(volume: Volume, location: Location, *, overwrite: bool = False, progress: Progress = None) -> None:
    """Write one dataset, beside what the file already holds.

    HDF5 cannot add to a file in a way that survives being killed, so the file is copied, the copy
    extended, and put in the place of the original.
    """
    target = Location(location.path, location.inner or DEFAULT_PATHS[volume.kind])
    extends = location.path.exists() and recognises(location.path)
    if extends and not overwrite:
        _refuse_dataset(target)
    with atomic(location.path, overwrite=overwrite or extends) as partial:
        if extends:
            shutil.copyfile(location.path, partial)
        with _hdf5_file(partial) as file:
            if target.inner in file:
                del file[target.inner]
            _write_dataset(volume, file, target.inner, progress)


def _write_dataset(volume: Volume, file: Any, inner: str, progress: Progress) -> None:
    dataset = file.create_dataset(
        inner,
        volume.shape,
        volume.dtype,
        chunks=chunk_shape(volume.shape),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
    )
    dataset.attrs["kind"] = volume.kind
    if volume.voxel_size_nm is not None:
        dataset.attrs["resolution"] = np.asarray(volume.voxel_size_nm)
    write_slabs(volume, dataset, progress)


@contextmanager
def _hdf5_file(path: Path) -> Iterator[Any]:
    """Open a file to add to it; when the disk is full, raise that, where HDF5 itself would crash."""
    path.touch()
    with path.open("r+b", buffering=0) as raw:
        stream = _PatientFile(raw)
        with h5py.File(stream, "a") as file:
            yield file
        stream.raise_error()


class _PatientFile(RawIOBase):
    """A file that remembers the first failure and pretends that all went well until it is asked.

    HDF5 cannot close a file whose last bytes find no room: it ends the whole process.
    """

    def __init__(self, raw: FileIO) -> None:
        super().__init__()
        self._raw = raw
        self._error: OSError | None = None

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        try:
            written = 0
            while self._error is None and written < size:
                written += self._raw.write(memoryview(content).cast("B")[written:]) or 0
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size) if self._error is None else 0
        except OSError as error:
            self._error = error
            return 0

    def readinto(self, buffer: Any) -> int:
        return self._raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()


def _refuse_dataset(location: Location) -> None:
    with clear_read_errors(str(location.path)), h5py.File(location.path, "r") as file:
        if location.inner in file:
            raise already_there(str(location))
