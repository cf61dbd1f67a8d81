"""LearningCurves: the loss of every step and the error of every validation, drawn while they come."""

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_em_seg.widgets.colours import SOURCE, TARGET

__all__ = ["LearningCurves"]

_POINTS = 200  # of the curve of the loss; each is the mean of the steps between
_MARGIN = 6


class LearningCurves(QWidget):
    """Two charts side by side, from step 0 to the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[int, float]] = []
        self.errors: list[tuple[int, float]] = []
        self._error_name = "error"
        self.setMinimumHeight(6 * self.fontMetrics().lineSpacing())
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(
            "Left: the loss, mean of neighbouring steps. Right: the error on what is kept aside, at each "
            "validation"
        )

    def clear(self) -> None:
        """Begin anew."""
        self.losses, self.errors = [], []
        self.update()

    def add_losses(self, losses: Sequence[tuple[int, float]]) -> None:
        """Add steps and their losses."""
        self.losses.extend(losses)
        self.update()

    def add_error(self, step: int, error: float, name: str) -> None:
        """Add a validation."""
        self.errors.append((step, error))
        self._error_name = name
        self.update()

    def paintEvent(self, _event: object) -> None:  # noqa: N802
        """Draw both charts."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        half = self.width() / 2
        last = max([1, *(step for step, _ in (*self.losses, *self.errors))])
        for place, (title, points, colour) in enumerate((
            ("loss", _thinned(self.losses), SOURCE), (self._error_name, self.errors, TARGET),
        )):  # fmt: skip
            self._draw(painter, QRectF(place * half, 0, half, self.height()), title, points, last, colour)
        painter.end()

    def _inside(self, chart: QRectF) -> QRectF:
        line = self.fontMetrics().lineSpacing()
        return chart.adjusted(_MARGIN, line + 4, -_MARGIN, -line - 4)

    def _draw(
        self, painter: QPainter, chart: QRectF, title: str, points: Sequence[tuple[float, float]], last: int,
        colour: str,
    ) -> None:  # fmt: skip
        inside, ink = self._inside(chart), self.palette().color(QPalette.ColorRole.WindowText)
        painter.setPen(QPen(ink))
        said = f"{title}  {points[-1][1]:.3g}" if points else title
        painter.drawText(chart.adjusted(_MARGIN, 0, 0, 0), Qt.AlignmentFlag.AlignTop, said)
        corner = Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignRight
        painter.drawText(chart.adjusted(0, 0, -_MARGIN, 0), corner, f"step {last}")
        faint = QColor(ink)
        faint.setAlphaF(0.35)
        painter.setPen(QPen(faint))
        painter.drawLine(inside.bottomLeft(), inside.bottomRight())
        painter.drawLine(inside.bottomLeft(), inside.topLeft())
        places = QPolygonF([_at(inside, x, y, last, points) for x, y in points])
        painter.setPen(QPen(QColor(colour), 2))
        painter.drawPolyline(places)
        if len(places) <= _POINTS // 8:
            painter.setBrush(QColor(colour))
            for place in places:
                painter.drawEllipse(place, 2, 2)


def _at(chart: QRectF, x: float, y: float, last: int, points: Sequence[tuple[float, float]]) -> QPointF:
    """Return where a point lies in a chart that begins at zero."""
    top = max((value for _, value in points), default=1.0) or 1.0
    return QPointF(chart.left() + chart.width() * x / last, chart.bottom() - chart.height() * y / top)


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return means of neighbouring points, so that a curve of many is calm and quickly drawn."""
    parts = np.array_split(np.array(points, float).reshape(-1, 2), max(1, min(_POINTS, len(points) // 5)))
    return [tuple(part.mean(axis=0)) for part in parts if len(part)]
