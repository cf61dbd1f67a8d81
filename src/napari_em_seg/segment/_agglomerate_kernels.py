"""Compiled loops of agglomeration: a queue of boundaries, neighbours as linked lists, features, forests.

Nodes and edges are numbered from 0. An edge has two halves, ``2 e`` and ``2 e + 1``; half h is in the list of
the node ``ends.flat[h]``. Whatever calls whatever is in this one file, since machine code that is kept on disk
(cache=True) is made anew only if the file of the caller changes.
"""

# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "DONE", "FOREST", "FULL", "LIMIT", "MEAN", "N_FEATURES", "QUANTILE",
    "Ages", "Links", "Pairs", "Queue", "Result", "Samples", "Scoring", "Statistics", "Trees",
    "compacted", "describe", "enter_pairs", "fill_links", "fill_queue", "run",
]  # fmt: skip

Array = NDArray[Any]
Index = Any  # a Python int, or one of numpy's

MEAN, QUANTILE, FOREST = 0, 1, 2  # ways to score
DONE, LIMIT, FULL = 0, 1, 2  # why a run ended
N_FEATURES = 52
_STEPS = 65280  # to an affinity of 1, as in the region graph
_NONE = np.int32(-1)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_HALF = np.uint64(32)
_ONE = np.uint64(1)


class Statistics(NamedTuple):
    """What is known of edges and nodes, row by row; columns as in `RegionGraph`."""

    histogram: Array
    sums: Array
    extremes: Array
    node_sums: Array
    boxes: Array


class Links(NamedTuple):
    """Who touches whom. `version` grows whenever a score changes, and is −1 once an edge is gone."""

    ends: Array
    after: Array
    before: Array
    head: Array
    degree: Array
    version: Array


class Ages(NamedTuple):
    """How old scores are: merges done when each edge was scored, and when each node was last changed.

    `full` holds the voxels of each node when all its edges were last scored. Forests alone need all this.
    `used` counts what was scored since the beginning.
    """

    scored: Array
    changed: Array
    full: Array
    used: Array


class Pairs(NamedTuple):
    """Hash table from two nodes to their edge; a key of 0 is free. Pairs with a node that is gone stay."""

    keys: Array
    edges: Array
    used: Array


class Queue(NamedTuple):
    """Binary heap of edges: the highest score first, of equal ones the lowest number."""

    score: Array
    edge: Array
    version: Array
    used: Array


class Trees(NamedTuple):
    """Decision trees one after the other; a leaf has the feature −1."""

    roots: Array
    feature: Array
    threshold: Array
    children: Array
    value: Array


class Scoring(NamedTuple):
    """How to score an edge; forests score those of a node anew once it is `growth` times as large."""

    mode: int
    quantile: float
    growth: float
    voxel_size: Array
    trees: Trees


class Samples(NamedTuple):
    """Where to put what is met on the way; no rows: nowhere."""

    truth: Array
    rows: Array
    is_same: Array
    sizes: Array
    used: Array


class Result(NamedTuple):
    """The merges so far, and the number in the tree of each node."""

    a: Array
    b: Array
    score: Array
    name: Array
    used: Array


@njit(cache=True, nogil=True)
def _is_before(score: float, edge: int, other: float, other_edge: int) -> Any:
    return score > other or (score == other and edge < other_edge)


@njit(cache=True, nogil=True)
def _rise(queue: Queue, i: int) -> None:
    """Move an item up to where it belongs."""
    score, edge, version = queue.score[i], queue.edge[i], queue.version[i]
    while i > 0:
        up = (i - 1) >> 1
        if not _is_before(score, edge, queue.score[up], queue.edge[up]):
            break
        queue.score[i], queue.edge[i], queue.version[i] = queue.score[up], queue.edge[up], queue.version[up]
        i = up
    queue.score[i], queue.edge[i], queue.version[i] = score, edge, version


@njit(cache=True, nogil=True)
def _sink(queue: Queue, i: int) -> None:
    """Move an item down to where it belongs."""
    n = queue.used[0]
    score, edge, version = queue.score[i], queue.edge[i], queue.version[i]
    while 2 * i + 1 < n:
        k = 2 * i + 1
        if k + 1 < n and _is_before(queue.score[k + 1], queue.edge[k + 1], queue.score[k], queue.edge[k]):
            k += 1
        if not _is_before(queue.score[k], queue.edge[k], score, edge):
            break
        queue.score[i], queue.edge[i], queue.version[i] = queue.score[k], queue.edge[k], queue.version[k]
        i = k
    queue.score[i], queue.edge[i], queue.version[i] = score, edge, version


@njit(cache=True, nogil=True)
def _push(queue: Queue, score: float, edge: int, version: int) -> None:
    n = queue.used[0]
    queue.score[n], queue.edge[n], queue.version[n] = score, edge, version
    queue.used[0] = n + 1
    _rise(queue, n)


@njit(cache=True, nogil=True)
def _pop(queue: Queue) -> None:
    """Remove the first item."""
    n = queue.used[0] - 1
    queue.score[0], queue.edge[0], queue.version[0] = queue.score[n], queue.edge[n], queue.version[n]
    queue.used[0] = n
    _sink(queue, 0)


@njit(cache=True, nogil=True)
def compacted(queue: Queue, links: Links) -> None:
    """Drop stale items: those whose edge has changed since, or is gone."""
    n = 0
    for i in range(queue.used[0]):
        if queue.version[i] == links.version[queue.edge[i]]:
            queue.score[n], queue.edge[n], queue.version[n] = queue.score[i], queue.edge[i], queue.version[i]
            n += 1
    queue.used[0] = n
    for i in range(n // 2 - 1, -1, -1):
        _sink(queue, i)


@njit(cache=True, nogil=True)
def fill_queue(queue: Queue, links: Links, scoring: Scoring, statistics: Statistics) -> None:
    """Score all edges."""
    row = np.zeros(N_FEATURES, np.float32)
    for edge in range(len(links.version)):
        queue.score[edge] = _score(scoring, statistics, links.ends, edge, row)
        queue.edge[edge], queue.version[edge] = edge, links.version[edge]
    queue.used[0] = len(links.version)
    compacted(queue, links)


@njit(cache=True, nogil=True)
def _pair(pairs: Pairs, a: int, b: int) -> Any:
    """Return the key of two nodes and its slot, or the free slot where it belongs."""
    key = (np.uint64(min(a, b)) << _HALF) | np.uint64(max(a, b))
    last = np.uint64(len(pairs.keys) - 1)
    mixed = key * _MULTIPLIER
    slot = (mixed ^ (mixed >> _HALF)) & last
    while pairs.keys[slot] != 0 and pairs.keys[slot] != key:
        slot = (slot + _ONE) & last
    return key, slot


@njit(cache=True, nogil=True)
def _enter(pairs: Pairs, a: int, b: int, edge: int) -> None:
    key, slot = _pair(pairs, a, b)
    if pairs.keys[slot] == 0:
        pairs.keys[slot] = key
        pairs.used[0] += 1
    pairs.edges[slot] = edge


@njit(cache=True, nogil=True)
def enter_pairs(pairs: Pairs, links: Links) -> None:
    """Enter the ends of all edges that are there."""
    for edge in range(len(links.version)):
        if links.version[edge] >= 0:
            _enter(pairs, links.ends[edge, 0], links.ends[edge, 1], edge)


@njit(cache=True, nogil=True)
def _link(links: Links, half: int, node: int) -> None:
    """Put a half edge at the head of a node's list."""
    first = links.head[node]
    links.ends[half >> 1, half & 1] = node
    links.after[half], links.before[half] = first, _NONE
    if first != _NONE:
        links.before[first] = half
    links.head[node] = half
    links.degree[node] += 1


@njit(cache=True, nogil=True)
def _unlink(links: Links, half: int) -> None:
    """Take a half edge out of its node's list."""
    node, after, before = links.ends[half >> 1, half & 1], links.after[half], links.before[half]
    if before == _NONE:
        links.head[node] = after
    else:
        links.after[before] = after
    if after != _NONE:
        links.before[after] = before
    links.degree[node] -= 1


@njit(cache=True, nogil=True)
def fill_links(links: Links) -> None:
    """Make the lists of all nodes."""
    for half in range(2 * len(links.version)):
        _link(links, half, links.ends[half >> 1, half & 1])


@njit(cache=True, nogil=True)
def _add_edge(statistics: Statistics, kept: int, gone: int) -> None:
    """Make the boundary `kept` the union of both."""
    for c in range(statistics.histogram.shape[1]):
        for k in range(statistics.histogram.shape[2]):
            statistics.histogram[kept, c, k] += statistics.histogram[gone, c, k]
    for c in range(statistics.extremes.shape[1]):
        low, high = statistics.extremes[gone, c, 0], statistics.extremes[gone, c, 1]
        statistics.extremes[kept, c, 0] = min(statistics.extremes[kept, c, 0], low)
        statistics.extremes[kept, c, 1] = max(statistics.extremes[kept, c, 1], high)
    for k in range(statistics.sums.shape[1]):
        statistics.sums[kept, k] += statistics.sums[gone, k]


@njit(cache=True, nogil=True)
def _add_node(statistics: Statistics, kept: int, gone: int) -> None:
    """Make the node `kept` the union of both."""
    for k in range(statistics.node_sums.shape[1]):
        statistics.node_sums[kept, k] += statistics.node_sums[gone, k]
    for k in range(3):
        statistics.boxes[kept, k] = min(statistics.boxes[kept, k], statistics.boxes[gone, k])
        statistics.boxes[kept, 3 + k] = max(statistics.boxes[kept, 3 + k], statistics.boxes[gone, 3 + k])


@njit(cache=True, nogil=True)
def run(
    limit: int, stop: float, scoring: Scoring, statistics: Statistics, links: Links, ages: Ages, pairs: Pairs,
    queue: Queue, result: Result, samples: Samples,
) -> int:  # fmt: skip
    """Merge the best edge, again and again, until there are `limit` merges or 1 − score is `stop`.

    An edge that comes first with a score older than one of its nodes is scored anew, and put back if it is not
    the first any more.

    With samples, an edge is merged only where the truth says so (``used[1] == 0``), or where its score is at
    least one half; what it looked like is written down in either case.
    """
    row = np.zeros(N_FEATURES, np.float32)
    while queue.used[0] > 0:
        score, edge = queue.score[0], queue.edge[0]
        if queue.version[0] != links.version[edge]:
            _pop(queue)
            continue
        if scoring.mode == FOREST and _is_old(edge, links, ages):
            queue.score[0] = _score(scoring, statistics, links.ends, edge, row)
            ages.scored[edge] = result.used[0]
            ages.used[0] += 1
            _sink(queue, 0)
            continue
        if not 1 - score < stop:
            return DONE
        if result.used[0] >= limit:
            return LIMIT
        a, b = links.ends[edge, 0], links.ends[edge, 1]
        if (
            queue.used[0] + links.degree[a] + links.degree[b] > len(queue.score)
            or 2 * (pairs.used[0] + min(links.degree[a], links.degree[b])) > len(pairs.keys)
            or samples.used[0] == len(samples.rows) > 0
        ):
            return FULL
        _pop(queue)
        if len(samples.rows) == 0 or _sampled(score, edge, scoring, statistics, links, samples, row):
            _merge(score, edge, scoring, statistics, links, ages, pairs, queue, result, row)
    return DONE


@njit(cache=True, nogil=True)
def _is_old(edge: int, links: Links, ages: Ages) -> Any:
    """Say whether a node of the edge has changed since it was scored."""
    a, b = links.ends[edge, 0], links.ends[edge, 1]
    return ages.scored[edge] < max(ages.changed[a], ages.changed[b])


@njit(cache=True, nogil=True)
def _sampled(
    score: float,
    edge: int,
    scoring: Scoring,
    statistics: Statistics,
    links: Links,
    samples: Samples,
    row: Array,
) -> Any:
    """Write down an edge whose truth is known; return whether to merge it."""
    a, b, n = links.ends[edge, 0], links.ends[edge, 1], samples.used[0]
    truth = samples.truth
    is_same = truth[a] == truth[b] and truth[a] > 0
    if truth[a] > 0 and truth[b] > 0:
        _describe(scoring.voxel_size, statistics, links.ends, edge, row)
        samples.rows[n], samples.is_same[n] = row, is_same
        samples.sizes[n, 0], samples.sizes[n, 1] = statistics.node_sums[a, 0], statistics.node_sums[b, 0]
        samples.used[0] = n + 1
    is_merged = is_same if samples.used[1] == 0 else score >= 0.5
    if is_merged:  # a union is what most of it is
        larger = a if statistics.node_sums[a, 0] >= statistics.node_sums[b, 0] else b
        other = a + b - larger
        truth[a] = truth[b] = truth[larger] if truth[larger] > 0 else truth[other]
    return is_merged


@njit(cache=True, nogil=True)
def _merge(
    score: float, edge: int, scoring: Scoring, statistics: Statistics, links: Links, ages: Ages, pairs: Pairs,
    queue: Queue, result: Result, row: Array,
) -> None:  # fmt: skip
    """Join both ends of an edge: the one with fewer neighbours goes into the other."""
    a, b = links.ends[edge, 0], links.ends[edge, 1]
    if links.degree[a] < links.degree[b]:
        a, b = b, a
    i = result.used[0]
    result.a[i], result.b[i] = min(result.name[a], result.name[b]), max(result.name[a], result.name[b])
    result.score[i] = score
    result.name[a] = len(result.name) + i
    result.used[0] = i + 1

    _unlink(links, 2 * edge)
    _unlink(links, 2 * edge + 1)
    links.version[edge] = -1
    _add_node(statistics, a, b)
    is_due, other_is_due = _grown(a, b, scoring, statistics, ages, i + 1)
    half, n_moved = links.head[b], 0
    while half != _NONE:
        after = links.after[half]
        kept = _moved(half, a, statistics, links, pairs)
        n_moved += kept < 0 or kept == half >> 1
        if kept >= 0 or other_is_due:
            known = half >> 1 if kept < 0 else kept
            _rescore(known, scoring, statistics, links, ages, queue, row, i + 1)
        half = after
    links.head[b], links.degree[b] = _NONE, 0
    if is_due:
        half = links.head[a]
        while half != _NONE:
            if n_moved <= 0 and ages.scored[half >> 1] <= i:
                _rescore(half >> 1, scoring, statistics, links, ages, queue, row, i + 1)
            half, n_moved = links.after[half], n_moved - 1


@njit(cache=True, nogil=True)
def _grown(a: int, b: int, scoring: Scoring, statistics: Statistics, ages: Ages, now: int) -> Any:
    """Note that node a has become the union of both; say of which part all edges are to be scored anew."""
    ages.changed[a] = now
    if scoring.mode != FOREST:
        return False, False
    size, before, other = statistics.node_sums[a, 0], ages.full[a], ages.full[b]
    is_due, other_is_due = size >= scoring.growth * before, size >= scoring.growth * other
    ages.full[a] = min(size if is_due else before, size if other_is_due else other)
    return is_due, other_is_due


@njit(cache=True, nogil=True)
def _moved(half: int, a: int, statistics: Statistics, links: Links, pairs: Pairs) -> Index:
    """Let node a have a half edge of the node that goes; return the boundary if it became one with another.

    Of two boundaries the one with the lower number is kept.
    """
    edge = half >> 1
    c = links.ends[edge, 1 - (half & 1)]
    _, slot = _pair(pairs, a, c)
    if pairs.keys[slot] == 0:
        _link(links, half, a)
        _enter(pairs, a, c, edge)
        return -1
    other = pairs.edges[slot]
    kept, gone = min(edge, other), max(edge, other)
    _add_edge(statistics, kept, gone)
    if gone == edge:
        _unlink(links, half ^ 1)
    else:
        _unlink(links, 2 * other)
        _unlink(links, 2 * other + 1)
        _link(links, half, a)
        pairs.edges[slot] = edge
    links.version[gone] = -1
    return kept


@njit(cache=True, nogil=True)
def _rescore(
    edge: int, scoring: Scoring, statistics: Statistics, links: Links, ages: Ages, queue: Queue, row: Array,
    now: int,
) -> None:  # fmt: skip
    """Push an edge anew; what the queue holds of it is stale from now on."""
    links.version[edge] += 1
    ages.scored[edge] = now
    ages.used[0] += 1
    _push(queue, _score(scoring, statistics, links.ends, edge, row), edge, links.version[edge])


@njit(cache=True, nogil=True)
def _score(scoring: Scoring, statistics: Statistics, ends: Array, edge: int, row: Array) -> Any:
    """Return the mean, a quantile, or the probability that both ends are one object."""
    if scoring.mode == FOREST:
        _describe(scoring.voxel_size, statistics, ends, edge, row)
        return _probability(row, scoring.trees)
    sums = statistics.sums[edge]
    n = sums[0] + sums[1] + sums[2]
    if scoring.mode == MEAN:
        return (sums[3] + sums[4] + sums[5]) / (n * np.float64(_STEPS))
    low, high = np.float64(_STEPS), 0.0
    counts = np.zeros(statistics.histogram.shape[2], np.int64)
    for c in range(statistics.histogram.shape[1]):
        low = min(low, np.float64(statistics.extremes[edge, c, 0]))
        high = max(high, np.float64(statistics.extremes[edge, c, 1]))
        for k in range(len(counts)):
            counts[k] += statistics.histogram[edge, c, k]
    return _quantile(counts, n, scoring.quantile, low / _STEPS, high / _STEPS)


@njit(cache=True, nogil=True)
def _quantile(counts: Array, n: int, q: float, low: float, high: float) -> Any:
    """Return where a share q of n values lies below, evenly spread within bins, not beyond the extremes."""
    rank, below = q * n, 0
    for k in range(len(counts)):
        if counts[k] > 0 and below + counts[k] >= rank:
            value = (k + (rank - below) / counts[k]) / len(counts)
            return min(max(value, low), high)
        below += counts[k]
    return high


@njit(cache=True, nogil=True)
def _probability(row: Array, trees: Trees) -> Any:
    """Return the mean over all trees of the value of the leaf that the row falls into."""
    total = 0.0
    for root in trees.roots:
        node = root
        while trees.feature[node] >= 0:
            is_right = row[trees.feature[node]] > trees.threshold[node]
            node = trees.children[node, 1] if is_right else trees.children[node, 0]
        total += trees.value[node]
    return total / len(trees.roots)


@njit(cache=True, nogil=True)
def describe(voxel_size: Array, statistics: Statistics, ends: Array) -> Array:
    """Return the features of all edges."""
    rows = np.empty((len(ends), N_FEATURES), np.float32)
    for edge in range(len(ends)):
        _describe(voxel_size, statistics, ends, edge, rows[edge])
    return rows


@njit(cache=True, nogil=True)
def _describe(voxel_size: Array, statistics: Statistics, ends: Array, edge: int, row: Array) -> None:
    """Set the features of one edge, in the order of `FEATURES`."""
    sums = statistics.sums[edge]
    bins = statistics.histogram.shape[2]
    counts = np.zeros(bins, np.int64)
    low: Index = _STEPS
    high: Index = 0
    for c in range(3):
        least: Index = np.int64(statistics.extremes[edge, c, 0])
        greatest: Index = np.int64(statistics.extremes[edge, c, 1])
        _distribution(statistics.histogram[edge, c], sums[c], sums[3 + c], sums[6 + c], least, greatest,
                      row[9 * c : 9 * c + 9])  # fmt: skip
        low, high = min(low, least), max(high, greatest)
        for k in range(bins):
            counts[k] += statistics.histogram[edge, c, k]
        row[36 + c] = sums[c]
    n = sums[0] + sums[1] + sums[2]
    _distribution(counts, n, sums[3] + sums[4] + sums[5], sums[6] + sums[7] + sums[8], low, high, row[27:36])
    small, large = _by_size(statistics.node_sums, ends[edge, 0], ends[edge, 1])
    _relations(voxel_size, sums, statistics.node_sums[small], statistics.node_sums[large], row[39:])
    box, other = statistics.boxes[small], statistics.boxes[large]
    shared = min(box[3], other[3]) - max(box[0], other[0]) + 1
    row[51] = max(shared, 0) / (1 + min(box[3] - box[0], other[3] - other[0]))


@njit(cache=True, nogil=True)
def _distribution(counts: Array, n: int, total: int, squares: int, low: int, high: int, out: Array) -> None:
    """Set mean, standard deviation, least, greatest, and five quantiles; −1 where there is nothing."""
    if n == 0:
        out[:] = -1
        return
    mean = total / (n * np.float64(_STEPS))
    first, last = low / np.float64(_STEPS), high / np.float64(_STEPS)
    out[0] = mean
    out[1] = np.sqrt(max(0.0, squares / (n * np.float64(_STEPS) * _STEPS) - mean * mean))
    out[2], out[3] = first, last
    out[4], out[5] = _quantile(counts, n, 0.1, first, last), _quantile(counts, n, 0.25, first, last)
    out[6] = _quantile(counts, n, 0.5, first, last)
    out[7], out[8] = _quantile(counts, n, 0.75, first, last), _quantile(counts, n, 0.9, first, last)


@njit(cache=True, nogil=True)
def _by_size(node_sums: Array, a: int, b: int) -> Any:
    """Return the smaller node first; of equal ones the one that lies first, whatever their numbers."""
    for k in range(4):
        if node_sums[a, k] != node_sums[b, k]:
            return (a, b) if node_sums[a, k] < node_sums[b, k] else (b, a)
    return a, b


@njit(cache=True, nogil=True)
def _relations(s: Array, sums: Array, small: Array, large: Array, out: Array) -> None:
    """Set what has to do with sizes, places and shapes; lengths in the unit of the voxel size s."""
    voxel = s[0] * s[1] * s[2]
    least, volume = small[0] * voxel, large[0] * voxel
    side = np.cbrt(least)
    area = voxel * (sums[0] / s[0] + sums[1] / s[1] + sums[2] / s[2])
    n = np.float64(sums[0] + sums[1] + sums[2])
    distance, spread = 0.0, 0.0
    for k in range(3):
        distance += (s[k] * (small[1 + k] / small[0] - large[1 + k] / large[0])) ** 2
        centre = sums[9 + k] / n
        spread += s[k] * s[k] * max(0.0, sums[12 + k] / n - centre * centre) / 4
    distance = np.sqrt(distance)
    out[0], out[1], out[2] = np.log(least), np.log(volume), least / volume
    out[3] = area / (side * side)
    out[4], out[5], out[6] = distance, distance / side, np.sqrt(spread) / side
    lengths = np.empty(3)
    _axes(s, small, lengths)
    out[7], out[8] = lengths[0] / lengths[1], lengths[1] / lengths[2]
    _axes(s, large, lengths)
    out[9], out[10] = lengths[0] / lengths[1], lengths[1] / lengths[2]
    _axes(s, small + large, lengths)
    out[11] = lengths[0] / lengths[1]


@njit(cache=True, nogil=True)
def _axes(s: Array, sums: Array, lengths: Array) -> None:
    r"""Set the standard deviations along the principal axes, the longest first.

    Roots of the characteristic polynomial of the covariance C in closed form: with :math:`m = \operatorname{tr}
    C / 3`, :math:`p^2 = \lVert C - m \rVert^2 / 6`, :math:`\phi = \arccos(\det((C - m) / p) / 2) / 3` they are
    :math:`m + 2 p \cos(\phi + 2 \pi k / 3)`. A voxel is a box, not a point: :math:`s^2 / 12` on the diagonal.
    """
    n = np.float64(sums[0])
    z, y, x = sums[1] / n, sums[2] / n, sums[3] / n
    zz = s[0] * s[0] * (sums[4] / n - z * z + 1 / 12)
    yy = s[1] * s[1] * (sums[5] / n - y * y + 1 / 12)
    xx = s[2] * s[2] * (sums[6] / n - x * x + 1 / 12)
    zy = s[0] * s[1] * (sums[7] / n - z * y)
    zx = s[0] * s[2] * (sums[8] / n - z * x)
    yx = s[1] * s[2] * (sums[9] / n - y * x)
    m = (zz + yy + xx) / 3
    zz, yy, xx = zz - m, yy - m, xx - m
    p = np.sqrt((zz * zz + yy * yy + xx * xx + 2 * (zy * zy + zx * zx + yx * yx)) / 6)
    least = min(s[0], s[1], s[2]) ** 2 / 12
    angle = 0.0
    if p > 0:
        det = zz * (yy * xx - yx * yx) - zy * (zy * xx - yx * zx) + zx * (zy * yx - yy * zx)
        angle = np.arccos(min(1.0, max(-1.0, det / (2 * p * p * p)))) / 3
    first, last = m + 2 * p * np.cos(angle), m + 2 * p * np.cos(angle + 2 * np.pi / 3)
    lengths[0] = np.sqrt(max(first, least))
    lengths[1] = np.sqrt(max(3 * m - first - last, least))
    lengths[2] = np.sqrt(max(last, least))
