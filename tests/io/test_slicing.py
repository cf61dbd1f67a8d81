"""Slicing is that of numpy, in every format; an index that numpy refuses is refused the same way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from napari_em_seg.io import FORMATS, open_volume, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
SHAPE = (11, 9, 10)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, numbers, target_in):
    """The same array, opened from every format, and from an uncompressed TIFF."""
    array, opened = numbers(SHAPE, "uint16"), {}
    for name in NAMES:
        target = target_in(tmp_path_factory.mktemp(name), name)
        write_volume(Volume(array, (30, 6, 6)), target, name)
        opened[name] = open_volume(target)
    return array, opened


def keys():
    return st.one_of(
        basic_indices(SHAPE, allow_newaxis=False),
        st.tuples(st.slices(11), st.slices(9), st.slices(10)),
        st.integers(-11, 10).map(np.int64),
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_key_gives_what_numpy_gives(name, data, volumes):
    array, opened = volumes
    key = data.draw(keys())
    expected, got = array[key], opened[name][key]
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key", [11, -12, (0, 9), (0, 0, 10), (0, -10), (0, 0, 0, 0), (..., ...), (slice(0, 2), 99), np.int64(50)]
)
def test_out_of_range(name, key, volumes):
    with pytest.raises(IndexError):
        volumes[1][name][key]


@pytest.mark.parametrize("name", ["tiff", "hdf5", "zarr2"])
@pytest.mark.parametrize("key", [1.5, "a", (0, 1.0)])
def test_what_is_no_index(name, key, volumes):
    with pytest.raises(IndexError):
        volumes[1][name][key]


@pytest.mark.parametrize("name", NAMES)
def test_behaves_as_an_array(name, volumes):
    array, opened = volumes
    volume = opened[name]
    assert np.array_equal(np.asarray(volume), array)
    assert [np.array_equal(s, t) for s, t in zip(volume, array, strict=True)] == [True] * 11
    assert volume.data.dtype.isnative


@pytest.mark.parametrize("name", NAMES)
def test_what_was_read_may_be_changed(name, volumes):
    array, opened = volumes
    for key in (slice(None), 3, (slice(2, 5), 1)):
        part = opened[name][key]
        part[...] = 0
        assert np.array_equal(opened[name][key], array[key])
