"""A session: every answer is kept and solved, undone and redone, and is there again after a restart."""

import threading

import numpy as np
import pytest

from napari_em_seg.errors import DataError, EmSegError, SourcePermissionError
from napari_em_seg.review import Session, State, Status, drafts, fold


def reopened(session, small):
    session.close()
    return Session(session.path, small.Exact, user="ben")


def test_a_new_session_shows_the_solution_that_it_was_made_with(session, found, small):
    assert small.same_outcome(session.outcome, found.outcome)
    assert session.state == State()
    assert session.operations == ()
    for name in (
        "z",
        "parent",
        "last",
        "birth",
        "death",
        "kind",
        "sources",
        "targets",
        "features",
        "costs",
        "nothing",
    ):
        a, b = getattr(session.reconstruction, name), getattr(found, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert np.array_equal(session.reconstruction.nodes[:], found.nodes)
    assert session.reconstruction.feature_names == ("a", "b", "c")


def test_an_operation_says_all_that_it_should(session):
    links = session.links().sorted_by("confidence")
    link = int(links.id[1])
    operation = session.reject(link, duration_s=2.5, shown={"zoom": 3})
    assert (operation.id, operation.user, operation.kind, operation.duration_s) == (1, "ann", "reject", 2.5)
    assert operation.time == "2026-01-01T00:00:03.000+00:00"
    assert operation.payload == {"link": link, "pins": [[link, 0]]}
    assert operation.shown["rank"] == 2
    assert operation.shown["confidence"] == links.confidence[1]
    assert operation.shown["p_error"] == links.p_error[1]
    assert operation.shown["alternatives"] == session_alternatives(session, link)
    assert operation.shown["zoom"] == 3
    assert operation.objective_before < operation.objective_after == session.outcome.objective
    assert session.state.statuses == {link: Status.REJECTED}
    assert not session.outcome.chosen[link]


def session_alternatives(session, link):
    """Return what was listed before the link was rejected."""
    with_undo = session.undo()
    listed = session.alternatives(link)
    session.redo()
    assert with_undo.kind == "undo"
    return listed


@pytest.mark.parametrize("seed", range(4))
def test_a_long_random_run(session, found, small, seed):
    """After each step: the solution is the best under the pins; and in the end all is there after a restart."""
    rng = np.random.default_rng(seed)
    seen = {(): session.outcome}
    for _ in range(60):
        before = session.operations
        done = small.random_edit(session, rng)
        assert session.operations[: len(before)] == before
        assert len(session.operations) == len(before) + (done is not None)
        key = session.state.done
        if key in seen:  # undone, redone, or nothing done: exactly what it was
            assert small.same_outcome(session.outcome.resized(len(seen[key].chosen)), seen[key])
        else:
            solved = small.Exact(session.reconstruction).solve(session.state)
            assert session.outcome.objective == pytest.approx(solved.objective, abs=1e-9)
        seen[key] = session.outcome
    assert session.state == fold(session.operations)
    operations, state, outcome = session.operations, session.state, session.outcome
    with reopened(session, small) as again:
        assert again.operations == operations
        assert again.state.pins == state.pins
        assert small.same_outcome(again.outcome, outcome)
        while again.state.done:
            again.undo()
        assert small.same_outcome(again.outcome.resized(len(found.kind)), found.outcome)
        assert again.reconstruction.generation == 0
    with Session(session.path, small.Exact) as again:
        for _ in state.done:
            again.redo()
        assert again.state.pins == state.pins
        assert small.same_outcome(again.outcome, outcome)
        with pytest.raises(DataError, match="nothing to redo"):
            while True:
                again.redo()


def test_opening_undo_and_redo_solve_nothing(session, small):
    for link in session.links().id[:3]:
        session.reject(int(link))
    calls = small.Exact.calls
    with reopened(session, small) as again:
        again.undo()
        again.undo()
        again.redo()
        again.note("done")
        again.skip(int(again.links().id[0]))
    assert small.Exact.calls == calls


def test_pins_that_clash_are_refused_and_nothing_is_lost(session, small, found):
    link = int(session.links().id[0])
    session.accept(link)
    before = session.operations, session.state, session.outcome
    clashing = next(
        other for other in session.alternatives(link, 50)
        if found.sources[other, 0] == found.sources[link, 0] >= 0
        or found.targets[other, 0] == found.targets[link, 0] >= 0
    )  # fmt: skip
    with pytest.raises(small.ClashError, match="clash"):
        session.choose(next(int(i) for i in session.links().id if i != link), clashing)
    assert (session.operations, session.state, session.outcome) == before
    session.undo()
    session.choose(link, clashing)
    assert session.outcome.chosen[clashing]
    assert session.state.statuses[link] == Status.CHANGED


def test_a_solver_that_fails_changes_nothing(path):
    class Broken:
        answer = None

        def __init__(self, found):
            self.found = found

        def solve(self, state):
            if self.answer is None:
                raise ZeroDivisionError
            return self.answer

    with Session(path, Broken) as session:
        link = int(session.links().id[0])
        with pytest.raises(ZeroDivisionError):
            session.reject(link)
        Broken.answer = session.outcome  # keeps the link, against the pin
        with pytest.raises(DataError, match="does not keep to what was decided"):
            session.reject(link)
        Broken.answer = session.outcome.resized(5)
        with pytest.raises(DataError, match=r"has \[5\] entries"):
            session.reject(link)
        assert session.operations == ()
        assert session.state == State()


def test_without_a_solver_one_can_look_undo_and_note(path, session):
    session.reject(int(session.links().id[0]))
    session.close()
    with Session(path) as again:
        again.note("seen")
        again.undo()
        again.undo()
        assert not again.state.pins
        with pytest.raises(DataError, match="without a solver"):
            again.accept(int(again.links().id[0]))


def test_a_link_by_hand(session, found):
    listed = session.links()
    link = int(listed.id[listed.kind == 0][0])
    source = int(found.sources[link, 0])
    same = {
        tuple(t)
        for s, t in zip(found.sources.tolist(), found.targets.tolist(), strict=True)
        if s == [source, -1]
    }
    target = next(int(j) for j in np.flatnonzero(found.z == found.z[source] + 1) if (j, -1) not in same)
    operation = session.add_link([source], [target], link=link, cost=0.25)
    made = len(found.kind)
    assert operation.payload["variable"] == made
    assert session.outcome.chosen[made]
    assert not session.outcome.chosen[link]
    rows = session.links()
    row = rows.find(made)
    assert rows.sources[row].tolist() == [source, -1]
    assert rows.cost[row] == 0.25
    assert Status(rows.status[row]) == Status.ACCEPTED
    assert Status(rows.status[rows.find(link)]) == Status.CHANGED
    again = session.add_link([source], [target])  # it is there already
    assert (again.kind, again.payload["link"]) == ("accept", made)
    session.undo()
    session.undo()
    assert len(session.outcome.chosen) == made + 1
    assert not session.outcome.chosen[made]
    with pytest.raises(DataError, match=f"no link {made}"):
        session.accept(made)
    assert session.add_link([source], [target]).payload["variable"] == made + 1


def test_a_painted_region_is_linked_by_hand(session, found, small):
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    session.add_region(1, 2, 2, mask)
    number = len(found.z)
    session.add_link([0], [number])
    session.add_link([number], [int(np.flatnonzero(found.z == 2)[0])])
    assert session.outcome.chosen[-2:].all()
    covered = np.unique(found.nodes[1, 3:7, 3:7])
    used = set(found.targets[session.outcome.chosen[: len(found.kind)]].ravel().tolist())
    hypotheses = found.hypotheses()
    for leaf in covered:
        assert not used & set(hypotheses.path(int(leaf)))
    rows = session.links()
    assert rows.z[rows.find(len(found.kind) + 2)] == 0  # after the two ends of the region
    assert rows.z[rows.find(len(found.kind) + 3)] == 1
    with reopened(session, small) as again:
        assert np.array_equal(again.state.regions[number].mask, mask)
        assert again.outcome.objective == session.outcome.objective


@pytest.mark.parametrize(
    ("sources", "targets", "words"),
    [
        ([], [], "one or two of one slice"),
        ([0, 1], [6, 7], "not two on both sides"),
        ([0], [12], "from slice 0 to slice 2"),
        ([6], [0], "from slice 1 to slice 0"),
        ([0, 6], [12], "one or two of one slice"),
        ([0], [99], "no region 99"),
    ],
)
def test_links_that_cannot_be(session, sources, targets, words):
    with pytest.raises(DataError, match=words):
        session.add_link(sources, targets)
    assert session.operations == ()


def test_partners_may_not_overlap(session, found):
    inner = int(np.flatnonzero(found.parent >= 0)[0])
    below = int(np.flatnonzero(found.z == 1)[0])
    with pytest.raises(DataError, match="overlap"):
        session.add_link([int(found.parent[inner]), inner], [below])
    session.add_region(0, 0, 0, found.nodes[0] == inner)
    session.add_region(0, 0, 0, found.nodes[0] != inner)
    session.add_region(0, 3, 3, np.ones((6, 6), bool))
    first, second, third = range(len(found.z), len(found.z) + 3)
    for pair in ((inner, first), (int(found.parent[inner]), first), (first, third), (second, third)):
        with pytest.raises(DataError, match="overlap"):
            session.add_link(pair, [below])
    session.add_link([first, second], [below])


@pytest.mark.parametrize(
    ("place", "mask"),
    [((9, 0, 0), np.ones((2, 2))), ((0, 11, 0), np.ones((2, 2))), ((0, 0, -1), np.ones((2, 2))),
     ((0, 0, 0), np.zeros((2, 2))), ((0, 0, 0), np.ones(3))],
)  # fmt: skip
def test_regions_that_cannot_be(session, place, mask):
    with pytest.raises(DataError, match="was painted"):
        session.add_region(*place, mask)


def test_unknown_links_are_refused(session, found):
    n = len(found.kind)
    for link in (n, -1, -2, 10**9):
        for say in (session.accept, session.reject, session.skip, session.do_not_know, session.alternatives):
            with pytest.raises(DataError, match="no link"):
                say(link)
        with pytest.raises(DataError, match="no link"):
            session.note("x", link)
    link = int(session.links().id[0])
    for k in (0, 10):
        with pytest.raises(DataError, match=f"no alternative {k}"):
            session.choose_alternative(link, k)
    with pytest.raises(DataError, match="asked about"):
        session.choose(link, link)
    assert session.operations == ()


def test_two_kinds_of_settings(session, small):
    calls = small.Exact.calls
    session.change_setting("order", "impact")
    assert small.Exact.calls == calls
    session.change_setting("price of nothing", 3.0, solves=True)
    assert small.Exact.calls == calls + 1
    assert session.state.settings == {"order": "impact", "price of nothing": 3.0}


def test_reading_beside_an_editor(session, small):
    with Session(session.path, mode="read") as reader:
        link = int(session.links().id[0])
        session.reject(link)
        assert reader.state.pins == {}
        assert reader.refresh() == 1
        assert reader.state.pins == {link: 0}
        assert small.same_outcome(reader.outcome, session.outcome)
        for act in (reader.undo, lambda: reader.note("x"), lambda: reader.skip(link)):
            with pytest.raises(SourcePermissionError, match="only to read"):
                act()


def test_several_threads_may_decide(session):
    links = [int(link) for link in session.links().id]
    refused = []

    def work(part):
        for link in part:
            try:
                session.accept(link)
                session.note("x", link)
            except EmSegError as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(links[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert [o.id for o in session.operations] == list(range(1, 2 * len(links) + 1))
    assert session.state.pins == dict.fromkeys(links, 1)
    assert session.state == fold(session.operations)


def test_a_closed_session_says_so(session):
    link = int(session.links().id[0])
    session.close()
    session.close()
    for act in (session.undo, session.refresh, lambda: session.reject(link)):
        with pytest.raises(DataError, match="is closed"):
            act()


def test_an_interrupt_between_disk_and_memory_is_made_good(session, small, monkeypatch):
    """What is on the disk but not in memory is read by the next operation."""
    append = session._journal.append

    def interrupted(operation):
        append(operation)
        raise KeyboardInterrupt

    monkeypatch.setattr(session._journal, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.reject(int(session.links().id[0]))
    monkeypatch.undo()
    session.note("and on")
    assert [o.kind for o in session.operations] == ["reject", "note"]
    assert session.outcome.objective == small.Exact(session.reconstruction).solve(session.state).objective


def test_who_looks_does_not_wait_for_the_solver(path, small):
    """The list, alternatives and errors left are there while another thread solves."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(small.Exact):
        def solve(self, state):
            begun.set()
            assert go_on.wait(30)
            return super().solve(state)

    with Session(path, Slow) as session:
        view, link = session.view, int(session.links().id[0])
        thread = threading.Thread(target=session.reject, args=(link,))
        thread.start()
        assert begun.wait(30)
        assert session.view is view
        assert len(session.links()) == len(view.links)
        assert session.alternatives(link)
        assert session.expected().n_open == len(view.links)
        go_on.set()
        thread.join()
        assert session.state.pins == {link: 0}
        assert view.state == State()
        assert view.outcome.chosen[link]


def test_a_preview_changes_nothing(session, small):
    link = int(session.links().id[0])
    before = session.view
    seen = session.preview(drafts.decide(link, False, False, {}))
    assert not seen.outcome.chosen[link]
    assert seen.outcome.objective > before.outcome.objective
    assert session.view is before
    session.reject(link)
    assert small.same_outcome(session.outcome, seen.outcome)
