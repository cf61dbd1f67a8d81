"""Options: the fields of the dock "Predict": image, tissue, models, how they are run, and misaligned slices."""

import re
from collections.abc import Sequence

from napari.layers import Image, Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QGridLayout, QLineEdit, QScrollArea, QVBoxLayout, QWidget

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.io.data_sets import DATA_SETS, tissue_of
from napari_em_seg.pipeline import Prediction
from napari_em_seg.predict.weights import find_models
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.device_box import DeviceBox
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import TISSUE, role_of, shape_of, unread_volume_of
from napari_em_seg.widgets.parts import button, check, choice, form, remember, settings_of
from napari_em_seg.widgets.predict.model_list import ModelList
from napari_em_seg.widgets.state import ViewerState

__all__ = ["Options", "slice_numbers"]

_TASKS = {"Boundary map": "boundary", "Affinities": "affinity"}
_VIEWS = {"auto (4, on a GPU 16)": None, "1": 1, "4": 4, "8": 8, "16": 16}
_NOBODY, _NOT_SAID, _OTHER = "none", "not said", "another tissue"


class Options(QScrollArea):
    """What is to be predicted with what; it scrolls on low screens.

    Signals: ``changed``, when what can be done is another.
    """

    changed = Signal()

    def __init__(self, state: ViewerState) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab goes to what is in it
        self._state = state
        self._files = find_models()
        self._followed: Layer | None = None
        self._make_fields()
        self._lay_out()
        self._restore()
        self._connect()
        self._show_image()

    def _make_fields(self) -> None:
        self.image = LayerBox()
        self.image.setToolTip("The stack of grey values to predict from")
        self.tissue = choice("What the image shows, against which the cards of models are held; "
                             "it is kept with the layer")  # fmt: skip
        self.task = choice(
            "A boundary map says how likely a voxel lies on a membrane; affinities say how likely a voxel "
            "belongs to the same cell as its neighbours along z, y and x",
            _TASKS,
        )
        tip = "Tick the model whose training voxels are nearest in size (nm)"
        self.by_size = check("Choose the model by voxel size", tip, is_on=True)
        self.models = ModelList()
        self.views = choice(
            "The image is also predicted mirrored and turned, and the answers are averaged: more views are "
            "better, and take as many times longer",
            _VIEWS,
        )
        self.device = DeviceBox(self._state)
        self.local = choice("A model that joins in on misaligned slices only")
        self.misaligned = QLineEdit()
        self.misaligned.setToolTip(
            "Slices that do not lie on their neighbours, counted from 0, such as 9-11, 32; where a model for "
            "them is chosen and nothing is typed, they are looked for before predicting"
        )
        self.find = button("Find", "Look for misaligned slices; you can change what is found")

    def _lay_out(self) -> None:
        slices = QWidget()
        row = QGridLayout(slices)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.misaligned, 0, 0)
        row.addWidget(self.find, 0, 1)
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form({"Image": self.image, "Tissue": self.tissue, "Predict": self.task,
                               "": self.by_size}))  # fmt: skip
        column.addWidget(self.models)
        column.addLayout(form({"Views": self.views, "Device": self.device, "Local model": self.local,
                               "Misaligned": slices}))  # fmt: skip
        column.addStretch(1)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def _restore(self) -> None:
        """Begin as it was the last time."""
        remember("predict", {"task": self.task, "by_voxel_size": self.by_size, "views": self.views})
        self._offer_models()
        remember("predict", {"local_model": self.local})

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(self._on_image)
        self.tissue.activated.connect(self._on_tissue)
        self.task.currentIndexChanged.connect(self._on_task)
        self.by_size.toggled.connect(lambda _is_on: self._choose_by_size())
        self.models.changed.connect(self._on_ticked)
        self._state.models_changed.connect(self._on_models)

    def let_go(self) -> None:
        """Follow nothing any more."""
        self.device.let_go()
        self._state.models_changed.disconnect(self._on_models)
        self._follow(None)

    # What is chosen

    def can_run(self) -> bool:
        """Whether there are an image and a model."""
        return self.image.layer is not None and bool(self.models.ticked)

    def wanted(self) -> Prediction:
        """Return what is to be predicted; slices that are no numbers are an error."""
        local = () if self.local.currentText() == _NOBODY else (self.local.currentText(),)
        typed = self.misaligned.text().strip()
        return Prediction(
            self.models.ticked,
            local_models=local,
            misaligned=slice_numbers(typed, shape_of(self.image.layer)[0]) if local and typed else "auto",
            views=self.views.currentData(),
            device=self.device.currentText(),
        )

    def show_misaligned(self, found: Sequence[int]) -> None:
        """Fill in misaligned slices that were found."""
        self.misaligned.setText(", ".join(map(str, found)) or "none")

    # The image

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer the images among layers."""
        before = self.image.layer
        self.image.offer([x for x in layers if isinstance(x, Image) and x.ndim == 3 and not x.rgb
                          and not role_of(x)])  # fmt: skip
        if before is None and self._state.image in layers:
            self.image.choose(self._state.image)
        if self.image.layer is not self._followed:
            self._show_image()

    def _on_image(self, _place: int = 0) -> None:
        if self.image.layer is not None:
            self._state.image = self.image.layer
        if self.image.layer is not self._followed:
            self._show_image()

    def _show_image(self) -> None:
        """Take note of another image: nobody knows its misaligned slices, perhaps its tissue."""
        self._follow(self.image.layer)
        self.misaligned.clear()
        self.misaligned.setPlaceholderText("looked for when needed")
        said = {} if self._followed is None else self._followed.metadata
        known = said.get(TISSUE) or tissue_of(str(said.get("source", "")))
        every = {file.card.tissue for file in self._files} | {one.tissue for one in DATA_SETS.values()}
        self.tissue.clear()
        self.tissue.addItems([_NOT_SAID, *sorted((every | {known}) - {"", _OTHER}), _OTHER])
        self.tissue.setCurrentText(known or _NOT_SAID)
        self._on_size()

    def _follow(self, layer: Layer | None) -> None:
        for one, do in ((self._followed, "disconnect"), (layer, "connect")):
            if one is not None:
                for event in (one.events.scale, one.events.units):
                    getattr(event, do)(self._on_size)
        self._followed = layer

    def _volume(self) -> Volume | None:
        try:
            return None if self._followed is None else unread_volume_of(self._followed)
        except EmSegError:  # told when it is to be predicted
            return None

    def _on_size(self, _event: object = None) -> None:
        """Hold the models against the image, and choose another one where its voxels have another size."""
        self._choose_by_size()
        self._judge()
        self.changed.emit()

    def _on_tissue(self, _place: int = 0) -> None:
        if self._followed is not None:
            said = self.tissue.currentText()
            self._followed.metadata[TISSUE] = "" if said == _NOT_SAID else said
        self._judge()

    def _judge(self) -> None:
        said = self.tissue.currentText()
        self.models.judge_by(self._volume(), "" if said == _NOT_SAID else said)

    # Models

    def _offer_models(self) -> None:
        files = [file for file in self._files if file.card.task == self.task.currentData()]
        self.models.offer(files)
        kept = settings_of("predict")
        if kept is not None:
            self.models.tick(kept.models.split(", "))
        self.local.clear()
        self.local.addItems([_NOBODY, *(file.name for file in files)])
        if self.by_size.isChecked() or not self.models.ticked:
            self._tick_best()

    def _on_models(self) -> None:
        """Offer models that have come; those that are ticked stay ticked."""
        ticked, local = self.models.ticked, self.local.currentText()
        self._files = find_models()
        self._offer_models()
        self.models.tick(ticked)
        self.local.setCurrentText(local)
        self._choose_by_size()

    def _on_task(self, _place: int = 0) -> None:
        self._offer_models()
        self.changed.emit()

    def _choose_by_size(self) -> None:
        if self.by_size.isChecked():
            self._tick_best()

    def _tick_best(self) -> None:
        """Tick the model whose voxels are nearest in size; the first where the image's size is unknown."""
        names = [file.name for file in self._files if file.card.task == self.task.currentData()]
        volume = self._volume()
        if names and volume is not None and volume.voxel_size_nm is not None:
            names = [pipeline.choose_model(volume, self.task.currentData()).model.name]
        self.models.tick(names[:1])
        self.changed.emit()

    def _on_ticked(self) -> None:
        self.by_size.setChecked(False)
        kept = settings_of("predict")
        if kept is not None:
            kept.models = ", ".join(self.models.ticked)
        self.changed.emit()


def slice_numbers(text: str, n: int) -> tuple[int, ...]:
    """Return the slices that somebody typed, such as 9-11, 32, of a stack of n."""
    if text.strip() == "none":
        return ()
    found: set[int] = set()
    for part in filter(None, re.split(r"[,;\s]+", re.sub(r"\s*[-\u2013]\s*", "-", text.strip()))):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if ends is None:
            raise DataError(f"The misaligned slices are {text!r}", "numbers such as 9-11, 32",
                            "Count slices from 0")  # fmt: skip
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not first <= last < n:
            raise DataError(f"The misaligned slices include {part}", f"0 to {n - 1}", "Leave that out")
        found.update(range(first, last + 1))
    return tuple(sorted(found))
