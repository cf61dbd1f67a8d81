"""Agglomeration: merge the two regions that look most like one, again and again; the result is a tree."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.forest import Forest
from napari_em_seg.segment import _agglomerate_kernels as kernels
from napari_em_seg.segment._forest import trees_of
from napari_em_seg.segment.features import check_whole
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import RegionGraph
from napari_em_seg.volume import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Agglomeration", "Samples", "Score", "agglomerate"]

Score = Literal["mean", "quantile"] | Forest
Samples = kernels.Samples

_MODES = {"mean": kernels.MEAN, "quantile": kernels.QUANTILE}
GROWTH = 1.25
"""How much larger a region becomes before a forest scores all its boundaries anew."""

_AT_ONCE = 2000  # merges between two looks at whether to go on


def agglomerate(
    graph: RegionGraph,
    score: Score = "mean",
    *,
    quantile: float = 0.5,
    growth: float = GROWTH,
    stop_at: float | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> MergeTree:
    r"""Merge regions, the best boundary first, and return all merges.

    For a boundary with the affinities :math:`a_k` the score is their mean :math:`\frac{1}{n} \sum_k a_k`, a
    quantile of them (as in `features`), or what a trained forest makes of all its features. After each merge
    the statistics of boundaries that became one are added, and these are scored anew. Of equal scores the
    first edge in the graph wins; of two boundaries that become one the first stands for both. So the
    result does not depend on anything but the graph.

    A forest looks at regions too, so a merge changes the score of every boundary of the union. To score all of
    them each time would take quadratic time where a giant with thousands of neighbours takes in one after the
    other. The rule instead, where s(R) is the size of a region R by voxels, and f(R) what it was when all
    boundaries of R were last scored (at first: s(R)):

    1. When A and B become one, boundaries that became one are scored; and those of A where
       :math:`s(A) + s(B) \ge growth \cdot f(A)`, likewise those of B. Then f of the union is the lesser one of
       what it is for both parts by now.
    2. A boundary that comes first, while one of its regions has changed since it was scored, is scored anew.
       If it is not the first any more, it is put back.

    So each merge is made at the score that its boundary has by then, and no boundary is merged that looked good
    once and does not any more. A boundary that would be first by now may come later, if its score was
    lower when its regions were a little smaller; with ``growth=1`` that cannot be. Each boundary is scored
    :math:`O(\log N)` times by the first rule, with N voxels; how often the second one puts one back depends on
    the forest.

    That makes :math:`O(n \log^2 n)` steps for n boundaries, since lists of neighbours are moved into longer
    ones.

    Parameters
    ----------
    graph
        Of the whole volume.
    score
        "mean", "quantile", or a forest.
    quantile
        For "quantile", which one; 0.5 is the median.
    growth
        For a forest: how much larger a region becomes before all its boundaries are scored anew, from 1 on.
    stop_at
        Stop before the first merge of 1 − score not below this. The tree then is the full one cut off there.
    progress
        Called with merges done and merges that there can be.
    cancelled
        Asked now and then; once it says true, `Cancelled` is raised.

    Raises
    ------
    DataError
        An argument is not one of those above, or the graph is that of a mere block.
    """
    limit = math.inf if stop_at is None else stop_at
    if math.isnan(limit) or limit < 0:
        raise DataError(f"The merges are to stop at {stop_at}", "a number from 0 on, or None", "Leave it out")
    course = Agglomeration(graph, score, quantile=quantile, growth=growth)
    most = max(len(graph.labels) - 1, 0)
    while course.run(course.n_merges + _AT_ONCE, limit):
        if cancelled is not None and cancelled():
            raise Cancelled("The agglomeration was cancelled")
        if progress is not None:
            progress(course.n_merges, most)
    if progress is not None:
        progress(most, most)
    return course.tree()


class Agglomeration:
    """An agglomeration under way.

    Parameters
    ----------
    graph, score, quantile, growth
        As for `agglomerate`.
    is_whole
        Keep all statistics up to date, even those that the score does not need.
    samples
        Where to write down what is met, with the truth of each node, to learn from.
    """

    def __init__(
        self,
        graph: RegionGraph,
        score: Score = "mean",
        *,
        quantile: float = 0.5,
        growth: float = GROWTH,
        is_whole: bool = False,
        samples: Samples | None = None,
    ) -> None:
        _check(graph, score, quantile, growth)
        self._graph, n, n_edges = graph, len(graph.labels), len(graph.edges)
        mode = kernels.FOREST if isinstance(score, Forest) else _MODES[score]
        trees = trees_of(score) if isinstance(score, Forest) else _NO_TREES
        self._scoring = kernels.Scoring(mode, float(quantile), float(growth), np.array(graph.voxel_size), trees)
        self._statistics = _copied(graph, kernels.FOREST if is_whole or samples is not None else mode)
        self.samples = _no_samples() if samples is None else samples
        self._links = kernels.Links(
            graph.ends.copy(), np.empty(2 * n_edges, np.int32), np.empty(2 * n_edges, np.int32),
            np.full(n, -1, np.int32), np.zeros(n, np.int32), np.zeros(n_edges, np.int32),
        )  # fmt: skip
        kernels.fill_links(self._links)
        self._ages = kernels.Ages(
            np.zeros(n_edges, np.int32), np.zeros(n, np.int32), graph.sizes.astype(np.int64),
            np.zeros(1, np.int64),
        )  # fmt: skip
        self._pairs = self._entered()
        self._queue = _queue(4 * n_edges + 1)
        kernels.fill_queue(self._queue, self._links, self._scoring, self._statistics)
        self._result = kernels.Result(
            np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float64), np.arange(n, dtype=np.int32),
            np.zeros(1, np.int64),
        )  # fmt: skip

    @property
    def n_merges(self) -> int:
        """Merges done."""
        return int(self._result.used[0])

    @property
    def n_scored(self) -> int:
        """How often a boundary was scored anew."""
        return int(self._ages.used[0])

    def run(self, limit: int, stop: float = math.inf) -> bool:
        """Go on until there are that many merges or 1 − score is `stop`; return whether there is more to do."""
        while True:
            ended = kernels.run(limit, stop, self._scoring, self._statistics, self._links, self._ages,
                                self._pairs, self._queue, self._result, self.samples)  # fmt: skip
            if ended != kernels.FULL:
                return bool(ended == kernels.LIMIT)
            self._make_room()

    def tree(self) -> MergeTree:
        """Return the merges so far."""
        n = self.n_merges
        a, b, score = (array[:n].copy() for array in self._result[:3])
        return MergeTree(self._graph.labels, a, b, score)

    def graph(self) -> RegionGraph:
        """Return the graph as it is now; regions are named by the least label in them. Needs `is_whole`."""
        tree, kept = self.tree(), np.flatnonzero(self._links.version >= 0)
        names = tree.segments(math.inf)
        alive = np.flatnonzero(names == self._graph.labels)
        # a region may be held in any of its nodes: the one whose number in the tree is the latest
        roots = np.full(len(names), -1, np.int64)
        order = np.argsort(self._result.name, kind="stable")
        roots[np.searchsorted(self._graph.labels, names[order])] = order
        edges = np.sort(names[self._links.ends[kept]], axis=1)
        sort = np.lexsort((edges[:, 1], edges[:, 0]))
        rows, nodes, held = kept[sort], roots[alive], self._statistics
        return replace(
            self._graph, labels=self._graph.labels[alive], edges=edges[sort], histogram=held.histogram[rows],
            sums=held.sums[rows], extremes=held.extremes[rows], node_sums=held.node_sums[nodes],
            boxes=held.boxes[nodes],
        )  # fmt: skip

    def _make_room(self) -> None:
        """Drop what is stale, so that another merge has room."""
        kernels.compacted(self._queue, self._links)
        self._pairs = self._entered()
        if len(self.samples.rows) and self.samples.used[0] == len(self.samples.rows):
            rows, is_same, sizes = (
                np.concatenate((array, np.empty_like(array)))
                for array in (self.samples.rows, self.samples.is_same, self.samples.sizes)
            )
            self.samples = self.samples._replace(rows=rows, is_same=is_same, sizes=sizes)

    def _entered(self) -> kernels.Pairs:
        """Return the hash table of the edges that are there, a quarter full at most."""
        n = 1 << max(2, 4 * int((self._links.version >= 0).sum())).bit_length()
        pairs = kernels.Pairs(np.zeros(n, np.uint64), np.empty(n, np.int32), np.zeros(1, np.int64))
        kernels.enter_pairs(pairs, self._links)
        return pairs


_NO_TREES = kernels.Trees(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float64), np.zeros((0, 2), np.int32),
    np.zeros(0, np.float64),
)  # fmt: skip


def _no_samples() -> Samples:
    return Samples(np.zeros(0, np.uint64), np.zeros((0, kernels.N_FEATURES), np.float32), np.zeros(0, np.bool_),
                   np.zeros((0, 2), np.int64), np.zeros(2, np.int64))  # fmt: skip


def _queue(n: int) -> kernels.Queue:
    """Return an empty queue. Four times the edges is room for all, and for any merge three times over."""
    return kernels.Queue(
        np.empty(n, np.float64), np.empty(n, np.int32), np.empty(n, np.int32), np.zeros(1, np.int64)
    )


def _copied(graph: RegionGraph, mode: int) -> kernels.Statistics:
    """Return those statistics that the score needs: to copy and add all takes several times as long."""
    n = len(graph.edges)
    columns = 15 if mode == kernels.FOREST else 6
    arrays: list[NDArray[Any]] = [graph.histogram, graph.sums[:, :columns], graph.extremes]
    if mode == kernels.MEAN:
        arrays[0], arrays[2] = np.zeros((n, 3, 0), np.uint32), np.zeros((n, 0, 2), np.uint16)
    elif mode == kernels.QUANTILE:
        low, high = graph.extremes[..., 0].min(1), graph.extremes[..., 1].max(1)
        arrays[0] = graph.histogram.sum(1, dtype=np.uint32, keepdims=True)
        arrays[2] = np.stack((low, high), -1)[:, None]
    return kernels.Statistics(
        *(np.array(array, order="C") for array in (*arrays, graph.node_sums, graph.boxes))
    )


def _check(graph: RegionGraph, score: Score, quantile: float, growth: float) -> None:
    if not isinstance(score, Forest) and score not in ("mean", "quantile"):
        raise DataError(f"The score is {score!r}", "'mean', 'quantile' or a forest", "Choose one of them")
    if not 0 <= quantile <= 1:
        raise DataError(f"The quantile is {quantile}", "a number from 0 to 1, where 0.5 is the median",
                        "Try 0.5")  # fmt: skip
    if not growth >= 1:
        raise DataError(f"The growth is {growth}", "a number from 1 on: how much larger a region becomes "
                        "before a forest scores its boundaries anew", "Leave it out")  # fmt: skip
    if isinstance(score, Forest):
        check_whole(graph)
