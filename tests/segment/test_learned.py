"""Learned agglomeration: forests as scikit-learn has them, better than the mean, and safe to read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from napari_em_seg.errors import Cancelled, DataError, FormatError, SourceNotFoundError, TargetExistsError
from napari_em_seg.forest import Forest, forest_of
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.sample import generate
from napari_em_seg.segment._forest import load_forest, save_forest
from napari_em_seg.segment.agglomerate import Score, agglomerate
from napari_em_seg.segment.features import FEATURES, features
from napari_em_seg.segment.hmin import hmin_watershed
from napari_em_seg.segment.learned import Example, _fitted, train_forest, truth_of_leaves
from napari_em_seg.segment.region_graph import RegionGraph, region_graph

Arrays = tuple[NDArray[np.uint32], NDArray[np.uint32], RegionGraph]


def tissue(seed: int) -> Arrays:
    """Return truth, an over-segmentation and its graph; affinities as a net of moderate quality gives them."""
    truth = generate((6, 128, 128), seed).labels
    rng = np.random.default_rng(seed)
    boundary = np.empty(truth.shape, np.float32)
    for plane, out in zip(truth, boundary, strict=True):
        distance = np.minimum(ndimage.distance_transform_edt(plane > 0), 6)
        noise = sum(3 * s * ndimage.gaussian_filter(rng.standard_normal(plane.shape), s) for s in (2, 5))
        out[:] = 1 / (1 + np.exp(-1.2 * (2 - distance) - noise))
    affinities = np.stack([1 - np.maximum(boundary, np.roll(boundary, 1, axis)) for axis in range(3)])
    affinities[0] *= np.where(truth == np.roll(truth, 1, 0), 1, 0.6)
    labels = hmin_watershed(boundary, 0.0, mode="2d")
    return truth, labels, region_graph(labels, affinities, voxel_size=(30, 6, 6))


def example(arrays: Arrays) -> Example:
    truth, labels, graph = arrays
    return graph, truth_of_leaves(graph, labels, truth)


def least_vi(arrays: Arrays, score: Score) -> float:
    truth, labels, graph = arrays
    tree = agglomerate(graph, score)
    return min(evaluate(contingency(tree.apply(labels, t), truth)).vi for t in np.arange(0.05, 1, 0.05))


@pytest.fixture(scope="module")
def forest() -> Forest:
    return train_forest(
        [example(tissue(1)), example(tissue(2))], seed=3, rounds=2, n_trees=20, card={"data": "sample"}
    )


def planted(seed: int) -> Arrays:
    """Return columns cut across z, where affinities are low; between columns they are high."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(1, 17, dtype=np.uint32).reshape(1, 4, 4), 8, axis=0).repeat(4, 1).repeat(4, 2)
    pieces = np.arange(8)[:, None, None] // 2
    labels = (truth + 16 * pieces).astype(np.uint32)
    affinities = rng.uniform(0.6, 0.9, (3, *truth.shape)).astype(np.float32)
    affinities[0] = rng.uniform(0.1, 0.4, truth.shape)
    return truth, labels, region_graph(labels, affinities)


def test_on_tissue_it_has_not_seen_it_is_better_than_the_mean(forest: Forest) -> None:
    for seed in (11, 12):
        arrays = tissue(seed)
        assert least_vi(arrays, forest) < 0.9 * least_vi(arrays, "mean")


def test_a_rule_against_the_mean_is_learned() -> None:
    found = train_forest([example(planted(0))], rounds=2, n_trees=10)
    assert least_vi(planted(1), "mean") > 1
    assert least_vi(planted(1), found) < 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.random((800, len(FEATURES)), np.float32)
    rows[:, ::3] = np.round(rows[:, ::3], 1)  # many values just at a threshold
    is_same = rows[:, 3] + rows[:, 7] + 0.3 * rng.standard_normal(800) > 1
    classifier = RandomForestClassifier(15, max_depth=8, random_state=seed)
    classifier.fit(rows, is_same, sample_weight=rng.random(800))
    other = np.concatenate((rows, rng.random((500, len(FEATURES)), np.float32)))
    expected = classifier.predict_proba(other)[:, 1]
    assert np.allclose(forest_of(FEATURES, classifier).probability(other), expected, rtol=0, atol=1e-12)


def test_the_same_seed_gives_the_same_forest(forest: Forest) -> None:
    one = [train_forest([example(tissue(4))], seed=s, rounds=2, n_trees=5) for s in (7, 7, 8)]
    rows = features(tissue(5)[2])
    assert (one[0].probability(rows) == one[1].probability(rows)).all()
    assert (one[0].probability(rows) != one[2].probability(rows)).any()


@pytest.mark.parametrize(("n", "least"), [(900, 3), (6000, 15), (20000, 20)])
def test_the_more_samples_there_are_the_more_a_leaf_holds(n: int, least: int) -> None:
    rng = np.random.default_rng(0)
    rows, is_same = rng.random((n, len(FEATURES)), np.float32), rng.random(n) < 0.5  # as many leaves as can be
    found = _fitted(rows, is_same, np.ones(n), seed=0, n_trees=5, depth=16)
    n_leaves = int((found.feature < 0).sum()) / 5
    drawn = n * (1 - np.exp(-1))  # different ones in each tree's draw
    assert 0.3 * drawn / least < n_leaves < drawn / least


def test_samples_are_drawn_and_weighed() -> None:
    examples = [example(tissue(4))]
    rows = features(tissue(5)[2])
    plain = train_forest(examples, rounds=1, n_trees=5)
    for options in ({"max_samples": 500}, {"weights": "size"}):
        found = train_forest(examples, rounds=1, n_trees=5, **options)  # type: ignore[arg-type]
        assert (found.probability(rows) != plain.probability(rows)).any()
        assert found.card["n_samples"] == plain.card["n_samples"]


def test_truth_of_leaves_is_where_most_of_it_lies() -> None:
    labels = np.array([[[2, 2, 2, 5, 5, 5, 9, 9]]], np.uint32)
    truth = np.array([[[4, 4, 3, 0, 0, 3, 3, 4]]], np.uint32)
    graph = region_graph(labels, np.ones((3, *labels.shape), np.float32))
    assert truth_of_leaves(graph, labels, truth).tolist() == [4, 0, 3]
    with pytest.raises(DataError, match="nodes"):
        truth_of_leaves(graph, np.minimum(labels, 5), truth)


def test_round_trip(forest: Forest, tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    save_forest(forest, path)
    again = load_forest(path)
    rows = features(tissue(5)[2])
    assert (again.probability(rows) == forest.probability(rows)).all()
    assert again.card["features"] == list(FEATURES)
    assert again.card["data"] == "sample"
    assert again.card["seed"] == 3
    assert again.card["voxel_size"] == [30, 6, 6]
    with pytest.raises(TargetExistsError):
        save_forest(forest, path)
    save_forest(again, path, overwrite=True)


@pytest.mark.parametrize("position", np.linspace(0.01, 0.99, 9))
def test_a_damaged_file_is_refused(forest: Forest, tmp_path: Path, position: float) -> None:
    path = tmp_path / "f.npz"
    save_forest(forest, path)
    whole = path.read_bytes()
    k = int(len(whole) * position)
    path.write_bytes(whole[:k])
    with pytest.raises(FormatError, match="damaged"):
        load_forest(path)
    path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
    rows = features(tissue(5)[2])[:50]
    try:
        again = load_forest(path)
    except FormatError:
        return
    assert (again.probability(rows) == forest.probability(rows)).all()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("children", lambda a: a * 0, "lead back"),
        ("children", lambda a: a + 10**6, "nowhere"),
        ("children", lambda a: a[:, :1], "lengths"),
        ("feature", lambda a: a + 60, "features"),
        ("feature", lambda a: a - 5, "features"),
        ("feature", lambda a: a[:-1], "lengths"),
        ("roots", lambda a: a - 1, "begin nowhere"),
        ("roots", lambda a: a[:0], "no trees"),
        ("threshold", lambda a: a * np.nan, "thresholds"),
        ("value", lambda a: a + 1, "probabilities"),
    ],
)
def test_a_forest_that_leads_astray_is_refused(
    forest: Forest, tmp_path: Path, name: str, change: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        replace(forest, **{name: change(getattr(forest, name))})
    arrays: dict[str, Any] = {
        k: getattr(forest, k) for k in ("roots", "feature", "threshold", "children", "value")
    }
    arrays[name] = change(arrays[name])
    card = {"kind": "agglomeration forest", "version": 1, "features": list(FEATURES)}
    np.savez(tmp_path / "f.npz", card=np.frombuffer(json.dumps(card).encode(), np.uint8), **arrays)
    with pytest.raises(FormatError, match=words):
        load_forest(tmp_path / "f.npz")


def test_other_files_are_refused(forest: Forest, tmp_path: Path) -> None:
    graph = tissue(5)[2]
    agglomerate(graph).save(tmp_path / "tree.npz")
    with pytest.raises(FormatError, match="merge tree"):
        load_forest(tmp_path / "tree.npz")
    with pytest.raises(SourceNotFoundError):
        load_forest(tmp_path / "nothing.npz")
    arrays: Any = {k: getattr(forest, k) for k in ("roots", "feature", "threshold", "children", "value")}
    card = {"kind": "agglomeration forest", "version": 1, "features": ["size"]}
    np.savez(tmp_path / "f.npz", card=np.frombuffer(json.dumps(card).encode(), np.uint8), **arrays)
    with pytest.raises(FormatError, match="other features"):
        load_forest(tmp_path / "f.npz")


def test_a_forest_for_something_else_is_refused(forest: Forest) -> None:
    other = replace(forest, names=tuple(f"feature {k}" for k in range(len(FEATURES))))
    with pytest.raises(DataError, match="feature 0, feature 1"):
        agglomerate(tissue(5)[2], other)


def test_progress_and_cancelling() -> None:
    calls: list[tuple[int, int]] = []
    train_forest([example(tissue(4))], rounds=2, n_trees=2, progress=lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]
    labels = np.arange(1, 8001, dtype=np.uint32).reshape(20, 20, 20)
    graph = region_graph(labels, np.ones((3, *labels.shape), np.float32))
    with pytest.raises(Cancelled):
        train_forest([(graph, np.ones(8000, np.uint64))], cancelled=lambda: True)


def test_what_is_wrong_is_said(forest: Forest) -> None:
    graph, truth = example(planted(0))
    for examples, options, words in (
        ([], {}, "examples"),
        ([(graph, truth), (replace(graph, voxel_size=(2.0, 1.0, 1.0)), truth)], {}, "voxel sizes"),
        ([(graph, truth[1:])], {}, "truth"),
        ([(graph, truth.astype(np.float64))], {}, "truth"),
        ([(graph, truth * 0)], {}, "All 0"),
        ([(graph, truth * 0 + 1)], {}, "within"),
        ([(graph, truth * 0 + np.arange(1, 1 + len(truth), dtype=np.uint64))], {}, "between"),
        ([(graph, truth)], {"weights": "heavy"}, "heavy"),
        ([(graph, truth)], {"rounds": 0}, "from 1 on"),
    ):
        with pytest.raises(DataError, match=words):
            train_forest(examples, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="rows of"):
        forest.probability(np.zeros((3, 2), np.float32))


def test_higher_affinities_never_speak_against_one_object(forest: Forest) -> None:
    rng = np.random.default_rng(0)
    rows = features(tissue(5)[2])
    levels = [
        FEATURES.index(f"{name}_all") for name in ("mean", "min", "max", "q10", "q25", "q50", "q75", "q90")
    ]
    higher = rows.copy()
    higher[:, levels] += rng.random((len(rows), len(levels)), np.float32) * 0.3
    assert (forest.probability(higher) >= forest.probability(rows) - 1e-12).all()
    assert (forest.probability(higher) > forest.probability(rows)).any()
