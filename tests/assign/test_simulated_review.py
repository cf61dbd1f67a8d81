"""Simulated reviewers on small programs, each solved again, whole and exactly, after every correction."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign.assignments import CONTINUATION
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.assign.problem import make_problem
from napari_em_seg.assign.simulated_review import Reviewer, by_score, by_size, in_random_order, review
from napari_em_seg.errors import DataError

SEEDS = range(4)


class Small:
    """A stack of stripes, each of two halves; the best answer there is; and a solver of costs with errors."""

    def __init__(self, seed, noise=0.5):
        rng = np.random.default_rng(seed)
        parts = []
        for _ in range(4):
            nodes = np.full((8, 12), -1, np.int32)
            for k in range(2):
                cut = int(rng.integers(4, 9))
                nodes[4 * k : 4 * k + 3, :cut], nodes[4 * k : 4 * k + 3, cut:] = 3 * k + 1, 3 * k + 2
            parent = np.array([-1, 0, 0, -1, 3, 3], np.int32)
            parts.append(SliceRegions(nodes, parent, np.zeros(6, np.float32), np.ones(6, np.float32)))
        self.hypotheses = joined(parts)
        self.assignments = find_candidates(self.hypotheses, None, Limits(distance=6, partners=2)).assignments
        n = len(self.assignments)
        self.problem = make_problem(self.hypotheses, self.assignments, rng.random(n), np.full(16, 5.0))
        self.rows = LinearConstraint(self.problem.matrix, self.problem.right, self.problem.right)
        self.is_right = self.solved({})
        costs = self.problem.costs.copy()
        costs[:n] = np.abs(costs[:n] + noise * rng.normal(size=n))
        self.problem = replace(self.problem, costs=costs)
        self.random = in_random_order(n)
        self.calls = []

    def solved(self, pins):
        low, high = np.zeros(len(self.problem.costs)), np.ones(len(self.problem.costs))
        for m, value in pins.items():
            low[m] = high[m] = value
        answer = milp(self.problem.costs, integrality=np.ones_like(low), bounds=Bounds(low, high),
                      constraints=self.rows)  # fmt: skip
        if answer.x is None:
            raise DataError("The pins clash", "others", "Undo one")
        return answer.x[: len(self.assignments)] > 0.5

    def resolve(self, pins):
        self.calls.append(dict(pins))
        return self.solved(pins)

    def reviewed(self, order, reviewer=None, **more):
        reviewer = Reviewer(self.is_right) if reviewer is None else reviewer
        return review(self.hypotheses, self.assignments, self.solved({}), reviewer, self.resolve, order, **more)

    def n_wrong(self, chosen):
        return int((chosen & ~self.is_right & ~is_at_border(self.hypotheses, self.assignments)).sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_knows_the_truth_gets_there_in_any_order(seed):
    small = Small(seed)
    n = len(small.assignments)
    begun = small.n_wrong(small.solved({}))
    assert begun > 0
    orders = (
        in_random_order(n, seed),
        by_size(small.hypotheses, small.assignments),
        by_score(small.problem.costs[:n]),
    )
    for order in orders:
        small.calls.clear()
        course = small.reviewed(order)
        assert course.errors[0] == begun
        assert course.errors[-1] == small.n_wrong(course.chosen) == 0
        assert course.verdicts_until() == len(course.links)
        assert course.corrections[-1] == len(small.calls) > 0
        assert len(set(course.links)) == len(course.links)
        assert not is_at_border(small.hypotheses, small.assignments)[course.links].any()
        assert course.n_refused == 0
        assert (course.chosen == small.solved(course.pins)).all()
        for m, value in course.pins.items():  # a perfect reviewer never pins what is wrong
            assert small.is_right[m] == value
        seen = np.flatnonzero(np.diff(course.corrections) == 0)
        assert small.is_right[course.links[seen]].all()
        assert (np.diff(course.errors)[seen] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_with_the_wrong_ones_first_every_verdict_is_a_correction(seed):
    small = Small(seed)
    course = small.reviewed(by_score(small.is_right.astype(float)))
    assert course.verdicts_until() > 0
    assert course.corrections.tolist() == list(range(len(course.links) + 1))
    last = small.reviewed(by_score(-small.is_right.astype(float)))
    assert last.verdicts_until() > course.verdicts_until()


def test_the_order_is_asked_again_with_each_solution():
    small, seen = Small(0), []

    def order(chosen, open_links):
        assert chosen[open_links].all()
        seen.append(chosen)
        return -open_links.astype(float)

    course = small.reviewed(order)
    assert len(seen) == len(course.links)
    assert len({chosen.tobytes() for chosen in seen}) > 1
    for k, link in enumerate(course.links):
        is_open = seen[k] & ~is_at_border(small.hypotheses, small.assignments)
        is_open[course.links[:k]] = False
        assert link == np.flatnonzero(is_open).max()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_alternative_comes_with_the_rejection_and_is_a_right_rival(seed):
    small = Small(seed)
    course = small.reviewed(small.random)
    before, n_pairs, k = {}, 0, 0
    for step, link in enumerate(course.links):
        if course.corrections[step + 1] == course.corrections[step]:
            before[int(link)] = 1
            continue
        new = {m: v for m, v in small.calls[k].items() if before.get(m) != v}
        assert new.pop(int(link)) == 0
        for other, value in new.items():
            n_pairs += 1
            assert value == 1
            assert small.is_right[other]
            sides = ((small.assignments.sources[m], small.assignments.targets[m]) for m in (link, other))
            (a, b), (c, d) = sides
            assert any(small.hypotheses.is_conflict(i, j) for one, two in ((a, c), (b, d))
                       for i in one for j in two if i >= 0 and j >= 0)  # fmt: skip
        before, k = dict(small.calls[k]), k + 1
    assert n_pairs > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_who_errs_leaves_errors_in_proportion(seed):
    small = Small(seed)
    order = small.random
    always = small.reviewed(order, Reviewer(small.is_right, error_rate=1.0))
    assert always.errors[-1] > 0
    kept = [link for link in always.links if int(link) in always.pins]
    assert len(kept) == len(always.links) - always.n_refused > 0
    for link in kept:
        assert always.pins[int(link)] == (not small.is_right[link])
    never = small.reviewed(order, Reviewer(small.is_right, error_rate=0.0, seed=5))
    assert (never.links == small.reviewed(order).links).all()


def test_slips_are_as_frequent_as_said_and_repeat():
    right = np.random.default_rng(0).random(20000) < 0.7
    answers = Reviewer(right, error_rate=0.05).answers()
    assert 0.045 < (answers != right).mean() < 0.055
    assert (answers == Reviewer(right, error_rate=0.05).answers()).all()
    assert (answers != Reviewer(right, error_rate=0.05, seed=1).answers()).any()


def test_who_does_not_know_changes_nothing():
    small = Small(1)
    nobody = Reviewer(small.is_right, np.zeros_like(small.is_right))
    course = small.reviewed(small.random, nobody, errors=small.n_wrong)
    assert not small.calls
    assert course.pins == {}
    assert (course.errors == course.errors[0]).all()
    assert course.verdicts_until() is None
    open_links = small.solved({}) & ~is_at_border(small.hypotheses, small.assignments)
    assert sorted(course.links) == np.flatnonzero(open_links).tolist()
    assert len(small.reviewed(small.random, nobody).links) == 0  # none known, none counted


def test_it_ends_at_the_floor_or_after_so_many_verdicts():
    small = Small(2)
    order = small.random
    whole = small.reviewed(order)
    floor = int(whole.errors[len(whole.errors) // 2])
    short = small.reviewed(order, floor=floor)
    assert len(short.links) == whole.verdicts_until(floor) < len(whole.links)
    assert (short.errors == whole.errors[: len(short.errors)]).all()
    assert len(small.reviewed(order, most=3).links) == 3


def test_errors_are_counted_as_one_likes():
    small = Small(3)
    course = small.reviewed(small.random, errors=lambda chosen: int((chosen ^ small.is_right).sum()))
    assert course.errors[0] == (small.solved({}) ^ small.is_right).sum()
    assert course.errors[-1] == (course.chosen ^ small.is_right).sum()


def test_pins_that_clash_are_refused_and_dropped():
    small = Small(4, noise=0.15)

    def resolve(pins):
        raise DataError("The pins clash", "others", "Undo one")

    reviewer = Reviewer(small.is_right)
    course = review(small.hypotheses, small.assignments, small.solved({}), reviewer, resolve, small.random)
    assert course.n_refused == course.corrections[-1] > 0
    assert set(course.pins.values()) == {1}
    assert (course.errors == course.errors[0]).all()
    assert (course.chosen == small.solved({})).all()


def test_where_the_alternative_clashes_the_link_is_only_rejected():
    small, first = Small(5), []

    def resolve(pins):
        first.append(dict(pins))
        if len(first) == 1:
            raise DataError("The pins clash", "others", "Undo one")
        return small.solved(pins)

    course = review(small.hypotheses, small.assignments, small.solved({}), Reviewer(small.is_right), resolve,
                    by_score(small.is_right.astype(float)), most=1)  # fmt: skip
    assert sorted(first[0].values()) == [0, 1]
    assert first[1] == course.pins == {int(course.links[0]): 0}
    assert course.n_refused == 0


def rivals_of_a_wrong_one(small):
    """A wrong link that is chosen, and continuations that come from the same region as it."""
    wrong = np.flatnonzero(small.solved({}) & ~small.is_right & (small.assignments.kind == CONTINUATION))[0]
    source = small.assignments.sources[:, 0] == small.assignments.sources[wrong, 0]
    rivals = source & (small.assignments.kind == CONTINUATION)
    rivals[wrong] = False
    return int(wrong), np.flatnonzero(rivals)


def only(small, rows):
    """Reviews of one verdict, by one to whom only some assignments are right."""
    right = np.zeros_like(small.is_right)
    right[rows] = True
    return lambda first, **more: small.reviewed(
        by_score(np.where(np.arange(len(right)) == first, 0.0, 1.0)),
        Reviewer(right, error_rate=more.pop("error_rate", 0.0)), most=1, **more,
    )  # fmt: skip


def test_the_cheaper_one_of_two_alternatives_is_taken():
    small = Small(0)
    wrong, rivals = rivals_of_a_wrong_one(small)
    for cheap in rivals[:2]:
        costs = np.ones(len(small.assignments))
        costs[cheap] = 0.5
        assert only(small, rivals[:2])(wrong, costs=costs).links.tolist() == [wrong]
        assert small.calls[-1] == {wrong: 0, int(cheap): 1}


def test_an_alternative_that_shares_regions_comes_before_a_cheaper_one_that_shares_none():
    small = Small(0)
    wrong, rivals = rivals_of_a_wrong_one(small)
    i = int(small.assignments.sources[wrong, 0])
    members = small.assignments.sources
    is_far = (small.assignments.kind == CONTINUATION) & (
        small.assignments.targets[:, 0] != small.assignments.targets[wrong, 0]
    )
    far = [m for m in np.flatnonzero(is_far)
           if members[m, 0] != i and small.hypotheses.is_conflict(int(members[m, 0]), i)]  # fmt: skip
    costs = np.ones(len(small.assignments))
    costs[far] = 0.1
    only(small, [far[0], rivals[0]])(wrong, costs=costs)
    assert small.calls[0] == {wrong: 0, int(rivals[0]): 1}


def test_what_is_rejected_by_mistake_gets_no_alternative():
    small = Small(0)
    wrong, rivals = rivals_of_a_wrong_one(small)
    only(small, [wrong, *rivals])(wrong, error_rate=1.0)
    assert small.calls == [{wrong: 0}]


def test_sizes_are_those_of_all_regions_involved():
    small = Small(0)
    rows = np.arange(len(small.assignments))
    sizes = -by_size(small.hypotheses, small.assignments)(np.ones(len(rows), bool), rows)
    for m in rows:
        assert sizes[m] == sum(small.hypotheses.area[i] for i in small.assignments.involved[m] if i >= 0)


def test_what_does_not_fit_is_refused():
    small = Small(0)
    with pytest.raises(DataError, match="errs at a rate"):
        Reviewer(small.is_right, error_rate=2)
    with pytest.raises(DataError, match="Which are right"):
        small.reviewed(small.random, Reviewer(small.is_right[:-1]))
    with pytest.raises(DataError, match="Which are known"):
        small.reviewed(small.random, Reviewer(small.is_right, small.is_right.astype(int)))
