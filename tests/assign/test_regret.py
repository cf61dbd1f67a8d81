"""Regret: what forbidding a link costs, exactly, and what comes in its place."""

import numpy as np
import pytest

from napari_em_seg.assign import regret
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.solver import solve

SIZES = ({}, {"n_slices": 4, "side": 20, "depth": 3})


def chosen_of(resolver, problem):
    return np.flatnonzero(resolver.solution.chosen[: problem.n_assignments])


def share_a_row(problem, a, b):
    dense = problem.matrix[:, [a, b]].toarray()
    return bool((dense != 0).all(1).any())


def check(resolver, problem, least, pins):
    """Each regret against the plain program without that link; return how many alternatives there are."""
    rows, best, n_instead = chosen_of(resolver, problem), resolver.solution.objective, 0
    before = resolver.solution.chosen.tolist(), dict(resolver.pins)
    found = regrets(resolver, rows)
    assert (resolver.solution.chosen.tolist(), resolver.pins) == before
    assert found.is_exact.all()
    for link, value, instead in zip(rows.tolist(), found.value, found.alternative.tolist(), strict=True):
        without = least(problem, {**pins, link: 0})
        if not np.isfinite(without):
            assert (value, instead) == (np.inf, -1)
            continue
        assert value == pytest.approx(max(0, without - best), abs=1e-4)
        if instead >= 0:
            assert instead < problem.n_assignments
            assert not before[0][instead]
            assert share_a_row(problem, link, instead)
            assert least(problem, {**pins, link: 0, instead: 1}) == pytest.approx(without, abs=1e-4)
            n_instead += 1
    return len(rows), n_instead


@pytest.mark.parametrize("size", SIZES)
def test_it_is_how_much_dearer_the_best_answer_without_the_link_is(size, make_program, least):
    counts, n_fractional = [], 0
    for seed in range(10):
        problem = make_program(seed, **size).problem
        resolver = Resolver(problem)
        n_fractional += resolver.solution.n_fractional > 0
        counts.append(check(resolver, problem, least, {}))
    n, n_instead = np.sum(counts, axis=0)
    assert n_instead > 0.5 * n  # most often something comes in the place of a link
    assert n_fractional


def test_under_pins_it_is_the_same_and_infinite_where_nothing_else_is_possible(make_program, least):
    infinite = 0
    for seed in range(8):
        program = make_program(seed)
        problem, resolver = program.problem, Resolver(program.problem)
        kind, sources = program.assignments.kind, program.assignments.sources
        link = next(v for v in chosen_of(resolver, problem) if kind[v] == 0)
        onward = np.flatnonzero((sources == program.assignments.targets[link, 0]).any(1))
        only = next(v for v in onward if resolver.solution.chosen[v])
        pins = {int(link): 1, **{int(v): 0 for v in onward if v != only}}
        resolver.pin(pins)
        check(resolver, problem, least, pins)
        infinite += regrets(resolver, np.array([only])).value[0] == np.inf
    assert infinite == 8


def test_after_another_solver_it_is_the_same(make_program, least):
    n_fractional = 0
    for seed in range(8):
        problem = make_program(seed, n_slices=4, side=20, depth=3).problem
        resolver, other = Resolver(problem), solve(problem, solver="cbc")
        resolver.adopt(other)
        n_fractional += other.n_fractional > 0
        check(resolver, problem, least, {})
    assert n_fractional


@pytest.mark.parametrize("enough", [0.0, 0.5, 2.0])
def test_at_least_so_much_is_never_too_much(enough, make_program, least):
    seen = set()
    for seed in range(10):
        problem = make_program(seed).problem
        resolver = Resolver(problem)
        rows, best = chosen_of(resolver, problem), resolver.solution.objective
        found = regrets(resolver, rows, enough=enough)
        for link, value, is_exact in zip(rows.tolist(), found.value, found.is_exact, strict=True):
            without = least(problem, {link: 0}) - best
            assert value <= without + 1e-4
            assert is_exact or value >= enough - 1e-6
            if is_exact:
                assert value == pytest.approx(without, abs=1e-4)
            seen.add(bool(is_exact))
    assert True in seen


def test_the_order_of_links_is_of_no_matter(make_program):
    problem = make_program(4, n_slices=4, side=20, depth=3).problem
    resolver = Resolver(problem)
    rows = chosen_of(resolver, problem)
    found, turned = regrets(resolver, rows), regrets(resolver, rows[::-1].copy())
    np.testing.assert_allclose(found.value, turned.value[::-1], atol=1e-9)
    assert len(regrets(resolver, rows[:0]).value) == 0


def test_compiled_code_finds_what_regions_grown_one_by_one_find(make_program, monkeypatch):
    n_left, n, left_over = 0, 0, regret._left_over

    def counting(regions, chosen, enough, found):
        nonlocal n_left
        left = left_over(regions, chosen, enough, found)
        n_left += len(left)
        return left

    for seed in range(12):
        problem = make_program(seed, n_slices=5, side=32, depth=3).problem
        resolver = Resolver(problem)
        rows = chosen_of(resolver, problem)
        if seed % 2:  # some regions are there from the beginning
            resolver.pin({int(v): 0 for v in rows[:: len(rows) // 4]})
            rows = chosen_of(resolver, problem)
        monkeypatch.setattr(regret, "_left_over", counting)
        fast = regrets(resolver, rows)
        monkeypatch.setattr(regret, "_left_over", lambda regions, chosen, enough, found: np.arange(len(chosen)))
        slow = regrets(resolver, rows)
        np.testing.assert_allclose(fast.value, slow.value, atol=1e-5)
        assert fast.is_exact.all()
        assert slow.is_exact.all()
        n += len(rows)
    assert 0 < n_left < n  # both ways are gone


def test_the_answer_stays_as_it_was(make_program):
    problem = make_program(2, n_slices=4, side=20, depth=3).problem
    resolver = Resolver(problem)
    before = {name: getattr(resolver.regions, name).copy() for name in ("x", "pins", "region_of", "_limits")}
    regrets(resolver, chosen_of(resolver, problem))
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(resolver.regions, name), array)


def test_what_is_not_chosen_costs_nothing_to_forbid(make_program):
    problem = make_program(0).problem
    resolver = Resolver(problem)
    others = np.flatnonzero(~resolver.solution.chosen[: problem.n_assignments])
    found = regrets(resolver, others)
    assert found.value == pytest.approx(0, abs=1e-5)
    assert (found.alternative == -1).all()
