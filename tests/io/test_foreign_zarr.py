"""Zarr, OME-Zarr, N5 and precomputed volumes that others wrote."""

import json

import numpy as np
import pytest
import tensorstore as ts

from napari_em_seg.errors import AmbiguousSourceError, DataError, EmSegError
from napari_em_seg.io import find_volumes, open_volume, open_volumes

zarr = pytest.importorskip("zarr")
codecs = pytest.importorskip("zarr.codecs")
numcodecs = pytest.importorskip("numcodecs")

SHAPE = (9, 20, 30)
V3 = {
    "blosc": {"compressors": codecs.BloscCodec(cname="lz4")},
    "zstd": {"compressors": codecs.ZstdCodec()},
    "gzip": {"compressors": codecs.GzipCodec()},
    "none": {"compressors": None},
    "sharded": {"chunks": (3, 10, 10), "shards": (9, 20, 30)},
    "big-endian": {"serializer": codecs.BytesCodec(endian="big")},
    "transposed": {"filters": codecs.TransposeCodec(order=(2, 1, 0))},
    "v2 keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
}
V2 = {
    "blosc": {"compressors": numcodecs.Blosc(cname="lz4")},
    "zstd": {"compressors": numcodecs.Zstd()},
    "gzip": {"compressors": numcodecs.GZip()},
    "zlib": {"compressors": numcodecs.Zlib()},
    "none": {"compressors": None},
    "Fortran": {"order": "F"},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "c", "type": "channel"},
    *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
]


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize(("version", "options"), [(3, k) for k in V3] + [(2, k) for k in V2])
def test_zarr_python(version, options, tmp_path, numbers):
    array = numbers(SHAPE, "uint16")
    chosen = {"chunks": (4, 8, 8)} | (V3 if version == 3 else V2)[options]
    zarr.create_array(tmp_path / "a.zarr", data=array, zarr_format=version, **chosen)
    volume = open_volume(tmp_path / "a.zarr")
    assert np.array_equal(volume[:], array)
    assert (volume.voxel_size_nm, volume.name) == (None, "a")


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64", ">u2", ">f4"])
@pytest.mark.parametrize("version", [2, 3])
def test_dtypes(version, dtype, tmp_path, numbers):
    array = numbers(SHAPE, dtype)
    zarr.create_array(tmp_path / "a.zarr", data=array, zarr_format=version)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(volume[:], array)


@pytest.mark.parametrize("version", [2, 3])
def test_groups(version, tmp_path, numbers):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    volumes = root.create_group("volumes")
    raw = volumes.create_array("raw", data=numbers(SHAPE))
    raw.attrs["resolution"] = [40, 4, 4]
    volumes.create_group("labels").create_array("neuron_ids", data=numbers(SHAPE, "uint64"))
    root.create_array("points", data=np.zeros((9, 3)))
    assert np.array_equal(open_volume(tmp_path / "a.zarr")[:], numbers(SHAPE))
    assert open_volume(tmp_path / "a.zarr").voxel_size_nm == (40, 4, 4)
    assert np.array_equal(open_volume(tmp_path / "a.zarr", "labels")[:], numbers(SHAPE, "uint64"))
    for inner, name in (("volumes/raw", "raw"), ("volumes/raw/", "raw"), ("volumes/labels", "neuron_ids")):
        assert open_volume(f"{tmp_path}/a.zarr/{inner}").name == name
    assert len(find_volumes(tmp_path / "a.zarr")) == 3


@pytest.mark.filterwarnings("ignore")  # zarr-python warns that strings are not yet in the specification
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "other",
    [
        np.array(["a", "b"]),
        np.zeros(3, [("a", "u1"), ("b", "f4")]),
        np.zeros(3, "complex64"),
        np.zeros(3, "M8[s]"),
    ],
    ids=["strings", "records", "complex", "times"],
)
def test_an_array_of_other_things_does_not_hide_the_volume(version, other, tmp_path, numbers):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    root.create_array("raw", data=numbers(SHAPE))
    root.create_array("other", data=other)
    assert np.array_equal(open_volume(tmp_path / "a.zarr")[:], numbers(SHAPE))


@pytest.mark.parametrize("shape", [(20, 30), (2, 3, 4, 5), (7,), ()])
def test_other_than_three_axes(shape, tmp_path, raises_clearly):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros(shape, "uint8"))
    with raises_clearly(DataError, "a.zarr", "(z, y, x)"):
        open_volume(tmp_path / "a.zarr")


def test_several_candidates_are_listed(tmp_path, numbers, raises_clearly):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name in ("first", "second"):
        root.create_array(name, data=numbers(SHAPE))
    with raises_clearly(AmbiguousSourceError, "first", "second", "9×20×30"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"resolution": [40, 4, 4]}, (40, 4, 4)),
        ({"voxel_size": [40, 4, 4], "units": ["nm", "nm", "nm"]}, (40, 4, 4)),
        ({"resolution": [0.04, 0.004, 0.004], "units": ["um", "um", "um"]}, (40, 4, 4)),
        ({"resolution": [40, 4, 4], "units": ["parsec"] * 3}, None),
        ({"resolution": [40, 4, 4], "units": [1, 2, 3]}, None),
        ({"resolution": [[40], [4, 5], 4]}, None),
        ({"resolution": "abc"}, None),
        ({"resolution": None}, None),
        ({"resolution": [0, 0, 0]}, None),
        ({"kind": "something else"}, None),
        ({"kind": ["a"]}, None),
        ({"ome": []}, None),
        ({"ome": [1]}, None),
        ({"ome": {"multiscales": []}}, None),
    ],
    ids=str,
)
def test_attributes_of_others(attributes, size, tmp_path, numbers):
    zarr.create_array(tmp_path / "a.zarr", data=numbers(SHAPE), attributes=attributes)
    (volume,) = open_volumes(tmp_path / "a.zarr")
    assert volume.voxel_size_nm == (None if size is None else pytest.approx(size))
    assert volume.kind in ("image", "labels")


def ome_zarr(path, levels, version, axes=AXES, whole=None, labels=None, scales=None):
    """An OME-Zarr as the specification has it, made by zarr-python alone."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for i, level in enumerate(levels):
        group.create_array(f"s{i}", data=level)
        n_space = [0.03, 0.006 * 2**i, 0.006 * 2**i] if scales is None else scales[i]
        scale = [1.0] * (len(axes) - 3) + n_space
        transforms = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": [0.0] * len(axes)},
        ]
        datasets.append({"path": f"s{i}", "coordinateTransformations": transforms})
    multiscale = {"axes": axes, "datasets": datasets, "name": "x"}
    if whole is not None:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": whole}]
    metadata = {"multiscales": [multiscale]} | ({} if labels is None else {"image-label": {}})
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **metadata}
    else:
        multiscale["version"] = "0.4"
        group.attrs.update(metadata)
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("n_axes", [3, 4, 5])
def test_ome_zarr(version, n_axes, tmp_path, numbers):
    array = numbers(SHAPE, "uint16")
    lead = (1,) * (n_axes - 3)
    levels = [array.reshape(lead + SHAPE), array[:, ::2, ::2].reshape((*lead, 9, 10, 15))]
    ome_zarr(tmp_path / "a.zarr", levels, version, AXES[5 - n_axes :])
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.shape == SHAPE
    assert np.array_equal(volume[:], array)
    assert volume.voxel_size_nm == pytest.approx((30, 6, 6))
    assert [np.array_equal(level[:], array[:, ::2, ::2]) for level in volume.pyramid] == [True]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_scale_of_the_whole_image_multiplies(version, tmp_path, numbers):
    ome_zarr(tmp_path / "a.zarr", [numbers(SHAPE)], version, AXES[2:], whole=[2.0, 3.0, 3.0])
    assert open_volume(tmp_path / "a.zarr").voxel_size_nm == pytest.approx((60, 18, 18))


@pytest.mark.parametrize("unit", [None, "furlong", 5])
def test_ome_without_a_known_unit(unit, tmp_path, numbers):
    axes = [{"name": axis, "type": "space"} | ({} if unit is None else {"unit": unit}) for axis in "zyx"]
    ome_zarr(tmp_path / "a.zarr", [numbers(SHAPE)], "0.4", axes)
    assert open_volume(tmp_path / "a.zarr").voxel_size_nm is None


@pytest.mark.parametrize("unit", ["angstrom", "nanometer", "micrometer", "millimeter", "meter"])
def test_ome_units(unit, tmp_path, numbers):
    nm = {"angstrom": 0.1, "nanometer": 1, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}[unit]
    axes = [{"name": axis, "type": "space", "unit": unit} for axis in "zyx"]
    ome_zarr(tmp_path / "a.zarr", [numbers(SHAPE)], "0.5", axes, scales=[[30 / nm, 6 / nm, 6 / nm]])
    assert open_volume(tmp_path / "a.zarr").voxel_size_nm == pytest.approx((30, 6, 6))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_ome_labels_group(version, dtype, tmp_path, numbers):
    ome_zarr(tmp_path / "a.zarr", [numbers(SHAPE)[None, None]], version)
    group = zarr.open_group(tmp_path / "a.zarr/labels", mode="w", zarr_format=3 if version == "0.5" else 2)
    group.attrs.update({"ome": {"labels": ["cells"]}} if version == "0.5" else {"labels": ["cells"]})
    ome_zarr(tmp_path / "a.zarr/labels/cells", [numbers(SHAPE, dtype)[None, None]], version, labels=True)
    image, labels = open_volume(tmp_path / "a.zarr"), open_volume(tmp_path / "a.zarr", "labels")
    assert np.array_equal(image[:], numbers(SHAPE))
    assert np.array_equal(labels[:], numbers(SHAPE, dtype))
    assert open_volume(tmp_path / "a.zarr/labels/cells").name == "cells"


@pytest.mark.parametrize(("shape", "came"), [((1, 3, *SHAPE), "1×3×9×20×30"), ((2, 1, *SHAPE), "2×1×9×20×30")])
def test_ome_channels_and_times_are_refused(shape, came, tmp_path, raises_clearly):
    ome_zarr(tmp_path / "a.zarr", [np.zeros(shape, "uint8")], "0.4")
    with raises_clearly(DataError, "a.zarr", came, "channel"):
        open_volume(tmp_path / "a.zarr")


def test_ome_channels_do_not_hide_the_labels(tmp_path, numbers):
    ome_zarr(tmp_path / "a.zarr", [np.zeros((1, 3, *SHAPE), "uint8")], "0.4")
    zarr.open_group(tmp_path / "a.zarr/labels", mode="w", zarr_format=2)
    ome_zarr(tmp_path / "a.zarr/labels/cells", [numbers(SHAPE, "uint32")[None, None]], "0.4", labels=True)
    assert np.array_equal(open_volume(tmp_path / "a.zarr", "labels")[:], numbers(SHAPE, "uint32"))


def test_ome_two_dimensions_are_refused(tmp_path, raises_clearly):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.zeros((20, 30), "uint8"))
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "version": "0.4"}]
    with raises_clearly(DataError, "a.zarr", "20×30", "(z, y, x)"):
        open_volume(tmp_path / "a.zarr")


def test_bioformats2raw_layout(tmp_path, numbers):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    (tmp_path / "a.zarr/OME").mkdir()
    (tmp_path / "a.zarr/OME/METADATA.ome.xml").write_text("<OME/>")
    ome_zarr(tmp_path / "a.zarr/0", [numbers(SHAPE)[None, None]], "0.4")
    assert np.array_equal(open_volume(tmp_path / "a.zarr")[:], numbers(SHAPE))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_written_by_ome_zarr_py(tmp_path, numbers):
    writer = pytest.importorskip("ome_zarr.writer")
    for fmt in ("0.4", "0.5"):
        formats = pytest.importorskip("ome_zarr.format")
        path = tmp_path / f"{fmt}.zarr"
        version = formats.FormatV04() if fmt == "0.4" else formats.FormatV05()
        group = zarr.open_group(path, mode="w", zarr_format=2 if fmt == "0.4" else 3)
        transforms = [[{"type": "scale", "scale": [0.03, 0.006, 0.006]}]]
        axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
        writer.write_multiscale(
            [numbers(SHAPE)], group, axes=axes, coordinate_transformations=transforms, fmt=version
        )
        assert np.array_equal(open_volume(path)[:], numbers(SHAPE))
        assert open_volume(path).voxel_size_nm == pytest.approx((30, 6, 6))


@pytest.mark.parametrize(
    "metadata",
    [
        {"multiscales": "x"},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": []}]},
        {"multiscales": [{"datasets": [{"path": "gone"}], "axes": AXES[2:]}]},
        {"multiscales": [{"datasets": [{"path": "s0"}], "axes": AXES}]},
        {"multiscales": [{"datasets": [{"path": 5}], "axes": AXES[2:]}]},
        {"multiscales": [{"datasets": [{"path": "s0"}], "axes": [{}, {}, {}]}]},
        {"multiscales": [{"datasets": "s0", "axes": 3}]},
        {"multiscales": {"0": 1}},
        {"multiscales": [3]},
        {
            "multiscales": [
                {
                    "datasets": [
                        {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]}
                    ],
                    "axes": AXES[2:],
                }
            ]
        },
        {
            "multiscales": [
                {
                    "datasets": [{"path": "s0", "coordinateTransformations": [{"type": "scale"}]}],
                    "axes": AXES[2:],
                }
            ]
        },
        {"multiscales": [{"datasets": [{"path": "s0", "coordinateTransformations": 5}], "axes": AXES[2:]}]},
    ],
    ids=lambda m: json.dumps(m)[:60],
)
@pytest.mark.parametrize("version", [2, 3])
def test_damaged_ome_metadata(version, metadata, tmp_path, numbers, raises_clearly):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("s0", data=numbers(SHAPE))
    group.attrs.update({"ome": metadata} if version == 3 else metadata)
    try:
        assert np.array_equal(open_volume(tmp_path / "a.zarr")[:], numbers(SHAPE))
    except EmSegError:
        with raises_clearly(EmSegError, "a.zarr"):
            open_volume(tmp_path / "a.zarr")


def n5(path, array, **options):
    metadata = {"blockSize": [8, 8, 4], "compression": options.pop("compression", {"type": "gzip"})}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata | options}
    store = ts.open(spec, create=True, dtype=array.dtype.name, shape=array.T.shape).result()
    store.write(np.ascontiguousarray(array.T)).result()


def note(folder, **attributes):
    """Add attributes to an N5 folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "attributes.json"
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | attributes))


@pytest.mark.parametrize("kind", ["gzip", "raw", "blosc", "bzip2", "xz"])
def test_n5(kind, tmp_path, numbers):
    compression = {"type": kind}
    if kind == "blosc":
        compression |= {"cname": "zstd", "clevel": 3, "shuffle": 1}
    n5(tmp_path / "a.n5/volumes/raw", numbers(SHAPE, "uint16"), compression=compression)
    note(tmp_path / "a.n5", n5="2.0.0")
    note(tmp_path / "a.n5/volumes/raw", pixelResolution={"dimensions": [0.004, 0.005, 0.04], "unit": "um"})
    volume = open_volume(tmp_path / "a.n5")
    assert np.array_equal(volume[:], numbers(SHAPE, "uint16"))
    assert volume.voxel_size_nm == pytest.approx((40, 5, 4))
    assert volume.name == "raw"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float64"])
def test_n5_dtypes_and_no_root_metadata(dtype, tmp_path, numbers):
    n5(tmp_path / "a.n5/raw", numbers(SHAPE, dtype))
    volume = open_volume(tmp_path / "a.n5")
    assert np.array_equal(volume[:], numbers(SHAPE, dtype))
    assert volume.voxel_size_nm is None


def test_n5_array_by_its_own_folder(tmp_path, numbers):
    n5(tmp_path / "raw", numbers(SHAPE))
    volume = open_volume(tmp_path / "raw")
    assert np.array_equal(volume[:], numbers(SHAPE))
    assert volume.name == "raw"


@pytest.mark.parametrize(
    "attributes",
    [
        {"pixelResolution": [1, 2, 3]},
        {"pixelResolution": {"dimensions": ["a", "b", "c"], "unit": "nm"}},
        {"pixelResolution": {"dimensions": [1, 2, 3], "unit": 5}},
        {"pixelResolution": {"dimensions": [1, 2, 3]}},
        {"pixelResolution": {}},
        {"pixelResolution": 4},
        {"kind": 7},
    ],
    ids=str,
)
def test_n5_attributes_of_others(attributes, tmp_path, numbers):
    n5(tmp_path / "a.n5/raw", numbers(SHAPE))
    note(tmp_path / "a.n5/raw", **attributes)
    (volume,) = open_volumes(tmp_path / "a.n5")
    assert volume.voxel_size_nm in (None, (3, 2, 1))
    assert volume.kind in ("image", "labels")


def test_n5_other_than_three_axes(tmp_path, raises_clearly):
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/raw/"}}
    ts.open(spec, create=True, dtype="uint8", shape=(5, 6, 7, 2)).result()
    with raises_clearly(DataError, "a.n5", "2×7×6×5", "(z, y, x)"):
        open_volume(tmp_path / "a.n5")


def precomputed(path, array, resolution=(6.0, 5.0, 30.0), kind="image", **scale):
    """Write a scale with tensorstore; ``array`` is (z, y, x), all else (x, y, z) as in the format."""
    scale = {"size": list(array.T.shape), "resolution": list(resolution), "chunk_size": [8, 8, 4]} | scale
    scale = {"encoding": "raw"} | scale
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {"type": kind, "data_type": array.dtype.name, "num_channels": 1},
        "scale_metadata": scale,
    }
    ts.open(spec, create=True).result()[..., 0].write(np.ascontiguousarray(array.T)).result()


SHARDED = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 2,
    "shard_bits": 1,
    "hash": "identity",
    "data_encoding": "gzip",
    "minishard_index_encoding": "gzip",
}


@pytest.mark.parametrize(
    "scale",
    [
        {},
        {"voxel_offset": [100, -7, 3]},
        {"sharding": SHARDED},
        {"sharding": SHARDED, "voxel_offset": [5, 5, 5]},
        {"encoding": "png"},
    ],
    ids=["plain", "offset", "sharded", "sharded with offset", "png"],
)
def test_precomputed(scale, tmp_path, numbers):
    precomputed(tmp_path / "a", numbers(SHAPE), **scale)
    volume = open_volume(tmp_path / "a")
    assert np.array_equal(volume[:], numbers(SHAPE))
    assert np.array_equal(volume[3, 5:, ::-1], numbers(SHAPE)[3, 5:, ::-1])
    assert (volume.voxel_size_nm, volume.kind) == ((30, 5, 6), "image")


def test_precomputed_segmentation(tmp_path, numbers):
    labels = numbers(SHAPE, "uint64") % 7
    compressed = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    precomputed(tmp_path / "a", labels, kind="segmentation", **compressed)
    (volume,) = open_volumes(tmp_path / "a")
    assert volume.kind == "labels"
    assert np.array_equal(volume[:], labels)


def test_precomputed_jpeg(tmp_path):
    smooth = np.broadcast_to(np.arange(30, dtype="uint8") * 4, SHAPE).copy()
    precomputed(tmp_path / "a", smooth, encoding="jpeg")
    assert np.abs(open_volume(tmp_path / "a")[:].astype(int) - smooth).max() < 6


def test_precomputed_scales(tmp_path, numbers):
    array = numbers(SHAPE)
    precomputed(tmp_path / "a", array)
    precomputed(tmp_path / "a", np.ascontiguousarray(array[:, ::2, ::2]), resolution=(12.0, 10.0, 30.0))
    volume = open_volume(tmp_path / "a")
    assert np.array_equal(volume[:], array)
    assert [np.array_equal(level[:], array[:, ::2, ::2]) for level in volume.pyramid] == [True]


def test_precomputed_channels_are_refused(tmp_path, numbers, raises_clearly):
    precomputed(tmp_path / "a", numbers(SHAPE))
    info = json.loads((tmp_path / "a/info").read_text())
    (tmp_path / "a/info").write_text(json.dumps(info | {"num_channels": 3}))
    with raises_clearly(DataError, "3 channels"):
        open_volume(tmp_path / "a")


def test_precomputed_without_resolution_in_length(tmp_path, numbers, raises_clearly):
    precomputed(tmp_path / "a", numbers(SHAPE))
    info = json.loads((tmp_path / "a/info").read_text())
    for scales in ([], [{}], 5, [info["scales"][0] | {"resolution": [0, 0, 0]}], [{"resolution": "abc"}]):
        (tmp_path / "a/info").write_text(json.dumps(info | {"scales": scales}))
        with raises_clearly(EmSegError, tmp_path / "a"):
            open_volume(tmp_path / "a")


@pytest.mark.parametrize("make", [n5, precomputed], ids=["n5", "precomputed"])
def test_missing_chunks_are_background(make, tmp_path, numbers):
    """Writers leave out chunks of zeros, so a chunk that is not there is no error."""
    array = numbers(SHAPE)
    array[:4, :8, :8] = 0
    make(tmp_path / "a", array)
    assert np.array_equal(open_volume(tmp_path / "a")[:], array)
