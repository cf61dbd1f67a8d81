"""Parts that docks are put together from: buttons and numbers with a tip, forms, and what is remembered."""

from collections.abc import Callable, Mapping, Sequence

from napari.settings import get_plugin_settings
from qtpy.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

__all__ = ["PLUGIN", "button", "check", "choice", "form", "number", "remember", "settings_of", "whole_number"]

PLUGIN = "napari-em-seg"


def button(text: str, tip: str, then: Callable[[], object] | None = None) -> QPushButton:
    """Return a button that calls a function when it is clicked."""
    made = QPushButton(text)
    made.setToolTip(tip)
    if then is not None:
        made.clicked.connect(lambda _checked=False: then())
    return made


def check(text: str, tip: str, *, is_on: bool = False) -> QCheckBox:
    """Return a box to tick."""
    made = QCheckBox(text)
    made.setToolTip(tip)
    made.setChecked(is_on)
    return made


def choice(tip: str, entries: Mapping[str, object] | Sequence[str] = ()) -> QComboBox:
    """Return a box to choose from: names, or names with what they stand for."""
    made = QComboBox()
    made.setToolTip(tip)
    for name in entries:
        made.addItem(name, entries[name] if isinstance(entries, Mapping) else name)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(12)
    return made


def whole_number(tip: str, low: int, high: int, value: int, *, unit: str = "", special: str = "") -> QSpinBox:
    """Return a box for a whole number; ``special`` stands in place of the lowest one."""
    made = QSpinBox()
    made.setRange(low, high)
    made.setValue(value)
    made.setSuffix(f" {unit}" if unit else "")
    made.setSpecialValueText(special)
    made.setToolTip(tip)
    return made


def number(
    tip: str, low: float, high: float, value: float, *, step: float = 0.05, decimals: int = 2, unit: str = ""
) -> QDoubleSpinBox:
    """Return a box for a number."""
    made = QDoubleSpinBox()
    made.setDecimals(decimals)
    made.setRange(low, high)
    made.setSingleStep(step)
    made.setValue(value)
    made.setSuffix(f" {unit}" if unit else "")
    made.setToolTip(tip)
    return made


def form(rows: Mapping[str, QWidget]) -> QFormLayout:
    """Lay out named fields, one below the other."""
    made = QFormLayout()
    made.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for title, widget in rows.items():
        made.addRow(title, widget)
    return made


def settings_of(section: str) -> object | None:
    """Return a section of this plugin's settings in napari (see ``configurations`` in napari.yaml)."""
    try:
        return getattr(get_plugin_settings(PLUGIN), section)
    except (KeyError, AttributeError):  # the plugin is switched off, and its dock was made by a script
        return None


def remember(section: str, fields: Mapping[str, QWidget]) -> None:
    """Fill in fields as they were the last time, and keep what they are changed to.

    Parameters
    ----------
    section
        Of the settings.
    fields
        By the names of their properties there.
    """
    kept = settings_of(section)
    if kept is None:
        return
    for name, field in fields.items():
        _fill(field, getattr(kept, name))
        _changed(field).connect(lambda *_, name=name, field=field: setattr(kept, name, _value(field)))


def _value(field: QWidget) -> object:
    if isinstance(field, QComboBox):
        return field.currentText()
    if isinstance(field, QAbstractButton):
        return field.isChecked()
    return field.text() if isinstance(field, QLineEdit) else field.value()


def _fill(field: QWidget, value: object) -> None:
    """Put a value in; one that is not offered any more changes nothing."""
    if isinstance(field, QComboBox):
        place = field.findText(str(value))
        if place >= 0:
            field.setCurrentIndex(place)
    elif isinstance(field, QAbstractButton):
        field.setChecked(bool(value))
    elif isinstance(field, QLineEdit):
        field.setText(str(value))
    else:
        field.setValue(value)


def _changed(field: QWidget):
    if isinstance(field, QComboBox):
        return field.currentTextChanged
    if isinstance(field, QAbstractButton):
        return field.toggled
    return field.textChanged if isinstance(field, QLineEdit) else field.valueChanged
