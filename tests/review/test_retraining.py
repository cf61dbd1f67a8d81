"""Retraining: new costs only where verdicts that the trainer has not seen say that they are better."""

import shutil
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.review import Samples, Session, retrain, samples_of
from napari_em_seg.review.retraining import judge, split


@dataclass
class Model:
    """Gives each assignment a probability, and costs that are made of it."""

    p: np.ndarray
    found: object
    model: dict = field(default_factory=lambda: {"name": "table"})

    @property
    def costs(self):
        return -np.log(self.p) * (self.found.costs > 0)

    @property
    def nothing(self):
        return self.found.nothing

    def predict(self, links):
        return self.p[links]


def samples(rights):
    n = len(rights)
    return Samples(np.arange(n), np.array(rights, bool), np.arange(1, n + 1))


def reviewed(session, truth, n=10):
    """Decide on links as they come, by a table of which assignments are true."""
    for link in np.argsort(session.reconstruction.costs).tolist():
        if len(session.state.verdicts) == n:
            break
        with suppress(ValueError):  # a clash with what was decided before
            session.accept(link) if truth[link] else session.reject(link)
    return len(session.state.verdicts)


@pytest.fixture
def truth(found):
    return found.outcome.chosen | (np.random.default_rng(0).random(len(found.kind)) < 0.3)


def test_samples_are_what_people_said(session, found):
    links = [int(i) for i in session.links().id]
    session.accept(links[0])
    session.skip(links[1])
    session.do_not_know(links[2])
    choice = next(a for a in session.alternatives(links[3]) if not session.outcome.chosen[a])
    session.choose(links[3], choice)
    session.reject(links[4])
    session.note("odd", links[4])
    found_samples = samples_of(session.state, len(found.kind))
    assert list(zip(found_samples.link, found_samples.is_right, found_samples.verdict, strict=True)) == [
        (links[0], True, 1), (links[3], False, 4), (choice, True, 4), (links[4], False, 5),
    ]  # fmt: skip
    session.undo()
    session.undo()
    assert len(samples_of(session.state, len(found.kind))) == 3
    assert len(samples_of(session.state, 0)) == 0


def test_whole_verdicts_are_held_out():
    drawn = Samples(np.arange(60), np.arange(60) % 2 == 0, np.repeat(np.arange(30), 2))
    drawn.is_right[:20] = True  # verdicts 0 to 9 found no error
    held_out = split(drawn, 0.25, 3)
    assert 6 <= held_out.sum() / 2 <= 9
    for verdict in range(30):
        assert len(set(held_out[drawn.verdict == verdict])) == 1
    assert 0 < held_out[:20].sum() < 20
    assert 0 < held_out[20:].sum() < 40
    assert np.array_equal(held_out, split(drawn, 0.25, 3))
    assert not np.array_equal(held_out, split(drawn, 0.25, 4))


def test_a_report_compares_losses():
    rights = samples([True, True, False, False])
    report = judge(lambda links: np.full(4, 0.5), lambda links: np.array([0.8, 0.8, 0.2, 0.2]), rights, 10)
    assert report.loss_before == pytest.approx(np.log(2))
    assert report.loss_after == pytest.approx(-np.log(0.8))
    assert report.is_better
    worse = judge(lambda links: np.full(4, 0.5), lambda links: np.array([0.2, 0.8, 0.8, 0.2]), rights, 10)
    assert not worse.is_better
    with pytest.raises(DataError, match="one number for each"):
        judge(lambda links: np.full(3, 0.5), lambda links: np.full(4, 0.5), rights, 1)


def test_better_costs_are_adopted_solved_and_kept(session, found, truth, small):
    seen = []
    assert reviewed(session, truth) == 10
    before, pins = session.outcome, dict(session.state.pins)

    def trainer(given):
        seen.append(given)
        return Model(np.where(truth, 0.9, 0.1), found)

    report, operation = retrain(session, trainer, lambda links: np.full(len(links), 0.5), user="ann", least=8)
    assert report.is_better
    assert report.n_train + report.n_held_out == 10
    assert len(seen[0]) == report.n_train
    assert operation.kind == "retrain"
    assert operation.payload["model"] == {"name": "table"}
    assert operation.payload["report"]["loss_after"] == report.loss_after
    assert session.reconstruction.generation == 1
    assert session.state.pins == pins
    solved = small.Exact(session.reconstruction).solve(session.state)
    assert session.outcome.objective == operation.objective_after == pytest.approx(solved.objective)
    after = session.outcome
    session.note("and on")
    session.close()
    with Session(session.path, small.Exact) as again:
        assert small.same_outcome(again.outcome, after)
        assert np.array_equal(again.reconstruction.costs, Model(np.where(truth, 0.9, 0.1), found).costs)
        again.undo()
        again.undo()
        assert again.reconstruction.generation == 0
        assert small.same_outcome(again.outcome, before)
        again.redo()
        assert small.same_outcome(again.outcome, after)
        open_links = [int(i) for i in again.links().id if int(i) not in again.state.pins]
        again.accept(open_links[0])
        solved = small.Exact(again.reconstruction).solve(again.state)
        assert again.outcome.objective == pytest.approx(solved.objective)


def test_costs_that_are_no_better_stay_out(session, found, truth):
    reviewed(session, truth)
    before = session.operations, session.outcome
    files = sorted(p.name for p in (session.path / "generations").iterdir())
    report, operation = retrain(
        session,
        lambda given: Model(np.where(truth, 0.3, 0.7), found),
        lambda links: np.full(len(links), 0.5),
        least=8,
    )
    assert operation is None
    assert not report.is_better
    assert (session.operations, session.outcome) == before
    assert sorted(p.name for p in (session.path / "generations").iterdir()) == files


def test_too_few_verdicts(session):
    session.accept(int(session.links().id[0]))
    with pytest.raises(DataError, match=r"1 verdicts to learn from.*Review more links first"):
        retrain(session, lambda given: None, lambda links: links)
    with pytest.raises(DataError, match="between 0 and 1"):
        retrain(session, lambda given: None, lambda links: links, held_out=1.0)


def test_a_generation_that_nothing_refers_to_does_no_harm(session, found, truth, small):
    """Killed after the new costs were written and before the operation was."""
    reviewed(session, truth)
    shutil.copytree(session.path / "generations" / "0000", session.path / "generations" / "0001")
    model = Model(np.where(truth, 0.9, 0.1), found)
    _, operation = retrain(session, lambda given: model, lambda links: np.full(len(links), 0.5), least=8)
    assert operation.payload["generation"] == 2
    assert np.array_equal(session.reconstruction.costs, model.costs)
