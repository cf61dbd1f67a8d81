"""Docking: each dock of this plugin is opened once, and they share tabs, since few screens hold two of them."""

import re
from typing import Any

import napari
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_em_seg.widgets.parts import PLUGIN
from napari_em_seg.widgets.state import real

__all__ = ["Docked", "FollowsDock", "open_dock", "our_docks"]

_OURS = "napari-em-seg"  # a property that marks our docks


def open_dock(viewer: napari.Viewer, name: str) -> tuple[QDockWidget, Any]:
    """Open a dock of this plugin, or bring it to the front, whoever opened it; return it with its widget."""
    manifest, window = PluginManager.instance().get_manifest(PLUGIN), real(viewer).window
    in_menu = f"{name} ({manifest.display_name})"  # so the menu finds it again
    for title in (in_menu, f"{name} ({PLUGIN})"):  # the second one is that of add_plugin_dock_widget
        if title in window.dock_widgets:
            widget = window.dock_widgets[title]
            break
    else:
        (found,) = (one for one in manifest.contributions.widgets or () if one.display_name == name)
        widget = found.get_callable()(real(viewer))
        window.add_dock_widget(widget, name=in_menu)
    dock = _dock_of(getattr(widget, "native", widget))
    dock.show()
    dock.raise_()
    return dock, widget


def our_docks(window: QMainWindow) -> list[QDockWidget]:
    """Return the docks of this plugin."""
    return [dock for dock in window.findChildren(QDockWidget) if dock.property(_OURS)]


def _dock_of(widget: QWidget) -> QDockWidget:
    parent = widget.parentWidget()
    while not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


class Docked(QObject):
    """Looks after a dock of ours: it takes a tab beside others, and comes to the front when it is asked for."""

    def __init__(self, dock: QDockWidget) -> None:
        super().__init__(dock)
        self._is_in_front = self._was_hidden = False
        windows = [one for one in QApplication.topLevelWidgets() if isinstance(one, QMainWindow)]
        self._heights = {window: window.height() for window in windows}  # before it comes into one of them
        dock.setProperty(_OURS, True)
        dock.setWindowTitle(re.sub(r" \([^()]*\)$", "", dock.windowTitle()))  # short ones fit on tabs
        dock.visibilityChanged.connect(self._on_visible)
        dock.toggleViewAction().toggled.connect(self._on_toggled)
        QTimer.singleShot(0, self._take_a_tab)  # once napari has put it into the window

    def _on_visible(self, is_in_front: bool) -> None:
        self._is_in_front = is_in_front

    def _on_toggled(self, is_shown: bool) -> None:
        """Note that it was shown or hidden; for a moment it is hidden too when it begins or ends to float."""
        if not is_shown:
            QTimer.singleShot(0, self._on_behind_hidden if not self._is_in_front else self._on_hidden)
        elif self._was_hidden:
            self._was_hidden = False
            QTimer.singleShot(0, self._come_to_the_front)

    def _on_hidden(self) -> None:
        self._was_hidden = self.parent().isHidden()

    def _on_behind_hidden(self) -> None:
        """Come to the front: napari's menu hides what it calls shown, though it lies behind another tab."""
        if self.parent().isHidden():
            self._come_to_the_front()

    def _come_to_the_front(self) -> None:
        self.parent().show()
        self._take_a_tab()
        self.parent().raise_()

    def _take_a_tab(self) -> None:
        """Take a tab beside another dock of ours: below each other they are higher than most screens."""
        dock = self.parent()
        window = dock.parentWidget()
        if not isinstance(window, QMainWindow) or dock.isFloating():
            return
        others = [
            other for other in our_docks(window)
            if other is not dock and not other.isHidden() and not other.isFloating()
            and window.dockWidgetArea(other) == window.dockWidgetArea(dock)
        ]  # fmt: skip
        if others and not set(others) & set(window.tabifiedDockWidgets(dock)):
            window.tabifyDockWidget(others[-1], dock)
            dock.show()
            dock.raise_()
            self._shrink(window)

    def _shrink(self, window: QMainWindow) -> None:
        """Make a window that grew for a dock below another one as high as it was."""
        height = self._heights.pop(window, window.height())
        if window.height() > height and not window.isMaximized() and not window.isFullScreen():
            window.layout().activate()
            window.resize(window.width(), height)


class FollowsDock(QObject):
    """Notices when a widget that is no `Panel` comes into a dock."""

    def eventFilter(self, widget: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look after the dock that a widget has come into."""
        if event.type() == QEvent.Type.ParentChange and isinstance(widget.parent(), QDockWidget):
            Docked(widget.parent())
        return False
