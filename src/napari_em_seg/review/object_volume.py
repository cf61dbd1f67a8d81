"""Object volume: the object of each voxel, worked out for the part that somebody reads, never as a whole."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.result import label_table
from napari_em_seg.review.view import View

__all__ = ["ObjectVolume"]


class ObjectVolume:
    """An array (z, y, x) with the object of each voxel, 0 for none; painted regions that are used lie on top.

    Making one takes time in proportion to hypotheses, reading in proportion to voxels that are read.
    """

    ndim = 3
    dtype = np.dtype(np.uint32)

    def __init__(self, view: View) -> None:
        made = view.reconstruction
        self.numbers = view.objects
        self._nodes = made.hypotheses().nodes
        self._table = label_table(self.numbers[: len(made.z)], made.parent)
        self._painted = [region for number, region in view.state.regions.items() if self.numbers[number]]
        self._names = [self.numbers[number] for number in view.state.regions if self.numbers[number]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        z, y, x = self._nodes.shape
        return z, y, x

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> Any:
        """Work out one slice, several, or a part of them."""
        z, *rest = key if isinstance(key, tuple) else (key,)
        if z is Ellipsis or isinstance(z, slice):
            slices = range(*(slice(None) if z is Ellipsis else z).indices(self.shape[0]))
            planes = [self._plane(i) for i in slices]
            found = np.stack(planes) if planes else np.zeros((0, *self.shape[1:]), self.dtype)
            return found[(slice(None), *rest)] if z is not Ellipsis else found[(Ellipsis, *rest)]
        return self._plane(int(z))[tuple(rest)]

    def _plane(self, z: int) -> NDArray[np.uint32]:
        plane: NDArray[np.uint32] = self._table[self._nodes[z]]
        for name, region in zip(self._names, self._painted, strict=True):
            if region.z == z % self.shape[0]:
                height, width = region.shape
                plane[region.y : region.y + height, region.x : region.x + width][region.mask] = name
        return plane
