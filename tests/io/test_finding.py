"""Which array is meant: names, kinds, paths of every form, folders with misleading names."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_em_seg.errors import AmbiguousSourceError, EmSegError, FormatError
from napari_em_seg.io import FORMATS, Format, find_volumes, open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
CONTAINERS = {
    "hdf5": "h5",
    "ome-zarr": "zarr",
    "ome-zarr-0.4": "zarr",
    "zarr3": "zarr",
    "zarr2": "zarr",
    "n5": "n5",
}
SIZE = (30, 6, 6)


@pytest.fixture
def container(tmp_path, numbers):
    """Several arrays in one container; values tell which is which."""

    def make(name, dtypes, root=None):
        root = root or tmp_path / f"a.{CONTAINERS[name]}"
        for i, (inner, dtype) in enumerate(dtypes.items()):
            array = np.full((3, 4, 5), i + 1, dtype)
            kind = "labels" if array.dtype.kind in "ui" and array.dtype.itemsize > 2 else "image"
            write_volume(Volume(array, SIZE, kind=kind), root / inner, name)
        return root

    return make


@pytest.mark.parametrize("name", CONTAINERS)
def test_cremi_names_come_first(name, container):
    dtypes = {
        "other": "uint8",
        "volumes/raw": "uint8",
        "more_ids": "uint64",
        "volumes/labels/neuron_ids": "uint64",
    }
    root = container(name, dtypes)
    assert (open_volume(root)[0, 0, 0], open_volume(root, "labels")[0, 0, 0]) == (2, 4)


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_only_one_of_its_kind(name, container):
    root = container(name, {"stuff": "uint8", "things": "uint64"})
    assert (open_volume(root)[0, 0, 0], open_volume(root, "labels")[0, 0, 0]) == (1, 2)
    assert {v.name: v.kind for v in open_volumes(root)} == {"stuff": "image", "things": "labels"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_several_are_an_error_that_lists_them(name, container, raises_clearly):
    root = container(name, {"one": "uint8", "deep/two": "float32", "three": "uint64"})
    with raises_clearly(AmbiguousSourceError, root, "one", "deep/two", "3×4×5", f"{root}/") as caught:
        open_volume(root)
    assert "three" not in str(caught.value).split("Expected")[0]
    assert open_volume(root / "deep")[0, 0, 0] == 2
    assert open_volume(root / "deep/two")[0, 0, 0] == 2


@pytest.mark.parametrize("name", CONTAINERS)
def test_none_of_the_kind_lists_what_there_is(name, container, raises_clearly):
    root = container(name, {"one": "uint8", "two": "float32"})
    with raises_clearly(AmbiguousSourceError, root, "one", "two", "label"):
        open_volume(root, "labels")


@pytest.mark.parametrize("name", CONTAINERS)
def test_nothing_at_the_path_inside(name, container, raises_clearly):
    root = container(name, {"volumes/raw": "uint8"})
    for inner in ("volumes/rwa", "gone", "volumes/raw/gone", "gone/raw"):
        with raises_clearly((FormatError, FileNotFoundError), inner.rpartition("/")[2], "raw"):
            open_volume(root / inner)


def test_numbers_decide_the_kind_and_names_help(tmp_path):
    for i, (inner, dtype, kind) in enumerate(
        [
            ("a", "uint8", "image"),
            ("raw", "uint16", "image"),
            ("boundary", "float32", "image"),
            ("neuron_ids", "uint16", "labels"),
            ("gt", "uint8", "labels"),
            ("volumes/labels/clefts", "uint8", "labels"),
            ("x", "uint64", "labels"),
            ("mask", "bool", "labels"),
            ("images/valid", "uint8", "image"),  # "id" within a word says nothing
            ("labels/mean", "float32", "image"),
        ]
    ):
        path = tmp_path / f"{i}.h5"
        with h5py.File(path, "w") as file:  # ours would state the kind
            file[inner] = np.ones((2, 3, 4), dtype)
        assert [f.kind for f in find_volumes(path)] == [kind], inner


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "folder", ["plain", "my data ü 数", "my.data.v2", "old.zarr", "old.n5", "a.h5", "x.tif", "v.precomputed"]
)
def test_folders_with_any_name(folder, name, tmp_path, numbers, target_in):
    (tmp_path / folder).mkdir()
    target = target_in(tmp_path / folder, name)
    write_volume(Volume(numbers((3, 4, 5)), SIZE), target, name)
    assert np.array_equal(open_volume(target)[:], numbers((3, 4, 5)))
    write_volume(Volume(numbers((3, 4, 6)), SIZE), target.with_name(f"ünï {target.name}"))  # by suffix alone
    assert open_volume(target.with_name(f"ünï {target.name}")).shape == (3, 4, 6)


@pytest.mark.parametrize("form", [str, Path, lambda p: f"{p}/", lambda p: f"{p.parent}/./{p.name}", os.fspath])
@pytest.mark.parametrize("name", ["tiff", "hdf5", "zarr3", "n5", "precomputed", "png-slices"])
def test_forms_of_a_path(name, form, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    write_volume(Volume(numbers((3, 4, 5)), SIZE), form(target), name)
    assert np.array_equal(open_volume(form(target))[:], numbers((3, 4, 5)))


@pytest.mark.parametrize("name", ["tiff", "hdf5", "zarr3", "n5", "precomputed", "png-slices"])
def test_relative_to_here_and_to_home(name, tmp_path, numbers, target_in, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    target = target_in(tmp_path, name).name
    write_volume(Volume(numbers((3, 4, 5)), SIZE), target, name)
    volumes = [open_volume(target), open_volume(f"./{target}"), open_volume(f"~/{target}")]
    write_volume(Volume(numbers((3, 4, 5)), SIZE), f"~/again{target}", name)
    volumes.append(open_volume(f"again{target}"))
    monkeypatch.chdir("/")  # what is open stays open
    for volume in volumes:
        assert np.array_equal(volume[:], numbers((3, 4, 5)))


@pytest.mark.parametrize("name", CONTAINERS)
def test_forms_of_a_path_inside(name, container, monkeypatch):
    root = container(name, {"volumes/raw": "uint8", "volumes/other": "uint8"})
    monkeypatch.chdir(root.parent)
    for path in (
        f"{root.name}/volumes/raw",
        f"{root}/volumes/raw/",
        f"{root}//volumes/raw",
        root / "volumes/raw",
    ):
        volume = open_volume(path)
        assert volume[0, 0, 0] == 1
        assert volume.name == "raw"
        assert volume.source.endswith(f"{root.name}/volumes/raw")


@pytest.mark.parametrize("inner", ["../outside", "a/../../outside", "/../outside"])
@pytest.mark.parametrize("name", ["zarr3", "n5", "hdf5"])
def test_a_path_inside_stays_inside(name, inner, container, tmp_path):
    """Or means what the file system means by it; but no stray folders."""
    root = container(name, {"raw": "uint8"})
    try:
        write_volume(Volume(np.ones((3, 4, 5), "uint8")), f"{root}/{inner}", name)
    except EmSegError:
        assert sorted(p.name for p in tmp_path.iterdir()) == [root.name]
    assert open_volume(root / "raw")[0, 0, 0] == 1


@pytest.mark.parametrize("name", ["zarr3", "zarr2", "n5"])
def test_a_folder_of_arrays_that_is_itself_an_array_below(name, container, tmp_path):
    root = container(name, {"a/b/c/raw": "uint8"})
    for inner in ("", "a", "a/b", "a/b/c", "a/b/c/raw"):
        assert open_volume(root / inner)[0, 0, 0] == 1


def test_a_folder_of_containers(container, tmp_path):
    for name, ending in (("zarr3", "zarr"), ("n5", "n5"), ("hdf5", "h5")):
        container(name, {"raw": "uint8"}, tmp_path / f"x.{ending}")
    with pytest.raises(EmSegError) as caught:
        open_volume(tmp_path / "y.zarr")
    assert "y.zarr" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "format_name"),
    [
        ("a.TIF", "tiff"),
        ("a.tiff", "tiff"),
        ("a.ome.tif", "ome-tiff"),
        ("a.OME.TIFF", "ome-tiff"),
        ("a.h5", "hdf5"),
        ("a.hdf5", "hdf5"),
        ("a.hdf", "hdf5"),
        ("a.zarr", "zarr"),
        ("a.ome.zarr", "zarr"),
        ("a.n5", "n5"),
        ("a.precomputed", "precomputed"),
        ("a.slices", "slices"),
    ],
)
def test_the_suffix_names_the_format(path, format_name, tmp_path, numbers):
    write_volume(Volume(numbers((3, 4, 5)), SIZE), tmp_path / path)
    assert (tmp_path / path).exists()
    recognised = [f.name for f in FORMATS if f.recognises(tmp_path / path)]
    assert any(format_name in r for r in recognised)
    assert np.array_equal(open_volume(tmp_path / path)[:], numbers((3, 4, 5)))


def test_formats_are_told_apart(tmp_path, numbers, target_in):
    """What one reader recognises, no reader of another kind does."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        target = target_in(tmp_path / name, name)
        write_volume(Volume(numbers((3, 4, 5)), SIZE), target, name)
        readers = {f.find for f in FORMATS if f.recognises(target)}
        assert readers == {next(f.find for f in FORMATS if f.name == name)}


def test_format_names_are_unique():
    assert len({f.name for f in FORMATS}) == len(FORMATS)
    assert all(isinstance(f, Format) and f.title for f in FORMATS)
