"""Found: an array that a reader has seen but not opened."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_em_seg.errors import EmSegError, FormatError
from napari_em_seg.io._location import Location
from napari_em_seg.volume import Kind, Volume

__all__ = ["Found", "nothing_inside"]


@dataclass(frozen=True)
class Found:
    """An array in a file: where, how large, what it seems to be, and how to open it.

    ``open`` takes the kind that the caller wants and gives the volume. ``refusal`` is the error that
    says why it cannot be one, where shape and dtype do not say it.
    """

    location: Location
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: Kind
    open: Callable[[Kind], Volume]
    refusal: EmSegError | None = None

    @property
    def is_stack(self) -> bool:
        """Whether it has the three axes of a volume and numbers in it."""
        return self.refusal is None and len(self.shape) == 3 and self.dtype.kind in "buif"

    def __str__(self) -> str:
        size = "×".join(map(str, self.shape)) or "no plain numbers"
        return f"{self.location.inner or self.location.path.name} ({size}, {self.dtype}, {self.kind})"


def nothing_inside(location: Location, inner_paths: Iterable[str]) -> FormatError:
    """Say that a container has nothing at the path inside it, and what it has."""
    return FormatError(
        f"{location.path} has nothing at {location.inner}",
        f"one of its arrays: {', '.join(filter(None, inner_paths)) or 'it has none with a name'}",
        "Give one of these after the container's name, or the container alone",
    )
