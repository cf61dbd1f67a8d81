"""Forms: what is to be trained on what, one form for each kind; each gives the job that the dock starts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline.fine_tuning import FineTuned, FineTuning, fine_tune, model_to_tune
from napari_em_seg.predict.weights import SUFFIX, find_models
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import TISSUE, role_of, shape_of, unread_volume_of, volume_of_layer
from napari_em_seg.widgets.names import as_file_name
from napari_em_seg.widgets.parts import button, choice, form, number, remember
from napari_em_seg.widgets.state import ViewerState

__all__ = ["CONVENTIONS", "FineTuneForm", "Form", "Job", "labels_of", "layer_box", "stacks"]

Job = Callable[..., Any]
"""Called with ``progress``, ``cancelled``, ``watch`` and ``on_validation`` in the thread."""

CONVENTIONS = {"scribbles: 1 membrane, 2 inside": "scribbles", "whole objects: 0 is membrane": "objects"}


class Form(Protocol):
    """What the dock asks of each form.

    Attributes
    ----------
    suffix
        Of the file that comes out.
    has_curves
        Whether it learns step by step, can be paused, and can be stopped and kept.
    verb
        What the button says.
    """

    changed: Signal
    suffix: str
    has_curves: bool
    verb: str

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer the layers that are there."""

    def offer_models(self) -> None:
        """Offer the models that are there."""

    def can_run(self) -> bool:
        """Whether all is chosen that is needed."""

    def layer(self) -> Layer:
        """Return the layer of which there may be only one training of this kind at a time."""

    def name(self) -> str:
        """Return a name for what comes out."""

    def job(self, out: Path) -> Job:
        """Return what is to be done, with layers as they are now; what is wrong is an EmSegError."""

    def told(self, result: Any) -> str:
        """Say what came of it."""


def layer_box(tip: str, nothing: str = "") -> LayerBox:
    """Return a box to choose a layer."""
    made = LayerBox(nothing)
    made.setToolTip(tip)
    return made


def stacks(layers: Sequence[Layer]) -> list[Layer]:
    """Return the images with three axes that nobody predicted."""
    return [x for x in layers if isinstance(x, Image) and x.ndim == 3 and not x.rgb and not role_of(x)]


def labels_of(layer: Labels, image: Layer) -> Volume:
    """Return labels as they are now, in the voxel size of their image; another shape is refused."""
    if shape_of(layer) != shape_of(image):
        raise DataError(f"The labels {layer.name} are {shape_of(layer)} and the image {image.name} is "
                        f"{shape_of(image)} (z, y, x)", "both of the same shape",
                        "Choose labels of this image")  # fmt: skip
    data = layer.data[0] if layer.multiscale else layer.data
    return Volume(np.array(data), unread_volume_of(image).voxel_size_nm, layer.name, kind="labels")


class FineTuneForm(QWidget):
    """A model that is there learns on from what is painted on a few slices."""

    changed = Signal()
    paint_pressed = Signal()
    suffix, has_curves, verb = SUFFIX, True, "Fine-tune"

    def __init__(self, state: ViewerState) -> None:
        super().__init__()
        self._state = state
        self.image = layer_box("The stack that was painted on; its voxel size has to be known")
        self.painted = layer_box("The layer that was painted: two slices or three are enough")
        self.paint = button("Paint", "Add a layer to paint on, and take the brush", self.paint_pressed.emit)
        self.meaning = choice(
            "Scribbles: a few strokes along membranes (1) and within cells (2) on each slice; what is not "
            "painted is not known. Whole objects: each cell its own number, gaps between them are membrane",
            CONVENTIONS,
        )
        self.model = choice("The boundary model that learns on; auto takes the one whose voxels are nearest in "
                            "size. Its own file stays as it is")  # fmt: skip
        self.minutes = number("How long it may take, in minutes of the clock", 0.1, 600, 10, step=1, decimals=1,
                              unit="min")  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form({
            "Image": self.image, "Painted": self.painted, "": self.paint, "Meaning": self.meaning,
            "Begin with": self.model, "At most": self.minutes,
        }))  # fmt: skip
        self.offer_models()
        remember("train", {"meaning": self.meaning, "minutes": self.minutes})
        for box in (self.image, self.painted):
            box.currentIndexChanged.connect(self._on_layer)

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer the layers that are there."""
        before = self.image.layer
        self.image.offer(stacks(layers))
        if before is None and self._state.image in layers:
            self.image.choose(self._state.image)
        self.painted.offer([x for x in layers if isinstance(x, Labels) and x.ndim == 3
                            and role_of(x) not in ("errors", "preview", "objects")])  # fmt: skip

    def offer_models(self) -> None:
        """Offer the boundary models that are there."""
        offer_names(self.model, ["auto", *(x.name for x in find_models() if x.card.task == "boundary")])

    def _on_layer(self, _place: int = 0) -> None:
        if self.image.layer is not None:
            self._state.image = self.image.layer
        self.changed.emit()

    def can_run(self) -> bool:
        """Whether there are an image and labels."""
        return self.image.layer is not None and self.painted.layer is not None

    def layer(self) -> Layer:
        """Return the image."""
        return self.image.layer

    @property
    def convention(self) -> str:
        """What the painted labels mean."""
        return self.meaning.currentData()

    def name(self) -> str:
        """Name the new model after the image."""
        return f"{as_file_name(self.image.layer.name, 'model')}-tuned"

    def job(self, out: Path) -> Job:
        """Return the fine-tuning of what is painted now."""
        volume = volume_of_layer(self.image.layer)
        labels = labels_of(self.painted.layer, self.image.layer)
        model = model_to_tune(volume, self.model.currentText())
        tissue = str(self.image.layer.metadata.get(TISSUE, ""))
        tuning = FineTuning(self.convention, model.name, self.minutes.value(), tissue=tissue)
        device = self._state.device

        def work(**options: Any) -> FineTuned | None:
            return fine_tune(out, volume, labels, tuning, device=device, **options)

        return work

    def told(self, result: FineTuned) -> str:
        """Say whether it got better."""
        what = "segmentation error" if self.convention == "objects" else "share of wrong pixels"
        errors = f"{what} on what was kept aside: {result.before:.2%} before, {result.after:.2%} after"
        if result.card is None:
            return f"It got no better ({errors}), so nothing was kept. Paint more, or give it more time"
        return f"{result.card.name} is in the list of models; {errors}"


def offer_names(box: Any, names: Sequence[str]) -> None:
    """Offer other names in a box; the one that was chosen stays chosen."""
    chosen = box.currentText()
    box.blockSignals(True)
    box.clear()
    for name in names:
        box.addItem(name, name)
    box.setCurrentText(chosen if chosen in names else names[0])
    box.blockSignals(False)


def best_of(measures: Mapping[str, float]) -> str:
    """Say how good a model was on what was kept aside."""
    shown = [f"{name.removesuffix(' (validation)').replace('_', ' ')} {value:.3f}"
             for name, value in measures.items() if name.endswith("(validation)")]  # fmt: skip
    return ", ".join(shown[:3])


def provenance(name: str) -> pipeline.Provenance:
    """Return what a card says of a model that was trained in the dock."""
    return pipeline.Provenance(name, command="trained in the dock Train")
