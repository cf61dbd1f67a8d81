"""What a review needs of the program: solved anew under verdicts and what was made by hand, and scored."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.confidence import Rivals, cheapest_rivals, error_probability, impact, link_features
from napari_em_seg.assign.costs import Prices, probability_of
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.assign.problem import Problem, leaf_paths, make_problem
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.solver import InfeasiblePinsError
from napari_em_seg.pipeline.assignment import model_named
from napari_em_seg.review import AddedLink, AddedRegion, Outcome, Reconstruction, Scores, State

__all__ = ["LinkResolver", "Scorer", "with_added"]

Column = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WIDE = 1 << 32  # more than a slice has columns


class LinkResolver:
    """A `review.Resolver`: the best solution under what people have said.

    Parameters
    ----------
    made
        The reconstruction whose costs hold.
    """

    def __init__(self, made: Reconstruction) -> None:
        self._made, self._hypotheses = made, made.hypotheses()
        self._problem = make_problem(self._hypotheses, made.assignments, made.costs, made.nothing)
        card = made.model or {}
        prices = Prices(**card.get("prices", {}))
        model = model_named(str(card.get("file") or card.get("name", "")))
        self._scorer = Scorer(self._hypotheses, made.assignments, made.features, made.costs, prices, model)
        self._added: tuple[object, ...] = ()
        self._taken: dict[int, int] = {}
        self._resolver = Resolver(self._problem)
        self._before, self._pins = made.outcome, dict[int, int]()

    def solve(self, state: State) -> Outcome:
        """Return the best solution under the pins of a state, with what was made by hand."""
        m = len(self._made.kind)
        pins = state.assignment_pins
        fixed = {m + k: pins.get(m + k, -1) if m + k in state.links else 0 for k in range(state.n_links)}
        fixed = {link: value for link, value in fixed.items() if value >= 0}
        added = (tuple(state.links.items()), tuple(state.regions), state.n_regions, fixed)
        is_other = added != self._added
        taken = _taken(self._hypotheses, state, fixed) if is_other else self._taken
        self._refuse_taken(pins, taken)
        resolver = self._resolver
        if is_other:
            resolver = _resolver_of(_extended(self._problem, self._hypotheses, state), fixed)
        solution = resolver.solve({**pins, **fixed})
        self._resolver, self._added, self._taken = resolver, added, taken
        chosen = solution.chosen[: m + state.n_links]
        outcome = Outcome(chosen, solution.objective, solution.gap, self._scores(chosen, pins))
        self._before, self._pins = outcome, pins
        return outcome

    def _refuse_taken(self, pins: Mapping[int, int], taken: Mapping[int, int]) -> None:
        """Refuse links of regions that an object has taken: to find that out from the program takes long."""
        for link, value in pins.items():
            if value and link < len(self._made.kind):
                for region in (*self._made.sources[link].tolist(), *self._made.targets[link].tolist()):
                    if region in taken:
                        raise InfeasiblePinsError({link: 1, taken[region]: 1})

    def _scores(self, chosen: Mask, pins: dict[int, int]) -> Scores:
        """Score anew; regrets only where something nearby has changed, be it only what is allowed.

        What people have said is right is sure: no regret is asked for there, as for links made by hand. Nearby
        is what shares a row with a change; regrets that hang on it over a longer way, which they seldom do, and
        by little, stay as they were until the session is opened anew.
        """
        m = len(self._made.kind)
        before = self._before.resized(len(chosen))
        is_said = np.zeros(len(chosen), np.bool_)
        is_said[[link for link, value in pins.items() if value]] = True
        is_said[m:] = True
        is_open = chosen & ~is_said
        rows = np.flatnonzero(is_open[:m])
        is_changed = chosen != before.chosen
        is_changed[[link for link, _ in pins.items() ^ self._pins.items()]] = True
        changed = np.flatnonzero(is_changed).astype(np.int32)
        matrix = self._resolver.regions.matrix
        near = matrix.columns_of(
            matrix.rows_of(changed), np.zeros(matrix.shape[1]), 1.0
        ) if len(changed) else changed  # fmt: skip
        regret, alternative = before.scores.regret[rows].astype(float), before.scores.alternative[rows].copy()
        stale = np.isin(rows, near) | np.isnan(regret)
        found = regrets(self._resolver, rows[stale])
        regret[stale], alternative[stale] = found.value, found.alternative
        p_error = before.scores.p_error[rows].astype(float)
        scores = self._scorer.scores(is_open[:m], regret, alternative, p_error, stale).resized(len(chosen))
        sure = np.flatnonzero(chosen & is_said)
        scores.p_error[sure], scores.confidence[sure], scores.impact[sure] = 0, 1, 0
        return scores


class Scorer:
    """Says how sure the chosen assignments of a solution are."""

    def __init__(
        self, hypotheses: Hypotheses, assignments: Assignments, features: NDArray[np.float32], costs: Column,
        prices: Prices, model: AssignmentModel | None,
    ) -> None:  # fmt: skip
        self._hypotheses, self._assignments, self._features = hypotheses, assignments, features
        self._costs, self._errors = costs, None if model is None else model.errors
        self._probability = probability_of(hypotheses, assignments, costs, prices)

    @cached_property
    def _rivals(self) -> tuple[Rivals, Rivals]:
        """The rivals of all assignments, which never change."""
        h, a, rows = self._hypotheses, self._assignments, np.arange(len(self._assignments))
        return (cheapest_rivals(h, a, self._costs, rows), cheapest_rivals(h, a, -self._probability, rows))

    def scores(
        self,
        chosen: Mask,
        regret: Column,
        alternative: NDArray[np.int32],
        p_error: Column | None = None,
        stale: Mask | None = None,
    ) -> Scores:
        """Return the scores of all assignments; all else is of those chosen, in order.

        How likely a link is wrong depends on its regret and on what never changes. So where ``p_error`` is
        known from before, only what is ``stale`` is worked out.
        """
        h, a, rows = self._hypotheses, self._assignments, np.flatnonzero(chosen)
        p_error = np.zeros(len(rows)) if p_error is None else p_error
        stale = np.ones(len(rows), np.bool_) if stale is None else stale
        some = rows[stale]
        rivals = None if stale.all() else (self._rivals[0][some], self._rivals[1][some])
        table = link_features(h, a, self._features, self._probability, self._costs, regret[stale], some, rivals)
        p_error[stale] = error_probability(h, a, table, some, self._errors)
        found = Scores.unknown(len(a))
        found.p_error[rows] = p_error
        found.confidence[rows] = 1 - p_error
        found.regret[rows], found.alternative[rows] = regret, alternative
        found.impact[rows] = impact(h, a, rows, p_error)
        return found


def with_added(
    hypotheses: Hypotheses, assignments: Assignments, state: State, chosen: Mask | None = None
) -> tuple[Hypotheses, Assignments]:
    """Return hypotheses and assignments with those made by hand; what was taken back is there, but empty.

    A pixel can be in one region alone. Where it is known what is ``chosen``, it is in a painted region only if
    that is used, so that others keep theirs.
    """
    links = [state.links.get(len(assignments) + k) for k in range(state.n_links)]
    kind = np.array([0 if link is None else link.kind for link in links], np.int8)
    ends = [
        np.array([(-1, -1) if link is None else getattr(link, side) for link in links], np.int32).reshape(-1, 2)
        for side in ("sources", "targets")
    ]
    more = Assignments(
        np.concatenate((assignments.kind, kind)), np.concatenate((assignments.sources, ends[0])),
        np.concatenate((assignments.targets, ends[1])),
    )  # fmt: skip
    if not state.n_regions:
        return hypotheses, more
    n = len(hypotheses)
    nodes = hypotheses.nodes.copy()
    z = np.zeros(state.n_regions, np.int32)
    used = set() if chosen is None else set(more.involved[chosen].ravel().tolist())
    for number, region in state.regions.items():
        z[number - n] = region.z
        if chosen is None or number in used:
            _window(nodes, region)[region.mask] = number
    own = np.arange(n, n + state.n_regions, dtype=np.int32)
    some = np.zeros(state.n_regions, np.float32)
    return replace(
        hypotheses, nodes=nodes, z=np.concatenate((hypotheses.z, z)),
        parent=np.concatenate((hypotheses.parent, np.full(len(own), -1, np.int32))),
        last=np.concatenate((hypotheses.last, own)), birth=np.concatenate((hypotheses.birth, some)),
        death=np.concatenate((hypotheses.death, some + 1)),
    ), more  # fmt: skip


def _window(nodes: NDArray[np.int32], region: AddedRegion) -> NDArray[np.int32]:
    """Return the part of a slice that the mask of a region covers; writing there writes into the nodes."""
    height, width = region.mask.shape
    return nodes[region.z, region.y : region.y + height, region.x : region.x + width]


def _nodes_under(hypotheses: Hypotheses, region: AddedRegion) -> list[int]:
    """Return the smallest hypotheses that have pixels of a region."""
    found: list[int] = np.unique(_window(hypotheses.nodes, region)[region.mask]).tolist()
    return [node for node in found if node >= 0]


def _taken(hypotheses: Hypotheses, state: State, fixed: Mapping[int, int]) -> dict[int, int]:
    """Return the regions that painted ones in use overlap, each with a link that says these are used."""
    found: dict[int, int] = {}
    for link, value in fixed.items():
        painted = state.links[link].targets[0] if value else -1
        if painted in state.regions:
            for node in _nodes_under(hypotheses, state.regions[painted]):
                found.update(dict.fromkeys(hypotheses.path(node), link))
    return found


def _resolver_of(problem: Problem, fixed: Mapping[int, int]) -> Resolver:
    """Return what solves; links made by hand that clash among themselves are left for it to tell which."""
    try:
        return Resolver(problem, fixed=fixed)
    except InfeasiblePinsError:
        return Resolver(problem)


def _extended(problem: Problem, hypotheses: Hypotheses, state: State) -> Problem:
    """Return the program with what was made by hand; `_exclusive` says what excludes what."""
    n, m, n_links = len(hypotheses), problem.n_assignments, state.n_links
    n_leaves, n_regions = len(problem.costs) - m, state.n_regions
    links = [state.links.get(m + k) for k in range(n_links)]
    incoming, outgoing = (_sides(links, side, n + n_regions) for side in ("targets", "sources"))
    flow = problem.matrix[n_leaves:, :m]
    members, prices = _exclusive(hypotheses, state, problem.costs[m:])
    top = sparse.hstack([members[:, :n] @ flow.maximum(0), members @ incoming, sparse.eye_array(len(prices))])
    bottom = sparse.hstack([
        sparse.vstack([flow, sparse.csr_array((n_regions, m))]), incoming - outgoing,
        sparse.csr_array((n + n_regions, len(prices))),
    ])  # fmt: skip
    by_hand = [0.0 if link is None else link.cost for link in links]
    costs = np.concatenate((problem.costs[:m], by_hand, prices))
    right = np.concatenate((np.ones(len(prices)), np.zeros(n + n_regions)))
    return Problem(costs, sparse.csr_array(sparse.vstack([top, bottom])), right, m + n_links)


def _exclusive(hypotheses: Hypotheses, state: State, nothing: Column) -> tuple[sparse.csr_array, Column]:
    """Return rows of regions of which one at most can be used, and what it costs to use none of a row.

    First come the paths of leaves, as in `make_problem`. A painted region joins the row of each leaf that it
    overlaps. Where several are painted on one leaf that do not overlap, as when it is cut in two, each has a
    row of its own with that path, and these share the price of the leaf. Where a region overlaps what is around
    leaves, the path from there gets a row, and so do two painted regions that overlap, and each painted one by
    itself, as it may lie where nothing is; none of these costs anything.
    """
    leaf_row = {int(leaf): row for row, leaf in enumerate(np.flatnonzero(hypotheses.is_leaf))}
    overlaps = _overlapping(state.regions)
    groups: dict[int, list[list[int]]] = {}
    rows, extra = [[*pair] for pair in overlaps], [0.0] * len(overlaps)
    for number, region in state.regions.items():
        rows.append([number])
        extra.append(0.0)
        for node in _nodes_under(hypotheses, region):
            if node in leaf_row:
                parts = groups.setdefault(node, [])
                fitting = [part for part in parts if all((other, number) in overlaps for other in part)]
                fitting[0].append(number) if fitting else parts.append([number])
            else:
                rows.append([*hypotheses.path(node), number])
                extra.append(0.0)
    prices, joined = nothing.copy(), [(leaf_row[leaf], i) for leaf, parts in groups.items() for i in parts[0]]
    for leaf, parts in groups.items():
        prices[leaf_row[leaf]] /= len(parts)
        rows += [[*hypotheses.path(leaf), *part] for part in parts[1:]]
        extra += [prices[leaf_row[leaf]]] * (len(parts) - 1)
    joined += [(len(prices) + row, i) for row, members in enumerate(rows) for i in members]
    shape = len(prices) + len(rows), len(hypotheses) + state.n_regions
    row, column = np.array(joined, int).reshape(-1, 2).T
    more = sparse.csr_array((np.ones(len(row)), (row, column)), shape=shape)
    paths = leaf_paths(hypotheses)
    paths.resize(shape)
    return paths + more, np.concatenate((prices, extra))


def _overlapping(regions: Mapping[int, AddedRegion]) -> set[tuple[int, int]]:
    """Return the pairs of painted regions that have pixels in common, the lower number first."""
    found, by_slice = set[tuple[int, int]](), dict[int, list[int]]()
    for number in sorted(regions):
        by_slice.setdefault(regions[number].z, []).append(number)
    for numbers in by_slice.values():
        pixels = [_pixels(regions[number]) for number in numbers]
        place = np.concatenate(pixels)
        owner = np.repeat(numbers, [len(some) for some in pixels])
        order = np.argsort(place, kind="stable")  # at one place the lower number stays first
        place, owner, step = place[order], owner[order], 1
        while (same := place[step:] == place[:-step]).any():
            pairs = np.stack((owner[:-step][same], owner[step:][same]), axis=1)
            found.update((int(a), int(b)) for a, b in np.unique(pairs, axis=0))
            step += 1
    return found


def _pixels(region: AddedRegion) -> NDArray[np.int64]:
    """Return where its pixels are, as one number each."""
    y, x = np.nonzero(region.mask)
    return np.asarray((y + region.y) * _WIDE + x + region.x, np.int64)


def _sides(links: list[AddedLink | None], side: str, n_rows: int) -> sparse.csr_array:
    """Return a matrix that has a one where a hypothesis (row) takes part in a link made by hand (column)."""
    pairs = [(i, k) for k, link in enumerate(links) if link is not None for i in getattr(link, side) if i >= 0]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return sparse.csr_array((np.ones(len(pairs)), (rows, columns)), shape=(n_rows, len(links)))
