"""The state is a fold over all operations: undo, redo and changes of mind, against a plain model of them."""

import itertools
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_em_seg.errors import FormatError
from napari_em_seg.review import AddedRegion, Operation, State, Status, fold
from napari_em_seg.review.state import active


def operations(*drafts):
    return [
        Operation(
            i, "2026-01-01T00:00:00.000+00:00", "ann", None, kind, payload, {"p_error": 0.3}, 1.0, 1.0, {}
        )
        for i, (kind, payload) in enumerate(drafts, 1)
    ]


def accept(link):
    return "accept", {"link": link, "pins": [[link, 1]]}


def reject(link):
    return "reject", {"link": link, "pins": [[link, 0]]}


def choose(link, choice):
    return "alternative", {"link": link, "choice": choice, "pins": [[link, 0], [choice, 1]]}


def test_nothing_done_is_the_empty_state():
    assert fold([]) == State()


def test_each_verdict():
    state = fold(
        operations(accept(1), reject(2), choose(3, 8), ("don't know", {"link": 4}), ("skip", {"link": 5}))
    )
    assert state.pins == {1: 1, 2: 0, 3: 0, 8: 1}
    assert state.statuses == {
        1: Status.ACCEPTED, 2: Status.REJECTED, 3: Status.CHANGED, 8: Status.ACCEPTED,
        4: Status.DO_NOT_KNOW, 5: Status.SKIPPED,
    }  # fmt: skip
    assert [(v.link, v.is_wrong, v.choice) for v in state.verdicts] == [
        (1, False, None), (2, True, None), (3, True, 8), (4, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("drafts", "pins", "statuses"),
    [
        ([accept(1), reject(1)], {1: 0}, {1: "rejected"}),
        ([choose(1, 2), accept(1)], {1: 1}, {1: "accepted"}),
        ([choose(1, 2), choose(1, 3)], {1: 0, 3: 1}, {1: "changed", 3: "accepted"}),
        ([choose(1, 2), ("don't know", {"link": 1})], {}, {1: "don't know"}),
        ([accept(1), ("skip", {"link": 1})], {1: 1}, {1: "accepted"}),
        ([choose(1, 2), reject(2)], {1: 0, 2: 0}, {1: "changed", 2: "rejected"}),
        ([choose(1, 2), reject(2), accept(1)], {2: 0, 1: 1}, {2: "rejected", 1: "accepted"}),
        ([accept(2), choose(1, 2), accept(1)], {1: 1}, {1: "accepted"}),
        ([("don't know", {"link": 1}), accept(1)], {1: 1}, {1: "accepted"}),
    ],
)
def test_a_change_of_mind_takes_back_what_was_said_before(drafts, pins, statuses):
    state = fold(operations(*drafts))
    assert state.pins == pins
    assert {link: status.title for link, status in state.statuses.items()} == statuses


def test_a_link_made_by_hand_is_pinned_and_its_number_is_never_used_again():
    made = ("by hand", {"variable": 100, "kind": 0, "sources": [1, -1], "targets": [5, -1], "cost": 0.5,
                        "link": 3, "pins": [[3, 0], [100, 1]]})  # fmt: skip
    state = fold(operations(made))
    assert state.links[100].sources == (1, -1)
    assert state.pins == {3: 0, 100: 1}
    assert state.statuses == {3: Status.CHANGED, 100: Status.ACCEPTED}
    undone = fold(operations(made, ("undo", {"target": 1})))
    assert (undone.links, undone.pins, undone.n_links) == ({}, {}, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["edit", "undo", "redo"]), max_size=60))
def test_undo_and_redo_of_any_depth_as_in_a_plain_model(steps):
    """The model keeps all states in a list, with a place in it."""
    drafts, numbers = [], []
    history, place = [State()], 0
    stack, redo = [], []
    for number in itertools.count():
        if number == len(steps):
            break
        step = steps[number]
        if step == "edit":
            drafts.append(accept(number) if number % 3 else reject(number // 2))
            stack.append(len(drafts))
            redo = []
            numbers = [*numbers[:place], drafts[-1]]
            history, place = [*history[: place + 1], fold(operations(*numbers))], place + 1
        elif step == "undo" and place:
            redo.append(stack.pop())
            drafts.append(("undo", {"target": redo[-1]}))
            place -= 1
        elif step == "redo" and place < len(history) - 1:
            stack.append(redo.pop())
            drafts.append(("redo", {"target": stack[-1]}))
            place += 1
    state, expected = fold(operations(*drafts)), history[place]
    assert (state.pins, state.statuses) == (expected.pins, expected.statuses)
    assert [v.link for v in state.verdicts] == [v.link for v in expected.verdicts]
    assert (list(state.done), list(state.undone)) == (stack, redo)


def test_everything_but_undo_redo_and_moves_can_be_undone():
    drafts = [
        ("note", {"text": "odd", "link": 4}), ("setting", {"name": "threshold", "value": 0.4, "solves": True}),
        ("retrain", {"generation": 1, "model": {}, "report": {}}), ("moved", {"name": "image", "path": "b"}),
    ]  # fmt: skip
    state = fold(operations(*drafts))
    assert state.notes[0].text == "odd"
    assert (state.settings, state.solving) == ({"threshold": 0.4}, {"threshold"})
    assert state.question[2:] == (1, {"threshold": 0.4})
    back = fold(operations(*drafts, *(("undo", {"target": k}) for k in (3, 2, 1))))
    assert back == State(moved={"image": "b"}, undone=(3, 2, 1))


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (("dance", {}), "'dance'"),
        (("undo", {"target": 7}), "not the last one"),
        (("redo", {"target": 1}), "not the last one"),
        (("accept", {"link": 3}), "lacks something"),
        (("retrain", {}), "lacks something"),
    ],
)
def test_a_journal_that_makes_no_sense_is_refused(draft, words):
    with pytest.raises(FormatError, match=words):
        fold(operations(accept(1), draft))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.floats(0, 1))
def test_painted_regions_come_back(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    again = AddedRegion.from_payload(asdict(AddedRegion.from_mask(2, 3, 4, mask, "propagated")))
    assert (again.z, again.y, again.x, again.origin) == (2, 3, 4, "propagated")
    assert again.mask.dtype == bool
    assert np.array_equal(again.mask, mask)


def test_ten_thousand_operations():
    listed = operations(*(accept(i) if i % 3 else choose(i, i + 20_000) for i in range(10_000)))
    state = fold(listed)
    assert len(state.statuses) == 10_000 + 3334
    assert len(active(listed)[0]) == 10_000
