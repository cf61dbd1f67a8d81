"""Smooth random fields of the sample: value noise on a coarse lattice, sampled section by section."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.sample._kernels import upsample

__all__ = ["Lattice"]

_PAD = 2


@dataclass(frozen=True, eq=False)
class Lattice:
    """A smooth field over a stack, of mean 0 and standard deviation about 1.

    Parameters
    ----------
    values
        Random numbers on the lattice (z, y, x).
    spacing
        Pixels between lattice points in the plane.
    depth
        Sections between lattice planes.
    """

    values: NDArray[np.float32]
    spacing: float
    depth: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, shape: tuple[int, int, int], spacing: float, depth: float
    ) -> "Lattice":
        """Draw a field that varies over `spacing` pixels and `depth` sections."""
        size = (
            int(shape[0] / depth) + 3,
            int(shape[1] / spacing) + 2 * _PAD + 2,
            int(shape[2] / spacing) + 2 * _PAD + 2,
        )
        # a cubic B-spline averages its neighbours: 2.1 makes up for the variance that it takes
        return cls(2.1 * rng.standard_normal(size, dtype=np.float32), spacing, depth)

    def section(self, z: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the field over section z, height × width."""
        low, part = divmod(z / self.depth, 1.0)
        part = part * part * (3 - 2 * part)
        k = int(low)
        plane = (1 - part) * self.values[k] + part * self.values[k + 1]
        scale = 1 / np.sqrt((1 - part) ** 2 + part**2)
        start = -_PAD * self.spacing
        return upsample(plane * np.float32(scale), start, start, self.spacing, shape[-2], shape[-1])
