"""Solving anew after a verdict: only around what has changed, and with the same proof."""

import time
from collections.abc import Mapping

from napari_em_seg.assign._regions import NoAnswer, Regions
from napari_em_seg.assign.problem import Problem
from napari_em_seg.assign.solver import Cancelled, Pins, Solution, clash, close_gap, refuse_odd, relax, solved

__all__ = ["Resolver"]


class Resolver:
    """Keeps an answer optimal while pins come and go.

    A pin changes the answer only nearby. The part of the program around it is solved in whole numbers and grown
    until it goes with what is outside, and nothing outside could make it cheaper: so the answer is one that
    solving everything anew would have given, or one that costs as much (`_regions.Regions`).

    Parameters
    ----------
    problem
        The program.
    gap, time_limit
        How near the answer without pins has to be proven, and how long that may take; see `solver.solve`.
    """

    def __init__(
        self, problem: Problem, *, gap: float = 0.0, time_limit: float = 600.0, cancelled: Cancelled = None
    ) -> None:
        self._regions, relaxed, self._n_fractional = relax(problem, time_limit=time_limit, cancelled=cancelled)
        begun = time.perf_counter()
        close_gap(self._regions, {}, gap=gap, seconds=time_limit - relaxed, cancelled=cancelled)
        self._seconds = {"relaxed": relaxed, "whole": time.perf_counter() - begun}
        self._free = self._regions.copy()
        self.pins: dict[int, int] = {}

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
        trial, pins = self._regions.copy(), dict(self.pins)
        for variable, value in changes.items():
            if value < 0:
                pins.pop(variable, None)
            else:
                pins[variable] = value
        try:
            close_gap(trial, changes)
        except NoAnswer as error:
            raise clash(self._free, pins, error) from error
        self._regions, self.pins = trial, pins
        return self.solution

    def solve(self, pins: Pins) -> Solution:
        """Return the answer under exactly these pins."""
        changes = {v: -1 for v in self.pins if v not in pins}
        changes |= {v: value for v, value in pins.items() if self.pins.get(v) != value}
        return self.pin(changes) if changes else self.solution
