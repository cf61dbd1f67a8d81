"""The contingency table: any integers, read in part, and what is refused."""

import tracemalloc

import h5py
import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.metrics import _read, contingency
from napari_em_seg.volume import Volume

INTEGERS = [np.dtype(f"{kind}{width}") for kind in "iu" for width in (1, 2, 4, 8)]


class LazyLabels:
    """Labels made as they are read, by a rule from z, y and x; refuses to give more than ``limit`` bytes."""

    def __init__(self, shape, dtype, rule, limit) -> None:
        self.shape, self.dtype, self._rule, self._limit = shape, np.dtype(dtype), rule, limit
        self.reads: list[slice] = []

    def __getitem__(self, key):
        assert isinstance(key, slice)
        assert (key.stop - key.start) * np.prod(self.shape[1:]) * self.dtype.itemsize <= self._limit
        self.reads.append(key)
        z, y, x = np.ogrid[key, : self.shape[1], : self.shape[2]]
        return np.asarray(self._rule(z, y, x)).astype(self.dtype)


@pytest.fixture
def labels():
    random = np.random.default_rng(0)
    return tuple(random.integers(0, 12, (7, 20, 24)).repeat(2, axis=2) for _ in range(2))


def rows(table):
    return list(zip(table.segmentation.tolist(), table.truth.tolist(), table.counts.tolist(), strict=True))


def expected_rows(segmentation, truth):
    pairs = np.stack([np.ravel(segmentation), np.ravel(truth)], axis=1)
    unique, counts = np.unique(pairs[pairs[:, 1] != 0], axis=0, return_counts=True)
    return [(int(a), int(b), int(n)) for (a, b), n in zip(unique, counts, strict=True)]


def test_counts_by_hand():
    table = contingency(np.array([[3, 3], [0, 9]]), np.array([[2, 2], [2, 0]]))

    assert rows(table) == [(0, 2, 1), (3, 2, 2)]
    assert table.background == "singletons"
    assert table.n_voxels == 3
    assert table.segments.ids.tolist() == [0, 3]
    assert table.segments.sizes.tolist() == [1, 2]
    assert table.objects.ids.tolist() == [2]
    assert table.objects.sizes.tolist() == [3]


def test_marginals_count_every_voxel(labels):
    segmentation, truth = labels
    table = contingency(segmentation, truth, ignore_truth=())

    assert table.segments.sizes.tolist() == np.bincount(segmentation.ravel()).tolist()
    assert table.objects.sizes.tolist() == np.bincount(truth.ravel()).tolist()
    assert np.array_equal(table.segments.ids[table.segments.index], table.segmentation)
    assert np.array_equal(table.objects.ids[table.objects.index], table.truth)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_any_integer_type(labels, dtype):
    segmentation, truth = labels

    assert rows(contingency(segmentation.astype(dtype), truth)) == expected_rows(*labels)
    assert rows(contingency(segmentation, truth.astype(dtype.newbyteorder(">")))) == expected_rows(*labels)


def test_booleans_are_labels_0_and_1(labels):
    segmentation, truth = (array > 5 for array in labels)
    assert rows(contingency(segmentation, truth)) == expected_rows(segmentation * 1, truth * 1)


def test_ids_up_to_64_bits():
    top, half = 2**64 - 1, 2**63
    segmentation = np.array([top, top, half, half, 1], np.uint64)
    truth = np.array([half, top, half + 1, half + 1, top - 1], np.uint64)
    table = contingency(segmentation, truth, ignore_truth=[top - 1])

    assert rows(table) == [(half, half + 1, 2), (top, half, 1), (top, top, 1)]
    assert rows(contingency(segmentation, truth, ignore_segmentation=[half, 1])) == rows(table)[1:]


def test_signed_ids_up_to_the_highest():
    top = np.array([127, 0, 126], np.int8)
    assert rows(contingency(top, top)) == [(126, 126, 1), (127, 127, 1)]


@pytest.mark.parametrize("shape", [(1,), (40,), (6, 7), (2, 3, 4, 5), (1, 1, 1)])
def test_any_number_of_axes(shape):
    random = np.random.default_rng(2)
    segmentation, truth = random.integers(1, 4, (2, *shape))
    assert rows(contingency(segmentation, truth)) == expected_rows(segmentation, truth)


def test_memory_that_is_not_in_one_piece(labels):
    segmentation, truth = labels
    segmentation.flags.writeable = False
    crop = (slice(None, None, 2), slice(3, 17), slice(None, None, -3))
    cropped = segmentation[crop], truth[crop]

    assert rows(contingency(*cropped)) == expected_rows(*cropped)
    assert rows(contingency(segmentation.T, np.asfortranarray(truth).T)) == expected_rows(*labels)
    assert truth.flags.writeable


def test_more_pairs_than_the_first_table_holds():
    random = np.random.default_rng(3)
    segmentation, truth = random.integers(1, 2**62, (2, 60, 1000))
    segmentation[30:] = segmentation[:30]
    truth[30:] = truth[:30]
    table = contingency(segmentation, truth)

    assert len(table.counts) == 30_000
    assert set(table.counts.tolist()) == {2}
    assert rows(table) == expected_rows(segmentation, truth)


def test_slab_by_slab_is_as_in_one_go(labels, monkeypatch):
    segmentation, truth = labels
    mask = np.random.default_rng(4).random(truth.shape) < 0.7
    whole = rows(contingency(segmentation, truth, mask=mask))
    monkeypatch.setattr(_read, "SLAB_BYTES", 1)

    assert rows(contingency(segmentation, truth, mask=mask)) == whole
    assert sum(count for *_, count in whole) == (mask & (truth > 0)).sum()


def test_lazy_arrays_are_read_once_and_never_whole():
    shape, half = (64, 512, 512), _read.SLAB_BYTES
    segmentation = LazyLabels(shape, np.uint64, lambda z, y, x: 1 + y // 64 + 0 * z + 0 * x, half)
    truth = LazyLabels(shape, np.uint32, lambda z, y, x: 1 + z // 32 + 0 * y + 0 * x, half)
    mask = LazyLabels(shape, np.bool_, lambda z, y, x: (x < 256) & (y > -1) & (z > -1), half)
    table = contingency(segmentation, truth, mask=mask)

    assert rows(table) == [(s, t, 64 * 32 * 256) for s in range(1, 9) for t in (1, 2)]
    for array in (segmentation, truth, mask):
        assert len(array.reads) > 3
        assert [z for part in array.reads for z in range(part.start, part.stop)] == list(range(64))


def test_numpy_arrays_are_not_copied():
    segmentation, truth = np.ones((2, 16, 1024, 1024), np.uint64)
    contingency(segmentation[:1], truth[:1])  # compile
    tracemalloc.start()
    contingency(segmentation, truth)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < segmentation.nbytes / 100


def test_volumes_and_hdf5(labels, tmp_path, monkeypatch):
    segmentation, truth = labels
    monkeypatch.setattr(_read, "SLAB_BYTES", 20_000)
    with h5py.File(tmp_path / "truth.h5", "w") as file:
        file["labels"] = truth.astype(np.uint16)
        table = contingency(Volume(segmentation, kind="labels"), Volume(file["labels"], kind="labels"))
        assert rows(table) == rows(contingency(segmentation, file["labels"])) == expected_rows(*labels)


def test_what_a_reader_raises_comes_through(monkeypatch):
    def fail(z, y, x):
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        contingency(LazyLabels((4, 4, 4), np.uint8, fail, 100), np.ones((4, 4, 4), np.uint8))


def test_a_reader_that_gives_another_shape_is_caught():
    short = LazyLabels((4, 4, 4), np.uint8, lambda z, y, x: np.ones((4, 4, 3)), 100)
    with pytest.raises(DataError, match=r"shape \(4, 4, 3\).*Expected the shape \(4, 4, 4\)"):
        contingency(short, np.ones((4, 4, 4), np.uint8))


ONES = np.ones((2, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ONES, np.ones((3, 2), int)), {}, r"shape 2×3 and the truth 3×2\. Expected the same shape"),
        ((np.uint8(1), np.uint8(1)), {}, "at least one axis"),
        ((ONES * 1.0, ONES), {}, "The segmentation holds float64 numbers. Expected integers"),
        ((ONES, ONES.astype(np.float32)), {}, "The truth holds float32 numbers. Expected integers"),
        ((ONES * np.int16(-5), ONES), {}, "The segmentation has negative labels, -5 for one"),
        ((ONES, np.full((2, 3), -(2**63))), {}, "The truth has negative labels, -9223372036854775808"),
        ((ONES, ONES), {"mask": ONES}, "The mask holds uint8 numbers in the shape 2×3. Expected booleans"),
        ((ONES, ONES), {"mask": ONES[:1] > 0}, "in the shape 1×3. Expected booleans in the shape 2×3"),
        ((ONES, ONES), {"mask": ONES < 1}, "No voxel is left to compare, of 2×3"),
        ((ONES, ONES * 0), {}, "No voxel is left"),
        ((ONES, ONES), {"ignore_segmentation": (1,)}, "No voxel is left"),
        ((ONES[:0], ONES[:0]), {}, "No voxel is left to compare, of 0×3"),
        ((ONES, ONES), {"ignore_truth": 0}, "The labels to ignore are 0"),
        ((ONES, ONES), {"ignore_truth": [-1]}, r"The labels to ignore are \[-1\]"),
        ((ONES, ONES), {"ignore_segmentation": [1.5]}, r"The labels to ignore are \[1.5\]"),
        ((ONES, ONES), {"background": "none"}, "The background is 'none'"),
    ],
)
def test_what_is_refused(arguments, options, message):
    with pytest.raises(DataError, match=message):
        contingency(*arguments, **options)


def test_negative_labels_outside_the_mask_do_not_matter():
    labels = np.array([1, 2, -1])
    assert rows(contingency(labels, labels, mask=labels > 0)) == [(1, 1, 1), (2, 2, 1)]
