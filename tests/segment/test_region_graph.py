"""The region graph: every statistic as counted voxel by voxel, and blocks that add up to the whole."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.segment.region_graph import BINS, STEPS, RegionGraph, merge_graphs, region_graph

PARTS = ("labels", "edges", "histogram", "sums", "extremes", "node_sums", "boxes")


def volume(seed: int, shape: tuple[int, int, int] = (4, 5, 6), n: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels with holes and gaps in their numbers, and affinities."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n, shape).astype(np.uint32)
    return np.where(labels > 0, 7 * labels + 1, 0).astype(np.uint32), rng.random((3, *shape), np.float32)


def assert_same(one: RegionGraph, other: RegionGraph) -> None:
    for name in PARTS:
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype, name
        assert first.shape == second.shape, name
        assert (first == second).all(), name


def brute(labels: NDArray[Any], affinities: NDArray[Any]) -> dict[tuple[int, int], list[list[tuple[Any, ...]]]]:
    """Return for each pair of labels and each channel its faces: steps and doubled position."""
    found: dict[tuple[int, int], list[list[tuple[Any, ...]]]] = {}
    for place in np.ndindex(*labels.shape):
        for c in range(3):
            beside = tuple(p - (k == c) for k, p in enumerate(place))
            if min(beside) < 0 or labels[place] == 0 or labels[beside] == 0 or labels[place] == labels[beside]:
                continue
            pair = tuple(sorted((int(labels[place]), int(labels[beside]))))
            value = affinities[(c, *place)]
            steps = int(value) * 256 if affinities.dtype == np.uint8 else int(np.float64(value) * STEPS + 0.5)
            faces = found.setdefault(pair, [[], [], []])  # type: ignore[arg-type]
            faces[c].append((steps, *(p + q for p, q in zip(place, beside, strict=True))))
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.uint8, np.float32, np.float64]), st.integers(1, 9))
def test_statistics_are_those_of_the_voxels(seed: int, dtype: type, n: int) -> None:
    labels, affinities = volume(seed, n=n)
    affinities = np.rint(affinities * 255).astype(np.uint8) if dtype is np.uint8 else affinities.astype(dtype)
    graph, expected = region_graph(labels, affinities), brute(labels, affinities)
    assert graph.edges.tolist() == [list(pair) for pair in sorted(expected)]
    for row, pair in enumerate(sorted(expected)):
        for c, faces in enumerate(expected[pair]):
            steps = np.array([face[0] for face in faces], np.int64)
            assert graph.sums[row, [c, 3 + c, 6 + c]].tolist() == [len(steps), steps.sum(), (steps**2).sum()]
            bins = np.bincount(np.minimum(steps * BINS // STEPS, BINS - 1), minlength=BINS)
            assert (graph.histogram[row, c] == bins).all()
            limits = [steps.min(), steps.max()] if len(steps) else [65535, 0]
            assert graph.extremes[row, c].tolist() == limits
        positions = np.array([face[1:] for faces in expected[pair] for face in faces])
        assert (graph.sums[row, 9:12] == positions.sum(0)).all()
        assert (graph.sums[row, 12:] == (positions**2).sum(0)).all()
        assert np.allclose(graph.contact_centres[row], positions.mean(0) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_nodes_are_those_of_the_voxels(seed: int) -> None:
    labels, affinities = volume(seed)
    graph = region_graph(labels, affinities)
    assert (graph.labels == np.unique(labels[labels > 0])).all()
    for row, label in enumerate(graph.labels):
        places = np.argwhere(labels == label)
        z, y, x = places.T
        products = [(p * q).sum() for p, q in ((z, z), (y, y), (x, x), (z, y), (z, x), (y, x))]
        assert graph.node_sums[row].tolist() == [len(places), *places.sum(0), *products]
        assert graph.boxes[row].tolist() == [*places.min(0), *places.max(0)]
        assert np.allclose(graph.centres[row], places.mean(0))
    assert (graph.labels[graph.ends] == graph.edges).all()


def test_a_known_wall() -> None:
    labels = np.array([[[1, 1, 2], [1, 1, 2]]], np.uint32)
    affinities = np.zeros((3, 1, 2, 3), np.float32)
    affinities[2, 0, :, 2] = 0.25, 0.75
    graph = region_graph(labels, affinities)
    assert graph.edges.tolist() == [[1, 2]]
    assert graph.contacts.tolist() == [[0, 0, 2]]
    assert graph.mean.tolist() == [0.5]
    assert graph.contact_centres.tolist() == [[0, 0.5, 1.5]]
    assert graph.sizes.tolist() == [4, 2]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.integers(1, 8), st.integers(1, 6), st.integers(1, 5)))
def test_blocks_sum_to_the_whole(seed: int, cut: tuple[int, int, int]) -> None:
    labels, affinities = volume(seed, (9, 7, 6), 12)
    blocks = []
    for corner in np.ndindex(2, 2, 2):
        start = [c * k for c, k in zip(corner, cut, strict=True)]
        stop = [n if c else k for c, k, n in zip(corner, cut, labels.shape, strict=True)]
        low = tuple(max(s - 1, 0) for s in start)
        block = tuple(slice(s, t) for s, t in zip(low, stop, strict=True))
        blocks.append(region_graph(labels[block], affinities[(slice(None), *block)], origin=low, margin=corner))  # type: ignore[arg-type]
    assert_same(merge_graphs(blocks), region_graph(labels, affinities))
    assert_same(merge_graphs(blocks[::-1]), merge_graphs([merge_graphs(blocks[:3]), *blocks[3:]]))


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, affinities = volume(1, (23, 9, 11), 60)
    graphs = []
    for n in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda n=n: n)
        graphs.append(region_graph(labels, affinities))
    assert_same(graphs[0], graphs[1])
    assert_same(graphs[0], graphs[2])


def test_many_edges_make_tables_grow() -> None:
    labels = np.arange(1, 1 + 6 * 40 * 40, dtype=np.uint32).reshape(6, 40, 40)
    graph = region_graph(labels, np.ones((3, *labels.shape), np.float32))
    assert len(graph.edges) == 5 * 40 * 40 + 6 * 39 * 40 * 2
    assert (graph.mean == 1).all()
    assert (graph.sizes == 1).all()


def test_reads_slab_by_slab_and_counts_slices() -> None:
    labels, affinities = volume(2, (20, 6, 7))

    class Lazy:
        def __init__(self, array: NDArray[Any], axis: int) -> None:
            self._array, self._axis, self.shape, self.dtype = array, axis, array.shape, array.dtype

        def __getitem__(self, key: Any) -> Any:
            part = key[self._axis] if isinstance(key, tuple) else key
            assert part.stop - part.start <= 5
            return self._array[key]

    calls: list[tuple[int, int]] = []
    graph = region_graph(Lazy(labels, 0), Lazy(affinities, 1), progress=lambda *done: calls.append(done))
    assert_same(graph, region_graph(labels.astype(np.int64), affinities))
    assert calls == sorted(calls)
    assert calls[-1] == (20, 20)


def test_nothing_touches_nothing() -> None:
    affinities = np.ones((3, 3, 3, 3), np.float32)
    for fill, n in ((0, 0), (4, 1)):
        graph = region_graph(np.full((3, 3, 3), fill, np.uint32), affinities)
        assert (len(graph.labels), len(graph.edges)) == (n, 0)
    apart = np.zeros((3, 3, 3), np.uint32)
    apart[0, 0, 0] = apart[0, 1, 1] = 4294967295
    apart[2] = 1
    assert not len(region_graph(apart, affinities).edges)


@pytest.mark.parametrize(
    ("labels", "affinities", "options", "words"),
    [
        (np.ones((4, 4), np.uint32), np.ones((3, 4, 4), np.float32), {}, "labels have the shape"),
        (np.ones((2, 4, 4), np.float32), np.ones((3, 2, 4, 4), np.float32), {}, "float32"),
        (-np.ones((2, 4, 4), np.int32), np.ones((3, 2, 4, 4), np.float32), {}, "from -1"),
        (np.full((2, 4, 4), 2**40), np.ones((3, 2, 4, 4), np.float32), {}, "1099511627776"),
        (np.ones((2, 4, 4), np.uint32), np.ones((2, 2, 4, 4), np.float32), {}, "affinities have the shape"),
        (np.ones((2, 4, 4), np.uint32), np.ones((3, 2, 4, 5), np.float32), {}, "affinities have the shape"),
        (np.ones((2, 4, 4), np.uint32), np.ones((3, 2, 4, 4), np.int16), {}, "int16"),
        (np.ones((2, 4, 4), np.uint32), np.ones((3, 2, 4, 4), np.float32), {"margin": (2, 0, 0)}, "margin"),
        (np.ones((1, 4, 4), np.uint32), np.ones((3, 1, 4, 4), np.float32), {"margin": (1, 0, 0)}, "margin"),
        (np.ones((2, 4, 4), np.uint32), np.ones((3, 2, 4, 4), np.float32), {"origin": (-1, 0, 0)}, "origin"),
        (np.ones((2, 4, 4), np.uint32), np.ones((3, 2, 4, 4), np.float32), {"voxel_size": (0, 1, 1)}, "voxel"),
    ],
)
def test_what_is_wrong_is_said(
    labels: NDArray[Any], affinities: NDArray[Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        region_graph(labels, affinities, **options)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1, np.inf])
def test_affinities_that_are_none_are_refused(value: float) -> None:
    labels, affinities = volume(3)
    affinities[:] = value
    with pytest.raises(DataError, match=r"not from 0 to 1"):
        region_graph(labels, affinities)


def test_graphs_that_do_not_belong_together_are_refused() -> None:
    graph = region_graph(*volume(4))
    for graphs in ([], [graph, replace(graph, voxel_size=(30.0, 6.0, 6.0))]):
        with pytest.raises(DataError, match="graphs"):
            merge_graphs(graphs)
