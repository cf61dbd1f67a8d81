"""Panel: what all docks share: a worker, words and progress at the foot, layers that come, a clean end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import napari
from napari.layers import Layer
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_em_seg.errors import Cancelled, EmSegError
from napari_em_seg.widgets.docking import Docked
from napari_em_seg.widgets.state import real, state_of
from napari_em_seg.widgets.work import Job, Work

__all__ = ["Panel"]


class Panel(QWidget):
    """A dock of a viewer; a subclass lays out `words` and `foot`, then calls `follow`, and fills in the hooks.

    Parameters
    ----------
    viewer
        Where it is docked.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        # Else napari leaves room below, the more the more docks were opened
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._viewer = real(viewer)
        self.state = state_of(viewer)
        self.work = Work()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setMinimumHeight(2 * self.fontMetrics().lineSpacing())
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar, self.cancel_button = QProgressBar(), QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop what goes on")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        self.foot = QWidget()
        self.foot.setLayout(row)
        self.foot.hide()
        self._began: tuple[Job, float] | None = None
        self._named: list[Layer] = []
        self._claims: list[tuple[str, Layer]] = []
        self._was_docked = self.is_shut = False
        self.is_seen = True  # that is, its dock is not hidden, nor behind another one

    def follow(self) -> None:
        """Begin to follow the viewer and the worker."""
        self.state.panels.append(self)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.work.changed.connect(self._on_work)
        self.work.progressed.connect(self._on_progress)
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.connect(self._on_layers)
        self.destroyed.connect(self.shut_down)
        self._on_layers()

    # Hooks

    def on_layers(self) -> None:
        """Take note of the layers that are there: some came, went, or have another name."""

    def wants_clicks(self) -> bool:
        """Whether clicks in the canvas mean something now."""
        return False

    def owns_clicks(self) -> bool:
        """Whether people were asked to click, so that a click means nothing to other docks."""
        return False

    def on_click(self, position: tuple[float, ...]) -> None:
        """Take a click at a place of the world."""

    def on_seen(self) -> None:
        """Take note that the dock came to the front, or is not seen any more."""

    def on_busy(self, is_busy: bool) -> None:
        """Enable and disable what must not be pressed while something with a title goes on."""

    def let_go(self) -> None:
        """Disconnect from the viewer, and take away what does not belong there any more."""

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Stopped"

    # What is shared

    def say(self, text: str) -> None:
        """Show a sentence at the foot."""
        self.words.setText(text)

    @property
    def is_busy(self) -> bool:
        """Whether something with a title goes on."""
        return bool(self._titled())

    def start(
        self, title: str, function: Callable[..., Any], *, layer: Layer, done: Callable[[Any], object]
    ) -> Job | None:
        """Have something long done with a layer, in the thread, with progress, Cancel and the time left.

        A second one of its kind is refused while it goes on, in whatever dock.
        """
        try:
            self.state.claim(title, layer)
        except EmSegError as error:
            self.on_failed(error)
            return None
        self._claims.append((title, layer))
        self.say("")  # what was said of what came before

        def over(then: Callable[[Any], object], result: Any) -> None:
            self._claims.remove((title, layer))
            self.state.release(title, layer)
            then(result)

        return self.work.put(function, title=title, done=lambda result: over(done, result),
                             failed=lambda error: over(self.on_failed, error))  # fmt: skip

    def on_failed(self, error: BaseException) -> None:
        """Tell of an error of work, in plain words; what is no error of ours is raised."""
        if isinstance(error, Cancelled):
            self.say(self.last_words())
        elif isinstance(error, EmSegError):
            self.say(str(error))
            show_warning(str(error))
        else:
            raise error

    def shut_down(self, *_: object) -> None:
        """Stop all work, and let go of the viewer."""
        if self.is_shut:
            return
        self.is_shut = True
        if self in self.state.panels:
            self.state.panels.remove(self)
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._on_layers)
        self._follow_names([])
        self.let_go()
        self.work.close()
        for title, layer in self._claims:
            self.state.release(title, layer)

    def event(self, event: QEvent) -> bool:
        """Notice when the dock is closed: napari takes the widget out of it then, but keeps it."""
        if event.type() == QEvent.Type.ParentChange:
            dock = self.parentWidget()
            if isinstance(dock, QDockWidget):
                Docked(dock)
                dock.visibilityChanged.connect(self._on_seen)
            is_docked = dock is not None
            if self._was_docked and not is_docked:
                QTimer.singleShot(0, self.shut_down)
            self._was_docked = is_docked
        return super().event(event)

    def _on_layers(self, _event: object = None) -> None:
        self._follow_names(list(self._viewer.layers))
        self.on_layers()

    def _follow_names(self, layers: list[Layer]) -> None:
        for layer in self._named:
            layer.events.name.disconnect(self._on_layers)
        self._named = layers
        for layer in layers:
            layer.events.name.connect(self._on_layers)

    def _on_seen(self, is_seen: bool) -> None:
        self.is_seen = is_seen
        if not self.is_shut:
            self.on_seen()

    def _takes_clicks(self) -> bool:
        """Whether clicks are this dock's: it is seen and wants them, and no other one owns them."""
        owners = [panel for panel in self.state.panels if panel.is_seen and panel.owns_clicks()]
        return self.is_seen and self.wants_clicks() and (not owners or self in owners)

    def _on_mouse(self, viewer: napari.Viewer, event) -> Iterator[None]:
        """Tell a click from a drag."""
        if event.button != 1 or viewer.dims.ndisplay != 2 or not self._takes_clicks():
            return
        is_dragged = False
        yield
        while event.type == "mouse_move":
            is_dragged = True
            yield
        if not is_dragged:
            self.on_click(event.position)

    def _titled(self) -> list[Job]:
        return [job for job in self.work.jobs if job.title]

    def _on_cancel(self) -> None:
        for job in self._titled():
            job.cancel()

    def _on_work(self) -> None:
        titled = self._titled()
        self.foot.setVisible(bool(titled))
        if titled:
            self.bar.setValue(max(0, self.bar.value()))  # below 0 it shows no words
            self._show_progress(titled[0], "")
        else:
            self.bar.reset()
            self._began = None
        self.on_busy(bool(titled))

    def _on_progress(self, job: Job, step: int, steps: int) -> None:
        now = time.monotonic()
        if self._began is None or self._began[0] is not job:
            self._began = (job, now)
        self.bar.setMaximum(steps)
        self.bar.setValue(step)
        seconds = now - self._began[1]
        left = seconds * (steps - step) / step if step else 0.0
        self._show_progress(job, f", {_in_words(left)} left" if seconds > _SURE_S and step < steps else "")

    def _show_progress(self, job: Job, more: str) -> None:
        self.bar.setFormat(f"{job.title} … %p%{more}")


_SURE_S = 2.0  # before that nobody knows how long it will take


def _in_words(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
