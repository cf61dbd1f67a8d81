"""Strip: how sure each object (row) is in each slice (column), to look at and to click on."""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_em_seg.widgets.colours import SOURCE, confidence_colour

__all__ = ["Strip"]

_NAMES = 52  # pixels for the numbers of objects
_STEPS = {Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0), Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1)}


class Strip(QWidget):
    """A table of colours: vermilion is unsure, blue is sure, nothing is not followed there."""

    chosen = Signal(int, int)
    """The row and the slice that were clicked on, or gone to with the arrow keys."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[int] = []
        self._table = np.zeros((0, 0), np.float32)
        self._row = self._z = -1
        self.setMinimumHeight(90)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseTracking(True)
        self.setToolTip("Rows are objects, columns slices; a click or the arrow keys go there")

    def show_table(self, names: list[int], table: NDArray[np.float32]) -> None:
        """Show how sure objects are (objects, slices); not a number where they are not followed."""
        self._names, self._table = names, table
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if names else Qt.FocusPolicy.NoFocus)
        self.update()

    def mark(self, row: int, z: int) -> None:
        """Mark an object and a slice."""
        self._row, self._z = row, z
        self.update()

    def _cell(self) -> tuple[float, float]:
        n, slices = self._table.shape
        return (self.height() - 2) / max(n, 6), (self.width() - _NAMES - 2) / max(slices, 1)

    def place_of(self, row: int, z: int) -> QPoint:
        """Return the middle of a cell."""
        height, width = self._cell()
        return QPoint(round(_NAMES + 1 + (z + 0.5) * width), round(1 + (row + 0.5) * height))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the colours, the numbers, and what is marked."""
        if not self._table.size:
            return
        painter = QPainter(self)
        height, width = self._cell()
        n, slices = self._table.shape
        picture = np.zeros((n, slices, 4), np.uint8)
        for row, column in np.argwhere(np.isfinite(self._table)):
            picture[row, column] = (*confidence_colour(float(self._table[row, column])), 255)
        image = QImage(picture.data, slices, n, 4 * slices, QImage.Format.Format_RGBA8888)
        painter.drawImage(QRectF(_NAMES, 1, slices * width, n * height), image)
        painter.setPen(self.palette().text().color())
        if height >= self.fontMetrics().height() * 0.8:
            for row, name in enumerate(self._names):
                place = QRectF(0, 1 + row * height, _NAMES - 4, height)
                painter.drawText(
                    place, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), str(name)
                )
        if self.hasFocus():
            painter.setPen(self.palette().highlight().color())
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.setPen(QColor(SOURCE))
        if 0 <= self._row < n:
            painter.drawRect(QRectF(_NAMES, 1 + self._row * height, slices * width, height))
        if 0 <= self._z < slices:
            painter.drawRect(QRectF(_NAMES + self._z * width, 1, width, n * height))
        painter.end()

    def _at(self, event: QMouseEvent) -> tuple[int, int] | None:
        height, width = self._cell()
        place = event.position()
        row, z = int((place.y() - 1) // height), int((place.x() - _NAMES - 1) // width)
        n, slices = self._table.shape
        return (row, z) if 0 <= row < n and 0 <= z < slices else None

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Say which cell was clicked on."""
        cell = self._at(event)
        if cell is not None:
            self.chosen.emit(*cell)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Go to the cell beside the one that is marked."""
        step = _STEPS.get(event.key())
        if step is None or not self._table.size:
            super().keyPressEvent(event)
            return
        n, slices = self._table.shape
        row = min(max(self._row + step[0], 0), n - 1)
        self.chosen.emit(row, min(max(self._z + step[1], 0), slices - 1))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Say what a cell means."""
        cell = self._at(event)
        if cell is None:
            QToolTip.hideText()
            return
        value = float(self._table[cell])
        words = f"{value:.0%} sure" if value == value else "not followed"
        QToolTip.showText(
            event.globalPosition().toPoint(), f"object {self._names[cell[0]]}, slice {cell[1]}: {words}"
        )

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """Say nothing any more."""
        QToolTip.hideText()
