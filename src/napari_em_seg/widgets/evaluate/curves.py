"""Curves: charts of errors and lengths, drawn when they are first looked at, in the colours of the theme."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.metrics import ObjectShapes
from napari_em_seg.pipeline import Evaluation
from napari_em_seg.pipeline.evaluation import cumulative
from napari_em_seg.widgets.colours import MERGE, SOURCE, SPLIT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Chart", "Curves", "Line", "charts_of", "charts_of_shapes", "load_library"]

_DOTS_PER_INCH = 200  # of what is saved


@dataclass(frozen=True, eq=False)
class Line:
    """One curve; without a colour it has that of the text."""

    name: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]
    colour: str = ""
    style: str = "-"


@dataclass(frozen=True, eq=False)
class Chart:
    """Some curves with their axes."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    is_log: bool = False


def charts_of(evaluation: Evaluation) -> Sequence[Chart]:
    """Return how few objects hold most of the error, and the errors at every threshold of a tree of merges."""
    errors = [
        Line(name, np.arange(1, len(parts) + 1), 100 * cumulative(parts), colour, style)
        for name, parts, colour, style in (
            ("splits, by object", evaluation.objects.vi_split, SPLIT, "-"),
            ("merges, by segment", evaluation.segments.vi_merge, MERGE, "--"),
        )
    ]
    charts = [Chart("Error held by the worst", "how many, worst first", "% of VI", errors, is_log=True)]
    if evaluation.thresholds:
        at, scores = np.array(list(evaluation.thresholds)), list(evaluation.thresholds.values())
        lines = [
            Line("VI split", at, np.array([s.vi_split for s in scores]), SPLIT),
            Line("VI merge", at, np.array([s.vi_merge for s in scores]), MERGE, "--"),
            Line("both", at, np.array([s.vi for s in scores]), "", ":"),
        ]
        charts.append(Chart("Thresholds of the agglomeration", "threshold", "bits", lines))
    return charts


def charts_of_shapes(shapes: ObjectShapes) -> Sequence[Chart]:
    """Return how many objects are how long; nothing where the voxel size is not known."""
    lengths = np.sort(shapes.length_um)[::-1]
    if np.isnan(lengths).any():
        return []
    lines = [Line("objects", lengths, np.arange(1, len(lengths) + 1), SOURCE)]
    return [Chart("Lengths", "length (µm)", "objects at least so long", lines, is_log=True)]


def load_library() -> None:
    """Load what draws, which takes a second: in the thread, before it is needed."""
    import matplotlib.backends.backend_qtagg  # noqa: F401


class Curves(QWidget):
    """Shows charts, one below the other."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self.charts: Sequence[Chart] = ()
        self._theme = theme
        self._canvas: QWidget | None = None
        self._is_drawn = False
        self.setToolTip("How the errors, or the lengths, are spread over the objects")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)

    def show_charts(self, charts: Sequence[Chart]) -> None:
        """Show other charts."""
        self.charts = charts
        self._renew()

    def set_theme(self, theme: str) -> None:
        """Take the colours of another theme."""
        self._theme = theme
        self._renew()

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the charts as PNG, dark on white, whole or not at all."""
        from matplotlib.figure import Figure

        if path.suffix.lower() != ".png":
            raise DataError(
                f"The picture is to be {path.name}", "a name that ends in .png", "Add that to the name"
            )
        figure = Figure(figsize=(5, 3.2 * len(self.charts)), layout="constrained", dpi=_DOTS_PER_INCH)
        _draw(figure, self.charts, ink="black", paper="white")
        with atomic(path, overwrite=overwrite) as partial:
            figure.savefig(partial, format="png")

    def showEvent(self, event: object) -> None:  # noqa: N802
        """Draw what is looked at now."""
        super().showEvent(event)
        self._draw_if_needed()

    def _renew(self) -> None:
        self._is_drawn = False
        if self.isVisible():
            self._draw_if_needed()

    def _draw_if_needed(self) -> None:
        if self._is_drawn:
            return
        self._is_drawn = True
        if self._canvas is None:
            self._canvas = self._new_canvas()
        figure = self._canvas.figure
        figure.clear()
        theme = get_theme(self._theme)
        _draw(figure, self.charts, ink=theme.text.as_hex(), paper=theme.background.as_hex())
        self._canvas.draw_idle()

    def _new_canvas(self) -> QWidget:
        """Make the canvas now, and not before: docks open without the library."""
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        canvas = FigureCanvasQTAgg(Figure(layout="constrained"))
        canvas.setMinimumSize(100, 100)
        self.layout().addWidget(canvas)
        return canvas


def _draw(figure: "Figure", charts: Sequence[Chart], *, ink: str, paper: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    figure.set_facecolor(paper)
    for place, chart in enumerate(charts, 1):
        axes = figure.add_subplot(len(charts), 1, place, facecolor=paper)
        for line in chart.lines:
            axes.plot(line.x, line.y, line.style, color=line.colour or ink, label=line.name, linewidth=1.8)
        axes.set_title(chart.title, color=ink, fontsize=9)
        axes.set_xlabel(chart.x_title, color=ink, fontsize=8)
        axes.set_ylabel(chart.y_title, color=ink, fontsize=8)
        if chart.is_log:
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())  # these would overlap
        axes.set_ylim(bottom=0)
        axes.tick_params(colors=ink, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(ink)
        axes.grid(color=ink, alpha=0.15)
        if len(chart.lines) > 1:
            axes.legend(fontsize=8, labelcolor=ink, facecolor=paper, edgecolor=ink, framealpha=0.8)
