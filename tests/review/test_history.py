"""History: listed, exported, and replayed on a fresh copy with an equal result; the pace of a reviewer."""

import csv
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from napari_em_seg.errors import TargetExistsError
from napari_em_seg.review import (
    Operation,
    Session,
    copy_fresh,
    curve,
    describe,
    fold,
    replay,
    verdicts_per_minute,
    write_history,
    write_links,
)


def choose_what_fits(session, link):
    """Choose the first alternative that does not clash with what was decided before."""
    for k in range(1, 10):
        with suppress(ValueError):
            return session.choose_alternative(link, k)
    raise AssertionError


@pytest.fixture
def edited(session, small):
    """Return a session in which all kinds of things were done."""
    rng = np.random.default_rng(11)
    links = [int(i) for i in session.links().id]
    session.accept(links[0], duration_s=2.0)
    choose_what_fits(session, links[1])
    session.add_region(1, 2, 3, np.ones((3, 3), bool), "propagated")
    small.retrain(session, rng)
    session.skip(links[2])
    session.do_not_know(links[3])
    session.change_setting("order", "impact")
    session.undo()
    session.undo()
    session.redo()
    while len(session.operations) < 40:
        small.random_edit(session, rng)
    return session


def test_a_replay_on_a_fresh_copy_has_an_equal_result(edited, small, tmp_path):
    kinds = {operation.kind for operation in edited.operations}
    assert kinds > {
        "accept",
        "alternative",
        "region",
        "retrain",
        "skip",
        "don't know",
        "setting",
        "undo",
        "redo",
    }
    fresh = copy_fresh(edited.path, tmp_path / "fresh.emseg")
    with Session(fresh, small.Exact, user="ben") as again:
        assert again.operations == ()
        assert again.reconstruction.generation == 0
        replay(edited.operations, again)
        assert again.operations == edited.operations
        assert again.state == edited.state
        assert small.same_outcome(again.outcome, edited.outcome)
    with Session(fresh) as again:
        assert again.operations == edited.operations
    assert {p.name for p in tmp_path.iterdir()} == {"a.emseg", "fresh.emseg"}


def test_json_lines_hold_everything(edited, tmp_path):
    write_history(edited.operations, tmp_path / "h.jsonl")
    lines = (tmp_path / "h.jsonl").read_text("utf-8").splitlines()
    again = [Operation(**json.loads(line)) for line in lines]
    assert again == list(edited.operations)
    assert fold(again) == edited.state
    with pytest.raises(TargetExistsError):
        write_history(edited.operations, tmp_path / "h.jsonl")


def test_csv_has_one_row_for_each_operation(edited, tmp_path):
    write_history(edited.operations, tmp_path / "h.csv")
    with (tmp_path / "h.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["id"]) for row in rows] == [o.id for o in edited.operations]
    assert [row["kind"] for row in rows] == [o.kind for o in edited.operations]
    assert rows[0]["user"] == "ann"
    assert float(rows[0]["duration_s"]) == 2
    assert rows[1]["link"] == str(edited.operations[1].payload["link"])
    assert describe(edited.operations[7])["target"] == edited.operations[7].payload["target"]


def test_links_as_csv(edited, tmp_path):
    links = edited.links().sorted_by("p_error")
    write_links(links, tmp_path / "links.csv")
    with (tmp_path / "links.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["id"]) for row in rows] == links.id.tolist()
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, len(links) + 1)]
    for row, sources in zip(rows, links.sources, strict=True):
        assert [int(i) for i in row["sources"].split()] == [i for i in sources.tolist() if i >= 0]
    write_links(links[:0], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == ""


def timed(kind, seconds, duration=None):
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return Operation(1, time.isoformat(), "ann", duration, kind, {}, {}, 0.0, 0.0, {})


def test_pace():
    assert verdicts_per_minute([]) == 0
    assert verdicts_per_minute([timed("note", 0)]) == 0
    assert verdicts_per_minute([timed("accept", 0, 6), timed("reject", 100, 6)]) == pytest.approx(10)
    steady = [timed("accept", 5 * i) for i in range(20)]
    assert verdicts_per_minute(steady) == pytest.approx(12)
    after_lunch = [*steady, *(timed("accept", 5000 + 5 * i) for i in range(20))]
    assert verdicts_per_minute(after_lunch) == pytest.approx(12)
    faster = [*steady, *(timed("accept", 100 + i, 1.0) for i in range(50))]
    assert verdicts_per_minute(faster, last=50) == pytest.approx(60)


def test_the_curve_falls_as_links_are_accepted(session):
    links = session.links().sorted_by("p_error")
    before = session.expected()
    for link in links.id[:3]:
        session.accept(int(link))
    session.note("no verdict")
    points = curve(session.operations)
    assert [point.n_verdicts for point in points] == [1, 2, 3]
    assert [point.operation for point in points] == [1, 2, 3]
    assert before.mean > points[0].mean > points[1].mean > points[2].mean
    now = session.expected()
    assert points[-1].mean == pytest.approx(now.mean)
    assert (points[-1].low, points[-1].high) == (now.low, now.high)
    session.undo()
    session.undo()
    assert len(curve(session.operations)) == 2
