"""Simulated reviewers: how many corrections a list of links needs until all is right, by its order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError, EmSegError

__all__ = [
    "Order", "Resolve", "Review", "Reviewer", "by_score", "by_size", "in_random_order", "review",
]  # fmt: skip

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
Column = NDArray[np.float64]


class Resolve(Protocol):
    """Solves the program again under pins."""

    def __call__(self, pins: Mapping[int, int], /) -> Mask:
        """Return which assignments are chosen when some are pinned to 1 or 0; an EmSegError if none can be."""
        ...


Order = Callable[[Mask, Rows], Column]
"""Called with what is chosen and with the links that are open; returns a number for each, lowest first."""


@dataclass(frozen=True, eq=False)
class Reviewer:
    """Knows the truth, and says it most of the time.

    Parameters
    ----------
    is_right
        Which assignments are right, chosen or not.
    is_known
        Of which the reviewer knows; to others the answer is "don't know". None: of all.
    error_rate
        How often the answer is the opposite of the truth.
    seed
        The same one errs in the same places: whether a reviewer errs on a link does not depend on the order.
    """

    is_right: Mask
    is_known: Mask | None = None
    error_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.error_rate <= 1:
            raise DataError(
                f"A reviewer errs at a rate of {self.error_rate}", "a number from 0 to 1", "Try 0.05"
            )

    def answers(self) -> NDArray[np.int8]:
        """Return the answer to each link, were it shown: accept 1, reject 0, don't know −1."""
        errs = np.random.default_rng(self.seed).random(len(self.is_right)) < self.error_rate
        said = (self.is_right ^ errs).astype(np.int8)
        return said if self.is_known is None else np.where(self.is_known, said, -1).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Review:
    """The course of a review: row k is the state after k verdicts.

    Attributes
    ----------
    errors
        Errors left (n + 1,).
    corrections
        Verdicts so far that were no mere "accept" or "don't know" (n + 1,).
    links
        The link that each verdict was on (n,).
    n_refused
        Verdicts whose pins clashed with earlier ones; what they said was dropped.
    pins
        All of them in the end.
    chosen
        The solution in the end.
    """

    errors: NDArray[np.int64]
    corrections: NDArray[np.int64]
    links: NDArray[np.int64]
    n_refused: int
    pins: Mapping[int, int]
    chosen: Mask

    def verdicts_until(self, errors: int = 0) -> int | None:
        """Return after how many verdicts no more than so many errors are left; None: never."""
        reached = np.flatnonzero(self.errors <= errors)
        return int(reached[0]) if len(reached) else None


def by_score(score: NDArray[np.floating]) -> Order:
    """Order links by a number that each assignment has, the lowest first: a confidence."""
    return lambda chosen, open_links: np.asarray(score[open_links], np.float64)


def in_random_order(n: int, seed: int = 0) -> Order:
    """Order links of n assignments as chance will have it; the order stays the same all through."""
    return by_score(np.random.default_rng(seed).permutation(n).astype(np.float64))


def by_size(hypotheses: Hypotheses, assignments: Assignments) -> Order:
    """Order links by the pixels of the regions that they involve, the most first."""
    involved = assignments.involved
    pixels = np.where(involved >= 0, np.append(hypotheses.area, 0)[involved], 0).sum(axis=1)
    return by_score(-pixels.astype(np.float64))


def review(
    hypotheses: Hypotheses,
    assignments: Assignments,
    chosen: Mask,
    reviewer: Reviewer,
    resolve: Resolve,
    order: Order,
    *,
    errors: Callable[[Mask], int] | None = None,
    costs: Column | None = None,
    floor: int = 0,
    most: int | None = None,
) -> Review:
    """Let a reviewer go through the list, the first open link at each time, until no errors are left.

    A right link is accepted, which pins it to 1. A wrong one is pinned to 0, and if among the right ones some
    conflict with it, one is pinned to 1 in its place: the one that shares most regions with it, then the
    cheapest; should earlier pins forbid that, none is. A right one rejected by mistake is pinned to 0. After
    each correction the program is solved again, and the list is what is chosen then. A link on which there was
    a verdict does not come up again, nor does one at the border of the volume ever.

    Parameters
    ----------
    hypotheses, assignments
        What can be chosen.
    chosen
        The solution to begin with.
    reviewer
        Who says what is right.
    resolve
        Solves the program under pins.
    order
        Which open link comes first: the one with the lowest number, among equal ones the first.
    errors
        How wrong a solution is. None: as many links as are chosen and, as far as is known, not right.
    costs
        Of each assignment, to choose among alternatives.
    floor
        So many errors are taken for none, since the candidates allow no better.
    most
        Verdicts after which it ends in any case.
    """
    course = _Course(hypotheses, assignments, chosen, reviewer, resolve, costs)
    count = course.wrong if errors is None else errors
    links: list[int] = []
    left, corrections = [count(chosen)], [0]
    while left[-1] > floor and (most is None or len(links) < most):
        open_links = np.flatnonzero(course.chosen & course.is_open)
        if not len(open_links):
            break
        link = int(open_links[np.argmin(order(course.chosen, open_links))])
        before = course.n_refused
        is_correction = course.decide(link)
        links.append(link)
        corrections.append(corrections[-1] + is_correction)
        left.append(count(course.chosen) if is_correction and course.n_refused == before else left[-1])
    return Review(np.array(left), np.array(corrections), np.array(links, np.int64), course.n_refused,
                  dict(course.pins), course.chosen)  # fmt: skip


@dataclass(eq=False)
class _Course:
    """What changes while a review goes on."""

    hypotheses: Hypotheses
    assignments: Assignments
    chosen: Mask
    reviewer: Reviewer
    resolve: Resolve
    costs: Column | None
    pins: dict[int, int] = field(default_factory=dict)
    n_refused: int = 0

    def __post_init__(self) -> None:
        n = len(self.assignments)
        known = self.reviewer.is_known
        for name, mask in (("chosen", self.chosen), ("right", self.reviewer.is_right), ("known", known)):
            if mask is not None and (mask.shape != (n,) or mask.dtype != np.bool_):
                raise DataError(f"Which are {name} is {mask.dtype} of the shape {mask.shape}", "true or false "
                                f"for each of {n} assignments", "Leave out other variables")  # fmt: skip
        self.is_open = ~is_at_border(self.hypotheses, self.assignments)
        self.answers = self.reviewer.answers()
        is_candidate = self.reviewer.is_right if known is None else self.reviewer.is_right & known
        self.right = np.flatnonzero(is_candidate & self.is_open)

    def wrong(self, chosen: Mask) -> int:
        """Return how many links are chosen, can be doubted, and are not right as far as is known."""
        known = self.reviewer.is_known
        is_wrong = chosen & ~self.reviewer.is_right & ~is_at_border(self.hypotheses, self.assignments)
        return int(np.count_nonzero(is_wrong if known is None else is_wrong & known))

    def decide(self, link: int) -> bool:
        """Take the verdict on a link; return whether it is a correction."""
        self.is_open[link] = False
        answer = int(self.answers[link])
        if answer < 0:
            return False
        if answer == 1:  # what is chosen already stays the best choice when it is pinned
            self.pins[link] = 1
            return False
        other = self._alternative(link)
        attempts = [{link: 0}] if other is None else [{link: 0, other: 1}, {link: 0}]
        for pins in attempts:
            try:
                self.chosen = np.asarray(self.resolve({**self.pins, **pins}))
            except EmSegError:
                continue
            self.pins |= pins
            return True
        self.n_refused += 1
        return True

    def _alternative(self, link: int) -> int | None:
        """Return the right assignment that is to take the place of a wrong one, if there is any."""
        if self.reviewer.is_right[link]:  # a slip
            return None
        right = np.setdiff1d(self.right, [link, *(m for m, value in self.pins.items() if not value)])
        n_shared, is_rival = np.zeros(len(right), np.int64), np.zeros(len(right), np.bool_)
        last = self.hypotheses.last
        for members in (self.assignments.sources, self.assignments.targets):
            for i in members[link][members[link] >= 0]:
                other = members[right]
                n_shared += (other == i).sum(axis=1)
                low, high = np.minimum(other, i), np.maximum(other, i)
                is_rival |= ((other >= 0) & (high <= last[low])).any(axis=1)
        if not is_rival.any():
            return None
        price = np.zeros(len(right)) if self.costs is None else self.costs[right]
        return int(right[np.lexsort((right, price, -n_shared, ~is_rival))[0]])
