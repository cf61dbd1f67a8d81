"""Learned agglomeration: a random forest, trained on what is met while regions are merged."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.forest import Forest, forest_of
from napari_em_seg.metrics import contingency
from napari_em_seg.segment.agglomerate import Agglomeration, Samples, Score
from napari_em_seg.segment.features import FEATURES, check_whole
from napari_em_seg.segment.region_graph import RegionGraph
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Example", "Weights", "train_forest", "truth_of_leaves"]

Example = tuple[RegionGraph, NDArray[np.uint64]]
"""A graph, and the true object of each of its nodes (0: not known)."""

Weights = Literal["size", "equal"]

_LEAF = 20  # samples of a leaf at least, where there are many: fewer make a forest sure of what is chance
_RISING = frozenset(f"{name}_all" for name in ("mean", "min", "max", "q10", "q25", "q50", "q75", "q90"))
"""Statistics of the affinities that can only speak for one object where they are higher: known, not learned."""

_HEAVIEST = 50.0  # times the mean: a handful of giants is not to drown everything else
_AT_ONCE = 2000  # merges between two looks at whether to go on


def truth_of_leaves(graph: RegionGraph, labels: ArrayLike, truth: ArrayLike) -> NDArray[np.uint64]:
    """Return for each node of the graph the true object that most of it lies in; 0 if that is none."""
    table = contingency(labels, truth, ignore_segmentation=(0,), ignore_truth=())
    order = np.lexsort((table.truth, -table.counts, table.segmentation))
    segments, first = np.unique(table.segmentation[order], return_index=True)
    if len(segments) != len(graph.labels) or (segments != graph.labels).any():
        raise DataError(f"The labels are {len(segments)}, and the nodes of the graph {len(graph.labels)}",
                        "the labels that the graph was made of", "Give the same volume")  # fmt: skip
    return np.asarray(table.truth[order][first])


def train_forest(
    examples: Sequence[Example],
    *,
    seed: int = 0,
    rounds: int = 3,
    weights: Weights = "equal",
    n_trees: int = 40,
    depth: int = 12,
    max_samples: int = 200_000,
    card: dict[str, Any] | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> Forest:
    r"""Train a forest along the course of agglomerations.

    What a forest has to judge depends on the merges before. So every graph is agglomerated, and each boundary
    that comes first in the queue is a sample: its features then, and whether both of its regions, as they are
    then, are one true object. In the first round the queue is in the order of the mean affinity, and only true
    merges are made. From then on it is in that of the forest trained on all rounds so far, which merges what it
    holds for more likely one than two: so it meets its own mistakes, and learns what to do after them. A union
    is the object that its larger part is.

    With ``weights="size"`` a sample counts by what a mistake would cost. For regions of u and v voxels that is,
    in bits of the variation of information times the voxels of the volume,

    .. math:: c = (u + v) \log_2 (u + v) - u \log_2 u - v \log_2 v, \qquad
              w = 1 + \min(c / \bar c, 50),

    so that two large neurons that are merged weigh more than a crumb left over.

    With all else equal, higher affinities never make a forest say less that two are one: trees are monotone in
    the levels of the affinities of all faces. Few boundaries between large neurons are in any truth, and what
    is known of them need not be learned from those.

    Parameters
    ----------
    examples
        Graphs, each with the true object of its nodes, as `truth_of_leaves` gives it.
    seed
        Of the forest; the same seed and examples give the same forest.
    rounds
        How often to agglomerate.
    weights
        "equal" for all samples alike, or "size" as above.
    n_trees, depth
        Of the forest; scoring takes time in proportion to both.
    max_samples
        Drawn at random if there are more.
    card
        What else to write down, plain JSON, such as where the data is from.
    progress
        Called with rounds done and rounds in all.
    cancelled
        Asked now and then; once it says true, `Cancelled` is raised.

    Raises
    ------
    DataError
        Examples do not fit together, or hold nothing to tell apart.
    """
    _check(examples, rounds, weights, n_trees, depth, max_samples)
    score: Score = "mean"
    rows, is_same, sizes = _nothing()
    for i in range(rounds):
        for graph, truth in examples:
            found = _course(graph, truth, score, cancelled)
            n = int(found.used[0])
            rows = np.concatenate((rows, found.rows[:n]))
            is_same = np.concatenate((is_same, found.is_same[:n]))
            sizes = np.concatenate((sizes, found.sizes[:n]))
        rng = np.random.default_rng((seed, i))
        kept = np.arange(len(rows))
        if len(kept) > max_samples:
            kept = np.sort(rng.choice(len(kept), max_samples, replace=False))
        score = forest = _fitted(
            rows[kept], is_same[kept], _weights(sizes, weights)[kept], seed, n_trees, depth
        )
        if progress is not None:
            progress(i + 1, rounds)
    made = {
        "seed": seed, "rounds": rounds, "weights": weights, "n_samples": len(rows),
        "n_same": int(is_same.sum()), "voxel_size": list(examples[0][0].voxel_size),
        "examples": [{"nodes": len(graph.labels), "edges": len(graph.edges)} for graph, _ in examples],
    }  # fmt: skip
    return replace(forest, card={**(card or {}), **made})


def _nothing() -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    return np.zeros((0, len(FEATURES)), np.float32), np.zeros(0, np.bool_), np.zeros((0, 2), np.int64)


def _course(
    graph: RegionGraph, truth: NDArray[np.uint64], score: Score, cancelled: Callable[[], bool] | None
) -> Samples:
    """Agglomerate, by the truth or as the forest would have it; return what was met."""
    n = max(len(graph.edges), 1)
    samples = Samples(
        truth.astype(np.uint64), np.empty((n, len(FEATURES)), np.float32), np.empty(n, np.bool_),
        np.empty((n, 2), np.int64), np.array([0, int(isinstance(score, Forest))], np.int64),
    )  # fmt: skip
    course = Agglomeration(graph, score, samples=samples)
    while course.run(course.n_merges + _AT_ONCE):
        if cancelled is not None and cancelled():
            raise Cancelled("The training was cancelled")
    return course.samples


def _weights(sizes: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
    """Return how much each sample counts."""
    if weights == "equal":
        return np.ones(len(sizes))
    u, v = sizes.T.astype(np.float64)
    cost = (u + v) * np.log2(u + v) - u * np.log2(u) - v * np.log2(v)
    return np.asarray(1 + np.minimum(cost / cost.mean(), _HEAVIEST))


def _fitted(
    rows: NDArray[np.float32], is_same: NDArray[np.bool_], weights: NDArray[np.float64], seed: int,
    n_trees: int, depth: int,
) -> Forest:  # fmt: skip
    """Train a forest on samples of both kinds."""
    # loads for a second, and only training needs it
    from sklearn.ensemble import RandomForestClassifier

    if is_same.all() or not is_same.any():
        kind = "within" if len(is_same) and is_same.all() else "between"
        raise DataError(f"All {len(is_same)} boundaries whose truth is known are {kind} objects",
                        "some within and some between objects, to tell them apart",
                        "Give an over-segmentation, and truth of the same volume")  # fmt: skip
    classifier = RandomForestClassifier(
        n_trees, max_depth=depth, min_samples_leaf=max(3, min(_LEAF, len(rows) // 400)), max_features=0.5,
        monotonic_cst=[int(name in _RISING) for name in FEATURES], random_state=seed,
        n_jobs=max(1, min(8, os.cpu_count() or 1)),
    )  # fmt: skip
    classifier.fit(rows, is_same, sample_weight=weights)
    return forest_of(FEATURES, classifier)


def _check(
    examples: Sequence[Example], rounds: int, weights: str, n_trees: int, depth: int, max_samples: int
) -> None:
    if not examples or any(graph.voxel_size != examples[0][0].voxel_size for graph, _ in examples):
        raise DataError(f"There are {len(examples)} examples, of several voxel sizes or none",
                        "at least one, all of one voxel size", "Choose other examples")  # fmt: skip
    for graph, truth in examples:
        if truth.shape != graph.labels.shape or truth.dtype.kind not in "iu":
            raise DataError(f"The truth is {truth.dtype}, {truth.shape}, for {len(graph.labels)} nodes",
                            "one object (a whole number) for each", "Make it with truth_of_leaves")  # fmt: skip
        check_whole(graph)
    if weights not in get_args(Weights) or min(rounds, n_trees, depth, max_samples) < 1:
        numbers = f"{rounds}, {n_trees}, {depth}, {max_samples}"
        raise DataError(f"The weights are {weights!r}; rounds, trees, depth and samples {numbers}",
                        "'size' or 'equal', and numbers from 1 on",
                        "Use the defaults")  # fmt: skip
