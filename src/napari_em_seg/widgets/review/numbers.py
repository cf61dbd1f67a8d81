"""Numbers: what was reviewed, how fast, how many errors are left, and how they fell."""

from collections.abc import Sequence

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_em_seg.review import curve
from napari_em_seg.review.pace import CurvePoint
from napari_em_seg.widgets.colours import SOURCE, TARGET
from napari_em_seg.widgets.review.desk import Sheet

__all__ = ["Numbers"]


class _Curve(QWidget):
    """Errors that are expected to be left against verdicts, with their interval."""

    def __init__(self) -> None:
        super().__init__()
        self._points: Sequence[CurvePoint] = ()
        self.setMinimumSize(80, 34)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Errors that are expected to be left, against verdicts; between the lines lie 9 of 10")

    def show_points(self, points: Sequence[CurvePoint]) -> None:
        self._points = points
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if len(self._points) < 2:
            return
        highest = max(point.high for point in self._points) or 1
        width, height = self.width() - 4, self.height() - 4

        def line(values: Sequence[float]) -> list[QPointF]:
            n = len(values) - 1
            return [QPointF(2 + width * i / n, 2 + height * (1 - v / highest)) for i, v in enumerate(values)]

        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        band = line([p.high for p in self._points]) + line([p.low for p in self._points])[::-1]
        shade = QColor(TARGET)
        shade.setAlpha(80)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(shade)
        painter.drawPolygon(QPolygonF(band))
        painter.setPen(QPen(QColor(SOURCE), 2))
        painter.drawPolyline(QPolygonF(line([p.mean for p in self._points])))
        painter.end()


class Numbers(QWidget):
    """The head of the dock: how far the review has come."""

    def __init__(self) -> None:
        super().__init__()
        self._text = QLabel()
        self._text.setToolTip(
            "Verdicts so far, verdicts in a minute, errors that are expected to be left with the range in "
            "which 9 of 10 such estimates hold the truth"
        )
        self._curve = _Curve()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addWidget(self._curve, 1)

    def show_sheet(self, sheet: Sheet | None) -> None:
        """Show the numbers of a session; None: nothing."""
        if sheet is None:
            self._text.clear()
            self._curve.show_points(())
            return
        n, left = len(sheet.view.state.verdicts), sheet.left
        advice = "You can stop here" if sheet.is_enough else f"at most {sheet.bound:.1f} wrong in 100 links"
        self._text.setText(
            f"reviewed {n:,} · {sheet.per_minute:.0f}/min\n"
            f"~{left.mean:.0f} errors left ({left.low}–{left.high})\n{advice}"
        )
        self._curve.show_points(curve(sheet.view.operations))
