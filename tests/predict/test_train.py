"""The training loop learns, repeats itself, survives being killed, and keeps the best network."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from napari_em_seg.errors import Cancelled, DataError, FormatError
from napari_em_seg.predict.train import BEST, CHECKPOINT, Plan, train
from napari_em_seg.predict.watch import Limit

PLAN = Plan(steps=60, learning_rate=0.05, warm_up=5, validate_every=20, save_every=7)


@dataclass
class Line:
    """Learn y = 3 x − 1 from noisy points."""

    delay: float = 0.0
    clock: Any = time
    scores: list[float] = field(default_factory=list)

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        self.clock.sleep(self.delay)
        x = rng.standard_normal((16, 1)).astype(np.float32)
        return torch.from_numpy(x), torch.from_numpy(3 * x - 1)

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return ((net(batch[0]) - batch[1]) ** 2).mean()

    def validate(self, net: nn.Module) -> dict[str, float]:
        if self.scores:
            return {"score": self.scores.pop(0)}
        return {"score": float((net(torch.ones(1, 1)) - 2).detach().abs())}


@dataclass
class Clock:
    """Time that passes only where somebody sleeps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("napari_em_seg.predict.train.time", found)
    return found


def a_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


def weights(net: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in net.parameters()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_it_learns(tmp_path: Path) -> None:
    net = a_net()
    before = Line().validate(net)["score"]
    trained = train(net, Line(), Plan(steps=300, learning_rate=0.05), tmp_path)
    assert trained.best["score"] < before / 10


def test_the_same_plan_gives_the_same_network_and_another_seed_another(tmp_path: Path) -> None:
    first, again, other = a_net(), a_net(), a_net()
    train(first, Line(), PLAN, tmp_path / "1")
    train(again, Line(), PLAN, tmp_path / "2")
    train(other, Line(), Plan(**{**PLAN.__dict__, "seed": 5}), tmp_path / "3")
    assert same(first, again)
    assert not same(first, other)


def test_a_cancelled_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, halves = a_net(), a_net()
    expected = train(whole, Line(), PLAN, tmp_path / "whole")
    steps: list[int] = []
    train(
        halves,
        Line(),
        PLAN,
        tmp_path / "halves",
        on_step=lambda step, _: steps.append(step),
        cancelled=lambda: len(steps) >= 33,
    )
    assert steps[-1] == 33
    trained = train(halves, Line(), PLAN, tmp_path / "halves", on_step=lambda step, _: steps.append(step))
    assert steps == list(range(1, 61))
    assert same(whole, halves)
    without_time = [{k: v for k, v in row.items() if k != "minutes"} for row in trained.curves]
    assert without_time == [{k: v for k, v in row.items() if k != "minutes"} for row in expected.curves]


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_train import *
train(a_net(), Line(delay=0.01), PLAN, Path(sys.argv[1]), on_step=lambda step, _: print(step, flush=True))
"""


def test_a_killed_run_loses_at_most_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent)), tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 30:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    steps: list[int] = []
    net, whole = a_net(), a_net()
    train(net, Line(), PLAN, tmp_path / "run", on_step=lambda step, _: steps.append(step))
    train(whole, Line(), PLAN, tmp_path / "whole")
    assert 30 - PLAN.save_every < steps[0] <= 36  # a few steps may have passed before the signal came
    assert same(net, whole)


def test_the_network_that_validated_best_is_kept(tmp_path: Path) -> None:
    snapshots: dict[int, list[np.ndarray]] = {}
    net = a_net()
    trained = train(
        net,
        Line(scores=[0.5, 0.1, 0.9]),
        PLAN,
        tmp_path,
        on_step=lambda step, _: snapshots.__setitem__(step, weights(net)),
    )
    assert trained.best_step == 40
    assert all(np.array_equal(a, b) for a, b in zip(weights(net), snapshots[40], strict=True))
    stored = safetensors.torch.load_file(tmp_path / BEST)
    assert np.array_equal(stored["0.weight"].numpy(), snapshots[40][0])


def test_curves_are_written_as_csv_and_png(tmp_path: Path) -> None:
    trained = train(a_net(), Line(), PLAN, tmp_path)
    with (tmp_path / "curves.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [20, 40, 60]
    assert float(rows[-1]["score"]) == trained.curves[-1]["score"]
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 5


def test_the_rate_rises_then_falls_to_zero() -> None:
    rates = [PLAN.rate(step) for step in range(PLAN.steps + 1)]
    assert max(rates) == pytest.approx(PLAN.learning_rate)
    assert np.argmax(rates) in (4, 5)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_checkpoint_of_another_plan_or_network_is_refused_and_kept(tmp_path: Path) -> None:
    train(a_net(), Line(), PLAN, tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(FormatError, match="another training plan"):
        train(a_net(), Line(), Plan(steps=9), tmp_path)
    with pytest.raises(FormatError, match="another network"):
        train(nn.Linear(1, 1), Line(), PLAN, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == content


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    train(a_net(), Line(), PLAN, tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(FormatError, match="Delete it"):
        train(a_net(), Line(), PLAN, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    class Broken(Line):
        def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            return super().loss(net, batch) * float("nan")

    with pytest.raises(DataError, match="learning rate"):
        train(a_net(), Broken(), PLAN, tmp_path)


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    train(a_net(), Line(), PLAN, tmp_path)
    with safetensors.safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["run"])["step"] == 60


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"steps": 5, "learning_rate": 0.0}])
def test_a_plan_that_makes_no_sense_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(DataError, match="training plan"):
        Plan(**numbers)


def test_a_new_run_forgets_the_best_of_the_one_before(tmp_path: Path) -> None:
    """Weights of a finished run once came back from one that was cancelled before its first validation."""
    train(a_net(), Line(), PLAN, tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    fresh = a_net()
    trained = train(fresh, Line(), PLAN, tmp_path, cancelled=lambda: True)
    assert trained.best == {}
    assert same(fresh, a_net())


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    class Odd(Line):
        def validate(self, net: nn.Module) -> dict[str, float]:
            return {"score": float("nan")}

    with pytest.raises(DataError, match="score of the validation"):
        train(a_net(), Odd(), PLAN, tmp_path)


def test_slow_steps_are_saved_by_the_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_em_seg.predict.train.SAVE_SECONDS", 0.0)
    plan, seen = Plan(steps=4, validate_every=4, save_every=100), []
    train(a_net(), Line(), plan, tmp_path, on_step=lambda *_: seen.append((tmp_path / CHECKPOINT).exists()))
    assert seen == [False, True, True, True]


def test_a_limit_in_time_ends_a_run_and_brings_the_rate_down(tmp_path: Path, clock: Clock) -> None:
    steps: list[int] = []
    told: list[tuple[int, int]] = []
    plan = Plan(steps=10**6, learning_rate=0.05, warm_up=5, validate_every=10**6)
    trained = train(
        a_net(), Line(0.01, clock), plan, tmp_path, limit=Limit(0.8, validations=4),
        on_step=lambda step, _: steps.append(step), progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert steps[-1] == pytest.approx(80, abs=1)
    assert len(trained.curves) == pytest.approx(4, abs=1)
    assert trained.curves[-1]["step"] == steps[-1]
    assert plan.rate(100, 0.5) == pytest.approx(0.025, rel=0.01)
    assert plan.rate(100, 1.0) == pytest.approx(0, abs=1e-6)
    assert told[-1][0] <= told[-1][1]


def test_the_time_of_both_halves_counts(tmp_path: Path, clock: Clock) -> None:
    plan = Plan(steps=10**6, validate_every=10**6)
    steps: list[int] = []
    options = {"limit": Limit(0.6), "on_step": lambda step, _: steps.append(step)}
    train(a_net(), Line(0.01, clock), plan, tmp_path, cancelled=lambda: len(steps) >= 10, **options)
    clock.sleep(1000)  # what passes in between is nobody's
    train(a_net(), Line(0.01, clock), plan, tmp_path, **options)
    assert steps[-1] == pytest.approx(60, abs=1)


def test_whoever_has_enough_ends_it_and_the_best_is_kept(tmp_path: Path) -> None:
    steps: list[int] = []
    trained = train(a_net(), Line(), PLAN, tmp_path, on_step=lambda step, _: steps.append(step),
                    is_enough=lambda: len(steps) >= 25)  # fmt: skip
    assert [row["step"] for row in trained.curves] == [20, 25]
    # also where nothing was learned since a run was paused
    trained = train(a_net(), Line(), PLAN, tmp_path / "none", is_enough=lambda: True)
    assert [row["step"] for row in trained.curves] == [0]
    assert trained.best


def test_a_network_that_validates_best_before_the_first_step_stays_as_it_was(tmp_path: Path) -> None:
    net, before = a_net(), weights(a_net())
    trained = train(net, Line(scores=[0.1, 0.5, 0.5, 0.5]), PLAN, tmp_path, validates_first=True)
    assert trained.best_step == 0
    assert all(np.array_equal(a, b) for a, b in zip(weights(net), before, strict=True))


def test_a_validation_that_was_cancelled_is_made_up_for(tmp_path: Path) -> None:
    class Impatient(Line):
        def validate(self, net: nn.Module) -> dict[str, float]:
            raise Cancelled("no time")

    train(a_net(), Impatient(), PLAN, tmp_path)
    net, whole = a_net(), a_net()
    trained = train(net, Line(), PLAN, tmp_path)
    expected = train(whole, Line(), PLAN, tmp_path / "whole")
    assert [row["step"] for row in trained.curves] == [20, 40, 60]
    assert trained.best == expected.best
    assert same(net, whole)
