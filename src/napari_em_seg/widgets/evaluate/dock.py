"""Dock "Evaluate": a segmentation against the truth, or by its looks; the view goes to each error."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import napari
from napari.layers import Labels
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import Cancelled, EmSegError
from napari_em_seg.metrics import ObjectShapes
from napari_em_seg.pipeline import Course, Evaluation
from napari_em_seg.pipeline.error_maps import LEFT_OUT, Parts
from napari_em_seg.pipeline.evaluation import Place, place_of_error
from napari_em_seg.segment import MergeTree
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.evaluate.curves import load_library
from napari_em_seg.widgets.evaluate.overlays import Overlays
from napari_em_seg.widgets.evaluate.results import Results
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import role_of, shape_of, unread_volume_of, without_remark
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button, check, form, remember, whole_number

__all__ = ["EvaluateWidget"]

_TRUE_NAME = re.compile(r"truth|label|neuron_ids|\bgt\b", re.IGNORECASE)
_OURS = ("segments", "objects", "propagated")


class EvaluateWidget(Panel):
    """Judges a segmentation, and leads to its errors.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.evaluation: Evaluation | None = None
        self.shapes: ObjectShapes | None = None
        self._judged: tuple[Labels, ...] = ()
        self._volumes: tuple[Volume, ...] = ()
        self._n_asked = 0
        self._is_chosen = False
        self.overlays = Overlays(self._viewer)
        self._build()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.segmentation, self.truth = LayerBox(), LayerBox("none: judge it by its looks")
        self.segmentation.setToolTip("The labels to judge; 0 is background")
        self.truth.setToolTip("The true labels, of the same shape; 0 is not judged")
        self.zero = check("0 in the segmentation is a segment", "Count background as a segment like any other; "
                          "otherwise each of its voxels is one of its own, as SNEMI3D has it")  # fmt: skip
        self.orphan = whole_number("Objects that touch no border of the volume are orphans from this size on",
                                   1, 1_000_000_000, 1000, unit="voxels")  # fmt: skip
        self.large = whole_number("Objects with more than this share of all labelled voxels may be merged",
                                  1, 100, 10, unit="% of all")  # fmt: skip
        remember("evaluate", {"zero_is_segment": self.zero, "orphan_voxels": self.orphan,
                              "large_percent": self.large})  # fmt: skip
        self.looks = QWidget()
        looks = form({"Orphans from": self.orphan, "Very large above": self.large})
        looks.setContentsMargins(0, 0, 0, 0)
        self.looks.setLayout(looks)
        self.go = button("Evaluate", "Compare with the truth, or describe the objects where there is none")
        self.results = Results(self._viewer.theme)
        layout = QVBoxLayout(self)
        layout.addLayout(form({"Segmentation": self.segmentation, "Truth": self.truth}))
        for widget in (self.zero, self.looks, self.go):
            layout.addWidget(widget)
        layout.addWidget(self.results, 1)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        layout.addStretch()
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        for box in (self.segmentation, self.truth):
            box.activated.connect(self._on_chosen)
            box.currentIndexChanged.connect(self._enable)
        self.go.clicked.connect(self._on_go)
        self.results.save.clicked.connect(self._on_save)
        self.results.splits.chosen.connect(self._on_split)
        self.results.merges.chosen.connect(self._on_merge)
        self.results.objects.chosen.connect(self._on_object)
        self._viewer.events.theme.connect(self._on_theme)

    # Layers

    def on_layers(self) -> None:
        """Offer the labels that are there; until somebody chooses, guess which are which by role and name."""
        labels = [x for x in self._viewer.layers if isinstance(x, Labels) and len(shape_of(x)) == 3]
        labels = [x for x in labels if role_of(x) not in ("errors", "preview")]
        self.segmentation.offer(labels)
        self.truth.offer(labels)
        if not self._is_chosen:
            self._guess(labels)
        if not all(layer in self._viewer.layers for layer in self._judged):
            self._forget()
            self.say("A layer that was judged is gone; evaluate again")
        self._enable()

    def _guess(self, labels: Sequence[Labels]) -> None:
        foreign = [x for x in labels if role_of(x) not in _OURS]
        true = [x for x in foreign if _TRUE_NAME.search(x.name)]
        ours = [x for x in labels if x not in foreign] or [x for x in foreign if x not in true] or true
        self.segmentation.choose(ours[-1] if ours else None)
        self.truth.choose(true[0] if true and true[0] is not self.segmentation.layer else None)

    def _on_chosen(self, _place: int) -> None:
        self._is_chosen = True

    def _enable(self, _place: int = 0) -> None:
        has_truth = self.truth.layer is not None
        self.zero.setVisible(has_truth)
        self.looks.setVisible(not has_truth)
        self.go.setEnabled(self.segmentation.layer is not None and not self.is_busy)

    # Judging

    def _on_go(self) -> None:
        self._is_chosen = True  # the layers to come change no choice
        layer, truth = self.segmentation.layer, self.truth.layer
        judged = (layer,) if truth is None else (layer, truth)
        try:
            volumes = tuple(unread_volume_of(one) for one in judged)
        except EmSegError as error:
            self.on_failed(error)
            return
        if truth is None:
            function = partial(
                pipeline.judge_labels, volumes[0], volumes[0].voxel_size_nm,
                orphan_voxels=self.orphan.value(), large_share=self.large.value() / 100,
            )  # fmt: skip
        else:
            background = "label" if self.zero.isChecked() else "singletons"
            function = partial(pipeline.evaluate_labels, *volumes, background=background,
                               course=_course_of(layer))  # fmt: skip

        def work(**options: Any) -> Evaluation | ObjectShapes:
            try:
                found = function(**options)
            except EmSegError:
                self.work.tell(self._forget)  # results of other layers
                raise
            load_library()
            return found

        def done(found: Evaluation | ObjectShapes) -> None:
            if not all(one in self._viewer.layers for one in judged):
                self.say("A layer that was judged is gone")
                return
            self._forget()
            self._judged, self._volumes = judged, volumes
            self.overlays.begin(layer)
            (self._show_evaluation if isinstance(found, Evaluation) else self._show_shapes)(found)
            self._enable()

        self.start("Evaluation", work, layer=layer, done=done)

    def _show_evaluation(self, made: Evaluation) -> None:
        self.evaluation = made
        self.results.show_evaluation(made)
        self.overlays.show_errors(made, *self._volumes)
        names = " against ".join(without_remark(layer.name) for layer in self._judged)
        self.state.tell("Evaluate", f"Rand error {made.scores.adapted_rand_error:.3f} of {names}")

    def _show_shapes(self, shapes: ObjectShapes) -> None:
        self.shapes = shapes
        self.results.show_shapes(shapes)
        figures, name = shapes.figures(), without_remark(self._judged[0].name)
        self.state.tell("Evaluate", f"{name}: {figures.n_orphans:,} orphans of {figures.n_objects:,} objects")
        if self._volumes[0].voxel_size_nm is None:
            self.say("The voxel size is unknown, so lengths are too; the dock Voxel size sets it")

    def _forget(self) -> None:
        self.evaluation = self.shapes = None
        self._judged = self._volumes = ()
        self._n_asked += 1
        self.overlays.end()
        self.results.clear()

    # Going there

    def _on_split(self, place: int) -> None:
        made, (segmentation, truth) = self.evaluation, self._volumes
        name = int(made.objects.ids[place])
        self._ask(f"Object {name}", truth, name, segmentation, made.segments_of(name), LEFT_OUT)

    def _on_merge(self, place: int) -> None:
        made, (segmentation, truth) = self.evaluation, self._volumes
        name = int(made.segments.ids[place])
        self._ask(f"Segment {name}", segmentation, name, truth, made.objects_of(name), 0)

    def _ask(self, title: str, whole: Volume, name: int, other: Volume, parts: Any, in_none: int) -> None:
        """Look for the place of an error in the thread, and go there, unless another one is asked for then."""
        self._n_asked += 1
        asked = self._n_asked

        def done(place: Place | None) -> None:
            if asked != self._n_asked:
                return
            if place is None:
                self.say(f"{title} is not there any more; evaluate again")
                return
            self.overlays.ask(Parts(whole, name, other, parts, in_none))
            self.overlays.go_to(place)
            numbers = ", ".join(str(part) for part in parts[:3] if part)
            self.say(f"{title}, slice {place.z}: in {numbers or 'nothing'}{' …' if len(parts) > 3 else ''}")

        def failed(error: BaseException) -> None:
            if not isinstance(error, Cancelled):
                self.on_failed(error)

        self.work.put(
            lambda: place_of_error(whole, name, other, parts, lambda: asked != self._n_asked),
            done=done, failed=failed,
        )  # fmt: skip

    def _on_object(self, place: int) -> None:
        shapes = self.shapes
        name, z, y, x = int(shapes.ids[place]), int(shapes.z[place]), shapes.y[place], shapes.x[place]
        high, wide = shapes.height[place] / 2, shapes.width[place] / 2
        self.overlays.ask(Parts(self._volumes[0], name))
        box = (round(y - high), round(x - wide), round(y + high), round(x + wide))
        self.overlays.go_to(Place(z, round(y), round(x), box))
        self.say(f"Object {name}, slice {z}: {shapes.ends[place]} ends inside the volume")

    # Files

    def _on_save(self) -> None:
        try:
            path = self.results.save_shown(self._judged[0].name)
        except EmSegError as error:
            self.on_failed(error)
        else:
            self.say(f"Saved {path}" if path else "")

    # Work

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Stopped; what was shown before stays"

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def _on_theme(self, _event: object = None) -> None:
        self.results.curves.set_theme(self._viewer.theme)

    def let_go(self) -> None:
        """Follow the viewer no longer; the layers of errors go with the dock that explains them."""
        self._n_asked += 1
        self._viewer.events.theme.disconnect(self._on_theme)
        self.overlays.end()


def _course_of(layer: Labels) -> Course | None:
    """Return the agglomeration that a layer comes from, if it keeps that."""
    tree, pieces = layer.metadata.get("merge tree"), layer.metadata.get("supervoxels")
    if isinstance(tree, MergeTree) and pieces is not None and tuple(pieces.shape) == shape_of(layer):
        return Course(pieces, tree)
    return None
