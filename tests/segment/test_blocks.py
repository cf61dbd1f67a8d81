"""Blocks: as if the volume had never been cut, with any number of threads, and also after a kill."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from napari_em_seg.errors import Cancelled, DataError, EmSegError, FormatError
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.sample import generate
from napari_em_seg.segment import agglomerate, region_graph, zwatershed
from napari_em_seg.segment._stitch import grid, same_labels, stitched
from napari_em_seg.segment.blocks import graph_in_blocks, segment_in_blocks
from napari_em_seg.segment.merge_tree import MergeTree

Labels = NDArray[np.uint32]
Shape = tuple[int, int, int]


def objects(seed: int, shape: Shape) -> Labels:
    """Return connected objects of all forms, and background."""
    coarse = np.random.default_rng(seed).integers(0, 4, [-(-n // 2) for n in shape])
    fine = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(map(slice, shape))]
    return label(fine, connectivity=1, background=0).astype(np.uint32)


def told(labels: Labels, seed: int = 0) -> NDArray[np.float32]:
    """Return affinities at random, of which those along x tell the label: `true_objects` reads it off again."""
    affinities = np.random.default_rng(seed).random((3, *labels.shape), np.float32)
    affinities[2] = labels / np.float32(4096)
    return affinities


def true_objects(affinities: NDArray[Any]) -> Labels:
    return np.rint(affinities[2] * 4096).astype(np.uint32)


def watershed(affinities: NDArray[Any]) -> Labels:
    return zwatershed(affinities, low=0.1, high=0.99, size_threshold=40, weight_threshold=0.4, dust=5)


def noisy(truth: NDArray[Any], seed: int = 0) -> NDArray[np.float32]:
    """Return affinities such as a net of moderate quality would give."""
    rng = np.random.default_rng(seed)
    affinities = np.empty((3, *truth.shape), np.float32)
    for axis, out in enumerate(affinities):
        is_same = (truth == np.roll(truth, 1, axis)) & (truth > 0)
        out[:] = np.clip(np.where(is_same, 0.85, 0.2) + 0.15 * rng.standard_normal(truth.shape), 0, 1)
    return affinities


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the variation of information, in bits."""
    return evaluate(contingency(one, other, ignore_truth=(), background="label")).vi


def assert_equal(one: tuple[Any, MergeTree], other: tuple[Any, MergeTree]) -> None:
    """Assert that labels and trees are the same, to the last byte."""
    assert np.asarray(one[0]).tobytes() == np.asarray(other[0]).tobytes()
    for name in ("labels", "a", "b", "score"):
        assert getattr(one[1], name).tobytes() == getattr(other[1], name).tobytes(), name


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.float32]:
    return noisy(generate((6, 96, 96), seed=3).labels)


# what the blocks share


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 13)),
    st.tuples(st.integers(1, 5), st.integers(3, 6), st.integers(4, 7)),
    st.integers(1, 3),
    st.sampled_from([1, 2]),
)
def test_blocks_that_agree_give_the_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shape: Shape, block: Shape, overlap: int, threads: int
) -> None:
    truth = objects(seed, shape)
    affinities, overlaps = told(truth, seed), tuple(min(overlap, n) for n in block)
    labels, graph = graph_in_blocks(
        affinities, tmp_path_factory.mktemp("run"), true_objects, block=block, overlap=overlaps,  # type: ignore[arg-type]
        threads=threads, voxel_size=(30, 6, 6),
    )  # fmt: skip
    pairs = np.unique(np.stack((truth.ravel(), labels[:].ravel()), 1), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
    assert ((truth == 0) == (labels[:] == 0)).all()
    assert graph.labels.tolist() == list(range(1, len(graph.labels) + 1))
    assert graph.voxel_size == (30, 6, 6)
    expected = region_graph(labels, affinities, voxel_size=(30, 6, 6))
    for part in ("labels", "edges", "histogram", "sums", "extremes", "node_sums", "boxes"):
        first, second = getattr(graph, part), getattr(expected, part)
        assert (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes()), (
            part
        )


def test_one_block_is_the_whole(tissue: NDArray[Any], tmp_path: Path) -> None:
    labels = watershed(tissue)
    expected = labels, agglomerate(region_graph(labels, tissue), "quantile", quantile=0.3)
    run = segment_in_blocks(tissue, tmp_path / "run", watershed, block=(6, 100, 96), overlap=(2, 8, 8),
                            score="quantile", quantile=0.3)  # fmt: skip
    assert_equal(run, expected)


@pytest.mark.parametrize(
    ("block", "overlap", "least", "least_inside"),
    [
        ((6, 48, 48), (0, 8, 8), 0.02, 0.005),
        ((4, 40, 50), (2, 12, 12), 0.04, 0.01),  # does not divide the shape
        ((1, 64, 64), (1, 8, 8), 0.25, None),  # single slices, of which each has two others beside it
        ((3, 96, 96), (0, 0, 0), 0.4, 0.4),  # nothing stitched: all left to agglomeration
    ],
)
def test_a_watershed_in_blocks_is_nearly_that_of_the_whole(
    tissue: NDArray[Any], tmp_path: Path, block: Shape, overlap: Shape, least: float, least_inside: float | None
) -> None:
    whole = watershed(tissue)
    expected = agglomerate(region_graph(whole, tissue)).apply(whole, 0.5)
    labels, tree = segment_in_blocks(tissue, tmp_path, watershed, block=block, overlap=overlap)
    assert_equal((labels, tree), (labels, agglomerate(region_graph(labels, tissue))))
    found, inside = tree.apply(np.asarray(labels), 0.5), ~near_borders(whole.shape, block, overlap)
    assert difference(found, expected) < least
    assert inside.any() == (least_inside is not None)
    if least_inside is not None:
        assert difference(found[inside], expected[inside]) < least_inside


def near_borders(shape: tuple[int, ...], block: Shape, overlap: Shape) -> NDArray[np.bool_]:
    """Say which voxels lie in what two blocks share."""
    near = np.zeros(shape, np.bool_)
    for axis, (step, margin) in enumerate(zip(block, overlap, strict=True)):
        for border in range(step, shape[axis], step):
            np.moveaxis(near, axis, 0)[max(border - margin, 0) : border + margin] = True
    return near


def test_without_overlap_nothing_is_stitched(tmp_path: Path) -> None:
    affinities = np.ones((3, 1, 2, 4), np.float32)
    labels, tree = segment_in_blocks(affinities, tmp_path, lambda part: np.full(part.shape[1:], 7),
                                     block=(1, 2, 2), overlap=(0, 0, 0))  # fmt: skip
    assert labels[:].tolist() == [[[1, 1, 2, 2]] * 2]
    assert tree.apply(np.asarray(labels), 0.5).tolist() == [[[1] * 4] * 2]


def test_the_same_labels_are_each_others_largest_overlap() -> None:
    one = np.array([[[1, 1, 1, 2, 2, 2, 2, 3, 0, 4, 4]]], np.uint32)
    other = np.array([[[5, 5, 6, 6, 6, 7, 7, 0, 0, 8, 9]]], np.uint32)
    assert same_labels(one, other, 0.5).tolist() == [[1, 5], [2, 6], [4, 8]]  # ties: the lower label
    assert same_labels(one, other, 0.6).tolist() == [[1, 5]]
    assert same_labels(one, other, 1).tolist() == []
    assert same_labels(np.zeros_like(one), other, 0).tolist() == []


def test_names_are_those_of_what_lies_in_a_core() -> None:
    sizes = {(0, 0, 0): np.array([3, 4, 0, 1]), (0, 0, 1): np.array([0, 2, 5])}
    links = [((0, 0, 0), (0, 0, 1), np.array([[2, 1], [1, 2]]))]
    names, starts = stitched(sizes, links)
    assert (names.tolist(), starts.tolist()) == ([0, 1, 3, 2, 0, 3, 1], [0, 4, 7])


def test_cores_are_the_volume() -> None:
    times = np.zeros((5, 7, 9), int)
    for block in grid(times.shape, (2, 3, 4), (1, 3, 0)).values():
        times[block.core] += 1
        assert times[block.region][block.inside].shape == times[block.core].shape
    assert (times == 1).all()


# files


class Lazy:
    """Affinities that are read in parts only; on the n-th reading something happens."""

    def __init__(self, array: NDArray[Any], n: int = -1, act: Callable[[], object] = bool) -> None:
        self._array, self._left, self._act, self.shape, self.dtype = array, n, act, array.shape, array.dtype
        self.n_read = 0

    def __getitem__(self, key: Any) -> Any:
        self.n_read += 1
        if self.n_read == self._left:
            self._act()
        part = self._array[key]
        assert part.size < 0.8 * self._array.size
        return part


PLACES = {"block": (4, 50, 50), "overlap": (2, 8, 8)}  # eight blocks
N_SAMPLES = 8

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_blocks import *
die = lambda: signal.raise_signal(signal.SIGKILL)
segment_in_blocks(Lazy(np.load(sys.argv[2]), int(sys.argv[3]), die), Path(sys.argv[4]), watershed, **PLACES)
"""


@pytest.fixture(scope="module")
def fresh(tissue: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, MergeTree, Path]:
    """What a run that nobody disturbs gives, and its folder."""
    folder = tmp_path_factory.mktemp("fresh")
    return *segment_in_blocks(tissue, folder, watershed, **PLACES), folder  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize(("n_made", "n_graphs"), [(3, 0), (8, 5)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], tmp_path: Path, n_made: int, n_graphs: int
) -> None:
    run, file = tmp_path / "run", tmp_path / "affinities.npy"
    np.save(file, tissue)
    dies = N_SAMPLES + n_made + n_graphs + 1
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(file), str(dies), str(run)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert len(list(run.glob("supervoxels-*.npz"))) == n_made
    assert len(list(run.glob("graph-*.npz"))) == n_graphs
    lazy = Lazy(tissue)
    result = segment_in_blocks(lazy, run, watershed, **PLACES)  # type: ignore[arg-type]
    assert lazy.n_read == N_SAMPLES + (8 - n_made) + (8 - n_graphs)
    assert_equal(result, fresh[:2])
    for path in fresh[2].iterdir():
        assert (run / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_whole_folder_is_only_read_and_takes_other_scores(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path]
) -> None:
    lazy, calls = Lazy(tissue), []
    labels, tree = segment_in_blocks(
        lazy, fresh[2], watershed, **PLACES, score="quantile", progress=lambda *n: calls.append(n)  # type: ignore[arg-type]
    )  # fmt: skip
    assert lazy.n_read == N_SAMPLES
    assert_equal((labels, tree), (fresh[0], agglomerate(region_graph(labels, tissue), "quantile")))
    assert calls == sorted(calls)
    assert calls[-1] == (32, 32)


@pytest.mark.parametrize("name", ["supervoxels-0-1-1", "graph-1-0-0", "names"])
@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "other"])
def test_what_is_damaged_is_made_anew(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], tmp_path: Path,
    caplog: pytest.LogCaptureFixture, name: str, damage: str,
) -> None:  # fmt: skip
    for path in fresh[2].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    victim = tmp_path / f"{name}.npz"
    whole = victim.read_bytes()
    middle = len(whole) // 2
    victim.write_bytes({
        "cut": whole[:middle], "empty": b"", "other": (tmp_path / "graph-0-0-0.npz").read_bytes(),
        "bit": whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :],
    }[damage])  # fmt: skip
    assert_equal(segment_in_blocks(tissue, tmp_path, watershed, **PLACES), fresh[:2])  # type: ignore[arg-type]
    assert f"{name}.npz" in caplog.text
    assert victim.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overlap": (1, 8, 8)}, r"overlap \[2, 8, 8\]"),
        ({"block": (3, 50, 50)}, r"block \[4, 50, 50\]"),
        ({"about": "with other thresholds"}, "with other thresholds"),
        ({"share": 0.9}, "share 0.5"),
    ],
)
def test_the_folder_of_another_run_is_refused(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(FormatError, match=words):
        segment_in_blocks(tissue, fresh[2], watershed, **{**PLACES, **change})  # type: ignore[arg-type]


def test_the_folder_of_other_affinities_is_refused(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], tmp_path: Path
) -> None:
    for other, words in ((tissue**2, "other affinities"), (tissue.astype(np.float64), "dtype 'float32'")):
        with pytest.raises(FormatError, match=words):
            segment_in_blocks(other, fresh[2], watershed, **PLACES)  # type: ignore[arg-type]
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match="holds something"):
        segment_in_blocks(tissue, tmp_path, watershed, **PLACES)  # type: ignore[arg-type]
    with pytest.raises(EmSegError, match="cannot be used"):
        segment_in_blocks(tissue, tmp_path / "notes.txt", watershed, **PLACES)  # type: ignore[arg-type]


def test_supervoxels_that_change_are_told(tissue: NDArray[Any], tmp_path: Path) -> None:
    segment_in_blocks(tissue, tmp_path, watershed, **PLACES)  # type: ignore[arg-type]
    (tmp_path / "supervoxels-0-0-0.npz").unlink()
    with pytest.raises(FormatError, match="now has 1 supervoxels"):
        segment_in_blocks(tissue, tmp_path, lambda part: np.ones(part.shape[1:], int), **PLACES)  # type: ignore[arg-type]


# how it is run


def test_threads_change_nothing_and_labels_go_where_they_should(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], tmp_path: Path
) -> None:
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.int64, fresh[0].shape)
    labels, tree = segment_in_blocks(tissue, tmp_path / "run", watershed, **PLACES, threads=2, out=out)  # type: ignore[arg-type]
    assert labels is out
    assert_equal((out.astype(np.uint32), tree), fresh[:2])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_run_goes_on(
    tissue: NDArray[Any], fresh: tuple[Any, MergeTree, Path], tmp_path: Path, threads: int
) -> None:
    made = []
    with pytest.raises(Cancelled):
        segment_in_blocks(tissue, tmp_path, lambda part: made.append(1) or watershed(part), **PLACES,  # type: ignore[arg-type]
                          threads=threads, cancelled=lambda: len(made) >= 3)  # fmt: skip
    assert 3 <= len(made) == len(list(tmp_path.glob("supervoxels-*.npz"))) <= 2 + threads
    assert_equal(segment_in_blocks(tissue, tmp_path, watershed, **PLACES), fresh[:2])  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [30, 2**32 + 5, 2**63 + 1])
def test_any_numbers_are_labels(tmp_path: Path, largest: int) -> None:
    names = np.array([0, 3, largest], np.uint64)
    numbers, affinities = np.array([[[1, 1, 2, 0, 2, 1]]]), np.ones((3, 1, 1, 6), np.float32)
    labels, _ = graph_in_blocks(
        affinities, tmp_path, lambda part: names[numbers], block=(1, 1, 6), overlap=(0, 0, 0)
    )
    assert (labels[:] == numbers).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overlap": (0, 5, 4)}, "overlap"),
        ({"overlap": (-1, 0, 0)}, "overlap"),
        ({"block": (1, 0, 4)}, "blocks"),
        ({"block": (1, 4.5, 4)}, "blocks"),
        ({"block": (4, 4)}, "blocks"),
        ({"share": 1.5}, "share"),
        ({"threads": 0}, "threads"),
        ({"voxel_size": (0, 1, 1)}, "voxel size"),
        ({"out": np.zeros((2, 8, 8), np.uint16)}, "uint16"),
        ({"out": np.zeros((2, 8, 7), np.uint32)}, "array to write to"),
        ({"affinities": np.ones((2, 2, 8, 8), np.float32)}, "affinities have the shape"),
        ({"affinities": np.ones((3, 2, 8, 8), np.int16)}, "int16"),
        ({"affinities": np.full((3, 2, 8, 8), 2, np.float32)}, r"Block \[0:2, 0:6, 0:6\]: .* from 2 to 2"),
        ({"supervoxels": lambda part: np.zeros(part.shape[1:])}, r"Block .*float64"),
        ({"supervoxels": lambda part: np.zeros((1, 1, 1), int)}, r"Block .*\(1, 1, 1\)"),
        ({"supervoxels": lambda part: np.full(part.shape[1:], -1)}, "labels from 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {
        "affinities": np.ones((3, 2, 8, 8), np.float32), "folder": tmp_path, "supervoxels": watershed,
        "block": (2, 4, 4), "overlap": (1, 2, 2), **change,
    }  # fmt: skip
    with pytest.raises(DataError, match=words):
        segment_in_blocks(**arguments)
