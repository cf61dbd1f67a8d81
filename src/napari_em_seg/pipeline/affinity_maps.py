"""Affinities in files: three maps of one container, read as one array."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.volume import Volume, VoxelSize

__all__ = ["AffinityMaps", "open_affinities"]


@dataclass(frozen=True, eq=False)
class AffinityMaps:
    """Three volumes read as one array (3, z, y, x): affinities to the neighbours at −1 along z, y and x."""

    maps: tuple[Volume, Volume, Volume]
    first: int = 0
    stop: int | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, slices, rows and columns."""
        z, y, x = self.maps[0].shape
        return 3, min(z, z if self.stop is None else self.stop) - self.first, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """As it lies in the files."""
        return self.maps[0].dtype

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """Of the maps."""
        return self.maps[0].voxel_size_nm

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read one channel, or several: the first key says which, the others where."""
        channel, *place = key if isinstance(key, tuple) else (key,)
        if isinstance(channel, slice):
            return np.stack([self[(c, *place)] for c in range(*channel.indices(3))])
        z, *plane = place or [slice(None)]
        if isinstance(z, slice):
            start, stop, step = z.indices(self.shape[1])
            z = slice(start + self.first, stop + self.first, step)
        else:
            z += self.first + (self.shape[1] if z < 0 else 0)
        found: NDArray[Any] = self.maps[channel][(z, *plane)]
        return found


def open_affinities(source: str, slices: slice = slice(None)) -> AffinityMaps:
    """Open the three maps that `predict` wrote into a container."""
    found = tuple(io.open_volume(f"{source}/{place}") for place in AFFINITY_MAPS)
    if len({(volume.shape, str(volume.dtype)) for volume in found}) > 1:
        raise DataError(
            f"The affinities in {source} are {', '.join(f'{v.shape} {v.dtype}' for v in found)}",
            "three maps of one shape and type", "Predict them again",
        )  # fmt: skip
    start, stop, _ = slices.indices(len(found[0]))
    return AffinityMaps((found[0], found[1], found[2]), start, stop)
