"""Mesh: the objects in question as surfaces in 3-D, and where the doubtful place is."""

from collections.abc import Callable
from dataclasses import dataclass

import napari
import numpy as np
from napari.layers import Image, Points, Surface
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from napari_em_seg.errors import Cancelled
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.review.scene import Scene
from napari_em_seg.widgets.colours import DOUBTFUL, SOURCE, TARGET, rgb
from napari_em_seg.widgets.layers import placed_like, take_away

__all__ = ["DOUBTFUL_PLACE", "SURFACE", "Mesh", "Mesh3D", "mesh_of"]

SURFACE, DOUBTFUL_PLACE = "objects in question", "doubtful place"

_MOST = 256  # pixels along y and x that a mesh is made of


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles: corners (n, 3) in voxels of the image, faces (m, 3), a colour (n, 4) of each corner."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    colours: NDArray[np.float32]


def mesh_of(
    objects: ObjectVolume, coloured: dict[int, str], cancelled: Callable[[], bool] = lambda: False
) -> Mesh | None:
    """Return the surfaces of some objects, each in its colour; None where there is nothing of them.

    Slices are read one by one, thinned out to at most 256 pixels along each side, so that it takes a second
    even where the stack is large.
    """
    n_z, n_y, n_x = objects.shape
    step = max(1, -(-max(n_y, n_x) // _MOST))
    names = np.array(sorted(coloured), np.uint32)
    found = np.zeros((n_z, -(-n_y // step), -(-n_x // step)), np.uint8)
    for z in range(n_z):
        if cancelled():
            raise Cancelled("The mesh was cancelled")
        thin = objects[z][::step, ::step]
        for k, name in enumerate(names, 1):
            found[z][thin == name] = k
    parts, n = [], 0
    for k, name in enumerate(names, 1):
        mask = found == k
        if not mask.any():
            continue
        vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5)
        vertices = (vertices - 1) * (1, step, step)
        colour = np.tile(np.append(np.array(rgb(coloured[int(name)])) / 255, 1.0), (len(vertices), 1))
        parts.append((vertices, faces + n, colour))
        n += len(vertices)
    if not parts:
        return None
    vertices, faces, colours = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Mesh(vertices.astype(np.float32), faces.astype(np.int64), colours.astype(np.float32))


def coloured_objects(scene: Scene, objects: ObjectVolume) -> dict[int, str]:
    """Return the objects that a link is about, those of its alternatives too, each with its colour."""
    found: dict[int, str] = {}
    for choice in (*scene.alternatives[:3], scene.asked):
        for places, colour in ((choice.targets, TARGET), (choice.sources, SOURCE)):
            for place in places:
                name = int(objects.numbers[place.region])
                if name:
                    found[name] = colour
    return found


class Mesh3D:
    """The layers of a mesh in a viewer."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layers: list[Surface | Points] = []
        self._hidden: list = []

    @property
    def is_shown(self) -> bool:
        """Whether the viewer shows 3-D because of us."""
        return bool(self._hidden)

    def begin(self, flat: list) -> None:
        """Go to 3-D; the layers that only make sense as slices are hidden meanwhile."""
        self._hidden = [layer for layer in flat if layer in self._viewer.layers and layer.visible]
        for layer in self._hidden:
            layer.visible = False
        self._viewer.dims.ndisplay = 3
        self._viewer.scene.camera.angles = (0, 25, 60)

    def show(self, mesh: Mesh | None, scene: Scene, image: Image) -> None:
        """Show surfaces, and a point where the link is."""
        self._remove()
        like = placed_like(image)
        y, x, bottom, right = scene.box
        centre = np.array([[scene.z + 0.5, (y + bottom) / 2, (x + right) / 2]])
        if mesh is not None:
            surface = Surface(
                (mesh.vertices, mesh.faces), vertex_colors=mesh.colours, name=SURFACE, shading="smooth",
                opacity=0.75, **like,
            )  # fmt: skip
            self._layers.append(self._viewer.add_layer(surface))
        size = min(max(bottom - y, right - x, 12) / 3, 40)
        point = Points(
            centre, size=size, face_color=DOUBTFUL, border_color="black", name=DOUBTFUL_PLACE, **like,
            blending="translucent_no_depth", symbol="diamond",
        )  # fmt: skip
        self._layers.append(self._viewer.add_layer(point))
        self._viewer.layers.selection.active = image

    def end(self) -> None:
        """Go back to the slices."""
        self._remove()
        for layer in self._hidden:
            if layer in self._viewer.layers:
                layer.visible = True
        if self._hidden:
            self._viewer.dims.ndisplay = 2
        self._hidden = []

    def _remove(self) -> None:
        take_away(self._viewer, self._layers)
        self._layers = []
