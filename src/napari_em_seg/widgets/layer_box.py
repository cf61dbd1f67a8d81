"""LayerBox: a combo box of layers, told apart by what they are and not by their names."""

from collections.abc import Sequence

from napari.layers import Layer
from qtpy.QtWidgets import QComboBox

__all__ = ["LayerBox"]


class LayerBox(QComboBox):
    """Offers layers; the one that was chosen stays chosen while others come and go.

    Parameters
    ----------
    nothing
        What stands for no layer; without it there is always one chosen, if there are any.
    """

    def __init__(self, nothing: str = "") -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)  # else a long name makes the dock wider
        self._nothing = nothing

    @property
    def layer(self) -> Layer | None:
        """The layer that is chosen."""
        return self.currentData()

    def offer(self, layers: Sequence[Layer]) -> None:
        """Offer other layers; nobody is told, even if another one is chosen by that."""
        chosen = self.layer
        self.blockSignals(True)
        self.clear()
        if self._nothing:
            self.addItem(self._nothing, None)
        for layer in layers:
            self.addItem(layer.name, layer)
        self.choose(chosen)
        self.blockSignals(False)

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer; the first entry, if it is not offered."""
        places = [place for place in range(self.count()) if self.itemData(place) is layer]
        self.setCurrentIndex(places[0] if places else min(0, self.count() - 1))
