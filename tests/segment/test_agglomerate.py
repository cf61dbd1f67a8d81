"""Agglomeration: merges as a plain slow version makes them; statistics as voxels give them after each merge."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.forest import Forest
from napari_em_seg.segment.agglomerate import Agglomeration, Score, agglomerate
from napari_em_seg.segment.features import FEATURES, features
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import BINS, STEPS, RegionGraph, region_graph

Scores = Callable[[RegionGraph], NDArray[np.float64]]


def volume(seed: int, n: int = 14, levels: int = 255) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Return labels and affinities; few levels make many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n, (3, 5, 5)).astype(np.uint32)
    return labels, (rng.integers(0, levels + 1, (3, *labels.shape)) * (255 // levels)).astype(np.uint8)


def random_forest(seed: int, n_trees: int = 5) -> Forest:
    """Return trees of depth two that ask at random, so that scores rise and fall."""
    rng = np.random.default_rng(seed)
    sample = features(region_graph(*volume(seed, 30)))
    roots, feature, threshold, children, value = [], [], [], [], []
    for t in range(n_trees):
        roots.append(7 * t)
        asked = rng.integers(0, len(FEATURES), 3)
        feature += [*asked, -1, -1, -1, -1]
        threshold += [*(float(np.median(sample[:, f])) for f in asked), 0, 0, 0, 0]
        children += [[7 * t + 2 * k + 1, 7 * t + 2 * k + 2] if k < 3 else [0, 0] for k in range(7)]
        value += list(rng.random(7))
    return Forest(FEATURES, np.array(roots, np.int32), np.array(feature, np.int32),
                  np.array(threshold, np.float64), np.array(children, np.int32), np.array(value))  # fmt: skip


def mean_scores(graph: RegionGraph) -> NDArray[np.float64]:
    return graph.sums[:, 3:6].sum(1) / (graph.sums[:, :3].sum(1) * np.float64(STEPS))


def quantile_scores(q: float) -> Scores:
    def scores(graph: RegionGraph) -> NDArray[np.float64]:
        found = []
        for histogram, extremes in zip(graph.histogram.sum(1), graph.extremes, strict=True):
            rank, below = q * int(histogram.sum()), 0
            k = 0
            while not (histogram[k] and below + int(histogram[k]) >= rank):
                below += int(histogram[k])
                k += 1
            value = (k + (rank - below) / int(histogram[k])) / BINS
            found.append(min(max(value, extremes[:, 0].min() / STEPS), extremes[:, 1].max() / STEPS))
        return np.array(found)

    return scores


def forest_scores(forest: Forest) -> Scores:
    return lambda graph: forest.probability(features(graph))


def slow(labels: NDArray[np.uint32], affinities: NDArray[Any], scores: Scores) -> list[tuple[int, int, float]]:
    """Count all voxels again after every merge, and merge the best pair; of ties the first edge of all."""
    edges = region_graph(labels, affinities).edges
    now, merges, nodes = labels.copy(), [], {}
    leaves = np.unique(labels[labels > 0])
    nodes = {int(label): i for i, label in enumerate(leaves)}
    table = np.arange(int(labels.max()) + 1)
    while len((graph := region_graph(now, affinities)).edges):
        number: dict[tuple[int, int], int] = {}
        for i, (a, b) in enumerate(table[edges].tolist()):
            number.setdefault((min(a, b), max(a, b)), i)
        found = scores(graph)
        order = [number[a, b] for a, b in graph.edges.tolist()]
        best = max(range(len(found)), key=lambda k: (found[k], -order[k]))
        a, b = graph.edges[best].tolist()
        first, second = sorted((nodes.pop(a), nodes.pop(b)))
        nodes[a] = len(leaves) + len(merges)
        merges.append((first, second, float(found[best])))
        table[table == b] = a
        now[now == b] = a
    return merges


def slow_forest(
    labels: NDArray[np.uint32], affinities: NDArray[Any], forest: Forest, growth: float
) -> list[tuple[int, int, float]]:
    """The rule of `agglomerate` for forests, word for word, on features counted anew from all voxels."""
    graph = region_graph(labels, affinities)
    leaves = graph.labels.tolist()
    now, merges, nodes = labels.copy(), [], {label: i for i, label in enumerate(leaves)}
    scores = dict(enumerate(forest_scores(forest)(graph).tolist()))
    ends = {e: (a, b) for e, (a, b) in enumerate(graph.edges.tolist())}
    is_old: set[int] = set()
    full = dict(zip(leaves, graph.sizes.tolist(), strict=True))

    def exact() -> dict[tuple[int, int], float]:
        graph = region_graph(now, affinities)
        found = forest_scores(forest)(graph).tolist()
        return dict(zip(map(tuple, graph.edges.tolist()), found, strict=True))

    while scores:
        current = exact()
        best = max(scores, key=lambda e: (scores[e], -e))
        if best in is_old:
            is_old.remove(best)
            scores[best] = current[ends[best]]
            continue
        assert scores[best] == current[ends[best]]
        a, b = ends.pop(best)
        first, second = sorted((nodes.pop(a), nodes.pop(b)))
        nodes[a] = len(leaves) + len(merges)
        merges.append((first, second, scores.pop(best)))
        now[now == b] = a
        size, due = int((now == a).sum()), set()
        full_sizes = []
        for part in (a, b):
            is_due = size >= growth * full[part]
            full_sizes.append(size if is_due else full[part])
            due |= {e for e in ends if part in ends[e]} if is_due else set()
        full[a] = min(full_sizes)
        met: dict[tuple[int, int], int] = {}
        for e in sorted(ends):
            u, v = (a if end == b else end for end in ends[e])
            ends[e] = min(u, v), max(u, v)
            if ends[e] in met:  # two became one
                due.add(met[ends[e]])
                del ends[e], scores[e]
            else:
                met[ends[e]] = e
        is_old = {e for e in is_old | {e for e in ends if a in ends[e]} if e in ends} - due
        current = exact()
        scores.update({e: current[ends[e]] for e in due if e in ends})
    return merges


def listed(tree: MergeTree) -> list[tuple[int, int, float]]:
    return list(zip(tree.a.tolist(), tree.b.tolist(), tree.score.tolist(), strict=True))


def assert_same(one: RegionGraph, other: RegionGraph) -> None:
    for name in (field.name for field in fields(RegionGraph)):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([1, 3, 255]))
def test_mean_is_the_slow_version(seed: int, n: int, levels: int) -> None:
    labels, affinities = volume(seed, n, levels)
    assert listed(agglomerate(region_graph(labels, affinities))) == slow(labels, affinities, mean_scores)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([1, 3, 255]), st.sampled_from([0, 0.25, 0.5, 1])
)
def test_quantile_is_the_slow_version(seed: int, n: int, levels: int, q: float) -> None:
    labels, affinities = volume(seed, n, levels)
    found = agglomerate(region_graph(labels, affinities), "quantile", quantile=q)
    assert listed(found) == slow(labels, affinities, quantile_scores(q))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_a_forest_without_growth_always_takes_the_best_of_all(seed: int, n: int) -> None:
    labels, affinities = volume(seed, n)
    forest = random_forest(seed)
    tree = agglomerate(region_graph(labels, affinities), forest, growth=1)
    assert listed(tree) == slow(labels, affinities, forest_scores(forest))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([1.25, 2, 8, 100]))
def test_a_forest_follows_its_rule(seed: int, n: int, growth: float) -> None:
    """At each merge the score is what the voxels say by then: the slow version checks that as it goes."""
    labels, affinities = volume(seed, n)
    forest = random_forest(seed)
    tree = agglomerate(region_graph(labels, affinities), forest, growth=growth)
    assert listed(tree) == slow_forest(labels, affinities, forest, growth)


def test_the_rule_makes_a_difference() -> None:
    """Else the two tests above would not tell one rule from the other."""
    labels = np.arange(1, 1 + 4 * 12 * 12, dtype=np.uint32).reshape(4, 12, 12)
    labels[:, 4:8, 4:8] = 1
    graph = region_graph(labels, np.random.default_rng(0).random((3, *labels.shape), np.float32))
    for seed in range(3):
        trees = [listed(agglomerate(graph, random_forest(seed, 60), growth=g)) for g in (1, 1.25, 8)]
        assert trees[0] != trees[1] != trees[2]


@pytest.mark.parametrize("steps", [1, 7])
def test_a_forest_may_be_stopped_and_go_on(steps: int) -> None:
    """Neither pauses nor queues that are cleared change anything."""
    labels = np.arange(1, 1 + 6 * 12 * 12, dtype=np.uint32).reshape(6, 12, 12)
    labels[:, 4:8, 4:8] = 1
    affinities = np.random.default_rng(0).random((3, *labels.shape), np.float32)
    graph, forest = region_graph(labels, affinities), random_forest(2)
    course = Agglomeration(graph, forest)
    while course.run(course.n_merges + steps):
        course._make_room()
    assert listed(course.tree()) == listed(agglomerate(graph, forest))


def test_a_forest_scores_a_giant_seldom() -> None:
    """It takes in thousands of neighbours one by one; each is scored a few times, not after every merge."""
    n = 4000
    labels = np.ones((1, 3, 2 * n), np.uint32)
    labels[0, 0, ::2] = labels[0, 1, ::2] = np.arange(2, n + 2)
    affinities = np.random.default_rng(0).random((3, *labels.shape), np.float32)
    course = Agglomeration(region_graph(labels, affinities), random_forest(1))
    while course.run(n):
        pass
    assert course.n_merges == n
    assert course.n_scored < 20 * n


def test_scores_of_forests_rise_and_fall() -> None:
    rises = sum(int((np.diff(agglomerate(region_graph(*volume(i)), random_forest(i)).score) > 0).sum())
                for i in range(5))  # fmt: skip
    assert rises > 0


@pytest.mark.parametrize("score", ["mean", "quantile", "forest"])
@pytest.mark.parametrize("seed", [0, 1])
def test_after_every_merge_statistics_and_features_are_those_of_the_voxels(score: str, seed: int) -> None:
    labels, affinities = volume(seed, 25)
    graph = replace(region_graph(labels, affinities), voxel_size=(30.0, 6.0, 6.0))
    course = Agglomeration(graph, random_forest(seed) if score == "forest" else score, is_whole=True)  # type: ignore[arg-type]
    more = True
    while more:
        more = course.run(course.n_merges + 1)
        now = course.tree().apply(labels, math.inf)
        expected = region_graph(now, affinities, voxel_size=(30, 6, 6))
        assert_same(course.graph(), expected)
        assert (features(course.graph()) == features(expected)).all()
    assert course.n_merges == len(agglomerate(graph).a) > 15


@pytest.mark.parametrize("score", ["mean", "quantile", "forest"])
def test_the_graph_is_left_as_it_was_and_results_repeat(score: str) -> None:
    labels, affinities = volume(3, 40, 3)
    graph, forest = region_graph(labels, affinities), random_forest(3)
    chosen: Score = forest if score == "forest" else score  # type: ignore[assignment]
    first = agglomerate(graph, chosen)
    assert_same(graph, region_graph(labels, affinities))
    assert listed(first) == listed(agglomerate(graph, chosen))


@pytest.mark.parametrize("score", ["mean", "quantile", "forest"])
def test_stopping_is_cutting(score: str) -> None:
    graph = region_graph(*volume(4, 40))
    chosen: Score = random_forest(4) if score == "forest" else score  # type: ignore[assignment]
    whole = agglomerate(graph, chosen)
    for threshold in (0.0, float(whole.height[5]), 0.3, 0.6, 2.0):
        stopped = agglomerate(graph, chosen, stop_at=threshold)
        assert len(stopped.a) == whole.n_merges(threshold)
        assert (stopped.segments(math.inf) == whole.segments(threshold)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_height_is_also_the_maximum_along_the_branches(seed: int) -> None:
    """A score rises only where a merge has changed a region: what happens elsewhere plays no part."""
    tree = agglomerate(region_graph(*volume(seed, 60)), random_forest(seed))
    height = np.zeros(len(tree.labels) + len(tree.a))
    for i, (a, b, score) in enumerate(listed(tree)):
        height[len(tree.labels) + i] = max(height[a], height[b], 1 - score)
    apart = [tree.n_merges(t) - int((height[len(tree.labels) :] < t).sum()) for t in np.unique(tree.height)]
    assert not any(apart)


def test_a_larger_graph_against_a_plain_queue() -> None:
    """Many merges, hubs among them, so that tables fill and are made anew."""
    rng = np.random.default_rng(5)
    labels = np.arange(1, 1 + 12 * 30 * 30, dtype=np.uint32).reshape(12, 30, 30)
    labels[:, 10:20, 10:20] = 1
    affinities = rng.random((3, *labels.shape), np.float32)
    graph = region_graph(labels, affinities)
    tree = agglomerate(graph)
    assert len(tree.a) == len(graph.labels) - 1
    scores, edges = dict(enumerate(graph.sums[:, [0, 3]] * 0)), {}
    touching: dict[int, dict[int, int]] = {i: {} for i in range(len(graph.labels))}
    for e, (a, b) in enumerate(graph.ends.tolist()):
        touching[a][b] = touching[b][a] = e
        scores[e] = np.array([graph.sums[e, :3].sum(), graph.sums[e, 3:6].sum()])
        edges[e] = (a, b)
    name = list(range(len(graph.labels)))
    for i, (a, b, score) in enumerate(listed(tree)[:150]):
        best = max(edges, key=lambda e: (scores[e][1] / (scores[e][0] * STEPS), -e))
        u, v = edges.pop(best)
        assert {name[u], name[v]} == {a, b}
        assert scores[best][1] / (scores[best][0] * STEPS) == score
        del touching[u][v], touching[v][u]
        for w, e in touching.pop(v).items():
            other = touching[u].get(w)
            kept = e if other is None else min(e, other)
            if other is not None:
                scores[kept] = scores[e] + scores[other]
                edges.pop(max(e, other))
            edges[kept] = (u, w)
            del touching[w][v]
            touching[u][w] = touching[w][u] = kept
        name[u] = len(graph.labels) + i


def test_known_merges() -> None:
    """Two cells, cut in two each: the halves come together first, whatever noise says of single faces."""
    labels = np.repeat([[[1, 1, 2, 2, 3, 3, 4, 4]]], 4, axis=1).astype(np.uint32)
    affinities = np.full((3, *labels.shape), 0.9, np.float32)
    affinities[2, 0, :, 2] = 0.8, 0.9, 0.7, 0.8
    affinities[2, 0, :, 6] = 0.6, 0.7, 0.8, 0.7
    affinities[2, 0, :, 4] = 0.0, 0.1, 0.95, 0.1  # one leak
    tree = agglomerate(region_graph(labels, affinities))
    assert (tree.a.tolist(), tree.b.tolist()) == ([0, 2, 4], [1, 3, 5])
    assert np.allclose(tree.score, (0.8, 0.7, 0.2875), atol=1e-4)
    assert np.unique(tree.apply(labels, 0.5)).tolist() == [1, 3]


def test_without_edges_there_is_nothing_to_merge() -> None:
    for fill in (0, 3):
        graph = region_graph(np.full((2, 3, 3), fill, np.uint32), np.ones((3, 2, 3, 3), np.float32))
        for score in ("mean", "quantile", random_forest(0)):
            tree = agglomerate(graph, score)  # type: ignore[arg-type]
            assert len(tree.a) == 0
            assert (tree.cut(1.0) == np.arange(fill + 1)).all()


def test_progress_and_cancelling() -> None:
    labels = np.arange(1, 1 + 20 * 20 * 20, dtype=np.uint32).reshape(20, 20, 20)
    graph = region_graph(labels, np.random.default_rng(0).random((3, *labels.shape), np.float32))
    calls: list[tuple[int, int]] = []
    agglomerate(graph, progress=lambda *done: calls.append(done))
    assert calls == sorted(calls)
    assert len(calls) > 3
    assert calls[-1] == (7999, 7999)
    with pytest.raises(Cancelled):
        agglomerate(graph, cancelled=lambda: True)


def test_what_is_wrong_is_said() -> None:
    graph = region_graph(*volume(0))
    for options, words in (({"score": "median"}, "score"), ({"quantile": 1.1}, "quantile"),
                           ({"quantile": float("nan")}, "quantile"), ({"stop_at": -1}, "stop"),
                           ({"stop_at": float("nan")}, "stop")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            agglomerate(graph, **options)  # type: ignore[arg-type]
    block = region_graph(*volume(1), margin=(1, 0, 0))
    assert (block.sizes == 0).any()
    assert len(agglomerate(block).labels) == len(block.labels)  # affinities are enough for the mean
    with pytest.raises(DataError, match="no voxels"):
        agglomerate(block, random_forest(0))
