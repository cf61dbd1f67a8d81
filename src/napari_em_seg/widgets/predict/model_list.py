"""ModelList: models to tick, the card of the one that is marked, and what speaks against those ticked."""

from collections.abc import Sequence
from html import escape

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem, QTextBrowser, QVBoxLayout, QWidget

from napari_em_seg.pipeline.models import misfit
from napari_em_seg.predict.weights import Card, ModelFile
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.colours import SPLIT

__all__ = ["ModelList", "card_text"]

_ORIGINS = {"bundled": "comes along", "user": "yours", "path": "a file"}
_N_ROWS, _N_CARD_LINES = 4, 8
_SIGN = "\u26a0"  # a warning sign


class ModelList(QWidget):
    """Offers models of one task.

    Signals: ``changed``, when somebody ticked another model (not when `tick` did).
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._files: list[ModelFile] = []
        self._image: Volume | None = None
        self._tissue = ""
        self.list, self.card, self.warning = QListWidget(), QTextBrowser(), QLabel()
        self.list.setToolTip(
            "Trained models; of several that are ticked, the voxel-wise maximum is taken (an ensemble). "
            "Space ticks the one that is marked"
        )
        self.card.setToolTip("The card of the model that is marked: what it learned from, and how well")
        line = self.fontMetrics().lineSpacing()
        self.list.setFixedHeight(_N_ROWS * (line + 6) + 6)
        self.card.setFixedHeight(_N_CARD_LINES * line)
        self.card.setTabChangesFocus(True)
        self.warning.setWordWrap(True)
        self.warning.setStyleSheet(f"color: {SPLIT}; font-weight: bold;")
        self.warning.setToolTip("What speaks against a model that is ticked, before it is run")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.list, self.card, self.warning):
            layout.addWidget(widget)
        self.list.itemChanged.connect(self._on_item_changed)
        self.list.currentRowChanged.connect(self._on_row)

    @property
    def ticked(self) -> tuple[str, ...]:
        """Names of the models that are ticked."""
        rows = range(self.list.count())
        return tuple(
            self._files[row].name for row in rows if self.list.item(row).checkState() == Qt.CheckState.Checked
        )

    def offer(self, files: Sequence[ModelFile]) -> None:
        """Offer other models; those of the same names stay ticked."""
        kept = self.ticked
        self._files = list(files)
        self.list.blockSignals(True)
        self.list.clear()
        for file in files:
            item = QListWidgetItem(file.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self.tick(kept)

    def tick(self, names: Sequence[str]) -> None:
        """Tick these models and no others, and mark the first of them."""
        self.list.blockSignals(True)
        rows = [row for row, file in enumerate(self._files) if file.name in names]
        for row in range(len(self._files)):
            state = Qt.CheckState.Checked if row in rows else Qt.CheckState.Unchecked
            self.list.item(row).setCheckState(state)
        self.list.setCurrentRow(rows[0] if rows else min(0, len(self._files) - 1))
        self.list.blockSignals(False)
        self._on_row(self.list.currentRow())
        self._show_misfits()

    def judge_by(self, image: Volume | None, tissue: str) -> None:
        """Say what models are to fit: an image, if there is one, and its tissue, if somebody has said."""
        self._image, self._tissue = image, tissue
        self._show_misfits()

    def _misfit(self, card: Card) -> str:
        return "" if self._image is None else misfit(card, self._image.voxel_size_nm, self._tissue)

    def _show_misfits(self) -> None:
        """Put a sign beside each model that does not fit, and say why for those that are ticked."""
        reasons = []
        self.list.blockSignals(True)
        for row, file in enumerate(self._files):
            reason, item = self._misfit(file.card), self.list.item(row)
            item.setText(f"{file.name}  {_SIGN}" if reason else file.name)
            item.setToolTip(f"{file.name}: {reason or 'fits the image, as far as is known'}")
            if reason and item.checkState() == Qt.CheckState.Checked:
                reasons.append(f"{_SIGN} {file.name}: {reason}")
        self.list.blockSignals(False)
        self.warning.setText("\n".join(reasons))
        self.warning.setVisible(bool(reasons))

    def _on_item_changed(self, item: QListWidgetItem) -> None:
        self.list.setCurrentItem(item)
        self._show_misfits()
        self.changed.emit()

    def _on_row(self, row: int) -> None:
        is_there = 0 <= row < len(self._files)
        self.card.setHtml(card_text(self._files[row]) if is_there else "No model is there for this")


def card_text(file: ModelFile) -> str:
    """Return what there is to know of a model, as HTML."""
    card = file.card
    size = " × ".join(f"{length:g}" for length in card.voxel_size_nm)
    lines = {
        "Tissue": card.tissue,
        "Voxels": f"{size} nm (z, y, x)",
        "Trained on": "; ".join(card.data),
        "Measured": ", ".join(f"{name} {value:.3g}" for name, value in card.measures.items()),
        "Licence": card.licence,
        "Network": f"{card.architecture}, sees {_seen(card)}",
    }
    text = "<br>".join(f"<b>{title}:</b> {escape(said)}" for title, said in lines.items() if said)
    return f"<b>{escape(file.name)}</b> ({_ORIGINS[file.origin]})<br>{text}"


def _seen(card: Card) -> str:
    if card.n_slices is None:
        return "blocks of slices"
    return "one slice" if card.n_slices == 1 else f"{card.n_slices} slices"
