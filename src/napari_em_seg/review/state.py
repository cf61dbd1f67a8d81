"""State: what all operations of a journal come to; one pure function of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from napari_em_seg.errors import FormatError
from napari_em_seg.review.added import AddedLink, AddedRegion
from napari_em_seg.review.operations import (
    ACCEPT,
    ALTERNATIVE,
    BY_HAND,
    DO_NOT_KNOW,
    EDITS,
    MOVED,
    NOTE,
    OBJECT,
    REDO,
    REGION,
    REJECT,
    RETRAIN,
    SETTING,
    SKIP,
    UNDO,
    Operation,
)

__all__ = ["Note", "State", "Status", "Verdict", "active", "fold"]


class Status(IntEnum):
    """What people said of a link."""

    OPEN = 0
    ACCEPTED = 1
    REJECTED = 2
    CHANGED = 3
    DO_NOT_KNOW = 4
    SKIPPED = 5

    @property
    def title(self) -> str:
        """In words."""
        return "don't know" if self is Status.DO_NOT_KNOW else self.name.lower()


@dataclass(frozen=True)
class Note:
    """A remark, on a link or on all."""

    operation: int
    text: str
    link: int | None


@dataclass(frozen=True)
class Verdict:
    """An answer: ``is_wrong`` is None where the person did not know. ``p_error`` is what was thought before."""

    operation: int
    link: int
    is_wrong: bool | None
    choice: int | None
    p_error: float | None
    time: str
    duration_s: float | None


@dataclass(frozen=True)
class State:
    """What people have decided so far.

    Attributes
    ----------
    pins
        Links that have to be chosen (1), or must not be (0).
    statuses
        Of each link on which somebody has spoken.
    links, regions
        What was made by hand, by number; what was undone is not among it.
    n_links, n_regions
        How many have ever been made by hand, whether undone or not: numbers are not used twice.
    notes, verdicts
        In order.
    settings
        By name.
    solving
        Names of the settings on which the solution depends.
    generation
        Which costs hold: 0 from the beginning, then one more after each retraining.
    moved
        New paths of references, by name.
    done, undone
        Operations that count, in order, and those that were undone and can be redone, the next one last.
    """

    pins: Mapping[int, int] = field(default_factory=dict)
    statuses: Mapping[int, Status] = field(default_factory=dict)
    links: Mapping[int, AddedLink] = field(default_factory=dict)
    regions: Mapping[int, AddedRegion] = field(default_factory=dict)
    n_links: int = 0
    n_regions: int = 0
    notes: tuple[Note, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    solving: frozenset[str] = frozenset()
    generation: int = 0
    moved: Mapping[str, str] = field(default_factory=dict)
    done: tuple[int, ...] = ()
    undone: tuple[int, ...] = ()

    @property
    def assignment_pins(self) -> dict[int, int]:
        """Pins of assignments alone; merges in an agglomeration have numbers below zero."""
        return {link: value for link, value in self.pins.items() if link >= 0}

    @property
    def merge_pins(self) -> dict[int, int]:
        """Pins of merges in an agglomeration, by the number of the merge in its tree."""
        return {-2 - link: value for link, value in self.pins.items() if link < 0}

    @property
    def question(self) -> tuple[Any, ...]:
        """All that the solution depends on: the same question has the same answer."""
        settings = {name: self.settings[name] for name in sorted(self.solving) if name in self.settings}
        return self.assignment_pins, dict(self.links), self.generation, settings


def active(operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation]]:
    """Return the edits that count, in order, and those that can be redone, the next one last.

    An edit after an undo cuts off what could have been redone.
    """
    done: list[Operation] = []
    undone: list[Operation] = []
    for operation in operations:
        if operation.kind in EDITS:
            done.append(operation)
            undone.clear()
        elif operation.kind in (UNDO, REDO):
            source, sink = (done, undone) if operation.kind == UNDO else (undone, done)
            if not source or source[-1].id != operation.payload.get("target"):
                raise _odd(operation, f"the {operation.kind} of what is not the last one")
            sink.append(source.pop())
        elif operation.kind != MOVED:
            raise _odd(operation, f"a {operation.kind!r}")
    return done, undone


def _odd(operation: Operation, what: str) -> FormatError:
    return FormatError(f"Operation {operation.id} of the journal is {what}", "what this version knows",
                       "Update napari-em-seg, or restore the session from a copy")  # fmt: skip


def fold(operations: Sequence[Operation]) -> State:
    """Return the state that operations lead to; it depends on nothing else."""
    done, undone = active(operations)
    folding = _Folding()
    for operation in done:
        try:
            folding.apply(operation)
        except (KeyError, TypeError, ValueError) as error:
            raise _odd(operation, f"a {operation.kind!r} that lacks something ({error})") from error
    kinds = [operation.kind for operation in operations]
    painted = sum(len(o.payload["links"]) for o in operations if o.kind in (REGION, OBJECT))
    n_regions = sum(len(o.payload.get("regions", (0,))) for o in operations if o.kind in (REGION, OBJECT))
    moved = {o.payload["name"]: o.payload["path"] for o in operations if o.kind == MOVED}
    return State(
        {link: value for link, (value, _) in folding.pins.items()},
        {link: status for link, (status, _) in folding.statuses.items()},
        folding.links, folding.regions, kinds.count(BY_HAND) + painted, n_regions,
        tuple(folding.notes), tuple(folding.verdicts.values()), folding.settings, frozenset(folding.solving),
        folding.generation, moved,
        tuple(o.id for o in done), tuple(o.id for o in undone),
    )  # fmt: skip


class _Folding:
    """A state in the making. Pins and statuses remember on which link somebody spoke when they were made."""

    def __init__(self) -> None:
        self.pins: dict[int, tuple[int, int]] = {}
        self.statuses: dict[int, tuple[Status, int]] = {}
        self.links: dict[int, AddedLink] = {}
        self.regions: dict[int, AddedRegion] = {}
        self.owned: dict[int, list[int]] = {}
        self.notes: list[Note] = []
        self.verdicts: dict[int, Verdict] = {}
        self.settings: dict[str, Any] = {}
        self.solving: set[str] = set()
        self.generation = 0

    def apply(self, operation: Operation) -> None:
        kind, payload = operation.kind, operation.payload
        if kind in (ACCEPT, REJECT, ALTERNATIVE, BY_HAND):
            self._decide(operation)
        elif kind in (DO_NOT_KNOW, SKIP):
            self._leave(operation)
        elif kind == REGION:
            self.regions[payload["region"]] = AddedRegion.from_payload(payload)
            for number, link in enumerate(payload["links"], payload["variable"]):
                self.links[number] = AddedLink.from_payload(link)
        elif kind == OBJECT:
            for region in payload["regions"]:
                self.regions[region["region"]] = AddedRegion.from_payload(region)
            for number, link in enumerate(payload["links"], payload["variable"]):
                self.links[number] = AddedLink.from_payload(link)
            for link, value in payload["pins"]:
                self.pins[link] = (int(value), link)
                self.statuses[link] = (Status.ACCEPTED, link)
        elif kind == NOTE:
            self.notes.append(Note(operation.id, payload["text"], payload.get("link")))
        elif kind == RETRAIN:
            self.generation = payload["generation"]
        elif kind == SETTING:
            self.settings[payload["name"]] = payload["value"]
            if payload.get("solves"):
                self.solving.add(payload["name"])

    def _decide(self, operation: Operation) -> None:
        """Take back what was said of the link before; a later pin of the same link wins."""
        kind, payload = operation.kind, operation.payload
        choice: int | None = payload.get("variable", payload.get("choice"))
        asked: int | None = payload.get("link")
        link = asked if asked is not None else int(payload["variable"])
        self._take_back(link)
        for pinned, value in payload["pins"]:
            self.pins[pinned] = (int(value), link)
        self.owned[link] = [link, *(pinned for pinned, _ in payload["pins"])]
        said = {ACCEPT: Status.ACCEPTED, REJECT: Status.REJECTED}.get(kind, Status.CHANGED)
        self.statuses[link] = (said, link)
        if choice is not None:
            self.statuses[choice] = (Status.ACCEPTED, link)
        if kind == BY_HAND:
            self.links[payload["variable"]] = AddedLink.from_payload(payload)
        if asked is not None:
            self.verdicts[link] = _verdict(operation, kind != ACCEPT)

    def _leave(self, operation: Operation) -> None:
        """Who does not know any more takes back what was said before; who skips does not."""
        link = operation.payload["link"]
        if operation.kind == DO_NOT_KNOW:
            self._take_back(link)
            self.owned[link] = [link]
            self.statuses[link] = (Status.DO_NOT_KNOW, link)
            self.verdicts[link] = _verdict(operation, None)
        elif self.statuses.get(link, (Status.OPEN, link))[0] == Status.OPEN:
            self.statuses[link] = (Status.SKIPPED, link)

    def _take_back(self, link: int) -> None:
        """Forget what was said of a link, but for what was said of others since."""
        for other in self.owned.pop(link, ()):
            if other in self.pins and self.pins[other][1] == link:
                del self.pins[other]
            if other in self.statuses and self.statuses[other][1] == link:
                del self.statuses[other]
        self.verdicts.pop(link, None)


def _verdict(operation: Operation, is_wrong: bool | None) -> Verdict:
    return Verdict(
        operation.id, operation.payload["link"], is_wrong,
        operation.payload.get("variable", operation.payload.get("choice")), operation.shown.get("p_error"),
        operation.time, operation.duration_s,
    )  # fmt: skip
