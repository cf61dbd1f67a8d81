"""LabelledFiles: files with an image and its labels, to train on beside the layers or without them."""

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QListWidget, QSizePolicy, QVBoxLayout, QWidget

from napari_em_seg import io
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.parts import button

__all__ = ["LabelledFiles"]


class LabelledFiles(QWidget):
    """A list of containers, each of which holds an image and its labels.

    Signals: ``changed``, when there are others.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.list = QListWidget()
        self.list.setToolTip("Containers (HDF5, Zarr, N5) that hold an image and its labels each")
        self.list.setFixedHeight(2 * (self.fontMetrics().lineSpacing() + 6) + 4)
        self.add_file = button(
            "Add file…", "Add an HDF5 file that holds an image and its labels", self._on_file
        )
        self.add_folder = button(
            "Add folder…", "Add a Zarr or N5 container, which is a folder", self._on_folder
        )
        self.remove = button("Remove", "Take the one that is marked off the list", self._on_remove)
        self.remove.setEnabled(False)
        self.list.currentRowChanged.connect(lambda row: self.remove.setEnabled(row >= 0))
        row = QHBoxLayout()
        for one in (self.add_file, self.add_folder, self.remove):
            row.addWidget(one)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout.addWidget(self.list)
        layout.addLayout(row)

    @property
    def paths(self) -> list[str]:
        """The containers."""
        return [self.list.item(row).text() for row in range(self.list.count())]

    def add(self, path: str) -> None:
        """Add a container."""
        if path and path not in self.paths:
            self.list.addItem(path)
            self.changed.emit()

    def volumes(self) -> list[tuple[Volume, Volume]]:
        """Open all images with their labels."""
        return [(io.open_volume(path), io.open_volume(path, "labels")) for path in self.paths]

    def _on_file(self) -> None:
        self.add(QFileDialog.getOpenFileName(self, "Image with labels", str(Path.home()),
                                             "HDF5 (*.h5 *.hdf5 *.hdf)")[0])  # fmt: skip

    def _on_folder(self) -> None:
        self.add(QFileDialog.getExistingDirectory(self, "Zarr or N5 with image and labels", str(Path.home())))

    def _on_remove(self) -> None:
        self.list.takeItem(self.list.currentRow())
        self.changed.emit()
