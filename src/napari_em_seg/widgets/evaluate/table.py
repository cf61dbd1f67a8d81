"""Table: named columns of numbers as a lazy Qt model; a click on a title sorts, a click on a row chooses it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

__all__ = ["Column", "ColumnTable", "ColumnsModel"]


@dataclass(frozen=True, eq=False)
class Column:
    """What is shown of all rows: a title, what it means, the values, and how one of them is written."""

    name: str
    title: str
    meaning: str
    values: Any
    text: Callable[[Any], str] = str
    letters: int = 8


class ColumnsModel(QAbstractTableModel):
    """Rows of columns; the text of a cell is made when it is shown, so that there may be very many."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: Sequence[Column] = ()
        self._order = np.zeros(0, np.int64)

    def show(self, columns: Sequence[Column]) -> None:
        """Show other columns, in the order in which they come."""
        self.beginResetModel()
        self.columns = columns
        self._order = np.arange(len(columns[0].values) if columns else 0)
        self.endResetModel()

    def place_of(self, row: int) -> int:
        """Return the place of a row within the columns."""
        return int(self._order[row])

    def row_of(self, place: int) -> int:
        """Return the row where a place within the columns is shown."""
        return int(np.flatnonzero(self._order == place)[0])

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """Return the number of rows."""
        return 0 if parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Return titles and what they mean."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.columns[section].meaning
        return self.columns[section].title if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell; numbers stand at the right."""
        if not index.isValid():
            return None
        column = self.columns[index.column()]
        value = column.values[self._order[index.row()]]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return column.text(value)
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; −1 is the order in which the rows came. Equal ones stay in that order."""
        if column >= len(self.columns):
            return
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        places = [self.place_of(index.row()) for index in before]
        values = np.asarray(self.columns[column].values) if column >= 0 else np.arange(len(self._order))
        if order == Qt.SortOrder.AscendingOrder or column < 0:
            self._order = np.argsort(values, kind="stable")
        else:
            self._order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
        row_of = np.empty(len(self._order), np.int64)
        row_of[self._order] = np.arange(len(self._order))
        after = [self.index(int(row_of[p]), i.column()) for p, i in zip(places, before, strict=True)]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()


class ColumnTable(QTableView):
    """A table of which a row is chosen by a click or the arrow keys.

    Signals: ``chosen``, with the place of a row within the columns.

    Parameters
    ----------
    tip
        What it is.
    is_sorted
        Whether a click on a title sorts.
    is_wrapped
        Whether long words take several lines, which is for short tables.
    """

    chosen = Signal(int)

    def __init__(self, tip: str, *, is_sorted: bool = True, is_wrapped: bool = False) -> None:
        super().__init__()
        self.columns = ColumnsModel()
        self.setModel(self.columns)
        self.setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)  # Tab leads out of it
        self.setWordWrap(is_wrapped)
        self.verticalHeader().setVisible(False)
        fixed, fitting = QHeaderView.ResizeMode.Fixed, QHeaderView.ResizeMode.ResizeToContents
        self.verticalHeader().setSectionResizeMode(fitting if is_wrapped else fixed)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        header = self.horizontalHeader()
        header.setStretchLastSection(True)
        header.setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        self.setSortingEnabled(is_sorted)
        self.setMinimumHeight(120)
        self.selectionModel().currentRowChanged.connect(self._on_row)

    def show_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns."""
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        self.columns.show(columns)
        width = self.fontMetrics().horizontalAdvance("0")
        for place, column in enumerate(columns):
            self.setColumnWidth(place, column.letters * width)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Choose a row again that is chosen already: one may have looked elsewhere meanwhile."""
        before = self.currentIndex()
        super().mousePressEvent(event)
        if before.isValid() and self.currentIndex().row() == before.row():
            self._on_row(before)

    def _on_row(self, index: QModelIndex, _before: object = None) -> None:
        if index.isValid():
            self.chosen.emit(self.columns.place_of(index.row()))
