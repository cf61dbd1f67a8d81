"""Changes: what an operation does to the solution, kept with it, so that opening a session solves nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.review.operations import Operation
from napari_em_seg.review.reconstruction import Outcome, Scores
from napari_em_seg.review.state import State

__all__ = ["applied", "check_outcome", "difference"]


def difference(before: Outcome, after: Outcome) -> dict[str, Any]:
    """Return the entries that differ, by column; more assignments after than before are taken as unknown.

    Numbers are kept as they are: 32-bit ones have a decimal form that leads back to them.
    """
    size = max(len(before.chosen), len(after.chosen))
    old, new = before.resized(size), after.resized(size)
    changes: dict[str, Any] = {"gap": after.gap, "chosen": _pairs(old.chosen, new.chosen)}
    for name, column in new.scores.columns().items():
        changes[name] = _pairs(old.scores.columns()[name], column)
    return changes


def _pairs(old: NDArray[Any], new: NDArray[Any]) -> list[list[Any]]:
    """Return where two columns differ, and what the second one has there."""
    is_other = old != new
    if new.dtype.kind == "f":
        is_other &= ~(np.isnan(old) & np.isnan(new))
    rows = np.flatnonzero(is_other)
    return [rows.tolist(), new[rows].astype(int if new.dtype.kind == "b" else new.dtype).tolist()]


def applied(base: Outcome, operations: Sequence[Operation], size: int) -> Outcome:
    """Return the solution after operations, each of which changed what the one before had left."""
    outcome = base.resized(size)
    chosen = _set(outcome.chosen, operations, "chosen")
    columns = {name: _set(column, operations, name) for name, column in outcome.scores.columns().items()}
    objective, gap = outcome.objective, outcome.gap
    for operation in operations:
        objective, gap = operation.objective_after, operation.result.get("gap", gap)
    return Outcome(chosen, objective, gap, Scores(**columns))


def _set(column: NDArray[Any], operations: Sequence[Operation], name: str) -> NDArray[Any]:
    """Set what was changed; where an entry was changed several times, the last one holds."""
    pairs = [operation.result[name] for operation in operations if name in operation.result]
    rows = np.array([row for pair in pairs for row in pair[0]], np.int64)
    values = np.array([value for pair in pairs for value in pair[1]], float)  # None becomes not a number
    inside = rows < len(column)
    rows, values = rows[inside][::-1], values[inside][::-1]
    rows, first = np.unique(rows, return_index=True)
    column = column.copy()
    column[rows] = values[first].astype(column.dtype)
    return column


def check_outcome(outcome: Outcome, state: State, n: int) -> None:
    """Refuse a solution that does not fit, or does not keep to the pins, which is a fault of the solver."""
    size = n + state.n_links
    lengths = {len(outcome.chosen), *(len(column) for column in outcome.scores.columns().values())}
    if lengths != {size}:
        raise DataError(f"The solution has {sorted(lengths)} entries", f"{size}, one for each assignment",
                        "This is a fault of the program; please report it")  # fmt: skip
    broken = [
        link for link, value in state.assignment_pins.items() if bool(outcome.chosen[link]) != bool(value)
    ]
    absent = [n + k for k in range(state.n_links) if n + k not in state.links and outcome.chosen[n + k]]
    if broken or absent:
        raise DataError(f"The solution does not keep to what was decided on {(broken + absent)[:5]}",
                        "one that does", "This is a fault of the program; please report it")  # fmt: skip
