"""TIFF files that others wrote: ImageJ, OME, tifffile, Pillow."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_em_seg.errors import DataError
from napari_em_seg.io import open_volume

NM = pytest.approx((30, 6, 5.5), rel=1e-5)


@pytest.fixture
def stack(numbers):
    return numbers((5, 37, 41), "uint16")


def imagej(path, array, unit, **metadata):
    per_nm = {"nm": 1, "micron": 1e3, "um": 1e3, "µm": 1e3, "\\u00B5m": 1e3, "mm": 1e6}.get(unit, 1)
    metadata = {"spacing": 30 / per_nm, "unit": unit, "axes": "ZYX"} | metadata
    tifffile.imwrite(path, array, imagej=True, resolution=(per_nm / 5.5, per_nm / 6), metadata=metadata)


@pytest.mark.parametrize("unit", ["nm", "micron", "um", "\\u00B5m", "mm"])
def test_imagej_units(unit, tmp_path, stack):
    imagej(tmp_path / "a.tif", stack, unit)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.voxel_size_nm == NM
    assert np.array_equal(volume[:], stack)


@pytest.mark.parametrize("unit", ["pixel", "", "inch or so"])
def test_imagej_without_a_unit_of_length(unit, tmp_path, stack):
    imagej(tmp_path / "a.tif", stack, unit)
    assert open_volume(tmp_path / "a.tif").voxel_size_nm is None


def test_imagej_without_spacing(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(1, 1), metadata={"unit": "nm", "axes": "ZYX"}
    )
    assert open_volume(tmp_path / "a.tif").voxel_size_nm is None


def test_imagej_units_that_differ_by_axis(tmp_path, stack):
    description = (
        "ImageJ=1.54f\nimages=5\nslices=5\nunit=nm\nyunit=nm\nzunit=micron\nspacing=0.03\nloop=false\n"
    )
    tifffile.imwrite(
        tmp_path / "a.tif", stack, description=description, resolution=(1 / 5.5, 1 / 6), metadata=None
    )
    assert open_volume(tmp_path / "a.tif").voxel_size_nm in (None, NM)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "IYX", "QYX", "TZCYX"])
def test_imagej_stack_under_any_axis(axes, tmp_path, stack):
    if axes in ("IYX", "QYX"):
        tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": axes})
    else:
        shaped = stack[None, :, None] if len(axes) == 5 else stack
        tifffile.imwrite(tmp_path / "a.tif", shaped, imagej=True, metadata={"axes": axes})
    assert np.array_equal(open_volume(tmp_path / "a.tif")[:], stack)


@pytest.mark.parametrize("unit", ["nm", "µm", "mm", None])
def test_ome_units(unit, tmp_path, stack):
    factor = {"nm": 1, "mm": 1e6}.get(unit, 1e3)
    metadata = {"axes": "ZYX"}
    for axis, size in zip("ZYX", (30, 6, 5.5), strict=True):
        metadata[f"PhysicalSize{axis}"] = size / factor
        if unit:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.voxel_size_nm == NM
    assert volume.name == "a"
    assert np.array_equal(volume[:], stack)


def test_ome_without_z_size(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stack, metadata={"axes": "ZYX", "PhysicalSizeX": 6.0, "PhysicalSizeY": 6.0}
    )
    assert open_volume(tmp_path / "a.ome.tif").voxel_size_nm is None


def test_ome_singleton_axes_and_pyramid(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(stack[None, :, None], subifds=1, metadata={"axes": "TZCYX"}, tile=(16, 16))
        tif.write(stack[None, :, None, ::2, ::2], subfiletype=1, tile=(16, 16))
    assert np.array_equal(open_volume(tmp_path / "a.ome.tif")[:], stack)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd"},
        {"compression": "deflate"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 5},
        {"rowsperstrip": 37},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"byteorder": ">", "bigtiff": True, "compression": "zlib"},
        {"metadata": None},
        {"metadata": None, "compression": "zlib"},
        {"imagej": True, "byteorder": ">"},
    ],
    ids=str,
)
def test_storage(options, tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.dtype == "uint16"
    assert volume.dtype.isnative
    assert np.array_equal(volume[:], stack)
    assert np.array_equal(volume[3, 5:9, 30:], stack[3, 5:9, 30:])
    assert volume.voxel_size_nm is None


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"contiguous": True}], ids=str)
def test_written_page_by_page(options, compression, tmp_path, stack):
    if compression and options.get("contiguous"):
        pytest.skip("compressed pages are never contiguous")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in stack:
            tif.write(page, compression=compression, **options)
    assert np.array_equal(open_volume(tmp_path / "a.tif")[:], stack)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool", "int32"])
def test_written_by_pillow(dtype, tmp_path, numbers):
    stack = numbers((5, 37, 41), dtype)
    first, *rest = (Image.fromarray(page) for page in stack)
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    assert np.array_equal(open_volume(tmp_path / "a.tif")[:], stack)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int64", "uint64", "float16", "float64", "bool"])
def test_dtypes(dtype, tmp_path, numbers):
    stack = numbers((3, 17, 19), dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    again = open_volume(tmp_path / "a.tif")
    assert again.dtype == dtype
    assert np.array_equal(again[:], stack)


def test_three_or_four_slices_are_no_colours(tmp_path, numbers):
    for n in (3, 4):
        stack = numbers((n, 17, 19))
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        assert np.array_equal(open_volume(tmp_path / "a.tif")[:], stack)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_inverted_grey_values_stay_as_stored(dtype, tmp_path, numbers):
    stack = numbers((3, 17, 19), dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="miniswhite")
    assert np.array_equal(open_volume(tmp_path / "a.tif")[:], stack)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_is_refused(planar, channels, tmp_path, numbers, raises_clearly):
    shape = (5, 17, 19, channels) if planar == "contig" else (5, channels, 17, 19)
    tifffile.imwrite(tmp_path / "a.tif", numbers(shape), photometric="rgb", planarconfig=planar)
    with raises_clearly(DataError, "a.tif", "colour", "grey"):
        open_volume(tmp_path / "a.tif")


def test_palette_is_refused_or_read_as_indices(tmp_path, numbers):
    stack = numbers((3, 17, 19))
    colours = np.zeros((3, 256), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="palette", colormap=colours)
    assert np.array_equal(open_volume(tmp_path / "a.tif", "labels")[:], stack)


@pytest.mark.parametrize(
    ("shape", "axes"), [((17, 19), "YX"), ((2, 3, 17, 19), "ZCYX"), ((2, 3, 4, 17, 19), "TZCYX")]
)
@pytest.mark.parametrize("how", ["imagej", "ome", "shaped"])
def test_other_than_three_axes(shape, axes, how, tmp_path, numbers, raises_clearly):
    options = {} if how == "shaped" else {how: True}
    tifffile.imwrite(
        tmp_path / "a.tif", numbers(shape), photometric="minisblack", metadata={"axes": axes}, **options
    )
    with raises_clearly(DataError, "a.tif", "×".join(map(str, shape[-2:])), "(z, y, x)"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"metadata": None}], ids=str)
@pytest.mark.parametrize(
    "other", [np.ones((4, 18, 19), "uint8"), np.ones((4, 17, 19), "uint16")], ids=["other size", "other dtype"]
)
def test_pages_that_differ_are_refused(options, other, tmp_path, numbers, raises_clearly):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(numbers((5, 17, 19)), photometric="minisblack", **options)
        tif.write(other, photometric="minisblack", **options)
    with raises_clearly(DataError, "a.tif"):
        open_volume(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path, raises_clearly):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 17, 19), "complex64"), photometric="minisblack")
    with raises_clearly(DataError, "a.tif", "complex64"):
        open_volume(tmp_path / "a.tif")


def test_not_a_number_is_named_when_read(tmp_path, raises_clearly):
    stack = np.zeros((3, 17, 19), "float32")
    stack[2, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    volume = open_volume(tmp_path / "a.tif")
    assert not volume[0].any()
    with raises_clearly(DataError, "a.tif", "NaN", "nan_to_num"):
        volume[2]


def test_nothing_goes_on_inside_a_tiff(tmp_path, stack, raises_clearly):
    tifffile.imwrite(tmp_path / "a.tif", stack)
    with raises_clearly((ValueError, FileNotFoundError), "a.tif", "volumes/raw"):
        open_volume(tmp_path / "a.tif/volumes/raw")


def test_missing_page_data_in_ome_is_no_shift(tmp_path, stack, raises_clearly):
    """An OME-TIFF whose XML counts more slices than the file holds is not read as if it were whole."""
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(content.replace(b'SizeZ="5"', b'SizeZ="7"'))
    with raises_clearly(ValueError, "a.ome.tif"):
        volume = open_volume(tmp_path / "a.ome.tif")
        assert volume.shape == (7, 37, 41)
        volume[:]
