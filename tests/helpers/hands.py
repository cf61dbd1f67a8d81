"""Hands: controls are operated as people do, with the mouse and the keys, and what that changes is seen."""

import time
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDockWidget,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QStyleOptionSlider,
    QStyleOptionSpinBox,
    QTabBar,
    QTextEdit,
    QWidget,
)

from napari_em_seg.widgets.propagate.strip import Strip

LEFT = Qt.MouseButton.LeftButton


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Let the program go on until something is so, or for some seconds; return whether it is."""
    end = time.monotonic() + seconds
    while not (is_so := condition()) and time.monotonic() < end:
        QTest.qWait(5)
    return is_so


@singledispatch
def operate(control: QWidget) -> None:
    """Do with a control what it is there for."""
    QTest.mouseClick(control, LEFT, pos=control.rect().center())


@operate.register
def click(button: QAbstractButton) -> None:
    """Click where its mark is, or in its middle; a menu that opens is closed again."""
    place = button.rect().center()
    if not isinstance(button, QPushButton):
        option = QStyleOptionButton()
        option.initFrom(button)
        place = button.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, button).center()
    elif button.menu() is not None:
        QTimer.singleShot(100, button.menu().close)
    QTest.mouseClick(button, LEFT, pos=place)


@operate.register
def choose(box: QComboBox, place: int | None = None) -> None:
    """Open it with a click, and click on an entry; by default on the next one."""
    place = (box.currentIndex() + 1) % box.count() if place is None else place
    view, pause = box.view(), QApplication.doubleClickInterval()
    QApplication.setDoubleClickInterval(0)  # so long Qt would ignore a click into the list
    QTest.mouseClick(box, LEFT)
    QApplication.setDoubleClickInterval(pause)
    wait_for(view.isVisible)
    entry = box.model().index(place, box.modelColumn())
    view.scrollTo(entry)
    QTest.mouseMove(view.viewport(), view.visualRect(entry).center())
    QTest.mouseClick(view.viewport(), LEFT, pos=view.visualRect(entry).center())
    wait_for(lambda: not view.isVisible())


@operate.register
def turn(box: QAbstractSpinBox) -> None:
    """Click on the arrow up, or down at the upper end."""
    up, down = QStyle.SubControl.SC_SpinBoxUp, QStyle.SubControl.SC_SpinBoxDown
    is_last = not box.stepEnabled() & QAbstractSpinBox.StepEnabledFlag.StepUpEnabled
    option = QStyleOptionSpinBox()
    box.initStyleOption(option)
    arrow = box.style().subControlRect(QStyle.ComplexControl.CC_SpinBox, option, down if is_last else up, box)
    QTest.mouseClick(box, LEFT, pos=arrow.center())


@operate.register
def slide(slider: QAbstractSlider) -> None:
    """Drag its handle to the right, or to the left from the right half."""
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    handle = slider.style().subControlRect(
        QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, slider
    ).center()  # fmt: skip
    way = slider.width() // 4 * (1 if handle.x() < slider.width() // 2 else -1)
    QTest.mousePress(slider, LEFT, pos=handle)
    QTest.mouseMove(slider, handle + QPoint(way, 0))
    QTest.mouseRelease(slider, LEFT, pos=handle + QPoint(way, 0))


@operate.register
def write(field: QLineEdit, text: str = "x1") -> None:
    """Click into it, and type something in the place of what is there."""
    QTest.mouseClick(field, LEFT)
    field.selectAll()
    QTest.keyClick(field, Qt.Key.Key_Delete)
    QTest.keyClicks(field, text)


@operate.register
def pick(view: QAbstractItemView, row: int | None = None) -> None:
    """Click on a row; by default on the next one."""
    n = view.model().rowCount()
    row = (view.currentIndex().row() + 1) % max(n, 1) if row is None else row
    entry = view.model().index(row, 0)
    view.scrollTo(entry)
    QTest.mouseClick(view.viewport(), LEFT, pos=view.visualRect(entry).center())


@operate.register
def point_at(strip: Strip) -> None:
    """Click on a cell: the first row in the last slice."""
    QTest.mouseClick(strip, LEFT, pos=strip.place_of(0, strip._table.shape[1] - 1))


@operate.register
def turn_to(tabs: QTabBar, place: int | None = None) -> None:
    """Click on a tab; by default on the next one."""
    place = (tabs.currentIndex() + 1) % tabs.count() if place is None else place
    QTest.mouseClick(tabs, LEFT, pos=tabs.tabRect(place).center())


def put_back(control: QWidget, before: tuple[Any, ...]) -> None:
    """Operate a control so that it shows again what it did; ``before`` as from `shown_by`."""
    if shown_by(control) == before or not control.isVisible() or not control.isEnabled():
        return
    if isinstance(control, QComboBox):
        choose(control, before[0])
    elif isinstance(control, QLineEdit):
        write(control, before[0])
    elif isinstance(control, QCheckBox):
        click(control)


def sight(viewer: napari.Viewer, body: QWidget, but: QWidget) -> dict[str, Any]:
    """Return what people see and what there is: of a dock but for a control, of layers, viewer and windows.

    Which buttons are pressed is left out: that alone is no answer to a click.
    """
    found: dict[str, Any] = {}
    for place, one in enumerate(body.findChildren(QWidget)):
        if one.isVisible() and one is not but and not but.isAncestorOf(one):
            found[f"{place} {type(one).__name__}"] = one.isEnabled(), *shown_by(one)
    for layer in viewer.layers:
        data = hash(np.asarray(layer.data).tobytes()) if isinstance(layer, Labels) else id(layer.data)
        found[f"layer {layer.name}"] = layer.visible, str(getattr(layer, "mode", "")), data
    found["active"] = viewer.layers.selection.active
    found["dims"] = viewer.dims.current_step, viewer.dims.ndisplay
    found["camera"] = viewer.scene.camera.center, viewer.scene.camera.zoom
    docks = viewer.window._qt_window.findChildren(QDockWidget)
    found["docks"] = {one.objectName(): one.visibleRegion().isEmpty() for one in docks}
    found["windows"] = sorted(type(one).__name__ for one in QApplication.topLevelWidgets() if one.isVisible())
    return found


def shown_by(widget: QWidget) -> tuple[Any, ...]:
    """Return what a widget shows, as far as clicks may change it."""
    if isinstance(widget, QPushButton | QLabel | QLineEdit):
        return (widget.text(),)
    if isinstance(widget, QAbstractButton):
        return widget.text(), widget.isChecked()
    if isinstance(widget, QComboBox | QTabBar):
        return (widget.currentIndex(),)
    if isinstance(widget, QTextEdit):
        return (widget.toPlainText(),)
    if isinstance(widget, QListWidget):
        rows = [widget.item(row) for row in range(widget.count())]
        return widget.currentRow(), [(one.text(), one.checkState()) for one in rows]
    if isinstance(widget, QAbstractItemView):
        return widget.currentIndex().row(), widget.model().rowCount()
    if isinstance(widget, QAbstractSlider):
        return (widget.value(),)
    if isinstance(widget, QAbstractSpinBox):
        return (widget.text(),)
    return ()
