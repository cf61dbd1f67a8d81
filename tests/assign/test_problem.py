"""The program: its rows hold where a choice is consistent, by definition, and nowhere else."""

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.assign.problem import make_problem
from napari_em_seg.errors import DataError


def small(make_stack, seed):
    """Regions and candidates, few enough to try many choices."""
    hypotheses = make_stack(seed, n_slices=3, side=16, depth=2)
    return hypotheses, find_candidates(hypotheses, None, Limits(links=3, partners=2)).assignments


def program(hypotheses, assignments, costs=None):
    costs = np.ones(len(assignments)) if costs is None else costs
    return make_problem(hypotheses, assignments, costs, np.ones(int(hypotheses.is_leaf.sum())))


def is_consistent(masks, hypotheses, assignments, chosen):
    """No pixel is in two regions that something comes into, and whatever comes into a region goes out of it."""
    rows = np.flatnonzero(chosen)
    coming = [int((assignments.targets[rows] == i).sum()) for i in range(len(masks))]
    going = [int((assignments.sources[rows] == i).sum()) for i in range(len(masks))]
    used = np.zeros(hypotheses.nodes.shape, int)
    for i, mask in enumerate(masks):
        used[hypotheses.z[i]] += coming[i] * mask
    return coming == going and used.max() <= 1


def with_gaps(problem, chosen, hypotheses, masks, assignments):
    """The choice, and for each leaf whether it is left out: no region on its path is one that is come into."""
    used = set(assignments.targets[chosen].ravel().tolist())
    leaves = np.flatnonzero(hypotheses.is_leaf)
    z = hypotheses.z
    gaps = [not any((masks[i] & masks[leaf]).any() and z[i] == z[leaf] for i in used - {-1})
            for leaf in leaves]  # fmt: skip
    return np.concatenate((chosen, gaps)).astype(float)


def consistent_choice(rng, hypotheses, assignments):
    """A random choice that keeps to all rules, as the answer to random costs."""
    problem = program(hypotheses, assignments, rng.standard_normal(len(assignments)))
    found = milp(problem.costs, integrality=np.ones(len(problem.costs)), bounds=Bounds(0, 1),
                 constraints=LinearConstraint(problem.matrix, problem.right, problem.right))  # fmt: skip
    return found.x[: len(assignments)] > 0.5


@pytest.mark.parametrize("seed", range(12))
def test_rows_hold_just_where_a_choice_is_consistent(seed, make_stack, masks_of):
    rng = np.random.default_rng(seed)
    hypotheses, assignments = small(make_stack, seed)
    masks = masks_of(hypotheses)
    problem = program(hypotheses, assignments)
    seen = []
    for _ in range(40):
        chosen = consistent_choice(rng, hypotheses, assignments)
        n_changed = int(rng.integers(4))
        for m in rng.integers(len(assignments), size=n_changed):
            chosen[m] = ~chosen[m]
        vector = with_gaps(problem, chosen, hypotheses, masks, assignments)
        is_kept = bool((problem.matrix @ vector == problem.right).all())
        assert is_kept == is_consistent(masks, hypotheses, assignments, chosen)
        seen.append(is_kept)
        if is_kept and len(vector) > len(assignments):  # and a gap is one just where nothing explains the leaf
            wrong = vector.copy()
            at = rng.integers(len(assignments), len(vector))
            wrong[at] = 1 - wrong[at]
            assert (problem.matrix @ wrong != problem.right).any()
    assert len(set(seen)) == 2


def test_rows_and_columns_are_where_they_are_said_to_be(make_stack):
    hypotheses, assignments = small(make_stack, 3)
    rng = np.random.default_rng(0)
    costs, nothing = rng.random(len(assignments)), rng.random(int(hypotheses.is_leaf.sum()))
    problem = make_problem(hypotheses, assignments, costs, nothing)
    leaves = np.flatnonzero(hypotheses.is_leaf)
    dense = problem.matrix.toarray()
    assert problem.n_assignments == len(assignments)
    assert problem.costs.tolist() == [*costs, *nothing]
    assert problem.right.tolist() == [1.0] * len(leaves) + [0.0] * len(hypotheses)
    assert dense.shape == (len(leaves) + len(hypotheses), len(assignments) + len(leaves))
    for row, leaf in enumerate(leaves):
        comes = np.isin(assignments.targets, hypotheses.path(leaf)).any(1)
        assert (dense[row, : len(assignments)] == comes).all()
        assert (dense[row, len(assignments) :] == (np.arange(len(leaves)) == row)).all()
    for i in range(len(hypotheses)):
        comes, goes = ((side == i).any(1).astype(int) for side in (assignments.targets, assignments.sources))
        assert (dense[len(leaves) + i, : len(assignments)] == comes - goes).all()


def test_where_there_is_nothing_there_is_nothing_to_choose():
    none = SliceRegions(np.full((4, 4), -1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32),
                        np.zeros(0, np.float32))  # fmt: skip
    hypotheses = joined([none, none])
    nobody = Assignments(np.zeros(0, np.int8), np.zeros((0, 2), np.int32), np.zeros((0, 2), np.int32))
    problem = make_problem(hypotheses, nobody, np.zeros(0), np.zeros(0))
    assert problem.matrix.shape == (0, 0)
    assert len(problem.costs) == len(problem.right) == problem.n_assignments == 0


def test_costs_have_to_fit_and_to_be_finite(make_stack):
    hypotheses, assignments = small(make_stack, 0)
    n_leaves = int(hypotheses.is_leaf.sum())
    good, nothing = np.ones(len(assignments)), np.ones(n_leaves)
    with pytest.raises(DataError, match="one for each"):
        make_problem(hypotheses, assignments, good[1:], nothing)
    with pytest.raises(DataError, match="one for each"):
        make_problem(hypotheses, assignments, good, nothing[1:])
    for value in (np.nan, np.inf):
        for place in range(2):
            parts = [good.copy(), nothing.copy()]
            parts[place][0] = value
            with pytest.raises(DataError, match="finite costs"):
                make_problem(hypotheses, assignments, *parts)
