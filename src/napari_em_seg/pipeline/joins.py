"""Joins: which objects of a solution an agglomeration would make one, to be asked about beside its links."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.result import label_volume
from napari_em_seg.errors import Cancelled, EmSegError
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.own_forests import own_forests
from napari_em_seg.review import Merges, Reconstruction, State, objects_of
from napari_em_seg.segment import agglomerate, region_graph
from napari_em_seg.segment.agglomerate import Score
from napari_em_seg.segment.forests import bundled_forest
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import RegionGraph
from napari_em_seg.volume import VoxelSize

__all__ = ["joins_of"]

REACH = 6.0
"""Pixels by which objects grow before it is looked at where they touch: membranes lie between them."""

TRUST = 0.7
"""What the forest says of whole objects is too bold; of AC4 slices 63 to 99 about 0.7 p of p were right."""

LEAST = 0.05
"""The score below which nobody is asked."""


def joins_of(
    made: Reconstruction,
    maps: PredictedMaps,
    voxel_size_nm: VoxelSize | None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Merges | None:
    """Agglomerate the objects of a solution; None where there are fewer than two that touch.

    A solution links sections from slice to slice. Branches of one neuron that meet within a slice it cannot
    join, and an object that it has broken in two may be whole to the agglomeration. The score of each merge is
    that of the bundled forest, or the mean affinity where no forest fits. No merge is made by itself: whoever
    rejects that two objects stay apart makes it.
    """
    hypotheses = made.hypotheses()
    numbers = objects_of(made, made.outcome, State())
    labels = label_volume(hypotheses, numbers, fill=REACH, cancelled=cancelled)
    if cancelled():
        raise Cancelled("The work was cancelled")
    size = voxel_size_nm or (1.0, 1.0, 1.0)
    graph = region_graph(labels, maps.affinities(), voxel_size=size)
    if not len(graph.edges):
        return None
    tree = agglomerate(graph, _score(maps, voxel_size_nm), cancelled=cancelled)
    edges = _edges_of_merges(graph, tree)
    sections = _Sections(hypotheses, numbers)
    ends = np.full((len(tree.a), 2), -1, np.int32)
    for k in np.flatnonzero(tree.score * TRUST >= LEAST).tolist():
        centre = graph.contact_centres[edges[k]]
        for side, label in enumerate(graph.edges[edges[k]].tolist()):
            ends[k, side] = sections.near(label, centre)
    score = tree.score * TRUST
    z = np.round(graph.contact_centres[edges, 0]).astype(np.int32)
    return Merges(tree.labels, tree.a, tree.b, score, z, graph.sizes, 0.0, ends)


def _score(maps: PredictedMaps, voxel_size_nm: VoxelSize | None) -> Score:
    if not maps.is_affinity:
        return "mean"
    try:
        return bundled_forest(voxel_size_nm, own_forests("agglomeration"))
    except EmSegError:
        return "mean"


def _edges_of_merges(graph: RegionGraph, tree: MergeTree) -> NDArray[np.intp]:
    r"""Return for each merge the edge with most faces of those that it closes.

    Every merge hands the edges of the side with fewer of them on to the other one, so each edge is handed on
    :math:`O(\log n)` times.
    """
    faces, n = graph.contacts.sum(axis=1), len(graph.labels)
    around: list[dict[int, int]] = [{} for _ in range(n)]
    for edge, (a, b) in enumerate(graph.ends.tolist()):
        around[a][b] = around[b][a] = edge
    place = list(range(n + len(tree.a)))  # of the edges of each node
    found = np.zeros(len(tree.a), np.intp)
    for k, (a, b) in enumerate(zip(tree.a.tolist(), tree.b.tolist(), strict=True)):
        small, large = sorted((place[a], place[b]), key=lambda i: len(around[i]))
        found[k] = around[small].pop(large)
        around[large].pop(small)
        for other, edge in around[small].items():
            del around[other][small]
            before = around[large].get(other, edge)
            around[large][other] = around[other][large] = before if faces[before] >= faces[edge] else edge
        around[small], place[n + k] = {}, large
    return found


class _Sections:
    """Finds the section of an object that is nearest to a place."""

    def __init__(self, hypotheses: Hypotheses, numbers: NDArray[np.int32]) -> None:
        self._hypotheses = hypotheses
        self._order = np.argsort(numbers, kind="stable")
        self._sorted = numbers[self._order]

    def near(self, label: int, centre: NDArray[np.float64]) -> int:
        """Return it: in the nearest slice that with the nearest box, of several the nearest centre."""
        h = self._hypotheses
        rows = self._order[slice(*np.searchsorted(self._sorted, (label, label + 1)))]
        box, middle = h.box[rows], h.centre[rows]
        outside = np.maximum(np.maximum(box[:, :2] - centre[1:], centre[1:] - box[:, 2:]), 0)
        slices = np.abs(h.z[rows] - centre[0]).round()
        keys = np.hypot(*(middle - centre[1:]).T), np.hypot(*outside.T).round(), slices
        return int(rows[np.lexsort(keys)[0]])
