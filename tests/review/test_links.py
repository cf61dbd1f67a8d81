"""The list of links: against a plain reading of the definitions."""

from dataclasses import replace

import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.review import Links, Outcome, Reconstruction, Scores, State, Status, link_name, parse_link
from napari_em_seg.review.alternatives import Alternatives
from napari_em_seg.review.links import KINDS, links_of


def plain_objects(found, chosen):
    """Join the ends of all chosen assignments, one by one."""
    label = {}
    for a in np.flatnonzero(chosen):
        ends = [int(i) for i in (*found.sources[a], *found.targets[a]) if i >= 0]
        joined = {i for i, part in label.items() if part in {label.get(e) for e in ends} - {None}} | set(ends)
        label |= dict.fromkeys(joined, min(joined))
    return {i: part + 1 for i, part in label.items()}


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_the_chosen_links_and_those_spoken_of(small, seed):
    found = small.reconstruction(seed)
    spoken = {int(np.flatnonzero(~found.outcome.chosen)[3]): Status.REJECTED}
    links = links_of(found, found.outcome, State(statuses=spoken))
    objects = plain_objects(found, found.outcome.chosen)
    expected = {}
    for a in range(len(found.kind)):
        kind, s, t = KINDS[found.kind[a]], found.sources[a].tolist(), found.targets[a].tolist()
        z = found.z[s[0]] if s[0] >= 0 else found.z[t[0]] - 1
        is_border = (kind == "appearance" and z == -1) or (kind == "disappearance" and z == 3)
        if (found.outcome.chosen[a] or a in spoken) and not is_border:
            first = s[0] if s[0] >= 0 else t[0]
            expected[a] = (kind, z, s, t, found.costs[a], objects.get(first, 0), spoken.get(a, Status.OPEN))
    got = {
        int(links.id[r]): (
            KINDS[links.kind[r]], links.z[r], links.sources[r].tolist(), links.targets[r].tolist(),
            links.cost[r], links.object[r], links.status[r],
        )
        for r in range(len(links))
    }  # fmt: skip
    assert got == expected
    assert np.array_equal(links.p_error, found.outcome.scores.p_error[links.id], equal_nan=True)


def test_ends_in_the_first_and_last_slice_are_never_listed(small):
    found = small.reconstruction(4)
    everything = replace(found.outcome, chosen=np.ones(len(found.kind), bool))
    links = links_of(found, everything, State())
    ends = links[links.kind >= 3]
    assert len(ends) == 3 * 6 * 2  # in the three slices where each is an event
    assert set(zip(ends.kind.tolist(), ends.z.tolist(), strict=True)) == {
        (kind, z) for kind in (3, 4) for z in range(3)
    }
    assert len(links) == len(found.kind) - 12


def random_links(n, seed=0):
    rng = np.random.default_rng(seed)
    column = lambda: rng.random(n, np.float32)  # noqa: E731
    confidence = column()
    confidence[::7] = confidence[0]
    p_error = column()
    p_error[::50] = np.nan
    return Links(
        rng.permutation(n).astype(np.int64), rng.integers(0, 6, n).astype(np.int8),
        rng.integers(0, 40, n).astype(np.int32), np.zeros((n, 2), np.int32), np.zeros((n, 2), np.int32),
        rng.random(n), confidence, column(), p_error, column(), np.full(n, -1, np.int64),
        rng.integers(0, 6, n).astype(np.int8), rng.integers(0, 30, n).astype(np.int32),
    )  # fmt: skip


@pytest.mark.parametrize(("order", "sign"), [("confidence", 1), ("regret", 1), ("p_error", -1), ("impact", -1)])
def test_orders(order, sign):
    links = random_links(500)
    rows = sorted(range(500), key=lambda r: (
        np.isnan(getattr(links, order)[r]), sign * np.nan_to_num(getattr(links, order)[r]), links.id[r]
    ))  # fmt: skip
    assert links.sorted_by(order).id.tolist() == links.id[rows].tolist()


def test_an_order_that_is_none():
    with pytest.raises(DataError, match="confidence, regret, p_error, impact"):
        random_links(3).sorted_by("size")


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"kinds": [0, 5]}, {"kinds": []}, {"z": slice(3, 9)}, {"z": slice(None, 9)}, {"z": slice(30, None)},
        {"label": 4}, {"statuses": [0]}, {"kinds": [1], "z": slice(10, 30), "label": 7, "statuses": [1, 2, 3]},
    ],
)  # fmt: skip
def test_filters(asked):
    links = random_links(4000)
    z = asked.get("z", slice(None))
    rows = [
        r for r in range(4000)
        if links.kind[r] in asked.get("kinds", range(6)) and links.status[r] in asked.get("statuses", range(6))
        and (z.start is None or links.z[r] >= z.start) and (z.stop is None or links.z[r] < z.stop)
        and asked.get("label", links.object[r]) == links.object[r]
    ]  # fmt: skip
    assert links.where(**asked).id.tolist() == links.id[rows].tolist()


def test_open_are_those_without_an_answer():
    links = random_links(200)
    assert set(links.status[links.is_open].tolist()) == {Status.OPEN, Status.SKIPPED, Status.DO_NOT_KNOW}
    assert set(links.status[~links.is_open].tolist()) == {Status.ACCEPTED, Status.REJECTED, Status.CHANGED}


def test_a_draw_is_of_open_links_and_repeats():
    links = random_links(300)
    drawn = links.drawn(40, seed=2)
    assert len(np.unique(drawn.id)) == 40
    assert drawn.is_open.all()
    assert drawn.id.tolist() == links.drawn(40, seed=2).id.tolist() != links.drawn(40, seed=3).id.tolist()
    assert len(links.drawn(10**6)) == links.is_open.sum()


def test_names_of_links():
    for link, name in ((0, "0"), (412, "412"), (-2, "m0"), (-9, "m7")):
        assert link_name(link) == name
        assert parse_link(name) == link
    for text in ("", "m", "-1", "x7", "1.5", "mm1", "²"):
        with pytest.raises(DataError, match="number such as 412"):
            parse_link(text)


def test_rows_for_others(small):
    found = small.reconstruction(1)
    links = links_of(found, found.outcome, State()).sorted_by("confidence")
    rows = links.as_dicts()
    assert [row["rank"] for row in rows] == list(range(1, len(links) + 1))
    assert {row["status"] for row in rows} == {"open"}
    assert all(row["kind"] in KINDS and -1 not in row["sources"] + row["targets"] for row in rows)
    assert rows[0]["alternative"] == str(links.alternative[0])
    unknown = replace(found.outcome, scores=Scores.unknown(len(found.kind)))
    row = links_of(found, unknown, State()).as_dicts()[0]
    assert (row["confidence"], row["alternative"]) == (None, None)


def test_alternatives_are_what_cannot_hold_at_the_same_time(small):
    found = small.reconstruction(2)
    hypotheses, known = found.hypotheses(), Alternatives(found)
    for link in np.flatnonzero(found.outcome.chosen).tolist():
        expected = {
            a for a in range(len(found.kind)) if a != link
            for side in (found.sources, found.targets)
            if any(i >= 0 and j >= 0 and hypotheses.is_conflict(i, j) for i in side[link] for j in side[a])
        }  # fmt: skip
        best = int(found.outcome.scores.alternative[link])
        listed = known.of(link, found.costs, found.outcome, State(), 10**6)
        assert set(listed) == expected | {best}
        assert listed[0] == best
        assert (np.diff(found.costs[listed[1:]]) >= 0).all()
        assert known.of(link, found.costs, found.outcome, State()) == listed[:9]


def large(n_slices=40, n_regions=2500):
    """Return a long chain of continuations: 100,000 chosen links."""
    n = n_slices * n_regions
    z = np.repeat(np.arange(n_slices), n_regions).astype(np.int32)
    none = np.full(n, -1, np.int32)
    ids = np.arange(n, dtype=np.int32)
    sources = np.concatenate((ids[:-n_regions], none, ids))
    targets = np.concatenate((ids[n_regions:], ids, none))
    kind = np.repeat([0, 3, 4], [n - n_regions, n, n]).astype(np.int8)
    m, rng = len(kind), np.random.default_rng(0)
    p = rng.beta(0.3, 4, m).astype(np.float32)
    score = Scores(1 / (p + np.float32(1e-3)), p, p, p, np.roll(np.arange(m, dtype=np.int32), 3))
    chosen = np.zeros(m, bool)
    chosen[: n - n_regions] = True
    two = lambda side: np.stack((side, np.full(m, -1, np.int32)), 1)  # noqa: E731
    return Reconstruction(
        np.zeros((n_slices, 4, 4), np.int32), z, none, ids, np.zeros(n, np.float32), np.ones(n, np.float32),
        kind,
        two(sources), two(targets), np.zeros((m, 1), np.float32), rng.random(m), np.ones(n),
        Outcome(chosen, 1.0, 0.0, score),
    )  # fmt: skip


def test_the_list_of_a_large_stack():
    found = large()
    links = links_of(found, found.outcome, State())
    assert len(links) == 97_500
    assert len(np.unique(links.object)) == 2500
