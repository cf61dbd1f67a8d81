"""Dock "Segment": boundaries or affinities to segments; live sliders, before and after, undo."""

from typing import Any

import napari
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout

from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.pipeline.adjustable import Cut, Parts, PartsRecipe, Segmented, parts_of
from napari_em_seg.pipeline.config import STEPS, step_of
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import (
    affinities_of,
    marked,
    pixel_at,
    placed_like,
    refuse_half,
    role_of,
    volume_of_layer,
)
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button
from napari_em_seg.widgets.segment.controls import METHODS, Cutting, Making
from napari_em_seg.widgets.segment.history import History, Setting

__all__ = ["SEGMENTS", "SegmentWidget"]

SEGMENTS = "segments"

_ONE_CHANGE_MS = 500  # what is changed without such a pause is one step to undo
_PREDICTED = ("boundary", "affinities")


class SegmentWidget(Panel):
    """Segments a predicted map, and adjusts the segments while one looks at them.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._is_source_chosen = False
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_ONE_CHANGE_MS)
        self._build()
        self._forget()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.making = Making()
        self.go = button("Segment", "Find the parts of which every setting below is a look-up")
        self.cutting = Cutting()
        self.before = button(
            "Before (hold)",
            "Hold it, or the space bar, to see the segments before the last change; at first, the parts",
        )
        self.undo = button("Undo", "Take the last change back; the last two runs are kept")
        self.redo = button("Redo", "Make the change again that was undone")
        self.keep = button("Keep a copy", "Add a layer of these segments, which can be painted")
        self.count = QLabel()
        self.count.setWordWrap(True)
        row = QGridLayout()
        for place, one in enumerate((self.before, self.undo, self.redo, self.keep)):
            row.addWidget(one, 0, place)
        layout = QVBoxLayout(self)
        for one in (self.making, self.go, self.cutting):
            layout.addWidget(one)
        layout.addLayout(row)
        layout.addWidget(self.count)
        layout.addStretch(1)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.making.source.activated.connect(self._on_source_chosen)
        for box in (self.making.source, self.making.method, self.making.score):
            box.currentIndexChanged.connect(self._enable)
        self.go.clicked.connect(self._on_go)
        self.cutting.changed.connect(self._on_change)
        self._pause.timeout.connect(self._note_change)
        self.before.pressed.connect(self._on_before_pressed)
        self.before.released.connect(self._on_before_released)
        self.undo.clicked.connect(self._on_undo)
        self.redo.clicked.connect(self._on_redo)
        self.keep.clicked.connect(self._on_keep)

    # Layers

    def on_layers(self) -> None:
        """Offer the layers that are there, the latest predicted one first; work on one that is gone ends."""
        layers = self._viewer.layers
        maps = [x for x in reversed(layers) if isinstance(x, Image) and x.ndim == 3 and not x.rgb]
        maps.sort(key=lambda x: role_of(x) not in _PREDICTED)
        self.making.source.offer(maps)
        if maps and not self._is_source_chosen:
            self.making.source.choose(maps[0])
        if any(layer not in layers for _, layer in self._claims):
            self._on_cancel()
        if self.result is not None and self.result not in layers:
            self._forget()
        self._enable()

    def _on_source_chosen(self, _place: int) -> None:
        layer, self._is_source_chosen = self.making.source.layer, True
        if layer is not None and role_of(layer) not in _PREDICTED:
            self.say(f"{layer.name} is taken for a boundary map; the dock Predict makes one of an image")

    def _enable(self, _place: int = 0) -> None:
        is_idle, there = not self.is_busy, self._shown
        self.cutting.show_slider(self.making.recipe if there is None else there.parts.recipe)
        self.go.setEnabled(is_idle and self.making.source.layer is not None)
        self.before.setEnabled(there is not None)
        self.undo.setEnabled(self.history.before is not None or self._is_changed)
        self.redo.setEnabled(self.history.after is not None and not self._is_changed)
        self.keep.setEnabled(is_idle and there is not None)

    def _forget(self) -> None:
        """Begin anew; the layer stays as it is, if it is still there."""
        self._pause.stop()
        self.result: Labels | None = None
        self.history = History()
        self._shown: Setting | None = None  # what is in the layer, whether it is in the history yet or not
        self._segmented: tuple[Image, Any] | None = None  # the layer, and the array that was segmented
        self.count.clear()

    # Parts

    def _on_go(self) -> None:
        layer, recipe = self.making.source.layer, self.making.recipe
        try:
            refuse_half(layer)
            volume = volume_of_layer(layer)
            _refuse_unknown_size(volume, recipe)
        except EmSegError as error:
            self.on_failed(error)
            return
        affinities = affinities_of(layer)
        segmented = (layer, layer.data if affinities is None else affinities)
        is_again = self._shown is not None and all(
            a is b for a, b in zip(segmented, self._segmented, strict=True)
        )
        before = self._shown.parts if is_again else None
        maps = PredictedMaps(volume if affinities is None else affinities)
        place = placed_like(layer)

        def work(**options: Any) -> Parts:
            return parts_of(maps, recipe, voxel_size_nm=volume.voxel_size_nm, before=before, **options)

        def done(parts: Parts) -> None:
            if layer in self._viewer.layers:
                self._on_parts(segmented, place, parts)

        self.start("Segmentation", work, layer=layer, done=done)

    def _on_parts(self, segmented: tuple[Image, Any], place: dict[str, Any], parts: Parts) -> None:
        """Show new segments: in place of those of the same map, or in a layer of their own."""
        self._note_change()
        if self._segmented is None or self._segmented[0] is not segmented[0]:
            self._forget()
        self._segmented = segmented
        setting = Setting(parts, self.cutting.cut(parts.recipe))
        if self.result is None:
            data = self._data(setting)
            layer = Labels(
                data, name=SEGMENTS, multiscale=False, opacity=0.5, metadata=marked("segments"), **place
            )
            self._shown, self.result = setting, layer
            layer.editable = False
            for other in self._viewer.layers:  # all at once nothing can be told apart
                other.visible &= role_of(other) != "segments"
            self._viewer.add_layer(layer)
        self.history.put(setting)
        self._show(setting)
        self.say("Move the slider, and the segments follow; click on one for its size")

    # Settings

    @property
    def _is_changed(self) -> bool:
        """Whether there is a change that is not in the history yet."""
        return self._shown is not None and self._shown != self.history.now

    def _data(self, setting: Setting) -> Segmented:
        return setting.parts.at(setting.cut)

    def _put(self, data: Segmented) -> None:
        """Show segments; each cut is another array, so that whoever still reads the last one gets it whole."""
        if self.result is not None:
            self.result.data = data
            self.result.editable = False  # a look-up cannot be painted

    def _show(self, setting: Setting, *, is_filled_in: bool = True) -> None:
        self._shown = setting
        if is_filled_in:
            self.cutting.show_cut(setting.parts.recipe, setting.cut)
        data = self._data(setting)
        self._put(data)
        self.result.metadata = _described(setting, self._segmented[0])
        name = next(name for name, method in METHODS.items() if method == setting.parts.recipe.method)
        self.count.setText(f"{name}: {data.n_segments:,} segments of {len(setting.parts.sizes) - 1:,} parts")
        self._enable()

    def _on_change(self) -> None:
        if self._shown is not None:
            parts = self._shown.parts
            self._show(Setting(parts, self.cutting.cut(parts.recipe)), is_filled_in=False)
            self._pause.start()

    def _note_change(self) -> None:
        """Make a step of what was changed, to go back to."""
        self._pause.stop()
        if self._shown is not None:
            self.history.put(self._shown)
            self._enable()

    def _on_undo(self) -> None:
        self._note_change()
        self.history.undo()
        self._show(self.history.now)

    def _on_redo(self) -> None:
        self.history.redo()
        self._show(self.history.now)

    def _on_before_pressed(self) -> None:
        before = self.history.now if self._is_changed else self.history.before
        self._put(self._data(before or Setting(self._shown.parts, Cut(0.0))))

    def _on_before_released(self) -> None:
        if self._shown is not None:
            self._put(self._data(self._shown))

    # What becomes of it

    def _on_keep(self) -> None:
        layer, setting = self.result, self._shown
        recipe = setting.parts.recipe
        how = recipe.score if recipe.method == "zwatershed" else "h"
        name, data = f"{layer.name}, {how} {setting.cut.level:.3g}", self._data(setting)

        def done(whole: Any) -> None:
            if layer in self._viewer.layers:
                copy = Labels(whole, name=name, multiscale=False, opacity=0.5, visible=False,
                              metadata=marked("segments"), **placed_like(layer))  # fmt: skip
                self._viewer.layers.insert(self._viewer.layers.index(layer), copy)
                self.say(f"{copy.name} can be painted; it is hidden below {layer.name}")

        self.start("Copying", data.whole, layer=layer, done=done)

    def wants_clicks(self) -> bool:
        """Whether clicks ask for the size of a segment."""
        return self.result is not None and self.result.visible

    def on_click(self, position: tuple[float, ...]) -> None:
        """Tell the size of the segment at a place of the world."""
        place = pixel_at(self.result, position)
        if place is not None:
            data = self._data(self._shown)
            label = int(data[place])
            self.say(f"Segment {label}: {data.sizes[label]:,} voxels" if label else "There is no segment here")

    # Work

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Stopped; the segments are as they were"

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def let_go(self) -> None:
        """Change the segments no longer; the layer stays."""
        self._pause.stop()


def _refuse_unknown_size(volume: Volume, recipe: PartsRecipe) -> None:
    if (recipe.method, recipe.score) == ("zwatershed", "learned") and volume.voxel_size_nm is None:
        raise DataError(f"The voxel size of {volume.name} is unknown, and the learned score looks at lengths",
                        "a voxel size in nm", "Set it in the dock Voxel size, or merge by mean")  # fmt: skip


def _described(setting: Setting, source: Image) -> dict[str, Any]:
    """Return the metadata of the layer: how it was made; with the merges all thresholds can be evaluated."""
    parts = setting.parts
    more = {} if parts.tree is None else {"merge tree": parts.tree, "supervoxels": parts.labels}
    if STEPS in source.metadata:
        more[STEPS] = [*source.metadata[STEPS], step_of(parts.recipe, cut=setting.cut)]
    return marked("segments", **more)
