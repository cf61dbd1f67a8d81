"""The one training loop, for any network and any loss; a run that is killed goes on where it was."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_em_seg.errors import Cancelled, DataError, EmSegError, FormatError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.predict.device import channels_last, lay_out
from napari_em_seg.predict.watch import Limit
from napari_em_seg.volume import Progress

__all__ = ["Plan", "Task", "Trained", "train"]

_log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
CHECKPOINT, BEST, CURVES = "checkpoint.safetensors", "best.safetensors", "curves"


class Task(Protocol):
    """What is learned: where crops come from, what is wrong with an answer, how good a network is."""

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw inputs and targets, on the CPU; the same generator gives the same batch."""
        ...

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Say how wrong the network is on a batch, as one number to descend."""
        ...

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Measure the network on validation slices; ``score`` decides which one is kept: less is better."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast; with the same plan, task and seed the same network comes out.

    Parameters
    ----------
    steps
        Batches in all.
    learning_rate
        At its highest; it rises over ``warm_up`` steps and falls to zero along a cosine.
    weight_decay
        Of AdamW.
    warm_up
        Steps.
    validate_every
        Steps between validations; the last step is always followed by one.
    save_every
        Steps between checkpoints, at most this much is lost when the run is killed.
    seed
        Of the batches; that of the first weights is the caller's, who builds the network.
    """

    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: int = 100
    validate_every: int = 500
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.save_every) < 1 or self.learning_rate <= 0:
            raise DataError(
                f"The training plan is {self}",
                "at least one step and a positive learning rate",
                "Give larger numbers",
            )
        if not 0 <= self.seed < 2**63:
            raise DataError(
                f"The seed is {self.seed}", "a whole number from 0 to 2⁶³ − 1", "Give one such as 0"
            )

    def rate(self, step: int, share: float = 0.0) -> float:
        """Learning rate: linear rise, then ``(1 + cos(π t)) / 2`` with t from 0 to 1.

        t is that of the steps, or the share of the time that is over, if that is more.
        """
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = max(share, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.learning_rate * (1 + math.cos(math.pi * min(1.0, done))) / 2


@dataclass
class Trained:
    """How a run went: all its curves, and what the best network scored."""

    curves: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)


def train(
    net: nn.Module,
    task: Task,
    plan: Plan,
    folder: Path,
    *,
    device: torch.device | None = None,
    half: bool | None = None,
    about: str = "",
    on_step: Callable[[int, float], object] | None = None,
    on_validation: Callable[[Mapping[str, float]], object] | None = None,
    progress: Progress = None,
    limit: Limit | None = None,
    is_enough: Callable[[], bool] = lambda: False,
    validates_first: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a network in place, and leave in it the weights that validated best.

    Parameters
    ----------
    net
        The network; a checkpoint in the folder takes the place of its weights.
    task, plan
        What and how long.
    folder
        Holds the checkpoint, the best weights, and the curves as CSV and PNG.
    device
        Where to compute; by default the CPU.
    half
        Whether convolutions work in bfloat16 (the weights stay float32); None: where a GPU can do it, which
        halves the time of a step.
    about
        Stands for all else that decides what comes out, such as the data; a checkpoint of another is refused.
    on_step
        Called with the number of steps done and the loss.
    on_validation
        Called with each new row of the curves.
    progress
        Called with steps done and steps in all; where time is limited, with seconds.
    limit
        Of time; then what comes out hangs on the machine.
    is_enough
        Asked after every step; when it says yes, the run ends as if its steps were done.
    validates_first
        Whether the network is validated before the first step, and kept if none is better.
    cancelled
        Asked after every step; when it says yes, the checkpoint is written and the run ends early. A
        validation may raise `Cancelled`; it is made up for when the run goes on.
    """
    device = device or torch.device("cpu")
    run = _Run(net, task, plan, folder, device, _has_bfloat16(device) if half is None else half, about)
    run.resume()

    def validate() -> None:
        run.validate()
        if on_validation is not None:
            on_validation(run.trained.curves[-1])

    try:
        if validates_first and run.step == 0 and not run.trained.curves and not cancelled():
            validate()
        while not cancelled():
            is_last = run.share(limit) >= 1 or is_enough()
            if run.is_unjudged(limit, is_last):
                validate()
            if is_last:
                break
            loss = run.advance(limit)
            if on_step is not None:
                on_step(run.step, loss)
            if progress is not None:
                progress(*run.progress(limit))
            if run.is_due(plan.save_every):
                run.save()
    except Cancelled:
        _log.info("cancelled while validating after step %d", run.step)
    run.save()
    run.keep_best()
    return run.trained


class _Run:
    """The state of a training run, all of which is in its checkpoint."""

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        plan: Plan,
        folder: Path,
        device: torch.device,
        half: bool,
        about: str,
    ) -> None:
        _make(folder)
        self._net, self._task, self._plan = lay_out(net.to(device)), task, plan
        self._folder, self._device, self._half, self._about = folder, device, half, about
        self._optimizer = torch.optim.AdamW(
            net.parameters(), plan.learning_rate, weight_decay=plan.weight_decay
        )
        self._started = self._saved = time.monotonic()
        self._judged = 0.0  # seconds after which the network was validated last
        self._losses: list[float] = []
        self.step = 0
        self.trained = Trained()

    @property
    def seconds(self) -> float:
        """How long the run has taken, all its parts together."""
        return time.monotonic() - self._started

    def share(self, limit: Limit | None) -> float:
        """How much of the run is over, by steps or by time; 1 at its end."""
        by_time = 0.0 if limit is None else self.seconds / limit.seconds
        return max(self.step / self._plan.steps, by_time)

    def progress(self, limit: Limit | None) -> tuple[int, int]:
        """Return how much is done of how much: steps, or seconds where these will be over first."""
        if limit is None or self.share(limit) == self.step / self._plan.steps:
            return self.step, self._plan.steps
        return min(round(self.seconds), round(limit.seconds)), round(limit.seconds)

    def is_unjudged(self, limit: Limit | None, is_last: bool) -> bool:
        """Whether it is time to validate what was learned since the last time."""
        if not self._losses:
            return is_last and not self.trained.best
        is_time = limit is not None and self.seconds - self._judged > limit.seconds / limit.validations
        return is_last or is_time or self.step % self._plan.validate_every == 0

    def advance(self, limit: Limit | None = None) -> float:
        """Take one step; its batch depends on seed and step alone, so that resuming repeats nothing."""
        batch = self._task.batch(np.random.default_rng((self._plan.seed, self.step)))
        batch = tuple(channels_last(part.to(self._device, non_blocking=True)) for part in batch)
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self.step, 0.0 if limit is None else self.share(limit))
        self._net.train()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            loss = self._task.loss(self._net, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"The loss is {value} at step {self.step}",
                "a finite number",
                "Lower the learning rate, or look for odd values in the data",
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        self._losses.append(value)
        return value

    def validate(self) -> None:
        """Measure, write the curves, and keep the weights where they are the best so far."""
        self._net.eval()
        with torch.no_grad():
            measures = {name: float(value) for name, value in self._task.validate(self._net).items()}
        if not math.isfinite(measures["score"]):
            raise DataError(
                f"The score of the validation at step {self.step} is {measures['score']}",
                "a finite number",
                "Look for odd values in the validation data",
            )
        loss = float(np.mean(self._losses)) if self._losses else math.nan
        self._losses.clear()
        self._judged = self.seconds
        row = {"step": self.step, "minutes": round(self.seconds / 60, 3), "loss": loss, **measures}
        _log.info("step %d: %s", self.step, measures)
        self.trained.curves.append(row)
        if not self.trained.best or measures["score"] < self.trained.best["score"]:
            self.trained.best, self.trained.best_step = measures, self.step
            with atomic(self._folder / BEST, overwrite=True) as path:
                path.write_bytes(safetensors.torch.save(_contiguous(self._net.state_dict())))
        write_curves(self.trained.curves, self._folder / CURVES)

    def is_due(self, save_every: int) -> bool:
        """Whether to save now: every so many steps, and every minute, as steps of a large network are long."""
        return self.step % save_every == 0 or time.monotonic() - self._saved > SAVE_SECONDS

    def save(self) -> None:
        """Write all that resuming needs; nothing is pickled."""
        self._saved = time.monotonic()
        tensors = {f"net.{name}": value for name, value in self._net.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        described = {
            "plan": asdict(self._plan),
            "about": self._about,
            "step": self.step,
            "losses": self._losses,
            "seconds": self.seconds,
            "trained": asdict(self.trained),
        }
        with atomic(self._folder / CHECKPOINT, overwrite=True) as path:
            path.write_bytes(safetensors.torch.save(_contiguous(tensors), {"run": json.dumps(described)}))

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one and it belongs to this plan."""
        path = self._folder / CHECKPOINT
        if not path.exists():
            (self._folder / BEST).unlink(missing_ok=True)  # that of a run before
            return
        described, tensors = _read_checkpoint(path)
        if described["plan"] != asdict(self._plan):
            old = {
                name: value for name, value in described["plan"].items() if value != asdict(self._plan)[name]
            }
            raise FormatError(
                f"{path} belongs to another training plan",
                ", ".join(f"{name} {value}" for name, value in old.items()) + ", as it was begun",
                "Train on with that, delete the folder to begin anew, or choose another name",
            )
        if described.get("about", self._about) != self._about:
            raise FormatError(
                f"{path} belongs to another training, on other data or with other options",
                "what it was begun with",
                "Give the old data and options, delete the folder to begin anew, or choose another name",
            )
        weights = {name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")}
        try:
            self._net.load_state_dict(weights)
        except RuntimeError as error:
            raise FormatError(
                f"{path} belongs to another network",
                "a checkpoint of this architecture",
                "Choose another folder, or the architecture of the checkpoint",
            ) from error
        self._load_optimizer(tensors)
        self.step, self._losses = described["step"], described["losses"]
        self.trained = Trained(**described["trained"])
        if self.trained.curves:
            self._judged = 60 * self.trained.curves[-1]["minutes"]
        self._started -= described.get("seconds", self._judged)

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})

    def keep_best(self) -> None:
        """Put the best weights into the network."""
        if self.trained.best:
            self._net.load_state_dict(safetensors.torch.load_file(self._folder / BEST))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmSegError(
            f"The folder {folder} cannot be made: {error.strerror}",
            "a place where you may write",
            "Choose another place for the weights",
        ) from error


def _has_bfloat16(device: torch.device) -> bool:
    """Whether to train in bfloat16; never on a CPU: it is no faster, and torch 2.13 may crash in gradients."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads(file.metadata()["run"])
            return described, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise FormatError(
            f"{path} is damaged: {error}", "a checkpoint as the training writes it", "Delete it to begin anew"
        ) from error


def write_curves(curves: list[dict[str, float]], path: Path) -> None:
    """Write loss and measures of every validation as CSV, and draw them as PNG."""
    with (
        atomic(path.with_suffix(".csv"), overwrite=True) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, curves[-1].keys())
        writer.writeheader()
        writer.writerows(curves)
    with atomic(path.with_suffix(".png"), overwrite=True) as partial:
        _draw_curves(curves, partial)


def _draw_curves(curves: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    names = [name for name in curves[-1] if name not in ("step", "minutes")]
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.plot([row["step"] for row in curves], [row[name] for row in curves], marker=".")
        axes.set(xlabel="step", title=name)
    figure.savefig(path, format="png", dpi=100)
