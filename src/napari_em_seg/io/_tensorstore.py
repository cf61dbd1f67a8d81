"""The bridge to tensorstore, which reads and writes Zarr, N5 and Neuroglancer precomputed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from napari_em_seg.io._lazy import Block, LazyArray

__all__ = ["Target", "lazy", "open_store"]

# Decoded chunks are kept, so that scrolling through z does not decode the same chunk for every slice.
_CONTEXT = ts.Context({"cache_pool": {"total_bytes_limit": 256 * 2**20}})


@contextmanager
def _os_errors() -> Iterator[None]:
    """Give back the operating system's errors, which tensorstore wraps into a ValueError."""
    try:
        yield
    except ValueError as error:
        text = str(error).partition(" [")[0]
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if number:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        if text.startswith("PERMISSION_DENIED"):
            raise PermissionError(text) from error
        raise ValueError(text) from error


def open_store(driver: str, path: Path, **options: Any) -> Any:
    """Open an array below a folder; ``options`` are tensorstore's (create, dtype, shape, ...)."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path.absolute()}/"}}
    spec |= options.pop("spec", {})
    with _os_errors():
        return ts.open(spec, context=_CONTEXT, **options).result()


def lazy(store: Any, where: str, folder: Path) -> LazyArray:
    """Give a tensorstore with axes (z, y, x) the face of our readers."""

    def read(block: Block) -> NDArray[Any]:
        folder.stat()  # a missing chunk reads as zeros, so a missing folder has to be noticed
        with _os_errors():
            return np.asarray(store[block].read().result())

    return LazyArray(store.shape, store.dtype.numpy_dtype, read, where)


class Target:
    """A tensorstore to assign blocks to, which h5py and numpy have by themselves."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __setitem__(self, key: Any, block: NDArray[Any]) -> None:
        with _os_errors():
            self._store[key].write(np.ascontiguousarray(block)).result()
