"""Inspector: slices side by side with outlines, and the alternatives with pictures, to look at and choose."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QListWidget, QListWidgetItem, QSizePolicy, QVBoxLayout, QWidget

from napari_em_seg.review.scene import Choice, Scene, in_words
from napari_em_seg.volume import ArrayLike
from napari_em_seg.widgets.colours import ALTERNATIVE, SOURCE, TARGET
from napari_em_seg.widgets.review.drawing import Box, picture, square_around

__all__ = ["Inspector"]

_SIDE = 300
_ICON = 64


class _Pane(QLabel):
    """One slice: a title above a picture that fills what room there is."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap: QPixmap | None = None
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setMinimumSize(56, 56)  # two rows of them fit a low screen
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)

    def show_picture(self, image: NDArray[np.uint8] | None) -> None:
        self._pixmap = None if image is None else _pixmap(image)
        self._fit()

    def _fit(self) -> None:
        if self._pixmap is None:
            self.clear()
            return
        mode = Qt.TransformationMode.SmoothTransformation
        self.setPixmap(self._pixmap.scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio, mode))

    def resizeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()


class Inspector(QWidget):
    """Slices around a link, and its alternatives.

    Signals: ``hovered`` with a choice or None, ``chosen`` with the number of an alternative from 1 on, 0 for
    the link as it is.
    """

    hovered = Signal(object)
    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._scene: Scene | None = None
        self._read: Callable[[int], NDArray[np.generic]] | None = None
        self._limits_of: Callable[[], tuple[float, float]] | None = None
        self._n_slices = 0
        self._panes = {offset: _Pane() for offset in (-1, 0, 1, 2)}
        self._titles = {offset: QLabel() for offset in self._panes}
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        for column, offset in enumerate((0, 1)):
            self._put(grid, offset, 0, column)
        for column, offset in enumerate((-1, 2)):
            self._put(grid, offset, 2, column)
        grid.setRowStretch(1, 1)
        self._grid = grid
        self.choices = QListWidget()
        self.choices.setIconSize(QSize(2 * _ICON + 2, _ICON))
        self.choices.setMouseTracking(True)
        self.choices.setUniformItemSizes(True)
        self.choices.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves the focus where it is
        self.choices.setToolTip(
            "Point at an alternative, or go there with ↑ ↓, to see it in the picture; click on it, or press "
            "Enter, to choose it"
        )
        self.choices.setMinimumHeight(_ICON + 12)
        self.choices.itemEntered.connect(self._on_entered)
        self.choices.currentRowChanged.connect(self._on_row)
        self.choices.itemClicked.connect(lambda item: self.chosen.emit(self.choices.row(item)))
        for watched in (self.choices, self.choices.viewport()):
            watched.installEventFilter(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid, 3)
        layout.addWidget(self.choices, 2)
        self.show_neighbours(False)

    def _put(self, grid: QGridLayout, offset: int, row: int, column: int) -> None:
        grid.addWidget(self._titles[offset], row, column)
        grid.addWidget(self._panes[offset], row + 1, column)
        grid.setColumnStretch(column, 1)

    def show_image(
        self, data: ArrayLike | None, limits: Callable[[], tuple[float, float]] | None = None
    ) -> None:
        """Say where pictures come from, and what is black and white there; slices read once are kept."""
        self._limits_of = limits
        if data is None:
            self._read, self._n_slices = None, 0
            return
        self._n_slices = int(data.shape[0])
        self._read = lru_cache(maxsize=12)(lambda z: np.asarray(data[z]))

    def prefetch(self, z: int) -> None:
        """Read the slices that a link out of slice z will need."""
        for one in (z, z + 1):
            if self._read is not None and 0 <= one < self._n_slices:
                self._read(one)

    def show_neighbours(self, is_shown: bool) -> None:
        """Show the slices before and after the two as well, or not."""
        for offset in (-1, 2):
            self._panes[offset].setVisible(is_shown)
            self._titles[offset].setVisible(is_shown)
        self._grid.setRowStretch(3, 1 if is_shown else 0)
        if self._scene is not None:
            self._show_panes(None)

    def show_scene(self, scene: Scene | None) -> None:
        """Show a link and its alternatives; None: nothing."""
        if scene is None or self._read is None:
            self._scene = None
            self.choices.clear()
            for offset, pane in self._panes.items():
                pane.show_picture(None)
                self._titles[offset].clear()
            return
        self._scene = scene
        self._show_panes(None)
        self._show_choices()

    def preview(self, choice: Choice | None) -> None:
        """Outline an alternative on the slices; None: no one."""
        if self._scene is not None:
            self._show_panes(choice)

    def _show_panes(self, choice: Choice | None) -> None:
        scene = self._scene
        for offset, pane in self._panes.items():
            z = scene.z + offset
            is_there = 0 <= z < self._n_slices and not pane.isHidden()
            self._titles[offset].setText(f"slice {z}" if 0 <= z < self._n_slices else "")
            pane.show_picture(self._picture(z, choice, _SIDE) if is_there else None)

    def _picture(
        self, z: int, choice: Choice | None, size: int, *, is_alone: bool = False
    ) -> NDArray[np.uint8]:
        scene, plane = self._scene, self._read(z)
        box = self._box(plane.shape)
        outlined = []
        if not is_alone:
            outlined = [(_in(scene.asked.sources, z), SOURCE), (_in(scene.asked.targets, z), TARGET)]
        if choice is not None:
            colours = (SOURCE, TARGET) if is_alone else (ALTERNATIVE, ALTERNATIVE)
            outlined += [(_in(choice.sources, z), colours[0]), (_in(choice.targets, z), colours[1])]
        part = plane[box[0] : box[2], box[1] : box[3]]
        return picture(part, self._limits_of(), box, outlined, size)

    def _box(self, shape: tuple[int, ...]) -> Box:
        return square_around(self._scene.box, (shape[0], shape[1]))

    def _show_choices(self) -> None:
        self.choices.clear()
        scene = self._scene
        for k, choice in enumerate((scene.asked, *scene.alternatives)):
            words = (
                f"as it is: {in_words(choice)}"
                if k == 0
                else f"{k}  {in_words(choice)}\n    {choice.difference:+.2f}"
            )
            item = QListWidgetItem(QIcon(self._icon(choice)), words)
            item.setToolTip(
                "The link as the program has it" if k == 0 else "How much dearer the solution would be with it"
            )
            self.choices.addItem(item)

    def _icon(self, choice: Choice) -> QPixmap:
        pair = [
            self._picture(z, choice, _ICON, is_alone=True) if 0 <= z < self._n_slices
            else np.zeros((_ICON, _ICON, 3), np.uint8)
            for z in (self._scene.z, self._scene.z + 1)
        ]  # fmt: skip
        sides = [
            _pixmap(image).scaled(_ICON, _ICON, Qt.AspectRatioMode.KeepAspectRatio,
                                  Qt.TransformationMode.SmoothTransformation).toImage()
            for image in pair
        ]  # fmt: skip
        return _beside(*sides)

    def _on_entered(self, item: QListWidgetItem) -> None:
        self._on_row(self.choices.row(item))

    def _on_row(self, row: int) -> None:
        if row >= 0:
            self.hovered.emit(None if row == 0 else self._scene.alternatives[row - 1])

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:  # noqa: N802
        """Notice when the pointer or the focus leaves the list, and take Enter as a click."""
        has_left = event.type() in (QEvent.Type.Leave, QEvent.Type.FocusOut)
        if has_left and self._scene is not None:
            self.hovered.emit(None)
        is_enter = event.type() == QEvent.Type.KeyPress and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and self.choices.currentRow() >= 0:
            self.chosen.emit(self.choices.currentRow())
            return True
        return super().eventFilter(watched, event)


def _in(places: tuple, z: int) -> list:
    return [place for place in places if place.z == z]


def _pixmap(image: NDArray[np.uint8]) -> QPixmap:
    image = np.ascontiguousarray(image)
    height, width, _ = image.shape
    return QPixmap.fromImage(QImage(image.data, width, height, 3 * width, QImage.Format.Format_RGB888))


def _beside(left: QImage, right: QImage) -> QPixmap:
    found = QPixmap(2 * _ICON + 2, _ICON)
    found.fill(Qt.GlobalColor.transparent)
    painter = QPainter(found)
    painter.drawImage(0, 0, left)
    painter.drawImage(_ICON + 2, 0, right)
    painter.end()
    return found
