"""What is read out of a prediction, pixel by pixel, against its definition."""

import numpy as np
import pytest

from napari_em_seg.errors import DataError, EmSegError, FormatError
from napari_em_seg.io import write_volume, write_volumes
from napari_em_seg.pipeline.evidence import PredictedMaps, open_maps
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.volume import Volume


@pytest.fixture
def boundary():
    return np.random.default_rng(0).random((4, 7, 9), np.float32)


@pytest.fixture
def affinities():
    return np.random.default_rng(1).random((3, 4, 7, 9), np.float32)


def test_affinities_of_a_boundary_map_are_those_of_its_worse_voxel(boundary):
    found = PredictedMaps(boundary).affinities()
    assert found.dtype == np.uint8
    for z, y, x in np.ndindex(boundary.shape):
        for channel, before in enumerate(((z - 1, y, x), (z, y - 1, x), (z, y, x - 1))):
            wanted = 255 * (1 - max(boundary[z, y, x], boundary[before])) if min(before) >= 0 else 0
            assert abs(float(found[channel, z, y, x]) - wanted) <= 0.5 + 1e-4


def test_affinities_that_there_are_are_not_touched(affinities):
    assert PredictedMaps(affinities).affinities() is affinities


def test_a_boundary_map_is_its_own_boundary_and_says_something_across(boundary):
    maps = PredictedMaps(boundary)
    assert (maps.is_affinity, maps.shape) == (False, boundary.shape)
    np.testing.assert_array_equal(maps.boundary[:], boundary)
    across = np.stack([1 - np.maximum(b, boundary[max(z - 1, 0)]) for z, b in enumerate(boundary)])
    np.testing.assert_allclose(maps.across[:], across, atol=1e-6)


def test_affinities_say_both(affinities):
    maps = PredictedMaps(affinities)
    assert (maps.is_affinity, maps.shape) == (True, affinities.shape[1:])
    np.testing.assert_allclose(maps.boundary[:], 1 - affinities[1:].min(0), atol=1e-6)
    np.testing.assert_array_equal(maps.across[:], affinities[0])


def test_bytes_stand_for_shares(affinities, boundary):
    a, b = ((255 * m).round().astype(np.uint8) for m in (affinities, boundary))
    np.testing.assert_allclose(PredictedMaps(a).across[:], a[0] / 255, atol=1e-6)
    np.testing.assert_allclose(PredictedMaps(a).boundary[:], 1 - a[1:].min(0) / 255, atol=1e-6)
    np.testing.assert_allclose(PredictedMaps(b).boundary[:], b / 255, atol=1e-6)
    np.testing.assert_array_equal(PredictedMaps(b).affinities()[2, :, :, 1:],
                                  255 - np.maximum(b[:, :, 1:], b[:, :, :-1]))  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [0, -1, slice(1, 3), slice(None, None, -2), slice(2, 2), (2, slice(1, 4)), (-2, 3, slice(None, None, 2)),
     (slice(0, 4, 3), slice(None), 5), np.int64(1), (slice(None), 2, 3), Ellipsis, (Ellipsis, 2)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["boundary", "affinities"])
def test_planes_are_read_like_arrays(key, kind, boundary, affinities):
    maps = PredictedMaps(boundary if kind == "boundary" else affinities)
    for planes in (maps.boundary, maps.across):
        whole = np.stack([planes[z] for z in range(4)])
        assert (planes.shape, planes.dtype, len(planes)) == (whole.shape, whole.dtype, 4)
        np.testing.assert_array_equal(planes[key], whole[key])


@pytest.mark.parametrize("key", [4, -5, (7, 0, 0)])
def test_there_are_no_planes_beyond_the_last(key, boundary):
    with pytest.raises(IndexError):
        PredictedMaps(boundary).across[key]


def test_files_open_as_what_they_hold(clean):
    maps, size = open_maps(clean.affinity_file)
    assert (maps.is_affinity, maps.shape, size) == (True, clean.truth.shape, (30, 6, 6))
    np.testing.assert_allclose(maps.across[:], clean.affinities[0] / 255, atol=1e-6)
    maps, size = open_maps(clean.boundary_file)
    assert (maps.is_affinity, maps.shape, size) == (False, clean.truth.shape, (30, 6, 6))
    np.testing.assert_allclose(maps.boundary[2], clean.boundary[2] / 255, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_numbers_without_a_scale_are_refused(dtype, tmp_path):
    wrong = np.zeros((3, 8, 8), dtype)
    write_volume(Volume(wrong, None, "odd"), tmp_path / "odd.zarr")
    with pytest.raises(DataError, match=f"is {np.dtype(dtype)}.*uint8 from 0 to 255"):
        open_maps(str(tmp_path / "odd.zarr"))
    write_volumes({place: Volume(wrong, None, place) for place in AFFINITY_MAPS}, tmp_path / "three.zarr")
    with pytest.raises(DataError, match=f"{np.dtype(dtype)}.*uint8 from 0 to 255"):
        open_maps(str(tmp_path / "three.zarr"))


def test_what_is_missing_is_said(tmp_path, clean):
    with pytest.raises(EmSegError, match="nowhere"):
        open_maps(str(tmp_path / "nowhere.zarr"))
    two = {place: Volume(clean.affinities[c], None, place) for c, place in enumerate(AFFINITY_MAPS[:2])}
    write_volumes(two, tmp_path / "two.zarr")
    with pytest.raises(FormatError, match=AFFINITY_MAPS[2]):
        open_maps(str(tmp_path / "two.zarr"))
