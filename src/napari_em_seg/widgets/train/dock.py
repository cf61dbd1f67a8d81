"""Dock "Train": fine-tuning by a button, networks and forests from labels, curves and pictures meanwhile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFrame, QGridLayout, QLineEdit, QScrollArea, QVBoxLayout, QWidget

from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.pipeline.names import free_name, taken_names
from napari_em_seg.pipeline.painted import INSIDE, MEMBRANE
from napari_em_seg.pipeline.training import forget_training
from napari_em_seg.predict.watch import Picture, Watch
from napari_em_seg.predict.weights import user_folder
from napari_em_seg.widgets.colours import MERGE, SPLIT
from napari_em_seg.widgets.layers import placed_like, shape_of
from napari_em_seg.widgets.names import as_file_name
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button, choice, form
from napari_em_seg.widgets.train.curves import LearningCurves
from napari_em_seg.widgets.train.forests import ForestForm
from napari_em_seg.widgets.train.forms import FineTuneForm, Form, Job
from napari_em_seg.widgets.train.networks import NetworkForm
from napari_em_seg.widgets.train.patches import Patches

__all__ = ["PAINTED", "TrainWidget"]

PAINTED = "painted"
_EVERY_MS = 250  # the curve of the loss grows
_ERRORS = {"adapted_rand_error": "segmentation error", "pixel_error": "wrong pixels"}


class TrainWidget(Panel):
    """Trains networks and forests.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._paused: tuple[Form, Path, Job] | None = None
        self._running: tuple[Form, Path, Job] | None = None
        self._is_enough = False
        self._losses: list[tuple[int, float]] = []  # that are not shown yet
        self._build()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.fine_tune = FineTuneForm(self.state)
        self.forms: dict[str, Form] = {
            "Fine-tune a boundary model": self.fine_tune,
            "Network for boundaries": NetworkForm(self.state, "boundary"),
            "Network for affinities": NetworkForm(self.state, "affinity"),
            "Network that follows objects": NetworkForm(self.state, "propagator"),
            "Forest for merges": ForestForm(self.state, "agglomeration"),
            "Forest for assignments": ForestForm(self.state, "assignment"),
        }
        self.kind = choice("What learns", list(self.forms))
        self.pages, self.scroll = QWidget(), QScrollArea()
        pages = QVBoxLayout(self.pages)
        pages.setContentsMargins(0, 0, 0, 0)
        for one in self.forms.values():
            pages.addWidget(one)
            one.setVisible(one is self.fine_tune)
        pages.addStretch(1)
        self.scroll.setWidget(self.pages)
        self.scroll.setWidgetResizable(True)
        self.scroll.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab goes to what is in it
        self.name = QLineEdit()
        self.name.setToolTip(
            "Of the new model, which goes into your own folder of models; nothing: one is found"
        )
        self.name.setPlaceholderText("one is found")
        self.curves, self.patches = LearningCurves(), Patches()
        self.learning = QWidget()
        column = QVBoxLayout(self.learning)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.curves, 1)
        column.addWidget(self.patches, 1)
        self.learning.hide()
        layout = QVBoxLayout(self)
        layout.addLayout(form({"Train": self.kind}))
        layout.addWidget(self.scroll, 1)
        layout.addLayout(form({"Name": self.name}))
        layout.addLayout(self._buttons())
        layout.addWidget(self.learning, 1)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        self.setMinimumWidth(380)

    def _buttons(self) -> QGridLayout:
        self.go = button("Fine-tune", "Begin to learn")
        self.pause = button("Pause", "Stop for now; Resume goes on where it was")
        self.keep = button("Stop and keep", "Learn no more, and keep the model that was best so far")
        self.discard = button("Discard", "Forget what was learned since the beginning of this training")
        row = QGridLayout()
        for place, one in enumerate((self.go, self.pause, self.keep, self.discard)):
            row.addWidget(one, 0, place)
        return row

    def _connect(self) -> None:
        self._growing = QTimer(self)
        self._growing.setInterval(_EVERY_MS)
        self._growing.timeout.connect(self._show_losses)
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.fine_tune.paint_pressed.connect(self.add_painted)
        self.fine_tune.meaning.currentIndexChanged.connect(self._on_meaning)
        for one in self.forms.values():
            one.changed.connect(self._enable)
        self.go.clicked.connect(self._on_go)
        self.pause.clicked.connect(self._on_cancel)
        self.keep.clicked.connect(self._on_keep)
        self.discard.clicked.connect(self._on_discard)
        self.state.models_changed.connect(self._on_models)

    def let_go(self) -> None:
        """Follow the viewer no longer; a training that goes on is paused."""
        self._growing.stop()
        self.state.models_changed.disconnect(self._on_models)

    # What there is

    @property
    def form(self) -> Form:
        """The form that is shown."""
        return self.forms[self.kind.currentText()]

    def on_layers(self) -> None:
        """Offer the layers that are there."""
        for one in self.forms.values():
            one.offer(list(self._viewer.layers))
        self._enable()

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def _enable(self) -> None:
        is_running, is_paused = self.is_busy, self._paused is not None
        is_open = not is_running and not is_paused
        can_stop = is_running and self._running is not None and self._running[0].has_curves
        self.kind.setEnabled(is_open)
        self.pages.setEnabled(is_open)
        self.name.setEnabled(is_open)
        self.scroll.setVisible(not (can_stop or is_paused))
        self.fine_tune.paint.setEnabled(self.fine_tune.image.layer is not None)
        self.go.setText("Resume" if is_paused else self.form.verb)
        self.go.setEnabled(not is_running and (is_paused or self.form.can_run()))
        self.pause.setEnabled(can_stop)
        self.keep.setEnabled((can_stop and not self._is_enough) or is_paused)
        self.discard.setEnabled(is_paused)

    def _on_kind(self, _place: int) -> None:
        for one in self.forms.values():
            one.setVisible(one is self.form)
        self.learning.hide()
        self._enable()

    def _on_models(self) -> None:
        for one in self.forms.values():
            one.offer_models()

    # Painting

    def add_painted(self) -> Labels:
        """Add a layer to paint on, and take the brush."""
        image = self.fine_tune.image.layer
        layer = Labels(np.zeros(shape_of(image), np.uint16), name=PAINTED, opacity=0.6, **placed_like(image))
        layer.selected_label, layer.brush_size = MEMBRANE, 4
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = layer
        self.fine_tune.painted.choose(layer)
        layer.mode = "paint"
        self._on_meaning()
        return layer

    def _on_meaning(self, _place: int = 0) -> None:
        """Say how to paint, and show scribbles in two colours."""
        layer = self.fine_tune.painted.layer
        if layer is None or not layer.name.startswith(PAINTED):
            return
        if self.fine_tune.convention == "scribbles":
            layer.colormap = DirectLabelColormap(
                color_dict={MEMBRANE: SPLIT, INSIDE: MERGE, None: "transparent"}
            )
            self.say("Draw a few strokes along membranes with 1, then within cells with 2, on two slices; the "
                     "keys − and = change the number")  # fmt: skip
        else:
            layer.colormap = Labels(np.zeros((1, 1), int)).colormap
            self.say("Paint whole cells on two slices, each with a number of its own (M takes a new one), and "
                     "leave membranes free")  # fmt: skip

    # Learning

    def _on_go(self) -> None:
        if self._paused is not None:
            self._run(*self._paused)
            return
        try:
            out = self._target(self.form)
            job = self.form.job(out)
        except EmSegError as error:
            self.on_failed(error)
            return
        self.curves.clear()
        self.patches.clear()
        self._run(self.form, out, job)

    def _target(self, one: Form) -> Path:
        """Return the file of the new model; a name that is taken is an error, and so is one that is no name."""
        typed = self.name.text().strip()
        if typed in taken_names() or (typed and as_file_name(typed, "model") != typed):
            raise DataError(f"The new model is to be called {typed}", "a name of letters, digits and - that no "
                            "other model has", "Type another one, or none")  # fmt: skip
        return user_folder() / f"{typed or free_name(one.name())}{one.suffix}"

    def _run(self, one: Form, out: Path, job: Job, *, is_enough: bool = False) -> None:
        self._is_enough, self._paused, self._running = is_enough, None, (one, out, job)
        watch = Watch(self._on_step, self._on_picture, lambda: self._is_enough)
        told: Mapping[str, Any] = (
            {"watch": watch, "on_validation": self._on_validation} if one.has_curves else {}
        )

        def work(**options: Any) -> Any:
            user_folder().mkdir(parents=True, exist_ok=True)
            return job(**options, **told)

        if self.start("Training", work, layer=one.layer(), done=self._on_done) is None:
            self._running = None
            return
        self.learning.setVisible(one.has_curves)
        self.say(f"{out.stem} learns; the model that is best on what is kept aside is kept")
        self._growing.start()
        self._enable()

    def _on_keep(self) -> None:
        self._is_enough = True
        if self._paused is not None:
            one, out, job = self._paused
            self._run(one, out, job, is_enough=True)
        self.say("It is validated once more, then the best model is kept")
        self._enable()

    def _on_discard(self) -> None:
        _, out, _ = self._paused
        forget_training(out)
        self._paused = None
        self.learning.hide()
        self.say("What was learned is forgotten")
        self._enable()

    # News from the thread

    def _on_step(self, step: int, loss: float) -> None:
        self._losses.append((step, loss))

    def _show_losses(self) -> None:
        new, self._losses = self._losses, []
        if new:
            self.curves.add_losses(new)

    def _on_validation(self, row: Mapping[str, float]) -> None:
        name = next((name for name in _ERRORS if name in row), "score")
        self.work.tell(lambda: self.curves.add_error(int(row["step"]), row[name], _ERRORS.get(name, "error")))

    def _on_picture(self, picture: Picture) -> None:
        self.work.tell(lambda: self.patches.show_picture(picture))

    # The end

    def _on_done(self, result: Any) -> None:
        one, out, job = self._end()
        if result is None and one.has_curves:
            self._paused = (one, out, job)
            self.say(f"Paused; Resume goes on where it was. The checkpoint of {out.stem} is kept until Discard")
        else:
            self.say(one.told(result))
            self.state.models_changed.emit()
            if out.exists():  # it got better
                self.state.tell("Train", f"{out.name.removesuffix(one.suffix)} is in the list of models")
        self._enable()

    def on_failed(self, error: BaseException) -> None:
        """Tell of an error; the training is over."""
        self._end()
        super().on_failed(error)
        self._enable()

    def _end(self) -> tuple[Form, Path, Job] | None:
        self._growing.stop()
        self._show_losses()
        ended, self._running = self._running, None
        return ended
