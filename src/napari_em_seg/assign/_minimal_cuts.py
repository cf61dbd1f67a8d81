"""All minimal cuts of a map at once: a smooth map whose level sets they are, and repair where they are not."""

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _level_set_kernels as kernels
from napari_em_seg.errors import DataError

__all__ = ["minimal_cuts", "smoothed", "usual_threads"]

Floats = NDArray[np.floating[Any]]

_STEPS = 4096  # to a unit of evidence
_LARGEST = 1e5  # evidence; its steps are to be counted in 32 bits
_ROUGH = 256  # steps; a sweep that changes no pixel by more is the last one before cuts are made exact
_ROUGH_SWEEPS = 40  # at most
_SLANTS = ((1, 0), (2, 1), (3, -1))  # direction and slope of what is no row


@dataclass(frozen=True, eq=False)
class _Lines:
    """What is being made smooth, in steps: values (y, x), flows in four directions, the most that can flow."""

    value: NDArray[np.int32]
    flow: NDArray[np.int32]
    most: int

    def sweep(self, run: Callable[..., Any], n_parts: int) -> int:
        """Make smooth all lines in each direction in turn; return the largest change in steps."""
        height, width = self.value.shape
        moved = [0]
        rows = partial(kernels.smooth_rows, self.value, self.flow[0], self.most)
        moved += run(rows, *_parts(0, height, n_parts))
        for d, slope in _SLANTS:
            lines = partial(kernels.smooth_slants, self.value, self.flow[d], self.most, slope)
            first = -(height - 1) if slope > 0 else 0
            moved += run(lines, *_parts(first, width + (height - 1 if slope < 0 else 0), n_parts))
        return max(moved)


def smoothed(
    f: Floats, weight: float, *, tolerance: float = 1e-3, max_sweeps: int = 200, threads: int | None = None
) -> NDArray[np.float64]:
    r"""Return the minimiser of a map's squared change and its weighted total variation.

    .. math:: \tfrac12 \|u - f\|^2 + \lambda_S \sum_{\{i, j\}} |u_i - u_j|

    over all pairs of the 8-neighbourhood. Its level set :math:`\{u > t\}` minimises
    :math:`\sum_{i \in A} (t - f_i) + \lambda_S \cdot \text{pairs cut by } A`, which is energy (1) with
    :math:`\lambda_N = t`: one map for all cuts.

    Its dual is a flow along pairs, each at most :math:`\lambda_S`; u is f less what goes out. In turn the flows
    of all rows, columns and both kinds of diagonals are made the best ones, given the others: each line is a
    problem in one dimension that a taut string solves in linear time. Values are rounded to 1/4096.

    Parameters
    ----------
    f
        The map (y, x).
    weight
        :math:`\lambda_S`.
    tolerance
        Ends when no pixel has changed by more in a sweep over all four directions.
    max_sweeps
        Ends after so many sweeps in any case.
    threads
        Lines are solved side by side in so many, as many as there are processors by default; the result is the
        same.
    """
    if not tolerance > 0:
        raise DataError(f"The tolerance is {tolerance}", "more than 0", "Give 0.001")
    lines = _lines(f, weight)
    _swept(lines, max(1, round(tolerance * _STEPS)), max_sweeps, threads)
    return np.asarray(lines.value / _STEPS)


def minimal_cuts(
    f: Floats, weight: float, thresholds: Floats, *, exact: bool = True, threads: int | None = None
) -> NDArray[np.int16]:
    r"""Return how many of the thresholds each pixel is above, such that all level sets are minimal cuts.

    The set of pixels above at least k thresholds minimises :math:`\sum_{i \in A} (t_k - f_i) + \lambda_S \cdot`
    *pairs cut*, with f, :math:`\lambda_S` and thresholds rounded to 1/4096. That needs no trust in how far
    `smoothed` went: a set is minimal if u is at least t in it, at most t outside, and all flows out of it are
    full. A few sweeps make that true for nearly all pairs; for the others something is sent along short ways.

    Parameters
    ----------
    f
        The map (y, x).
    weight
        :math:`\lambda_S`.
    thresholds
        They rise.
    exact
        Whether to repair what the sweeps left. Without it, level sets are nearly minimal.
    threads
        For the sweeps; the result is the same.
    """
    steps = np.rint(np.asarray(thresholds, np.float64) * _STEPS)
    if not 1 <= len(steps) < 2**15 or not (np.abs(steps) < 2**30).all() or not (np.diff(steps) > 0).all():
        raise DataError("The thresholds are none, too many, too large, or do not rise by 1/4096 at least",
                        "1 to 32,767 numbers that rise", "Take fewer levels")  # fmt: skip
    lines, whole = _lines(f, weight), steps.astype(np.int32)
    _swept(lines, _ROUGH, _ROUGH_SWEEPS, threads)
    rank = np.empty(lines.value.shape, np.int16)
    kernels.ladder(lines.value, whole, rank)
    if exact:
        flat = lines.flow.reshape(4, -1)
        kernels.minimal_cuts(lines.value.ravel(), rank.ravel(), flat, lines.most, whole, rank.shape)
    return rank


def _lines(f: Floats, weight: float) -> _Lines:
    """Return a map in steps, and flows of nothing."""
    if f.ndim != 2 or 0 in f.shape or not (np.abs(f) <= _LARGEST).all():  # also where one is not a number
        raise DataError(f"The map has the shape {f.shape}, or values beyond ±{_LARGEST:g}",
                        "finite numbers (y, x) of moderate size", "Scale the map")  # fmt: skip
    if not 0 <= weight <= _LARGEST:
        raise DataError(f"The smoothness is {weight}", f"0 to {_LARGEST:g}", "Give a number such as 0.2")
    value = np.rint(np.asarray(f, np.float64) * _STEPS).astype(np.int32)
    return _Lines(value, np.zeros((4, *f.shape), np.int32), round(weight * _STEPS))


def _swept(lines: _Lines, least: int, max_sweeps: int, threads: int | None) -> None:
    """Sweep until no pixel changes by more than `least` steps; lines side by side in so many threads."""
    if lines.most == 0:
        return
    n = usual_threads() if threads is None else max(1, threads)
    pool: Any = ThreadPoolExecutor(n) if n > 1 else nullcontext()
    with pool as executor:
        run = partial(_run, executor)
        for _ in range(max_sweeps):
            if lines.sweep(run, n) <= least:
                break


def usual_threads() -> int:
    """Return how many threads to use where nobody says."""
    return max(1, min(8, os.cpu_count() or 1))


def _run(executor: Executor | None, work: Callable[..., Any], *columns: list[int]) -> list[Any]:
    """Call a function for each part, in threads if there are any."""
    return list(map(work, *columns) if executor is None else executor.map(work, *columns))


def _parts(first: int, end: int, threads: int) -> tuple[list[int], list[int]]:
    """Cut a range into one part, or some for each thread; they begin at whole tiles."""
    n = 1 if threads == 1 else 4 * threads
    n_tiles = -(-(end - first) // kernels.TILE)
    cuts = [min(end, first + n_tiles * k // n * kernels.TILE) for k in range(n + 1)]
    return cuts[:-1], cuts[1:]
