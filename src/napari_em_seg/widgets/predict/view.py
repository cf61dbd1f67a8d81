"""What somebody sees of a layer, as a box of voxels, and where a layer of a box of it lies."""

import napari
import numpy as np
from napari.layers import Layer

from napari_em_seg.predict.tiling import Box
from napari_em_seg.widgets.layers import shape_of, slice_in_view

__all__ = ["box_in_view", "corner_of"]


def box_in_view(viewer: napari.Viewer, layer: Layer) -> Box:
    """Return the slice in view, and the rows and columns of it that are on the screen; all of them in 3-D."""
    z = slice_in_view(viewer, layer)
    whole = tuple(slice(0, n) for n in shape_of(layer)[1:])
    dims, camera = viewer.dims, viewer.scene.camera
    if dims.ndisplay != 2 or tuple(dims.displayed) != (dims.ndim - 2, dims.ndim - 1):
        return (slice(z, z + 1), *whole)
    half = np.array(viewer.canvas.size) / camera.zoom / 2
    middle, point = np.array(camera.center[-2:]), np.array(dims.point[-3:])
    corners = [layer.world_to_data((point[0], *(middle + side * half)))[1:] for side in (-1, 1)]
    low, high = np.sort(corners, axis=0)
    parts = [
        slice(max(0, int(first)), min(every.stop, int(np.ceil(last)) + 1))
        for first, last, every in zip(low, high, whole, strict=True)
    ]
    is_on_screen = all(part.start < part.stop for part in parts)
    return (slice(z, z + 1), *(parts if is_on_screen else whole))


def corner_of(layer: Layer, box: Box) -> tuple[float, ...]:
    """Return the ``translate`` of a layer that holds a box of another one and else lies like it."""
    world = layer.data_to_world([part.start for part in box])
    return tuple(float(length) for length in layer.affine.inverse(world[-3:]))
