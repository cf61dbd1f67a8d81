"""Verdicts, links and regions made by hand: each time the best answer, which fits together and is scored."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign import local, solver
from napari_em_seg.assign.problem import make_problem
from napari_em_seg.assign.result import check_forest
from napari_em_seg.assign.solver import InfeasiblePinsError
from napari_em_seg.errors import EmSegError
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline.assignment import AssignRecipe
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.reconstruction import export_labels, open_session, reconstruct
from napari_em_seg.pipeline.resolver import LinkResolver, with_added
from napari_em_seg.review import Scores, Session, State, create_session


@pytest.fixture(scope="module")
def made(noisy):
    return reconstruct(noisy.raw, PredictedMaps(noisy.affinities), AssignRecipe(), gap=0.0)


@pytest.fixture(scope="module")
def plain(made, tmp_path_factory):
    return create_session(tmp_path_factory.mktemp("plain") / "plain.emseg", made)


@pytest.fixture
def session(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "s.emseg")
    with open_session(str(tmp_path / "s.emseg"), user="ann") as opened:
        yield opened


def anew(made, pins):
    """What the plain program costs under pins; None where there is no answer."""
    problem = make_problem(made.hypotheses(), made.assignments, made.costs, made.nothing)
    low, high = np.zeros(len(problem.costs)), np.ones(len(problem.costs))
    for link, value in pins.items():
        low[link] = high[link] = value
    rows = LinearConstraint(problem.matrix, problem.right, problem.right)
    return milp(problem.costs, constraints=rows, integrality=np.ones(len(low)), bounds=Bounds(low, high)).fun


def masks_of(session):
    """Slice and pixels of every region, those that were painted at the end; nothing for those undone."""
    h, state = session.reconstruction.hypotheses(), session.state
    found = [(int(h.z[i]), (h.nodes[h.z[i]] >= i) & (h.nodes[h.z[i]] <= h.last[i])) for i in range(len(h))]
    for number in range(len(h), len(h) + state.n_regions):
        mask = np.zeros(h.nodes.shape[1:], bool)
        region = state.regions.get(number)
        if region is not None:
            mask[region.y : region.y + region.shape[0], region.x : region.x + region.shape[1]] = region.mask
        found.append((0 if region is None else region.z, mask))
    return found


def check(session):
    """Return the used regions, once it is sure that all fits together, by pixels and by links."""
    chosen, made, state = session.outcome.chosen, session.reconstruction, session.state
    assert len(chosen) == len(made.kind) + state.n_links
    h, a = with_added(made.hypotheses(), made.assignments, state)
    check_forest(h, a, chosen)
    used = set(a.involved[chosen].ravel().tolist()) - {-1}
    n_covers = np.zeros(made.nodes.shape, int)
    masks = masks_of(session)
    for i in used:
        z, mask = masks[i]
        assert mask.any()
        n_covers[z] += mask
    assert n_covers.max() <= 1
    assert all(chosen[link] == value for link, value in state.assignment_pins.items())
    scores = session.outcome.scores.columns()
    for name in ("confidence", "p_error", "impact"):
        assert np.isfinite(scores[name][chosen]).all()
    m = len(made.kind)
    for link in np.flatnonzero(np.isnan(scores["regret"][:m]) & chosen[:m]).tolist():  # ∞ is not known as such
        assert (
            state.assignment_pins.get(link)
            or state.n_links
            or anew(made, {**state.assignment_pins, link: 0}) is None
        )
    assert session.outcome.gap < 1e-6
    return used


def test_verdicts_lead_where_solving_anew_leads(session, made):
    rng, refused = np.random.default_rng(0), 0
    for _ in range(40):
        links = session.links()
        link, before = int(rng.choice(links.id)), session.outcome.chosen.tolist()
        what = rng.integers(5)
        try:
            if what < 2:
                session.reject(link)
            elif what == 2:
                session.accept(link)
            elif what == 3:
                session.choose_alternative(link, int(rng.integers(1, 4)))
            elif session.state.done:
                session.undo()
        except InfeasiblePinsError as error:
            assert anew(made, error.pins) is None
            assert session.outcome.chosen.tolist() == before
            refused += 1
            continue
        except EmSegError:  # no such alternative
            continue
        check(session)
        assert session.outcome.objective == pytest.approx(anew(made, session.state.assignment_pins), abs=1e-4)
    assert refused
    while session.state.done:
        session.undo()
    assert session.outcome.chosen.tolist() == made.outcome.chosen.tolist()


def test_a_resolver_that_starts_late_says_the_same(session):
    links = session.links().sorted_by("confidence").id.tolist()
    session.reject(links[0])
    session.accept(links[1])
    session.reject(links[2])
    outcome = LinkResolver(session.reconstruction).solve(session.state)
    assert outcome.objective == pytest.approx(session.outcome.objective)
    assert outcome.chosen.tolist() == session.outcome.chosen.tolist()
    for name, column in outcome.scores.columns().items():
        np.testing.assert_allclose(column, session.outcome.scores.columns()[name], atol=1e-4, err_msg=name)


def test_regrets_know_of_alternatives_that_were_rejected(session, made):
    """A pin that does not change the answer can still make its links dearer to replace."""
    scores = session.outcome.scores
    chosen = np.flatnonzero(session.outcome.chosen & (scores.alternative >= 0) & (scores.regret > 0))
    pins, n_changed = {}, 0
    for link in chosen[np.argsort(scores.regret[chosen])][:4].tolist():
        instead = int(session.outcome.scores.alternative[link])
        before = float(session.outcome.scores.regret[link])
        session.commit(replace_draft(session, instead))
        pins[instead] = 0
        assert session.outcome.chosen[link]
        now = float(session.outcome.scores.regret[link])
        wanted = anew(made, {**pins, link: 0}) - anew(made, pins)
        assert now == pytest.approx(wanted, abs=1e-3)
        assert session.outcome.scores.alternative[link] != instead
        n_changed += now > before + 1e-3
    assert n_changed


def replace_draft(session, link):
    from napari_em_seg.review import drafts

    return drafts.decide(link, False, False, {})


def far_pair(session):
    """Two regions of neighbouring slices that no assignment links."""
    made = session.reconstruction
    known = {(a, b) for a, b in zip(made.sources[:, 0].tolist(), made.targets[:, 0].tolist(), strict=True)}
    for a in range(len(made.z)):
        for b in np.flatnonzero(made.z == made.z[a] + 1).tolist():
            if (a, b) not in known:
                return a, b
    raise AssertionError


def test_a_link_made_by_hand_holds_until_it_is_undone(session):
    before = session.outcome.objective
    a, b = far_pair(session)
    made = session.add_link([a], [b])
    link = made.payload["variable"]
    assert {a, b} <= check(session)
    assert session.outcome.chosen[link]
    assert session.outcome.scores.regret.shape == session.outcome.chosen.shape
    rows = session.links()
    assert rows.kind[rows.find(link)] == 0
    after = session.outcome.objective
    session.undo()
    check(session)
    assert session.outcome.objective == before
    session.reject(int(session.links().id[0]))  # solved with the number of the undone link still taken
    check(session)
    session.undo()
    session.redo()
    session.undo()
    session.undo() if session.state.done else None
    session.add_link([a], [b])
    check(session)
    assert session.outcome.objective == pytest.approx(after)


def test_a_link_by_hand_is_best_among_all_that_hold_it(session, made):
    a, b = far_pair(session)
    session.add_link([a], [b], cost=0.25)
    m = len(made.kind)
    with_one = replace(
        made, kind=np.append(made.kind, np.int8(0)), sources=np.vstack((made.sources, np.int32([[a, -1]]))),
        targets=np.vstack((made.targets, np.int32([[b, -1]]))), costs=np.append(made.costs, 0.25),
        features=np.vstack((made.features, made.features[:1])),
        outcome=replace(made.outcome, chosen=np.zeros(m + 1, bool), scores=Scores.unknown(m + 1)),
    )  # fmt: skip
    assert session.outcome.objective == pytest.approx(anew(with_one, {m: 1}), abs=1e-4)
    with open_session(str(session.path), mode="read") as again:
        assert again.outcome.objective == session.outcome.objective
        assert again.outcome.chosen.tolist() == session.outcome.chosen.tolist()


def ends_of(session, number):
    """The links by which a painted region begins and ends alone."""
    return [k for k, link in session.state.links.items() if number in (*link.sources, *link.targets)]


def use(session, number):
    for link in ends_of(session, number):
        session.accept(link)


def whole_leaf(made, z):
    """A leaf of some size and its mask."""
    h = made.hypotheses()
    i = max(np.flatnonzero(h.is_leaf & (h.z == z)), key=lambda i: h.area[i])
    return int(i), h.region(int(i))


def test_a_painted_region_excludes_all_that_it_overlaps(session, made):
    _, region = whole_leaf(made, 2)
    mask = np.zeros_like(region.mask)
    mask[: len(mask) // 2] = region.mask[: len(mask) // 2]
    number = session.add_region(2, region.y, region.x, mask).payload["region"]
    check(session)
    use(session, number)
    assert number in check(session)
    session.undo()
    session.undo()
    assert number not in check(session)


def test_two_halves_of_a_leaf_can_both_be_used(session, made):
    """A region that is cut in two: each half is painted, and they do not overlap."""
    leaf, region = whole_leaf(made, 2)
    half = np.arange(len(region.mask)) < len(region.mask) // 2
    numbers = [session.add_region(2, region.y, region.x, region.mask & side[:, None]).payload["region"]
               for side in (half, ~half)]  # fmt: skip
    for number in numbers:
        use(session, number)
    used = check(session)
    assert set(numbers) <= used
    assert leaf not in used
    both = session.outcome.objective
    session.undo()
    session.undo()
    session.reject(ends_of(session, numbers[1])[0])  # then the share of that half is left unexplained
    used = check(session)
    assert numbers[0] in used
    assert not used & {leaf, numbers[1]}
    assert session.outcome.objective <= both + made.nothing.max() / 2 + 1e-6


def test_painted_regions_that_overlap_exclude_each_other_even_where_nothing_is(session, made):
    h = made.hypotheses()
    free = np.argwhere(h.nodes[1] < 0)
    y, x = next((y, x) for y, x in free.tolist()
                if y < 94 and x < 94 and (h.nodes[1][y : y + 2, x : x + 2] < 0).all())  # fmt: skip
    mask = np.ones((2, 2), bool)
    first, second = (session.add_region(1, y, x, mask).payload["region"] for _ in range(2))
    use(session, first)
    assert first in check(session)
    with pytest.raises(InfeasiblePinsError) as caught:
        use(session, second)
    assert set(caught.value.pins) <= {*ends_of(session, first), *ends_of(session, second)}
    assert second not in check(session)


def test_a_region_over_what_holds_others_excludes_that_alone(noisy, tmp_path):
    made = reconstruct(noisy.raw, PredictedMaps(noisy.boundary), AssignRecipe(), gap=0.0)
    h, path = made.hypotheses(), create_session(tmp_path / "levels.emseg", made)
    own = [(i, np.argwhere(h.nodes[h.z[i]] == i)) for i in range(len(h)) if not h.is_leaf[i]]
    node, pixels = max(own, key=lambda pair: len(pair[1]))
    y, x = pixels[0].tolist()
    with open_session(str(path)) as session:
        number = session.add_region(int(h.z[node]), y, x, np.ones((1, 1), bool)).payload["region"]
        use(session, number)
        used = check(session)
        assert number in used
        assert not used & set(h.path(node))
        below = [i for i in range(node + 1, h.last[node] + 1) if h.parent[i] == node]
        for i in below:  # all that it holds stays possible
            ways = np.flatnonzero((made.kind == 3) & (made.targets[:, 0] == i))
            session.accept(int(ways[0]))
            assert {i, number} <= check(session)
            session.undo()


def test_labels_show_a_painted_region_just_where_it_is_used(session, made, tmp_path):
    export_labels(session, str(tmp_path / "before.zarr"), fill=0)
    _, region = whole_leaf(made, 3)
    number = session.add_region(3, region.y, region.x, region.mask, end_cost=100.0).payload["region"]
    assert number not in check(session)
    export_labels(session, str(tmp_path / "there.zarr"), fill=0)
    before, there = (open_volume(str(tmp_path / f"{n}.zarr"), "labels")[:] for n in ("before", "there"))
    np.testing.assert_array_equal(before, there)
    other = session.add_region(3, region.y, region.x, region.mask).payload["region"]
    use(session, number)
    assert other not in check(session)
    export_labels(session, str(tmp_path / "used.zarr"), fill=0)
    used = open_volume(str(tmp_path / "used.zarr"), "labels")[:]
    place = used[3, region.y :, region.x :][: region.mask.shape[0], : region.mask.shape[1]][region.mask]
    assert len(np.unique(place)) == 1
    assert place[0] > 0
    assert (used == place[0]).sum() == region.mask.sum()


def test_random_edits_always_fit_together(session, made):
    rng, done = np.random.default_rng(3), 0
    for _ in range(30):
        kind = rng.integers(8)
        links = session.links()
        link = int(rng.choice(links.id))
        try:
            if kind < 2:
                session.accept(link)
            elif kind < 4:
                session.reject(link)
            elif kind == 4:
                z, y, x = (int(v) for v in rng.integers((0, 0, 0), (6, 80, 80)))
                session.add_region(z, y, x, rng.random((12, 12)) < 0.9)
            elif kind == 5 and session.state.regions:
                number = int(rng.choice(list(session.state.regions)))
                z = session.state.regions[number].z
                if z < 5:
                    session.add_link([number], [int(rng.choice(np.flatnonzero(made.z == z + 1)))])
            elif kind == 6:
                session.undo()
            else:
                session.redo()
        except EmSegError:
            continue
        check(session)
        done += 1
    assert done > 10
    with Session(session.path, mode="read") as again:
        assert again.outcome.chosen.tolist() == session.outcome.chosen.tolist()


def test_the_state_without_anything_is_the_solution_that_there_was(made):
    outcome = LinkResolver(made).solve(State())
    assert outcome.chosen.tolist() == made.outcome.chosen.tolist()
    assert outcome.objective == pytest.approx(made.outcome.objective)
    for name, column in outcome.scores.columns().items():
        np.testing.assert_allclose(column, made.outcome.scores.columns()[name], atol=1e-5)


def test_an_object_from_elsewhere_is_whole_and_what_is_in_its_way_gives_way(session, made):
    shape = made.nodes.shape
    masks = {}
    for z in (1, 2, 3):
        masks[z] = np.zeros(shape[1:], bool)
        masks[z][20 + z : 50 + z, 30:70] = True  # across whatever lies there
    session.add_object(masks)
    numbers = session.view.objects
    painted = list(session.state.regions)
    assert len({int(numbers[i]) for i in painted}) == 1
    assert numbers[painted[0]] > 0
    check(session)
    session.undo()
    assert session.outcome.chosen[: len(made.kind)].tolist() == made.outcome.chosen.tolist()


def test_a_region_painted_where_nothing_is_can_be_used_once(session, made):
    z, (y, x) = 2, np.argwhere(made.nodes[2] < 0)[0].tolist()
    number = len(made.z)
    session.add_region(z, y, x, np.ones((1, 1), bool))
    before, after = (np.flatnonzero(made.z == k)[:2].tolist() for k in (z - 1, z + 1))
    session.add_link([before[0]], [number])
    session.add_link([number], [after[0]])
    check(session)
    for sources, targets in (([before[1]], [number]), ([number], [after[1]])):
        with pytest.raises(InfeasiblePinsError):
            session.add_link(sources, targets)
    check(session)


def test_scores_do_not_depend_on_the_way_to_the_answer(session, made, monkeypatch):
    """Around each change, or with all relaxed anew: what is open is as sure, and what was said is sure."""
    rng = np.random.default_rng(4)
    for k in range(12):
        links = session.links()
        link = int(rng.choice(links.id[links.is_open]))
        if k % 3:
            session.accept(link)
        else:
            session.reject(link)
    near = LinkResolver(made).solve(session.state)
    for module in (local, solver):
        monkeypatch.setattr(module, "nearby", lambda _: 0)
    anew = LinkResolver(made).solve(session.state)
    assert anew.chosen.tolist() == near.chosen.tolist()
    for name, column in anew.scores.columns().items():
        np.testing.assert_allclose(column, near.scores.columns()[name], atol=1e-5, err_msg=name)
    accepted = [link for link, value in session.state.pins.items() if value]
    assert (near.scores.p_error[accepted] == 0).all()


def test_links_of_what_an_object_has_taken_are_refused_and_the_object_is_named(session, made):
    shape = made.nodes.shape
    masks = {z: np.zeros(shape[1:], bool) for z in (1, 2, 3)}
    for z, mask in masks.items():
        mask[20 + z : 50 + z, 30:70] = True
    session.add_object(masks)
    by_hand = set(session.state.links)
    taken = {(z, i) for z in masks for node in np.unique(made.nodes[z][masks[z]]) if node >= 0
             for i in made.hypotheses().path(node)}  # fmt: skip
    taken = {i for _, i in taken}
    sides = np.concatenate((made.sources, made.targets), axis=1)
    touches = np.isin(sides, list(taken)).any(axis=1)
    assert touches.any()
    before = session.outcome.chosen.tolist()
    rng = np.random.default_rng(0)
    for link in rng.choice(np.flatnonzero(touches), 20, replace=False).tolist():
        with pytest.raises(InfeasiblePinsError) as caught:
            session.accept(link)
        assert caught.value.pins.keys() - {link} <= by_hand
        assert len(caught.value.pins) == 2
        assert session.outcome.chosen.tolist() == before
    session.undo()
    session.accept(int(np.flatnonzero(touches & made.outcome.chosen)[0]))
    check(session)
