"""Object volume: the object of each voxel, worked out for the part that somebody reads, never as a whole."""

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.result import label_table
from napari_em_seg.review.view import View
from napari_em_seg.volume import SliceWise

__all__ = ["ObjectVolume"]


class ObjectVolume(SliceWise):
    """An array (z, y, x) with the object of each voxel, 0 for none; painted regions that are used lie on top.

    Making one takes time in proportion to hypotheses, reading in proportion to voxels that are read.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, view: View) -> None:
        made = view.reconstruction
        self.numbers = view.objects
        self._nodes = made.hypotheses().nodes
        z, y, x = self._nodes.shape
        self.shape = z, y, x
        self._table = label_table(self.numbers[: len(made.z)], made.parent)
        self._painted = [(self.numbers[number], region) for number, region in view.state.regions.items()
                         if self.numbers[number]]  # fmt: skip

    def _plane(self, z: int) -> NDArray[np.uint32]:
        plane: NDArray[np.uint32] = self._table[self._nodes[z]]
        for name, region in self._painted:
            if region.z == z:
                height, width = region.shape
                plane[region.y : region.y + height, region.x : region.x + width][region.mask] = name
        return plane
