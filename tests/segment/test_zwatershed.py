"""The z-watershed: the same as plain Python that follows the definitions, with and without ties."""

import os
import sys
from collections import deque
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.segment.zwatershed import (
    link_by_size,
    max_affinity_graph,
    remove_dust,
    steepest_ascent,
    zwatershed,
)

Affinities = NDArray[Any]
Voxel = tuple[int, ...]
Graph = dict[Voxel, dict[Voxel, float]]

AXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


# --- the definitions, in plain Python ---


def graph_of(affinities: Affinities, low: float, high: float, mask: NDArray[np.bool_] | None = None) -> Graph:
    """Return the neighbours of each voxel across edges that count, and their affinities up to ``high``."""
    shape = affinities.shape[1:]
    unit = np.float32(255 if affinities.dtype == np.uint8 else 1)
    graph: Graph = {v: {} for v in np.ndindex(shape)}
    for c, v in product(range(3), np.ndindex(shape)):
        u = tuple(i - d for i, d in zip(v, AXES[c], strict=True))
        a = np.float32(affinities[(c, *v)]) / unit
        is_outside = min(u) < 0 or (mask is not None and not (mask[v] and mask[u]))
        if not is_outside and a > 0 and a >= np.float32(low):
            graph[u][v] = graph[v][u] = float(min(a, np.float32(high)))
    return graph


def distances(start: Voxel, neighbours: dict[Voxel, set[Voxel]]) -> dict[Voxel, int]:
    """Return the number of steps to all that can be reached."""
    steps, queue = {start: 0}, deque([start])
    while queue:
        v = queue.popleft()
        for u in neighbours[v] - steps.keys():
            steps[u] = steps[v] + 1
            queue.append(u)
    return steps


def reference_basins(
    affinities: Affinities, low: float, high: float, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    graph = graph_of(affinities, low, high, mask)
    strongest = {v: {u for u, w in near.items() if w == max(near.values())} for v, near in graph.items()}
    level = {v: {u for u in strongest[v] if v in strongest[u]} for v in graph}
    exits = {v: strongest[v] - level[v] for v in graph}

    goal: dict[Voxel, Voxel] = {}  # where the voxels of a plateau leave it, or the first of one without exits
    for v in graph:
        if v in goal:
            continue
        plateau = sorted(distances(v, level))
        ways = [(u, distances(u, level)) for u in plateau if exits[u]]
        for u in plateau:
            if ways:
                _, last = min((steps[u], corner) for corner, steps in ways)
                goal[u] = min(exits[last])
            else:
                goal[u] = plateau[0]

    labels = np.zeros(affinities.shape[1:], np.int64)
    for v in graph:
        if graph[v]:
            u = v
            while goal[u] != u:
                u = goal[u]
            labels[v] = 1 + np.ravel_multi_index(u, labels.shape)
    return canonical(labels)


def reference_graph(labels: NDArray[Any], affinities: Affinities) -> dict[tuple[int, int], float]:
    pairs: dict[tuple[int, int], float] = {}
    unit = np.float32(255 if affinities.dtype == np.uint8 else 1)
    for c, v in product(range(3), np.ndindex(labels.shape)):
        u = tuple(i - d for i, d in zip(v, AXES[c], strict=True))
        if min(u) >= 0 and labels[u] and labels[v] and labels[u] != labels[v]:
            a, b = sorted((int(labels[u]), int(labels[v])))
            weight = float(np.float32(affinities[(c, *v)]) / unit)
            pairs[a, b] = max(pairs.get((a, b), 0.0), weight)
    return pairs


def reference_link(
    pairs: list[tuple[int, int]], weights: list[float], sizes: list[int], size_threshold: int, least: float
) -> list[int]:
    groups = [{i} for i in range(len(sizes))]
    for _, _, (a, b) in sorted((-w, i, pair) for i, (pair, w) in enumerate(zip(pairs, weights, strict=True))):
        weight = weights[pairs.index((a, b))]
        if weight < np.float32(least) or groups[a] is groups[b]:
            continue
        if min(sum(sizes[i] for i in groups[k]) for k in (a, b)) < size_threshold:
            joined = groups[a] | groups[b]
            for i in joined:
                groups[i] = joined
    firsts = sorted({min(group) for group in groups})
    return [firsts.index(min(group)) for group in groups]


def canonical(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Number labels in the order in which they are met; 0 stays."""
    numbers: dict[int, int] = {0: 0}
    flat = [numbers.setdefault(int(i), len(numbers)) for i in labels.ravel()]
    return np.array(flat, np.int64).reshape(labels.shape)


# --- what they are compared on ---


def shape_of(rng: np.random.Generator) -> tuple[int, ...]:
    return 3, *(int(n) for n in rng.integers(1, 7, 3))


def distinct(rng: np.random.Generator) -> Affinities:
    shape = shape_of(rng)
    return ((1 + rng.permutation(np.prod(shape))) / (1 + np.prod(shape))).reshape(shape).astype(np.float32)


def quantised(rng: np.random.Generator) -> Affinities:
    n_levels = int(rng.integers(1, 6))
    return (rng.integers(0, n_levels + 1, shape_of(rng)) * (255 // n_levels)).astype(np.uint8)


def thresholds(rng: np.random.Generator) -> tuple[float, float]:
    low, high = sorted(float(t) for t in rng.choice((0.05, 0.2, 0.4, 0.6, 0.8, 1.0), 2))
    return (0.0 if rng.random() < 0.3 else low), high


def snake(n: int) -> Affinities:
    """Return affinities that join a winding path, rising along it, in one slice."""
    affinities = np.zeros((3, 1, n, n), np.float32)
    values = iter(np.linspace(0.2, 0.9, n * n))
    for y in range(n):
        if y > 0:
            affinities[1, 0, y, -1 if y % 2 else 0] = next(values)
        for x in range(1, n) if y % 2 == 0 else range(n - 1, 0, -1):
            affinities[2, 0, y, x] = next(values)
    return affinities


@pytest.mark.parametrize("kind", [distinct, quantised])
@pytest.mark.parametrize("seed", range(10))
def test_basins_are_those_of_the_definition(kind: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        affinities, (low, high) = kind(rng), thresholds(rng)
        mask = rng.random(affinities.shape[1:]) < 0.8 if rng.random() < 0.4 else None
        labels = steepest_ascent(affinities, low, high, mask)
        assert labels.dtype == np.uint32
        assert (labels == reference_basins(affinities, low, high, mask)).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 6), (5, 1, 1), (9, 4, 3)])
def test_constant_affinities_are_one_segment_or_none(shape: tuple[int, ...], value: float) -> None:
    for affinities in (
        np.full((3, *shape), value, np.float32),
        np.full((3, *shape), round(255 * value), np.uint8),
    ):
        labels = steepest_ascent(affinities, 0.0, 1.0)
        assert (labels == (value > 0 and shape != (1, 1, 1))).all()
        assert not steepest_ascent(affinities, 0.4, 0.9).any() or value == 1


def test_a_snake_is_one_basin_however_long() -> None:
    for affinities in (snake(61), snake(61)[..., ::-1, ::-1], np.ceil(snake(61))):
        rolled = np.ascontiguousarray(affinities)
        if affinities.base is not None:  # edges join to −1: mirrored, each belongs to the voxel beyond it
            rolled[1], rolled[2] = np.roll(affinities[1], 1, -2), np.roll(affinities[2], 1, -1)
        labels = steepest_ascent(rolled, 0.1, 1.0)
        assert (labels == 1).all()


def test_a_plateau_is_divided_halfway_between_its_exits() -> None:
    row = np.zeros((3, 1, 1, 9), np.float32)
    row[2, 0, 0, 1:] = 0.9, *[0.5] * 6, 0.8
    assert steepest_ascent(row, 0.1, 1.0).ravel().tolist() == [
        1,
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        2,
    ]  # the middle: the first
    row[2, 0, 0, 1:] = *[0.5] * 7, 0.8
    assert (steepest_ascent(row, 0.1, 1.0) == 1).all()


def test_of_several_exits_the_first_is_taken() -> None:
    row = np.zeros((3, 1, 1, 5), np.float32)
    row[2, 0, 0, 1:] = 0.9, 0.5, 0.5, 0.9
    assert steepest_ascent(row, 0.1, 1.0).ravel().tolist() == [1, 1, 1, 2, 2]


def test_a_plateau_of_a_volume_is_divided_as_defined() -> None:
    affinities = np.full((3, 7, 8, 9), 128, np.uint8)
    for v in ((2, 0, 0, 1), (2, 6, 7, 8), (1, 3, 7, 4), (0, 6, 0, 8)):
        affinities[v] = 200
    assert (steepest_ascent(affinities, 0.1, 1.0) == reference_basins(affinities, 0.1, 1.0)).all()


def test_strong_edges_always_join_and_weak_ones_never() -> None:
    row = np.zeros((3, 1, 1, 6), np.float32)
    row[2, 0, 0, 1:] = 0.95, 0.9, 0.99, 0.4, 0.5
    assert steepest_ascent(row, 0.1, 1.0).ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert steepest_ascent(row, 0.1, 0.9).ravel().tolist() == [1, 1, 1, 1, 2, 2]  # as strong as high is enough
    assert steepest_ascent(row, 0.5, 0.9).ravel().tolist() == [1, 1, 1, 1, 2, 2]  # as strong as low is, too
    assert steepest_ascent(row, 0.6, 0.9).ravel().tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_raising_high_splits_and_raising_low_leaves_fewer_voxels(seed: int) -> None:
    affinities = np.random.default_rng(seed).random((3, 5, 20, 20), np.float32)
    for lower, higher in pairwise(steepest_ascent(affinities, 0.1, high) for high in (0.3, 0.6, 0.9, 1.0)):
        pairs = np.unique(np.stack((higher.ravel(), lower.ravel())), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]  # nested
        assert higher.max() > lower.max()
    inside = [steepest_ascent(affinities, low, 1.0) > 0 for low in (0.0, 0.5, 0.8, 0.95)]
    for more, fewer in pairwise(inside):
        assert (more | ~fewer).all()
        assert more.sum() > fewer.sum()
    for low in (0.3, 0.7):  # with nothing between them, what is left are connected components
        one = steepest_ascent(affinities, low, low)
        assert (one == steepest_ascent((affinities >= low).astype(np.float32), 0.5, 0.5)).all()


@pytest.mark.parametrize("kind", [distinct, quantised])
def test_the_graph_has_the_greatest_affinity_of_each_pair(kind: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        affinities = kind(rng)
        labels = rng.integers(0, 6, affinities.shape[1:]).astype(np.uint32)
        expected = reference_graph(labels, affinities)
        for least in (0.0, 0.4):
            edges, weights = max_affinity_graph(labels, affinities, least)
            found = {(int(a), int(b)): float(w) for (a, b), w in zip(edges, weights, strict=True)}
            assert found == {pair: w for pair, w in expected.items() if w >= np.float32(least)}
            assert list(found) == sorted(found)
            assert (edges.dtype, weights.dtype) == (np.uint32, np.float32)


def test_a_graph_of_many_segments() -> None:
    affinities = np.random.default_rng(0).random((3, 2, 90, 90), np.float32)
    labels = np.arange(1, 2 * 90 * 90 + 1, dtype=np.uint32).reshape(2, 90, 90)
    edges, weights = max_affinity_graph(labels, affinities)
    assert len(edges) == 90 * 90 + 2 * 2 * 90 * 89
    (i,) = np.flatnonzero((edges == (1, 8101)).all(axis=1))
    assert weights[i] == affinities[0, 1, 0, 0]


def test_linkage_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = int(rng.integers(1, 14))
        every = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1)]
        kept = sorted(rng.permutation(len(every))[: rng.integers(0, len(every) + 1)])
        pairs = [every[i] for i in kept]
        weights = (rng.integers(0, rng.choice((3, 1000)), len(pairs)) / np.float32(1000)).astype(np.float32)
        sizes = [int(rng.integers(0, 50)), *(int(k) for k in rng.integers(1, 30, n))]
        size, least = int(rng.integers(0, 60)), float(rng.choice((0.0, 0.001, 0.5)))
        table = link_by_size(np.array(pairs, np.uint32).reshape(-1, 2), weights, np.array(sizes), size, least)
        assert table.dtype == np.uint32
        assert table.tolist() == reference_link(pairs, weights.tolist(), sizes, size, least)


def test_of_equal_edges_the_first_goes_first() -> None:
    sizes = np.array([0, 9, 3, 9])
    edges, weights = np.array([[1, 2], [2, 3]]), np.array([0.5, 0.5])
    assert link_by_size(edges, weights, sizes, 5, 0.1).tolist() == [0, 1, 1, 2]
    assert link_by_size(edges[::-1], weights, sizes, 5, 0.1).tolist() == [0, 1, 2, 2]
    assert link_by_size(edges, np.array([0.5, 0.6]), sizes, 5, 0.1).tolist() == [0, 1, 2, 2]


def test_two_large_segments_never_join_and_no_edge_is_no_matter() -> None:
    edges, weights = np.array([[1, 2]]), np.array([1.0])
    assert link_by_size(edges, weights, np.array([0, 5, 5]), 5, 0.0).tolist() == [0, 1, 2]
    assert link_by_size(edges, weights, np.array([0, 5, 4]), 5, 1.0).tolist() == [0, 1, 1]
    assert link_by_size(edges[:0], weights[:0], np.array([7]), 5, 0.0).tolist() == [0]


def test_dust_becomes_background() -> None:
    labels = np.array([[[3, 3, 3, 1, 0, 7, 7, 7, 7, 4, 4]]], np.uint32)
    assert remove_dust(labels, 3).ravel().tolist() == [1, 1, 1, 0, 0, 2, 2, 2, 2, 0, 0]
    assert remove_dust(labels, 0).ravel().tolist() == [2, 2, 2, 1, 0, 4, 4, 4, 4, 3, 3]
    assert not remove_dust(labels, 9).any()
    assert labels.max() == 7


@pytest.mark.parametrize("kind", [distinct, quantised])
@pytest.mark.parametrize("seed", range(6))
def test_the_whole_is_that_of_the_definitions(kind: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(15):
        affinities, (low, high) = kind(rng), thresholds(rng)
        size, least, dust = (
            int(rng.integers(0, 30)),
            float(rng.choice((0.0, 0.3, 0.8))),
            int(rng.integers(0, 9)),
        )
        mask = rng.random(affinities.shape[1:]) < 0.8 if rng.random() < 0.4 else None
        labels = zwatershed(
            affinities, low=low, high=high, size_threshold=size, weight_threshold=least, dust=dust, mask=mask
        )
        basins = reference_basins(affinities, low, high, mask)
        pairs = dict(sorted(reference_graph(basins, affinities).items()))
        if mask is not None:
            assert not basins[~mask].any()
        sizes = np.bincount(basins.ravel()).tolist()
        table = reference_link(list(pairs), list(pairs.values()), sizes, size, least)
        expected = np.array(table)[basins]
        counts = np.bincount(expected.ravel())
        expected[counts[expected] < dust] = 0
        assert (labels == canonical(expected)).all()


def options(**changes: Any) -> dict[str, Any]:
    return {"low": 0.1, "high": 0.9, "size_threshold": 40, "weight_threshold": 0.3, "dust": 5, **changes}


def affinities_of_bytes(seed: int = 0) -> Affinities:
    return np.random.default_rng(seed).integers(0, 8, (3, 11, 24, 25)).astype(np.uint8) * np.uint8(36)


def test_results_repeat_and_do_not_depend_on_layout_type_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = affinities_of_bytes()
    floats = whole.astype(np.float32) / np.float32(255)
    expected = zwatershed(whole, **options())
    assert (expected == zwatershed(whole, **options())).all()
    assert expected.max() > 3
    for same in (
        np.asfortranarray(whole), floats, np.asfortranarray(floats), floats.astype(np.float64),
        floats.astype(">f4"), np.repeat(whole, 2, axis=-1)[..., ::2],
    ):  # fmt: skip
        assert (zwatershed(same, **options()) == expected).all()
    read_only = whole.copy()
    read_only.flags.writeable = False
    assert (zwatershed(read_only, **options()) == expected).all()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(sys.modules["napari_em_seg.segment.zwatershed"], "_SLAB", 3)
    assert (zwatershed(whole, **options()) == expected).all()


def test_reads_a_few_slices_at_a_time() -> None:
    whole = affinities_of_bytes()

    class Lazy:
        """Refuses to be read as a whole."""

        shape, dtype = whole.shape, whole.dtype

        def __getitem__(self, key: Any) -> Any:
            _, z = key
            assert z.stop - z.start <= 4
            return whole[key]

    assert (zwatershed(Lazy(), **options()) == zwatershed(whole, **options())).all()


def test_outside_the_mask_nothing_passes() -> None:
    affinities = np.ones((3, 4, 6, 9), np.float32)
    mask = np.ones(affinities.shape[1:], np.bool_)
    mask[:, :, 4] = False
    labels = zwatershed(affinities, **options(mask=mask))
    assert ((labels > 0) == mask).all()
    assert labels.max() == 2
    assert not zwatershed(affinities, **options(mask=np.zeros_like(mask))).any()


def test_edges_out_of_the_volume_do_not_count() -> None:
    affinities = np.random.default_rng(3).random((3, 4, 6, 7), np.float32)
    expected = zwatershed(affinities, **options(dust=0))
    affinities[0, 0], affinities[1, :, 0], affinities[2, :, :, 0] = 1, 1, 1
    assert (zwatershed(affinities, **options(dust=0)) == expected).all()


def test_progress_counts_slices() -> None:
    calls: list[tuple[int, int]] = []
    zwatershed(affinities_of_bytes(), **options(progress=lambda *call: calls.append(call)))
    assert calls == sorted(calls)
    assert calls[-1] == (11, 11)


FINE = np.full((3, 2, 4, 4), 0.5, np.float32)


@pytest.mark.parametrize(
    ("affinities", "changes", "words"),
    [
        (FINE[0], {}, "shape.*2×4×4"),
        (FINE[:2], {}, "shape.*2×2×4×4"),
        (FINE[:, :0], {}, "shape"),
        (FINE.astype(np.int64), {}, "int64"),
        (FINE > 0, {}, "bool"),
        (FINE * np.float32(np.nan), {}, "Slices 0 to 1.*NaN"),
        (FINE * 3, {}, "from 1.5 to 1.5"),
        (-FINE, {}, "from -0.5"),
        (FINE, {"low": 0.8, "high": 0.5}, "low = 0.8 and high = 0.5"),
        (FINE, {"low": -0.1}, "low"),
        (FINE, {"high": 200}, "high = 200"),
        (FINE, {"low": 0, "high": 0}, "high"),
        (FINE, {"low": float("nan")}, "low"),
        (FINE, {"size_threshold": -1}, "size"),
        (FINE, {"size_threshold": 1.5}, "size"),
        (FINE, {"weight_threshold": 2}, "joining is 2"),
        (FINE, {"dust": float("nan")}, "size"),
        (FINE, {"mask": np.ones((2, 4, 3), np.bool_)}, "mask"),
        (FINE, {"mask": np.ones((2, 4, 4))}, "mask"),
    ],
)
def test_what_is_wrong_is_said(affinities: Affinities, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        zwatershed(affinities, **options(**changes))
    assert all((caught.value.came, caught.value.expected, caught.value.do))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: max_affinity_graph(np.zeros((2, 4, 5), np.uint32), FINE), "2×4×5.*2×4×4"),
        (lambda: max_affinity_graph(np.zeros((2, 4, 4)), FINE), "float64"),  # type: ignore[arg-type]
        (lambda: max_affinity_graph(np.full((2, 4, 4), -1), FINE), "from -1"),  # type: ignore[arg-type]
        (lambda: link_by_size(np.ones((2, 3), int), np.ones(2), np.ones(9), 1, 0), "edges"),
        (lambda: link_by_size(np.ones((2, 2), int), np.ones(3), np.ones(9), 1, 0), "weights"),
        (lambda: link_by_size(np.array([[0, 1]]), np.ones(1), np.ones(9), 1, 0), "from 0 to 1"),
        (lambda: link_by_size(np.array([[1, 9]]), np.ones(1), np.ones(9), 1, 0), "from 1 to 9"),
        (lambda: link_by_size(np.array([[1, 2]]), np.array([np.nan]), np.ones(9), 1, 0), "weights"),
        (lambda: link_by_size(np.array([[1, 2]]), np.ones(1), np.ones((9, 1)), 1, 0), "sizes"),
        (lambda: remove_dust(np.ones((2, 2, 2)), 1), "labels"),  # type: ignore[arg-type]
        (lambda: remove_dust(np.ones((2, 0, 2), np.uint32), 1), "2×0×2"),
        (lambda: remove_dust(np.ones((2, 2, 2), np.uint32), -1), "size"),
    ],
)
def test_each_step_says_what_is_wrong(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
