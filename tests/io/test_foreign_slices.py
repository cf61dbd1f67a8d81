"""Folders of slices that others wrote."""

import json
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_em_seg.errors import DataError, EmSegError, FormatError
from napari_em_seg.io import find_volumes, open_volume, write_volume
from napari_em_seg.volume import Volume


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my slices"
    path.mkdir()
    return path


def save(folder, stack, pattern="slice{}.png"):
    for z, page in enumerate(stack):
        file = folder / pattern.format(z)
        tifffile.imwrite(file, page) if "tif" in pattern else Image.fromarray(page).save(file)


@pytest.mark.parametrize("pattern", ["slice{}.png", "z={:03d}.PNG", "{}.tif", "img-{}_raw.TIFF"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_natural_order(pattern, dtype, folder, numbers):
    stack = numbers((12, 6, 7), dtype)  # slice10 comes after slice9
    save(folder, stack, pattern)
    volume = open_volume(folder)
    assert volume.dtype == dtype
    assert np.array_equal(volume[:], stack)
    assert volume.voxel_size_nm is None
    assert volume.name == "my slices"


def test_one_bit(folder, numbers):
    stack = numbers((3, 6, 7), "bool")
    save(folder, stack)
    assert np.array_equal(open_volume(folder, "labels")[:], stack)


@pytest.mark.parametrize(
    "options", [{"compression": "lzw"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"metadata": None}]
)
def test_tiff_storage(options, folder, numbers):
    stack = numbers((3, 37, 41), "uint16")
    for z in range(3):
        tifffile.imwrite(folder / f"{z}.tif", stack[z], **options)
    assert np.array_equal(open_volume(folder)[:], stack)


@pytest.mark.parametrize("extra", ["volume-notes.txt", "Thumbs.db", ".DS_Store", "._slice0.png"])
def test_other_files_are_passed_over(extra, folder, numbers):
    stack = numbers((3, 6, 7))
    save(folder, stack)
    (folder / extra).write_bytes(b"\0\1junk")
    (folder / "old").mkdir()
    assert np.array_equal(open_volume(folder)[:], stack)


def test_a_folder_named_as_a_slice_is_passed_over(folder, numbers):
    save(folder, numbers((3, 6, 7)))
    (folder / "old.png").mkdir()
    assert open_volume(folder).shape == (3, 6, 7)


@pytest.mark.parametrize("name", ["zarr3", "n5", "precomputed", "hdf5"])
def test_results_beside_the_slices_do_not_hide_them(name, folder, numbers, target_in):
    stack = numbers((3, 6, 7))
    save(folder, stack)
    result = Volume(numbers((3, 6, 7), "uint32"), (30, 6, 6), kind="labels")
    write_volume(result, target_in(folder, name), name)
    assert np.array_equal(open_volume(folder)[:], stack)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_colour_is_refused(mode, folder, raises_clearly):
    for z in range(3):
        Image.new(mode, (7, 6)).save(folder / f"{z}.png")
    with raises_clearly(DataError, "0.png", "colour", "grey"):
        open_volume(folder)


def test_colour_tiff_is_refused(folder, raises_clearly):
    for z in range(3):
        tifffile.imwrite(folder / f"{z}.tif", np.zeros((6, 7, 3), "uint8"), photometric="rgb")
    with raises_clearly(DataError, "0.tif", "colour", "grey"):
        open_volume(folder)


@pytest.mark.parametrize("pattern", ["slice{}.png", "slice{}.tif"])
@pytest.mark.parametrize("other", [np.ones((6, 8), "uint8"), np.ones((6, 7), "uint16")], ids=["size", "dtype"])
def test_slices_that_differ_are_refused(pattern, other, folder, numbers, raises_clearly):
    save(folder, [*numbers((3, 6, 7)), other], pattern)
    with raises_clearly(DataError, pattern.format(3), "6×7", "equal size and dtype"):
        open_volume(folder)


def test_stacks_in_a_folder_are_no_slices(folder, numbers, raises_clearly):
    save(folder, numbers((2, 5, 6, 7)), "stack{}.tif")
    with raises_clearly(DataError, "stack0.tif", "5 pages"):
        open_volume(folder)


def test_a_single_slice_is_refused_with_the_way_out(folder, numbers, raises_clearly):
    save(folder, numbers((3, 6, 7)))
    save(folder, numbers((3, 6, 7)), "{}.tif")
    for file in ("slice0.png", "0.tif"):
        with raises_clearly(EmSegError, file, "folder"):
            open_volume(folder / file)


def test_a_slice_that_is_another_format(folder, numbers, raises_clearly):
    """Read by its content, or one clear error."""
    stack = numbers((3, 6, 7))
    save(folder, stack, "{}.tif")
    Image.fromarray(stack[1]).save(folder / "x.png")
    (folder / "x.png").rename(folder / "1.tif")
    try:
        assert np.array_equal(open_volume(folder)[:], stack)
    except EmSegError:
        with raises_clearly(FormatError, "1.tif"):
            open_volume(folder)


def test_a_tiff_named_png(folder, numbers, raises_clearly):
    stack = numbers((3, 6, 7))
    for z in range(3):
        tifffile.imwrite(folder / f"{z}.tif", stack[z])
        (folder / f"{z}.tif").rename(folder / f"{z}.png")
    try:
        assert np.array_equal(open_volume(folder)[:], stack)
    except EmSegError:
        with raises_clearly(FormatError, "0.png"):
            open_volume(folder)


def test_a_png_with_bytes_after_its_end_is_whole(folder, numbers):
    stack = numbers((3, 6, 7))
    save(folder, stack)
    with (folder / "slice1.png").open("ab") as file:
        file.write(bytes(64))
    assert np.array_equal(open_volume(folder)[:], stack)


@pytest.mark.parametrize("n", [10_000, 20_000])
def test_large_slices_open(n, folder):
    """Slices of this size are common; Pillow takes them for an attack."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", n, n, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    for z in range(2):
        (folder / f"{z}.png").write_bytes(content)
    assert open_volume(folder).shape == (2, n, n)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"voxel_size_nm": "a"}', '{"voxel_size_nm": [1, [2, 3], 4]}', '{"kind": []}'],
)
def test_a_bad_sidecar(content, folder, numbers):
    """Bad notes are an error or passed over; never a raw exception, never a guess."""
    save(folder, numbers((3, 6, 7)))
    (folder / "volume.json").write_text(content)
    try:
        assert open_volume(folder).voxel_size_nm is None
    except EmSegError as error:
        assert "volume.json" in str(error)


def test_a_sidecar_is_read(folder, numbers):
    save(folder, numbers((3, 6, 7)))
    (folder / "volume.json").write_text(json.dumps({"voxel_size_nm": [50, 4, 4], "kind": "labels"}))
    (found,) = find_volumes(folder)
    assert found.kind == "labels"
    assert open_volume(folder, "labels").voxel_size_nm == (50, 4, 4)
