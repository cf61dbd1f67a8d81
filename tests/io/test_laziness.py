"""Opening reads next to nothing, slicing reads what is needed, files are closed, threads do not disturb."""

import gc
import shutil
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import h5py
import numpy as np
import psutil
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import FORMATS, find_volumes, open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
HUGE = (20_000, 20_000, 20_000)
SIZE = (30, 6, 6)


@contextmanager
def little(megabytes=64):
    """The block takes, in Python and numpy, little memory."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 2**20


def sparse_hdf5(path):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", HUGE, "uint8", chunks=(8, 256, 256))
        data[10_000, 5, 7] = 9


def sparse_tensorstore(driver, metadata):
    def make(path):
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, **metadata}
        shape = {} if driver == "neuroglancer_precomputed" else {"dtype": "uint8", "shape": HUGE}
        store = ts.open(spec, create=True, **shape).result()
        key = (7, 5, 10_000) if driver in ("n5", "neuroglancer_precomputed") else (10_000, 5, 7)
        store[(*key, 0) if driver == "neuroglancer_precomputed" else key].write(9).result()

    return make


SPARSE = {
    "a.h5": sparse_hdf5,
    "v2.zarr": sparse_tensorstore("zarr", {"metadata": {"chunks": [8, 256, 256]}}),
    "v3.zarr": sparse_tensorstore(
        "zarr3",
        {"metadata": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 256, 256]}}}},
    ),
    "a.n5": sparse_tensorstore(
        "n5", {"metadata": {"blockSize": [256, 256, 8], "compression": {"type": "gzip"}}}
    ),
    "a.precomputed": sparse_tensorstore(
        "neuroglancer_precomputed",
        {
            "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
            "scale_metadata": {
                "size": HUGE,
                "resolution": [6, 6, 30],
                "encoding": "raw",
                "chunk_size": [256, 256, 8],
            },
        },
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_larger_than_any_memory(name, tmp_path):
    SPARSE[name](tmp_path / name)
    with little():
        volume = open_volume(tmp_path / name)
        assert volume.shape == HUGE
        assert volume.nbytes == 8 * 10**12
        assert volume[10_000, 5, 7] == 9
        assert not volume[10_001, :64, :64].any()
        assert not volume[-1, -5:, ::1000].any()
        assert volume[::5000, 5, 7].tolist() == [0, 0, 9, 0]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_one_slice_of_a_long_tiff(compression, tmp_path, monkeypatch):
    page = np.random.default_rng(0).integers(0, 255, (64, 64), "uint8")
    with tifffile.TiffWriter(tmp_path / "long.tif") as tif:
        for z in range(3000):
            tif.write(
                page + np.uint8(z % 200), metadata=None, compression=compression, contiguous=not compression
            )
    volume = open_volume(tmp_path / "long.tif")
    assert volume.shape == (3000, 64, 64)
    before = psutil.Process().io_counters().read_chars if hasattr(psutil.Process, "io_counters") else None
    with little(megabytes=1):
        assert np.array_equal(volume[2001], page + np.uint8(2001 % 200))
        assert np.array_equal(volume[5:3000:1000, 3], page[None, 3] + np.uint8([[5], [5], [5]]))
    if before is not None:
        assert psutil.Process().io_counters().read_chars - before < 200_000


def test_opening_a_long_tiff_takes_little_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 1000, 1000), "uint8"))
    with little(megabytes=8):
        assert not open_volume(tmp_path / "a.tif")[3, :9].any()


def test_one_slice_of_a_long_folder(tmp_path):
    Image.fromarray(np.ones((32, 32), "uint8")).save(tmp_path / "0.png")
    for z in range(1, 500):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{z}.png")
    volume = open_volume(tmp_path)
    for file in tmp_path.glob("*.png"):
        if file.name != "250.png":
            file.write_bytes(b"")  # read, these would be an error
    assert volume[250].all()


@contextmanager
def without_collector():
    """Files are closed by being closed, not by the garbage collector that passes by some day."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def still_open(folder):
    """Files below a folder that stay open; tensorstore's threads close theirs a moment after the read."""
    until = time.monotonic() + 5
    while paths := [f.path for f in psutil.Process().open_files() if str(folder) in f.path]:
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return paths


@pytest.mark.parametrize("use", [find_volumes, open_volume, open_volumes, lambda path: open_volume(path)[1]])
@pytest.mark.parametrize("name", ["tiff", "ome-tiff", "hdf5", "zarr3", "png-slices", "tiff-slices"])
def test_files_are_closed(name, use, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    write_volume(Volume(numbers((3, 17, 19)), SIZE), target, name)
    with without_collector():
        use(target)
        assert still_open(tmp_path) == []


@pytest.mark.parametrize("shape", [(5, 17, 19, 3), (17, 19), (2, 3, 17, 19)])
def test_files_that_are_refused_are_closed(shape, tmp_path):
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, "uint8"), photometric=photometric)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(shape, "uint8")
    for name in ("a.tif", "a.h5", "a.h5/gone"):
        with without_collector():
            with pytest.raises(EmSegError):
                open_volume(tmp_path / name)
            assert still_open(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_same_file_opened_twice(name, tmp_path, numbers, target_in):
    array, target = numbers((3, 17, 19)), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE), target, name)
    first, second = open_volume(target), open_volume(target)
    del first
    gc.collect()
    assert np.array_equal(second[:], array)


@pytest.mark.parametrize("name", NAMES)
def test_one_find_opened_twice(name, tmp_path, numbers, target_in):
    array, target = numbers((3, 17, 19), "uint16"), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE), target, name)
    (found,) = find_volumes(target)
    first, second = found.open("image"), found.open("labels")
    del first
    gc.collect()
    assert np.array_equal(second[:], array)


@pytest.mark.parametrize("name", NAMES)
def test_parts_outlive_the_volume(name, tmp_path, numbers, target_in):
    array, target = numbers((3, 17, 19), "uint16"), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE), target, name)
    volume = open_volume(target)
    lazy, part = volume.data, volume[1:]
    del volume
    gc.collect()
    assert np.array_equal(lazy[:], array)
    del lazy
    gc.collect()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert np.array_equal(part, array[1:])


def read_in_threads(volume, array):
    def check(seed):
        rng = np.random.default_rng(seed)
        for _ in range(25):
            z, y = rng.integers(0, array.shape[0]), rng.integers(0, array.shape[1] - 8)
            if not np.array_equal(volume[z : z + 3, y : y + 8], array[z : z + 3, y : y + 8]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(check, range(16)))


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_disturb_each_other(name, tmp_path, numbers, target_in):
    array, target = numbers((24, 64, 70), "uint16"), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE), target, name)
    assert read_in_threads(open_volume(target), array)


@pytest.mark.parametrize(
    "options", [{"tile": (16, 16)}, {"compression": "lzw"}, {"rowsperstrip": 3, "compression": "zlib"}]
)
def test_threads_in_foreign_tiff(options, tmp_path, numbers):
    array = numbers((24, 64, 70), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    assert read_in_threads(open_volume(tmp_path / "a.tif"), array)
