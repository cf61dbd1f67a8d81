"""Regret: how much dearer the best answer gets if a chosen assignment is forbidden, and what it has instead."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _simplex_kernels as kernels
from napari_em_seg.assign._regions import NoAnswer, Regions
from napari_em_seg.assign.local import Resolver

__all__ = ["Regrets", "regrets"]


@dataclass(frozen=True, eq=False)
class Regrets:
    """What forbidding each of some chosen assignments would cost.

    Attributes
    ----------
    value
        By how much the optimum rises; ∞ where there is no answer without it.
    is_exact
        Whether that is proven; else it is at least so much.
    alternative
        The assignment that takes its place, the one with most regions in common; −1 where none does.
    """

    value: NDArray[np.float64]
    is_exact: NDArray[np.bool_]
    alternative: NDArray[np.int32]


def regrets(resolver: Resolver, chosen: NDArray[np.intp], *, enough: float = np.inf) -> Regrets:
    """Return the regret of chosen assignments, each by solving its neighbourhood anew with a proof.

    Parameters
    ----------
    resolver
        Holds the answer.
    chosen
        Assignments that are chosen in it.
    enough
        From there on "at least so much" will do, which is known sooner.
    """
    n = len(chosen)
    found = Regrets(np.zeros(n), np.zeros(n, np.bool_), np.full(n, -1, np.int32))
    regions = resolver.regions.copy()
    for k in _left_over(regions, chosen, enough, found):
        told = _forbidden(regions, int(chosen[k]), enough)
        found.value[k], found.is_exact[k], found.alternative[k] = told
    return found


def _left_over(regions: Regions, chosen: NDArray[np.intp], enough: float, found: Regrets) -> NDArray[np.intp]:
    """Fill in what takes small programs only, in compiled code on all cores; return the places of the rest."""
    n_threads = max(1, min(8, os.cpu_count() or 1))
    state = np.zeros(len(chosen), np.int8)
    part = regions.as_part(enough)

    def share(places: NDArray[np.intp]) -> None:
        own = part._replace(x=part.x.copy())
        kernels.forbid(chosen, places, own, found.value, found.alternative, state)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(share, np.array_split(np.arange(len(chosen)), n_threads)))
    found.is_exact[:] = (state == kernels.PROVEN) | (state == kernels.INFEASIBLE)
    return np.flatnonzero(state == kernels.UNKNOWN)


def _forbidden(regions: Regions, variable: int, enough: float) -> tuple[float, bool, int]:
    """Forbid one variable, look at what that does, and take it back."""
    if regions.regions:  # regions that become part of one another are not easily told apart again
        return _on_copy(regions.copy(), variable)
    before = regions.x[variable], regions.pins[variable]
    place = np.array([variable], np.int32)
    try:
        rows = regions.pin({variable: 0}) or [place[:0]]
        found = regions.attempt(rows[0], enough=enough)
        paid = _paid(regions, found.columns) + regions.prices[variable] * before[0]
        instead = _instead(regions, variable, found.columns[found.values > 0.5])
        return max(0.0, found.minimum - paid), found.is_closed, instead
    except NoAnswer:
        return np.inf, True, -1
    finally:
        regions.x[variable], regions.pins[variable] = before
        regions.set_limits(place)


def _on_copy(regions: Regions, variable: int) -> tuple[float, bool, int]:
    objective, before = regions.objective, regions.x > 0.5
    try:
        found = [regions.close(rows) for rows in regions.pin({variable: 0})]
    except NoAnswer:
        return np.inf, True, -1
    new = np.flatnonzero((regions.x > 0.5) & ~before).astype(np.int32)
    is_exact = all(one.is_closed for one in found)
    return max(0.0, regions.objective - objective), is_exact, _instead(regions, variable, new)


def _paid(regions: Regions, columns: NDArray[np.int32]) -> float:
    """Return what the answer pays there; the forbidden variable is already out of it."""
    return float(regions.prices[columns] @ regions.x[columns])


def _instead(regions: Regions, variable: int, new: NDArray[np.int32]) -> int:
    """Return the new assignment that has most rows in common with the one forbidden."""
    own = regions.matrix.rows_of(np.array([variable], np.int32))
    best, most = -1, 0
    for column in new[new < regions.problem.n_assignments]:
        if regions.x[column] > 0.5 and not regions.regions:
            continue  # was chosen before
        shared = len(
            np.intersect1d(own, regions.matrix.rows_of(np.array([column], np.int32)), assume_unique=True)
        )
        if shared > most:
            best, most = int(column), shared
    return best
