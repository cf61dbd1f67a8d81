"""Pace: how fast people answer, and how the errors left fall with their verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from napari_em_seg.review.operations import VERDICTS, Operation
from napari_em_seg.review.state import active

__all__ = ["CurvePoint", "curve", "verdicts_per_minute"]


@dataclass(frozen=True)
class CurvePoint:
    """What was expected after a number of verdicts."""

    n_verdicts: int
    operation: int
    mean: float
    low: float
    high: float


def curve(operations: Sequence[Operation]) -> list[CurvePoint]:
    """Return the errors that were expected to be left after each verdict that counts."""
    done, _ = active(operations)
    points: list[CurvePoint] = []
    for operation in done:
        left = operation.result.get("expected")
        if operation.kind in VERDICTS and left is not None:
            points.append(CurvePoint(len(points) + 1, operation.id, *left[:3]))
    return points


def verdicts_per_minute(operations: Sequence[Operation], *, last: int = 50, longest_s: float = 120) -> float:
    """Return the verdicts in a minute of work, of the last ones; 0 where there are none.

    The time for one is what was measured when it was given, else the time since the operation before. More than
    ``longest_s`` counts as a break, and is left out together with its verdict.
    """
    taken = []
    for before, operation in zip([None, *operations], operations, strict=False):
        if operation.kind not in VERDICTS:
            continue
        seconds = operation.duration_s
        if seconds is None and before is not None:
            start, end = (datetime.fromisoformat(o.time) for o in (before, operation))
            seconds = (end - start).total_seconds()
        if seconds is not None and 0 <= seconds <= longest_s:
            taken.append(seconds)
    taken = taken[-last:]
    return 60 * len(taken) / max(sum(taken), 1e-3) if taken else 0.0
