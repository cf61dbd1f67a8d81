"""Solving anew after a verdict: only around what has changed, and with the same proof."""

import time
from collections.abc import Mapping

import numpy as np

from napari_em_seg.assign._regions import NoAnswer, Regions
from napari_em_seg.assign.problem import Problem
from napari_em_seg.assign.solver import (
    Cancelled,
    InfeasiblePinsError,
    Pins,
    Solution,
    clash,
    close_gap,
    nearby,
    refuse_odd,
    relax,
    solved,
)

__all__ = ["Resolver"]


class Resolver:
    """Keeps an answer optimal while pins come and go.

    A pin changes the answer only nearby. The part of the program around it is solved in whole numbers and grown
    until it goes with what is outside, and nothing outside could make it cheaper: so the answer is one that
    solving everything anew would have given, or one that costs as much (`_regions.Regions`).

    Where many pins push much aside, as a whole object that was followed does, that part would grow far. Then
    the program is relaxed anew with all pins fixed in it: what they push aside is in the prices from then on,
    and what is left to do is as little as it was without pins. It also is where pins change that were fixed.

    Parameters
    ----------
    problem
        The program.
    fixed
        Pins to begin with.
    gap, time_limit
        How near the answer without other pins has to be proven, and how long that may take; see `solver.solve`.
    """

    def __init__(
        self, problem: Problem, *, fixed: Pins | None = None, gap: float = 0.0, time_limit: float = 600.0,
        cancelled: Cancelled = None,
    ) -> None:  # fmt: skip
        self._regions, relaxed, self._n_fractional = relax(
            problem, fixed=fixed, time_limit=time_limit, cancelled=cancelled
        )
        begun = time.perf_counter()
        missed = _missed(self._regions, fixed or {})
        try:
            close_gap(self._regions, missed, gap=gap, seconds=time_limit - relaxed, cancelled=cancelled)
        except NoAnswer as error:
            raise InfeasiblePinsError(fixed or {}) from error
        self._seconds = {"relaxed": relaxed, "whole": time.perf_counter() - begun}
        self._free = self._regions.copy()
        self.pins: dict[int, int] = dict(fixed or {})
        self._fixed = set(self.pins)

    @property
    def regions(self) -> Regions:
        """The answer, and what is proven of it."""
        return self._regions

    @property
    def solution(self) -> Solution:
        """The answer under the pins that there are."""
        return solved(self._regions, self._n_fractional, self._seconds)

    def adopt(self, other: Solution) -> None:
        """Begin with the answer of another solver, and what is proven of it."""
        free = self._free
        self._regions = Regions(
            free.matrix, free.problem, free.prices, free.base, other.chosen.astype(float), free.pins * 0 - 1
        )
        self._free = self._regions.copy()

    def pin(self, changes: Mapping[int, int]) -> Solution:
        """Set some pins, or take them back (−1), and return the new answer; nothing changes if they clash."""
        refuse_odd(self._regions.problem, {v: max(value, 0) for v, value in changes.items()})
        pins = {**self.pins, **changes}
        pins = {v: value for v, value in pins.items() if value >= 0}
        if self._fixed.isdisjoint(changes) and (trial := self._near(changes, pins)) is not None:
            self._regions = trial
        else:
            self._regions, self._fixed = self._anew(changes, pins), set(pins)
        self.pins = pins
        return self.solution

    def solve(self, pins: Pins) -> Solution:
        """Return the answer under exactly these pins."""
        changes = {v: -1 for v in self.pins if v not in pins}
        changes |= {v: value for v, value in pins.items() if self.pins.get(v) != value}
        return self.pin(changes) if changes else self.solution

    def _near(self, changes: Mapping[int, int], pins: Pins) -> Regions | None:
        """Solve around the changes; None if that takes too much."""
        trial = self._regions.copy()
        trial.work, trial.allowed = 0, nearby(trial.problem)
        try:
            close_gap(trial, changes)
        except NoAnswer as error:
            raise clash(self._free, pins, error) from error
        is_spent, trial.allowed = trial.is_spent, np.inf
        return None if is_spent else trial

    def _anew(self, changes: Mapping[int, int], pins: Pins) -> Regions:
        """Relax all of it with the pins in it, and close what is left."""
        try:
            regions, _, self._n_fractional = relax(self._free.problem, fixed=pins)
            close_gap(regions, _missed(regions, pins))
        except (InfeasiblePinsError, NoAnswer) as error:
            raise self._clash_around(changes, pins) from error
        return regions

    def _clash_around(self, changes: Mapping[int, int], pins: Pins) -> InfeasiblePinsError:
        """Return the error for pins that clash: those around the changes, if these alone do, else all."""
        matrix = self._free.matrix
        rows = matrix.rows_of(np.array(list(changes), np.int32))
        around = matrix.columns_of(rows, self._free.prices, np.inf)
        try:
            relax(self._free.problem, fixed={int(v): pins[int(v)] for v in around if int(v) in pins})
        except InfeasiblePinsError:
            return clash(self._free, pins, NoAnswer(around))
        return InfeasiblePinsError(pins)


def _missed(regions: Regions, fixed: Pins) -> dict[int, int]:
    """Return the fixed pins that the first answer does not have: beside them was something fractional."""
    return {v: value for v, value in fixed.items() if regions.pins[v] < 0 or regions.x[v] != value}
