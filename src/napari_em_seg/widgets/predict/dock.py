"""Dock "Predict": a preview of what is in view, and a map that grows where one looks."""

from collections.abc import Callable

import napari
import numpy as np
from napari.layers import Image
from napari.utils import Colormap
from qtpy.QtCore import QEvent
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QGridLayout, QVBoxLayout

from napari_em_seg import pipeline
from napari_em_seg.errors import EmSegError
from napari_em_seg.pipeline import Prediction
from napari_em_seg.pipeline import lazy_prediction as lazy
from napari_em_seg.pipeline.config import STEPS, step_of
from napari_em_seg.pipeline.prediction import resolved
from napari_em_seg.predict.tiling import Box
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.colours import SOURCE, rgb
from napari_em_seg.widgets.layers import marked, placed_like, unread_volume_of, volume_of_layer
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button
from napari_em_seg.widgets.predict.options import Options
from napari_em_seg.widgets.predict.view import box_in_view, corner_of

__all__ = ["PREVIEW", "PredictWidget"]

PREVIEW = "preview"
_NAMES = {"boundary": "boundary", "affinity": "affinities"}  # of the layers, which are their roles as well


class PredictWidget(Panel):
    """Predicts boundary maps and affinities.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.prediction: lazy.LazyPrediction | None = None
        self.result: Image | None = None
        self.preview: Image | None = None
        self._image: Image | None = None  # that is predicted from
        self._looking_at: Box = (slice(0, 1),) * 3
        self._pointer, self._has_loaded = QCursor.pos(), False
        self._build()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.options = Options(self.state)
        self.go_preview = button(
            "Preview",
            "Predict what you see of this slice with one view: at most 1024×1024 pixels, or 256×256 with a "
            "model for affinities",
        )
        self.go = button("Predict", "Predict the whole stack into a new layer, first where you look")
        self.go_on = button("Go on", "Predict what Cancel left out")
        row = QGridLayout()
        for place, one in enumerate((self.go_preview, self.go, self.go_on)):
            row.addWidget(one, 0, place)
        layout = QVBoxLayout(self)
        layout.addWidget(self.options, 1)
        layout.addLayout(row)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.options.changed.connect(self._enable)
        self.options.find.clicked.connect(lambda: self._find(lambda: None))
        self.go_preview.clicked.connect(self._on_preview)
        self.go.clicked.connect(self._on_predict)
        self.go_on.clicked.connect(self._predict_blocks)
        self._viewer.dims.events.current_step.connect(self._on_look)
        self._viewer.scene.camera.events.connect(self._on_look)

    def let_go(self) -> None:
        """Follow the viewer no longer; layers stay."""
        self.options.let_go()
        self._viewer.dims.events.current_step.disconnect(self._on_look)
        self._viewer.scene.camera.events.disconnect(self._on_look)

    # Layers

    def on_layers(self) -> None:
        """Offer the images that are there; a prediction whose layer was removed ends."""
        self.options.offer(list(self._viewer.layers))
        if self.preview is not None and self.preview not in self._viewer.layers:
            self.preview = None
        if self.result is not None and self.result not in self._viewer.layers:
            self._on_cancel()
            self.prediction = self.result = None
        self._enable()

    def _enable(self) -> None:
        is_idle, can_run = not self.is_busy, self.options.can_run()
        self.go_preview.setEnabled(is_idle and can_run)
        self.go.setEnabled(is_idle and can_run)
        self.options.find.setEnabled(is_idle and self.options.image.layer is not None)
        self.go_on.setEnabled(is_idle and self.prediction is not None and not self.prediction.is_complete)

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def _chosen(self) -> tuple[Image, Volume, Prediction] | None:
        """Return image and models; what is wrong with them is told."""
        layer = self.options.image.layer
        try:
            return layer, volume_of_layer(layer), self.options.wanted()
        except EmSegError as error:
            self.on_failed(error)
            return None

    def _add(self, like: Image, data, name: str, **options) -> Image:
        """Add a map over an image, which shows through where there is no boundary, or nothing yet."""
        colour = np.array(rgb(SOURCE)) / 255
        colormap = Colormap([(*colour, 0), (*colour, 1)], name="boundary")
        options = {
            **placed_like(like),
            "colormap": colormap,
            "contrast_limits": (0, 255),
            "opacity": 0.7,
            **options,
        }
        return self._viewer.add_layer(Image(data, name=name, **options))

    # The preview

    def _on_preview(self) -> None:
        chosen = self._chosen()
        if chosen is None:
            return
        layer, volume, wanted = chosen
        box = box_in_view(self._viewer, layer)

        def done(found) -> None:
            self._show_preview(layer, *found)

        self.start("Preview", lambda **options: lazy.preview(volume, wanted, box, **options),
                   layer=layer, done=done)  # fmt: skip

    def _show_preview(self, like: Image, place: Box, shown) -> None:
        self._remove_preview()
        if like in self._viewer.layers:
            self.preview = self._add(like, shown, PREVIEW, translate=corner_of(like, place),
                                     metadata=marked("preview"))  # fmt: skip
            size = "×".join(str(part.stop - part.start) for part in place[1:])
            self.say(f"A preview of slice {place[0].start}, {size} pixels, with one view")

    def _remove_preview(self) -> None:
        if self.preview is not None and self.preview in self._viewer.layers:
            self._viewer.layers.remove(self.preview)
        self.preview = None

    # Misaligned slices

    def _find(self, then: Callable[[], object]) -> None:
        layer = self.options.image.layer
        try:
            volume = volume_of_layer(layer)
        except EmSegError as error:
            self.on_failed(error)
            return

        def done(found: tuple[int, ...]) -> None:
            if layer is self.options.image.layer:
                self.options.show_misaligned(found)
                self.say(f"Misaligned slices: {', '.join(map(str, found)) or 'none'}; you can change them")
                then()

        self.start("Looking for misaligned slices",
                   lambda **options: pipeline.misaligned_slices(volume, **options),
                   layer=layer, done=done)  # fmt: skip

    # The prediction

    def _on_predict(self) -> None:
        chosen = self._chosen()
        if chosen is None:
            return
        layer, volume, wanted = chosen
        if wanted.local_models and wanted.misaligned == "auto":
            self._find(self._on_predict)
            return
        try:
            prediction = lazy.LazyPrediction(volume, wanted)
        except EmSegError as error:
            self.on_failed(error)
            return
        before = self.prediction, self._image
        self.prediction, self._image = prediction, layer
        if not self._predict_blocks():  # one is under way
            self.prediction, self._image = before
            return
        self._remove_preview()
        more = {} if prediction.affinities is None else {"affinities": prediction.affinities}
        name = _NAMES[prediction.task]
        self.result = None  # the one before is let go of, and stays
        self.result = self._add(layer, prediction.boundary, name,
                                metadata=marked(name, models=prediction.models, **more))  # fmt: skip

    def _predict_blocks(self) -> bool:
        """Predict what is missing, block by block, next the one nearest to where one looks."""
        prediction = self.prediction
        self._looking_at = box_in_view(self._viewer, self._image)

        def work(**options) -> dict:
            for place in prediction.blocks(lambda: self._looking_at, **options):
                self.work.tell(lambda place=place: self._on_block(prediction, place))
            return step_of(resolved(prediction.volume, prediction.wanted))

        job = self.start("Prediction", work, layer=self._image,
                         done=lambda step: self._on_complete(prediction, step))  # fmt: skip
        if job is not None:
            self.say("Where you look comes first; Cancel keeps what is done")
        return job is not None

    def _on_block(self, prediction: lazy.LazyPrediction, place: Box) -> None:
        """Show a block, if it is in view."""
        if prediction is not self.prediction or self.result is None:
            return
        z = self._looking_at[0].start
        if self._viewer.dims.ndisplay == 3 or place[0].start <= z < place[0].stop:
            self.result.refresh(extent=False)

    def _on_complete(self, prediction: lazy.LazyPrediction, step: dict) -> None:
        if prediction is self.prediction and self.result is not None:
            self.result.refresh()
            self.result.metadata = {**self.result.metadata, STEPS: [step]}
            self.say(f"{self.result.name} is complete, by {' and '.join(prediction.models)}")
            self.state.changed.emit()  # other docks begin with it now

    def _on_look(self, _event: object = None) -> None:
        """Note where one looks, for the thread to read."""
        if self.prediction is not None:
            self._looking_at = box_in_view(self._viewer, self._image)

    def last_words(self) -> str:
        """Say what cancelling has left."""
        if self.prediction is None or self.prediction.is_complete:
            return "Stopped"
        n = self.prediction.n_blocks
        what = f"{n - self.prediction.n_left} of {n} blocks are done and stay" if n else "nothing is done yet"
        return f"Stopped; {what}. Go on predicts the rest"

    # Loading networks before they are needed

    def event(self, event: QEvent) -> bool:
        """Load networks when the mouse comes in: that takes longer than a preview.

        A dock that opens under a mouse that rests loads nothing.
        """
        if event.type() == QEvent.Type.Enter and QCursor.pos() != self._pointer:
            self._load()
        return super().event(event)

    def _load(self) -> None:
        if self._has_loaded or self.is_shut or not self.options.can_run():
            return
        self._has_loaded = True
        try:
            volume, wanted = unread_volume_of(self.options.image.layer), self.options.wanted()
        except EmSegError:  # told when it is to be predicted
            return
        self.work.put(lambda: lazy.load_models(volume, wanted), failed=lambda _: None)  # told then, too
