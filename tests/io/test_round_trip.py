"""What is written is read again: numbers, dtype, voxel size and kind, in every format."""

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.io import FORMATS, find_volumes, open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
SIZE = (30.0, 6.0, 5.5)
IMAGES = ("uint8", "uint16", "int16", "float32", "float64")
LABELS = ("uint8", "uint16", "uint32", "int32", "uint64", "int64", "bool")
WIDE = {"int64", "uint64", "int32", "uint32", "float64", "float32", "int16"}
REFUSES = {
    "ome-tiff": {"uint64", "int64", "bool"},
    "n5": {"bool"},
    "precomputed": {"bool", "int16", "int32", "int64", "float64"},
    "png-slices": WIDE,
}
HOLDS_NO_KIND = {"ome-tiff", "tiff", "hdf5"}
CONTAINERS = ["hdf5", "ome-zarr", "ome-zarr-0.4", "zarr3", "zarr2", "n5"]
INNER = {"hdf5": ".h5", "n5": ".n5"}


@pytest.mark.parametrize("dtype", [*IMAGES, *LABELS])
@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_dtype(name, size, dtype, tmp_path, numbers, target_in, raises_clearly):
    kind = "image" if dtype in IMAGES[2:] else "labels"
    array, target = numbers((5, 7, 9), dtype), target_in(tmp_path, name)
    volume = Volume(array, size, kind=kind, source="the source")
    if dtype in REFUSES.get(name, ()) or (name == "precomputed" and size is None):
        with raises_clearly(DataError, "the source"):
            write_volume(volume, target, name)
        assert list(tmp_path.iterdir()) == []
        return
    write_volume(volume, target, name)
    again = open_volume(target, kind)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again[:], array)
    assert again.voxel_size_nm == (None if size is None else pytest.approx(size, rel=1e-6))
    assert again.source.startswith(str(target))
    assert [f.name for f in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_a_format_says_which_labels_it_holds(format_, dtype) -> None:
    assert format_.holds_labels(np.dtype(dtype)) is (dtype not in REFUSES.get(format_.name, ()))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "image"), ("uint16", "image"), ("float32", "image"), ("uint32", "labels"), ("uint64", "labels")],
)
@pytest.mark.parametrize("name", NAMES)
def test_kind_is_found_again(name, dtype, kind, tmp_path, numbers, target_in):
    if dtype in REFUSES.get(name, ()):
        pytest.skip("not held by this format")
    target = target_in(tmp_path, name)
    write_volume(Volume(numbers((3, 4, 5), dtype), SIZE, kind=kind), target, name)
    assert [v.kind for v in open_volumes(target)] == [kind]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in HOLDS_NO_KIND])
def test_labels_of_8_bits_stay_labels(name, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    write_volume(Volume(numbers((3, 4, 5)), SIZE, kind="labels"), target, name)
    assert [v.kind for v in open_volumes(target)] == ["labels"]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {*HOLDS_NO_KIND, "png-slices"}])
def test_images_of_32_bits_stay_images(name, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    write_volume(Volume(numbers((3, 4, 5), "uint32"), SIZE), target, name)
    assert [v.kind for v in open_volumes(target)] == ["image"]


@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 1, 9), (5, 7, 1), (1, 1, 9), (1, 7, 1), (5, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_axes_of_length_one(name, shape, tmp_path, numbers, target_in):
    array, target = numbers(shape), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE), target, name)
    again = open_volume(target)
    assert again.shape == shape
    assert np.array_equal(again[:], array)
    assert np.array_equal(again[0], array[0])


@pytest.mark.parametrize("name", ["tiff", "ome-tiff", "tiff-slices"])
def test_one_slice_in_every_kind_of_tiff(name, tmp_path, numbers, target_in):
    for dtype in ("uint8", "float64"):
        array, target = numbers((1, 7, 9), dtype), target_in(tmp_path, name)
        write_volume(Volume(array, SIZE), target, name, overwrite=True)
        assert open_volume(target).shape == array.shape


@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("name", NAMES)
def test_larger_than_a_chunk(name, kind, tmp_path, numbers, target_in):
    array, target = numbers((17, 300, 260), "uint16"), target_in(tmp_path, name)
    write_volume(Volume(array, SIZE, kind=kind), target, name)
    again = open_volume(target, kind)
    assert np.array_equal(again[:], array)
    assert np.array_equal(again[7:9, 250:270, 100:], array[7:9, 250:270, 100:])


@pytest.mark.parametrize("size", [None, (30.0, 4.0, 4.0), (8.0, 8.0, 8.0)])
@pytest.mark.parametrize("name", ["ome-zarr", "ome-zarr-0.4", "precomputed"])
def test_coarser_levels(name, size, tmp_path, numbers, target_in):
    if name == "precomputed" and size is None:
        pytest.skip("precomputed volumes need a voxel size")
    labels, target = numbers((9, 30, 1101), "uint32"), target_in(tmp_path, name)
    write_volume(Volume(labels, size, kind="labels"), target, name)
    again = open_volume(target, "labels")
    assert np.array_equal(again[:], labels)
    assert len(again.pyramid) >= 1
    for finer, coarser in zip((again, *again.pyramid), again.pyramid, strict=False):
        assert coarser.dtype == labels.dtype
        factors = [round(f / c) for f, c in zip(finer.shape, coarser.shape, strict=True)]
        assert coarser.shape == tuple(-(-n // f) for n, f in zip(finer.shape, factors, strict=True))
        assert factors[1:] == [2, 2]
        assert np.isin(coarser[:], labels).all()
        assert coarser[0, 0, 0] == labels[0, 0, 0]
    n_in_plane = again.pyramid[0].shape[0]
    assert n_in_plane == (5 if size == (8.0, 8.0, 8.0) else 9)


@pytest.mark.parametrize("name", ["ome-zarr", "ome-zarr-0.4", "precomputed"])
def test_coarser_levels_of_an_image_are_means(name, tmp_path, target_in):
    image = np.zeros((2, 4, 1100), "uint8")
    image[:, ::2] = 200
    write_volume(Volume(image, SIZE), target_in(tmp_path, name), name)
    coarse = open_volume(target_in(tmp_path, name)).pyramid[0]
    assert coarse.shape == (2, 2, 550)
    assert (coarse[:] == 100).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
        lambda a: a[::-1].copy()[::-1],
    ],
    ids=["big-endian", "Fortran order", "not contiguous", "reversed"],
)
@pytest.mark.parametrize("name", NAMES)
def test_arrays_in_other_memory_orders(name, make, tmp_path, numbers, target_in):
    array, target = numbers((5, 7, 9), "uint16"), target_in(tmp_path, name)
    write_volume(Volume(make(array), SIZE), target, name)
    assert np.array_equal(open_volume(target)[:], array)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)),
    name=st.sampled_from([n for n in NAMES if "tiff" not in n]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    size=st.tuples(*[st.floats(1e-3, 1e6)] * 3),
)
def test_any_shape_and_voxel_size(shape, name, dtype, size, tmp_path_factory, numbers, target_in):
    array, target = numbers(shape, dtype), target_in(tmp_path_factory.mktemp("any"), name)
    write_volume(Volume(array, size, kind="labels"), target, name)
    again = open_volume(target, "labels")
    assert np.array_equal(again[:], array)
    assert again.voxel_size_nm == pytest.approx(size, rel=1e-6)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=st.tuples(*[st.floats(0.01, 1e5)] * 3), dtype=st.sampled_from(["uint8", "uint32"]))
def test_any_voxel_size_in_tiff(size, dtype, tmp_path_factory, numbers):
    for name in ("a.tif", "a.ome.tif"):
        target = tmp_path_factory.mktemp("any") / name
        write_volume(Volume(numbers((2, 3, 4), dtype), size), target)
        assert open_volume(target).voxel_size_nm == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_is_compressed(name, tmp_path, target_in):
    target = target_in(tmp_path, name)
    kind, dtype = ("labels", "uint16") if name == "png-slices" else ("labels", "uint32")
    write_volume(Volume(np.ones((16, 256, 256), dtype), SIZE, kind=kind), target, name)
    files = [target] if target.is_file() else [f for f in target.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 16 * 256 * 256 * np.dtype(dtype).itemsize / 8


def test_precomputed_small_labels_and_images_are_compressed_losslessly(tmp_path):
    for kind in ("image", "labels"):
        target = tmp_path / f"{kind}.precomputed"
        write_volume(Volume(np.ones((16, 256, 256), "uint8"), SIZE, kind=kind), target)
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
        assert size < 16 * 256 * 256 / 8


@pytest.mark.parametrize("name", NAMES)
def test_progress_counts_up_to_all_slices(name, tmp_path, numbers, target_in):
    seen = []
    write_volume(
        Volume(numbers((17, 5, 6)), SIZE), target_in(tmp_path, name), name, progress=lambda *at: seen.append(at)
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == (17, 17)


@pytest.mark.parametrize("name", NAMES)
def test_overwriting_needs_to_be_said(name, tmp_path, numbers, target_in, raises_clearly):
    target = target_in(tmp_path, name)
    first, second = numbers((5, 7, 9)), numbers((6, 5, 4), "uint16", seed=1)
    write_volume(Volume(first, SIZE), target, name)
    with raises_clearly(TargetExistsError, target.name, "--overwrite"):
        write_volume(Volume(second, SIZE), target, name)
    assert np.array_equal(open_volume(target)[:], first)

    write_volume(Volume(second, SIZE), target, name, overwrite=True)
    again = open_volume(target)
    assert again.dtype == "uint16"
    assert np.array_equal(again[:], second)
    assert [f.name for f in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_after_overwriting_is_new(name, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    for seed in range(3):  # same shape and dtype: a cache could answer
        array = numbers((5, 7, 9), seed=seed)
        write_volume(Volume(array, SIZE), target, name, overwrite=True)
        assert np.array_equal(open_volume(target)[:], array)


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_may_replace_itself(name, tmp_path, numbers, target_in):
    array, target = numbers((5, 7, 9)), target_in(tmp_path, name)
    write_volume(Volume(array), target, name) if name != "precomputed" else write_volume(
        Volume(array, (1, 1, 1)), target, name
    )
    write_volume(open_volume(target).with_voxel_size(SIZE), target, name, overwrite=True)
    again = open_volume(target)
    assert np.array_equal(again[:], array)
    assert again.voxel_size_nm == pytest.approx(SIZE, rel=1e-6)


@pytest.mark.parametrize("name", CONTAINERS)
def test_several_arrays_in_one_container(name, tmp_path, numbers):
    root = tmp_path / f"cells{INNER.get(name, '.zarr')}"
    arrays = {
        "volumes/raw": numbers((4, 6, 8)),
        "volumes/labels/neuron_ids": numbers((4, 6, 8), "uint64"),
        "boundary": numbers((2, 3, 4), "float32"),
    }
    for inner, array in arrays.items():
        write_volume(
            Volume(array, SIZE, kind="labels" if array.dtype == "uint64" else "image"), root / inner, name
        )
    for inner, array in arrays.items():
        again = open_volume(root / inner, "labels" if array.dtype == "uint64" else "image")
        assert np.array_equal(again[:], array)
        assert again.voxel_size_nm == SIZE
    assert {f.location.inner for f in find_volumes(root)} == set(arrays)
    assert np.array_equal(open_volume(root, "labels")[:], arrays["volumes/labels/neuron_ids"])
    assert np.array_equal(open_volume(root)[:], arrays["volumes/raw"])  # the CREMI name comes first


@pytest.mark.parametrize("name", CONTAINERS)
def test_overwriting_one_array_leaves_the_others(name, tmp_path, numbers, raises_clearly):
    root = tmp_path / f"cells{INNER.get(name, '.zarr')}"
    raw, labels = numbers((4, 6, 8)), numbers((4, 6, 8), "uint64")
    write_volume(Volume(raw, SIZE), root / "raw", name)
    write_volume(Volume(labels, SIZE, kind="labels"), root / "labels", name)
    with raises_clearly(TargetExistsError, "cells", "labels"):
        write_volume(Volume(labels, SIZE, kind="labels"), root / "labels", name)
    write_volume(Volume(labels[::-1], SIZE, kind="labels"), root / "labels", name, overwrite=True)
    assert np.array_equal(open_volume(root / "labels", "labels")[:], labels[::-1])
    assert np.array_equal(open_volume(root / "raw")[:], raw)


@pytest.mark.parametrize("name", ["hdf5", "n5"])
def test_overwriting_by_the_default_name_leaves_the_others(name, tmp_path, numbers):
    root = tmp_path / f"cells{INNER[name]}"
    raw, labels = numbers((4, 6, 8)), numbers((4, 6, 8), "uint64")
    write_volume(Volume(raw, SIZE), root)
    for flag in (False, True):
        write_volume(Volume(labels, SIZE, kind="labels"), root, overwrite=flag)
    assert np.array_equal(open_volume(root)[:], raw)
    assert np.array_equal(open_volume(root, "labels")[:], labels)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("place", ["volumes", "volumes/raw/inside"], ids=["a group", "below an array"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_arrays_are_not_lost_to_a_group_of_the_same_name(
    name, place, overwrite, tmp_path, numbers, raises_clearly
):
    root, raw = tmp_path / f"cells{INNER.get(name, '.zarr')}", numbers((4, 6, 8))
    write_volume(Volume(raw, SIZE), root / "volumes/raw", name)
    with raises_clearly():
        write_volume(Volume(raw[::-1], SIZE), root / place, name, overwrite=overwrite)
    assert np.array_equal(open_volume(root / "volumes/raw")[:], raw)


def test_hdf5_does_not_grow_when_overwritten(tmp_path, numbers):
    target, volume = tmp_path / "a.h5", Volume(numbers((8, 64, 64)), SIZE)
    write_volume(volume, target)
    size = target.stat().st_size
    for _ in range(4):
        write_volume(volume, target, overwrite=True)
    assert target.stat().st_size < 1.5 * size


@pytest.mark.parametrize("name", ["ome-zarr", "ome-zarr-0.4", "zarr3", "zarr2"])
def test_zarr_python_reads_what_we_write(name, tmp_path, numbers):
    zarr = pytest.importorskip("zarr")
    raw, labels = numbers((9, 20, 30)), numbers((9, 20, 30), "uint64")
    write_volume(Volume(raw, SIZE), tmp_path / "a.zarr/raw", name)
    write_volume(Volume(labels, SIZE, kind="labels"), tmp_path / "a.zarr/seg/ids", name)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    level = "/0" if name.startswith("ome") else ""
    assert np.array_equal(group[f"raw{level}"][:], raw)
    assert np.array_equal(group[f"seg/ids{level}"][:], labels)
    assert group.metadata.zarr_format == (2 if name in ("zarr2", "ome-zarr-0.4") else 3)


def test_a_group_of_zarr_2_stays_one_that_others_read(tmp_path, numbers):
    zarr = pytest.importorskip("zarr")
    raw, labels = numbers((4, 5, 6)), numbers((4, 5, 6), "uint64")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("raw", data=raw)
    write_volume(Volume(labels, SIZE, kind="labels"), tmp_path / "a.zarr/labels")
    assert set(zarr.open_group(tmp_path / "a.zarr", mode="r").keys()) == {"raw", "labels"}


@pytest.mark.parametrize(("name", "version"), [("ome-zarr", "0.5"), ("ome-zarr-0.4", "0.4")])
def test_ome_metadata_is_valid(name, version, tmp_path, numbers):
    models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}")
    zarr = pytest.importorskip("zarr")
    write_volume(Volume(numbers((3, 20, 1030)), SIZE), tmp_path / "a.zarr", name)
    image = models.Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    multiscale = (image.attributes.ome if version == "0.5" else image.attributes).multiscales[0]
    scales = [d.coordinateTransformations[0].scale for d in multiscale.datasets]
    assert scales == [[30.0, 6.0, 5.5], [30.0, 12.0, 11.0], [30.0, 24.0, 22.0]]
    assert {axis.unit for axis in multiscale.axes} == {"nanometer"}


def test_tifffile_sees_axes_and_units(tmp_path, numbers):
    tifffile = pytest.importorskip("tifffile")
    for name in ("a.tif", "a.ome.tif"):
        write_volume(Volume(numbers((3, 5, 6)), SIZE), tmp_path / name)
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.series[0].axes == "ZYX"
            if file.is_imagej:
                assert file.imagej_metadata["spacing"] == 30
                assert file.imagej_metadata["unit"] == "nm"
            else:
                assert 'PhysicalSizeZ="30.0"' in file.ome_metadata


def test_tensorstore_sees_axes_and_units(tmp_path, numbers):
    array = numbers((3, 5, 6))
    write_volume(Volume(array, SIZE), tmp_path / "a.n5/raw")
    store = ts.open({"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/raw/"}}).result()
    assert np.array_equal(store.read().result().T, array)
    write_volume(Volume(array, SIZE), tmp_path / "a.precomputed")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a.precomputed/"},
    }
    store = ts.open(spec).result()
    assert store.shape == (6, 5, 3, 1)
    assert store.dimension_units[:3] == (ts.Unit("5.5 nm"), ts.Unit("6 nm"), ts.Unit("30 nm"))
