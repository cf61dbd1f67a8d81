"""Results: what was found, in tabs: measures, tables that lead to errors, curves; and saving what is shown."""

from itertools import pairwise
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QTabWidget, QVBoxLayout, QWidget

from napari_em_seg.metrics import ObjectShapes
from napari_em_seg.pipeline import Evaluation
from napari_em_seg.pipeline.evaluation import n_for, write_table
from napari_em_seg.widgets.evaluate.columns import (
    columns_of_figures,
    columns_of_objects,
    columns_of_segments,
    columns_of_shapes,
)
from napari_em_seg.widgets.evaluate.curves import Curves, charts_of, charts_of_shapes
from napari_em_seg.widgets.evaluate.overlays import legend
from napari_em_seg.widgets.evaluate.table import ColumnTable
from napari_em_seg.widgets.parts import button

__all__ = ["Results"]

_ERRORS = legend(split="false split", merge="false merge", left_out="left out")
_LEGENDS = {
    "Splits": legend(first="largest part", second="second", others="others"),
    "Merges": legend(first="largest object", second="second", others="others"),
    "Objects": legend(first="the object"),
}


class Results(QWidget):
    """Tabs of results; nothing is shown before there are some.

    Parameters
    ----------
    theme
        Of the viewer, whose colours the curves have.
    """

    def __init__(self, theme: str) -> None:
        super().__init__()
        self.summary, self.colours = QLabel(), QLabel()
        for label in (self.summary, self.colours):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.RichText)
        self.measures = ColumnTable("All measures, with what they mean", is_sorted=False, is_wrapped=True)
        self.splits = ColumnTable("Objects of the truth, split worst first; a click or ↑ ↓ goes there")
        self.merges = ColumnTable("Segments, merged worst first; a click or ↑ ↓ goes there")
        self.objects = ColumnTable("Objects, least plausible first; a click or ↑ ↓ goes there")
        self.curves = Curves(theme)
        self._pages = (self.measures, self.splits, self.merges, self.objects, self.curves)
        self.tabs = QTabWidget()
        self.save = button("Save…", "Write the table that is shown as CSV, or the curves as PNG")
        row = QHBoxLayout()
        row.addWidget(self.colours, 1)
        row.addWidget(self.save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.summary)
        layout.addWidget(self.tabs, 1)
        layout.addLayout(row)
        self.tabs.currentChanged.connect(self._on_tab)
        self.clear()

    @property
    def title(self) -> str:
        """What is shown now."""
        return self.tabs.tabText(self.tabs.currentIndex())

    def show_evaluation(self, made: Evaluation) -> None:
        """Show measures, objects and segments."""
        self.measures.show_columns(columns_of_figures(made.scores))
        self.splits.show_columns(columns_of_objects(made.objects))
        self.merges.show_columns(columns_of_segments(made.segments))
        self.curves.show_charts(charts_of(made))
        self.summary.setText(_summary(made))
        self._show({"Measures": self.measures, "Splits": self.splits, "Merges": self.merges,
                    "Curves": self.curves})  # fmt: skip

    def show_shapes(self, shapes: ObjectShapes) -> None:
        """Show what is known without a truth; there are no curves of lengths that nobody knows."""
        figures = shapes.figures()
        self.measures.show_columns(columns_of_figures(figures))
        self.objects.show_columns(columns_of_shapes(shapes))
        self.curves.show_charts(charts_of_shapes(shapes))
        self.summary.setText(
            f"<b>{figures.n_orphans:,} orphans</b>, <b>{figures.n_ends:,} ends inside</b> the volume, "
            f"{figures.n_large:,} very large, of {figures.n_objects:,} objects."
        )
        pages = {"Measures": self.measures, "Objects": self.objects, "Curves": self.curves}
        self._show({title: page for title, page in pages.items() if page is not self.curves or page.charts})

    def clear(self) -> None:
        """Show nothing."""
        self.summary.clear()
        self._show({})

    def _show(self, pages: dict[str, QWidget]) -> None:
        title = self.title
        self.tabs.clear()
        for place, (name, page) in enumerate(pages.items()):
            self.tabs.addTab(page, name)
            self.tabs.setTabToolTip(place, page.toolTip())
        _put_in_order(self.tabs, *pages.values(), self.save)
        self.tabs.setCurrentIndex(max(0, list(pages).index(title) if title in pages else 0))
        for page in self._pages:
            if page not in pages.values():
                page.setParent(None)  # a tab that was taken out floats on otherwise
        self.setVisible(bool(pages))
        self._on_tab()

    def _on_tab(self, _place: int = 0) -> None:
        lines = [_LEGENDS[self.title]] if self.title in _LEGENDS else []
        if self.tabs.indexOf(self.splits) >= 0:
            lines.insert(0, _ERRORS)
        self.colours.setText("<br>".join(lines))
        self.save.setText("Save PNG…" if self.title == "Curves" else "Save CSV…")

    def save_shown(self, name: str) -> Path | None:
        """Ask for a name, and write the table or the curves that are shown; None if nobody gives one."""
        page, title = self.tabs.currentWidget(), self.title.lower()
        suffix, kind = (".png", "Pictures (*.png)") if page is self.curves else (".csv", "Tables (*.csv)")
        chosen, _ = QFileDialog.getSaveFileName(self, f"Save {title}", f"{name} {title}{suffix}", kind)
        if not chosen:
            return None
        # Qt has asked about a file of the name that was typed, but not of that with the suffix
        was_asked = chosen.lower().endswith(suffix)
        path = Path(chosen if was_asked else chosen + suffix)
        if page is self.curves:
            self.curves.save(path, overwrite=was_asked)
        else:
            write_table(path, {one.name: one.values for one in page.columns.columns}, overwrite=was_asked)
        return path


def _put_in_order(*widgets: QWidget) -> None:
    """Let Tab go through widgets in this order; pages come last otherwise, as they were put in last."""
    for one, other in pairwise(widgets):
        QWidget.setTabOrder(one, other)


def _summary(made: Evaluation) -> str:
    """Say how good it is, and how few objects hold half of the error."""
    scores = made.scores
    return (
        f"<b>Adapted Rand error {scores.adapted_rand_error:.3f}</b>, <b>VI {scores.vi_split:.3f} split + "
        f"{scores.vi_merge:.3f} merge</b> bits. Half of the splits are in "
        f"{n_for(made.objects.vi_split, 0.5):,} of {len(made.objects):,} objects, half of the merges in "
        f"{n_for(made.segments.vi_merge, 0.5):,} of {len(made.segments):,} segments."
    )
