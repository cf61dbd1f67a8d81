"""Features of boundaries: each as computed from voxels in the plainest way, whatever the regions are called."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.segment._agglomerate_kernels import N_FEATURES
from napari_em_seg.segment.features import FEATURES, MEANINGS, features
from napari_em_seg.segment.region_graph import BINS, STEPS, region_graph

SIZE = (30.0, 6.0, 5.0)


def distribution(steps: NDArray[np.int64]) -> list[float]:
    if not len(steps):
        return [-1.0] * 9
    values = steps / STEPS
    counts = np.bincount(np.minimum(steps * BINS // STEPS, BINS - 1), minlength=BINS)
    quantiles = []
    for q in (0.1, 0.25, 0.5, 0.75, 0.9):
        below = np.concatenate(([0], np.cumsum(counts)))
        k = next(k for k in range(BINS) if counts[k] and below[k + 1] >= q * len(steps))
        value = (k + (q * len(steps) - below[k]) / counts[k]) / BINS
        quantiles.append(min(max(value, values.min()), values.max()))
    return [values.mean(), values.std(), values.min(), values.max(), *quantiles]


def axes(places: NDArray[Any]) -> NDArray[np.float64]:
    scaled = places * SIZE
    covariance = np.atleast_2d(np.cov(scaled.T, bias=True)) + np.diag(np.square(SIZE)) / 12
    return np.sqrt(np.linalg.eigvalsh(covariance)[::-1])


def brute(labels: NDArray[Any], affinities: NDArray[Any], a: int, b: int) -> dict[str, float]:
    """Return the features of one boundary from the voxels of both regions."""
    steps: list[list[int]] = [[], [], []]
    middles = []
    for place in np.argwhere(np.isin(labels, (a, b))):
        for c in range(3):
            beside = place - np.eye(3, dtype=int)[c]
            if beside[c] >= 0 and {int(labels[tuple(place)]), int(labels[tuple(beside)])} == {a, b}:
                steps[c].append(int(np.float64(affinities[(c, *place)]) * STEPS + 0.5))
                middles.append((place + beside) / 2)
    parts = [np.array(s, np.int64) for s in steps]
    small, large = sorted((np.argwhere(labels == i) for i in (a, b)), key=lambda p: (len(p), *p.sum(0)))
    volume, area = (
        np.prod(SIZE) * len(small),
        sum(len(s) * np.prod(SIZE) / SIZE[c] for c, s in enumerate(steps)),
    )
    side = volume ** (1 / 3)
    distance = np.linalg.norm((small.mean(0) - large.mean(0)) * SIZE)
    shapes = [axes(p) for p in (small, large, np.concatenate((small, large)))]
    lows, highs = zip(*((p[:, 0].min(), p[:, 0].max()) for p in (small, large)), strict=True)
    values = [
        *(v for s in (*parts, np.concatenate(parts)) for v in distribution(s)),
        *map(len, steps), np.log(volume), np.log(np.prod(SIZE) * len(large)), len(small) / len(large),
        area / side**2, distance, distance / side,
        np.sqrt((np.array(middles) * SIZE).var(0).sum()) / side,
        shapes[0][0] / shapes[0][1], shapes[0][1] / shapes[0][2], shapes[1][0] / shapes[1][1],
        shapes[1][1] / shapes[1][2], shapes[2][0] / shapes[2][1],
        max(0, min(highs) - max(lows) + 1) / (1 + min(h - low for h, low in zip(highs, lows, strict=True))),
    ]  # fmt: skip
    return dict(zip(FEATURES, values, strict=True))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 25))
def test_features_are_those_of_the_voxels(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n, (3, 4, 5)).astype(np.uint32)
    affinities = rng.random((3, *labels.shape), np.float32)
    graph = region_graph(labels, affinities, voxel_size=SIZE)
    rows = features(graph)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    for row, (a, b) in zip(rows, graph.edges.tolist(), strict=True):
        for value, (name, expected) in zip(row, brute(labels, affinities, a, b).items(), strict=True):
            assert value == pytest.approx(expected, rel=2e-4, abs=2e-4), name


def test_features_do_not_depend_on_names() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 9, (4, 6, 6)).astype(np.uint32)
    affinities = rng.random((3, *labels.shape), np.float32)
    names = np.concatenate(([0], 1 + rng.permutation(8))).astype(np.uint32)
    graph, renamed = region_graph(labels, affinities), region_graph(names[labels], affinities)
    rows = {
        tuple(sorted(names[edge].tolist())): row for edge, row in zip(graph.edges, features(graph), strict=True)
    }
    for edge, row in zip(renamed.edges.tolist(), features(renamed), strict=True):
        assert (rows[tuple(edge)] == row).all()


def test_shapes_of_known_regions() -> None:
    labels = np.ones((10, 10, 40), np.uint32)
    labels[:, :, 20:] = 2
    row = dict(
        zip(FEATURES, features(region_graph(labels, np.ones((3, *labels.shape), np.float32)))[0], strict=True)
    )
    assert row["elongation_small"] == pytest.approx(2)
    assert row["flatness_small"] == pytest.approx(1)
    assert row["elongation_union"] == pytest.approx(4)
    assert row["relative_contact"] == pytest.approx(100 / 2000 ** (2 / 3))
    assert row["distance"] == 20
    assert row["shared_slices"] == row["size_ratio"] == row["mean_x"] == row["q10_all"] == 1
    assert row["mean_z"] == row["q50_y"] == -1
    assert row["contact_x"] == 100


def test_every_feature_has_a_name_and_a_meaning() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == N_FEATURES
    assert all(MEANINGS.values())


def test_a_mere_block_has_no_features() -> None:
    labels = np.array([[[1, 2]]], np.uint32)
    graph = region_graph(labels, np.ones((3, 1, 1, 2), np.float32), margin=(0, 0, 1))
    assert graph.sizes.tolist() == [0, 1]
    with pytest.raises(DataError, match="no voxels"):
        features(graph)
    empty = region_graph(np.zeros((1, 1, 2), np.uint32), np.ones((3, 1, 1, 2), np.float32))
    assert features(empty).shape == (0, N_FEATURES)
    assert features(replace(empty, voxel_size=SIZE)).shape == (0, N_FEATURES)
