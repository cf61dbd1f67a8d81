"""The core of a session: open, append, undo, redo, close; what people can say is in `session`."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError, SourcePermissionError
from napari_em_seg.io._location import absolute
from napari_em_seg.review.changes import check_outcome, difference
from napari_em_seg.review.folder import add_generation, journal_of, load_merges, read_references
from napari_em_seg.review.journal import Journal
from napari_em_seg.review.lock import Lock, user_name
from napari_em_seg.review.merges import Merges
from napari_em_seg.review.operations import REDO, RETRAIN, UNDO, VERDICTS, Draft, Operation, as_read
from napari_em_seg.review.reconstruction import MakeResolver, Outcome, Reconstruction, Resolver
from napari_em_seg.review.state import State, fold
from napari_em_seg.review.view import View, outcome_of

__all__ = ["OpenSession"]

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class OpenSession:
    """An open session.

    Each method that changes something appends one operation, which is on the disk when it returns, or raises
    and has changed nothing. Several threads may call; one operation is carried out after the other, and who
    only looks (`view`, and what is read from it) never waits for that.

    Parameters
    ----------
    path
        The folder.
    make_resolver
        Solves anew after a verdict. Without it a session can be read, undone, redone, and notes can be written.
    mode
        "edit" takes the lock; "read" never changes anything, and works while another program edits.
    user
        Who is at work; the name that the operating system knows, if nobody says.
    clock
        Gives the time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        make_resolver: MakeResolver | None = None,
        *,
        mode: Literal["edit", "read"] = "edit",
        user: str | None = None,
        clock: Clock = _now,
    ) -> None:
        self.path = absolute(path)
        self.mode = mode
        self._one_by_one = threading.RLock()
        self._user, self._clock, self._make_resolver = user or user_name(), clock, make_resolver
        self._resolver: tuple[int, Resolver] | None = None
        self._journal: Journal | None = None
        self.references = read_references(self.path)
        self._lock = Lock(self.path) if mode == "edit" else None
        try:
            self._journal = Journal.open(journal_of(self.path), is_read_only=mode == "read")
            found = Reconstruction.load(self.path)
            self.view = View((), State(), found, found.outcome, load_merges(self.path))
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others edit; what was done is on the disk already."""
        with self._one_by_one:
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that was ever done, in order."""
        return self.view.operations

    @property
    def state(self) -> State:
        """What that has led to."""
        return self.view.state

    @property
    def reconstruction(self) -> Reconstruction:
        """Hypotheses, assignments, and the costs that hold now."""
        return self.view.reconstruction

    @property
    def outcome(self) -> Outcome:
        """The solution."""
        return self.view.outcome

    @property
    def merges(self) -> Merges | None:
        """The tree of an agglomeration, where there is one."""
        return self.view.merges

    def refresh(self) -> int:
        """Read what others have appended meanwhile; return how many operations that was."""
        with self._one_by_one:
            found = self._opened().operations(len(self.operations))
            if found:
                self.view = self._known_view((*self.operations, *found))
            return len(found)

    def _opened(self) -> Journal:
        if self._journal is None:
            raise DataError(f"The session {self.path} is closed", "an open one", "Open it again")
        return self._journal

    def _known_view(self, operations: tuple[Operation, ...]) -> View:
        """Return what there is after operations of which the solution is known."""
        state = fold(operations)
        found = self.reconstruction.at_generation(self.path, state.generation)
        return View(operations, state, found, outcome_of(operations, state, found), self.merges)

    def commit(
        self,
        draft: Draft,
        *,
        duration_s: float | None = None,
        shown: Mapping[str, Any] | None = None,
        user: str | None = None,
        time: str | None = None,
    ) -> Operation:
        """Carry out a draft and append it; nothing has changed where this raises.

        Parameters
        ----------
        draft
            What is to be done; not undo, redo or retrain.
        duration_s
            How long the person looked at it.
        shown
            What else the person saw.
        user, time
            Who did it and when, where it is not this user now.
        """
        with self._one_by_one:
            self.refresh()
            view = self._solved(self._started(draft, shown or {}, duration_s, user, time))
            self._opened().append(view.operations[-1])
            self.view = view
            return view.operations[-1]

    def preview(self, draft: Draft) -> View:
        """Return what a draft would lead to, without doing it."""
        with self._one_by_one:
            return self._solved(self._started(draft, {}, None, None, None))

    def _solved(self, operation: Operation) -> View:
        """Return what there is after an operation, which has its result then."""
        view, n = self.view, len(self.reconstruction.kind)
        state = fold([*view.operations, operation])
        outcome = view.outcome.resized(n + state.n_links)
        if state.question != view.state.question:
            outcome = self._solver(view.reconstruction).solve(state)
            check_outcome(outcome, state, n)
        result = difference(view.outcome, outcome)
        after = replace(view, state=state, outcome=outcome)
        if operation.kind in VERDICTS:
            left = after.expected()
            result["expected"] = [left.mean, left.low, left.high, left.n_open, len(after.links)]
        done = replace(operation, objective_after=outcome.objective, result=as_read(result))
        return after.after(done)

    def _started(
        self,
        draft: Draft,
        shown: Mapping[str, Any],
        duration_s: float | None,
        user: str | None,
        time: str | None,
    ) -> Operation:
        if self.mode == "read":
            raise SourcePermissionError(f"The session {self.path} is open only to read", "one open to edit",
                                        "Open it again, to edit")  # fmt: skip
        now = time or self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
        objective = self.outcome.objective
        return Operation(len(self.operations) + 1, now, user or self._user, duration_s, draft.kind,
                         as_read(draft.payload), as_read({**draft.shown, **shown}), objective, objective,
                         {})  # fmt: skip

    def _solver(self, reconstruction: Reconstruction) -> Resolver:
        if self._make_resolver is None:
            raise DataError(f"The session {self.path} is open without a solver", "one, to decide on links",
                            "Give one when opening it")  # fmt: skip
        if self._resolver is None or self._resolver[0] != reconstruction.generation:
            self._resolver = reconstruction.generation, self._make_resolver(reconstruction)
        return self._resolver[1]

    def prepare(self) -> None:
        """Make the solver ready, so that the first verdict takes no longer than others."""
        with self._one_by_one:
            self._solver(self.reconstruction).solve(self.state)

    def undo(self, **how: Any) -> Operation:
        """Take back the last edit that counts; the solution is what it was before, without solving."""
        return self._turn(UNDO, how)

    def redo(self, **how: Any) -> Operation:
        """Do again what was undone last."""
        return self._turn(REDO, how)

    def _turn(self, kind: str, how: Mapping[str, Any]) -> Operation:
        with self._one_by_one:
            self.refresh()
            stack = self.state.done if kind == UNDO else self.state.undone
            if not stack:
                raise DataError(f"There is nothing to {kind}", "an earlier operation", "Go on")
            started = self._started(Draft(kind, {"target": stack[-1]}), *_said(how))
            return self._append_known(started)

    def _append_known(self, started: Operation) -> Operation:
        """Append an operation whose solution is known from earlier ones, or lies in a generation."""
        view = self._known_view((*self.operations, started))
        operation = replace(started, objective_after=view.outcome.objective)
        self._opened().append(operation)
        self.view = replace(view, operations=(*self.operations, operation))
        return operation

    def adopt_costs(
        self,
        costs: NDArray[np.float64],
        nothing: NDArray[np.float64],
        *,
        model: Mapping[str, Any],
        report: Mapping[str, Any],
        **how: Any,
    ) -> Operation:
        """Solve with other costs, under all that was decided, and go on with these."""
        with self._one_by_one:
            self.refresh()
            self._started(Draft(RETRAIN, {}), *_said(how))  # refuses early where nothing may change
            trained = replace(
                self.reconstruction, costs=costs, nothing=nothing, generation=-1, model=dict(model)
            )
            self._resolver = None
            outcome = self._solver(trained).solve(self.state)
            check_outcome(outcome, self.state, len(trained.kind))
            self._resolver = None
            number = add_generation(self.path, replace(trained, outcome=outcome))
            payload = {"generation": number, "model": dict(model), "report": dict(report)}
            return self.adopt_generation(Draft(RETRAIN, payload), **how)

    def adopt_generation(self, draft: Draft, **how: Any) -> Operation:
        """Go on with costs that lie in the session's folder already."""
        with self._one_by_one:
            return self._append_known(self._started(draft, *_said(how)))


def _said(how: Mapping[str, Any]) -> tuple[Mapping[str, Any], float | None, str | None, str | None]:
    """Return what may be said of any operation, as `commit` takes it."""
    odd = set(how) - {"shown", "duration_s", "user", "time"}
    if odd:
        raise TypeError(f"unexpected {', '.join(sorted(odd))}")
    return how.get("shown") or {}, how.get("duration_s"), how.get("user"), how.get("time")
