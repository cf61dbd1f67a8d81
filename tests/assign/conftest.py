"""Nested regions to try assignments on, with what they were made from; and each region as a mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign.assignments import APPEARANCE, Assignments
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.hypotheses import Hypotheses, SliceRegions, joined
from napari_em_seg.assign.problem import Problem, make_problem
from napari_em_seg.assign.sections import section_hypotheses


@dataclass(frozen=True, eq=False)
class Sections:
    """An agglomeration in small: its labels, their segments at each level, and the sections of these."""

    labels: NDArray[np.uint32]
    cuts: list[NDArray[np.uint32]]
    levels: list[float]
    hypotheses: Hypotheses


def halved(rng: np.random.Generator, side: int, depth: int) -> SliceRegions:
    """Return a slice halved again and again, each part a region of its own; some parts are left out."""
    nodes, parent = np.full((side, side), -1, np.int32), []

    def cut(y: int, x: int, h: int, w: int, above: int, left: int) -> None:
        if min(h, w) < 3 or (above >= 0 and rng.random() < 0.15):
            return
        i = len(parent)
        parent.append(above)
        nodes[y : y + h, x : x + w] = i
        if left and rng.random() < 0.8:
            k = int(rng.integers(1, max(h, w)))
            parts = ((y, x, k, w), (y + k, x, h - k, w)) if h >= w else ((y, x, h, k), (y, x + k, h, w - k))
            for part in parts:
                cut(*part, i, left - 1)

    for y in (0, side // 2):
        cut(y, 0, side // 2, side, -1, depth)
    n = len(parent)
    birth = (rng.random(n) / 2).astype(np.float32)
    return SliceRegions(nodes, np.array(parent, np.int32), birth, birth + np.float32(0.25))


def agglomerated(rng: np.random.Generator, n_slices: int, side: int) -> Sections:
    """Return columns of labels that wander a little, and levels at which some of them are joined."""
    blocks = rng.integers(0, 9, (side // 4, side // 4))
    planes = [np.roll(np.repeat(np.repeat(blocks, 4, 0), 4, 1), rng.integers(-2, 3, 2), (0, 1))
              for _ in range(n_slices)]  # fmt: skip
    labels = np.stack(planes).astype(np.uint32)
    labels[rng.random((n_slices, side, side)) < 0.05] = 0
    levels = [0.2, 0.35, 0.5, 0.65, 0.8]
    cuts, table = [], np.arange(9, dtype=np.uint32)
    for _ in levels:
        a, b = table[rng.integers(1, 9, 2)]
        table[table == max(a, b)] = min(a, b)
        cuts.append(table.copy())
    return Sections(labels, cuts, levels, section_hypotheses(labels, cuts, levels, min_area=6, max_depth=4))


@pytest.fixture
def make_stack() -> Callable[..., Hypotheses]:
    """Make nested rectangles from a seed."""

    def make(seed: int, n_slices: int = 3, side: int = 24, depth: int = 3) -> Hypotheses:
        rng = np.random.default_rng(seed)
        return joined([halved(rng, side, depth) for _ in range(n_slices)])

    return make


@pytest.fixture
def make_sections() -> Callable[..., Sections]:
    """Make sections of an agglomeration from a seed."""

    def make(seed: int, n_slices: int = 3, side: int = 20) -> Sections:
        return agglomerated(np.random.default_rng(seed), n_slices, side)

    return make


@pytest.fixture
def masks_of() -> Callable[[Hypotheses], list[NDArray[np.bool_]]]:
    """Tell the pixels of every region (y, x), found by going up the tree from the region of each pixel."""

    def masks(hypotheses: Hypotheses) -> list[NDArray[np.bool_]]:
        found = [hypotheses.nodes[z] == i for i, z in enumerate(hypotheses.z)]
        for i in range(len(hypotheses)):
            for above in hypotheses.path(i)[1:]:
                found[above] = found[above] | (hypotheses.nodes[hypotheses.z[i]] == i)
        return found

    return masks


@dataclass(frozen=True, eq=False)
class Program:
    """What can be chosen, and the program of it."""

    hypotheses: Hypotheses
    assignments: Assignments
    problem: Problem


@pytest.fixture
def make_program(make_stack: Callable[..., Hypotheses]) -> Callable[..., Program]:
    """Make a program of nested rectangles; costs are numbers of any size, or of few sizes, or often 0."""

    def make(seed: int, n_slices: int = 3, side: int = 16, depth: int = 2) -> Program:
        rng = np.random.default_rng(seed)
        hypotheses = make_stack(seed, n_slices, side, depth)
        found = find_candidates(hypotheses, None, Limits(links=3, partners=2)).assignments
        m, n_leaves = len(found), int(hypotheses.is_leaf.sum())
        costs = [3 * rng.random(m), rng.integers(0, 4, m).astype(float), rng.exponential(size=m)][seed % 3]
        costs = costs + (found.kind >= APPEARANCE)
        costs[rng.random(m) < (seed % 3 == 2) / 3] = 0
        nothing = rng.integers(1, 5, n_leaves) + (rng.random(n_leaves) if seed % 3 != 1 else 0.0)
        return Program(hypotheses, found, make_problem(hypotheses, found, costs, nothing))

    return make


@pytest.fixture
def least() -> Callable[..., float]:
    """Tell what the best answer costs under pins, by the solver in SciPy; ∞ where there is none."""

    def solved(problem: Problem, pins: Mapping[int, int] = MappingProxyType({})) -> float:
        n = len(problem.costs)
        low, high = np.zeros(n), np.ones(n)
        for variable, value in pins.items():
            low[variable] = high[variable] = value
        rows = LinearConstraint(problem.matrix, problem.right, problem.right)
        found = milp(problem.costs, constraints=rows, integrality=np.ones(n), bounds=Bounds(low, high),
                     options={"mip_rel_gap": 0})  # fmt: skip
        assert found.status in (0, 2)
        return float(found.fun) if found.status == 0 else np.inf

    return solved
