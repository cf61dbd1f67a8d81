"""A tiny reconstruction with nested hypotheses, and a resolver that solves the whole program each time."""

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.errors import EmSegError
from napari_em_seg.review import Outcome, Reconstruction, Scores, State

SIZE = 12
N_SLICES = 4


class ClashError(EmSegError, ValueError):
    """Pins that cannot all hold."""


def nested_slice(rng):
    """Four quadrants, of which the left two and the right two may be one region each: two or three levels."""
    nodes = np.zeros((SIZE, SIZE), np.int32)
    half = SIZE // 2
    nodes[half:, :half], nodes[:half, half:], nodes[half:, half:] = 1, 2, 3
    parent = [4, 4, 5, 5, -1, -1]
    n = len(parent)
    birth = rng.random(n).astype(np.float32) / 2
    return SliceRegions(nodes, np.array(parent, np.int32), birth, birth + np.float32(0.4))


def candidates(hypotheses):
    """All continuations, some splits and merges, and all ends."""
    rows = []
    conflict = hypotheses.is_conflict
    for z in range(hypotheses.n_slices - 1):
        upper = range(hypotheses.starts[z], hypotheses.starts[z + 1])
        lower = range(hypotheses.starts[z + 1], hypotheses.starts[z + 2])
        rows += [(0, (i, -1), (j, -1)) for i in upper for j in lower if (i + j) % 2 == 0]
        rows += [(1, (i, -1), (j, k)) for i in upper for j in lower for k in lower
                 if j < k and not conflict(j, k) and (i + j + k) % 5 == 0]  # fmt: skip
        rows += [(2, (i, j), (k, -1)) for i in upper for j in upper for k in lower
                 if i < j and not conflict(i, j) and (i + j + k) % 5 == 1]  # fmt: skip
    rows += [(3, (-1, -1), (i, -1)) for i in range(len(hypotheses))]
    rows += [(4, (i, -1), (-1, -1)) for i in range(len(hypotheses))]
    kind, sources, targets = zip(*rows, strict=True)
    return np.array(kind, np.int8), np.array(sources, np.int32), np.array(targets, np.int32)


def reconstruction(seed=0, n_slices=N_SLICES):
    rng = np.random.default_rng(seed)
    hypotheses = joined([nested_slice(rng) for _ in range(n_slices)])
    kind, sources, targets = candidates(hypotheses)
    costs = rng.random(len(kind)) * 3 + 0.1 + 2.0 * (kind >= 3)
    border = (kind == 3) & (hypotheses.z[targets[:, 0]] == 0)
    border |= (kind == 4) & (hypotheses.z[sources[:, 0]] == n_slices - 1)
    costs[border] = 0
    m = len(kind)
    empty = Outcome(np.zeros(m, bool), 0.0, 0.0, Scores.unknown(m))
    found = Reconstruction(
        hypotheses.nodes, hypotheses.z, hypotheses.parent, hypotheses.last, hypotheses.birth, hypotheses.death,
        kind, sources, targets, rng.random((m, 3), np.float32), costs,
        np.full(int(hypotheses.is_leaf.sum()), 6.0), empty, ("a", "b", "c"),
    )  # fmt: skip
    return replace(found, outcome=Exact(found).solve(State()))


class Exact:
    """The plain program, by the ILP solver in SciPy; painted regions conflict with what they cover."""

    calls = 0

    def __init__(self, found):
        self.found, self.hypotheses = found, found.hypotheses()

    def solve(self, state):
        type(self).calls += 1
        costs, matrix, right, m = self.program(state)
        low, high = np.zeros(len(costs)), np.ones(len(costs))
        for k in range(m, m + state.n_links):
            high[k] = float(k in state.links)
        for link, value in state.assignment_pins.items():
            low[link] = high[link] = value
        if (low > high).any():
            raise ClashError(f"The pins {state.assignment_pins} clash", "pins that can all hold", "Undo one")
        rows = LinearConstraint(matrix, right, right)
        result = milp(costs, constraints=rows, integrality=np.ones(len(costs)), bounds=Bounds(low, high))
        if result.x is None:
            raise ClashError(f"The pins {state.assignment_pins} clash", "pins that can all hold", "Undo one")
        chosen = np.round(result.x[: m + state.n_links]).astype(bool)
        return Outcome(chosen, float(result.fun), 0.0, scores(costs[: m + state.n_links], chosen))

    def program(self, state):
        found, hypotheses = self.found, self.hypotheses
        m, n = len(found.kind), len(found.z)
        sources = np.concatenate((found.sources, np.full((state.n_links, 2), -1)))
        targets = np.concatenate((found.targets, np.full((state.n_links, 2), -1)))
        costs = np.concatenate((found.costs, np.zeros(state.n_links)))
        for k, link in state.links.items():
            sources[k], targets[k], costs[k] = link.sources, link.targets, link.cost
        leaves = np.flatnonzero(hypotheses.is_leaf)
        n_all = n + state.n_regions
        path = np.zeros((len(leaves), n_all))
        for row, leaf in enumerate(leaves):
            path[row, hypotheses.path(int(leaf))] = 1
            for number, region in state.regions.items():
                box = hypotheses.nodes[region.z][
                    region.y : region.y + region.mask.shape[0], region.x : region.x + region.mask.shape[1]
                ]
                path[row, number] = ((box == leaf) & region.mask).any()
        incoming, outgoing = (incidence(side, n_all) for side in (targets, sources))
        matrix = sparse.block_array(
            [[path @ incoming, np.eye(len(leaves))], [incoming - outgoing, None]], format="csc"
        )
        right = np.concatenate((np.ones(len(leaves)), np.zeros(n_all)))
        return np.concatenate((costs, found.nothing)), matrix, right, m


def incidence(side, n):
    columns, which = np.nonzero(side >= 0)
    return sparse.csr_array((np.ones(len(columns)), (side[columns, which], columns)), shape=(n, len(side)))


def scores(costs, chosen):
    """Make some up from the costs, so that they change wherever the solution does."""
    n = len(costs)
    p = np.where(chosen, 1 - np.exp(-costs / 6), np.nan).astype(np.float32)
    alternative = np.where(chosen, (np.arange(n) + 7) % n, -1).astype(np.int32)
    return Scores((1 / (p + np.float32(0.01))).astype(np.float32), (p * 2).astype(np.float32), p,
                  (p * 100).astype(np.float32), alternative)  # fmt: skip


def random_edit(session, rng):
    """Do one random thing; what cannot be done is refused, and that is all right."""
    links = session.links()
    link = int(rng.choice(links.id))
    kind = rng.integers(14)
    try:
        if kind < 3:
            return session.accept(link)
        if kind < 5:
            return session.reject(link)
        if kind == 5:
            return session.choose_alternative(link, int(rng.integers(1, 6)))
        if kind == 6:
            return [session.skip, session.do_not_know][rng.integers(2)](link)
        if kind == 7:
            return session.note(f"note {rng.integers(1000)} ü", link)
        if kind == 8:
            return add_link(session, link, rng)
        if kind == 9:
            mask = rng.random((3, 4)) < 0.6
            z, y, x = (int(v) for v in rng.integers(0, (N_SLICES, 8, 8)))
            return session.add_region(z, y, x, mask)
        if kind == 10 and rng.random() < 0.3:
            return retrain(session, rng)
        return session.undo() if rng.random() < 0.5 else session.redo()
    except EmSegError:
        return None


def add_link(session, link, rng):
    z = session.reconstruction.z
    a = int(rng.integers(np.searchsorted(z, N_SLICES - 1)))
    b = int(rng.choice(np.flatnonzero(z == z[a] + 1)))
    painted = [k for k, region in session.state.regions.items() if region.z == z[a] + 1]
    if painted and rng.random() < 0.5:
        b = painted[0]
    return session.add_link([a], [b], link=link, cost=0.5)


def retrain(session, rng):
    found = session.reconstruction
    costs = found.costs * rng.uniform(0.8, 1.25, len(found.costs))
    return session.adopt_costs(costs, found.nothing, model={"name": "made up"}, report={})


def same_outcome(a, b):
    """Whether two solutions are equal in every entry."""
    columns = [(a.chosen, b.chosen), *((c, b.scores.columns()[k]) for k, c in a.scores.columns().items())]
    return a.objective == b.objective and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in columns
    )
