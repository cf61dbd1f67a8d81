"""What all writers share: chunks, slab by slab copying, progress."""

from typing import Any

from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress, Volume, slabs

__all__ = ["chunk_shape", "require_dtype", "write_slabs"]


def require_dtype(volume: Volume, dtypes: tuple[str, ...], title: str) -> None:
    """Refuse what a format cannot hold, before anything is written."""
    if volume.dtype.name not in dtypes:
        raise DataError(
            f"{volume.label} holds {volume.kind} as {volume.dtype} numbers",
            f"for {title} one of {', '.join(dtypes)}",
            "Write a plain .tif, HDF5 or Zarr instead, which keep every dtype, or convert it",
        )


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Chunks that serve both scrolling through z and reading blocks: at most 8×256×256."""
    z, y, x = (min(n, most) for n, most in zip(shape, (8, 256, 256), strict=True))
    return z, y, x


def write_slabs(volume: Volume | ArrayLike, target: Any, progress: Progress = None) -> None:
    """Copy a volume into an array on disk, a few slices at a time, along the chunks of the target."""
    depth = chunk_shape(volume.shape)[0]
    bytes_per_chunk_row = depth * volume.shape[1] * volume.shape[2] * volume.dtype.itemsize
    n_rows = -(-volume.shape[0] // depth)
    for rows in slabs((n_rows,), bytes_per_chunk_row):
        block = slice(rows.start * depth, min(rows.stop * depth, volume.shape[0]))
        target[block] = volume[block]
        if progress is not None:
            progress(block.stop, volume.shape[0])
