"""Solving anew after a verdict: the same as from scratch, whatever came before; refused pins change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from napari_em_seg.assign import local, solver
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.problem import Problem
from napari_em_seg.assign.result import check_forest
from napari_em_seg.assign.solver import InfeasiblePinsError, solve
from napari_em_seg.errors import DataError


def state(resolver):
    """All that must not change if something is refused."""
    solution = resolver.solution
    return solution.chosen.tolist(), solution.objective, solution.bound, dict(resolver.pins)


def random_changes(rng, resolver, problem):
    """Some pins of what is chosen or not, most often against it, and some taken back."""
    found = resolver.solution.chosen[: problem.n_assignments]
    changes = {}
    for _ in range(rng.integers(1, 4)):
        if resolver.pins and rng.random() < 0.4:
            changes[int(rng.choice(list(resolver.pins)))] = -1
        elif rng.random() < 0.5:
            link = int(rng.choice(np.flatnonzero(found)))
            changes[link] = int(rng.random() < 0.3)
        else:
            changes[int(rng.integers(problem.n_assignments))] = int(rng.random() < 0.6)
    return changes


@pytest.mark.parametrize("worth", [None, 0, 40])
@pytest.mark.parametrize("size", [{}, {"n_slices": 4, "side": 20, "depth": 3}])
def test_pins_that_come_and_go_lead_where_solving_anew_leads(size, worth, make_program, least, monkeypatch):
    if worth is not None:  # little is solved around a change before all is relaxed anew
        for module in (local, solver):
            monkeypatch.setattr(module, "nearby", lambda _: worth)
    rng, refused, accepted = np.random.default_rng(0), 0, 0
    for seed in range(12):
        program = make_program(seed, **size)
        problem, m = program.problem, program.problem.n_assignments
        resolver, pins = Resolver(problem), {}
        for _ in range(12):
            changes, before = random_changes(rng, resolver, problem), state(resolver)
            wanted = {v: value for v, value in {**pins, **changes}.items() if value >= 0}
            best = least(problem, wanted)
            if not np.isfinite(best):
                with pytest.raises(InfeasiblePinsError) as caught:
                    resolver.pin(changes)
                assert caught.value.pins.items() <= wanted.items()
                assert least(problem, caught.value.pins) == np.inf
                assert state(resolver) == before
                refused += 1
                continue
            solution, pins = resolver.pin(changes), wanted
            assert resolver.pins == pins
            assert all(solution.chosen[v] == value for v, value in pins.items())
            check_forest(program.hypotheses, program.assignments, solution.chosen[:m])
            np.testing.assert_array_equal(problem.matrix @ solution.chosen.astype(float), problem.right)
            assert solution.objective == pytest.approx(problem.costs @ solution.chosen)
            assert solution.objective == pytest.approx(best, abs=1e-5)
            assert solution.bound <= best + 1e-4
            accepted += 1
    assert min(refused, accepted) > 5


def test_a_column_of_one_region_that_another_one_left_out_joins_both():
    """It pays in one region and serves two, so the minima of both do not add up."""
    names = ["x1", "y1", "v", "p", "q", "e1", "e2"]
    costs = np.array([0, 0, 4, 3.5, 3, 9, 9], float)
    rows = np.array([[1, 0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 1, 0, 1]], float)
    problem = Problem(costs, sparse.csr_array(rows), np.ones(2), 5)
    pins = {names.index("x1"): 0, names.index("y1"): 0}
    resolver = Resolver(problem)
    for variable in pins:
        resolver.pin({variable: 0})
    for solution in (resolver.solution, solve(problem, pins), Resolver(problem, fixed=pins).solution):
        assert solution.objective == pytest.approx(4)
        assert solution.bound == pytest.approx(4)


def test_fixed_pins_that_only_halves_could_keep_clash():
    rows = np.array([[1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1]], float)
    problem = Problem(np.ones(6), sparse.csr_array(rows), np.ones(3), 3)
    with pytest.raises(InfeasiblePinsError):
        Resolver(problem, fixed={3: 0, 4: 0, 5: 0})


def test_all_pins_at_once_or_one_by_one_is_the_same(make_program, least):
    rng = np.random.default_rng(2)
    for seed in range(8):
        problem = make_program(seed).problem
        resolver = Resolver(problem)
        for _ in range(6):
            chosen = np.flatnonzero(resolver.solution.chosen[: problem.n_assignments])
            pins = {int(v): 0 for v in rng.choice(chosen, min(3, len(chosen)), replace=False)}
            solution = resolver.solve(pins)
            assert resolver.pins == pins
            assert solution.objective == pytest.approx(least(problem, pins), abs=1e-5)
            assert resolver.solve(pins).chosen.tolist() == solution.chosen.tolist()
        free = resolver.solve({})
        assert free.objective == pytest.approx(least(problem), abs=1e-5)
        assert resolver.pins == {}


def test_pins_far_from_a_clash_are_not_tried(make_program, least, monkeypatch):
    tried, once = [], solver._try
    monkeypatch.setattr(solver, "_try", lambda *which: (tried.append(which), once(*which))[1])
    n_pins = 0
    for seed in range(3):
        problem = make_program(seed, n_slices=24, side=32, depth=2).problem
        resolver = Resolver(problem)
        chosen = resolver.solution.chosen[: problem.n_assignments]
        resolver.pin({int(v): 1 for v in np.flatnonzero(chosen)})
        for other in np.flatnonzero(~chosen)[::300]:
            try:
                resolver.pin({int(other): 1})
            except InfeasiblePinsError as error:
                assert least(problem, error.pins) == np.inf
                assert other in error.pins
                n_pins += len(resolver.pins)
            else:
                resolver.pin({int(other): -1})
    assert 0 < len(tried) < n_pins / 2


def test_a_pin_of_what_is_so_already_changes_nothing(make_program):
    for seed in range(10):
        program = make_program(seed)
        resolver = Resolver(program.problem)
        before = resolver.solution
        link = int(np.flatnonzero(before.chosen[: program.problem.n_assignments])[0])
        after = resolver.pin({link: 1})
        assert after.chosen.tolist() == before.chosen.tolist()
        assert resolver.pin({link: -1}).chosen.tolist() == before.chosen.tolist()


def test_what_another_solver_found_is_gone_on_from(make_program, least):
    for seed in range(4):
        problem = make_program(seed).problem
        resolver, other = Resolver(problem), solve(problem, solver="cbc")
        resolver.adopt(other)
        assert resolver.solution.chosen.tolist() == other.chosen.tolist()
        assert resolver.solution.objective == pytest.approx(least(problem), abs=1e-5)
        link = int(np.flatnonzero(other.chosen[: problem.n_assignments])[-1])
        assert resolver.pin({link: 0}).objective == pytest.approx(least(problem, {link: 0}), abs=1e-5)


def test_a_poor_answer_that_is_adopted_is_said_to_be_poor_and_made_better(make_program, least):
    problem = make_program(3, n_slices=4, side=20, depth=3).problem
    resolver = Resolver(problem)
    nothing = np.arange(len(problem.costs)) >= problem.n_assignments
    resolver.adopt(replace(resolver.solution, chosen=nothing, objective=float(problem.costs @ nothing)))
    assert resolver.solution.objective == pytest.approx(problem.costs @ nothing)
    assert resolver.solution.bound <= least(problem) + 1e-4
    assert resolver.solution.gap > 0.01
    link = int(np.argmin(problem.costs))
    assert resolver.pin({link: 0}).objective == pytest.approx(least(problem, {link: 0}), abs=1e-5)


def test_pins_of_what_is_not_there_are_refused(make_program):
    problem = make_program(0).problem
    resolver = Resolver(problem)
    for pins in ({len(problem.costs): 1}, {-2: 0}, {0: 2}):
        before = state(resolver)
        with pytest.raises(DataError, match="pin"):
            resolver.pin(pins)
        assert state(resolver) == before


def test_fixed_pins_lead_where_the_same_pins_lead_and_stay_under_others(make_program, least):
    rng, clashes, solved = np.random.default_rng(7), 0, 0
    for seed in range(12):
        program = make_program(seed, n_slices=4, side=20)
        problem, m = program.problem, program.problem.n_assignments
        fixed = {int(v): int(rng.random() < 0.7) for v in rng.choice(m, 3, replace=False)}
        if not np.isfinite(least(problem, fixed)):
            with pytest.raises(InfeasiblePinsError):
                Resolver(problem, fixed=fixed)
            clashes += 1
            continue
        resolver = Resolver(problem, fixed=fixed)
        for _ in range(8):
            pins = fixed | {int(v): int(rng.random() < 0.5) for v in rng.choice(m, 2) if int(v) not in fixed}
            best, before = least(problem, pins), state(resolver)
            if not np.isfinite(best):
                with pytest.raises(InfeasiblePinsError) as caught:
                    resolver.solve(pins)
                assert least(problem, caught.value.pins) == np.inf
                assert state(resolver) == before
                clashes += 1
                continue
            solution = resolver.solve(pins)
            assert all(solution.chosen[v] == value for v, value in pins.items())
            np.testing.assert_array_equal(problem.matrix @ solution.chosen.astype(float), problem.right)
            assert solution.objective == pytest.approx(best, abs=1e-5)
            assert solution.bound == pytest.approx(best, abs=1e-4)
            solved += 1
    assert min(clashes, solved) > 5
