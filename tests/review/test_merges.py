"""Merges of an agglomeration in the same list, accepted and rejected in the tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_em_seg.errors import DataError
from napari_em_seg.review import KINDS, Merges, Session, State, Status, create_session, link_name
from napari_em_seg.segment.merge_tree import MergeTree


def random_merges(seed, n=30, n_merges=25, threshold=0.5):
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(np.arange(1, 200), n, replace=False)).astype(np.uint32)
    alive, a, b = list(range(n)), [], []
    for i in range(n_merges):
        first, second = sorted(alive.pop(rng.integers(len(alive))) for _ in range(2))
        a.append(first)
        b.append(second)
        alive.append(n + i)
    score = np.clip(np.sort(rng.random(n_merges))[::-1] + 0.05 * rng.standard_normal(n_merges), 0, 1)
    return Merges(
        labels, np.array(a, np.int32), np.array(b, np.int32), score,
        rng.integers(0, 9, n_merges).astype(np.int32), rng.integers(1, 1000, n), threshold,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1.1))
def test_without_verdicts_it_is_the_cut_of_the_tree(seed, threshold):
    merges = random_merges(seed, threshold=threshold)
    tree = MergeTree(merges.labels, merges.a, merges.b, merges.score)
    assert np.array_equal(merges.table(State()), tree.cut(threshold))
    other = random_merges(seed, threshold=0.1)
    assert np.array_equal(
        other.table(State(settings={"agglomeration threshold": threshold})), tree.cut(threshold)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_a_verdict_changes_one_edge_and_no_other(seed):
    """Against the definition: what hangs together by the edges that are made."""
    merges = random_merges(seed)
    rng = np.random.default_rng(seed)
    pins = {-2 - int(k): int(rng.integers(2)) for k in rng.choice(len(merges), 6, replace=False)}
    made = merges.is_made(State())
    largest = list(range(len(merges.labels)))
    groups = {i: {i} for i in range(len(merges.labels))}
    for k, (a, b) in enumerate(zip(merges.a, merges.b, strict=True)):
        first, second = largest[a], largest[b]
        largest.append(first if merges.size[first] >= merges.size[second] else second)
        if pins.get(-2 - k, made[k]):
            joined = groups[first] | groups[second]
            groups |= dict.fromkeys(joined, joined)
    table = merges.table(State(pins=pins))
    for i, group in groups.items():
        assert table[merges.labels[i]] == min(merges.labels[j] for j in group)


def test_rejecting_a_merge_parts_what_it_joined_and_accepting_one_joins():
    merges = random_merges(3)
    made = merges.is_made(State())
    n_before = len(np.unique(merges.table(State())[merges.labels]))
    for k in range(len(merges)):
        table = merges.table(State(pins={-2 - k: int(not made[k])}))
        n_after = len(np.unique(table[merges.labels]))
        assert n_after - n_before == (1 if made[k] else -1)


def test_rows():
    merges = random_merges(4)
    links = merges.links(State())
    made = merges.is_made(State())
    p = np.where(made, 1 - merges.score, merges.score)
    rows = -2 - links.id
    assert set(rows.tolist()) == set(np.flatnonzero(p >= 0.05).tolist())
    assert [KINDS[kind] for kind in links.kind] == ["merge in agglomeration"] * len(links)
    assert links.p_error == pytest.approx(p[rows])
    assert (links.z == merges.z[rows]).all()
    assert (links.sources[:, 1] == -1).all()
    table = merges.table(State())
    assert (links.object == table[links.sources[:, 0]]).all()
    is_made = made[rows]
    assert (table[links.sources[is_made, 0]] == table[links.targets[is_made, 0]]).all()
    spoken = State(statuses={-2 - int(np.argmin(p)): Status.ACCEPTED})
    assert (merges.links(spoken, least=1.1).status == Status.ACCEPTED).all()
    assert len(merges.links(spoken, least=1.1)) == 1


def test_merges_and_assignments_are_one_list(found, small, tmp_path):
    path = create_session(tmp_path / "a.emseg", found, merges=random_merges(5))
    calls = small.Exact.calls
    with Session(path, small.Exact) as session:
        links = session.links().sorted_by("p_error")
        assert set(links.kind.tolist()) > {5}
        assert len({link_name(link) for link in links.id}) == len(links)
        merge = int(links.id[links.kind == 5][0])
        number, before = -2 - merge, session.merges.table(session.state)
        was_made = bool(session.merges.is_made(session.state)[number])
        session.reject(merge)
        assert session.state.merge_pins == {number: int(not was_made)}
        assert not np.array_equal(session.merges.table(session.state), before)
        row = session.links().find(merge)
        assert session.links().status[row] == Status.REJECTED
        assert session.state.verdicts[-1].p_error == pytest.approx(links.p_error[links.find(merge)])
        session.accept(merge)  # a change of mind
        assert session.state.merge_pins == {number: int(was_made)}
        session.undo()
        session.undo()
        assert np.array_equal(session.merges.table(session.state), before)
        session.redo()
        session.change_setting("agglomeration threshold", 0.9)
        assert session.merges.is_made(session.state).sum() > random_merges(5).is_made(State()).sum() - 1
        assert session.alternatives(merge) == []
        with pytest.raises(DataError, match="no alternative 1 to link m"):
            session.choose_alternative(merge, 1)
        with pytest.raises(DataError, match="one of m0 to m24"):
            session.accept(-2 - 25)
        table = session.merges.table(session.state)
    with Session(path, small.Exact) as session:
        assert np.array_equal(session.merges.table(session.state), table)
    assert small.Exact.calls == calls  # the program has nothing to do with it


@pytest.mark.parametrize("name", ["a", "b", "z", "size"])
def test_arrays_that_do_not_fit(name):
    merges = random_merges(6)
    columns = {k: getattr(merges, k) for k in ("labels", "a", "b", "score", "z", "size", "threshold")}
    columns[name] = columns[name][:-1] if name in ("z", "size") else columns[name] + 60
    with pytest.raises(DataError, match="do not fit together"):
        Merges(**columns)
