"""HiGHS without a modelling layer: a linear program, relaxed or whole, from sparse arrays."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "Program", "solve_ilp", "solve_lp"]

Vector = NDArray[np.float64]
Stop = Callable[[], bool] | None

_TOLERANCE = 1e-7
_OPTIMAL = highspy.HighsModelStatus.kOptimal
_INFEASIBLE = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)


@dataclass(frozen=True, eq=False)
class Program:
    """Minimise ``costs @ x`` with ``matrix @ x = right``, x from ``lower`` to ``upper``; sparse by rows."""

    costs: Vector
    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: Vector
    right: Vector
    lower: Vector
    upper: Vector


@dataclass(frozen=True, eq=False)
class Answer:
    """What HiGHS found.

    Attributes
    ----------
    values
        Of the variables; None where nothing was found.
    bound
        No answer costs less than this.
    is_infeasible
        There is none, proven.
    is_optimal
        There is none better, proven.
    row_duals, reduced_costs
        Of a relaxed program that was solved; else None.
    """

    values: Vector | None
    bound: float
    is_infeasible: bool = False
    is_optimal: bool = False
    row_duals: Vector | None = None
    reduced_costs: Vector | None = None


def solve_lp(program: Program, *, seconds: float = np.inf, stop: Stop = None) -> Answer:
    """Solve a program without the demand that x be whole numbers.

    By the dual simplex method from the basis of slacks, which is dual feasible since costs are not negative;
    without presolve. On programs of assignments that takes a third of the time with presolve, a tenth of the
    interior-point method, and a five-hundredth of the primal method.
    """
    solver = _solver(seconds, stop)
    _pass(solver, program, None)
    return _relaxed(solver)


def solve_ilp(program: Program, *, seconds: float = np.inf, gap: float = 0.0, stop: Stop = None) -> Answer:
    """Solve a program in zeros and ones; first relaxed, which often is all that it takes.

    ``gap`` is relative. Whole numbers come out as such, to the last digit.
    """
    begun = time.perf_counter()
    solver = _solver(seconds, stop)
    _pass(solver, program, None)
    relaxed = _relaxed(solver)
    if relaxed.values is None or _is_whole(relaxed.values):
        values = None if relaxed.values is None else np.round(relaxed.values)
        return Answer(values, relaxed.bound, relaxed.is_infeasible, relaxed.is_optimal)
    left = seconds - (time.perf_counter() - begun)
    if left <= 0:
        return Answer(None, relaxed.bound)
    solver = _solver(left, stop)
    solver.setOptionValue("mip_rel_gap", gap)
    solver.setOptionValue("mip_abs_gap", _TOLERANCE)
    solver.setOptionValue("presolve", "choose")
    _pass(solver, program, np.ones(len(program.costs), np.int32))
    solver.run()
    status, info = solver.getModelStatus(), solver.getInfo()
    is_found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = np.round(np.array(solver.getSolution().col_value)) if is_found else None
    bound = max(relaxed.bound, info.mip_dual_bound if np.isfinite(info.mip_dual_bound) else -np.inf)
    return Answer(values, bound, status in _INFEASIBLE, status == _OPTIMAL)


class _Silent(highspy.Highs):
    """A HiGHS that says nothing; else it greets as soon as it is made."""

    def enableCallbacks(self) -> None:  # noqa: N802 - it is theirs
        """Silence it first."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def _solver(seconds: float, stop: Stop) -> Any:
    """Return a HiGHS that can be stopped."""
    solver = _Silent()  # type: ignore[no-untyped-call]
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("solver", "simplex")
    solver.setOptionValue("presolve", "off")
    solver.setOptionValue("random_seed", 0)
    if np.isfinite(seconds):
        solver.setOptionValue("time_limit", max(float(seconds), 0.0))
    if stop is not None:
        _stop_when(solver, stop)
    return solver


def _stop_when(solver: Any, stop: Callable[[], bool]) -> None:
    """Let HiGHS ask now and then whether to go on."""

    def on_chance(event: Any) -> None:
        if stop():
            event.interrupt()

    solver.cbSimplexInterrupt.subscribe(on_chance)
    solver.cbMipInterrupt.subscribe(on_chance)


def _pass(solver: Any, program: Program, integrality: NDArray[np.int32] | None) -> None:
    """Hand over the arrays as they are."""
    n, m = len(program.costs), len(program.right)
    rest = () if integrality is None else (integrality,)
    solver.passModel(
        n, m, len(program.columns), int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize), 0.0,
        program.costs, program.lower, program.upper, program.right, program.right,
        program.starts, program.columns, program.values, *(rest or (np.zeros(n, np.int32),)),
    )  # fmt: skip


def _relaxed(solver: Any) -> Answer:
    solver.run()
    status = solver.getModelStatus()
    if status in _INFEASIBLE:
        return Answer(None, np.inf, is_infeasible=True)
    if status != _OPTIMAL:
        return Answer(None, -np.inf)
    found = solver.getSolution()
    return Answer(
        np.array(found.col_value), float(solver.getInfo().objective_function_value), is_optimal=True,
        row_duals=np.array(found.row_dual), reduced_costs=np.array(found.col_dual),
    )  # fmt: skip


def _is_whole(values: Vector) -> bool:
    return bool(np.abs(values - np.round(values)).max(initial=0) < 1e-6)
