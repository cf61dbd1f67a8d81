"""What people add to a reconstruction: assignments that were not among the candidates, and painted regions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AddedLink", "AddedRegion", "cropped"]


@dataclass(frozen=True)
class AddedLink:
    """An assignment made by hand, or one of a painted region; −1 stands for no one."""

    kind: int
    sources: tuple[int, int]
    targets: tuple[int, int]
    cost: float

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> "AddedLink":
        """Read it back."""
        return cls(payload["kind"], tuple(payload["sources"]), tuple(payload["targets"]), payload["cost"])


@dataclass(frozen=True)
class AddedRegion:
    """A hypothesis painted, or propagated from another slice: a mask that begins at (y, x) in slice z.

    ``runs`` are lengths of outside and inside in turn, row by row.
    """

    z: int
    y: int
    x: int
    shape: tuple[int, int]
    runs: tuple[int, ...]
    origin: str = "painted"

    @classmethod
    def from_mask(cls, z: int, y: int, x: int, mask: NDArray[np.bool_], origin: str) -> "AddedRegion":
        """Return it for a mask."""
        flat = mask.reshape(-1)
        ends = np.flatnonzero(np.diff(flat, prepend=False))
        runs = np.diff(ends, prepend=0, append=flat.size)
        return cls(z, y, x, (mask.shape[0], mask.shape[1]), tuple(runs.tolist()), origin)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """What is inside."""
        return np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs).reshape(self.shape)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> "AddedRegion":
        """Read it back."""
        (height, width), runs = payload["shape"], tuple(payload["runs"])
        return cls(payload["z"], payload["y"], payload["x"], (height, width), runs, payload["origin"])


def cropped(mask: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.bool_]]:
    """Return the part of a mask (y, x) that is not empty, after its first row and column."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    y, x = int(rows[0]), int(columns[0])
    return y, x, mask[y : rows[-1] + 1, x : columns[-1] + 1]
