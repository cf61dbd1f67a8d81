"""Operations: what a person did to a session, one entry each; nothing is ever taken out or altered."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from napari_em_seg.errors import FormatError

__all__ = [
    "ACCEPT", "ALTERNATIVE", "BY_HAND", "DO_NOT_KNOW", "EDITS", "KINDS", "MOVED", "NOTE", "OBJECT", "REDO",
    "REGION", "REJECT", "RETRAIN", "SETTING", "SKIP", "UNDO", "VERDICTS", "Draft", "Operation", "as_read",
    "from_json", "to_json",
]  # fmt: skip

ACCEPT, REJECT, ALTERNATIVE, BY_HAND = "accept", "reject", "alternative", "by hand"
DO_NOT_KNOW, SKIP = "don't know", "skip"
REGION, OBJECT, NOTE, RETRAIN, SETTING = "region", "object", "note", "retrain", "setting"
UNDO, REDO, MOVED = "undo", "redo", "moved"

VERDICTS = (ACCEPT, REJECT, ALTERNATIVE, BY_HAND, DO_NOT_KNOW, SKIP)
"""Kinds of operations that answer the question whether a link is right."""

EDITS = (*VERDICTS, REGION, OBJECT, NOTE, RETRAIN, SETTING)
"""Kinds of operations that can be undone."""

KINDS = (*EDITS, UNDO, REDO, MOVED)


@dataclass(frozen=True)
class Draft:
    """What is to be done: the part of an operation that is known before it is carried out.

    Attributes
    ----------
    kind
        One of `KINDS`.
    payload
        What is needed to do it again, in terms of JSON:

        ===============  =====================================================================================
        kind             payload
        ===============  =====================================================================================
        accept, reject,  ``link``; ``pins``, pairs of a link and 1 (it is so) or 0 (it is not so); of an
        alternative      alternative also ``choice``, the link chosen instead
        by hand          ``variable``, the number it gets; ``kind``, ``sources``, ``targets``, ``cost``;
                         ``link`` that it replaces, or none; ``pins``
        don't know,      ``link``
        skip
        region           ``region``, the number it gets; ``z``, ``y``, ``x``, ``shape``, ``runs``, ``origin``;
                         ``links``, what may become of it, with numbers from ``variable`` on
        object           ``regions``, a list of such entries; ``variable`` and ``links``, which run through
                         them; ``pins`` of these
        note             ``text``; ``link``, or none
        retrain          ``generation`` of costs; ``model``, what made them; ``report`` of the held-out verdicts
        setting          ``name``, ``value``; ``solves``, whether the solution depends on it
        undo, redo       ``target``, the operation
        moved            ``name`` of a reference, and its new ``path``
        ===============  =====================================================================================
    shown
        What the person saw when deciding, such as the link's rank, confidence and alternatives.
    """

    kind: str
    payload: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """A draft that was carried out.

    Attributes
    ----------
    id
        From 1 on, in order.
    time
        When it was done, in UTC (ISO 8601).
    user
        Who did it.
    duration_s
        How long the person looked at it; none where nobody measured.
    kind, payload, shown
        As in `Draft`.
    objective_before, objective_after
        Of the solution.
    result
        What it changed in the solution, so that nothing has to be solved to open a session.
    """

    id: int
    time: str
    user: str
    duration_s: float | None
    kind: str
    payload: Mapping[str, Any]
    shown: Mapping[str, Any]
    objective_before: float
    objective_after: float
    result: Mapping[str, Any]

    @property
    def draft(self) -> Draft:
        """What was to be done."""
        return Draft(self.kind, self.payload, self.shown)

    def as_dict(self) -> dict[str, Any]:
        """Return all entries, for JSON."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def to_json(entry: Mapping[str, Any]) -> str:
    """Write as JSON that every program can read: no NaN, no infinity."""
    return json.dumps(_plain(entry), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def as_read(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as it will be when it is read again, so that memory and disk never differ."""
    return from_json(to_json(entry))


def _plain(value: Any) -> Any:
    """Put None for what JSON has no number for, and Python's own types for those of NumPy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise FormatError(f"An entry of the journal is no JSON ({text[:40]!r})", "what this program wrote",
                          "Restore the session from a copy") from error  # fmt: skip
