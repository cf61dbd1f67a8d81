"""Work: whatever takes time is done in a thread, one thing after the other, with progress and Cancel."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal

from napari_em_seg.errors import Cancelled, EmSegError

__all__ = ["Job", "Work"]

_EVERY_S = 0.05  # more news than this nobody can read


class Job:
    """One piece of work that was asked for."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ask it to stop; what it has done so far is up to it."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._cancelled.is_set()


class Work(QObject):
    """A thread that does one thing after the other; results come back in the thread that made this object.

    Signals: ``changed``, when work begins or ends; ``progressed``, with a job, steps done and steps in all.
    """

    changed = Signal()
    progressed = Signal(object, int, int)
    _told = Signal(object)
    _news = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="napari-em-seg")
        self.jobs: list[Job] = []
        self._waiting: list[tuple[Any, ...]] = []
        self._bars: dict[Job, Any] = {}
        self._is_closed = False
        self._told.connect(self._on_told)
        self._news.connect(self._on_news)
        self.progressed.connect(self._on_progressed)

    def put(
        self,
        function: Callable[..., Any],
        *,
        done: Callable[[Any], object] | None = None,
        failed: Callable[[BaseException], object] | None = None,
        title: str = "",
    ) -> Job:
        """Have a function called in the thread, once all that was put before is done.

        Parameters
        ----------
        function
            With a title it is called with ``progress`` and ``cancelled``, as long steps of `pipeline` are.
        done
            Called with its result.
        failed
            Called with its error, also with `Cancelled`; by default people are told.
        title
            Shown beside the progress; none for what is done at once.
        """
        job = Job(title)
        self.jobs.append(job)
        if title:
            self._bars[job] = cancelable_progress(total=0, desc=title, cancel_callback=job.cancel)
        self._waiting.append((job, function, done, failed))
        QTimer.singleShot(0, self._start)  # what is to be seen at once is drawn before
        self.changed.emit()
        return job

    def _start(self) -> None:
        while self._waiting:
            self._thread.submit(self._run, *self._waiting.pop(0))

    def tell(self, function: Callable[[], object]) -> None:
        """Have a function called in the thread that made this object, from within a job."""
        self._news.emit(function)

    def _on_news(self, function: Callable[[], object]) -> None:
        if not self._is_closed:
            function()

    @property
    def is_busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self.jobs)

    def close(self, last: Callable[[], object] | None = None) -> None:
        """Let the thread end; what is short or ``last`` is done before, what has a title is cancelled."""
        if self._is_closed:
            return
        self._is_closed = True
        self._start()
        for job in self.jobs:
            if job.title:
                job.cancel()
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()
        if last is not None:
            self._thread.submit(last)
        self._thread.shutdown(wait=False)

    def wait(self) -> None:
        """Wait for the end of the thread after `close`."""
        self._thread.shutdown(wait=True)

    def _run(self, job: Job, function: Callable[..., Any], done: Any, failed: Any) -> None:
        try:
            if job.is_cancelled:
                raise Cancelled(f"{job.title or 'The work'} was cancelled")
            options = {"progress": self._progress_of(job), "cancelled": lambda: job.is_cancelled}
            result = function(**options) if job.title else function()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown in the main thread
            self._told.emit((job, partial(self._fail, error, failed)))
        else:
            self._told.emit((job, lambda: None if done is None else done(result)))

    def _progress_of(self, job: Job) -> Callable[[int, int], None]:
        last = 0.0

        def report(step: int, steps: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > _EVERY_S or step == steps:
                last = now
                self.progressed.emit(job, step, steps)

        return report

    def _on_progressed(self, job: Job, step: int, steps: int) -> None:
        bar = self._bars.get(job)
        if bar is not None:
            bar.total = steps
            bar.update(step - bar.n)

    def _on_told(self, news: tuple[Job, Callable[[], object]]) -> None:
        job, tell = news
        self.jobs.remove(job)
        bar = self._bars.pop(job, None)
        if bar is not None:
            bar.close()
        if not self._is_closed:
            try:
                tell()
            finally:
                self.changed.emit()

    def _fail(self, error: BaseException, failed: Callable[[BaseException], object] | None) -> None:
        if failed is not None:
            failed(error)
        elif isinstance(error, EmSegError):
            show_error(str(error))
        elif not isinstance(error, Cancelled):
            raise error
