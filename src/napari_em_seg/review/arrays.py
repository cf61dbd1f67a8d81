"""Arrays of a session, as Zarr with a checksum in every chunk, so that damage never passes for numbers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import FormatError
from napari_em_seg.io._lazy import LazyArray
from napari_em_seg.io._location import clear_read_errors
from napari_em_seg.io._tensorstore import Target, lazy, open_store
from napari_em_seg.volume import ArrayLike

__all__ = ["lazy_array", "read_array", "write_array"]

_ROWS = 1 << 18
_TILE = 512


def write_array(folder: Path, array: ArrayLike) -> None:
    """Write an array of one or two axes, or a stack slice by slice."""
    shape = tuple(int(n) for n in array.shape)
    store = open_store(
        "zarr3",
        folder,
        # Chunks of zeros are written, too, so that a missing one is known to be missing.
        spec={"store_data_equal_to_fill_value": True, "metadata": _metadata(shape)},
        create=True,
        dtype=np.dtype(array.dtype).name,
        shape=shape,
    )
    target = Target(store)
    if len(shape) < 3:
        target[...] = np.asarray(array)
        return
    for z in range(shape[0]):
        target[z] = np.asarray(array[z])


def read_array(folder: Path) -> NDArray[Any]:
    """Read a whole array."""
    with clear_read_errors(str(folder)):
        store = _opened(folder)
        return np.asarray(store[...].read().result())


def lazy_array(folder: Path) -> LazyArray:
    """Open a stack, of which slices are read as needed."""
    with clear_read_errors(str(folder)):
        return lazy(_opened(folder), str(folder), folder)


def _opened(folder: Path) -> Any:
    folder.stat()
    store = open_store("zarr3", folder, open=True, read=True)
    chunks = store.chunk_layout.read_chunk.shape
    expected = math.prod(-(-n // chunk) for n, chunk in zip(store.shape, chunks, strict=True))
    found = sum(1 for path in (folder / "c").rglob("*") if path.is_file())
    if found < expected:
        raise FormatError(f"{folder} has {found} of {expected} parts", "all files in place",
                          "Restore the session from a copy")  # fmt: skip
    return store


def _metadata(shape: tuple[int, ...]) -> dict[str, Any]:
    most = (1, _TILE, _TILE) if len(shape) == 3 else (_ROWS, 1 << 10)[: len(shape)]
    chunks = [max(1, min(pair)) for pair in zip(shape, most, strict=True)]
    return {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 3}},
            {"name": "crc32c"},
        ],
    }
