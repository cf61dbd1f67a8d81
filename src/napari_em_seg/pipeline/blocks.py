"""Affinities larger than memory: where blocks are kept, supervoxels in a file, segments looked up when read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import EmSegError
from napari_em_seg.io._location import locate
from napari_em_seg.segment.blocks import Writable

__all__ = ["Blocks", "Cancelling", "Segments", "supervoxel_file"]

Cancelling = Callable[[], bool] | None

_CHUNK = (4, 256, 256)
_FILE = ".supervoxels.h5"  # hidden: a folder with other files in it is not taken for an empty one


@dataclass(frozen=True)
class Blocks:
    """How a volume is cut into blocks.

    Attributes
    ----------
    shape
        Voxels of each block (z, y, x), without overlap; those of the volume at most.
    overlap
        How many more are read on each side; None: a quarter of the shape.
    folder
        Where blocks are kept, so that a run that was stopped can go on; None: beside the affinities.
    scheduler
        Address of a dask.distributed scheduler, whose workers find the supervoxels; they have to see the same
        files. None: this process does.
    """

    shape: tuple[int, int, int]
    overlap: tuple[int, int, int] | None = None
    folder: Path | None = None
    scheduler: str | None = None

    @property
    def margin(self) -> tuple[int, int, int]:
        """The overlap, whether given or not."""
        if self.overlap is not None:
            return self.overlap
        z, y, x = (n // 4 for n in self.shape)
        return z, y, x

    def folder_for(self, source: str) -> Path:
        """Return where blocks of these affinities are kept."""
        if self.folder is not None:
            return self.folder
        path = locate(source).path
        return path.with_name(f"{path.name}.blocks")


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of supervoxels that may lie in a file, looked up when they are read."""

    supervoxels: Writable
    table: NDArray[np.uint32]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the supervoxels."""
        return tuple(self.supervoxels.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint32."""
        return self.table.dtype

    def __getitem__(self, key: Any) -> NDArray[np.uint32]:
        """Read a part."""
        return np.asarray(self.table[self.supervoxels[key]])


@contextmanager
def supervoxel_file(folder: Path, shape: tuple[int, ...]) -> Iterator[Writable]:
    """Give a file in the folder to write supervoxels to; it is made anew each time, and removed in the end."""
    path, is_new = folder / _FILE, not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            chunks = tuple(min(pair) for pair in zip(_CHUNK, shape, strict=True))
            yield file.create_dataset("labels", shape, np.uint32, chunks=chunks, compression="lzf")
    except EmSegError:
        raise
    except OSError as error:
        raise EmSegError(f"The folder {folder} cannot be used: {error.strerror or error}",
                         "a folder that you may write to, with room for blocks",
                         "Choose another one (--block-folder), or make room") from error  # fmt: skip
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
            if is_new:
                folder.rmdir()  # does nothing to one that holds blocks
