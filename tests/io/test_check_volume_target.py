"""A target is refused before the work as it would be after it, and by the same error."""

import numpy as np
import pytest

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import FORMATS, check_volume_target, write_volume
from napari_em_seg.volume import Volume

VOLUME = Volume(np.zeros((3, 8, 9), np.uint8), (30, 6, 6))
LABELS = Volume(np.zeros((3, 8, 9), np.uint8), (30, 6, 6), kind="labels")


def outcome(work, *arguments, **options):
    try:
        work(*arguments, **options)
    except EmSegError as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("format_name", [f.name for f in FORMATS])
def test_a_name_that_is_free_or_taken(target_in, format_name, overwrite, tmp_path):
    target = target_in(tmp_path, format_name)
    for _ in range(2):
        before = sorted(tmp_path.rglob("*"))
        expected = outcome(check_volume_target, target, format_name, overwrite=overwrite)
        assert sorted(tmp_path.rglob("*")) == before
        assert outcome(write_volume, VOLUME, target, format_name, overwrite=overwrite) == expected


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".zarr", ".n5"])
@pytest.mark.parametrize("inner", ["raw", "volumes/raw", "volumes", "volumes/raw/below", "volumes/other", ""])
def test_places_inside_a_container(inner, suffix, overwrite, tmp_path):
    container = tmp_path / f"cells{suffix}"
    write_volume(VOLUME, container / "volumes" / "raw")
    expected = outcome(check_volume_target, container / inner, overwrite=overwrite)
    assert outcome(write_volume, VOLUME, container / inner, overwrite=overwrite) == expected


@pytest.mark.parametrize("suffix", [".h5", ".n5"])
def test_labels_join_the_image_where_they_usually_lie(suffix, tmp_path):
    container = tmp_path / f"cells{suffix}"
    write_volume(VOLUME, container)
    assert outcome(check_volume_target, container, kind="labels") is None
    write_volume(LABELS, container)
    expected = outcome(check_volume_target, container, kind="labels")
    assert expected is not None
    assert outcome(write_volume, LABELS, container) == expected


@pytest.mark.parametrize(
    "target", ["no/out.h5", "no/out.zarr/a", "out", "out.jpg", "out.tif/a", "file/a.tif", "full.zarr"]
)
def test_impossible_places(target, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full.zarr").mkdir()
    (tmp_path / "full.zarr" / "thesis.txt").write_text("precious")
    checked = outcome(check_volume_target, tmp_path / target)
    written = outcome(write_volume, VOLUME, tmp_path / target)
    assert checked is not None and written is not None
    if target != "file/a.tif":  # whose writing fails in words of the operating system
        assert checked == written
