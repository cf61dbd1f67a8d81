"""What a prediction says about boundaries and across slices, whether it is a boundary map or affinities."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.pipeline.affinity_maps import AffinityMaps, open_affinities
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.volume import ArrayLike, SliceWise, VoxelSize

__all__ = ["Planes", "PredictedMaps", "open_maps"]

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Planes(SliceWise):
    """A volume of numbers from 0 to 1, given by a function that makes its slices."""

    dtype = np.dtype(np.float32)

    shape: tuple[int, int, int]
    plane: Callable[[int], Plane]

    def _plane(self, z: int) -> Plane:
        return self.plane(z)


@dataclass(frozen=True, eq=False)
class PredictedMaps:
    """A boundary map, or affinities (3, z, y, x), of a volume or some slices of it.

    Attributes
    ----------
    maps
        (z, y, x) or (3, z, y, x); uint8 stands for 0 to 255 of 255, floats for themselves.
    """

    maps: ArrayLike | AffinityMaps

    @property
    def is_affinity(self) -> bool:
        """Whether there are affinities."""
        return len(self.maps.shape) == 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        z, y, x = self.maps.shape[-3:]
        return int(z), int(y), int(x)

    @property
    def boundary(self) -> Planes:
        r"""Boundary probability in the plane; from affinities :math:`1 - \min(a_y, a_x)`."""
        if not self.is_affinity:
            return Planes(self.shape, lambda z: self._read(self.maps[z]))
        return Planes(self.shape, lambda z: 1 - np.minimum(self._channel(1, z), self._channel(2, z)))

    @property
    def across(self) -> Planes:
        r"""How likely a voxel belongs together with the one before it; else :math:`1 - \max(b_z, b_{z-1})`."""
        if self.is_affinity:
            return Planes(self.shape, lambda z: self._channel(0, z))
        boundary = self.boundary
        return Planes(self.shape, lambda z: 1 - np.maximum(boundary[z], boundary[max(z - 1, 0)]))

    def affinities(self) -> ArrayLike:
        r"""Return affinities; of a boundary map :math:`a_{uv} = 1 - \max(b_u, b_v)`, as uint8 in memory."""
        if self.is_affinity:
            return self.maps
        found = np.zeros((3, *self.shape), np.uint8)
        before = None
        for z in range(self.shape[0]):
            inside = np.rint((1 - self.boundary[z]) * 255).astype(np.uint8)
            if before is not None:
                found[0, z] = np.minimum(inside, before)
            found[1, z, 1:] = np.minimum(inside[1:], inside[:-1])
            found[2, z, :, 1:] = np.minimum(inside[:, 1:], inside[:, :-1])
            before = inside
        return found

    def _channel(self, channel: int, z: int) -> Plane:
        return self._read(self.maps[channel, z])

    def _read(self, plane: NDArray[Any]) -> Plane:
        plane = np.asarray(plane)
        scale = np.float32(255 if plane.dtype == np.uint8 else 1)
        return plane.astype(np.float32) / scale


def open_maps(source: str) -> tuple[PredictedMaps, VoxelSize | None]:
    """Open a boundary map, or a container with the affinities that `predict` wrote; and their voxel size."""
    if _has_affinities(source):
        maps = open_affinities(source)
        _refuse_type(maps.dtype, f"The affinities in {source} are", "1 = one object")
        return PredictedMaps(maps), maps.voxel_size_nm
    volume = io.open_volume(source, "image")
    _refuse_type(volume.dtype, f"The boundary map {volume.name} is", "1 = boundary")
    return PredictedMaps(volume), volume.voxel_size_nm


def _refuse_type(dtype: np.dtype[Any], what: str, meaning: str) -> None:
    """Refuse numbers of which nobody knows what stands for 1."""
    if dtype not in (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(f"{what} {dtype}", f"uint8 from 0 to 255, or floats from 0 to 1, {meaning}",
                        "Give what `predict` wrote, or convert it")  # fmt: skip


def _has_affinities(source: str) -> bool:
    try:
        io.open_volume(f"{source}/{AFFINITY_MAPS[0]}")
    except EmSegError:
        return False
    return True
