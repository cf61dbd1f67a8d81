"""Canvas: the layers of a review and the view on them; outlines are drawn for the slice that is shown alone."""

from collections.abc import Iterable
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.review.scene import Choice, Place, Scene
from napari_em_seg.volume import SliceWise
from napari_em_seg.widgets.colours import ALTERNATIVE, SOURCE, TARGET
from napari_em_seg.widgets.layers import go_to_slice, marked, placed_like, slice_in_view, take_away
from napari_em_seg.widgets.review.drawing import outline

__all__ = ["ALTERNATIVES", "OBJECTS", "SOURCES", "TARGETS", "Canvas", "Marks"]

OBJECTS, SOURCES, TARGETS, ALTERNATIVES = "objects", "link source", "link target", "link alternative"

_HERE, _GHOST, _BEST = 1, 2, 3
_FILL = 0.35  # of the canvas is what is asked about


class Marks(SliceWise):
    """An array (z, y, x) that is 0 but for outlines of some regions; only what is read is drawn."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._drawn: dict[int, list[tuple[Place, int]]] = {}
        self._thickness = 1

    def draw(self, places: Iterable[tuple[Place, int, int]], thickness: int) -> None:
        """Show regions, each in a slice and with a value, and nothing else."""
        self._drawn, self._thickness = {}, thickness
        for place, z, value in places:
            self._drawn.setdefault(z, []).append((place, value))

    def _plane(self, z: int) -> NDArray[np.uint8]:
        plane = np.zeros(self.shape[1:], self.dtype)
        for place, value in self._drawn.get(z, ()):
            y, x, bottom, right = place.box
            plane[y:bottom, x:right][outline(place.mask, self._thickness)] = value
        return plane


class _Objects(SliceWise):
    """The objects of the solution that holds; another one takes its place without a new layer."""

    dtype = ObjectVolume.dtype

    def __init__(self, now: ObjectVolume) -> None:
        self.now, self.shape = now, now.shape

    def _plane(self, z: int) -> NDArray[np.uint32]:
        return self.now[z]


class Canvas:
    """Keeps the layers of a review in a viewer, and brings the view to what is asked about.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self.image: Image | None = None
        self._marks: dict[str, Marks] = {}
        self._layers: dict[str, Labels] = {}
        self._scene: Scene | None = None
        self.n_slices = 0

    def begin(self, image: Image, objects: ObjectVolume) -> None:
        """Show the objects of a session over its image, with room for outlines."""
        self.end()
        self.image, self.n_slices = image, objects.shape[0]
        colours = {SOURCES: SOURCE, TARGETS: TARGET, ALTERNATIVES: ALTERNATIVE}
        self._objects = _Objects(objects)
        self._layers[OBJECTS] = self._add(self._objects, OBJECTS, opacity=0.3)
        for name, colour in colours.items():
            self._marks[name] = Marks(objects.shape)
            self._layers[name] = self._add(self._marks[name], name, opacity=1.0, colormap=_two_shades(colour))
        self._viewer.layers.selection.active = image

    def end(self) -> None:
        """Take the layers away."""
        take_away(self._viewer, self._layers.values())
        self._layers.clear()
        self._marks.clear()
        self.image, self._scene = None, None

    def layer(self, name: str) -> Labels | None:
        """Return one of the layers, whatever the user calls it now; None if it was taken away."""
        found = self._layers.get(name)
        return found if found is not None and found in self._viewer.layers else None

    def _add(self, data: Any, name: str, **options: Any) -> Labels:
        role = marked("objects" if name == OBJECTS else "preview")
        layer = Labels(data, name=name, multiscale=False, metadata=role, **placed_like(self.image), **options)
        layer.editable = False
        self._viewer.add_layer(layer)
        return layer

    def show_objects(self, objects: ObjectVolume) -> None:
        """Colour the objects anew; each keeps the colour of its number."""
        layer, before = self.layer(OBJECTS), self._objects.now
        self._objects.now = objects
        if layer is not None and not np.array_equal(before.numbers, objects.numbers):
            layer.refresh(thumbnail=False, extent=False, highlight=False)

    def show(self, scene: Scene | None) -> None:
        """Outline the regions of a link, with ghosts of each side in the slice of the other; and go there.

        The ghost of the best alternative is on the layer of the source: one more layer would take more time.
        """
        self._scene = scene
        if self.image is None:
            return
        self.preview(None)
        if scene is not None:
            self._zoom_to(scene.box)
        thickness = self._thickness()
        asked, z = (None, 0) if scene is None else (scene.asked, scene.z)
        best = [] if scene is None else [
            (p, p.z, _BEST) for choice in scene.alternatives[:1] for p in choice.places
        ]  # fmt: skip
        for name, side, own, other in ((SOURCES, "sources", 0, 1), (TARGETS, "targets", 1, 0)):
            places = () if asked is None else getattr(asked, side)
            drawn = [(p, z + other, _GHOST) for p in places] + [(p, z + own, _HERE) for p in places]
            self._marks[name].draw(best + drawn if name == SOURCES else drawn, thickness)
        if scene is None or not self._go_to_slice(scene.z):  # which draws all layers anew
            self._refresh(SOURCES, TARGETS)

    def preview(self, choice: Choice | None) -> None:
        """Outline what an alternative would have; None: nothing."""
        if self._scene is None or self.image is None:
            return
        places = () if choice is None else choice.places
        layer, marks = self.layer(ALTERNATIVES), self._marks[ALTERNATIVES]
        marks.draw([(place, place.z, _HERE) for place in places], self._thickness())
        if layer is None:
            return
        if layer.visible == bool(places):
            self._refresh(*([ALTERNATIVES] if places else []))
        layer.visible = bool(places)  # while nothing is there, it need not be sliced

    def _refresh(self, *names: str) -> None:
        for name in names:
            layer = self.layer(name)
            if layer is not None:
                layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _thickness(self) -> int:
        """Return how many pixels of the image are three of the screen."""
        return max(1, round(3 / max(self._viewer.scene.camera.zoom * float(self.image.scale[-1]), 1e-6)))

    def _go_to_slice(self, z: int) -> bool:
        """Show a slice; return whether that was another one than before."""
        z = min(max(z, 0), self.n_slices - 1)
        if self._viewer.dims.ndisplay != 2 or self.slice_shown() == z:
            return False
        go_to_slice(self._viewer, self.image, z)
        return True

    def _zoom_to(self, box: tuple[int, int, int, int]) -> None:
        """Bring a box into the middle, as large as lets one see what is around it."""
        if self._viewer.dims.ndisplay != 2:
            return
        y, x, bottom, right = box
        camera, scale = self._viewer.scene.camera, np.abs(self.image.scale[-2:])
        canvas = np.array(self._viewer.canvas.size)
        camera.zoom = float((_FILL * canvas / (np.maximum((bottom - y, right - x), 40) * scale)).min())
        half = canvas / camera.zoom / scale / 2
        middle = [
            float(np.clip(v, reach, length - reach)) if 2 * reach < length else length / 2
            for v, reach, length in zip(
                ((y + bottom) / 2, (x + right) / 2), half, self._objects.shape[1:], strict=True
            )
        ]  # what lies beyond the image is not worth the room
        camera.center = tuple(float(v) for v in self.image.data_to_world((0, *middle))[-3:])

    def look_at_all(self, lowest: NDArray[np.floating], highest: NDArray[np.floating]) -> None:
        """In 3-D, bring a box of voxels into view as a whole."""
        low, high = (np.array(self.image.data_to_world(corner)) for corner in (lowest, highest))
        camera = self._viewer.scene.camera
        camera.center = tuple((low + high) / 2)
        camera.zoom = float(0.8 * min(self._viewer.canvas.size) / max(np.linalg.norm(high - low), 1e-6))

    def slice_shown(self) -> int:
        """Return the slice of the image that is shown."""
        return slice_in_view(self._viewer, self.image)


def _two_shades(colour: str) -> DirectLabelColormap:
    return DirectLabelColormap(
        color_dict={
            None: "transparent",
            0: "transparent",
            _HERE: colour,
            _GHOST: colour + "70",
            _BEST: ALTERNATIVE + "90",
        }
    )
