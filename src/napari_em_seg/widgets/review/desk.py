"""Desk: the state of a review in one viewer, evented; the dock and its parts follow it and know no more."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from psygnal import Signal

from napari_em_seg import pipeline
from napari_em_seg.errors import EmSegError
from napari_em_seg.review import (
    Expected,
    Links,
    Operation,
    Session,
    Status,
    StoppingRule,
    View,
    link_name,
    verdicts_per_minute,
)
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.review.scene import Choice, Scene, scene_of
from napari_em_seg.widgets.work import Job, Work

__all__ = ["TO_DO", "Desk", "Sheet", "Wanted"]

TO_DO = frozenset({Status.OPEN, Status.SKIPPED})
"""What is said of links that wait for an answer."""

SURE = 0.02
"""A link that is wrong with less than this probability is strong evidence; who rejects it is told so."""


@dataclass(frozen=True)
class Wanted:
    """Which links are listed, and in which order."""

    order: str = "confidence"
    is_reversed: bool = False
    kinds: frozenset[int] | None = None
    statuses: frozenset[int] | None = TO_DO
    z: slice = field(default_factory=lambda: slice(None))
    label: int | None = None

    def of(self, links: Links) -> Links:
        """Return them."""
        found = links.where(kinds=self.kinds, z=self.z, label=self.label, statuses=self.statuses)
        return found.sorted_by(self.order, is_reversed=self.is_reversed)


@dataclass(frozen=True, eq=False)
class Sheet:
    """What a session has come to at one moment, worked out in the thread, to be shown at once."""

    view: View
    links: Links
    wanted: Wanted
    listed: Links
    objects: ObjectVolume
    left: Expected
    bound: float
    is_enough: bool
    per_minute: float

    @classmethod
    def of(cls, view: View, wanted: Wanted) -> "Sheet":
        """Work it out."""
        rule, links = StoppingRule(), view.links
        bound = view.expected(level=rule.level)
        return cls(
            view, links, wanted, wanted.of(links), ObjectVolume(view), view.expected(),
            rule.bound(bound, len(links)), rule.is_reached(bound, len(links)),
            verdicts_per_minute(view.operations),
        )  # fmt: skip

    def listing(self, wanted: Wanted) -> "Sheet":
        """Return the same with the links that are wanted now."""
        return self if wanted == self.wanted else replace(self, wanted=wanted, listed=wanted.of(self.links))


class Desk:
    """What is under review.

    Signals: ``opened`` and ``closed`` of a session; ``listed`` when there is another list or solution;
    ``asked`` when another link is asked about; ``previewed`` with a choice, or None; ``said`` with a sentence.
    """

    opened = Signal()
    closed = Signal()
    listed = Signal()
    asked = Signal()
    previewed = Signal(object)
    said = Signal(str)

    def __init__(self, work: Work) -> None:
        self.work = work
        self.session: Session | None = None
        self.sheet: Sheet | None = None
        self.wanted = Wanted()
        self.link = NO_LINK
        self.scene: Scene | None = None
        self._since = time.monotonic()
        self._visited: list[int] = []
        self._in_flight: list[int] = []
        self._warned = NO_LINK

    # Opening and closing

    def open(self, path: str) -> Job:
        """Open a session, and make its solver ready."""
        self.close()

        def work(**_: Any) -> tuple[Session, Sheet]:
            session = pipeline.open_session(path)
            try:
                return session, Sheet.of(session.view, self.wanted)
            except BaseException:
                session.close()
                raise

        return self.work.put(work, done=self._on_opened, title="Opening the session")

    def _on_opened(self, found: tuple[Session, Sheet]) -> None:
        self.session, sheet = found
        self.sheet = sheet.listing(self.wanted)
        self.opened.emit()
        self.listed.emit()
        self.work.put(self.session.prepare)
        self.go_on()

    def close(self) -> None:
        """Close the session, once what is being done is done."""
        session, self.session, self.sheet = self.session, None, None
        self.link, self.scene = NO_LINK, None
        self._visited.clear()
        self._in_flight.clear()
        if session is not None:
            self.work.put(session.close)
            self.closed.emit()

    # The list

    def want(self, **changes: Any) -> None:
        """Sort or filter the list in another way; a link that is not in it any more is not asked about."""
        self.wanted = replace(self.wanted, **changes)
        if self.sheet is not None:
            self.sheet = self.sheet.listing(self.wanted)
            self.listed.emit()
            if not (self.sheet.listed.id == self.link).any():
                self.go_on()

    def ask(self, link: int, *, is_new: bool = True) -> None:
        """Ask about a link; NO_LINK for none."""
        if is_new and self.link != NO_LINK and link != self.link:
            self._visited.append(self.link)
        self.link, self.scene, self._since = link, self._scene(link), time.monotonic()
        self.asked.emit()

    def go_on(self) -> None:
        """Ask about the worst link that waits for an answer."""
        self.ask(self.next_link())

    def next_link(self, label: int | None = None) -> int:
        """Return the worst link that waits for an answer, skipped ones last; of one object if it is given."""
        if self.sheet is None:
            return NO_LINK
        listed = self.sheet.listed
        waiting = {*self._in_flight, self.link} if label is not None else {*self._in_flight}
        for status in (Status.OPEN, Status.SKIPPED):
            is_next = listed.status == status
            if label is not None:
                is_next &= listed.object == label
            # One more than could be left out is enough to find one that waits.
            for link in listed.id[is_next][: len(waiting) + 1].tolist():
                if link not in waiting:
                    return int(link)
        return NO_LINK

    def go_back(self) -> None:
        """Ask again about the link before."""
        while self._visited:
            link = self._visited.pop()
            if self._is_listed(link):
                self.ask(link, is_new=False)
                return
        self.said.emit("This is the first link that you looked at")

    def go_on_with_object(self) -> None:
        """Ask about the worst other link of the same object."""
        label = self.object_of(self.link)
        link = self.next_link(label) if label else NO_LINK
        if link == NO_LINK:
            self.said.emit("No other link of this object waits for an answer")
        else:
            self.ask(link)

    def object_of(self, link: int) -> int:
        """Return the object that a link is part of, 0 for none."""
        if self.sheet is None or link == NO_LINK or not self._is_listed(link):
            return 0
        return int(self.sheet.links.object[self.sheet.links.find(link)])

    def _is_listed(self, link: int) -> bool:
        return self.sheet is not None and bool((self.sheet.links.id == link).any())

    def _scene(self, link: int) -> Scene | None:
        if self.session is None or self.sheet is None or link == NO_LINK:
            return None
        return scene_of(self.sheet.view, link, self.session.alternatives(link), self.sheet.objects.numbers)

    def preview(self, choice: Choice | None) -> None:
        """Show an alternative, without deciding anything."""
        self.previewed.emit(choice)

    # Answers

    def accept(self) -> None:
        """Say that the link is right."""
        self._answer(lambda session, link, how: session.accept(link, **how))

    def reject(self) -> None:
        """Say that it is wrong."""
        self._answer(lambda session, link, how: session.reject(link, **how), is_against=True)

    def choose(self, k: int) -> None:
        """Say that the k-th alternative is right, from 1 on."""
        listed = () if self.scene is None else self.scene.alternatives
        if not 1 <= k <= len(listed):
            self.said.emit(f"There are {len(listed)} alternatives to this link")
            return
        choice = listed[k - 1].link
        if choice < 0:  # of two objects that may be one, the other answer
            self.reject()
            return
        self._answer(lambda session, link, how: session.choose(link, choice, **how), is_against=True)

    def do_not_know(self) -> None:
        """Say that one cannot tell."""
        self._answer(lambda session, link, how: session.do_not_know(link, **how))

    def skip(self) -> None:
        """Leave it for later."""
        self._answer(lambda session, link, how: session.skip(link, **how))

    def _answer(
        self, act: Callable[[Session, int, dict[str, Any]], Operation], *, is_against: bool = False
    ) -> None:
        """Have the answer carried out in the thread; the next link is asked about at once."""
        session, link = self.session, self.link
        if session is None or link == NO_LINK:
            self.said.emit("No link is asked about")
            return
        how = {"duration_s": round(time.monotonic() - self._since, 3)}
        if is_against:
            self._warn_of_strong_evidence(link)
        self._in_flight.append(link)
        self.go_on()
        self._do(partial(act, session, link, how), link)

    def _warn_of_strong_evidence(self, link: int) -> None:
        links = self.sheet.links
        p_error = float(links.p_error[links.find(link)])
        if p_error < SURE:
            self._warned = link
            self.said.emit(
                f"Link {link_name(link)} looked right with {1 - p_error:.1%}. "
                "If that was a slip, undo takes it back"
            )

    def _on_refused(self, link: int, error: BaseException) -> None:
        """Nothing was changed: say why, and ask again."""
        if link in self._in_flight:
            self._in_flight.remove(link)
        if not isinstance(error, EmSegError):
            raise error
        self.said.emit(str(error))
        if link != NO_LINK and self._is_listed(link):
            self.ask(link)

    def undo(self) -> None:
        """Take back what was done last, and ask about that link again."""
        if self.session is not None:
            self._do(self.session.undo, returns=True)

    def redo(self) -> None:
        """Do again what was taken back last."""
        if self.session is not None:
            self._do(self.session.redo, returns=True)

    def add_link(self, sources: list[int], targets: list[int], link: int | None) -> None:
        """Make a link by hand, in the place of one or of none."""
        if self.session is not None:
            self._do(partial(self.session.add_link, sources, targets, link=link))

    def add_region(self, z: int, y: int, x: int, mask: Any, done: Callable[[int], object]) -> None:
        """Make a hypothesis of what was painted; ``done`` is told its number."""
        if self.session is not None:
            act = partial(self.session.add_region, z, y, x, mask)
            self._do(act, told=lambda made: done(int(made.payload["region"])))

    def add_object(self, masks: Any, done: Callable[[Operation], object]) -> None:
        """Take an object from elsewhere into the session; see `Session.add_object`."""
        if self.session is not None:
            self._do(partial(self.session.add_object, masks), told=done)

    def retrain(self) -> None:
        """Learn from the verdicts so far, in the thread."""
        if self.session is None:
            return
        session, wanted = self.session, self.wanted

        def work(**_: Any) -> tuple[Any, Sheet]:
            report, _operation = pipeline.retrain_session(session)
            return report, Sheet.of(session.view, wanted)

        self.said.emit("Learning from your verdicts …")
        self.work.put(work, done=self._on_retrained, failed=partial(self._on_refused, NO_LINK),
                      title="Retraining")  # fmt: skip

    def _on_retrained(self, found: tuple[Any, Sheet]) -> None:
        report, sheet = found
        what = "replaced the old costs" if report.is_better else "are no better, so the old ones stay"
        self.said.emit(
            f"Costs from {report.n_train} verdicts {what}: on {report.n_held_out} held out ones the loss went "
            f"from {report.loss_before:.3f} to {report.loss_after:.3f}"
        )
        self._show(sheet)

    def _do(
        self,
        act: Callable[[], Operation],
        link: int = NO_LINK,
        *,
        returns: bool = False,
        told: Callable[[Operation], object] | None = None,
    ) -> None:
        """Carry out an operation in the thread, then show what has come of it."""
        session, wanted = self.session, self.wanted

        def work() -> tuple[Operation, Sheet]:
            operation = act()
            return operation, Sheet.of(session.view, wanted)

        def done(found: tuple[Operation, Sheet]) -> None:
            if session is not self.session:
                return
            operation, sheet = found
            if link in self._in_flight:
                self._in_flight.remove(link)
            self._show(sheet)
            if returns:
                self._go_to_target(operation)
            elif link != NO_LINK and self._warned != link:
                n = len(operation.result.get("chosen", ((),))[0])
                self.said.emit(f"{link_name(link)}: {operation.kind}; {n or 'no'} links changed")
            if told is not None:
                told(operation)

        self.work.put(work, done=done, failed=partial(self._on_refused, link))

    def _show(self, sheet: Sheet) -> None:
        """Show another state of the session; what is asked about stays, if it is still there."""
        if self.session is None:
            return
        self.sheet = sheet.listing(self.wanted)  # somebody may want others by now
        self.listed.emit()
        if self.link != NO_LINK and self._is_listed(self.link):
            before, self.scene = self.scene, self._scene(self.link)
            if self.scene is None or not self.scene.looks_like(before):
                self.asked.emit()
        else:
            self.go_on()

    def _go_to_target(self, operation: Operation) -> None:
        """After undo and redo ask about the link that it was about."""
        target = operation.payload["target"]
        undone = next((o for o in self.sheet.view.operations if o.id == target), None)
        if undone is None:
            return
        link = undone.payload.get("link")
        about = "" if link is None else f" of link {link_name(link)}"
        self.said.emit(f"{operation.kind.capitalize()}: {undone.kind}{about}")
        if link is not None and self._is_listed(link):
            self.ask(link)
