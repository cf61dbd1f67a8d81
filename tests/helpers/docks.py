"""Docks as napari's menu opens them, and the controls in them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import pytest
from napari._app_model import get_app_model
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QHeaderView,
    QLineEdit,
    QScrollBar,
    QTabBar,
    QTextBrowser,
    QWidget,
)

import napari_em_seg
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.propagate.strip import Strip

PLUGIN = "napari-em-seg"
MANIFEST = PluginManifest.from_file(Path(napari_em_seg.__file__).with_name("napari.yaml"))
DOCKS = [widget.display_name for widget in MANIFEST.contributions.widgets]
PLACED = {"scale": (30.0, 6.0, 6.0), "units": ("nm",) * 3}

WHOLE = (QAbstractSpinBox, QComboBox, QAbstractItemView, QTabBar, QLineEdit)  # whose insides are no controls
CONTROLS = (*WHOLE, QAbstractButton, QAbstractSlider, QTextBrowser, Strip)

Pages = Callable[[Any, str, pytest.MonkeyPatch], Iterator[str]]
"""Takes a dock, the place of a session, and what patches; leads through states of the dock, and names them."""


def open_dock(viewer: napari.Viewer, name: str) -> tuple[Any, Any]:
    """Choose a dock in napari's menu Plugins, and let it do what it does at first."""
    choose_in_menu(name)
    docked = viewer.window._wrapped_dock_widgets[f"{name} ({MANIFEST.display_name})"]
    widget = docked.inner_widget()
    widget = getattr(widget, "__wrapped__", widget)
    settle(widget)
    return docked, widget


def choose_in_menu(name: str) -> None:
    """Choose a dock in napari's menu Plugins, of the viewer that was made last."""
    (command,) = (widget.command for widget in MANIFEST.contributions.widgets if widget.display_name == name)
    get_app_model().commands.execute_command(command).result()


def close_dock(docked: Any) -> None:
    """Click on the cross of its title, and let go of it."""
    QTest.mouseClick(docked.title.close_button, Qt.MouseButton.LeftButton)


def settle(widget: Any) -> None:
    """Wait until nothing goes on."""
    QApplication.processEvents()
    while isinstance(widget, Panel) and widget.work.is_busy:
        QTest.qWait(5)
    QApplication.processEvents()


def controls_of(body: QWidget) -> list[QWidget]:
    """Return what is to be seen and does something; enabled or not, as what is not now will be at times."""
    return [
        one for one in body.findChildren(QWidget)
        if isinstance(one, CONTROLS) and not isinstance(one, QScrollBar | QHeaderView) and one.isVisible()
        and not any(isinstance(parent, WHOLE) for parent in parents(one))
    ]  # fmt: skip


def parents(widget: QWidget) -> Iterator[QWidget]:
    """Go through all that a widget lies in, from the inside."""
    parent = widget.parentWidget()
    while parent is not None:
        yield parent
        parent = parent.parentWidget()


def tip(control: QWidget) -> str:
    """Return what a control says when the mouse rests on it."""
    if isinstance(control, QTabBar):
        return control.tabToolTip(control.currentIndex())
    return control.toolTip()


def named(widget: QWidget) -> str:
    """Name a control for people who read what failed."""
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return f"{type(widget).__name__} {text or widget.toolTip()[:40]}"
