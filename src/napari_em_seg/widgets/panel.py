"""Panel: what all docks share: a worker, words and progress at the foot, clicks in the canvas, a clean end."""

from collections.abc import Iterator

import napari
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QWidget

from napari_em_seg.errors import Cancelled, EmSegError
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
        self._viewer = viewer
        self.work = Work()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setMinimumHeight(2 * self.fontMetrics().lineSpacing())
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.bar, self.cancel_button = QProgressBar(), QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop what goes on")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        self.foot = QWidget()
        self.foot.setLayout(row)
        self.foot.hide()
        self._was_docked = self.is_shut = False

    def follow(self) -> None:
        """Begin to follow the viewer and the worker."""
        self.cancel_button.clicked.connect(self._on_cancel)
        self.work.changed.connect(self._on_work)
        self.work.progressed.connect(self._on_progress)
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)
        self.destroyed.connect(self.shut_down)

    # Hooks

    def wants_clicks(self) -> bool:
        """Whether clicks in the canvas mean something now."""
        return False

    def on_click(self, position: tuple[float, ...]) -> None:
        """Take a click at a place of the world."""

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
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
        self.let_go()
        self.work.close()

    def event(self, event: QEvent) -> bool:
        """Notice when the dock is closed: napari takes the widget out of it then, but keeps it."""
        if event.type() == QEvent.Type.ParentChange:
            is_docked = self.parentWidget() is not None
            if self._was_docked and not is_docked:
                QTimer.singleShot(0, self.shut_down)
            self._was_docked = is_docked
        return super().event(event)

    def _on_mouse(self, viewer: napari.Viewer, event) -> Iterator[None]:
        """Tell a click from a drag."""
        if event.button != 1 or viewer.dims.ndisplay != 2 or not self.wants_clicks():
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
            self.bar.setFormat(f"{titled[0].title} … %p%")
        else:
            self.bar.reset()
        self.on_busy(bool(titled))

    def _on_progress(self, _job: Job, step: int, steps: int) -> None:
        self.bar.setMaximum(steps)
        self.bar.setValue(step)
