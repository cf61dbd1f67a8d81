"""Merge trees: every threshold is a cut, cuts are nested, and files come back whole or not at all."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_em_seg.errors import DataError, FormatError, SourceNotFoundError, TargetExistsError
from napari_em_seg.segment.merge_tree import MergeTree, look_up


def random_tree(seed: int, n: int = 40, n_merges: int = 30) -> MergeTree:
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(np.arange(1, 200), n, replace=False)).astype(np.uint32)
    alive, a, b = list(range(n)), [], []
    for i in range(n_merges):
        first, second = sorted(alive.pop(rng.integers(len(alive))) for _ in range(2))
        a.append(first)
        b.append(second)
        alive.append(n + i)
    score = np.round(
        np.clip(np.sort(rng.random(n_merges))[::-1] + 0.1 * rng.standard_normal(n_merges), 0, 1), 2
    )
    return MergeTree(labels, np.array(a, np.int32), np.array(b, np.int32), score)


def replayed(tree: MergeTree, threshold: float) -> dict[int, int]:
    """Return the segment of each label by making the merges one by one, until one is not good enough."""
    groups = {i: {int(label)} for i, label in enumerate(tree.labels)}
    for i, (a, b, score) in enumerate(zip(tree.a, tree.b, tree.score, strict=True)):
        if not 1 - score < threshold:
            break
        groups[len(tree.labels) + i] = groups.pop(int(a)) | groups.pop(int(b))
    return {label: min(group) for group in groups.values() for label in group}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1.2))
def test_a_cut_is_a_replay(seed: int, threshold: float) -> None:
    tree = random_tree(seed)
    table, expected = tree.cut(threshold), replayed(tree, threshold)
    for label in range(len(table)):
        assert table[label] == expected.get(label, label)
    assert (tree.segments(threshold) == table[tree.labels]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_cuts_are_nested_and_names_stay(seed: int) -> None:
    tree = random_tree(seed)
    cuts = [tree.cut(t) for t in (0, *np.unique(tree.height), 0.3, 0.5, 1, 2) if t >= 0]
    cuts.sort(key=lambda table: -len(np.unique(table)))
    assert (cuts[0] == np.arange(len(cuts[0]))).all()
    for fine, coarse in pairwise(cuts):
        assert (coarse[fine] == coarse).all()  # what was together stays together
        assert (coarse <= fine).all()
    assert (np.diff(tree.height) >= 0).all()


def test_a_threshold_excludes_what_just_reaches_it() -> None:
    tree = MergeTree(np.array([3, 5, 9], np.uint32), np.array([0, 2], np.int32), np.array([1, 3], np.int32),
                     np.array([0.75, 0.875]))  # fmt: skip
    assert tree.height.tolist() == [0.25, 0.25]
    assert tree.segments(0.25).tolist() == [3, 5, 9]
    assert tree.segments(0.26).tolist() == [3, 3, 3]
    assert tree.cut(0.26).tolist() == [0, 1, 2, 3, 4, 3, 6, 7, 8, 3]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.uint64])
def test_apply_is_the_table_at_every_voxel(dtype: type) -> None:
    tree = random_tree(5)
    labels = (
        np.random.default_rng(0).integers(0, 250, (5, 17, 13)).astype(dtype)
    )  # some that the tree knows not
    table = np.arange(250)
    table[: len(tree.cut(0.4))] = tree.cut(0.4)
    result = tree.apply(labels, 0.4)
    assert result.dtype == np.uint32
    assert (result == table[labels]).all()
    assert (tree.apply(labels[:, ::2, ::-1], 0.4) == table[labels[:, ::2, ::-1]]).all()
    out = np.empty(labels.shape, np.uint32)
    assert tree.apply(labels, 0.4, out=out) is out
    assert (out == result).all()
    assert (tree.apply(out, 0.9, out=out) == tree.apply(labels, 0.9)).all()


def test_labels_of_any_size_stay_where_the_tree_does_not_know_them() -> None:
    labels = np.array([[[0, 1, 4294967295]]], np.uint32)
    assert (random_tree(1).apply(labels, 0) == labels).all()


def test_round_trip(tmp_path: Path) -> None:
    tree = random_tree(6)
    tree.save(tmp_path / "t.npz")
    again = MergeTree.load(tmp_path / "t.npz")
    for name in ("labels", "a", "b", "score", "height"):
        assert (getattr(again, name) == getattr(tree, name)).all()
    with pytest.raises(TargetExistsError):
        tree.save(tmp_path / "t.npz")
    tree.save(tmp_path / "t.npz", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


def test_an_empty_tree(tmp_path: Path) -> None:
    nothing = np.zeros(0, np.int32)
    tree = MergeTree(nothing.astype(np.uint32), nothing, nothing, np.zeros(0))
    assert tree.cut(0.5).tolist() == [0]
    tree.save(tmp_path / "t.npz")
    assert len(MergeTree.load(tmp_path / "t.npz").a) == 0


@pytest.mark.parametrize("position", np.linspace(0, 0.99, 12))
def test_a_damaged_file_is_refused(tmp_path: Path, position: float) -> None:
    path = tmp_path / "t.npz"
    tree = random_tree(7)
    tree.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * position)])
    with pytest.raises(FormatError, match="damaged"):
        MergeTree.load(path)
    k = int(len(whole) * position)
    path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
    try:  # not every byte of an archive counts, but none may change the tree
        again = MergeTree.load(path)
    except FormatError:
        return
    assert (again.cut(0.5) == tree.cut(0.5)).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": np.array([0, 0], np.int32)}, "nodes that are not there"),
        ({"b": np.array([1, 9], np.int32)}, "nodes that are not there"),
        ({"a": np.array([-1, 2], np.int32)}, "nodes that are not there"),
        ({"b": np.array([1], np.int32)}, "entries"),
        ({"score": np.array([0.5, np.nan])}, "scores"),
        ({"score": np.array([0.5, 1.5])}, "scores"),
        ({"labels": np.array([3, 3, 4], np.uint32)}, "increase"),
        ({"labels": np.array([0, 3, 4], np.uint32)}, "increase"),
        ({"labels": np.array([1, 3, 4], np.int64)}, "int64"),
        ({"score": np.array([[0.5, 0.4]])}, "axes"),
        ({"score": np.array(["a", "b"], object)}, "damaged"),
    ],
)
def test_a_file_of_other_contents_is_refused(
    tmp_path: Path, changes: dict[str, NDArray[Any]], words: str
) -> None:
    good: dict[str, NDArray[Any]] = {
        "labels": np.array([1, 2, 3], np.uint32), "a": np.array([0, 2], np.int32),
        "b": np.array([1, 3], np.int32), "score": np.array([0.9, 0.8]),
    }  # fmt: skip
    card = np.frombuffer(b'{"kind": "merge tree", "version": 1}', np.uint8)
    arrays: Any = {"card": card, **good}
    np.savez(tmp_path / "good.npz", **arrays)
    assert len(MergeTree.load(tmp_path / "good.npz").a) == 2
    np.savez(tmp_path / "bad.npz", **{**arrays, **changes})
    with pytest.raises(FormatError, match=words):
        MergeTree.load(tmp_path / "bad.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.ones(3))
    np.savez(tmp_path / "b.npz", card=np.frombuffer(b'{"kind": "recipe"}', np.uint8))
    np.savez(tmp_path / "c.npz", card=np.frombuffer(b'{"kind": "merge tree", "version": 7}', np.uint8))
    np.savez(tmp_path / "d.npz", card=np.frombuffer(b"[1]", np.uint8))
    np.save(tmp_path / "e.npy", np.ones(3))
    for name, words in (("a.npz", "card"), ("b.npz", "recipe"), ("c.npz", "version 7"), ("d.npz", "nameless"),
                        ("e.npy", "damaged")):  # fmt: skip
        with pytest.raises(FormatError, match=words):
            MergeTree.load(tmp_path / name)
    with pytest.raises(SourceNotFoundError):
        MergeTree.load(tmp_path / "nothing.npz")


def test_what_is_wrong_is_said() -> None:
    tree = random_tree(8)
    for threshold in (-0.1, float("nan"), "0.5"):
        with pytest.raises(DataError, match="threshold"):
            tree.cut(threshold)  # type: ignore[arg-type]
    for labels in (np.ones((2, 2, 2), np.float32), -np.ones((2, 2, 2), np.int32)):
        with pytest.raises(DataError, match="labels"):
            tree.apply(labels, 0.5)
    with pytest.raises(DataError, match="write to"):
        tree.apply(np.ones((2, 2, 2), np.uint32), 0.5, out=np.empty((2, 2, 3), np.uint32))
    huge = MergeTree(np.array([1 << 31], np.uint32), tree.a[:0], tree.b[:0], tree.score[:0])
    with pytest.raises(DataError, match="largest label"):
        huge.cut(0.5)


@pytest.mark.parametrize("n", [1000, (1 << 21) + 7])
def test_tables_are_looked_up_in_one_thread_or_in_several(n: int) -> None:
    labels = np.random.default_rng(0).integers(0, 60, (1, 1, n)).astype(np.uint32)
    table = np.random.default_rng(1).permutation(50).astype(np.uint32)
    expected = np.where(labels < 50, table[np.minimum(labels, 49)], labels)  # labels beyond the table stay
    assert (look_up(labels, table) == expected).all()
