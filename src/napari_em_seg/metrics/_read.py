"""Reading two label arrays slab by slab and counting their pairs on several threads."""

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.metrics._count import PairCounter
from napari_em_seg.volume import ArrayLike, Progress, slabs

__all__ = ["count_pairs"]

SLAB_BYTES = 32 * 2**20
WORKERS = max(2, min(8, os.cpu_count() or 2))

_Slab = tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]


def count_pairs(
    first: ArrayLike, second: ArrayLike, mask: ArrayLike | None, progress: Progress = None
) -> NDArray[np.uint64]:
    """Return rows ``(first, second, count)`` of all pairs of labels; signed ids keep their bits.

    Only the calling thread reads, so that a reader need not be safe for threads; at most ``WORKERS + 2``
    slabs are held at a time. A pair can have several rows, at most one from each worker.
    """
    counters: SimpleQueue[PairCounter] = SimpleQueue()
    everyone = [PairCounter() for _ in range(WORKERS)]
    for counter in everyone:
        counters.put(counter)
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(WORKERS, "count-pairs") as pool:
        for slab in _read_slabs(first, second, mask, progress):
            pending.append(pool.submit(_add, counters, slab))
            if len(pending) > WORKERS:
                pending.popleft().result()
        for future in pending:
            future.result()
    return np.concatenate([counter.rows() for counter in everyone])


def _add(counters: "SimpleQueue[PairCounter]", slab: _Slab) -> None:
    """Count a slab with whichever counter is free."""
    counter = counters.get()
    try:
        counter.add(*slab)
    finally:
        counters.put(counter)


def _read_slabs(
    first: ArrayLike, second: ArrayLike, mask: ArrayLike | None, progress: Progress
) -> Iterator[_Slab]:
    """Read matching slabs along the first axis of both arrays and of the mask."""
    arrays = [first, second] if mask is None else [first, second, mask]
    voxel_bytes = sum(np.dtype(array.dtype).itemsize for array in arrays)
    for part in slabs(tuple(first.shape), voxel_bytes * math.prod(first.shape[1:]), SLAB_BYTES):
        yield (
            _flat_ids(first, part),
            _flat_ids(second, part),
            None if mask is None else _flat(mask, part),
        )
        if progress is not None:
            progress(part.stop, first.shape[0])


def _flat_ids(array: ArrayLike, part: slice) -> NDArray[Any]:
    """Read a slab as unsigned numbers of the same width."""
    flat = _flat(array, part)
    return flat.view(f"u{flat.dtype.itemsize}")


def _flat(array: ArrayLike, part: slice) -> NDArray[Any]:
    """Read a slab as one run of numbers: a read-only view where the memory is in one piece, else a copy."""
    slab = np.asarray(array[part], dtype=np.dtype(array.dtype).newbyteorder("="))
    expected = (part.stop - part.start, *array.shape[1:])
    if slab.shape != expected:
        raise DataError(
            f"Reading slices {part.start} to {part.stop} gave an array of shape {slab.shape}",
            f"the shape {expected}",
            "Check how the array was written; the file may be damaged",
        )
    flat = slab.reshape(-1).view()
    flat.flags.writeable = False
    return flat
