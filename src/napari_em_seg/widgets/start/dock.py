"""Dock "Start": the way from a stack to neurons, how far it has come, and the dock for each step."""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
)

from napari_em_seg.errors import EmSegError
from napari_em_seg.widgets.device_box import DeviceBox
from napari_em_seg.widgets.docking import open_dock, our_docks
from napari_em_seg.widgets.layers import role_of
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import PLUGIN, button, form
from napari_em_seg.widgets.recent import recent_sessions
from napari_em_seg.widgets.review.canvas import OBJECTS, SOURCES, TARGETS
from napari_em_seg.widgets.start.steps import STEPS, Step, image_in

__all__ = ["StartWidget"]

_REVIEW_WIDTH = 430
_LONGEST_WORD = 24  # average letters


class StartWidget(Panel):
    """Shows the way and opens the docks; holds nothing of its own.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.buttons: dict[str, QPushButton] = {}
        self._marks: dict[str, QLabel] = {}
        self._texts: dict[str, QLabel] = {}
        self._build()
        self.state.changed.connect(self.refresh)
        self.follow()

    # Building

    def _build(self) -> None:
        self.device = DeviceBox(self.state)
        self.recent = QListWidget()
        self.recent.setToolTip("Sessions that were opened last: double-click, or Enter, opens one")
        self.recent.setMaximumHeight(5 * self.fontMetrics().lineSpacing())
        self.recent.itemActivated.connect(self._on_recent)
        self.arrange = button("Arrange for proofreading",
                              "Open the list of links at the right, show the image and its objects alone",
                              self._on_arrange)  # fmt: skip
        layout = QVBoxLayout(self)
        layout.addLayout(self._way())
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout.addWidget(line)
        layout.addLayout(form({"Device": self.device}))
        layout.addWidget(QLabel("Sessions opened last"))
        layout.addWidget(self.recent)
        layout.addWidget(self.arrange)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        layout.addStretch(1)
        self.setMinimumWidth(330)

    def _way(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        for row, step in enumerate(STEPS):
            mark, text = QLabel(), QLabel()
            mark.setAlignment(Qt.AlignmentFlag.AlignTop)
            text.setWordWrap(True)
            text.setTextFormat(Qt.TextFormat.RichText)
            text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
            one = QPushButton(step.dock if row else "Open …")
            one.setToolTip(f"Open the dock {step.dock}" if row else "Open a stack, or take a sample")
            if row:
                one.clicked.connect(partial(self._on_step, step))
            else:
                one.setMenu(self._sources(one))
            for column, widget in enumerate((mark, text, one)):
                grid.addWidget(widget, row, column)
            self._marks[step.title], self._texts[step.title], self.buttons[step.title] = mark, text, one
        return grid

    def _sources(self, parent: QPushButton) -> QMenu:
        menu = QMenu(parent)
        menu.addAction("File …", self._on_file)
        menu.addAction("Folder (slices, Zarr, N5) …", self._on_folder)
        menu.addAction("Synthetic tissue", partial(self._on_sample, "tissue"))
        menu.addAction("Synthetic tissue with its truth", partial(self._on_sample, "tissue_with_truth"))
        menu.addSeparator()
        menu.addAction("Set the voxel size …", partial(self.open_dock, "Voxel size"))
        return menu

    # What is shown

    def on_layers(self) -> None:
        """Show how far it has come."""
        self.refresh()

    def refresh(self) -> None:
        """Show how far each step has come, and the sessions opened last."""
        layers = list(self._viewer.layers)
        for number, step in enumerate(STEPS, 1):
            found = step.found(layers, self.state)
            self._marks[step.title].setText("✓" if found else str(number))
            self._marks[step.title].setToolTip("Done" if found else "Not done yet")
            shown = escape(self._elided(found or step.hint))
            self._texts[step.title].setText(f"<b>{step.title}</b><br>{shown}")
            self._texts[step.title].setToolTip(found)
        self._show_recent()

    def _elided(self, text: str) -> str:
        """Shorten words that no line can hold, such as paths; the tip has them whole."""
        letters = self.fontMetrics()
        width = _LONGEST_WORD * letters.averageCharWidth()
        return " ".join(letters.elidedText(one, Qt.TextElideMode.ElideMiddle, width) for one in text.split(" "))

    def _show_recent(self) -> None:
        paths = recent_sessions()
        if [self.recent.item(k).data(Qt.ItemDataRole.UserRole) for k in range(self.recent.count())] == paths:
            return
        self.recent.clear()
        for path in paths:
            item = QListWidgetItem(path.name)
            item.setData(Qt.ItemDataRole.UserRole, path)
            item.setToolTip(str(path))
            self.recent.addItem(item)

    # What is done

    def open_dock(self, name: str) -> Any:
        """Open a dock of this plugin, or bring it to the front, and return its widget."""
        return open_dock(self._viewer, name)[1]

    def _on_step(self, step: Step, _checked: bool = False) -> None:
        self.open_dock(step.dock)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a stack", "", "EM stacks (*.tif *.tiff *.h5 *.hdf5 *.hdf)"
        )
        self._open(path)

    def _on_folder(self) -> None:
        self._open(QFileDialog.getExistingDirectory(self, "Open a folder of slices, Zarr or N5"))

    def _open(self, path: str) -> None:
        if not path:
            return
        try:
            self._viewer.open(path, plugin=PLUGIN)
        except EmSegError as error:
            self.on_failed(error)

    def _on_sample(self, name: str) -> None:
        self._viewer.open_sample(PLUGIN, name)

    def _on_recent(self, item: QListWidgetItem) -> None:
        self.open_session(item.data(Qt.ItemDataRole.UserRole))

    def open_session(self, path: Path) -> None:
        """Go on with a session in the dock Review links."""
        self.open_dock("Review links").open_session(str(path))

    def _on_arrange(self) -> None:
        """Put the list of links to the right, with the other docks behind it, and show what is reviewed."""
        review, _ = open_dock(self._viewer, "Review links")
        window = review.parentWidget()
        for other in our_docks(window):
            if other is not review and not other.isFloating():
                window.tabifyDockWidget(review, other)
        window.resizeDocks([review], [_REVIEW_WIDTH], Qt.Orientation.Horizontal)
        review.raise_()
        self._viewer.dims.ndisplay = 2
        self._show_only(image_in(list(self._viewer.layers), self.state))

    def _show_only(self, image: Image | None) -> None:
        """Show the image, and the layers of the review, or any labels where there is none."""
        reviewed = (OBJECTS, SOURCES, TARGETS)
        names = reviewed if self.state.desk else [x.name for x in self._viewer.layers if not role_of(x)]
        for layer in self._viewer.layers:
            layer.visible = layer is image or (isinstance(layer, Labels) and layer.name in names)
        if image is not None and self.state.desk is None:
            self._viewer.fit_to_view()

    def let_go(self) -> None:
        """Follow the viewer no longer."""
        self.device.let_go()
        self.state.changed.disconnect(self.refresh)
