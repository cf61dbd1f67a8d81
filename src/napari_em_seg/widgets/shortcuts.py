"""Shortcuts: the keys of the key map in a window, on only while nothing is typed or painted; and their help."""

from collections.abc import Callable, Mapping

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QKeySequenceEdit,
    QLabel,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QShortcut,
    QVBoxLayout,
    QWidget,
)

from napari_em_seg.errors import DataError
from napari_em_seg.widgets.keys import ACTIONS, KeyMap

__all__ = ["KeysDialog", "Shortcuts"]


class Shortcuts:
    """Binds actions to keys in the window that holds a widget, wherever in it the focus is.

    Parameters
    ----------
    widget
        In a dock of the window.
    keys
        Which key does what; when it changes, the shortcuts follow.
    actions
        What to call, by name of the action.
    """

    def __init__(self, widget: QWidget, keys: KeyMap, actions: Mapping[str, Callable[[], object]]) -> None:
        self._widget, self._keys, self._actions = widget, keys, actions
        self._shortcuts: list[QShortcut] = []
        self._is_on = False
        keys.changed.connect(self._bind)

    @property
    def is_on(self) -> bool:
        """Whether the keys do something."""
        return self._is_on

    def turn(self, is_on: bool) -> None:
        """Turn the keys on or off; off, they are napari's own."""
        self._is_on = is_on
        if is_on and not self._shortcuts:
            self._bind()
        for shortcut in self._shortcuts:
            shortcut.setEnabled(is_on)

    def close(self) -> None:
        """Take the keys back from the window."""
        self._keys.changed.disconnect(self._bind)
        self._unbind()

    def _bind(self) -> None:
        self._unbind()
        window = _window_of(self._widget)
        if window is None:
            return
        for name, action in self._actions.items():
            if not self._keys.key(name):
                continue
            shortcut = QShortcut(QKeySequence(self._keys.key(name)), window)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.setAutoRepeat(False)
            shortcut.activated.connect(action)
            shortcut.setEnabled(self._is_on)
            self._shortcuts.append(shortcut)

    def _unbind(self) -> None:
        for shortcut in self._shortcuts:
            try:
                shortcut.setEnabled(False)
                shortcut.deleteLater()
            except RuntimeError:  # the window is gone, and they with it
                continue
        self._shortcuts = []


def _window_of(widget: QWidget) -> QMainWindow | None:
    """Return the main window that a widget belongs to, also when its dock floats."""
    found: QWidget | None = widget
    while found is not None and not isinstance(found, QMainWindow):
        found = found.parentWidget()
    return found


class KeysDialog(QDialog):
    """Shows all keys with what they do, and lets the user change them."""

    def __init__(self, keys: KeyMap, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys while links are reviewed")
        self._keys = keys
        self._edits: dict[str, QKeySequenceEdit] = {}
        form = QFormLayout()
        for action in ACTIONS:
            edit = QKeySequenceEdit(QKeySequence(keys.key(action.name)))
            edit.setToolTip("Click, then press the new key; Backspace for none")
            edit.setMaximumWidth(140)
            self._edits[action.name] = edit
            form.addRow(edit, QLabel(f"<b>{action.title}</b>: {action.help}"))
        inside = QWidget()
        inside.setLayout(form)
        area = QScrollArea()
        area.setWidget(inside)
        area.setWidgetResizable(True)
        self._trouble = QLabel()
        self._trouble.setWordWrap(True)
        usual = QPushButton("Usual keys")
        usual.clicked.connect(self._on_usual)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.addButton(usual, QDialogButtonBox.ButtonRole.ResetRole)
        buttons.accepted.connect(self._on_save)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("They work while a link is asked about and no tool for painting is active."))
        layout.addWidget(area)
        layout.addWidget(self._trouble)
        layout.addWidget(buttons)
        self.resize(640, 620)

    def _on_usual(self) -> None:
        for action in ACTIONS:
            self._edits[action.name].setKeySequence(QKeySequence(action.key))

    def _on_save(self) -> None:
        try:
            self._keys.change({name: edit.keySequence().toString() for name, edit in self._edits.items()})
        except DataError as error:
            self._trouble.setText(str(error))
        else:
            self.accept()
