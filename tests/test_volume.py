"""Volume: axes, units, lazy slicing, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_em_seg.errors import DataError
from napari_em_seg.volume import Volume, as_voxel_size, slabs


class Spy:
    """An array that remembers what was asked of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.keys = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        self.keys.append(key)
        return self.array[key]


def test_reads_only_what_is_asked_for():
    spy = Spy(np.arange(60, dtype="uint8").reshape(3, 4, 5))
    volume = Volume(spy)
    assert (volume.shape, volume.dtype, volume.ndim, volume.size, volume.nbytes, len(volume)) == (
        (3, 4, 5),
        np.dtype("uint8"),
        3,
        60,
        60,
        3,
    )
    assert spy.keys == []
    assert np.array_equal(volume[1, 2:4], spy.array[1, 2:4])
    assert spy.keys == [(1, slice(2, 4))]


def test_is_an_array_for_numpy():
    array = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    assert np.array_equal(np.asarray(Volume(array)), array)
    assert np.asarray(Volume(array), dtype="float32").dtype == "float32"


def test_iterates_over_slices():
    array = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    assert [s.tolist() for s in Volume(array)] == array.tolist()


def test_a_copy_is_not_the_source():
    array = np.zeros((2, 3, 4), "uint8")
    np.array(Volume(array), copy=True)[:] = 7
    assert not array.any()


@pytest.mark.parametrize("shape", [(), (5,), (4, 5), (2, 3, 4, 5)])
def test_refuses_other_than_three_axes(shape):
    with pytest.raises(DataError, match="axes"):
        Volume(np.zeros(shape, "uint8"), source="cell.h5")


@pytest.mark.parametrize("shape", [(0, 4, 5), (4, 0, 5), (4, 5, 0)])
def test_refuses_nothing(shape):
    with pytest.raises(DataError, match="empty"):
        Volume(np.zeros(shape, "uint8"))


@pytest.mark.parametrize(
    "dtype", ["complex64", "U5", "S3", object, "datetime64[s]", [("a", "u1"), ("b", "f4")]]
)
def test_refuses_what_are_no_numbers(dtype):
    with pytest.raises(DataError, match="numbers"):
        Volume(np.zeros((2, 3, 4), dtype))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float64", ">u2", ">f4"])
def test_takes_numbers(dtype):
    assert Volume(np.ones((2, 3, 4), dtype))[0, 0, 0] == 1


def test_labels_are_whole_numbers():
    with pytest.raises(DataError, match="whole numbers"):
        Volume(np.zeros((2, 3, 4), "float32"), kind="labels")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_says_where_numbers_are_not_finite(bad):
    array = np.zeros((3, 4, 5), "float32")
    array[1, 2, 3] = bad
    volume = Volume(array, source="cell.h5/raw")
    assert not volume[0].any()
    with pytest.raises(DataError, match=r"cell\.h5/raw has values that are not finite .* 1 within \[1, 0:3\]"):
        volume[1, 0:3]


@pytest.mark.parametrize(
    "sizes",
    [
        (0, 6, 6),
        (-30, 6, 6),
        (30, math.nan, 6),
        (30, 6, math.inf),
        (30, 6),
        (1, 2, 3, 4),
        30,
        None,
        "nm",
        (None, 6, 6),
        "366",
    ],
)
def test_refuses_voxel_sizes_that_are_none(sizes):
    with pytest.raises(DataError, match="voxel size"):
        as_voxel_size(sizes)


def test_voxel_size_is_three_floats():
    volume = Volume(np.zeros((1, 2, 3), "uint8"), np.array([30, 6, 6]))
    assert volume.voxel_size_nm == (30.0, 6.0, 6.0)
    assert all(type(size) is float for size in volume.voxel_size_nm)
    assert volume.with_voxel_size((40, 4, 4)).voxel_size_nm == (40.0, 4.0, 4.0)
    with pytest.raises(DataError):
        volume.with_voxel_size((40, 4, 0))


def test_unknown_voxel_size_stays_unknown():
    assert Volume(np.zeros((1, 2, 3), "uint8")).voxel_size_nm is None


@given(st.integers(1, 500), st.integers(0, 10**6), st.integers(1, 10**6))
def test_slabs_cover_every_slice_once(n, bytes_per_slice, budget):
    parts = list(slabs((n, 1, 1), bytes_per_slice, budget))
    assert [z for part in parts for z in range(n)[part]] == list(range(n))
    assert all(len(range(n)[p]) == 1 or len(range(n)[p]) * bytes_per_slice <= budget for p in parts)


@pytest.mark.parametrize("wanted", [
    [slice(2, 5)], [slice(None), slice(3, 9)], [slice(1, None), slice(None, 7), slice(4, 11)], [slice(0, 100)],
])  # fmt: skip
@pytest.mark.parametrize("key", [
    0, -1, slice(None), slice(1, 3), (0, slice(2, 4)), (slice(None), 1, -2), (..., slice(1, 3)), ...,
    (0, ..., 1), (slice(0, 2), slice(None, None, 2), slice(1, 4)),
])  # fmt: skip
def test_a_part_is_what_numpy_would_cut_out_and_nothing_else_is_read(wanted, key):
    data = np.arange(6 * 10 * 12).reshape(6, 10, 12)
    source = Spy(data)
    part = Volume(source, (30, 6, 6), "raw", pyramid=(data[:, ::2, ::2],)).part(wanted)
    expected = data[tuple(wanted)]
    assert source.keys == []
    assert part.shape == expected.shape
    assert part.voxel_size_nm == (30, 6, 6)
    assert part.pyramid == ()
    assert np.array_equal(part[key], expected[key])
    (read,) = source.keys
    assert data[read].size == expected[key].size


@pytest.mark.parametrize("wanted", [[slice(6, 9)], [slice(None), slice(4, 4)], [slice(3, 1)]])
def test_a_part_outside_of_the_volume_is_refused(wanted):
    volume = Volume(np.zeros((6, 10, 12), np.uint8), name="raw")
    with pytest.raises(DataError, match=r"6×10×12 \(z, y, x\); the part is"):
        volume.part(wanted)


@pytest.mark.parametrize("wanted", [[slice(None, None, -1)], [slice(0, 6, 2)], [slice(None)] * 4])
def test_a_part_is_of_whole_ranges_along_three_axes(wanted):
    with pytest.raises(DataError, match="up to three ranges without steps"):
        Volume(np.zeros((6, 10, 12), np.uint8)).part(wanted)


@pytest.mark.parametrize("key", [[0, 2], np.array([True, False, True]), slice(None, None, -1), None])
def test_a_part_gives_whatever_numpy_would(key):
    data = np.arange(6 * 10 * 12).reshape(6, 10, 12)
    part = Volume(data).part([slice(1, 4), slice(2, 9)])
    assert np.array_equal(part[key], data[1:4, 2:9][key])
    assert np.array_equal(np.asarray(part.data), data[1:4, 2:9])
