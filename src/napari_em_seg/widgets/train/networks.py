"""NetworkForm: a network that learns from labels, of layers and of files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.layers import Labels, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline import AffinityRecipe, BoundaryRecipe, LabelledPart, PropagatorRecipe
from napari_em_seg.predict.registry import ARCHITECTURES, PROPAGATORS
from napari_em_seg.predict.watch import Limit, Watch
from napari_em_seg.predict.weights import SUFFIX, Card, find_models
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import volume_of_layer
from napari_em_seg.widgets.names import as_file_name
from napari_em_seg.widgets.parts import choice, form, number, remember, whole_number
from napari_em_seg.widgets.state import ViewerState
from napari_em_seg.widgets.train.files import LabelledFiles
from napari_em_seg.widgets.train.forms import (
    Job,
    best_of,
    labels_of,
    layer_box,
    offer_names,
    provenance,
    stacks,
)

__all__ = ["NetworkForm"]

_KERNELS = {
    "objects; a boundary is 3 pixels wide": "l3",
    "objects; also across corners": "c3",
    "objects; a boundary is 5 pixels wide": "c5",
    "membranes": None,
}
_ZEROS = {"boundary": "boundary", "an object like others": "label", "not labelled yet": "ignore"}
_NOTHING = "nothing (at random)"
_VALIDATIONS = 10  # of a training
_STEPS = {"boundary": 8000, "affinity": 4000, "propagator": 6000}


class NetworkForm(QWidget):
    """A network for boundaries, affinities, or one that follows objects.

    Parameters
    ----------
    state
        Of the viewer.
    task
        "boundary", "affinity" or "propagator".
    """

    changed = Signal()
    suffix, has_curves, verb = SUFFIX, True, "Train"

    def __init__(self, state: ViewerState, task: str) -> None:
        super().__init__()
        self._state, self._task = state, task
        self._make_fields()
        rows: dict[str, QWidget] = {"Image": self.image, "Labels": self.labels, "and files": self.files}
        if task == "boundary":
            rows |= {"Labels are": self.kernel, "0 is": self.zero}
        rows |= {"Network": self.network, "Begin with": self.begin, "Kept aside": self.aside,
                 "Steps": self.steps, "At most": self.minutes}  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form(rows))
        remember("train", {"aside": self.aside, f"{task}_network": self.network, f"{task}_steps": self.steps,
                           "limit": self.minutes})  # fmt: skip
        self.offer_models()
        for box in (self.image, self.labels):
            box.currentIndexChanged.connect(self._on_layer)
        self.files.changed.connect(self.changed)
        self.network.currentTextChanged.connect(self.offer_models)

    def _make_fields(self) -> None:
        known = ARCHITECTURES | PROPAGATORS
        names = sorted((x for x in known.values() if x.task == self._task), key=lambda x: not x.is_small)
        self.image = layer_box("A stack to learn from; its voxel size has to be known", "none")
        self.labels = layer_box("The true labels of this image", "none")
        self.files = LabelledFiles()
        self.kernel = choice("What the labels are: numbers of objects, between which boundaries are drawn, or "
                             "membranes where they are not 0", _KERNELS)  # fmt: skip
        self.zero = choice("What the number 0 means among objects", _ZEROS)
        self.network = choice("The architecture; those that are called small are for machines without a GPU",
                              [x.name for x in names])  # fmt: skip
        self.begin = choice("The model of the same architecture whose weights it begins with")
        self.aside = whole_number(
            "How many of the slices, the last ones of each stack, are kept aside to validate with, in per cent",
            5, 50, 20, unit="% of the slices",
        )  # fmt: skip
        self.steps = whole_number("How many batches it learns from", 1, 10_000_000, _STEPS[self._task],
                                  unit="steps")  # fmt: skip
        self.minutes = number("How long it may take, in minutes of the clock; 0: as long as its steps take",
                              0, 100_000, 0, step=10, decimals=1, unit="min")  # fmt: skip
        self.minutes.setSpecialValueText("as long as it takes")

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer the layers that are there."""
        before = self.image.layer
        self.image.offer(stacks(layers))
        if before is None and stacks(layers):
            self.image.choose(self._state.image if self._state.image in layers else stacks(layers)[0])
        self.labels.offer([x for x in layers if isinstance(x, Labels) and x.ndim == 3])

    def offer_models(self, _name: str = "") -> None:
        """Offer the models of the architecture that is chosen."""
        own = [x.name for x in find_models() if x.card.architecture == self.network.currentText()]
        offer_names(self.begin, [_NOTHING, *own])

    def _on_layer(self, _place: int = 0) -> None:
        if self.image.layer is not None:
            self._state.image = self.image.layer
        self.changed.emit()

    def can_run(self) -> bool:
        """Whether there is something to learn from."""
        return bool(self.files.paths) or self._has_layers()

    def _has_layers(self) -> bool:
        return self.image.layer is not None and self.labels.layer is not None

    def layer(self) -> Layer:
        """Return the image; where only files are learned from, this form stands for it."""
        return self.image.layer if self._has_layers() else self

    def name(self) -> str:
        """Name the model after its architecture and what it learns from."""
        source = self.image.layer.name if self._has_layers() else Path(self.files.paths[0]).stem
        return f"{self.network.currentText()}-{as_file_name(source, 'model')}"

    def job(self, out: Path) -> Job:
        """Return the training, with labels as they are now."""
        pairs = self.files.volumes()
        if self._has_layers():
            layers = (volume_of_layer(self.image.layer), labels_of(self.labels.layer, self.image.layer))
            pairs.insert(0, layers)
        training, validation = _split(pairs, self.aside.value() / 100)
        recipe, train = self._recipe(training, validation)
        minutes, device = self.minutes.value(), self._state.device

        def work(*, watch: Watch, **options: Any) -> Card | None:
            limit = Limit(60 * minutes, _VALIDATIONS) if minutes else None
            return train(
                out, training, validation, _thinned(recipe, training), provenance(out.stem), device=device,
                watch=replace(watch, limit=limit), **options,
            )  # fmt: skip

        return work

    def _recipe(
        self, training: Sequence[LabelledPart], validation: Sequence[LabelledPart]
    ) -> tuple[Any, Callable[..., Card | None]]:
        """Return how to train, with crops that fit into what there is."""
        depth = min(part.slices.stop - part.slices.start for part in training)
        side = min(min(part.raw.shape[1:]) for part in training)
        begin = self.begin.currentText()
        common: Mapping[str, Any] = {
            "steps": self.steps.value(),
            "validate_every": max(1, self.steps.value() // _VALIDATIONS),
            "begin_from": None if begin == _NOTHING else begin,
        }
        name = self.network.currentText()
        if self._task == "boundary":
            kernel, zero = self.kernel.currentData(), self.zero.currentData()
            return BoundaryRecipe(
                name, kernel, zero, side=min(192, _even(side)), **common
            ), pipeline.train_boundary
        if self._task == "affinity":
            shape = (min(12, depth), min(160, _even(side)), min(160, _even(side)))
            return AffinityRecipe(name, shape=shape, **common), pipeline.train_affinity
        shallow = min(depth, *(part.slices.stop - part.slices.start for part in validation))
        return PropagatorRecipe(name, n_slices=min(6, shallow), **common), pipeline.train_propagator

    def told(self, result: Card) -> str:
        """Say how good it is."""
        return f"{result.name} is in the list of models; on the slices kept aside: {best_of(result.measures)}"


def _thinned(recipe: Any, parts: Sequence[LabelledPart]) -> Any:
    """Let the walks of a propagator fit into stacks that are thinned out to its pixels; loads torch."""
    if not isinstance(recipe, PropagatorRecipe):
        return recipe
    from napari_em_seg.propagate.looking import thinning

    sides = [min(part.raw.shape[1:]) // thinning(part.raw.voxel_size_nm, recipe.pixel_nm) for part in parts]
    return replace(recipe, side=min(recipe.side, _even(min(sides))))


def _even(side: int) -> int:
    """Return the largest multiple of what networks halve their inputs to."""
    return max(16, side // 16 * 16)


def _split(
    pairs: Sequence[tuple[Volume, Volume]], share: float
) -> tuple[list[LabelledPart], list[LabelledPart]]:
    """Keep the last slices of each stack aside."""
    training, validation = [], []
    for raw, labels in pairs:
        n = len(raw)
        kept = max(1, round(share * n))
        if n < 2:
            raise DataError(f"{raw.name} has one slice", "two at least: some to learn from, some kept aside",
                            "Give a stack")  # fmt: skip
        training.append(LabelledPart(raw, labels, slice(0, n - kept)))
        validation.append(LabelledPart(raw, labels, slice(n - kept, n)))
    return training, validation
