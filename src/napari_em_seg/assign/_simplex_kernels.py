"""The dual simplex method for programs of a few rows, compiled; duals prove each answer, or it is none.

HiGHS takes a millisecond to begin, and most parts of a program of assignments have ten rows and fifty columns.
"""
# mypy: disallow-untyped-decorators=False

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["ENOUGH", "INFEASIBLE", "LARGEST", "PROVEN", "UNKNOWN", "Part", "forbid", "solve"]

Array = NDArray[np.float64]

UNKNOWN, PROVEN, INFEASIBLE, ENOUGH = 0, 1, 2, 3
_SMALL = 1e-9
_PROOF = 1e-7  # how far bound and costs may be apart
_ATTEMPTS = 50
_DEEPEST = 30  # cases open at once
_WORK = 3_000_000  # the same, of all relaxed programs together
LARGEST = 300_000  # rows times columns of a dense table


@njit(cache=True, nogil=True)
def solve(matrix, costs, right, lower, upper):  # type: ignore[no-untyped-def]
    r"""Minimise ``costs @ x`` with ``matrix @ x = right``, x whole, from ``lower`` to ``upper``; all dense.

    Relaxed first. For any duals y

    .. math:: c^T x \ge b^T y + \sum_j \min_{l_j \le x_j \le u_j} (c_j - y^T A_j) x_j,

    so that an answer in whole numbers which costs that much is the best one, however it was found. Likewise
    there is none if some combination of rows cannot be reached within the bounds. Where the relaxed answer is
    not whole, the two cases of its variable nearest to one half are solved, and so on, deepest first.

    Returns
    -------
    tuple
        `PROVEN` and the answer; `INFEASIBLE`, proven as well; or `UNKNOWN`: it takes another solver.
    """
    n = len(costs)
    lows, highs = np.empty((_DEEPEST + 2, n)), np.empty((_DEEPEST + 2, n))
    lows[0], highs[0] = lower, upper
    best, least, n_open = np.zeros(n), np.inf, 1
    for _ in range(min(200, 1 + _WORK // max(1, len(right) * (len(right) + n)))):
        n_open -= 1
        low, high = lows[n_open].copy(), highs[n_open].copy()
        status, x, bound = _relaxed(matrix, costs, right, low, high)
        if status == UNKNOWN or n_open > _DEEPEST:
            return UNKNOWN, best
        if status == PROVEN and bound < least - _PROOF:
            j, price = _least_whole(x, costs)
            if j < 0 and price > bound + _PROOF:
                return UNKNOWN, best
            if j < 0:
                best, least = x, price
            else:  # the nearer case is looked at first
                nearer = np.round(x[j])
                for k in range(2):
                    lows[n_open], highs[n_open] = low, high
                    lows[n_open, j] = highs[n_open, j] = nearer if k else 1 - nearer
                    n_open += 1
        if n_open == 0:
            return (PROVEN if least < np.inf else INFEASIBLE), best
    return UNKNOWN, best


@njit(cache=True, nogil=True)
def _least_whole(x, costs):  # type: ignore[no-untyped-def]
    """Round what is nearly whole; return the variable nearest to 1/2 (−1: all are whole), and the costs."""
    worst, found, price = 1e-6, -1, 0.0
    for j in range(len(x)):
        nearest = np.round(x[j])
        off = abs(x[j] - nearest)
        if off > worst:
            worst, found = off, j
        if off <= 1e-6:
            x[j] = nearest
        price += costs[j] * x[j]
    return found, price


@njit(cache=True, nogil=True)
def _relaxed(matrix, costs, right, lower, upper):  # type: ignore[no-untyped-def]
    """Return the answer to a relaxed program, and a bound that its duals prove.

    Begins with every variable at the bound that is cheaper, and a slack for each row that has to become 0. The
    row that is most off is repaired by what raises costs least, again and again.
    """
    m, n = matrix.shape
    table, slopes, basis, values, low, high = _begun(matrix, costs, right, lower, upper)
    x = values[:n]
    for _ in range(50 + 20 * m):
        row = _most_off(basis, values, low, high)
        if row < 0:
            if not _complies(matrix, right, lower, upper, x):
                return UNKNOWN, x, 0.0
            return PROVEN, x, _proven(matrix, costs, right, lower, upper, -slopes[n:])
        if not _repaired(row, table, slopes, basis, values, low, high):
            is_proven = _is_out_of_reach(matrix, right, lower, upper, table[row, n:])
            return (INFEASIBLE if is_proven else UNKNOWN), x, 0.0
    return UNKNOWN, x, 0.0


@njit(cache=True, nogil=True)
def _begun(matrix, costs, right, lower, upper):  # type: ignore[no-untyped-def]
    """Return the table, reduced costs, basis, values and bounds to begin with; slacks come last."""
    m, n = matrix.shape
    table = np.zeros((m, n + m))
    table[:, :n] = matrix
    slopes, values, low, high = np.zeros(n + m), np.zeros(n + m), np.zeros(n + m), np.zeros(n + m)
    slopes[:n], low[:n], high[:n] = costs, lower, upper
    for j in range(n):
        values[j] = upper[j] if costs[j] < 0 else lower[j]
    basis = np.empty(m, np.int64)
    for i in range(m):
        basis[i] = n + i
        table[i, n + i] = 1.0
        total = right[i]
        for j in range(n):
            total -= matrix[i, j] * values[j]
        values[n + i] = total
    return table, slopes, basis, values, low, high


@njit(cache=True, nogil=True)
def _most_off(basis, values, low, high):  # type: ignore[no-untyped-def]
    """Return the row whose variable is furthest out of its bounds; −1: none is."""
    worst, row = _SMALL, -1
    for i in range(len(basis)):
        k = basis[i]
        off = max(low[k] - values[k], values[k] - high[k])
        if off > worst:
            worst, row = off, i
    return row


@njit(cache=True, nogil=True)
def _repaired(row, table, slopes, basis, values, low, high):  # type: ignore[no-untyped-def]
    """Bring the variable of a row to its bound; return whether that is possible.

    What raises costs least is moved first, all the way to its other bound while that is not enough.
    """
    leaving = basis[row]
    sign = 1.0 if values[leaving] > high[leaving] else -1.0
    bound = high[leaving] if sign > 0 else low[leaving]
    while True:
        entering = _cheapest(sign, table[row], slopes, values, low, high, leaving)
        if entering < 0:
            return False
        way = (values[leaving] - bound) / table[row, entering]
        full = high[entering] - low[entering]
        if abs(way) <= full + _SMALL:
            break
        _move(entering, full if way > 0 else -full, table, basis, values)
    _move(entering, way, table, basis, values)
    values[leaving] = bound
    _pivot(row, entering, table, slopes)
    basis[row] = entering
    return True


@njit(cache=True, nogil=True)
def _cheapest(sign, line, slopes, values, low, high, leaving):  # type: ignore[no-untyped-def]
    """Return the variable outside the basis that can move and raises costs least; −1: none can."""
    best, found, size = np.inf, -1, 0.0
    for j in range(len(line)):
        weight = sign * line[j]
        if abs(weight) < _SMALL or low[j] == high[j] or j == leaving:
            continue
        # at its lower bound it can grow, at its upper one it can shrink
        if (weight > 0) != (values[j] == low[j]):
            continue
        rise = abs(slopes[j]) / abs(weight)
        if rise < best - _SMALL or (rise <= best + _SMALL and abs(weight) > size):
            best, found, size = min(rise, best), j, abs(weight)
    return found


@njit(cache=True, nogil=True)
def _move(j, way, table, basis, values):  # type: ignore[no-untyped-def]
    """Change a variable outside the basis, and those in the basis with it."""
    values[j] += way
    for i in range(len(basis)):
        values[basis[i]] -= table[i, j] * way


@njit(cache=True, nogil=True)
def _pivot(row, j, table, slopes):  # type: ignore[no-untyped-def]
    """Let a variable stand for a row."""
    line = table[row]
    line /= line[j]
    factor = slopes[j]
    if factor != 0:
        slopes -= factor * line
    slopes[j] = 0.0
    for i in range(len(table)):
        factor = table[i, j]
        if i != row and factor != 0:
            table[i] -= factor * line
            table[i, j] = 0.0


@njit(cache=True, nogil=True)
def _complies(matrix, right, lower, upper, x):  # type: ignore[no-untyped-def]
    for i in range(len(right)):
        total = -right[i]
        for j in range(len(x)):
            total += matrix[i, j] * x[j]
        if abs(total) > _PROOF:
            return False
    return np.all(x >= lower - _PROOF) and np.all(x <= upper + _PROOF)


@njit(cache=True, nogil=True)
def _proven(matrix, costs, right, lower, upper, duals):  # type: ignore[no-untyped-def]
    """Return what every answer costs at least, by these duals."""
    bound = 0.0
    for i in range(len(right)):
        bound += right[i] * duals[i]
    for j in range(len(costs)):
        slope = costs[j]
        for i in range(len(right)):
            slope -= matrix[i, j] * duals[i]
        bound += slope * (upper[j] if slope < 0 else lower[j])
    return bound


@njit(cache=True, nogil=True)
def _is_out_of_reach(matrix, right, lower, upper, weights):  # type: ignore[no-untyped-def]
    """Return whether this combination of rows proves that there is no answer."""
    m, n = matrix.shape
    least, most, wanted = 0.0, 0.0, 0.0
    for i in range(m):
        wanted += weights[i] * right[i]
    for j in range(n):
        slope = 0.0
        for i in range(m):
            slope += weights[i] * matrix[i, j]
        least += slope * (lower[j] if slope > 0 else upper[j])
        most += slope * (upper[j] if slope > 0 else lower[j])
    return wanted < least - 1e-6 or wanted > most + 1e-6


class Part(NamedTuple):
    """A program with its answer, as `Regions` holds them: the matrix by rows and by columns."""

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: Array
    right: Array
    column_starts: NDArray[np.int32]
    rows: NDArray[np.int32]
    prices: Array
    limits: Array
    pins: NDArray[np.int8]
    x: Array
    region_of: NDArray[np.int32]
    row_region: NDArray[np.int32]
    n_assignments: int
    first_limit: float
    top: float
    others: float
    tie: float
    enough: float


@njit(cache=True, nogil=True)
def forbid(variables, places, part, value, instead, state):  # type: ignore[no-untyped-def]
    """Fill in how much dearer the best answer gets without each of some variables, and what it has then.

    As `Regions.attempt` does it: a region grows from the rows of the variable until it is closed. Left to that
    are those that come near other regions, or take programs too large for dense arithmetic.

    Parameters
    ----------
    variables, places
        Variables that are chosen, and which of them to look at.
    part
        The program and its answer; ``x`` is changed on the way, and put back.
    value, instead, state
        By how much, the assignment that takes the place or −1, and `PROVEN`, `INFEASIBLE` (there is no answer
        without it), `ENOUGH` (it is at least so much), or `UNKNOWN`.
    """
    row_marks, marks = np.full(len(part.right), -1, np.int32), np.full(len(part.x), -1, np.int32)
    for k in places:
        v = variables[k]
        before, part.x[v] = part.x[v], 0.0
        value[k], instead[k], state[k] = _forbidden(v, before, part, row_marks, marks)
        part.x[v] = before


@njit(cache=True, nogil=True)
def _forbidden(variable, before, part, row_marks, marks):  # type: ignore[no-untyped-def]
    rows = part.rows[part.column_starts[variable] : part.column_starts[variable + 1]].copy()
    limit = part.first_limit
    for _ in range(_ATTEMPTS):
        columns = _columns_of(rows, part, limit, variable, marks)
        if len(rows) * (len(rows) + len(columns)) > LARGEST or _is_taken(rows, columns, part):
            break
        status, x = _solved(rows, columns, part, marks)
        if status == UNKNOWN:
            break
        if status == INFEASIBLE:
            if limit >= part.top:
                return np.inf, -1, INFEASIBLE
            limit = min(max(8 * limit, 1e-3), part.top)
            continue
        least, paid = 0.0, part.prices[variable] * before
        for i in range(len(columns)):
            least += part.prices[columns[i]] * x[i]
            paid += part.prices[columns[i]] * part.x[columns[i]]
        if least > limit:
            limit = 2 * least
            continue
        broken = _broken(rows, columns, x, part, row_marks)
        if len(broken) and least - paid < part.enough:
            rows = np.concatenate((rows, broken))
            continue
        if part.others >= 0 and _touches_others(rows, variable, least, part, marks):
            break
        state = ENOUGH if len(broken) else PROVEN
        return max(0.0, least - paid), _in_its_place(variable, columns, x, part, row_marks), state
    return 0.0, -1, UNKNOWN


@njit(cache=True, nogil=True)
def _columns_of(rows, part, limit, without, marks):  # type: ignore[no-untyped-def]
    """Return the columns of some rows up to a price, in order, but for one; marks stay −1."""
    n = 0
    for r in rows:
        n += part.starts[r + 1] - part.starts[r]
    found, k = np.empty(n, np.int32), 0
    for r in rows:
        for e in range(part.starts[r], part.starts[r + 1]):
            v = part.columns[e]
            if marks[v] < 0 and part.limits[v] <= limit and v != without:
                marks[v] = 0
                found[k] = v
                k += 1
    for i in range(k):
        marks[found[i]] = -1
    return np.sort(found[:k])


@njit(cache=True, nogil=True)
def _is_taken(rows, columns, part):  # type: ignore[no-untyped-def]
    """Return whether something belongs to a region already."""
    return part.others >= 0 and ((part.row_region[rows] >= 0).any() or (part.region_of[columns] >= 0).any())


@njit(cache=True, nogil=True)
def _solved(rows, columns, part, marks):  # type: ignore[no-untyped-def]
    """Solve for columns in rows; of answers that cost the same the nearest one is found."""
    m, n = len(rows), len(columns)
    matrix, right = np.zeros((m, n)), np.empty(m)
    costs, lower, upper = np.empty(n), np.zeros(n), np.ones(n)
    for j in range(n):
        v = columns[j]
        marks[v] = j
        costs[j] = part.prices[v] + (-part.tie if part.x[v] > 0 else part.tie)
        if part.pins[v] >= 0:
            lower[j] = upper[j] = part.pins[v]
    for i in range(m):
        right[i] = part.right[rows[i]]
        for e in range(part.starts[rows[i]], part.starts[rows[i] + 1]):
            j = marks[part.columns[e]]
            if j >= 0:
                matrix[i, j] = part.values[e]
    for v in columns:
        marks[v] = -1
    return solve(matrix, costs, right, lower, upper)


@njit(cache=True, nogil=True)
def _broken(rows, columns, values, part, marks):  # type: ignore[no-untyped-def]
    """Return the rows outside that values would break; marks are −1, and stay so."""
    for r in rows:
        marks[r] = 1
    found, k = np.empty(64, np.int32), 0
    before = part.x[columns]
    for j in range(len(columns)):
        part.x[columns[j]] = values[j]
    for j in range(len(columns)):
        if values[j] == before[j]:
            continue
        for e in range(part.column_starts[columns[j]], part.column_starts[columns[j] + 1]):
            r = part.rows[e]
            if marks[r] < 0:
                marks[r] = 0
                if k == len(found):
                    found = np.concatenate((found, np.empty(k, np.int32)))
                found[k] = r
                k += 1
    n = 0
    for i in range(k):
        r, total = found[i], 0.0
        marks[r] = -1
        for e in range(part.starts[r], part.starts[r + 1]):
            total += part.values[e] * part.x[part.columns[e]]
        if abs(total - part.right[r]) > 1e-6:
            found[n] = r
            n += 1
    for r in rows:
        marks[r] = -1
    for j in range(len(columns)):
        part.x[columns[j]] = before[j]
    return found[:n]


@njit(cache=True, nogil=True)
def _touches_others(rows, variable, least, part, marks):  # type: ignore[no-untyped-def]
    """Return whether a column may be cheaper than the regions that it touches: the bound needs one region."""
    for v in _columns_of(rows, part, least + part.others, variable, marks):
        for e in range(part.column_starts[v], part.column_starts[v + 1]):
            if part.row_region[part.rows[e]] >= 0:
                return True
    return False


@njit(cache=True, nogil=True)
def _in_its_place(variable, columns, values, part, marks):  # type: ignore[no-untyped-def]
    """Return the new assignment that has most rows in common with the one forbidden, −1: none has."""
    own = part.rows[part.column_starts[variable] : part.column_starts[variable + 1]]
    for r in own:
        marks[r] = 0
    best, most = -1, 0
    for j in range(len(columns)):
        v = columns[j]
        if values[j] < 0.5 or part.x[v] > 0.5 or v >= part.n_assignments:
            continue
        shared = 0
        for e in range(part.column_starts[v], part.column_starts[v + 1]):
            shared += marks[part.rows[e]] == 0
        if shared > most:
            best, most = v, shared
    for r in own:
        marks[r] = -1
    return best
