"""Controls of the dock "Segment": how parts are made, which takes time, and how they are cut: at once."""

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_em_seg.pipeline.adjustable import Cut, PartsRecipe
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.parts import choice, form, number, remember, whole_number
from napari_em_seg.widgets.slider import NumberSlider

__all__ = ["METHODS", "Cutting", "Making"]

METHODS = {
    "Watershed of boundaries, 3-D": "hmin-3d",
    "Watershed of boundaries, by slice": "hmin-2d",
    "z-watershed of affinities": "zwatershed",
}
_SCORES = ("mean", "quantile", "learned", "none")
_SMALL_ONES = {"join a neighbour": True, "are removed": False}


class Making(QWidget):
    """What is segmented, and how; shows what the method takes."""

    def __init__(self) -> None:
        super().__init__()
        self.source = LayerBox()
        self.source.setToolTip(
            "A boundary map (255, or 1.0, is boundary) or affinities; each is made of the other where needed"
        )
        self.method = choice("How the map is segmented", METHODS)
        self.score = choice(
            "How supervoxels are merged: by their mean affinity, by a quantile of it, by a forest (your "
            "own, or the one that comes along), or not at all",
            _SCORES,
        )
        self.quantile = number(
            "Which quantile of the affinities between two segments, from 0 to 1; 0.5 is the median", 0, 1, 0.5
        )
        self.sigma = number("Standard deviation in pixels of the Gaussian that smooths each slice; 0: none",
                            0, 20, 1, step=0.5, decimals=1, unit="px")  # fmt: skip
        self._rows = form({
            "Map": self.source, "Method": self.method, "Merge by": self.score, "Quantile": self.quantile,
            "Smooth by": self.sigma,
        })  # fmt: skip
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.setLayout(self._rows)
        for box in (self.method, self.score):
            box.currentIndexChanged.connect(self._on_method)
        remember("segment", {"method": self.method, "score": self.score, "quantile": self.quantile,
                             "sigma": self.sigma})  # fmt: skip
        self._on_method()

    @property
    def recipe(self) -> PartsRecipe:
        """How parts are to be made."""
        method, score = self.method.currentData(), self.score.currentData()
        return PartsRecipe(method, self.sigma.value(), score, self.quantile.value())

    def _on_method(self, _place: int = 0) -> None:
        is_affinity = self.method.currentData() == "zwatershed"
        _show_rows(self._rows, {
            self.score: is_affinity, self.sigma: not is_affinity,
            self.quantile: is_affinity and self.score.currentData() == "quantile",
        })  # fmt: skip


class Cutting(QWidget):
    """Which segments parts are put together to; shows the slider of how they were made."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.depth = NumberSlider(
            "Depth h, as a probability of boundary: shallower minima are filled. More: fewer, larger segments",
            0, 0.7, 0.1, step=0.005, decimals=3,
        )  # fmt: skip
        self.threshold = NumberSlider(
            "Segments merge while 1 − score is below this, from 0 to 1. More: fewer, larger segments", 0, 1, 0.5
        )
        self.smallest = whole_number("Segments of fewer voxels are small", 0, 10_000_000, 0,
                                     unit="voxels", special="no limit")  # fmt: skip
        self.smallest.setSingleStep(50)
        self.small_ones = choice(
            "Small segments join the neighbour from which the weakest boundary parts them, or become 0",
            _SMALL_ONES,
        )
        self._rows = form({"Depth h": self.depth, "Threshold": self.threshold, "Smaller than": self.smallest,
                           "Small ones": self.small_ones})  # fmt: skip
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.setLayout(self._rows)
        self._is_filled_in = False
        for signal in (self.depth.valueChanged, self.threshold.valueChanged, self.smallest.valueChanged,
                       self.small_ones.currentIndexChanged):  # fmt: skip
            signal.connect(self._on_changed)
        remember("segment", {"depth": self.depth, "threshold": self.threshold, "smallest": self.smallest,
                             "small_ones": self.small_ones})  # fmt: skip

    def cut(self, recipe: PartsRecipe) -> Cut:
        """Return what is set, for parts that were made in this way."""
        level = self.threshold if recipe.method == "zwatershed" else self.depth
        return Cut(level.value(), self.smallest.value(), self.small_ones.currentData())

    def show_cut(self, recipe: PartsRecipe, cut: Cut) -> None:
        """Fill in a cut, of which nobody is told."""
        self._is_filled_in = True
        (self.threshold if recipe.method == "zwatershed" else self.depth).setValue(cut.level)
        self.smallest.setValue(cut.smallest)
        self.small_ones.setCurrentIndex(self.small_ones.findData(cut.is_joining))
        self._is_filled_in = False

    def show_slider(self, recipe: PartsRecipe) -> None:
        """Show the slider that parts have which were made in this way."""
        is_merged = recipe.method == "zwatershed"
        _show_rows(self._rows, {self.depth: not is_merged,
                                self.threshold: is_merged and recipe.score != "none"})  # fmt: skip

    def _on_changed(self, _value: object) -> None:
        if not self._is_filled_in:
            self.changed.emit()


def _show_rows(rows: QFormLayout, are_shown: Mapping[QWidget, bool]) -> None:
    """Show or hide fields together with their names."""
    for field, is_shown in are_shown.items():
        field.setVisible(is_shown)
        rows.labelForField(field).setVisible(is_shown)
