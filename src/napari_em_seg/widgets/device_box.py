"""DeviceBox: where networks run, one answer for all docks of a viewer, kept for the next time."""

from qtpy.QtWidgets import QComboBox

from napari_em_seg.widgets.parts import remember
from napari_em_seg.widgets.state import ViewerState

__all__ = ["DeviceBox"]


class DeviceBox(QComboBox):
    """Shows and changes the device of a viewer's docks.

    Parameters
    ----------
    state
        What the docks share.
    """

    def __init__(self, state: ViewerState) -> None:
        super().__init__()
        self._state = state
        self.addItems(["auto", "cpu", "cuda", "mps"])
        self.setToolTip("Where networks run, in all docks of this window; auto takes CUDA (NVIDIA), else MPS "
                        "(Apple), else the CPU")  # fmt: skip
        remember("start", {"device": self})
        if state.device != "auto":
            self.setCurrentText(state.device)
        state.device = self.currentText()
        self.currentTextChanged.connect(self._on_text)
        state.changed.connect(self._on_state)

    def let_go(self) -> None:
        """Follow the others no longer."""
        self._state.changed.disconnect(self._on_state)

    def _on_text(self, name: str) -> None:
        self._state.device = name

    def _on_state(self) -> None:
        self.setCurrentText(self._state.device)
