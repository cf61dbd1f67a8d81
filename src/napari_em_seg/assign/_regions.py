"""Regions of the program that are solved by themselves, with a proof that nothing outside matters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_em_seg.assign import _region_kernels as kernels
from napari_em_seg.assign._highs import Answer, Program, solve_ilp
from napari_em_seg.assign._simplex_kernels import Part
from napari_em_seg.assign._small import solve_small
from napari_em_seg.assign.problem import Problem

__all__ = ["Attempt", "Matrix", "NoAnswer", "Regions"]

Index = NDArray[np.int32]
Vector = NDArray[np.float64]
Stop = Callable[[], bool] | None

_TIE = 1e-6  # what changing a variable costs beside its price: of equal answers the nearest one is found


class NoAnswer(Exception):  # noqa: N818 - a message between modules, not to users
    """Some pins allow no answer; ``pins`` are all that may be to blame."""

    def __init__(self, pins: Index) -> None:
        super().__init__("infeasible")
        self.pins = pins


class Matrix:
    """A sparse matrix by rows and by columns, with room for kernels to leave marks."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.by_rows = matrix.tocsr()
        self.by_rows.sort_indices()
        by_columns = self.by_rows.tocsc()
        self.shape: tuple[int, int] = self.by_rows.shape
        self.starts, self.columns = (v.astype(np.int32) for v in (self.by_rows.indptr, self.by_rows.indices))
        self.values: Vector = self.by_rows.data.astype(float)
        self.column_starts, self.rows = (v.astype(np.int32) for v in (by_columns.indptr, by_columns.indices))
        self._row_marks, self._marks = (np.full(n, -1, np.int32) for n in self.shape)

    def twin(self) -> "Matrix":
        """Return the same with marks of its own, for another thread."""
        other = object.__new__(Matrix)
        other.__dict__.update(self.__dict__)
        other._row_marks, other._marks = self._row_marks.copy(), self._marks.copy()
        return other

    def columns_of(self, rows: Index, prices: Vector, limit: float) -> Index:
        """Return the columns of rows whose price does not exceed the limit."""
        return np.sort(kernels.columns_of(self.starts, self.columns, rows, prices, limit, self._marks))

    def rows_of(self, columns: Index) -> Index:
        """Return the rows of columns."""
        return np.sort(kernels.rows_of(self.column_starts, self.rows, columns, self._row_marks))

    def cut_out(self, rows: Index, columns: Index) -> tuple[Index, Index, Vector]:
        """Return a part, sparse by rows."""
        found = kernels.cut_out(self.starts, self.columns, self.values, rows, columns, self._marks)
        return found[0], found[1], found[2]

    def sums_of(self, rows: Index, x: Vector) -> Vector:
        """Return what rows make of x."""
        return np.asarray(kernels.sums_of(self.starts, self.columns, self.values, rows, x))


@dataclass(frozen=True, eq=False)
class Attempt:
    """A region, solved: no answer pays less in its columns than ``minimum``.

    Attributes
    ----------
    rows, columns
        What it consists of.
    values
        An answer to its columns.
    minimum
        The least that any answer pays there.
    limit
        The price above which columns were left out.
    absorbed
        Regions that became part of this one.
    is_closed
        The values cost the minimum and go with all that is outside; so nothing better exists there.
    """

    rows: Index
    columns: Index
    values: Vector
    minimum: float
    limit: float
    absorbed: tuple[int, ...]
    is_closed: bool


class Regions:
    r"""An answer x to the program, and a lower bound that is raised region by region.

    For duals y of the rows and reduced costs :math:`d = c - A^T y \ge 0`, every answer costs

    .. math:: c^T x = b^T y + \sum_v d_v x_v,

    the value of the relaxed program, and what x *pays* on top. A region is a set of rows R, with the columns V
    that they touch. The least that can be paid in V,

    .. math:: m_R = \min \Big\{ \sum_{v \in V} d_v x_v :
              A_r x = b_r, r \in R, x \text{ of zeros and ones} \Big\},

    is a lower bound whatever is outside, since all other rows are left out there. Those of several regions
    add up if they have no columns in common. Where the answer to such a program also satisfies the rows around
    it, it is a part of the best answer, and the region is closed; else the rows that it breaks join R. When all
    that x pays is in closed regions, x is optimal.

    Columns with a high price are left out at first. That is right while no column costs less than the minima of
    all regions that it touches, its own among them, if it touches others; if one does, these are made one.

    Parameters
    ----------
    matrix, problem
        The program.
    prices
        d, of the relaxed program, without pins but for fixed ones, of which each has 0.
    base
        The value of the relaxed program.
    x
        An answer.
    pins
        −1 where a variable is free; x has to comply.

    Attributes
    ----------
    work, allowed
        Columns of all that was solved, and how many may be before no region is grown any more.
    """

    work: int = 0
    allowed: float = np.inf

    def __init__(
        self, matrix: Matrix, problem: Problem, prices: Vector, base: float, x: Vector, pins: NDArray[np.int8]
    ) -> None:
        self.matrix, self.problem, self.base = matrix, problem, base
        self.prices = np.where(prices < 1e-9, 0.0, prices)
        self.x, self.pins = x.astype(float), pins.copy()
        self.regions: dict[int, Attempt] = {}
        self.region_of = np.full(matrix.shape[1], -1, np.int32)
        self.row_region = np.full(matrix.shape[0], -1, np.int32)
        self._minima = np.zeros(64)
        self._limits = self.prices.copy()
        self.set_limits(np.arange(len(x), dtype=np.int32))
        positive = self.prices[self.prices > 0]
        self.first_limit = float(np.quantile(positive, 0.1)) if len(positive) else 0.0
        self._free_ids = list(range(63, -1, -1))

    def copy(self) -> "Regions":
        """Return the same, to change it."""
        other = object.__new__(Regions)
        other.__dict__.update(self.__dict__)
        other.matrix, other.regions = self.matrix.twin(), dict(self.regions)
        for name in ("x", "pins", "region_of", "row_region", "_minima", "_limits"):
            setattr(other, name, getattr(self, name).copy())
        other._free_ids = list(self._free_ids)
        return other

    @property
    def objective(self) -> float:
        """What x costs."""
        return float((self.problem.costs * self.x).sum())  # a dot product would wake up threads

    @property
    def bound(self) -> float:
        """No answer that complies with the pins costs less."""
        pinned = (self.pins == 1) & (self.region_of < 0)
        return float(self.base + self.prices[pinned].sum() + sum(r.minimum for r in self.regions.values()))

    @property
    def is_spent(self) -> bool:
        """Whether more was solved than is allowed, so that regions are left as they are."""
        return self.work > self.allowed

    def payers(self) -> Index:
        """Return the columns outside of closed regions at which x pays and could do without."""
        pays = (self.x > 0) & (self.prices > 0) & (self.pins < 0)
        pays[pays] = [r < 0 or not self.regions[r].is_closed for r in self.region_of[pays]]
        return np.flatnonzero(pays).astype(np.int32)

    def pin(self, changes: Mapping[int, int]) -> list[Index]:
        """Set pins (−1 to free); return the rows to look at, place by place; x complies, rows may not.

        Where x complied already, a pin changes nothing: no answer that costs less came in sight.
        """
        places = []
        for variable, value in changes.items():
            place = np.array([variable], np.int32)
            if value != self.x[variable]:
                region = int(self.region_of[variable])
                paying = self._shrunk(region) if region >= 0 else place[:0]
                places.append(np.union1d(self.matrix.rows_of(place), paying))
            self.pins[variable] = value
            if value >= 0:
                self.x[variable] = value
            self.set_limits(place)
        return places

    def attempt(
        self,
        rows: Index,
        *,
        limit: float | None = None,
        enough: float = np.inf,
        seconds: Callable[[], float] = lambda: np.inf,
        stop: Stop = None,
    ) -> Attempt:
        """Grow a region from rows until it is closed, or pays more than is ``enough``, or time is up."""
        limit, absorbed = max(limit or 0.0, self.first_limit), set[int]()
        rows = np.unique(rows)
        while True:
            columns = self.matrix.columns_of(rows, self._limits, limit)
            others = {int(r) for r in np.unique(self.region_of[columns]) if r >= 0} - absorbed
            others |= {int(r) for r in np.unique(self.row_region[rows]) if r >= 0} - absorbed
            if others:
                absorbed |= others
                rows = np.unique(np.concatenate([rows, *(self.regions[r].rows for r in others)]))
                limit = max(limit, *(self.regions[r].limit for r in others))
                continue
            answer, offset = self._solve(rows, columns, max(seconds(), 0.0), stop)
            if answer.is_infeasible:
                if limit >= self._limits[np.isfinite(self._limits)].max(initial=0.0):
                    touched = self.matrix.columns_of(rows, self.prices, np.inf)
                    raise NoAnswer(touched[self.pins[touched] >= 0])
                limit = np.inf if limit > 0 and limit >= 64 * self.first_limit else max(8 * limit, 1e-3)
                limit = float(np.minimum(limit, self._limits[np.isfinite(self._limits)].max()))
                continue
            is_solved = answer.is_optimal and answer.values is not None
            values = self.x[columns] if answer.values is None else answer.values
            minimum = float(self.prices[columns] @ values) if is_solved else max(answer.bound + offset, 0.0)
            if minimum > limit and is_solved:
                limit = 2 * minimum
                continue
            broken = self._broken(rows, columns, values) if is_solved else rows[:0]
            is_closed = is_solved and not len(broken)
            result = Attempt(rows, columns, values, minimum, limit, tuple(absorbed), is_closed)
            is_late = self.is_spent or seconds() <= 0 or (stop and stop())
            if not is_solved or not len(broken) or minimum >= enough or is_late:
                return result
            rows = np.union1d(rows, broken)

    def accept(self, found: Attempt) -> None:
        """Take over a region, and its values if it is closed."""
        for region in found.absorbed:
            self._drop(region)
        if not self._free_ids:
            n = len(self._minima)
            self._minima = np.concatenate((self._minima, np.zeros(n)))
            self._free_ids = list(range(2 * n - 1, n - 1, -1))
        region = self._free_ids.pop()
        self.regions[region] = found
        self.region_of[found.columns], self.row_region[found.rows] = region, region
        self._minima[region] = found.minimum
        if found.is_closed:
            self.x[found.columns] = found.values
            self.set_limits(found.columns)

    def underpriced(self, rows: Index) -> Index:
        """Return columns of rows that would be cheaper than the regions they serve; the bound needs none."""
        total = sum(r.minimum for r in self.regions.values())
        columns = self.matrix.columns_of(rows, self._limits, total)
        return np.asarray(kernels.underpriced(
            self.matrix.column_starts, self.matrix.rows, columns, self.row_region, self.region_of, self._minima,
            self.prices,
        ))  # fmt: skip

    def close(
        self, rows: Index, *, seconds: Callable[[], float] = lambda: np.inf, stop: Stop = None
    ) -> Attempt:
        """Grow and take over a region, and all that has to become one with it."""
        limit = None
        while True:
            found = self.attempt(rows, limit=limit, seconds=seconds, stop=stop)
            self.accept(found)
            cheap = self.underpriced(found.rows)
            if not len(cheap) or self.is_spent:
                return found
            rows, limit = self.matrix.rows_of(cheap), max(found.limit, float(self.prices[cheap].max()))
            rows = np.union1d(rows, found.rows)

    def _solve(self, rows: Index, columns: Index, seconds: float, stop: Stop) -> tuple[Answer, float]:
        """Return the answer to a region alone, and what to add to its bound."""
        self.work += len(columns)
        starts, places, values = self.matrix.cut_out(rows, columns)
        x, pins = self.x[columns], self.pins[columns]
        costs = self.prices[columns] + np.where(x > 0, -_TIE, _TIE)
        lower, upper = np.where(pins == 1, 1.0, 0.0), np.where(pins == 0, 0.0, 1.0)
        program = Program(costs, starts, places, values, self.problem.right[rows], lower, upper)
        answer = solve_small(program) or solve_ilp(program, seconds=seconds, stop=stop)
        return answer, -_TIE * len(columns)

    def as_part(self, enough: float) -> Part:
        """Return the program and the answer as compiled loops take them; not copied."""
        matrix, minima = self.matrix, [region.minimum for region in self.regions.values()]
        return Part(
            matrix.starts, matrix.columns, matrix.values, self.problem.right.astype(float),
            matrix.column_starts, matrix.rows, self.prices, self._limits, self.pins, self.x,
            self.region_of, self.row_region,
            self.problem.n_assignments, self.first_limit, float(self.prices.max(initial=0.0)),
            float(sum(minima)) if minima else -1.0, _TIE, float(enough),
        )  # fmt: skip

    def _broken(self, rows: Index, columns: Index, values: Vector) -> Index:
        """Return the rows outside that values would break."""
        changed = columns[values != self.x[columns]]
        around = np.setdiff1d(self.matrix.rows_of(changed), rows, assume_unique=True)
        before = self.x[columns]
        self.x[columns] = values
        sums = self.matrix.sums_of(around, self.x)
        self.x[columns] = before
        return around[np.abs(sums - self.problem.right[around]) > 1e-6]

    def _shrunk(self, region: int) -> Index:
        """Drop a region and return the rows of what x pays there."""
        columns = self.regions[region].columns
        self._drop(region)
        return self.matrix.rows_of(columns[(self.x[columns] > 0) & (self.prices[columns] > 0)])

    def _drop(self, region: int) -> None:
        old = self.regions.pop(region)
        self.region_of[old.columns], self.row_region[old.rows] = -1, -1
        self._minima[region] = 0.0
        self._free_ids.append(region)

    def set_limits(self, columns: Index) -> None:
        """Say at which price columns come into a region: what is chosen always, what is pinned to 0 never."""
        limits = np.where(self.x[columns] > 0, -1.0, self.prices[columns])
        self._limits[columns] = np.where(self.pins[columns] == 0, np.inf, limits)
