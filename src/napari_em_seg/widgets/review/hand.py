"""By hand: links made of regions that are clicked on, and regions that are painted, where nothing fits."""

from collections.abc import Sequence

import napari
import numpy as np
from napari.layers import Labels

from napari_em_seg.review.added import cropped
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.review.scene import Choice, Place, place_of
from napari_em_seg.widgets.layers import placed_like
from napari_em_seg.widgets.review.canvas import Canvas
from napari_em_seg.widgets.review.desk import Desk

__all__ = ["PAINTED", "Hand"]

PAINTED = "hypothesis"


class Hand:
    """Collects what is clicked on or painted, and makes a link or a region of it.

    Parameters
    ----------
    viewer, canvas, desk
        Where, and of what.
    """

    def __init__(self, viewer: napari.Viewer, canvas: Canvas, desk: Desk) -> None:
        self._viewer, self._canvas, self._desk = viewer, canvas, desk
        self.is_linking = False
        self._picked: list[Place] = []
        self._paint: Labels | None = None

    # Links

    def begin_link(self) -> None:
        """Have clicks pick regions."""
        self.is_linking, self._picked = True, []
        self._show()

    def end_link(self) -> None:
        """Have clicks find links again."""
        self.is_linking, self._picked = False, []
        self._desk.preview(None)

    def pick(self, z: int, y: int, x: int) -> str:
        """Pick the region at a voxel, or let go of it; a second click takes the next larger one."""
        options = self._regions_at(z, y, x)
        if not options:
            return "There is no region here: paint one"
        held = [place for place in self._picked if place.region in options]
        for place in held:
            self._picked.remove(place)
        place_in_list = options.index(held[0].region) + 1 if held else self._first(options)
        if place_in_list < len(options):
            view = self._desk.sheet.view
            self._picked.append(place_of(view, options[place_in_list], view.objects))
        self._show()
        return self.words()

    def _regions_at(self, z: int, y: int, x: int) -> list[int]:
        """Return the regions that hold a voxel: painted ones, then the smallest and all that hold it."""
        view = self._desk.sheet.view
        painted = [
            number for number, region in view.state.regions.items()
            if region.z == z and 0 <= y - region.y < region.shape[0] and 0 <= x - region.x < region.shape[1]
            and region.mask[y - region.y, x - region.x]
        ]  # fmt: skip
        hypotheses = view.reconstruction.hypotheses()
        node = int(hypotheses.nodes[z, y, x])
        return painted + (hypotheses.path(node) if node >= 0 else [])

    def _first(self, options: Sequence[int]) -> int:
        """Return the one that is part of an object, if there is one."""
        numbers = self._desk.sheet.objects.numbers
        return next((i for i, region in enumerate(options) if numbers[region]), 0)

    def _sides(self) -> tuple[list[Place], list[Place]]:
        slices = sorted({place.z for place in self._picked})
        upper = slices[0] if len(slices) > 1 else self._canvas.slice_shown() if not slices else slices[0]
        return [p for p in self._picked if p.z == upper], [p for p in self._picked if p.z != upper]

    def words(self) -> str:
        """Say what is picked."""
        sources, targets = self._sides()
        if not self._picked:
            return "By hand: click on one or two regions in a slice, then on those in the next one"
        names = [" + ".join(f"{p.name} (slice {p.z})" for p in side) or "…" for side in (sources, targets)]
        return f"By hand: {names[0]} → {names[1]}"

    def make_link(self, *, replaces: bool) -> None:
        """Make a link of what is picked, in the place of the one asked about or of none."""
        sources, targets = self._sides()
        link = self._desk.link if replaces and self._desk.link != NO_LINK else None
        self._desk.add_link([p.region for p in sources], [p.region for p in targets], link)
        self.end_link()

    def _show(self) -> None:
        sources, targets = self._sides()
        self._desk.preview(Choice(NO_LINK, 0, tuple(sources), tuple(targets), 0.0) if self._picked else None)

    # Painted regions

    @property
    def is_painting(self) -> bool:
        """Whether there is a layer to paint on."""
        return self._paint is not None and self._paint in self._viewer.layers

    def begin_paint(self) -> None:
        """Add a layer to paint on; the regions asked about in this slice are on it, to be cut or mended."""
        image, z = self._canvas.image, self._canvas.slice_shown()
        data = np.zeros((self._canvas.n_slices, *image.data.shape[-2:]), np.uint8)
        scene = self._desk.scene
        for place in () if scene is None else scene.asked.places:
            if place.z == z:
                y, x, bottom, right = place.box
                data[z, y:bottom, x:right][place.mask] = 1
        self._paint = Labels(data, name=PAINTED, opacity=0.6, **placed_like(image))
        self._viewer.add_layer(self._paint)
        self._viewer.layers.selection.active = self._paint
        self._paint.selected_label, self._paint.brush_size = 1, 10
        self._paint.mode = "paint"

    def end_paint(self) -> None:
        """Take the layer away."""
        if self.is_painting:
            self._viewer.layers.remove(self._paint)
        self._paint = None
        if self._canvas.image is not None and self._canvas.image in self._viewer.layers:
            self._viewer.layers.selection.active = self._canvas.image

    def make_region(self) -> None:
        """Make a region of what is painted in the slice that is shown."""
        z = self._canvas.slice_shown()
        mask = np.asarray(self._paint.data[z]) > 0
        if not mask.any():
            self._desk.said.emit(f"Nothing is painted in slice {z}: go to the slice where you painted")
            return
        self._desk.add_region(z, *cropped(mask), self._on_region)
        self.end_paint()

    def _on_region(self, number: int) -> None:
        self._desk.said.emit(
            f"Region #{number} is there. To use it, press By hand and click on it and on what it goes on as"
        )
