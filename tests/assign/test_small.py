"""Small programs in compiled code: the same as another solver finds, or none is claimed; both are proven."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign import _simplex_kernels as kernels
from napari_em_seg.assign._highs import Program
from napari_em_seg.assign._small import solve_small


def made(rng, n_rows, n_columns, entries=(0, 0, 0, 0, 1, -1, 1)):
    """A program of few rows; often an answer is there, some variables are fixed, many costs are alike."""
    matrix = rng.choice(entries, size=(n_rows, n_columns)).astype(float)
    right = matrix @ (rng.random(n_columns) < 0.3)
    if rng.random() < 0.3:
        right = rng.integers(-1, 2, n_rows).astype(float)
    costs = np.round(5 * rng.random(n_columns), int(rng.choice([0, 1, 6])))
    costs = np.where(rng.random(n_columns) < 0.2, -1e-6, costs + 1e-6)
    lower, upper, drawn = np.zeros(n_columns), np.ones(n_columns), rng.random(n_columns)
    lower[drawn < 0.05], upper[drawn > 0.9] = 1, 0
    rows = sparse.csr_array(matrix)
    return Program(costs, rows.indptr.astype(np.int32), rows.indices.astype(np.int32), rows.data, right, lower,
                   upper), matrix  # fmt: skip


def by_another(program, matrix):
    rows = LinearConstraint(matrix, program.right, program.right)
    bounds = Bounds(program.lower, program.upper)
    return milp(program.costs, constraints=rows, integrality=np.ones_like(program.costs), bounds=bounds,
                options={"mip_rel_gap": 0})  # fmt: skip


@pytest.mark.parametrize("entries", [(0, 0, 0, 0, 1, -1, 1), (0, 0, 1), (0, 1, 2, -1)])
def test_answers_cost_what_those_of_another_solver_do(entries):
    rng, n_found, n_none, n_given_up = np.random.default_rng(0), 0, 0, 0
    for _ in range(300):
        program, matrix = made(rng, int(rng.integers(1, 12)), int(rng.integers(1, 30)), entries)
        found, other = solve_small(program), by_another(program, matrix)
        if found is None:
            n_given_up += 1
        elif found.is_infeasible:
            assert other.status == 2
            assert found.values is None
            n_none += 1
        else:
            assert found.is_optimal
            assert (matrix @ found.values == program.right).all()
            assert ((found.values >= program.lower) & (found.values <= program.upper)).all()
            assert set(np.unique(found.values)) <= {0.0, 1.0}
            assert found.bound == pytest.approx(program.costs @ found.values)
            assert found.bound == pytest.approx(other.fun, abs=3e-6)  # their gap is 1e-6
            n_found += 1
    assert min(n_found, n_none) > 50
    assert n_given_up < 10


def test_where_the_relaxed_answer_is_in_halves_the_whole_one_is_found():
    matrix = np.array([[1.0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1]])  # an odd circle
    costs = np.array([1.0, 1, 1, 3, 3, 3])
    status, x = kernels.solve(matrix, costs, np.ones(3), np.zeros(6), np.ones(6))
    assert status == kernels.PROVEN
    assert costs @ x == 4  # 1.5 with halves
    assert set(x) == {0, 1}


def test_large_programs_are_left_to_others():
    rng = np.random.default_rng(0)
    assert solve_small(made(rng, 300, 800)[0]) is None


def test_a_program_without_rows_or_without_columns_is_one_too():
    rng = np.random.default_rng(1)
    program, _ = made(rng, 0, 5)
    np.testing.assert_array_equal(solve_small(program).values,
                                  np.where(program.costs < 0, program.upper, program.lower))  # fmt: skip
    empty, ones = np.zeros(0), np.ones(1)
    nothing = Program(empty, np.zeros(2, np.int32), np.zeros(0, np.int32), empty, ones, empty, empty)
    assert solve_small(nothing).is_infeasible
