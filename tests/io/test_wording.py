"""Messages that were once wrong or hard to understand."""

import logging

import numpy as np
import pytest
import tifffile

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume


def test_a_truncated_tiff_is_described_in_whole_words(tmp_path, numbers):
    tifffile.imwrite(tmp_path / "a.tif", numbers((9, 40, 40)), photometric="minisblack", compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(EmSegError, match=r"cannot be read: invalid page offset"):
        open_volume(tmp_path / "a.tif")


def test_a_plain_tiff_is_not_called_ome(tmp_path, numbers):
    write_volume(Volume(numbers((3, 4, 5))), tmp_path / "a.tif")
    with pytest.raises(EmSegError, match="is one volume and has nothing inside, so not raw"):
        open_volume(tmp_path / "a.tif/raw")


def test_an_image_taken_as_labels_is_remarked_on(tmp_path, numbers, caplog):
    write_volume(Volume(numbers((3, 4, 5))), tmp_path / "a.zarr/raw")
    with caplog.at_level(logging.WARNING):
        open_volume(tmp_path / "a.zarr/raw", "labels")
    assert "looks like an image" in caplog.text


def test_labels_are_not_remarked_on(tmp_path, numbers, caplog):
    write_volume(Volume(numbers((3, 4, 5)), kind="labels"), tmp_path / "a.zarr/x")
    with caplog.at_level(logging.WARNING):
        open_volume(tmp_path / "a.zarr/x", "labels")
    assert not caplog.text


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_ome_tiff_keeps_the_kind(tmp_path, kind):
    write_volume(Volume(np.ones((3, 4, 5), np.uint16), (30, 6, 6), kind=kind), tmp_path / "a.ome.tif")
    (volume,) = open_volumes(tmp_path / "a.ome.tif")
    assert volume.kind == kind
