"""HDF5 files that others wrote."""

import h5py
import numpy as np
import pytest

from napari_em_seg.errors import AmbiguousSourceError, DataError, FormatError
from napari_em_seg.io import find_volumes, open_volume, open_volumes


@pytest.fixture
def cremi(tmp_path, numbers):
    """A file as CREMI gives them."""
    with h5py.File(tmp_path / "sample_A.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", data=numbers((5, 6, 7)), compression="gzip")
        ids = file.create_dataset("volumes/labels/neuron_ids", data=numbers((5, 6, 7), "uint64"))
        clefts = file.create_dataset("volumes/labels/clefts", data=numbers((5, 6, 7), "uint64", seed=1))
        for dataset in (raw, ids, clefts):
            dataset.attrs["resolution"] = (40.0, 4.0, 4.0)
            dataset.attrs["offset"] = (0.0, 0.0, 0.0)
        file["annotations/locations"] = np.zeros((9, 3))
        file["annotations/types"] = np.array([b"pre", b"post"])
        file.attrs["file_format"] = "0.2"
    return tmp_path / "sample_A.hdf"


def test_cremi(cremi, numbers):
    raw, ids = open_volume(cremi), open_volume(cremi, "labels")
    assert np.array_equal(raw[:], numbers((5, 6, 7)))
    assert np.array_equal(ids[:], numbers((5, 6, 7), "uint64"))
    assert raw.voxel_size_nm == ids.voxel_size_nm == (40, 4, 4)
    assert (raw.kind, raw.name, ids.kind, ids.name) == ("image", "raw", "labels", "neuron_ids")
    clefts = open_volume(f"{cremi}/volumes/labels/clefts")
    assert np.array_equal(clefts[:], numbers((5, 6, 7), "uint64", seed=1))
    assert [v.name for v in open_volumes(cremi)] == ["clefts", "neuron_ids", "raw"]


def test_a_group_is_searched(cremi):
    assert open_volume(cremi / "volumes").name == "raw"
    assert open_volume(cremi / "volumes/labels", "labels").name == "neuron_ids"


def test_a_path_that_is_not_inside_lists_what_is(cremi, raises_clearly):
    for inner in ("volumes/rwa", "nothing", "volumes/raw/below"):
        with raises_clearly(FormatError, cremi, inner, "volumes/raw", "volumes/labels/neuron_ids"):
            open_volume(cremi / inner)


def test_a_dataset_that_is_no_stack(cremi, raises_clearly):
    for inner in ("annotations/locations", "annotations/types", "annotations"):
        with raises_clearly(DataError, cremi, "locations" if inner != "annotations/types" else "types"):
            open_volume(cremi / inner)


@pytest.mark.parametrize("options", [{"chunks": (2, 3, 3)}, {"compression": "lzf"}, {"shuffle": True}, {}])
@pytest.mark.parametrize("dtype", [">u2", "<f4", "uint64", "bool", "float16"])
def test_storage(options, dtype, tmp_path, numbers):
    array = numbers((5, 6, 7), dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=array, **options)
    again = open_volume(tmp_path / "a.h5")
    assert again.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(again[:], array)
    assert again.voxel_size_nm is None


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("resolution", np.array([30, 6, 6]), (30, 6, 6)),
        ("resolution", np.array([[30.0], [6.0], [6.0]]), (30, 6, 6)),
        ("element_size_um", (0.03, 0.006, 0.006), (30, 6, 6)),
        ("resolution", (30.0, 6.0), None),
        ("resolution", 30.0, None),
        ("resolution", "30 6 6", None),
        ("resolution", ["a", "b", "c"], None),
        ("resolution", (0.0, 0.0, 0.0), None),
        ("resolution", (np.nan, 6.0, 6.0), None),
        ("resolution", (30.0, np.nan, 6.0), None),
        ("resolution", (30.0, 6.0, np.inf), None),
        ("resolution", (-30.0, 6.0, 6.0), None),
    ],
)
def test_voxel_size_is_read_or_unknown(attribute, value, expected, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((2, 3, 4), "uint8")).attrs[attribute] = value
    size = open_volume(tmp_path / "a.h5").voxel_size_nm
    assert size == (None if expected is None else pytest.approx(expected))


def test_user_block_before_the_signature(tmp_path, numbers):
    with h5py.File(tmp_path / "matlab.mat", "w", userblock_size=512) as file:
        file["x"] = numbers((3, 4, 5))
    assert np.array_equal(open_volume(tmp_path / "matlab.mat")[:], numbers((3, 4, 5)))


def test_several_candidates_are_listed(tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"] = np.zeros((3, 4, 5), "uint8")
        file["second"] = np.zeros((3, 4, 5), "float32")
        file["ids"] = np.zeros((3, 4, 5), "uint64")
    with raises_clearly(AmbiguousSourceError, "first", "second", "3×4×5", "a.h5/first"):
        open_volume(tmp_path / "a.h5")
    assert open_volume(tmp_path / "a.h5", "labels").name == "ids"
    assert {f.location.inner: f.kind for f in find_volumes(tmp_path / "a.h5")} == {
        "first": "image",
        "second": "image",
        "ids": "labels",
    }


def test_raw_alone_is_not_taken_for_truth(tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = np.zeros((3, 4, 5), "uint8")
    with raises_clearly(ValueError, "a.h5"):
        open_volume(tmp_path / "a.h5", "labels")


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 5), "uint8"),
        np.zeros((2, 3, 4, 5), "uint8"),
        np.float32(3),
        np.zeros((2, 3, 4), "complex64"),
        np.zeros((2, 3, 4), "S3"),
        np.zeros((2, 3, 4), [("a", "u1"), ("b", "f4")]),
        h5py.Empty("f4"),
        "text",
    ],
    ids=["2-D", "4-D", "scalar", "complex", "bytes", "compound", "empty", "text"],
)
def test_arrays_that_are_no_stack(data, tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["only_one"] = data
    with raises_clearly(DataError, "a.h5", "only_one", "(z, y, x)"):
        open_volume(tmp_path / "a.h5")


def test_no_arrays_at_all(tmp_path, raises_clearly):
    h5py.File(tmp_path / "a.h5", "w").close()
    with raises_clearly(DataError, "a.h5", "holds no arrays"):
        open_volume(tmp_path / "a.h5")


def test_an_empty_stack(tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((0, 4, 5), "uint8")
    with raises_clearly(DataError, "a.h5", "empty"):
        open_volume(tmp_path / "a.h5")


def test_links_inside(tmp_path, numbers):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = numbers((3, 4, 5))
        file["soft"] = h5py.SoftLink("/x")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("gone.h5", "/x")
    assert open_volume(tmp_path / "a.h5").name == "x"
    assert np.array_equal(open_volume(tmp_path / "a.h5/soft")[:], numbers((3, 4, 5)))


@pytest.mark.parametrize("inner", ["dangling", "outside"])
def test_links_to_nowhere(inner, tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((3, 4, 5), "uint8")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("gone.h5", "/x")
    with raises_clearly(ValueError, "a.h5", inner):
        open_volume(tmp_path / "a.h5" / inner)


def test_a_filter_that_is_not_installed(tmp_path, raises_clearly):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        dcpl.set_chunk((1, 4, 5))
        dcpl.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((3, 4, 5))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, dcpl)
        dataset.write_direct_chunk((0, 0, 0), bytes(20), 0)
    with raises_clearly(FormatError, "a.h5"):
        open_volume(tmp_path / "a.h5")[:]
