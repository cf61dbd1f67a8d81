"""The solver: its answer is the best one, or as near to it as it says, and keeps to all rules and pins."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign._pulp import available
from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, Assignments
from napari_em_seg.assign.problem import Problem, make_problem
from napari_em_seg.assign.solver import InfeasiblePinsError, solve
from napari_em_seg.errors import DataError, EmSegError

SIZES = ({}, {"n_slices": 2, "side": 24, "depth": 3}, {"n_slices": 4, "side": 20, "depth": 1})


def check(program, solution, pins=None):
    """Every row of (6) and (7) by what it means, every pin, and what the answer says of itself."""
    hypotheses, assignments, problem = program.hypotheses, program.assignments, program.problem
    chosen = solution.chosen
    rows = np.flatnonzero(chosen[: len(assignments)])
    for i in range(len(hypotheses)):
        assert (assignments.targets[rows] == i).sum() == (assignments.sources[rows] == i).sum()
    for leaf, gap in zip(np.flatnonzero(hypotheses.is_leaf), chosen[len(assignments) :], strict=True):
        on_path = np.isin(assignments.targets[rows], hypotheses.path(leaf)).sum()
        assert on_path + gap == 1
    assert all(chosen[variable] == value for variable, value in (pins or {}).items())
    assert solution.objective == pytest.approx(problem.costs @ chosen)
    assert solution.bound <= solution.objective + 1e-6
    assert solution.gap == pytest.approx(max(0, solution.objective - solution.bound)
                                         / max(abs(solution.objective), 1e-9))  # fmt: skip


def several(problem, n):
    """One program of n copies."""
    top = len(problem.costs) - problem.n_assignments
    many = sparse.eye_array(n)
    m = problem.n_assignments
    paths, flow = problem.matrix[:top, :m], problem.matrix[top:, :m]
    matrix = sparse.block_array(
        [[sparse.kron(many, paths), sparse.eye_array(n * top)], [sparse.kron(many, flow), None]], format="csr"
    )
    right = np.concatenate((np.ones(n * top), np.zeros(n * (len(problem.right) - top))))
    return Problem(np.concatenate((np.tile(problem.costs[:m], n), np.tile(problem.costs[m:], n))),
                   sparse.csr_array(matrix), right, n * m)  # fmt: skip


def possible_pins(rng, problem, n):
    """Some values of an answer, which is the best for random costs."""
    rows = LinearConstraint(problem.matrix, problem.right, problem.right)
    costs = rng.standard_normal(len(problem.costs))
    found = milp(costs, constraints=rows, integrality=np.ones(len(costs)), bounds=Bounds(0, 1)).x.round()
    ones = np.flatnonzero(found[: problem.n_assignments])
    which = rng.choice(problem.n_assignments, n, replace=False)
    which = np.union1d(which, rng.choice(ones, min(n, len(ones)), replace=False))
    return {int(v): int(found[v]) for v in which}


@pytest.mark.parametrize("seed", range(8))
def test_it_is_what_trying_everything_finds(seed, make_stack, masks_of):
    rng = np.random.default_rng(seed)
    hypotheses = make_stack(seed, n_slices=2, side=10, depth=1)
    upper, lower = np.arange(hypotheses.starts[1]), np.arange(hypotheses.starts[1], hypotheses.starts[2])
    links = [(0, (a, -1), (b, -1)) for a in upper for b in lower]
    links += [(1, (a, -1), (b, c)) for a in upper for b in lower for c in lower
              if b < c and not hypotheses.is_conflict(b, c)]  # fmt: skip
    links += [(2, (a, b), (c, -1)) for a in upper for b in upper for c in lower
              if a < b and not hypotheses.is_conflict(a, b)]  # fmt: skip
    links = [links[k] for k in rng.choice(len(links), 6, replace=False)]
    above, below = ({i for link in links for i in link[side] if i >= 0} for side in (1, 2))
    links += [(APPEARANCE, (-1, -1), (i, -1)) for i in above]
    links += [(DISAPPEARANCE, (i, -1), (-1, -1)) for i in below]
    kind, sources, targets = (np.array(column) for column in zip(*links, strict=True))
    assignments = Assignments(kind.astype(np.int8), sources.astype(np.int32), targets.astype(np.int32))
    leaves = np.flatnonzero(hypotheses.is_leaf)
    costs, nothing = rng.integers(0, 5, len(kind)) / 2, rng.integers(2, 9, len(leaves)) / 2

    choices = (np.arange(2 ** len(kind))[:, None] >> np.arange(len(kind))) & 1
    regions = np.arange(len(hypotheses))
    coming = choices @ (targets[:, :, None] == regions).any(1)
    going = choices @ (sources[:, :, None] == regions).any(1)
    choices, coming = (a[(coming == going).all(1) & (coming.max(1) <= 1)] for a in (choices, coming))
    masks = masks_of(hypotheses)
    overlap = np.array([[hypotheses.z[i] == hypotheses.z[j] and (masks[i] & masks[j]).any() for j in regions]
                        for i in regions])  # fmt: skip
    clashes = np.einsum("ki,ij,kj->k", coming, overlap & ~np.eye(len(regions), dtype=bool), coming)
    choices, coming = choices[clashes == 0], coming[clashes == 0]
    paid = choices @ costs + (coming @ overlap[:, leaves] == 0) @ nothing
    assert len(paid) > 1
    assert solve(make_problem(hypotheses, assignments, costs, nothing)).objective == pytest.approx(paid.min())


@pytest.mark.parametrize("size", SIZES)
def test_it_costs_what_the_plain_program_costs(size, make_program, least):
    n_fractional = 0
    for seed in range(60):
        program = make_program(seed, **size)
        solution = solve(program.problem)
        check(program, solution)
        best = least(program.problem)
        assert solution.objective == pytest.approx(best, abs=1e-5)
        assert solution.bound == pytest.approx(best, abs=1e-4)
        assert solution.base <= best + 1e-6
        n_fractional += solution.n_fractional > 0
    assert n_fractional > 5  # else nothing was left to do for whole numbers


@pytest.mark.parametrize("solver", ["cbc", "highs-ilp"])
def test_other_solvers_agree(solver, make_program):
    for seed in range(6):
        program = make_program(seed)
        pins = possible_pins(np.random.default_rng(seed), program.problem, 3) if seed % 2 else {}
        ours, theirs = solve(program.problem, pins), solve(program.problem, pins, solver=solver)
        check(program, theirs, pins)
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-5)
        assert theirs.bound <= ours.objective + 1e-6


@pytest.mark.parametrize("gap", [0.3, 0.05, 0.001])
def test_the_gap_is_no_larger_than_asked(gap, make_program, least):
    larger = 0
    for seed in range(40):
        program = make_program(seed)
        solution = solve(program.problem, gap=gap)
        check(program, solution)
        assert solution.gap <= gap + 1e-9
        assert solution.bound <= least(program.problem) + 1e-4
        larger += solution.gap > 1e-6
    assert larger or gap < 0.3


@pytest.mark.parametrize("size", SIZES)
def test_pins_hold_and_the_rest_is_the_best(size, make_program, least):
    rng = np.random.default_rng(0)
    for seed in range(30):
        program = make_program(seed, **size)
        pins = possible_pins(rng, program.problem, int(rng.integers(1, 6)))
        solution = solve(program.problem, pins)
        check(program, solution, pins)
        best = least(program.problem, pins)
        assert solution.objective == pytest.approx(best, abs=1e-5)
        assert solution.bound <= best + 1e-4


@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_pins_that_clash_are_named_and_no_other(solver, make_program, least):
    rng = np.random.default_rng(1)
    refused = []
    for seed in range(40 if solver == "highs" else 5):
        program = make_program(seed)
        some = rng.choice(program.problem.n_assignments, 10, replace=False)
        pins = {int(v): int(rng.random() < 0.4) for v in some}
        if np.isfinite(least(program.problem, pins)):
            assert solve(program.problem, pins, solver=solver).chosen[list(pins)].tolist() == [*pins.values()]
            continue
        with pytest.raises(InfeasiblePinsError) as caught:
            solve(program.problem, pins, solver=solver)
        named = caught.value.pins
        assert named.items() <= pins.items()
        assert least(program.problem, named) == np.inf
        for left_out in named:
            rest = {v: value for v, value in named.items() if v != left_out}
            assert np.isfinite(least(program.problem, rest))
        assert all(str(v) in caught.value.came for v in named)
        refused.append(len(named))
    assert len(refused) >= 3
    assert min(refused) < 10


def test_an_assignment_that_must_lead_nowhere_names_all_ways_out(make_program, least):
    """Accepted, with all that its target could become rejected: it takes all of them to clash."""
    program = make_program(0)
    assignments = program.assignments
    link = int(
        np.flatnonzero((assignments.kind == 0) & (program.hypotheses.z[assignments.targets[:, 0]] == 1))[0]
    )
    ways = np.flatnonzero((assignments.sources == assignments.targets[link, 0]).any(1))
    pins = {link: 1, **{int(v): 0 for v in ways}}
    with pytest.raises(InfeasiblePinsError, match="cannot all hold") as caught:
        solve(program.problem, {**pins, **{int(v): 0 for v in np.flatnonzero(assignments.kind == 1)}})
    assert caught.value.pins == pins
    assert isinstance(caught.value, EmSegError)


def test_the_error_crosses_processes_whole():
    error = InfeasiblePinsError({7: 1, 3: 0})
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is InfeasiblePinsError
    assert found.pins == {7: 1, 3: 0}
    assert str(found) == str(error)
    assert "3 rejected, 7 accepted" in str(error)


def test_a_solver_that_is_not_there_is_told_with_those_that_are(make_program, monkeypatch):
    monkeypatch.setattr("napari_em_seg.assign.solver.relax", None)  # it is told before any work
    with pytest.raises(DataError) as caught:
        solve(make_program(0).problem, solver="abacus")
    assert "'abacus'" in caught.value.came
    assert {"highs", "cbc", "highs-ilp"} <= set(caught.value.expected.replace(",", "").split())
    assert {"cbc", "highs-ilp"} <= set(available())


@pytest.mark.parametrize("wrong", [{"gap": -0.1}, {"time_limit": 0.0}, {"gap": np.nan}])
def test_odd_limits_are_refused(wrong, make_program):
    with pytest.raises(DataError, match="gap"):
        solve(make_program(0).problem, **wrong)


@pytest.mark.parametrize("pins", [{10**6: 1}, {-1: 0}, {0: 2}, {0: -1}])
def test_odd_pins_are_refused(pins, make_program):
    with pytest.raises(DataError, match="pin"):
        solve(make_program(0).problem, pins)


def test_nothing_to_choose_costs_nothing():
    nobody = Problem(np.zeros(0), sparse.csr_array((0, 0)), np.zeros(0), 0)
    solution = solve(nobody)
    assert (len(solution.chosen), solution.objective, solution.gap) == (0, 0.0, 0.0)


@pytest.mark.parametrize("how", [{"cancelled": lambda: True}, {"time_limit": 1e-3}])
def test_a_large_program_is_left_at_once_with_an_answer(how, make_program):
    small = make_program(5, n_slices=4, side=24, depth=3).problem
    problem = several(small, 60)
    solution = solve(problem, **how)
    chosen = solution.chosen.astype(float)
    np.testing.assert_array_equal(problem.matrix @ chosen, problem.right)
    assert solution.bound <= 60 * solve(small).objective + 1e-3
    assert solution.gap > 0  # it did not go on until all was proved


def test_pins_that_there_is_no_time_for_are_an_error_or_an_answer(make_program):
    small = make_program(5, n_slices=4, side=24, depth=3)
    pins = possible_pins(np.random.default_rng(0), small.problem, 5)
    try:
        solution = solve(small.problem, pins, cancelled=lambda: True)
    except DataError as error:
        assert "in time" in error.came
    else:
        check(small, solution, pins)


def test_it_stops_when_asked_to_in_the_midst(make_program):
    problem = several(make_program(5, n_slices=4, side=24, depth=3).problem, 40)
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 20

    solution = solve(problem, cancelled=stop)
    np.testing.assert_array_equal(problem.matrix @ solution.chosen.astype(float), problem.right)
    assert len(asked) < 40  # once it was told to, it does not go on asking
