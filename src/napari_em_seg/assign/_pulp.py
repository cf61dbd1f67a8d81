"""The program modelled in PuLP, so that any solver that it finds can be chosen by name."""

import warnings

import numpy as np
import pulp
from numpy.typing import NDArray

from napari_em_seg.assign._regions import NoAnswer
from napari_em_seg.assign.problem import Problem
from napari_em_seg.errors import DataError

__all__ = ["available", "refuse_unknown", "solve"]

_NAMES = {
    "cbc": "PULP_CBC_CMD",
    "highs-ilp": "HiGHS",
    "gurobi": "GUROBI",
    "cplex": "CPLEX_PY",
    "scip": "SCIP_PY",
}


def available() -> list[str]:
    """Return the names of solvers that can be chosen on this computer."""
    found = pulp.listSolvers(onlyAvailable=True)
    return [*(name for name, known in _NAMES.items() if known in found), *found]


def refuse_unknown(name: str) -> None:
    """Refuse a solver that is not there."""
    if name != "highs" and name not in available():
        raise DataError(f"The solver {name!r} is not there", f"highs, or one of {', '.join(available())}",
                        "Choose one of them, or install it")  # fmt: skip


def solve(
    problem: Problem, pins: dict[int, int], name: str, *, gap: float, time_limit: float
) -> NDArray[np.float64]:
    """Return an answer of zeros and ones, by a solver of that name."""
    with warnings.catch_warnings():  # 3.3 calls deprecated what 2.9 has no other word for
        warnings.simplefilter("ignore", DeprecationWarning)
        status, values = _solve(problem, pins, name, gap, time_limit)
    if status == pulp.LpStatusInfeasible:
        raise NoAnswer(np.fromiter(pins, np.int32, len(pins)))
    found = np.round(values)
    if status not in (pulp.LpStatusOptimal, pulp.LpStatusNotSolved) or (
        np.abs(problem.matrix @ found - problem.right).max(initial=0) > 1e-6
    ):
        raise DataError(f"{name} found no answer in {time_limit:g} seconds", "some more seconds",
                        "Raise the time limit, or choose highs")  # fmt: skip
    return np.asarray(found)


def _solve(
    problem: Problem, pins: dict[int, int], name: str, gap: float, time_limit: float
) -> tuple[int, NDArray[np.float64]]:
    n = len(problem.costs)
    model = pulp.LpProblem("assignments", pulp.LpMinimize)
    x = [pulp.LpVariable(f"x{i}", pins.get(i, 0), pins.get(i, 1), pulp.LpBinary) for i in range(n)]
    model += pulp.LpAffineExpression(zip(x, problem.costs.tolist(), strict=True))
    matrix = problem.matrix
    for row, right in enumerate(problem.right.tolist()):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        terms = [(x[c], v) for c, v in zip(matrix.indices[part], matrix.data[part].tolist(), strict=True)]
        model += pulp.LpConstraint(pulp.LpAffineExpression(terms), pulp.LpConstraintEQ, rhs=right)
    for i, value in pins.items():  # some solvers forget the bounds of binary variables
        model += x[i] == value
    model.solve(pulp.getSolver(_NAMES.get(name, name), msg=False, gapRel=gap, timeLimit=time_limit))
    return model.status, np.array([0.0 if v.varValue is None else v.varValue for v in x])
