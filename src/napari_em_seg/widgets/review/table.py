"""Table: the list of links as a lazy Qt model, with confidence as a coloured bar."""

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QRect, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from napari_em_seg.review import Links, Status
from napari_em_seg.review.links import MERGE_IN_AGGLOMERATION
from napari_em_seg.widgets.colours import confidence_colour

__all__ = ["LinkTable", "LinksModel"]

COLUMNS = ("#", "confidence", "kind", "slices", "object", "answer")
_ORDERS = (None, "confidence", "kind", "z", "object", "status")
_CONFIDENCE = 1
_KINDS = ("continues", "splits", "merge", "begins", "ends", "joined")
_MARKS = {
    Status.OPEN: "", Status.ACCEPTED: "✓ right", Status.REJECTED: "✗ wrong", Status.CHANGED: "↷ changed",
    Status.DO_NOT_KNOW: "? unknown", Status.SKIPPED: "… later",
}  # fmt: skip
_HELP = (
    "Place in the list", "How sure the program is, from 0 to 1", "What becomes of the section",
    "From which slice to which", "Number of the object, as in the layer 'objects'", "What you said",
)  # fmt: skip


class LinksModel(QAbstractTableModel):
    """Links as rows; nothing is made before it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.links: Links | None = None

    def show(self, links: Links | None) -> None:
        """Show other links."""
        self.beginResetModel()
        self.links = links
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """Return the number of links."""
        return 0 if self.links is None or parent.isValid() else len(self.links)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """Return the number of columns."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Return titles and what they mean."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.ToolTipRole:
            return _HELP[section]
        return COLUMNS[section] if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell; of a confidence the number, which the delegate draws."""
        if self.links is None or not index.isValid():
            return None
        row, column = index.row(), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, column)
        if role == Qt.ItemDataRole.UserRole and column == _CONFIDENCE:
            return float(self.links.confidence[row])
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (0, 4):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, row: int, column: int) -> str:
        links = self.links
        if column == 0:
            return str(row + 1)
        if column == _CONFIDENCE:
            value = float(links.confidence[row])
            return f"{value:.3f}" if value == value else "–"
        if column == 2:
            return _KINDS[links.kind[row]]
        if column == 3:
            z = int(links.z[row])
            return f"{z} → {z + 1}" if links.kind[row] != MERGE_IN_AGGLOMERATION else str(z)
        if column == 4:
            return str(links.object[row] or "–")
        return _MARKS[Status(links.status[row])]


class _Bar(QStyledItemDelegate):
    """Draws a confidence as a bar in its colour, with the number on it."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        value = index.data(Qt.ItemDataRole.UserRole)
        if value is None or value != value:
            super().paint(painter, option, index)
            return
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(option.rect, option.palette.highlight())
        share = min(1.0, max(0.0, value))
        whole = option.rect.adjusted(3, 4, -3, -4)
        bar = QRect(whole.left(), whole.top(), max(3, round(whole.width() * share)), whole.height())
        painter.fillRect(bar, QColor(*confidence_colour(share)))
        painter.save()
        beyond = option.rect.adjusted(bar.right() + 1 - option.rect.left(), 0, 0, 0)
        for part, ink in ((bar, QColor("white")), (beyond, option.palette.text().color())):
            painter.setClipRect(part)  # legible on the bar and beside it, in both themes
            painter.setPen(ink)
            painter.drawText(whole, int(Qt.AlignmentFlag.AlignCenter), f"{value:.3f}")
        painter.restore()


class LinkTable(QTableView):
    """The list; a click on a title asks for another order, a click on a row for that link."""

    def __init__(self, model: LinksModel) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegateForColumn(_CONFIDENCE, _Bar(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)  # Tab leads out of it
        self.setToolTip("Links, the most doubtful first; a click or ↑ ↓ goes to one, a click on a title sorts")
        self.setWordWrap(False)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        header.setSectionsClickable(True)
        width = self.fontMetrics().horizontalAdvance("0")
        for column, letters in enumerate((5, 10, 9, 8, 7, 8)):
            self.setColumnWidth(column, letters * width)
        self.setMinimumHeight(84)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def select(self, row: int | None) -> None:
        """Mark a row, and bring it into view; None for none."""
        self.selectionModel().blockSignals(True)
        if row is None:
            self.clearSelection()
            self.setCurrentIndex(QModelIndex())
        else:
            self.selectRow(row)
            self.scrollTo(self.model().index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)
        self.selectionModel().blockSignals(False)
        self.viewport().update()


def order_of(column: int) -> str | None:
    """Return what a column sorts by; None for the place in the list."""
    return _ORDERS[column]
