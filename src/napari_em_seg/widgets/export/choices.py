"""Choices of the dock "Export": what is written, of which objects, and where to."""

import re
from pathlib import Path

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QHBoxLayout, QLineEdit, QWidget

from napari_em_seg.errors import DataError
from napari_em_seg.io import FORMATS
from napari_em_seg.pipeline import Export
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.parts import button, check, choice, form, remember, settings_of, whole_number

__all__ = ["Objects", "Place", "Source", "What"]

_SUFFIXES = {"ome-zarr-0.4": ".zarr", "zarr3": ".zarr", "zarr2": ".zarr", "tiff-slices": ".slices",
             "ome-zarr": ".zarr"}  # fmt: skip
_LABELS = {format_.title: format_.name for format_ in FORMATS}
_MESHES = {"PLY": "ply", "OBJ": "obj", "Neuroglancer precomputed": "precomputed"}
_ENDINGS = {"links": ".links.csv", "graph": ".graphml", "history": ".history.csv", "meshes": ".meshes",
            "skeletons": ".skeletons", "report": ".html"}  # fmt: skip
_HOLDS_ALL = "ome-zarr"
_ALL, _THESE, _LARGE = "all", "these", "larger than"


class Source(LayerBox):
    """Offers the session that is open, and layers."""

    def offer_session(self, name: str, layers: list) -> None:
        """Offer them; a session comes first, and is chosen when it is new."""
        is_new = bool(name) and not self._nothing
        self._nothing = f"session {name}" if name else ""
        self.offer(layers)
        if is_new:
            self.setCurrentIndex(0)


class What(QWidget):
    """What is written, and in which format."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.boxes = {
            "labels": check("Labels", "The object of each voxel, as a volume", is_on=True),
            "links": check("Links (CSV)", "Of a session: all links, the most doubtful first"),
            "graph": check("Graph (GraphML)", "Of a session: all sections, and the links between them"),
            "history": check("History (CSV)", "Of a session: all that was done, by whom and when"),
            "meshes": check("Meshes", "The surface of each object in nm, one file each"),
            "skeletons": check("Skeletons (SWC)", "The middle lines of each object in µm, one file each"),
            "report": check("Report (HTML)", "Pictures and numbers in one file, to look at in a browser"),
            "pipeline": check(
                "Pipeline (YAML)",
                "All steps with their parameters, from the image on, which “napari-em-seg run” "
                "repeats with the same result; what people did in a session goes into a file beside it",
            ),
        }
        self.label_format = choice("Format of the labels", _LABELS)
        self.mesh_format = choice("Format of the meshes", _MESHES)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        for row, (left, right) in enumerate((
            ("labels", self.label_format), ("meshes", self.mesh_format), ("skeletons", self.boxes["links"]),
            ("report", self.boxes["graph"]), ("pipeline", self.boxes["history"]),
        )):  # fmt: skip
            grid.addWidget(self.boxes[left], row, 0)
            grid.addWidget(right, row, 1)
        remember("export", {**self.boxes, "label_format": self.label_format, "mesh_format": self.mesh_format})
        self._wished = self.label_format.currentText()
        self.label_format.currentTextChanged.connect(self._on_label_format)
        for box in self.boxes.values():
            box.toggled.connect(self.changed)

    def offer_formats(self, dtype: np.dtype) -> None:
        """Offer formats that hold labels of a type; the one that somebody chose comes back when it does."""
        box = self.label_format
        box.blockSignals(True)
        box.clear()
        for one in FORMATS:
            if one.holds_labels(dtype):
                box.addItem(one.title, one.name)
        place = box.findText(self._wished)
        box.setCurrentIndex(place if place >= 0 else box.findData(_HOLDS_ALL))
        box.blockSignals(False)

    def _on_label_format(self, title: str) -> None:
        self._wished = title

    def is_wanted(self, name: str) -> bool:
        """Whether something is ticked, and there is such a thing."""
        return self.boxes[name].isChecked() and self.boxes[name].isEnabled()

    def enable(self, has_session: bool) -> None:
        """Offer what only sessions have, or not."""
        for name in ("links", "graph", "history"):
            self.boxes[name].setEnabled(has_session)
        self.label_format.setEnabled(self.is_wanted("labels"))
        self.mesh_format.setEnabled(self.is_wanted("meshes"))

    @property
    def is_any(self) -> bool:
        """Whether anything is wanted."""
        return any(self.is_wanted(name) for name in self.boxes)

    def places(self, folder: Path, name: str) -> dict[str, str]:
        """Return where each thing that is wanted goes, by name."""
        endings = {"labels": _suffix(self.label_format.currentData()), **_ENDINGS, "pipeline": ".yaml"}
        return {
            what: str(folder / f"{name}{ending}") for what, ending in endings.items() if self.is_wanted(what)
        }


class Objects(QWidget):
    """Of which objects there are meshes and skeletons."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.which = choice("Meshes and skeletons of all objects, of those you name or click, or of large ones",
                            [_ALL, _THESE, _LARGE])  # fmt: skip
        self.names = QLineEdit()
        self.names.setPlaceholderText("click on objects, or 88, 412")
        self.names.setToolTip("Numbers of objects; a click in the canvas adds one, or takes it out again")
        self.least = whole_number("Fewest voxels of an object", 1, 2_000_000_000, 1000, unit="voxels")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget, stretch in ((self.which, 0), (self.names, 1), (self.least, 1)):
            row.addWidget(widget, stretch)
        self.which.setMinimumContentsLength(8)
        self.which.currentIndexChanged.connect(self._on_which)
        remember("export", {"objects": self.which, "least": self.least})
        self._on_which()

    def _on_which(self, _place: int = 0) -> None:
        which = self.which.currentText()
        self.names.setVisible(which == _THESE)
        self.least.setVisible(which == _LARGE)
        self.changed.emit()

    @property
    def are_named(self) -> bool:
        """Whether they are named one by one."""
        return self.which.currentText() == _THESE

    @property
    def ids(self) -> tuple[int, ...]:
        """Those that are named; none: all."""
        if not self.are_named:
            return ()
        found = tuple(int(number) for number in re.findall(r"\d+", self.names.text()))
        if not found or re.search(r"[^\d\s,;]", self.names.text()):
            raise DataError(f"The objects are {self.names.text()!r}", "numbers such as 88, 412",
                            "Click on objects, or choose all")  # fmt: skip
        return found

    @property
    def fewest(self) -> int:
        """Fewest voxels of those that are wanted."""
        return self.least.value() if self.which.currentText() == _LARGE else 1

    def toggle(self, name: int) -> bool:
        """Add an object, or take it out; return whether it is among them now."""
        there = [int(number) for number in re.findall(r"\d+", self.names.text())]
        is_in = name not in there
        there = [*there, name] if is_in else [other for other in there if other != name]
        self.names.setText(", ".join(map(str, there)))
        return is_in


class Place(QWidget):
    """Where files go: a folder, and how their names begin."""

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.name = QLineEdit(), QLineEdit()
        self.folder.setToolTip("The folder that files go to; it has to be there")
        self.name.setToolTip("How the names of all files begin: NAME.zarr, NAME.meshes, NAME.html …")
        self.browse = button("…", "Choose another folder", self._on_browse)
        self.browse.setMaximumWidth(32)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.folder, 1)
        row.addWidget(self.browse)
        rows = form({"Folder": row_widget(row), "Name": self.name})
        rows.setContentsMargins(0, 0, 0, 0)
        self.setLayout(rows)
        self._suggested = ("", "")
        kept = settings_of("export")
        self.folder.setText("" if kept is None else kept.folder)
        self.folder.textEdited.connect(self._on_folder)

    def suggest(self, folder: Path, name: str) -> None:
        """Fill in what suits another source; what somebody typed stays."""
        suggested = str(folder), name
        for field, before, now in zip((self.folder, self.name), self._suggested, suggested, strict=True):
            if field.text() in ("", before):
                field.setText(now)
        self._suggested = suggested

    def place(self) -> tuple[Path, str]:
        """Return folder and name."""
        folder, name = self.folder.text().strip(), self.name.text().strip()
        if not folder or not Path(folder).expanduser().is_dir():
            raise DataError(f"The folder is {folder!r}", "one that is there", "Choose another one")
        if not name or re.search(r'[\\/:*?"<>|]', name):
            raise DataError(f"The name is {name!r}", "one that files can have", "Choose another one")
        return Path(folder).expanduser().absolute(), name

    def _on_folder(self, path: str) -> None:
        """Keep a folder that somebody chose; one that was suggested is not kept."""
        kept = settings_of("export")
        if kept is not None:
            kept.folder = path

    def _on_browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Where files go", self.folder.text())
        if path:
            self.folder.setText(path)
            self._on_folder(path)


def export_of(what: What, objects: Objects, places: dict[str, str], fill: float) -> Export:
    """Return what is chosen."""
    files = {name: place for name, place in places.items() if name != "pipeline"}
    return Export(
        **files, label_format=what.label_format.currentData(), mesh_format=what.mesh_format.currentData(),
        objects=objects.ids if {"meshes", "skeletons"} & set(files) else (), least=objects.fewest, fill=fill,
    )  # fmt: skip


def row_widget(layout: QHBoxLayout) -> QWidget:
    """Return a widget that holds a row."""
    made = QWidget()
    made.setLayout(layout)
    return made


def _suffix(format_name: str) -> str:
    return _SUFFIXES.get(format_name) or next(f.suffixes[0] for f in FORMATS if f.name == format_name)
