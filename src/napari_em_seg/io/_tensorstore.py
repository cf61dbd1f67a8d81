"""The bridge to tensorstore, which reads and writes Zarr, N5 and Neuroglancer precomputed."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from napari_em_seg.io._lazy import LazyArray

__all__ = ["Target", "lazy", "open_store"]

# Decoded chunks are kept, so that scrolling through z does not decode the same chunk for every slice.
_CONTEXT = ts.Context({"cache_pool": {"total_bytes_limit": 256 * 2**20}})


def open_store(driver: str, path: Path, **options: Any) -> Any:
    """Open an array below a folder; ``options`` are tensorstore's (create, dtype, shape, ...)."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path.absolute()}/"}}
    spec |= options.pop("spec", {})
    return ts.open(spec, context=_CONTEXT, **options).result()


def lazy(store: Any, where: str) -> LazyArray:
    """Give a tensorstore with axes (z, y, x) the face of our readers."""
    return LazyArray(store.shape, store.dtype.numpy_dtype, lambda block: store[block].read().result(), where)


class Target:
    """A tensorstore to assign blocks to, which h5py and numpy have by themselves."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __setitem__(self, key: Any, block: NDArray[Any]) -> None:
        self._store[key].write(np.ascontiguousarray(block)).result()
