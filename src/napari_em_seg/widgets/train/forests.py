"""ForestForm: a forest that judges merges, or assignments between slices, from labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError
from napari_em_seg.pipeline import AffinityPart, PredictedMaps, TruthPart
from napari_em_seg.pipeline.agglomeration import ForestGain, forest_gain
from napari_em_seg.pipeline.own_forests import FOREST_SUFFIX
from napari_em_seg.widgets.layers import affinities_of, role_of, shape_of, unread_volume_of, volume_of_layer
from napari_em_seg.widgets.names import as_file_name
from napari_em_seg.widgets.parts import check, form, remember, whole_number
from napari_em_seg.widgets.state import ViewerState
from napari_em_seg.widgets.train.forms import Job, labels_of, layer_box, stacks

__all__ = ["ForestForm"]


class ForestForm(QWidget):
    """A forest.

    Parameters
    ----------
    state
        Of the viewer.
    task
        "agglomeration" or "assignment".
    """

    changed = Signal()
    suffix, has_curves, verb = FOREST_SUFFIX, False, "Train"

    def __init__(self, state: ViewerState, task: str) -> None:
        super().__init__()
        self._state, self._task = state, task
        is_merging = task == "agglomeration"
        what = "affinities" if is_merging else "boundary map or affinities"
        self.image = layer_box("The stack; its grey values say which sections look alike")
        self.maps = layer_box(f"The predicted {what} of this stack, by a network that has not learned from it")
        self.labels = layer_box("The true objects")
        self.aside = whole_number(
            "How many of the slices, the last ones, are kept aside to say what the forest gains, in per cent",
            0, 50, 20, unit="% of the slices",
        )  # fmt: skip
        self.follow = check(
            "Learn from followed sections",
            "Let the propagator follow all sections, and learn from how well it agrees. Reconstructing with "
            "this forest does so too: about 10 seconds for each slice of 1024×1024 without a GPU",
        )
        self.seed = whole_number("Of all chance: the same seed gives the same forest", 0, 10_000, 0)
        rows: dict[str, QWidget] = {} if is_merging else {"Image": self.image}
        rows |= {"Prediction": self.maps, "Labels": self.labels}
        rows |= {"Kept aside": self.aside} if is_merging else {"Propagator": self.follow}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form(rows | {"Seed": self.seed}))
        remember("train", {"forest_aside": self.aside} if is_merging else {"forest_follow": self.follow})
        for box in (self.image, self.maps, self.labels):
            box.currentIndexChanged.connect(lambda _place: self.changed.emit())

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer the layers that are there."""
        fitting = ("affinities",) if self._task == "agglomeration" else ("affinities", "boundary")
        self.image.offer(stacks(layers))
        self.maps.offer([x for x in layers if isinstance(x, Image) and role_of(x) in fitting])
        self.labels.offer([x for x in layers if isinstance(x, Labels) and x.ndim == 3])

    def offer_models(self) -> None:
        """Offer none: a forest begins with nothing."""

    def can_run(self) -> bool:
        """Whether all layers are chosen."""
        boxes = [self.maps, self.labels] + ([] if self._task == "agglomeration" else [self.image])
        return all(box.layer is not None for box in boxes)

    def layer(self) -> Layer:
        """Return the prediction."""
        return self.maps.layer

    def name(self) -> str:
        """Name the forest after what it judges and the labels."""
        return f"{self._task}-{as_file_name(self.labels.layer.name, 'model')}"

    def job(self, out: Path) -> Job:
        """Return the training."""
        layer = self.maps.layer
        truth, size = np.asarray(labels_of(self.labels.layer, layer)), unread_volume_of(layer).voxel_size_nm
        found = affinities_of(layer)
        card = {
            "name": out.stem,
            "data": [f"layer {self.labels.layer.name}"],
            "command": "trained in the dock Train",
            "licence": "not named: ask whoever trained this forest",
        }
        if self._task == "agglomeration":
            if found is None:
                raise DataError(f"{layer.name} holds no affinities", "affinities as the dock Predict adds them",
                                "Predict them")  # fmt: skip
            return self._merges(out, AffinityPart(found, truth, size), card)
        maps = PredictedMaps(volume_of_layer(layer) if found is None else found)
        if shape_of(self.image.layer) != maps.shape:
            came = f"The image is {shape_of(self.image.layer)} and the prediction {maps.shape} (z, y, x)"
            raise DataError(came, "both of the same stack", "Choose them again")
        part = TruthPart(volume_of_layer(self.image.layer), maps, truth, size)
        seed, follow, device = self.seed.value(), self.follow.isChecked(), self._state.device
        return lambda **options: pipeline.train_assignment(
            out, [part], seed=seed, with_following=follow, device=device, card=card, **options
        )

    def _merges(self, out: Path, part: AffinityPart, card: dict[str, Any]) -> Job:
        n, seed = len(part.truth), self.seed.value()
        kept = min(n - 1, round(n * self.aside.value() / 100))

        def slices(a: int, b: int) -> AffinityPart:
            return AffinityPart(part.affinities[:, a:b], part.truth[a:b], part.voxel_size_nm)

        def work(**options: Any) -> ForestGain | None:
            forest = pipeline.train_agglomeration(out, [slices(0, n - kept)], seed=seed, card=card, **options)
            return forest_gain(forest, slices(n - kept, n)) if kept else None

        return work

    def told(self, result: Any) -> str:
        """Say what it gains."""
        if isinstance(result, ForestGain):
            return (
                "It is in the list of models. Segmentation error on the slices kept aside: "
                f"{result.forest:.3f} by the forest, {result.mean:.3f} by the mean affinity"
            )
        return "It is in the list of models"
