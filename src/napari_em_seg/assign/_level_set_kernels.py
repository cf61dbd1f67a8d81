"""Compiled loops of level sets: lines made smooth, cuts made minimal, the tree of components of all levels.

Values and flows are whole numbers, so that what is saturated is so exactly. Pixel i has the neighbours
``i + step`` in eight directions; direction ``d + 4`` is the opposite of d, and ``flow[d, i]`` is what goes from
pixel i to its neighbour in direction d = 0…3 (right, down, down right, down left). The value of a pixel is what
it had at first, less what goes out, plus what comes in. Whatever calls whatever is in this one file.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["TILE", "grow", "ladder", "minimal_cuts", "smooth_rows", "smooth_slants", "tree"]

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

TILE = 16  # lines that are read and written side by side, as many as values in a line of cache
_DY = np.array([0, 1, 1, 1, 0, -1, -1, -1])
_DX = np.array([1, 0, 1, -1, -1, 0, -1, 1])


class _Room(NamedTuple):
    """Memory for one line: sums of its values, the corners of two hulls, and what the values were."""

    sums: Array
    above: Array
    below: Array
    old: Array


class _Cut(NamedTuple):
    """All that cuts work on. `rank` is the number of thresholds that a pixel is above."""

    value: Array
    rank: Array
    flow: Array
    most: int
    thresholds: Array
    shape: Any


class _Search(NamedTuple):
    """Memory for searches: when a pixel was met last, whence, and whose turn it is. `now` has one entry."""

    met: Array
    came: Array
    queue: Array
    now: Array


class _Waiting(NamedTuple):
    """Pixels with something to repair, in a doubly linked list for each rank; `listed` is 0 outside."""

    head: Array
    after: Array
    before: Array
    listed: Array


@njit(cache=True, nogil=True)
def _room(n: int) -> Any:
    return _Room(
        np.empty(n + 1, np.int64), np.empty(n + 2, np.int32), np.empty(n + 2, np.int32), np.empty(n, np.int32)
    )


@njit(cache=True, nogil=True)
def _write_segment(
    start: Index, y0: Index, end: Index, y1: Index, value: Array, flow: Array, sums: Array
) -> None:
    """Let the string run straight from one knot to the next, rounded: values are its steps."""
    slope = (y1 - y0) / (end - start)
    before = y0
    for k in range(start + 1, end + 1):
        y = y0 + np.int64(np.floor(slope * (k - start) + 0.5))
        value[k - 1] = y - before
        flow[k - 1] = sums[k] - y
        before = y


@njit(cache=True, nogil=True)
def _smooth(value: Array, flow: Array, n: int, most: int, room: Any) -> None:
    """Minimise ½ |u − value|² + most · Σ |u[k] − u[k + 1]| over n values in place; give the flows k → k + 1.

    Sums of u are a string as taut as can be within `most` of the sums of the values, fixed at both ends. From
    the last knot on, the hull of what bounds it from above (convex) and from below (concave) are kept; where
    they would cross, the string gets a knot. Each point enters and leaves each hull once: linear time.
    """
    sums, above, below, _ = room
    total = np.int64(0)
    sums[0] = 0
    for k in range(n):
        total += value[k]
        sums[k + 1] = total
    start, y0 = 0, np.int64(0)
    first_above = last_above = first_below = last_below = 0
    for k in range(1, n + 1):
        slack = most if k < n else 0
        high, low = sums[k] + slack, sums[k] - slack
        while last_above > first_above:
            b = above[last_above - 1]
            yb, a, ya = sums[b] + most, start, y0
            if last_above - 1 > first_above:
                a = above[last_above - 2]
                ya = sums[a] + most
            if (yb - ya) * (k - b) < (high - yb) * (b - a):
                break
            last_above -= 1
        above[last_above] = k
        last_above += 1
        while last_below > first_below:
            b = below[last_below - 1]
            yb, a, ya = sums[b] - most, start, y0
            if last_below - 1 > first_below:
                a = below[last_below - 2]
                ya = sums[a] - most
            if (yb - ya) * (k - b) > (low - yb) * (b - a):
                break
            last_below -= 1
        below[last_below] = k
        last_below += 1
        while above[first_above] != below[first_below]:
            a, b = above[first_above], below[first_below]
            ya, yb = sums[a] + (most if a < n else 0), sums[b] - (most if b < n else 0)
            if (ya - y0) * (b - start) >= (yb - y0) * (a - start):
                break
            if a > b:  # nothing is left of the upper hull but its end: along the lower one
                first_below += 1
                _write_segment(start, y0, b, yb, value, flow, sums)
                start, y0 = b, yb
            else:
                first_above += 1
                _write_segment(start, y0, a, ya, value, flow, sums)
                start, y0 = a, ya
    if start < n:
        _write_segment(start, y0, n, sums[n], value, flow, sums)


@njit(cache=True, nogil=True)
def _smooth_parts(value: Array, flow: Array, n: int, most: int, room: Any) -> Index:
    """Make a line smooth wherever it is not yet; return the largest change.

    Between two pixels that differ as they should, given a full flow, the line can be cut: each part is solved
    on its own, and only if two of its pixels differ although more could flow.
    """
    moved = 0
    start = 0
    is_due = False
    for k in range(n):
        if k < n - 1:
            step = value[k] - value[k + 1]
            if not ((step >= 0 and flow[k] == most) or (step <= 0 and flow[k] == -most)):
                is_due |= step > 1 or step < -1  # one is rounding
                continue
        if is_due:
            part = slice(start, k + 1)
            moved = max(moved, _smooth_part(value[part], flow[part], k + 1 - start, most, room))
        start, is_due = k + 1, False
    return moved


@njit(cache=True, nogil=True)
def _smooth_part(value: Array, flow: Array, n: int, most: int, room: Any) -> Index:
    """Solve one part of a line, of which the flow at the end stays; return the largest change."""
    last = flow[n - 1]
    came = 0
    for k in range(n):
        room.old[k] = value[k]
        goes = flow[k] if k < n - 1 else 0
        value[k] += goes - came
        came = goes
    _smooth(value, flow, n, most, room)
    flow[n - 1] = last
    moved = 0
    for k in range(n):
        moved = max(moved, abs(value[k] - room.old[k]))
    return moved


@njit(cache=True, nogil=True)
def smooth_rows(value: Array, flow: Array, most: int, first: int, end: int) -> Index:
    """Make rows smooth, given all other flows; return the largest change."""
    room = _room(value.shape[1])
    moved = 0
    for y in range(first, end):
        moved = max(moved, _smooth_parts(value[y], flow[y], value.shape[1], most, room))
    return moved


@njit(cache=True, nogil=True)
def smooth_slants(value: Array, flow: Array, most: int, slope: int, first: int, end: int) -> Index:
    """Make the lines x = c + slope · y smooth, c from `first` on; return the largest change.

    They are copied into rows, TILE neighbours at a time, and back.
    """
    height, width = value.shape
    room = _room(height)
    values, flows = np.empty((TILE, height), np.int32), np.empty((TILE, height), np.int32)
    moved = 0
    for c in range(first, end, TILE):
        n = min(TILE, end - c)
        _copy_tile(value, flow, slope, c, n, values, flows, True)
        changed = 0
        for j in range(n):
            top, stop = _extent(c + j, slope, height, width)
            if stop - top > 1:
                part, along = values[j, top:stop], flows[j, top:stop]
                changed = max(changed, _smooth_parts(part, along, stop - top, most, room))
        if changed > 0:
            _copy_tile(value, flow, slope, c, n, values, flows, False)
        moved = max(moved, changed)
    return moved


@njit(cache=True, nogil=True)
def _extent(c: int, slope: int, height: int, width: int) -> Any:
    """Return the first row of the line x = c + slope · y, and the one after its last."""
    if slope == 0:
        return 0, height
    if slope > 0:
        return max(0, -c), min(height, width - c)
    return max(0, c - width + 1), min(height, c + 1)


@njit(cache=True, nogil=True)
def _copy_tile(
    value: Array, flow: Array, slope: int, c: int, n: int, values: Array, flows: Array, is_in: bool
) -> None:
    """Copy n neighbouring lines into rows, or back."""
    height, width = value.shape
    for y in range(height):
        x0 = c + slope * y
        for j in range(max(0, -x0), min(n, width - x0)):
            if is_in:
                values[j, y] = value[y, x0 + j]
                flows[j, y] = flow[y, x0 + j]
            else:
                value[y, x0 + j] = values[j, y]
                flow[y, x0 + j] = flows[j, y]


@njit(cache=True, nogil=True)
def ladder(value: Array, thresholds: Array, rank: Array) -> None:
    """Count for each pixel the thresholds, which rise, that it is above."""
    for y in range(value.shape[0]):
        for x in range(value.shape[1]):
            rank[y, x] = np.searchsorted(thresholds, value[y, x])


@njit(cache=True, nogil=True)
def _left(cut: Any, i: int, j: int, d: int) -> Index:
    """Return how much more can flow from pixel i to j, its neighbour in direction d."""
    return cut.most - cut.flow[d, i] if d < 4 else cut.most + cut.flow[d - 4, j]


@njit(cache=True, nogil=True)
def _send(cut: Any, i: int, j: int, d: int, amount: int) -> None:
    if d < 4:
        cut.flow[d, i] += amount
    else:
        cut.flow[d - 4, j] -= amount


@njit(cache=True, nogil=True)
def _neighbour(cut: Any, i: int, d: int) -> Index:
    """Return the neighbour in direction d; −1: none."""
    height, width = cut.shape
    y = i // width
    x = i - y * width + _DX[d]
    y += _DY[d]
    return y * width + x if 0 <= x < width and 0 <= y < height else -1


@njit(cache=True, nogil=True)
def _enlist(cut: Any, waiting: Any, i: int) -> None:
    """Put a pixel into the list of its rank if more could flow from it to a lower rank."""
    rank = cut.rank[i]
    if rank == 0 or waiting.listed[i] == rank:
        return
    for d in range(8):
        j = _neighbour(cut, i, d)
        if j >= 0 and cut.rank[j] < rank and _left(cut, i, j, d) > 0:
            break
    else:
        return
    if waiting.listed[i] != 0:
        _unlist(waiting, i)
    first = waiting.head[rank]
    waiting.after[i], waiting.before[i], waiting.listed[i] = first, -1, rank
    if first >= 0:
        waiting.before[first] = i
    waiting.head[rank] = i


@njit(cache=True, nogil=True)
def _unlist(waiting: Any, i: int) -> None:
    after, before = waiting.after[i], waiting.before[i]
    if before >= 0:
        waiting.after[before] = after
    else:
        waiting.head[waiting.listed[i]] = after
    if after >= 0:
        waiting.before[after] = before
    waiting.listed[i] = 0


@njit(cache=True, nogil=True)
def _enlist_all(cut: Any, waiting: Any) -> None:
    height, width = cut.shape
    for d in range(4):
        step = _DY[d] * width + _DX[d]
        for y in range(height - _DY[d]):
            for i in range(y * width + max(0, -_DX[d]), (y + 1) * width - max(0, _DX[d])):
                j = i + step
                if cut.rank[i] > cut.rank[j] and cut.flow[d, i] < cut.most:
                    _enlist(cut, waiting, i)
                elif cut.rank[i] < cut.rank[j] and cut.flow[d, i] > -cut.most:
                    _enlist(cut, waiting, j)


@njit(cache=True, nogil=True)
def _enlist_around(cut: Any, waiting: Any, i: int) -> None:
    _enlist(cut, waiting, i)
    for d in range(8):
        j = _neighbour(cut, i, d)
        if j >= 0:
            _enlist(cut, waiting, j)


@njit(cache=True, nogil=True)
def minimal_cuts(value: Array, rank: Array, flow: Array, most: int, thresholds: Array, shape: Any) -> Index:
    """Make {rank ≥ k} a minimal cut for thresholds[k − 1] and every k; return how often something had to flow.

    A set is one if all its pixels are at the threshold or above it, all others at it or below it, and all flows
    out of it are full. So only where one is not full is something to do: it is sent from the nearest pixel
    above the threshold to the nearest one below it, through pixels at the threshold; where none is found, the
    pixels searched go to the other side. The highest threshold comes first: what is sent for another one
    later stays outside its set, from which no more can flow. Flows and excesses are whole numbers, so it ends.
    """
    n = len(value)
    cut = _Cut(value, rank, flow, most, thresholds, shape)
    none = np.full(n, -1, np.int32)
    waiting = _Waiting(np.full(len(thresholds) + 1, -1, np.int32), none, none.copy(), np.zeros(n, np.int16))
    search = _Search(np.zeros(n, np.int32), np.zeros(n, np.int8), np.empty(n, np.int32), np.zeros(1, np.int32))
    _enlist_all(cut, waiting)
    sent = 0
    for k in range(len(thresholds), 0, -1):
        while waiting.head[k] >= 0:
            i = waiting.head[k]
            _unlist(waiting, i)
            for d in range(8):
                j = _neighbour(cut, i, d)
                while j >= 0 and rank[i] >= k > rank[j] and _left(cut, i, j, d) > 0:
                    sent += _repair(cut, waiting, search, k, i, j, d)
    return sent


@njit(cache=True, nogil=True)
def _repair(cut: Any, waiting: Any, search: Any, k: int, i: int, j: int, d: int) -> Index:
    """Send something across the pair of i (inside) and j (outside), or move one of them to the other side."""
    source, n = _found(cut, search, k, i, True)
    if source < 0:
        _move(cut, waiting, search, n, k - 1)
        return 0
    target, n = _found(cut, search, k, j, False)
    if target < 0:
        _move(cut, waiting, search, n, k)
        return 0
    threshold = cut.thresholds[k - 1]
    amount = min(cut.value[source] - threshold, threshold - cut.value[target])
    amount = min(amount, _left(cut, i, j, d), _least_left(cut, search, source, i, True))
    amount = min(amount, _least_left(cut, search, target, j, False))
    cut.value[source] -= amount
    cut.value[target] += amount
    rank = cut.rank[target]
    while rank < k - 1 and cut.value[target] > cut.thresholds[rank]:
        rank += 1
    cut.rank[target] = rank
    _send(cut, i, j, d, amount)
    _send_along(cut, waiting, search, source, i, True, amount)
    _send_along(cut, waiting, search, target, j, False, amount)
    return 1


@njit(cache=True, nogil=True)
def _found(cut: Any, search: Any, k: int, start: int, is_inside: bool) -> Any:
    """Return the nearest pixel off the threshold on the side of `start`, or −1; and how many were searched.

    Inside, it is one from which something can flow to `start`; outside, one to which it can flow from there.
    """
    threshold = cut.thresholds[k - 1]
    if cut.value[start] != threshold:
        return start, 0
    search.now[0] += 1
    now = search.now[0]
    search.queue[0], search.met[start] = start, now
    done, n = 0, 1
    while done < n:
        i = search.queue[done]
        done += 1
        for d in range(8):
            j = _neighbour(cut, i, d)
            if j < 0 or search.met[j] == now or (cut.rank[j] >= k) != is_inside:
                continue
            if (_left(cut, j, i, (d + 4) & 7) if is_inside else _left(cut, i, j, d)) <= 0:
                continue
            search.met[j], search.came[j] = now, d
            if cut.value[j] != threshold:
                return j, n
            search.queue[n] = j
            n += 1
    return -1, n


@njit(cache=True, nogil=True)
def _move(cut: Any, waiting: Any, search: Any, n: int, rank: int) -> None:
    """Give all pixels that were searched, which are at the threshold, to the other side."""
    for m in range(n):
        cut.rank[search.queue[m]] = rank
    for m in range(n):
        _enlist_around(cut, waiting, search.queue[m])


@njit(cache=True, nogil=True)
def _least_left(cut: Any, search: Any, end: int, start: int, is_inside: bool) -> Index:
    """Return how much more can flow along the way that a search found."""
    least = np.int64(2) * cut.most
    while end != start:
        d = search.came[end]
        before = _neighbour(cut, end, (d + 4) & 7)
        back = _left(cut, end, before, (d + 4) & 7) if is_inside else _left(cut, before, end, d)
        least = min(least, back)
        end = before
    return least


@njit(cache=True, nogil=True)
def _send_along(
    cut: Any, waiting: Any, search: Any, end: int, start: int, is_inside: bool, amount: int
) -> None:
    """Send along the way that a search found, and look again at all pixels on it."""
    i = end
    while i != start:
        d = search.came[i]
        before = _neighbour(cut, i, (d + 4) & 7)
        if is_inside:
            _send(cut, i, before, (d + 4) & 7, amount)
        else:
            _send(cut, before, i, d, amount)
        i = before
    _enlist_around(cut, waiting, start)
    while end != start:
        _enlist_around(cut, waiting, end)
        end = _neighbour(cut, end, (search.came[end] + 4) & 7)


@njit(cache=True, nogil=True)
def _root(up: Array, i: int) -> Index:
    while up[i] != i:
        up[i] = up[up[i]]
        i = up[i]
    return i


@njit(cache=True, nogil=True)
def _sorted(rank: Array, n_ranks: int) -> Array:
    """Return the pixels of rank 1 and more, the highest rank first, else in order."""
    counts = np.zeros(n_ranks + 2, np.int64)
    for i in range(len(rank)):
        counts[n_ranks - rank[i] + 1] += 1
    for k in range(1, n_ranks + 2):
        counts[k] += counts[k - 1]
    order = np.empty(counts[n_ranks], np.int32)
    for i in range(len(rank)):
        if rank[i] > 0:
            order[counts[n_ranks - rank[i]]] = i
            counts[n_ranks - rank[i]] += 1
    return order


@njit(cache=True, nogil=True)
def tree(rank: Array, n_ranks: int, n_neighbours: int) -> Any:
    """Return the components of all sets {rank ≥ k}, k from 1 on: their pixels, their parents, their ranks.

    Pixels enter from the highest rank on. A component has one pixel that stands for it (its root in `up`),
    and the region that it is by now; where two of them meet, or a lower pixel comes, the region of that rank
    holds both. A region that is the same set at several thresholds is there once, with the highest of them.
    """
    height, width = rank.shape
    flat = rank.ravel()
    order = _sorted(flat, n_ranks)
    up = np.full(flat.size, -1, np.int32)
    region = np.full(flat.size, -1, np.int32)  # of a root: its region; in the end, of each pixel
    nodes = np.full(flat.size, -1, np.int32)
    parent, level = np.full(len(order), -1, np.int32), np.empty(len(order), flat.dtype)
    n = 0
    directions = np.array([0, 4, 1, 5, 2, 3, 6, 7])[:n_neighbours]
    for i in order:
        y = i // width
        x = i - y * width
        up[i] = i
        root, own = i, -1
        for d in directions:
            yy, xx = y + _DY[d], x + _DX[d]
            if not (0 <= yy < height and 0 <= xx < width):
                continue
            j = yy * width + xx
            if up[j] < 0:
                continue
            other = _root(up, j)
            if other == root:
                continue
            theirs = region[other]
            if level[theirs] == flat[i]:
                if own < 0:
                    own = theirs
                elif own != theirs:  # two regions of this rank become one
                    parent[theirs] = own
            else:
                if own < 0:
                    own = n
                    level[own] = flat[i]
                    n += 1
                parent[theirs] = own
            up[other] = root
        if own < 0:
            own = n
            level[own] = flat[i]
            n += 1
        region[root] = own
        nodes[i] = own
    return _tidied(nodes.reshape(height, width), parent[:n], level[:n])


@njit(cache=True, nogil=True)
def _tidied(nodes: Array, parent: Array, level: Array) -> Any:
    """Put in the place of regions whose parent has the same rank that parent, and number the rest anew."""
    n = len(parent)
    stands = np.empty(n, np.int32)
    for i in range(n):
        j = i
        while parent[j] >= 0 and level[parent[j]] == level[j]:
            j = parent[j]
        k = i
        while k != j:  # the next time the way is shorter
            parent[k], k = j, parent[k]
        stands[i] = j
    place, m = np.full(n, -1, np.int32), 0
    for i in range(n):
        if stands[i] == i:
            place[i] = m
            m += 1
    up, ranks = np.full(m, -1, np.int32), np.empty(m, level.dtype)
    for i in range(n):
        if stands[i] == i:
            ranks[place[i]] = level[i]
            if parent[i] >= 0:
                up[place[i]] = place[stands[parent[i]]]
    for y in range(nodes.shape[0]):
        for x in range(nodes.shape[1]):
            if nodes[y, x] >= 0:
                nodes[y, x] = place[stands[nodes[y, x]]]
    return nodes, up, ranks


@njit(cache=True, nogil=True)
def grow(nodes: Array, order: Array, last: Array, n_pixels: int) -> Array:
    """Let regions grow into what is around them, but not into others, one ring of pixels after the other.

    A pixel goes to a region next to it if that one is below the pixel's own, or if the pixel has none: then all
    that hold that region, up to the pixel's own, have the pixel too. Of several the first one has it.

    Parameters
    ----------
    order, last
        As `preorder` returns them.
    """
    place = np.empty(len(order), np.int32)
    for k in range(len(order)):
        place[order[k]] = k
    height, width = nodes.shape
    old, new = nodes.copy(), nodes.copy()
    for _ in range(n_pixels):
        for y in range(height):
            for x in range(width):
                own, best = old[y, x], -1
                for d in (0, 1, 4, 5):
                    yy, xx = y + _DY[d], x + _DX[d]
                    other = old[yy, xx] if 0 <= yy < height and 0 <= xx < width else -1
                    if other < 0 or other == own or 0 <= best <= other:
                        continue
                    if own < 0 or place[own] < place[other] <= last[place[own]]:
                        best = other
                if best >= 0:
                    new[y, x] = best
        old[:] = new
    return new
