"""Bad input of every kind meets one clear error: what came, what was expected, what to do."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import (
    DataError,
    EmSegError,
    FormatError,
    SourceNotFoundError,
    SourcePermissionError,
    TargetExistsError,
)
from napari_em_seg.io import FORMATS, find_volumes, open_volume, open_volumes, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
IN_FILES = ["ome-tiff", "tiff", "hdf5"]
IN_FOLDERS = [n for n in NAMES if n not in IN_FILES]
SIZE = (30, 6, 6)
ENDINGS = sorted({s for f in FORMATS for s in f.suffixes})


@pytest.fixture
def written(tmp_path, numbers, target_in):
    """A volume in every format."""

    def write(name, shape=(5, 7, 9), dtype="uint8"):
        target = target_in(tmp_path, name)
        write_volume(Volume(numbers(shape, dtype), SIZE), target, name)
        return target

    return write


@pytest.mark.parametrize("opener", [open_volume, open_volumes, find_volumes])
@pytest.mark.parametrize("path", ["gone", "gone.tif", "a/b/gone.h5", "gone.zarr/raw", "~/no-such-folder/a.n5"])
def test_a_path_that_is_not_there(path, opener, tmp_path, raises_clearly):
    source = path if path.startswith("~") else tmp_path / path
    with raises_clearly(SourceNotFoundError, Path(path).name, "Check the path"):
        opener(source)


@pytest.mark.parametrize("path", ["", "~no-such-user-here/a.tif", "a\0b.tif", "a" * 3000])
def test_paths_that_cannot_be(path, raises_clearly, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmSegError):
        open_volume(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "content", [b"", b"Dear all,\nthe stack follows.\n", bytes(4096)], ids=["empty", "text", "zeros"]
)
def test_files_that_are_no_volume(content, ending, tmp_path, raises_clearly):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with raises_clearly(FormatError, path, "TIFF, HDF5"):
        open_volume(path)


@pytest.mark.parametrize("ending", [*ENDINGS, ""])
def test_empty_folders(ending, tmp_path, raises_clearly):
    path = tmp_path / f"a{ending}"
    path.mkdir()
    with raises_clearly(ValueError, path):
        open_volume(path)


@pytest.mark.parametrize("ending", [*ENDINGS, ""])
def test_folders_of_junk(ending, tmp_path, raises_clearly):
    path = tmp_path / f"a{ending}"
    (path / "deeper").mkdir(parents=True)
    (path / "notes.txt").write_text("junk")
    (path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    with raises_clearly(ValueError, path):
        open_volume(path)


@pytest.mark.parametrize("wrong", [".tif", ".h5", ".png", ".zarr", ".n5", ".txt", ""])
@pytest.mark.parametrize("name", IN_FILES)
def test_files_are_chosen_by_content(name, wrong, written, numbers):
    path = written(name)
    path = path.rename(path.parent / f"renamed{wrong}")
    assert np.array_equal(open_volume(path)[:], numbers((5, 7, 9)))


@pytest.mark.parametrize("wrong", [".tif", ".h5", ".zarr", ".precomputed", ".slices", ""])
@pytest.mark.parametrize("name", IN_FOLDERS)
def test_folders_are_chosen_by_content(name, wrong, written, numbers):
    path = written(name)
    path = path.rename(path.parent / f"renamed{wrong}")
    assert np.array_equal(open_volume(path)[:], numbers((5, 7, 9)))


@pytest.mark.parametrize("wrong", [".tif", ".h5", ".ome.tif"])
def test_a_png_under_another_name(wrong, written, raises_clearly):
    slice_ = sorted(written("png-slices").glob("*.png"))[0]
    path = slice_.rename(slice_.parent.parent / f"a{wrong}")
    with raises_clearly(FormatError, path):
        open_volume(path)


@pytest.mark.parametrize("name", NAMES)
def test_links(name, written, tmp_path, numbers):
    path = written(name)
    (tmp_path / f"link{path.suffix}").symlink_to(path)
    assert np.array_equal(open_volume(tmp_path / f"link{path.suffix}")[:], numbers((5, 7, 9)))


@pytest.mark.parametrize("ending", [".tif", ".h5", ".zarr", ""])
def test_links_to_nowhere(ending, tmp_path, raises_clearly):
    path = tmp_path / f"link{ending}"
    path.symlink_to(tmp_path / "gone")
    with raises_clearly(SourceNotFoundError, path):
        open_volume(path)


def test_a_slice_that_is_a_link_to_nowhere(written, raises_clearly):
    folder = written("png-slices")
    (folder / "2.png").unlink()
    (folder / "2.png").symlink_to("gone.png")
    with raises_clearly(EmSegError, "2.png"):
        open_volume(folder)


@pytest.mark.parametrize("name", NAMES)
def test_no_permission_to_read(name, written, as_nobody, raises_clearly):
    path = written(name)
    for part in (path, *path.rglob("*")):
        part.chmod(0)
    with as_nobody(), raises_clearly(SourcePermissionError, path, "permi"):
        open_volume(path)


@pytest.mark.parametrize("name", NAMES)
def test_no_permission_for_the_folder_above(name, written, tmp_path, as_nobody, raises_clearly):
    path = written(name)
    (tmp_path / "closed").mkdir()
    path = path.rename(tmp_path / "closed" / path.name)
    (tmp_path / "closed").chmod(0)
    with as_nobody(), raises_clearly(SourcePermissionError, path):
        open_volume(path)


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_no_permission_for_the_data(name, written, as_nobody, raises_clearly):
    """The description may be read, the numbers may not."""
    path = written(name)
    for part in path.rglob("*"):
        if part.is_file() and part.name not in (
            "zarr.json",
            ".zarray",
            ".zgroup",
            ".zattrs",
            "attributes.json",
            "info",
        ):
            part.chmod(0)
    with as_nobody(), raises_clearly(SourcePermissionError, path):
        open_volume(path)[:]


@pytest.mark.parametrize("name", NAMES)
def test_no_permission_to_write(name, tmp_path, as_nobody, raises_clearly, numbers, target_in):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    with as_nobody(), raises_clearly(SourcePermissionError, target_in(folder, name), "another folder"):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), target_in(folder, name), name)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("inner", ["second", "group/second"])
@pytest.mark.parametrize(
    ("name", "ending"), [("hdf5", "h5"), ("ome-zarr", "zarr"), ("zarr2", "zarr"), ("n5", "n5")]
)
def test_no_permission_to_add(name, ending, inner, tmp_path, as_nobody, raises_clearly, numbers):
    root = tmp_path / "closed" / f"a.{ending}"
    root.parent.mkdir()
    write_volume(Volume(numbers((5, 7, 9)), SIZE), root / "first", name)
    for part in (root.parent, root, *root.rglob("*")):
        part.chmod(0o555 if part.is_dir() else 0o444)
    with as_nobody(), raises_clearly(SourcePermissionError, root):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), root / inner, name)
    assert np.array_equal(open_volume(root / "first")[:], numbers((5, 7, 9)))


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_to_write_to_that_is_not_there(name, tmp_path, raises_clearly, numbers, target_in):
    target = target_in(tmp_path / "gone", name)
    with raises_clearly(SourceNotFoundError, tmp_path / "gone", "Create it"):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), target, name)


@pytest.mark.parametrize(
    ("name", "ending"), [("hdf5", "h5"), ("ome-zarr", "zarr"), ("zarr2", "zarr"), ("n5", "n5")]
)
@pytest.mark.parametrize("inner", ["", "/raw", "/group/raw"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_others_keep_under_the_name_is_safe(
    name, ending, inner, overwrite, there, tmp_path, raises_clearly, numbers
):
    """A folder of other things is never replaced, a file only where that is asked for."""
    root = tmp_path / f"a.{ending}"
    precious = root if there == "file" else root / "thesis.txt"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with raises_clearly(EmSegError, root) if there == "file" and not overwrite else suppress(EmSegError):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), f"{root}{inner}", name, overwrite=overwrite)
    assert (there == "file" and overwrite) or precious.read_text() == "years of work"


@pytest.mark.parametrize("name", NAMES)
def test_overwriting_never_removes_a_folder_of_other_things(name, tmp_path, raises_clearly, numbers, target_in):
    target = target_in(tmp_path, name)
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with raises_clearly(EmSegError, target):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), target, name, overwrite=True)
    assert (target / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["ome-tiff", "tiff", "precomputed", "png-slices", "tiff-slices"])
def test_nothing_is_written_inside_what_has_no_inside(name, tmp_path, raises_clearly, numbers, target_in):
    """``stack.tif/raw`` means neither ``stack.tif`` nor anything else."""
    target = target_in(tmp_path, name)
    volume = Volume(numbers((5, 7, 9)), SIZE)
    with raises_clearly(EmSegError, target):
        write_volume(volume, target / "raw", name)
    assert list(tmp_path.iterdir()) == []
    write_volume(volume, target, name)
    with raises_clearly(EmSegError, target):
        write_volume(Volume(numbers((2, 3, 4)), SIZE), target / "raw", name, overwrite=True)
    assert open_volume(target).shape == (5, 7, 9)


@pytest.mark.parametrize("name", ["ome-tiff", "tiff", "precomputed", "png-slices", "tiff-slices"])
def test_nothing_is_read_inside_what_has_no_inside(name, written, raises_clearly):
    path = written(name)
    with raises_clearly((FormatError, SourceNotFoundError), path, "volumes/raw"):
        open_volume(path / "volumes/raw")


@pytest.mark.parametrize("path", ["out", "out.png", "out.nrrd", "out.tif.gz"])
def test_a_target_that_names_no_format(path, tmp_path, raises_clearly, numbers):
    with raises_clearly(FormatError, path, ".tif", "ome-zarr"):
        write_volume(Volume(numbers((5, 7, 9))), tmp_path / path)


def test_a_format_that_does_not_exist(tmp_path, raises_clearly, numbers):
    with raises_clearly(FormatError, "nrrd", "ome-zarr", "tiff"):
        write_volume(Volume(numbers((5, 7, 9))), tmp_path / "a.tif", "nrrd")


def test_a_format_that_contradicts_the_suffix(tmp_path, raises_clearly, numbers):
    """Content decides when reading, so either the format named is written, or one error says no."""
    try:
        write_volume(Volume(numbers((5, 7, 9))), tmp_path / "a.tif", "hdf5")
    except EmSegError:
        assert not (tmp_path / "a.tif").exists()
    else:
        assert np.array_equal(open_volume(tmp_path / "a.tif")[:], numbers((5, 7, 9)))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "png-slices"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_neither_written_nor_read(name, bad, tmp_path, raises_clearly, target_in):
    array = np.zeros((5, 7, 9), "float32")
    array[3, 2, 1] = bad
    target = target_in(tmp_path, name)
    with raises_clearly(DataError, "stack.h5", "NaN", "nan_to_num"):
        write_volume(Volume(array, SIZE, source="stack.h5"), target, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["hdf5", "tiff", "zarr3", "n5", "precomputed"])
def test_float_labels_are_refused(name, written, raises_clearly):
    path = written(name, dtype="float32")
    with raises_clearly(DataError, path, "whole numbers"):
        open_volume(path, "labels")


@pytest.mark.parametrize("name", NAMES)
def test_a_source_that_vanishes_while_open(name, written, raises_clearly):
    """Numbers or one clear error; zeros for what is gone would be silently wrong."""
    path = written(name)
    volume = open_volume(path)
    expected = open_volume(path)[:]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        assert np.array_equal(volume[:], expected)
    except EmSegError:
        with raises_clearly(EmSegError, path):
            volume[:]


@pytest.mark.parametrize("name", NAMES)
def test_existing_targets_are_named(name, written, raises_clearly, numbers):
    path = written(name)
    with raises_clearly(TargetExistsError, path):
        write_volume(Volume(numbers((5, 7, 9)), SIZE), path, name)
