"""Truncated and garbled files: one clear error when opened or read, never wrong numbers in silence."""

import json
import shutil
from contextlib import suppress

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import FORMATS, open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
SHAPE = (12, 17, 19)
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", "attributes.json", "info", "volume.json")


def right_or_clear(path, array, raises_clearly, *, names=None):
    """Open and read: the numbers are right, or the error is clear."""
    try:
        got = open_volume(path)[:]
    except EmSegError:
        with raises_clearly(EmSegError, names or path.name):
            open_volume(path)[:]
        return False
    assert got.shape == array.shape, f"silently {got.shape} instead of {array.shape}"
    assert np.array_equal(got, array), "silently wrong numbers"
    return True


def cuts(size, n=40):
    """Places to cut a file at: near both ends and spread between."""
    near = {*range(20), size - 1, size - 2, size - 9, size - 20}
    return sorted(c for c in near | set(np.linspace(0, size - 1, n).astype(int).tolist()) if 0 <= c < size)


TIFFS = {
    "plain": {},
    "imagej": {"imagej": True},
    "ome": {"ome": True},
    "zlib": {"compression": "zlib"},
    "imagej zlib": {"imagej": True, "compression": "zlib"},
    "ome zlib": {"ome": True, "compression": "zlib"},
    "tiled lzw": {"compression": "lzw", "tile": (16, 16)},
    "no metadata": {"metadata": None},
    "no metadata zlib": {"metadata": None, "compression": "zlib"},
    "bigtiff": {"bigtiff": True},
}


@pytest.mark.parametrize("options", TIFFS.values(), ids=TIFFS)
def test_truncated_tiff(options, tmp_path, numbers, raises_clearly):
    array = numbers(SHAPE, "uint16")
    tifffile.imwrite(tmp_path / "whole.tif", array, **options)
    content = (tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "cut.tif"
    for cut in cuts(len(content)):
        path.write_bytes(content[:cut])
        right_or_clear(path, array, raises_clearly)


def test_truncated_tiff_by_page(tmp_path, numbers, raises_clearly):
    """Pages one after the other without a word on how many: the chain of pages must not end in nothing."""
    array = numbers(SHAPE, "uint16")
    with tifffile.TiffWriter(tmp_path / "whole.tif") as tif:
        for page in array:
            tif.write(page, metadata=None, compression="zlib")
    content = (tmp_path / "whole.tif").read_bytes()
    for cut in cuts(len(content)):
        (tmp_path / "cut.tif").write_bytes(content[:cut])
        right_or_clear(tmp_path / "cut.tif", array, raises_clearly)


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 8, 8), "compression": "gzip"}], ids=["plain", "chunks"])
def test_truncated_hdf5(options, tmp_path, numbers, raises_clearly):
    array = numbers(SHAPE, "uint16")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_dataset("volumes/raw", data=array, **options)
    content = (tmp_path / "whole.h5").read_bytes()
    for cut in cuts(len(content)):
        (tmp_path / "cut.h5").write_bytes(content[:cut])
        assert not right_or_clear(tmp_path / "cut.h5", array, raises_clearly)


def test_hdf5_with_a_garbled_chunk(tmp_path, numbers, raises_clearly):
    array = numbers(SHAPE, "uint16")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("raw", data=array, chunks=(4, 8, 8), compression="gzip", fletcher32=True)
        chunk = dataset.id.get_chunk_info(3)
    with (tmp_path / "a.h5").open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(bytes(chunk.size))
    assert not right_or_clear(tmp_path / "a.h5", array, raises_clearly)


@pytest.mark.parametrize("name", ["png-slices", "tiff-slices"])
def test_truncated_slice(name, tmp_path, numbers, raises_clearly):
    array = numbers((3, 17, 19))
    write_volume(Volume(array), tmp_path / "a.slices", name)
    file = sorted(tmp_path.glob("a.slices/*.*"))[1]
    content = file.read_bytes()
    for cut in cuts(len(content)):
        file.write_bytes(content[:cut])
        right_or_clear(tmp_path / "a.slices", array, raises_clearly, names=file.name)


def test_png_with_garbled_pixels(tmp_path, numbers, raises_clearly):
    folder, array = tmp_path / "a", numbers((3, 17, 19))
    folder.mkdir()
    for z in range(3):
        Image.fromarray(array[z]).save(folder / f"{z}.png")
    content = (folder / "1.png").read_bytes()
    for at in range(8, len(content), 7):
        (folder / "1.png").write_bytes(
            content[:at] + bytes(b ^ 0xFF for b in content[at : at + 4]) + content[at + 4 :]
        )
        try:
            open_volume(folder)[:]
        except EmSegError:
            with raises_clearly(EmSegError, "1.png"):
                open_volume(folder)[:]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.integers(0, 2000),
    new=st.binary(min_size=1, max_size=8),
    name=st.sampled_from(["a.tif", "a.h5", "z.tif"]),
)
def test_garbled_bytes_never_raise_raw(at, new, name, tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("garbled") / name
    if name == "z.tif":
        tifffile.imwrite(path, numbers((3, 17, 19)), photometric="minisblack")
    else:
        write_volume(Volume(numbers((3, 17, 19)), (30, 6, 6)), path)
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at : at + len(new)] = new
    path.write_bytes(content)
    with suppress(EmSegError, MemoryError):
        open_volume(path)[:]


CHUNKED = [n for n in NAMES if n.startswith(("ome-zarr", "zarr", "n5", "precomputed"))]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
@pytest.mark.parametrize("name", CHUNKED)
def test_damaged_chunk(name, damage, tmp_path, numbers, target_in, raises_clearly):
    array, target = numbers(SHAPE, "uint16"), target_in(tmp_path, name)
    write_volume(Volume(array, (30, 6, 6)), target, name)
    chunk = max((f for f in target.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = chunk.read_bytes()
    for cut in (1, 4, 11, len(content) // 2, len(content) - 1):
        kept = {"cut": content[:cut], "empty": b"", "garbled": content[:cut] + b"\xa5" * (len(content) - cut)}[
            damage
        ]
        chunk.write_bytes(kept)
        volume = open_volume(target)
        try:
            got = volume[:]
        except EmSegError:
            with raises_clearly(EmSegError, target.name):
                volume[:]
        else:
            # neither raw bytes nor most codecs carry a checksum: garbage in their middle cannot be seen
            assert damage == "garbled" or np.array_equal(got, array), "silently wrong numbers"
            assert got.shape == SHAPE


@pytest.mark.parametrize("name", CHUNKED)
def test_truncated_metadata(name, tmp_path, numbers, target_in, raises_clearly):
    array, target = numbers((3, 5, 6)), target_in(tmp_path, name)
    write_volume(Volume(array, (30, 6, 6)), target, name)
    for file in [f for f in target.rglob("*") if f.name in METADATA]:
        content = file.read_bytes()
        for cut in np.linspace(0, len(content) - 2, 9).astype(int):
            file.write_bytes(content[:cut])
            right_or_clear(target, array, raises_clearly)
        file.write_bytes(content)
    assert right_or_clear(target, array, raises_clearly)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("name", [*CHUNKED, "png-slices"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_junk_in_metadata_never_raises_raw(name, data, tmp_path_factory, numbers, target_in):
    """Any value in the metadata may be replaced by any other."""
    folder = tmp_path_factory.mktemp("junk")
    target = target_in(folder, name)
    write_volume(Volume(numbers((3, 5, 6)), (30, 6, 6)), target, name)
    files = sorted(f for f in target.rglob("*") if f.name in METADATA)
    file = data.draw(st.sampled_from(files))
    content = json.loads(file.read_text())
    place, steps = content, []
    while isinstance(place, dict | list) and place and (not steps or data.draw(st.booleans())):
        steps.append(
            data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        )
        place = place[steps[-1]]
    place = content
    for step in steps[:-1]:
        place = place[step]
    if steps:
        place[steps[-1]] = data.draw(JUNK)
    else:
        content = data.draw(JUNK)
    file.write_text(json.dumps(content))
    try:
        for volume in open_volumes(target):
            assert volume.kind in ("image", "labels")
            if volume.size < 10**7:
                volume[:]
    except EmSegError:
        pass
    finally:
        shutil.rmtree(folder)
