"""Tubes of known length, in anisotropic voxels."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

SIZE = (30.0, 6.0, 6.0)

Tube = Callable[..., NDArray[np.uint32]]


@pytest.fixture(scope="session")
def tube() -> Tube:
    """Make a stack with an object around a line through points (z, y, x) in nm, with round ends."""

    def make(
        points: Sequence[Sequence[float]], radius: float, shape: Sequence[int] = (50, 170, 170)
    ) -> NDArray[np.uint32]:
        grid = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + 0.5) * SIZE
        found = np.zeros(shape, np.uint32)
        for a, b in zip(np.array(points[:-1], float), np.array(points[1:], float), strict=True):
            share = np.clip(((grid - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
            found[np.linalg.norm(grid - a - share[..., None] * (b - a), axis=-1) <= radius] = 1
        return found

    return make
