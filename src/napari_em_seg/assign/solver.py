"""The solver: the best choice of assignments, with a proof of how good it is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _pulp
from napari_em_seg.assign._highs import Program, solve_lp
from napari_em_seg.assign._regions import Matrix, NoAnswer, Regions
from napari_em_seg.assign.problem import Problem
from napari_em_seg.errors import DataError, EmSegError

__all__ = [
    "InfeasiblePinsError",
    "Pins",
    "Solution",
    "clash",
    "close_gap",
    "nearby",
    "refuse_odd",
    "refuse_options",
    "relax",
    "solve",
    "solved",
]

_LEAST_WORK = 10_000  # columns: some hundredths of a second

_NAMED = 12  # links of a clash that an error names

Pins = Mapping[int, int]
"""Variables that have to be 1, or 0."""

Cancelled = Callable[[], bool] | None


class InfeasiblePinsError(EmSegError, ValueError):
    """Pins that no answer complies with; of those in ``pins`` that can come and go none could be left out."""

    def __init__(self, pins: Mapping[int, int]) -> None:
        self.pins = dict(pins)
        said = [f"{v} {'accepted' if on else 'rejected'}" for v, on in sorted(self.pins.items())]
        listed = ", ".join(said[:_NAMED]) + (f" and {len(said) - _NAMED:,} more" if len(said) > _NAMED else "")
        super().__init__(
            f"These cannot all hold: {listed}", "answers that go together", "Take one of them back"
        )

    def __reduce__(self) -> tuple[type["InfeasiblePinsError"], tuple[dict[int, int]]]:  # type: ignore[override]
        """Pickle what it was made of."""
        return type(self), (self.pins,)


@dataclass(frozen=True, eq=False)
class Solution:
    """An answer and its proof.

    Attributes
    ----------
    chosen
        Which variables are one.
    objective
        What that costs.
    bound
        No answer costs less: proven.
    prices
        Reduced costs of the relaxed program, without pins but for fixed ones: what each variable costs beyond
        its share; nothing for fixed ones.
    base
        The value of that program.
    n_fractional
        Variables that were neither 0 nor 1 in there.
    seconds
        What took how long.
    """

    chosen: NDArray[np.bool_]
    objective: float
    bound: float
    prices: NDArray[np.float64]
    base: float
    n_fractional: int
    seconds: Mapping[str, float]

    @property
    def gap(self) -> float:
        """By what share of the objective it may be above the best answer."""
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-9)


def solve(
    problem: Problem,
    pins: Pins | None = None,
    *,
    solver: str = "highs",
    gap: float = 0.0,
    time_limit: float = 600.0,
    cancelled: Cancelled = None,
) -> Solution:
    r"""Return the best choice, or one that is proven to be near it.

    First the program is relaxed to :math:`0 \le a \le 1`, which leaves few variables that are neither. Those
    are dropped for leaving their leaves unexplained, which is an answer, if not the best. Then what this pays
    above the relaxed optimum is looked at: around each such place a part of the program is solved in whole
    numbers, and grown until nothing outside could make it cheaper (see `_regions.Regions`). So the gap closes
    place by place, and most often to zero.

    Parameters
    ----------
    problem
        The program.
    pins
        Variables that have to be 1 or 0.
    solver
        "highs" for the above, or the name of a solver that PuLP finds on this computer, to which the whole
        program is handed in whole numbers.
    gap
        How far from the best answer is near enough, as a share of the objective.
    time_limit
        In seconds; then the answer so far is returned, with its gap.
    cancelled
        Asked now and then; once it says true, the answer so far is returned as well.

    Raises
    ------
    InfeasiblePinsError
        The pins clash.
    """
    refuse_options(solver, gap, time_limit)
    refuse_odd(problem, pins or {})
    free, relaxed, n_fractional = relax(problem, time_limit=time_limit, cancelled=cancelled)
    regions = free.copy()
    if solver != "highs":
        begun = time.perf_counter()
        try:
            x = _pulp.solve(problem, dict(pins or {}), solver, gap=gap, time_limit=time_limit)
        except NoAnswer as error:
            raise clash(free, dict(pins or {}), error) from error
        seconds = {"relaxed": relaxed, solver: time.perf_counter() - begun}
        return Solution(x > 0.5, float(problem.costs @ x), regions.base, regions.prices, regions.base,
                        n_fractional, seconds)  # fmt: skip
    begun = time.perf_counter()
    try:
        close_gap(regions, pins or {}, gap=gap, seconds=time_limit - relaxed, cancelled=cancelled)
    except NoAnswer as error:
        raise clash(free, dict(pins or {}), error) from error
    return solved(regions, n_fractional, {"relaxed": relaxed, "whole": time.perf_counter() - begun})


def refuse_options(solver: str, gap: float, time_limit: float) -> None:
    """Refuse what `solve` cannot work with; who has much to do before it asks here first."""
    _pulp.refuse_unknown(solver)
    if not gap >= 0 or not time_limit > 0:
        raise DataError(f"The gap is {gap} and the time limit {time_limit}",
                        "a gap from 0 on, and some seconds", "Use the defaults")  # fmt: skip


def nearby(problem: Problem) -> int:
    """Return the columns that solving around a change is worth; more take longer than relaxing all anew."""
    return max(_LEAST_WORK, len(problem.costs) // 10)


def refuse_odd(problem: Problem, pins: Pins) -> None:
    """Refuse pins of variables that are not there, or to what they cannot be."""
    n = len(problem.costs)
    odd = [(v, value) for v, value in pins.items() if not 0 <= v < n or value not in (0, 1)]
    if odd:
        raise DataError(f"There is a pin of variable {odd[0][0]} to {odd[0][1]}",
                        f"variables from 0 to {n - 1}, to 0 or 1", "Look at the list of links")  # fmt: skip


def close_gap(
    regions: Regions, pins: Pins, *, gap: float = 0.0, seconds: float = np.inf, cancelled: Cancelled = None
) -> None:
    """Set pins, then look at each place where the answer may pay too much, the worst first."""
    begun = time.perf_counter()

    def left() -> float:
        return seconds - (time.perf_counter() - begun)

    for rows in regions.pin(pins):
        regions.close(rows, seconds=left, stop=cancelled)
    while left() > 0 and not regions.is_spent and not (cancelled and cancelled()):
        payers = regions.payers()
        if not len(payers) or regions.objective - regions.bound <= gap * abs(regions.objective):
            break
        worst = payers[[np.argmax(regions.prices[payers])]]
        regions.close(regions.matrix.rows_of(worst), seconds=left, stop=cancelled)


def solved(regions: Regions, n_fractional: int, seconds: Mapping[str, float]) -> Solution:
    """Return what regions have come to."""
    if np.abs(regions.matrix.by_rows @ regions.x - regions.problem.right).max(initial=0) > 1e-6:
        raise DataError("No answer was found in time", "some more seconds", "Raise the time limit")
    return Solution(regions.x > 0.5, regions.objective, regions.bound, regions.prices, regions.base,
                    n_fractional, seconds)  # fmt: skip


def relax(
    problem: Problem, *, fixed: Pins | None = None, time_limit: float = 600.0, cancelled: Cancelled = None
) -> tuple[Regions, float, int]:
    """Solve the relaxed program; return a first answer, the seconds, and the fractional variables.

    Variables ``fixed`` are pinned in it, and so in all that is proven; those that clash are an error.
    """
    begun = time.perf_counter()
    matrix, n = Matrix(problem.matrix), len(problem.costs)
    pins, least, most = np.full(n, -1, np.int8), np.zeros(n), np.full(n, np.inf)
    for variable, value in (fixed or {}).items():
        pins[variable] = least[variable] = most[variable] = value
    program = Program(problem.costs, matrix.starts, matrix.columns, matrix.values, problem.right, least, most)
    found = solve_lp(program, seconds=time_limit, stop=cancelled)
    if found.is_infeasible:
        raise InfeasiblePinsError(fixed or {})
    if found.values is None or found.reduced_costs is None:
        prices = np.zeros(n)  # no bound is known but that of costs that are not negative
        bound = float(np.minimum(problem.costs, 0).sum())
        regions = Regions(matrix, problem, prices, bound, _nothing(problem), pins * 0 - 1)
        return regions, time.perf_counter() - begun, n
    is_fractional = np.abs(found.values - np.round(found.values)) > 1e-7
    x = _floored(problem, np.where(is_fractional, 0.0, np.round(found.values)))
    prices = np.where(pins < 0, np.maximum(found.reduced_costs, 0.0), 0.0)
    regions = Regions(matrix, problem, prices, found.bound, x, pins)
    return regions, time.perf_counter() - begun, int(is_fractional.sum())


def clash(regions: Regions, pins: Pins, found: NoAnswer) -> InfeasiblePinsError:
    """Return the error for pins that clash, naming as few of them as do.

    Of those at the place where there was no answer, each is left out, if it can be; but pins that the regions
    began with stay, and are named if they are at that place. What would take too long is not looked into.
    """
    fixed = {int(v): int(regions.pins[v]) for v in np.flatnonzero(regions.pins >= 0)}
    blamed = _those(pins, found)
    for variable in [v for v in blamed if v not in fixed]:
        if variable in blamed:
            rest = {v: value for v, value in blamed.items() if v != variable}
            still = _try(regions, {v: value for v, value in rest.items() if v not in fixed})
            blamed = blamed if still is None else _those({**fixed, **rest}, still)
    return InfeasiblePinsError(blamed)


def _those(pins: Pins, found: NoAnswer) -> dict[int, int]:
    """Return the pins at the place where there is no answer: these alone allow none."""
    suspects = set(found.pins.tolist())
    return {int(v): int(value) for v, value in pins.items() if v in suspects}


def _try(free: Regions, pins: Pins) -> NoAnswer | None:
    """Return where some pins allow no answer, if they do not, as far as little work can tell."""
    trial = free.copy()
    trial.work, trial.allowed = 0, nearby(free.problem)
    try:
        for rows in trial.pin(pins):
            trial.close(rows)
    except NoAnswer as error:
        return error
    return None


def _nothing(problem: Problem) -> NDArray[np.float64]:
    """Return the answer that leaves everything unexplained."""
    x = np.zeros(len(problem.costs))
    x[problem.n_assignments :] = 1
    return x


def _floored(problem: Problem, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an answer of at most x in its assignments: what has lost its other half is dropped as well."""
    matrix, n_leaves = problem.matrix, len(problem.costs) - problem.n_assignments
    x = x.copy()
    while True:
        off = matrix @ x - problem.right
        odd = np.flatnonzero(np.abs(off[n_leaves:]) > 1e-6) + n_leaves
        if not len(odd):
            break
        x[np.unique(matrix[odd].indices)] = 0
    x[problem.n_assignments :] = 0
    x[problem.n_assignments :] = problem.right[:n_leaves] - matrix[:n_leaves] @ x
    return x
