"""Begin: what is asked before there is a session: which image, which boundaries, where to keep it."""

from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_em_seg.errors import DataError
from napari_em_seg.io import FORMATS
from napari_em_seg.pipeline import PredictedMaps, Prediction
from napari_em_seg.pipeline.config import STEPS
from napari_em_seg.pipeline.reconstruction import refuse_target
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import (
    affinities_of,
    is_whole,
    refuse_half,
    role_of,
    shape_of,
    volume_of_layer,
    without_remark,
)
from napari_em_seg.widgets.names import CONTAINERS, as_file_name

__all__ = ["Begin"]

_PREDICT = "predict affinities first"
_PREDICTED = ("affinities", "boundary")  # the better ones first


class Begin(QWidget):
    """Asks for an image layer, boundaries and a place; says what is missing."""

    wants_reconstruction = Signal()
    wants_session = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.image = LayerBox()
        self.image.setToolTip("The stack to reconstruct: an image layer with the axes (z, y, x)")
        self.boundary = LayerBox(_PREDICT)
        self.boundary.setToolTip(
            "What was predicted of it: affinities, or a boundary map (1, or 255, at membranes); or predict now"
        )
        self.views = QComboBox()
        self.views.setToolTip("How many turned and mirrored copies are predicted and averaged")
        self.views.addItem("quick (1 view)", 1)
        self.views.addItem("good (4 views, 4 times as long)", 4)
        self._suggested = ""
        self._stacks: list[Image] = []
        self._is_image_chosen = self._are_maps_chosen = False
        self.place = QLineEdit()
        self.place.setToolTip("The session: a folder that keeps the solution and all that you do")
        choose = QPushButton("…")
        choose.setToolTip("Choose another place")
        choose.setMaximumWidth(32)
        choose.clicked.connect(self._on_choose)
        self.go = QPushButton("Reconstruct")
        self.go.setToolTip("Predict if needed, find all sections and links, solve, and list the links")
        self.open = QPushButton("Open a session …")
        self.open.setToolTip("Go on with a session that was begun before")
        self._trouble = QLabel()
        self._trouble.setWordWrap(True)
        place = QHBoxLayout()
        place.setContentsMargins(0, 0, 0, 0)
        place.addWidget(self.place, 1)
        place.addWidget(choose)
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("Boundaries", self.boundary)
        form.addRow("Prediction", self.views)
        form.addRow("Session", place)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._trouble)
        layout.addWidget(self.go)
        layout.addWidget(self.open)
        self.go.clicked.connect(self.wants_reconstruction)
        self.open.clicked.connect(self._on_open)
        self.image.currentIndexChanged.connect(self._on_image_chosen)
        self.boundary.currentIndexChanged.connect(self._on_boundary)
        self.boundary.activated.connect(self._on_boundary)  # what is there already may be chosen, too

    def image_layer(self) -> Image | None:
        """Return the image that is chosen."""
        return self.image.layer

    def prediction(self, device: str) -> Prediction:
        """Return how affinities are predicted, if they are."""
        return Prediction(("affinity",), views=self.views.currentData(), device=device)

    def steps(self) -> list[dict[str, Any]] | None:
        """Return how the maps were made, if their layer knows."""
        layer = self.boundary.layer
        return None if layer is None else layer.metadata.get(STEPS)

    def wanted(self) -> tuple[Volume, PredictedMaps | None, str, bool]:
        """Return image, boundaries or none, where the session goes, and whether it may replace one there."""
        layer = self.image_layer()
        if layer is None:
            raise DataError("No image is open", "a stack with the axes (z, y, x)",
                            "Open one, or take the synthetic tissue from File ▸ Open Sample")  # fmt: skip
        image = volume_of_layer(layer)
        if image.voxel_size_nm is None:
            raise DataError(f"The voxel size of {image.name} is not known", "one in nm, for lengths and meshes",
                            "Set it in the dock Voxel size")  # fmt: skip
        maps = None
        other = self.boundary.layer
        if other is not None:
            refuse_half(other)
            boundary = volume_of_layer(other)
            if boundary.shape != image.shape:
                raise DataError(f"The boundaries {other.name} are {boundary.shape}, the image {image.shape}",
                                "boundaries of the same slices", "Choose another layer")  # fmt: skip
            affinities = affinities_of(other)
            maps = PredictedMaps(_as_probability(boundary, other.name) if affinities is None else affinities)
        out = self.place.text().strip()
        if not out:
            raise DataError("No place for the session is given", "a name that ends in .emseg", "Choose one")
        refuse_target(out, overwrite=True)  # whoever it may belong to is asked next
        return image, maps, out, Path(out).exists() and self._may_replace(out)

    def _may_replace(self, out: str) -> bool:
        answer = QMessageBox.question(
            self, "Replace the session?",
            f"{out} exists. Replace it, with all that was done in it? (No: choose another name.)",
        )  # fmt: skip
        return answer == QMessageBox.StandardButton.Yes

    def offer(self, worked_on: Image | None = None) -> None:
        """Offer the images that are there, and begin with the one that is worked on and what was made of it."""
        images = [x for x in self._viewer.layers if isinstance(x, Image)]
        self._stacks = [layer for layer in images if not layer.rgb and layer.ndim == 3]
        plain = [layer for layer in self._stacks if not role_of(layer)]
        self.image.offer(plain)
        if worked_on in plain and not self._is_image_chosen:
            _choose(self.image, worked_on)
        self._show_image()

    def _offer_boundaries(self) -> None:
        """Offer what may be boundaries of the image; those chosen stay as long as they are of its shape."""
        image, chosen = self.image_layer(), self.boundary.layer
        offered = [x for x in self._stacks if x is not image and _may_be_boundaries(x)]
        self.boundary.offer(offered)
        same = [x for x in offered if image is not None and shape_of(x) == shape_of(image)]
        self._are_maps_chosen &= chosen is None or chosen in same
        if not self._are_maps_chosen:
            made = [x for role in reversed(_PREDICTED) for x in same if role_of(x) == role and is_whole(x)]
            _choose(self.boundary, made[-1] if made else None)
        self.views.setEnabled(self.boundary.layer is None)

    def _on_image_chosen(self, _row: int) -> None:
        self._is_image_chosen = True
        self._show_image()

    def _show_image(self) -> None:
        layer = self.image_layer()
        self._offer_boundaries()
        self.go.setEnabled(layer is not None)
        flat = [x.name for x in self._viewer.layers if isinstance(x, Image) and x.ndim != 3]
        if layer is not None:
            self._trouble.clear()
            self._suggest(str(_place_for(layer)))
        elif flat:
            self._trouble.setText(f"{', '.join(flat)} is no stack: three axes (z, y, x) are needed")
        else:
            self._trouble.setText("Open a stack first, or take File ▸ Open Sample ▸ EM segmentation")

    def _suggest(self, place: str) -> None:
        """Fill in a place; one that somebody typed or chose stays."""
        if self.place.text() in ("", self._suggested):
            self.place.setText(place)
            self._suggested = place

    def _on_boundary(self, _row: int) -> None:
        self._are_maps_chosen = True
        self.views.setEnabled(self.boundary.layer is None)

    def _on_choose(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Where to keep the session", self.place.text(), "Sessions (*.emseg)",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )  # fmt: skip
        if path:
            self.place.setText(path if path.endswith(".emseg") else f"{path}.emseg")

    def _on_open(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a session (a folder *.emseg)")
        if path:
            self.wants_session.emit(path)


def _as_probability(boundary: Volume, name: str) -> Volume | np.ndarray:
    """Return boundaries as `PredictedMaps` takes them; other whole numbers than bytes are refused."""
    if boundary.dtype == np.uint8 or boundary.dtype.kind == "f":
        return boundary if boundary.dtype != np.float16 else np.asarray(boundary, np.float32)
    raise DataError(f"The boundaries {name} are {boundary.dtype}", "uint8 from 0 to 255, or floats from 0 to 1",
                    "Choose what was predicted, or convert it")  # fmt: skip


def _choose(box: LayerBox, layer: Image | None) -> None:
    """Choose in a box what nobody chose himself."""
    box.blockSignals(True)
    box.choose(layer)
    box.blockSignals(False)


def _may_be_boundaries(layer: Image) -> bool:
    """Whether it was predicted, or holds such numbers and nobody knows what it is."""
    role = role_of(layer)
    return role in _PREDICTED or (not role and (layer.dtype == np.uint8 or layer.dtype.kind == "f"))


def _place_for(layer: Image) -> Path:
    """Return where the session of an image goes unless the user says otherwise.

    Beside the image, with the name of its file; at home, with the layer's name, if it lies in none.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    source = Path(layer.metadata.get("source") or getattr(data, "source", ""))
    for file in (source, *source.parents):
        folder = file.parent
        if file.exists() and folder != file and folder.is_dir() and folder.suffix not in CONTAINERS:
            return folder / f"{as_file_name(_without_ending(file.name), 'stack')}.emseg"
    return Path.home() / f"{as_file_name(without_remark(layer.name), 'stack')}.emseg"


def _without_ending(name: str) -> str:
    endings = (ending for one in FORMATS for ending in one.suffixes if name.lower().endswith(ending))
    return name[: len(name) - len(max(endings, key=len, default=""))]
