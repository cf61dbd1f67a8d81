"""What a review costs beside the solver, and how honest its errors left are: python benchmarks/review.py.

The session has the size of 100,000 links (40 slices of 2,500 regions in a row, 300,000 assignments) and a
solver that answers at once, so that what is timed is everything else: making the list, sorting, filtering,
writing an answer to the disk, undoing it, opening the session after 2,000 operations.

--coverage N simulates N reviews for each way in which stated probabilities p can be wrong, with the true logit
a + b logit p: how often the 90 % interval holds the number of errors that are left; and for the rule "at most
one error among 100 links", asked after every 50 verdicts, how often it kept its promise and when it said stop.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from napari_em_seg.review import (
    Expected,
    Outcome,
    Reconstruction,
    Scores,
    Session,
    State,
    StoppingRule,
    calibrate,
    create_session,
    expected_left,
)
from napari_em_seg.review.links import links_of

MISTAKES = ((0.0, 1.0), (0.6, 1.0), (-0.6, 1.0), (0.0, 0.8), (0.0, 1.25), (0.5, 1.2), (-0.5, 0.8))


def chain(n_slices: int = 40, n_regions: int = 2500) -> Reconstruction:
    """Return continuations of every region, and both ends, of which the continuations are chosen."""
    n = n_slices * n_regions
    none, ids = np.full(n, -1, np.int32), np.arange(n, dtype=np.int32)
    sources = np.concatenate((ids[:-n_regions], none, ids))
    targets = np.concatenate((ids[n_regions:], ids, none))
    kind = np.repeat([0, 3, 4], [n - n_regions, n, n]).astype(np.int8)
    m, rng = len(kind), np.random.default_rng(0)
    p = rng.beta(0.3, 6, m).astype(np.float32)
    chosen = np.arange(m) < n - n_regions
    scores = Scores(1 / (p + np.float32(1e-3)), p, p, p, np.roll(np.arange(m, dtype=np.int32), 3))
    sides = [np.stack((side, np.full(m, -1, np.int32)), axis=1) for side in (sources, targets)]
    return Reconstruction(
        np.zeros((n_slices, 64, 64), np.int32), np.repeat(np.arange(n_slices, dtype=np.int32), n_regions), none,
        ids, np.zeros(n, np.float32), np.ones(n, np.float32), kind, *sides, rng.random((m, 20), np.float32),
        rng.random(m), np.ones(n), Outcome(chosen, 1.0, 0.0, scores),
    )  # fmt: skip


class AtOnce:
    """Sets what is pinned, and changes the scores of 200 other links, as a neighbourhood solved again does."""

    def __init__(self, found: Reconstruction) -> None:
        self.found = found

    def solve(self, state: State) -> Outcome:
        """Return the first solution but for that."""
        outcome = self.found.outcome.resized(len(self.found.kind) + state.n_links)
        chosen, p = outcome.chosen.copy(), outcome.scores.p_error.copy()
        for link, value in state.assignment_pins.items():
            chosen[link] = bool(value)
            p[link + 1 : link + 201] *= np.float32(0.9)
        return replace(outcome, chosen=chosen, scores=replace(outcome.scores, p_error=p))


def milliseconds(act: Callable[[], Any], n: int) -> tuple[list[float], list[float]]:
    """Return the time of each of n calls, by the clock and of the processor, both in order."""
    wall, busy = [], []
    for _ in range(n):
        start, start_busy = time.perf_counter(), time.process_time()
        act()
        wall.append(1e3 * (time.perf_counter() - start))
        busy.append(1e3 * (time.process_time() - start_busy))
    return sorted(wall), sorted(busy)


def show(name: str, taken: tuple[list[float], list[float]]) -> None:
    """Print the median and the 95th percentile by the clock, and the median of the processor."""
    wall, busy = taken
    late = wall[int(0.95 * (len(wall) - 1))]
    print(f"| {name:34} | {statistics.median(wall):7.1f} | {late:7.1f} | {statistics.median(busy):7.1f} |")


def times(n: int) -> None:
    """Print the time of everything but the solver."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.emseg"
        print("| step, 97,500 links | median ms | 95 % ms | median ms of processor |\n|---|---|---|---|")
        show("make the session (once)", milliseconds(lambda: create_session(path, chain()), 1))
        show("open it", milliseconds(lambda: Session(path, mode="read").close(), 5))
        with Session(path, AtOnce) as session:
            links = session.links()
            todo = iter(links.sorted_by("p_error").id.tolist())
            show(
                "make the list",
                milliseconds(lambda: links_of(session.reconstruction, session.outcome, session.state), n),
            )
            show("sort it", milliseconds(lambda: links.sorted_by("confidence"), n))
            show("filter and sort it", milliseconds(
                lambda: links.where(kinds=[0, 1, 2], z=slice(3, 30), statuses=[0]).sorted_by("p_error"), n
            ))  # fmt: skip
            show("errors left", milliseconds(lambda: session.expected(links), n))
            show("accept, on the disk", milliseconds(lambda: session.accept(next(todo)), n))
            show("skip, on the disk", milliseconds(lambda: session.skip(next(todo)), n))
            show("undo, on the disk", milliseconds(session.undo, n // 2))
            show("redo, on the disk", milliseconds(session.redo, n // 2))
            while len(session.operations) < 2000:
                session.note("x")
            show("accept, after 2,000 operations", milliseconds(lambda: session.accept(next(todo)), n))
        show("open it, with 2,000 operations", milliseconds(lambda: Session(path, mode="read").close(), 5))


def review(
    rng: np.random.Generator, a: float, b: float, after: list[int], level: float
) -> Iterator[tuple[int, Expected, int]]:
    """Look at 1,500 links, the worst first; give what is expected to be left, and what is."""
    p = np.sort(rng.beta(0.4, 6, 1500))[::-1].clip(1e-6, 1 - 1e-6)
    is_wrong = rng.random(len(p)) < expit(a + b * logit(p))
    for k in after:
        yield k, expected_left(p[k:], calibrate(p[:k], is_wrong[:k]), level=level), int(is_wrong[k:].sum())


def coverage(n: int) -> None:
    """Print how often intervals and the rule are right."""
    rng, rule, looks = np.random.default_rng(0), StoppingRule(), [25, 100, 300]
    print("\n| a | b | interval holds after 25 | 100 | 300 verdicts | promise kept | said stop after |")
    print("|---|---|---|---|---|---|---|")
    for a, b in MISTAKES:
        inside = dict.fromkeys(looks, 0)
        kept, stops = 0, []
        for _ in range(n):
            for k, left, truth in review(rng, a, b, looks, 0.9):
                inside[k] += left.low <= truth <= left.high
            for k, left, truth in review(rng, a, b, list(range(0, 1500, 50)), rule.level):
                if rule.is_reached(left, 1500):
                    kept += truth <= 15
                    stops.append(k)
                    break
        shares = " | ".join(f"{100 * inside[k] / n:.0f} %" for k in looks)
        print(f"| {a} | {b} | {shares} | {100 * kept / len(stops):.0f} % | {statistics.mean(stops):.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--coverage", type=int, default=100, metavar="N")
    asked = parser.parse_args()
    times(asked.repeats)
    if asked.coverage:
        coverage(asked.coverage)
