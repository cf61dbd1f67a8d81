"""Real volumes, where they are at hand."""

import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.io import open_volume, open_volumes, write_volume


@pytest.mark.parametrize(("file", "n"), [("ac4_z00-47.h5", 48), ("ac4_z63-99.h5", 37)])
def test_ac4(file, n, real_data):
    raw, labels = open_volume(real_data / file), open_volume(real_data / file, "labels")
    assert raw.shape == labels.shape == (n, 1024, 1024)
    assert raw.voxel_size_nm == labels.voxel_size_nm == (30, 6, 6)
    assert (raw.name, raw.kind, raw.dtype) == ("raw", "image", "uint8")
    assert (labels.name, labels.kind) == ("neuron_ids", "labels")
    assert raw[5].std() > 10
    assert len(np.unique(labels[5])) > 20


def test_medulla(real_data):
    path = real_data / "medulla_fibsem_z000-124.h5"
    raw, labels = open_volume(path), open_volume(path, "labels")
    assert raw.shape == labels.shape == (125, 250, 250)
    assert raw.voxel_size_nm == labels.voxel_size_nm == (10, 10, 10)
    assert len(np.unique(labels[5])) > 20


def test_isbi(real_data):
    folder = real_data / "isbi2012_z00-14"
    raw, truth = open_volume(folder / "raw.tif"), open_volume(folder / "neuron_ids.tif", "labels")
    membranes = open_volume(folder / "membranes.tif")
    assert raw.shape == truth.shape == membranes.shape == (15, 512, 512)
    assert raw.voxel_size_nm in (None, pytest.approx((50, 4, 4)))
    assert set(np.unique(membranes[:])) == {0, 1}
    assert [v.kind for v in open_volumes(folder / "neuron_ids.tif")] == ["labels"]


def test_a_folder_of_stacks_says_which_file_is_one(real_data, raises_clearly):
    with raises_clearly(DataError, "membranes.tif", "15 pages"):
        open_volume(real_data / "isbi2012_z00-14")


def test_vnc(real_data):
    raw, membranes = open_volume(real_data / "vnc_z00-14/raw"), open_volume(real_data / "vnc_z00-14/membranes")
    assert raw.shape == membranes.shape == (15, 1024, 1024)
    assert raw.voxel_size_nm is None
    assert set(np.unique(membranes[7])) == {0, 1}


@pytest.mark.parametrize("target", ["a.zarr", "a.tif", "a.n5/raw"])
def test_real_numbers_survive(target, real_data, tmp_path):
    raw = open_volume(real_data / "medulla_fibsem_z000-124.h5")
    write_volume(raw, tmp_path / target)
    again = open_volume(tmp_path / target)
    assert np.array_equal(again[:], raw[:])
    assert again.voxel_size_nm == pytest.approx(raw.voxel_size_nm)
