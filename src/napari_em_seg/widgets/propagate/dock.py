"""Dock "Propagate": seeds on a slice, a live preview, confidences, corrections, and what is accepted."""

from collections.abc import Callable

import napari
import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QGridLayout, QVBoxLayout

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.pipeline import Propagation
from napari_em_seg.pipeline.propagation import Direction, confidence_table
from napari_em_seg.review.conflicts import conflicts_of, without_margins
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import (
    Role,
    go_to_slice,
    marked,
    pixel_at,
    placed_like,
    role_of,
    shape_of,
    slice_in_view,
    volume_of_layer,
)
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button, check, choice, form, remember, whole_number
from napari_em_seg.widgets.propagate.strip import Strip

__all__ = ["PROPAGATED", "SEEDS", "PropagateWidget"]

SEEDS, PROPAGATED = "seeds", "propagated"
_DIRECTIONS = {"both directions": "both", "up (to higher slices)": "up", "down (to lower slices)": "down"}


class PropagateWidget(Panel):
    """Follows seeded objects through a stack.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.result: Labels | None = None
        self.confidence: dict[int, dict[int, float]] = {}
        self._reference, self._chosen = 0, 0
        # By the number of the operation in the session: what was accepted, its masks, and how sure they were.
        self._accepted: dict[int, tuple[int, dict[int, NDArray[np.bool_]], dict[int, float]]] = {}
        self._sections: tuple[str, int, NDArray[np.uint32]] | None = None
        self._waiting: list[tuple[int, Callable[[NDArray[np.uint32]], object]]] = []
        self._is_clicking = False
        self._build()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.image, self.seeds = LayerBox(), LayerBox("none yet: paint or click some")
        self.image.setToolTip("The stack; its voxel size has to be known")
        self.seeds.setToolTip("Labels with one number for each object on the reference slice")
        self.way = choice("Where to go from the reference slice", list(_DIRECTIONS))
        self.model = choice(
            "The network; auto takes the one whose voxels are nearest in size",
            ["auto", *pipeline.model_names("propagator")],
        )
        self.extent = whole_number("How many slices to go in each direction; 0: to the ends of the stack",
                                   0, 100_000, 10, unit="slices", special="to the ends")  # fmt: skip
        self.reference = whole_number("The slice where the seeds are; −1: the one in view",
                                      -1, 100_000, -1, special="the one in view")  # fmt: skip
        self.membranes = check(
            "End at membranes",
            "Each slice is cut into sections at its membranes, and each goes to one object, or to none, as a "
            "whole; else objects end where the network says, which is quicker",
            is_on=True,
        )
        rows = form({
            "Image": self.image, "Seeds": self.seeds, "Reference slice": self.reference, "Direction": self.way,
            "Extent": self.extent, "Model": self.model, "": self.membranes,
        })  # fmt: skip
        remember("propagate", {"direction": self.way, "extent": self.extent, "model": self.model,
                               "membranes": self.membranes})  # fmt: skip
        self.new_seeds = button("Paint seeds", "Add a layer for seeds, and take the brush")
        self.click_seeds = button("Click seeds", "Each click seeds the section under it, one object each")
        self.click_seeds.setCheckable(True)
        self.all_seeds = button("Seed all", "Seed every section that a watershed of this slice finds")
        self.go = button("Propagate", "Follow the seeds; the slices appear as they are done")
        self.again = button("Continue from here", "Correct this slice with the brush, then follow on from it")
        self.accept = button(
            "Accept object", "Take the object that is marked into the session: one step to undo"
        )
        self.accept_all = button("Accept all", "Take all objects into the session, one step each")
        self.reject = button("Reject object", "Take the object that is marked out of the layer")
        self.keep = button("Keep as layer", "Leave the layer as it is, and begin anew beside it")
        self.strip = Strip()
        grid = QGridLayout()
        for place, one in enumerate((self.new_seeds, self.click_seeds, self.all_seeds)):
            grid.addWidget(one, 0, place)
        grid.addWidget(self.go, 1, 0, 1, 2)
        grid.addWidget(self.again, 1, 2)
        below = QGridLayout()
        for place, one in enumerate((self.accept, self.accept_all, self.reject, self.keep)):
            below.addWidget(one, place // 2, place % 2)
        layout = QVBoxLayout(self)
        layout.addLayout(rows)
        layout.addLayout(grid)
        layout.addWidget(self.strip, 1)
        layout.addLayout(below)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.image.activated.connect(self._on_image)
        self.seeds.currentIndexChanged.connect(self._enable)
        self.new_seeds.clicked.connect(self.add_seeds)
        self.click_seeds.toggled.connect(self._on_click_seeds)
        self.all_seeds.clicked.connect(self._on_seed_all)
        self.go.clicked.connect(self._on_go)
        self.again.clicked.connect(self._on_again)
        self.accept.clicked.connect(lambda: self._accept([self._chosen]))
        self.accept_all.clicked.connect(lambda: self._accept(sorted(self.confidence)))
        self.reject.clicked.connect(self._on_reject)
        self.keep.clicked.connect(self._on_keep)
        self.strip.chosen.connect(self._on_cell)
        self._viewer.dims.events.current_step.connect(self._on_slice)
        self.state.models_changed.connect(self._on_models)
        self.state.changed.connect(self._on_session)

    # Layers

    def on_layers(self) -> None:
        """Offer the layers that are there."""
        layers, before = self._viewer.layers, self.image.layer
        stacks = [x for x in layers if isinstance(x, Image) and x.ndim == 3 and not x.rgb and not role_of(x)]
        labels = [x for x in layers if isinstance(x, Labels) and x.ndim == 3 and x.editable]
        self.image.offer(stacks)
        if before is None and self.state.image in stacks:
            self.image.choose(self.state.image)
        self.seeds.offer(labels)
        if self.result is not None and self.result not in self._viewer.layers:
            self._forget()
        self._enable()

    def _on_image(self, _place: int) -> None:
        self.state.image = self.image.layer
        self._mark()

    def _enable(self, _place: int = 0) -> None:
        is_idle = not self.is_busy
        has_image = self.image.layer is not None
        for one in (self.new_seeds, self.click_seeds, self.all_seeds):
            one.setEnabled(is_idle and has_image)
        self.go.setEnabled(is_idle and has_image and self.seeds.layer is not None)
        for one in (self.again, self.accept, self.accept_all, self.reject, self.keep):
            one.setEnabled(is_idle and self.result is not None)

    def _layer_like_image(self, data: NDArray[np.generic], name: str, role: Role = "") -> Labels:
        layer = Labels(data, name=name, opacity=0.5, metadata=marked(role), **placed_like(self.image.layer))
        return self._viewer.add_layer(layer)

    def add_seeds(self) -> Labels:
        """Add a layer for seeds, and take the brush."""
        layer = self._layer_like_image(np.zeros(shape_of(self.image.layer), np.uint32), SEEDS)
        layer.selected_label, layer.brush_size = 1, 20
        self._viewer.layers.selection.active = layer
        self.seeds.choose(layer)
        layer.mode = "paint"
        self.say("Paint one object, press M for a new number, paint the next one; then Propagate")
        return layer

    def _slice_in_view(self) -> int:
        return slice_in_view(self._viewer, self.image.layer)

    def reference_slice(self) -> int:
        """Return the slice where the seeds are: typed, or the one in view."""
        return self.reference.value() if self.reference.value() >= 0 else self._slice_in_view()

    def _where_seeds_are(self, z: int) -> int:
        """Return the reference slice; if none was typed and it has no seeds, the only slice that has some."""
        data = self.seeds.layer.data
        if self.reference.value() >= 0 or z >= len(data) or data[z].any():
            return z
        seeded = [k for k in range(len(data)) if data[k].any()]
        return seeded[0] if len(seeded) == 1 else z

    # Seeds from the watershed

    def _with_sections(self, then: Callable[[NDArray[np.uint32]], object]) -> None:
        """Call with the sections of the reference slice, once a watershed has found them."""
        layer, z = self.image.layer, self.reference_slice()
        if self._sections is not None and self._sections[:2] == (layer.name, z):
            then(self._sections[2])
            return
        self._waiting.append((z, then))
        if len(self._waiting) > 1:  # clicks that come while it is being looked for
            return
        try:
            volume = volume_of_layer(layer)
        except EmSegError as error:
            self.on_failed(error)
            return

        device = self.state.device

        def done(found: NDArray[np.uint32]) -> None:
            self._sections = (layer.name, z, found)
            waiting, self._waiting = self._waiting, []
            for its_slice, one in waiting:
                if its_slice == z:
                    one(found)

        self.start("Looking for sections", lambda **_: pipeline.watershed_seeds(volume, z, device=device),
                   layer=layer, done=done)  # fmt: skip

    def on_failed(self, error: BaseException) -> None:
        """Tell of an error; who waited for sections waits no longer."""
        self._waiting = []
        super().on_failed(error)

    def _seeds_layer(self) -> Labels:
        layer = self.seeds.layer
        if layer is None or layer is self.result or layer.data.shape != shape_of(self.image.layer):
            layer = self.add_seeds()
            layer.mode = "pan_zoom"
        return layer

    def _on_seed_all(self) -> None:
        z = self.reference_slice()

        def then(found: NDArray[np.uint32]) -> None:
            layer = self._seeds_layer()
            layer.data[z] = found
            layer.refresh()
            self.say(f"{len(np.unique(found)) - 1} sections on slice {z}")

        self._with_sections(then)

    def _on_click_seeds(self, is_on: bool) -> None:
        self._is_clicking = is_on
        if is_on:
            self._seeds_layer().mode = "pan_zoom"
            self.say("Click on a section to seed it, and again to let go of it")

    def wants_clicks(self) -> bool:
        """Whether clicks seed sections."""
        return self._is_clicking and self.image.layer is not None

    def owns_clicks(self) -> bool:
        """Whether sections are being clicked on."""
        return self.wants_clicks()

    def on_click(self, position: tuple[float, ...]) -> None:
        """Seed the section at a place of the world, or let go of it."""
        place = pixel_at(self.image.layer, position)
        if place is None:
            return
        z, y, x = place
        if z != self.reference_slice():
            self.say(f"The reference slice is {self.reference_slice()}")
            return

        def then(found: NDArray[np.uint32]) -> None:
            layer, section = self._seeds_layer(), found[y, x]
            if not section:
                self.say("There is membrane here")
                return
            is_there = layer.data[z][y, x] > 0
            number = 0 if is_there else int(layer.data.max()) + 1
            layer.data[z][found == section] = number
            layer.refresh()

        self._with_sections(then)

    # Following

    def _on_go(self) -> None:
        layer, z = self.seeds.layer, self.reference_slice()
        if self.result is not None and layer is self.result:
            self._on_again()
            return
        z = self._where_seeds_are(z)
        self._reference = z
        if self.result is not None and self.result in self._viewer.layers:
            self._viewer.layers.remove(self.result)
        self._forget()
        self._follow(np.asarray(layer.data[z]) if z < len(layer.data) else np.zeros((0, 0), int), z,
                     _DIRECTIONS[self.way.currentText()])  # fmt: skip

    def _on_again(self) -> None:
        """Follow on from the slice in view, as it is now, away from the reference slice."""
        z = self._slice_in_view()
        direction = "both" if z == self._reference else "up" if z > self._reference else "down"
        self._follow(np.asarray(self.result.data[z]), z, direction)

    def _follow(self, seeds: NDArray[np.generic], z: int, direction: Direction) -> None:
        image = self.image.layer
        try:
            volume = volume_of_layer(image)
            if seeds.shape != volume.shape[1:]:
                raise DataError(f"The seeds on slice {z} are of the shape {seeds.shape}",
                                f"{volume.shape[1:]}, as the image", "Choose seeds of this image")  # fmt: skip
        except EmSegError as error:
            self.on_failed(error)
            return
        model, extent = self.model.currentText(), self.extent.value() or None
        wanted = Propagation(
            z, model, device=self.state.device, direction=direction, extent=extent,
            follows_membranes=self.membranes.isChecked(),
        )  # fmt: skip
        seeds = np.array(seeds, np.uint32)

        def work(**options) -> None:
            for one in pipeline.propagate(volume, seeds, wanted, **options):
                self.work.tell(lambda one=one: self._on_slice_done(volume, one))

        self.start("Propagation", work, layer=image, done=lambda _: self.say(self._summary()))

    def _on_slice_done(self, volume: Volume, one) -> None:
        if self.result is None:
            self.result = self._layer_like_image(np.zeros(volume.shape, np.uint32), PROPAGATED, "propagated")
            self._viewer.layers.selection.active = self.result
            self.result.mode = "pan_zoom"
        self.result.data[one.z] = one.labels
        for name, by_slice in self.confidence.items():
            if name not in one.confidence:
                by_slice.pop(one.z, None)
        for name, value in one.confidence.items():
            self.confidence.setdefault(name, {})[one.z] = value
        self.result.refresh(thumbnail=False, extent=False)
        self._show_strip()

    def _show_strip(self) -> None:
        names = sorted(self.confidence)
        n = 0 if self.result is None else len(self.result.data)
        self.strip.show_table(names, confidence_table(self.confidence, n))
        self._mark()

    def _mark(self) -> None:
        names = sorted(self.confidence)
        row = names.index(self._chosen) if self._chosen in names else -1
        z = self._slice_in_view() if self.image.layer is not None else -1
        self.strip.mark(row, z)

    def _summary(self) -> str:
        doubtful = [
            (value, name, z)
            for name, by_slice in self.confidence.items()
            for z, value in by_slice.items()
            if value > 0
        ]
        if not doubtful:
            return "Nothing was followed"
        value, name, z = min(doubtful)
        return f"{len(self.confidence)} objects; the least sure is object {name} in slice {z} ({value:.0%})"

    # What becomes of it

    def _on_cell(self, row: int, z: int) -> None:
        self._chosen = sorted(self.confidence)[row]
        image = self.image.layer
        go_to_slice(self._viewer, image, z)
        if self.result is not None:
            self.result.selected_label = self._chosen
            where = np.argwhere(np.asarray(self.result.data[z]) == self._chosen)
            if len(where):
                y, x = where.mean(axis=0)
                self._viewer.scene.camera.center = tuple(float(v) for v in image.data_to_world((z, y, x))[-3:])
        self._mark()

    def _accept(self, names: list[int]) -> None:
        desk = self.state.desk
        if desk is None:
            self.say("Open a session in the dock Review links first; objects are accepted into it")
            return
        if not set(names) & set(self.confidence):
            self.say("Click on a row of the strip first, to choose an object")
            return
        if tuple(desk.sheet.objects.shape) != tuple(self.result.data.shape):
            self.say("The session is about a stack of another shape")
            return
        for name in names:
            masks = without_margins(desk.sheet.objects, self._masks_of(name))
            met = conflicts_of(desk.sheet.view, masks)
            if met:
                objects = ", ".join(sorted({str(one.object) for one in met}))
                slices = ", ".join(sorted({str(one.z) for one in met}, key=int))
                self.say(
                    f"Object {name} overlaps accepted objects ({objects}) in slices {slices}; nothing was "
                    "changed. Correct it, or undo those"
                )
                return
            desk.add_object(masks, lambda done, name=name: self._on_accepted(name, done.id))

    def _masks_of(self, name: int) -> dict[int, NDArray[np.bool_]]:
        """Return the masks of an object in the slices around the reference slice that it runs through."""
        data = self.result.data
        found = {}
        for way in (range(self._reference, len(data)), range(self._reference - 1, -1, -1)):
            for z in way:
                mask = np.asarray(data[z]) == name
                if not mask.any():
                    break
                found[z] = mask
        return found

    def _on_accepted(self, name: int, operation: int) -> None:
        self._accepted[operation] = name, self._masks_of(name), self.confidence.get(name, {})
        self._take_out(name)
        self.say(f"Object {name} was accepted into the session; undo there takes it back")

    def _on_session(self) -> None:
        """Give back objects whose acceptance was undone in the session; take those out that were done again."""
        desk = self.state.desk
        if desk is None or self.result is None:
            return
        done = desk.sheet.view.state.done
        for operation, (name, masks, confidence) in self._accepted.items():
            if operation in done and name in self.confidence:
                self._take_out(name)
            elif operation not in done and name not in self.confidence:
                for z, mask in masks.items():
                    self.result.data[z][mask & (self.result.data[z] == 0)] = name
                self.confidence[name] = confidence
                self.result.refresh()
                self._show_strip()

    def _on_reject(self) -> None:
        if self._chosen not in self.confidence:
            self.say("Click on a row of the strip first, to choose an object")
            return
        self.say(f"Object {self._chosen} was taken out of the layer")
        self._take_out(self._chosen)

    def _take_out(self, name: int) -> None:
        if self.result is not None:
            self.result.data[self.result.data == name] = 0
            self.result.refresh()
        self.confidence.pop(name, None)
        self._chosen = 0 if self._chosen == name else self._chosen
        self._show_strip()

    def _on_keep(self) -> None:
        self.say(f"The layer {self.result.name} stays")
        self._forget()
        self._enable()

    def _forget(self) -> None:
        self.result, self.confidence, self._chosen, self._accepted = None, {}, 0, {}
        self.strip.show_table([], np.zeros((0, 0), np.float32))

    # Work

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Stopped; what is done stays"

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def _on_models(self) -> None:
        """Offer propagators that have come."""
        known = [self.model.itemText(place) for place in range(self.model.count())]
        self.model.addItems([name for name in pipeline.model_names("propagator") if name not in known])

    def _on_slice(self, _event: object = None) -> None:
        if self.image.layer is not None:
            self._mark()

    def let_go(self) -> None:
        """Follow the viewer no longer; layers stay."""
        self._viewer.dims.events.current_step.disconnect(self._on_slice)
        self.state.models_changed.disconnect(self._on_models)
        self.state.changed.disconnect(self._on_session)
