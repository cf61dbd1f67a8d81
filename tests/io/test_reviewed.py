"""What a reviewer broke: containers that lost their other volumes, writers and threads in each other's way."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_em_seg.errors import EmSegError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io import find_volumes, open_volume, write_volume, write_volumes
from napari_em_seg.volume import Volume

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture
def pair(tmp_path, numbers):
    path = tmp_path / "tissue.zarr"
    write_volumes({"raw": Volume(numbers((3, 4, 5)), SIZE), "labels": Volume(numbers((3, 4, 5)))}, path)
    return path


def names(path):
    return {found.location.inner for found in find_volumes(path)}


def test_overwriting_a_container_as_a_whole_loses_no_other_volume(pair, numbers):
    with pytest.raises(TargetExistsError, match=r"would be lost: labels, raw"):
        write_volume(Volume(numbers((3, 4, 5))), pair, overwrite=True)
    assert names(pair) == {"raw", "labels"}


@pytest.mark.parametrize("suffix", [".zarr", ".h5", ".n5"])
def test_writing_several_loses_no_other_volume(tmp_path, numbers, suffix):
    path, volume = tmp_path / f"a{suffix}", Volume(numbers((3, 4, 5)), SIZE)
    write_volumes({"raw": volume, "mine": volume}, path)
    with pytest.raises(TargetExistsError, match="would be lost: mine"):
        write_volumes({"raw": volume, "ids": volume}, path, overwrite=True)
    assert names(path) == {"raw", "mine"}
    write_volumes({"raw": volume, "mine": volume, "more": volume}, path, overwrite=True)
    assert names(path) == {"raw", "mine", "more"}


@pytest.mark.parametrize("name", ["ome-zarr", "zarr3", "zarr2"])
def test_other_files_in_a_zarr_folder_are_not_thrown_away(tmp_path, numbers, name):
    path = tmp_path / "a.zarr"
    write_volume(Volume(numbers((3, 4, 5))), path, "ome-zarr-0.4")
    (path / "notes.txt").write_text("years of work")
    with pytest.raises(TargetExistsError, match="other things"):
        write_volume(Volume(numbers((3, 4, 5))), path, name, overwrite=True)
    assert (path / "notes.txt").exists()


def test_other_files_in_a_precomputed_folder_are_not_thrown_away(tmp_path, numbers):
    path = tmp_path / "a.precomputed"
    write_volume(Volume(numbers((3, 4, 5)), SIZE), path)
    (path / "meshes").mkdir()
    with pytest.raises(TargetExistsError, match="other things"):
        write_volume(Volume(numbers((3, 4, 5)), SIZE), path, overwrite=True)


def test_a_folder_with_some_attributes_is_no_n5(tmp_path, numbers):
    (tmp_path / "results" / "papers").mkdir(parents=True)
    (tmp_path / "results" / "attributes.json").write_text('{"mood": "good"}')
    with pytest.raises(TargetExistsError, match="other things"):
        write_volume(Volume(numbers((3, 4, 5))), tmp_path / "results", "zarr3", overwrite=True)
    assert (tmp_path / "results" / "papers").exists()


def test_a_suffix_of_another_format_is_refused(tmp_path, numbers):
    with pytest.raises(EmSegError, match="named as OME-Zarr"):
        write_volume(Volume(numbers((3, 4, 5))), tmp_path / "x.zarr", "tiff")
    assert not list(tmp_path.iterdir())


def test_progress_counts_through_all_volumes(tmp_path, numbers):
    volumes = {"raw": Volume(numbers((9, 4, 5))), "ids": Volume(numbers((9, 4, 5)))}
    steps: list[tuple[int, int]] = []
    write_volumes(volumes, tmp_path / "a.zarr", progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (18, 18)
    assert {total for _, total in steps} == {18}


def test_good_tiffs_open_while_bad_ones_fail_in_other_threads(tmp_path, numbers):
    good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
    tifffile.imwrite(good, numbers((9, 30, 30)), photometric="minisblack", compression="zlib")
    bad.write_bytes(good.read_bytes()[:3000])

    def opens(path: Path) -> bool:
        try:
            return open_volume(path).shape == (9, 30, 30)
        except EmSegError:
            return False

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(opens, [good, bad] * 40))
    assert answers == [True, False] * 40
    assert logging.getLogger("tifffile").propagate


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr"])
def test_two_writers_of_one_target_end_with_one_whole_volume(tmp_path, suffix):
    target = tmp_path / f"a{suffix}"

    def write(value: int) -> str:
        try:
            write_volume(Volume(np.full((9, 40, 40), value, np.uint8), SIZE), target)
        except EmSegError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(write, range(1, 5)))
    assert "" in answers
    content = open_volume(target)[:]
    assert len(np.unique(content)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("shape", [(5, 6, 7, 1), (1, 5, 6, 7), (1, 5, 6, 7, 1)])
def test_a_single_channel_or_time_point_is_no_axis(tmp_path, numbers, shape):
    """As ilastik exports its maps."""
    zarr = pytest.importorskip("zarr")
    data = numbers(shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = data
    zarr.create_array(tmp_path / "a.zarr", data=data)
    for name in ("a.h5", "a.zarr"):
        volume = open_volume(tmp_path / name)
        assert volume.shape == (5, 6, 7)
        np.testing.assert_array_equal(volume[:], data.reshape(5, 6, 7))
        np.testing.assert_array_equal(volume[2, 1:4, ::2], data.reshape(5, 6, 7)[2, 1:4, ::2])


def test_an_empty_path_is_not_the_working_folder():
    with pytest.raises(SourceNotFoundError, match="empty"):
        open_volume("")


def test_a_kind_that_is_none_is_refused(numbers):
    with pytest.raises(EmSegError, match="'mask'"):
        Volume(numbers((3, 4, 5)), kind="mask")


def test_an_offset_that_is_not_used_is_remarked_on(tmp_path, numbers, caplog):
    with h5py.File(tmp_path / "padded.h5", "w") as file:
        file["ids"] = numbers((3, 4, 5))
        file["ids"].attrs["offset"] = (1200.0, 400.0, 400.0)
    open_volume(tmp_path / "padded.h5")
    assert "offset" in caplog.text


def test_a_copy_of_a_volume_is_one_and_its_array_need_not_be(numbers):
    data = numbers((3, 4, 5))
    assert np.asarray(Volume(data)) is not None
    np.array(Volume(data), copy=True)[:] = 0
    assert data.any()
