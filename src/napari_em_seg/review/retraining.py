"""Retraining: costs learned from verdicts, which replace the old ones only where held-out verdicts say so."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.review.operations import Operation
from napari_em_seg.review.session import Session
from napari_em_seg.review.state import State, Verdict

__all__ = ["Predict", "Report", "Samples", "Trained", "Trainer", "judge", "retrain", "samples_of", "split"]

Floats = NDArray[np.float64]
Predict = Callable[[NDArray[np.int64]], Floats]
"""Returns for assignments, given by number, the probability that they are right."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Assignments of which people said whether they are right; ``verdict`` tells those of one verdict."""

    link: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    verdict: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.link)

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Samples":
        return Samples(self.link[rows], self.is_right[rows], self.verdict[rows])


class Trained(Protocol):
    """What a trainer gives: costs of all candidates, and what is needed to judge and to find them again."""

    @property
    def costs(self) -> Floats:
        """Of all candidate assignments."""
        ...

    @property
    def nothing(self) -> Floats:
        """Of leaving out each leaf."""
        ...

    @property
    def model(self) -> Mapping[str, Any]:
        """What made the costs, for JSON: a path, a checksum."""
        ...

    def predict(self, links: NDArray[np.int64], /) -> Floats:
        """Return the probability that assignments are right."""
        ...


Trainer = Callable[[Samples], Trained]
"""Learns from samples; may also use whatever it was trained on before."""


@dataclass(frozen=True)
class Report:
    """How old and new costs judge the verdicts that were held out: mean −log of what they gave to the truth.

    ``gain`` is the mean difference in favour of the new ones, and ``deviation`` its standard error.
    """

    n_train: int
    n_held_out: int
    loss_before: float
    loss_after: float
    gain: float
    deviation: float
    is_better: bool


def samples_of(state: State, n_candidates: int) -> Samples:
    """Return the verdicts as samples: what was accepted or chosen is right, what was in its place is wrong.

    Assignments made by hand have no features, and merges of an agglomeration other ones; both are left out.
    """
    rows = [row for verdict in state.verdicts for row in _rows(verdict) if 0 <= row[0] < n_candidates]
    link, is_right, verdict = zip(*rows, strict=True) if rows else ((), (), ())
    return Samples(np.array(link, np.int64), np.array(is_right, bool), np.array(verdict, np.int64))


def _rows(verdict: Verdict) -> list[tuple[int, bool, int]]:
    if verdict.is_wrong is None:
        return []
    rows = [(verdict.link, not verdict.is_wrong, verdict.operation)]
    return rows if verdict.choice is None else [*rows, (verdict.choice, True, verdict.operation)]


def split(samples: Samples, held_out: float, seed: int) -> NDArray[np.bool_]:
    """Return which samples to hold out: whole verdicts, a part of those that found errors and of the others."""
    verdicts = np.unique(samples.verdict)
    has_error = np.isin(verdicts, samples.verdict[~samples.is_right])
    rng = np.random.default_rng(seed)
    chosen = []
    for group in (verdicts[has_error], verdicts[~has_error]):
        n = min(len(group) - 1, max(1, round(held_out * len(group)))) if len(group) > 1 else 0
        chosen.append(rng.permutation(group)[:n])
    return np.isin(samples.verdict, np.concatenate(chosen))


def judge(before: Predict, after: Predict, samples: Samples, n_train: int) -> Report:
    """Compare what two predictors gave to the truth; better is better by more than its standard error."""
    losses = [_losses(predict, samples) for predict in (before, after)]
    gain = losses[0] - losses[1]
    deviation = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    mean = float(gain.mean())
    return Report(n_train, len(samples), float(losses[0].mean()), float(losses[1].mean()), mean, deviation,
                  mean > deviation)  # fmt: skip


def _losses(predict: Predict, samples: Samples) -> Floats:
    p = np.clip(predict(samples.link), 1e-3, 1 - 1e-3)  # no single sample decides
    if p.shape != samples.link.shape or not np.isfinite(p).all():
        raise DataError(f"The trained model gives {p.size} probabilities for {len(samples)} links",
                        "one number for each", "Train it on all features")  # fmt: skip
    return np.asarray(-np.log(np.where(samples.is_right, p, 1 - p)))


def retrain(
    session: Session,
    trainer: Trainer,
    before: Predict,
    *,
    held_out: float = 0.25,
    least: int = 20,
    seed: int = 0,
    **how: Any,
) -> tuple[Report, Operation | None]:
    """Learn from the verdicts so far, and go on with the new costs if they judge the held-out verdicts better.

    Parameters
    ----------
    session
        Open to edit, with a solver.
    trainer
        Learns from the samples that are not held out.
    before
        The predictor behind the costs that hold now.
    held_out
        The part of verdicts that the trainer does not see.
    least
        Verdicts below which learning is refused: too few to learn from and to judge by.
    seed
        For the choice of those.
    how
        As for `Session.commit`.

    Returns
    -------
    The report, and the operation; none where the old costs stay.
    """
    if not 0 < held_out < 1:
        raise DataError(f"A part of {held_out} is to be held out", "one between 0 and 1", "Try 0.25")
    samples = samples_of(session.state, len(session.reconstruction.kind))
    n = len(np.unique(samples.verdict))
    if n < least:
        raise DataError(f"There are {n} verdicts to learn from", f"at least {least}", "Review more links first")
    is_held_out = split(samples, held_out, seed)
    trained = trainer(samples[~is_held_out])
    report = judge(before, trained.predict, samples[is_held_out], int((~is_held_out).sum()))
    if not report.is_better:
        return report, None
    operation = session.adopt_costs(
        trained.costs, trained.nothing, model=trained.model, report=asdict(report), **how
    )
    return report, operation
