"""NumberSlider: a slider for a number, and a box to type it; unlike superqt's, both take the arrow keys."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSlider, QWidget

from napari_em_seg.widgets.parts import number

__all__ = ["NumberSlider"]


class NumberSlider(QWidget):
    """Holds the number in the box; the slider shows the step that is nearest.

    Parameters
    ----------
    tip
        With the unit.
    low, high, value, step, decimals
        As for `parts.number`.
    """

    valueChanged = Signal(float)  # noqa: N815 - as Qt's own

    def __init__(
        self, tip: str, low: float, high: float, value: float, *, step: float = 0.01, decimals: int = 2
    ) -> None:
        super().__init__()
        self._low, self._step = low, step
        self.box = number(tip, low, high, value, step=step, decimals=decimals)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, round((high - low) / step))
        self.slider.setPageStep(10)
        self.slider.setToolTip(tip)
        self._show_step(value)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)
        self.setFocusProxy(self.slider)
        self.setToolTip(tip)
        self.slider.valueChanged.connect(lambda n: self.box.setValue(low + n * step))
        self.box.valueChanged.connect(self._on_value)

    def value(self) -> float:
        """Return the number."""
        return self.box.value()

    def setValue(self, value: float) -> None:  # noqa: N802 - as Qt's own
        """Set the number."""
        self.box.setValue(value)

    def _on_value(self, value: float) -> None:
        self._show_step(value)
        self.valueChanged.emit(value)

    def _show_step(self, value: float) -> None:
        self.slider.blockSignals(True)  # a number between two steps stays what it is
        self.slider.setValue(round((value - self._low) / self._step))
        self.slider.blockSignals(False)
