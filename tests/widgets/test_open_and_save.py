"""Files and samples become layers of the right scale and type, and layers become files."""

from pathlib import Path

import h5py
import napari
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.utils.notifications import NotificationManager, NotificationSeverity, notification_manager
from numpy.testing import assert_array_equal

from napari_em_seg.errors import EmSegError, SourceNotFoundError
from napari_em_seg.io import find_volumes, open_volume, write_volume, write_volumes
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import UNKNOWN_SIZE

PLUGIN = "napari-em-seg"
NM = ["nanometer"] * 3


def write_tiff(path: Path, data: np.ndarray, photometric: str = "minisblack", **options: object) -> None:
    tifffile.imwrite(path, data, photometric=photometric, **options)


def units(layer: napari.layers.Layer) -> list[str]:
    return [str(unit) for unit in layer.units]


@pytest.fixture
def notifications() -> NotificationManager:
    notification_manager.records.clear()
    return notification_manager


@pytest.fixture
def cremi_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "cells.h5", "w") as file:
        file["volumes/raw"] = rng.integers(0, 255, (5, 40, 50), dtype=np.uint8)
        file["volumes/labels/neuron_ids"] = rng.integers(0, 9, (5, 40, 50), dtype=np.uint64)
        for path in ("volumes/raw", "volumes/labels/neuron_ids"):
            file[path].attrs["resolution"] = (40.0, 4.0, 4.0)
    return tmp_path / "cells.h5"


def test_image_and_labels_arrive_as_such_with_scale_and_units(viewer: napari.Viewer, cremi_file: Path) -> None:
    viewer.open(cremi_file, plugin=PLUGIN)
    image, labels = viewer.layers
    assert isinstance(image, Image)
    assert isinstance(labels, Labels)
    for layer in (image, labels):
        assert_array_equal(layer.scale, (40, 4, 4))
        assert units(layer) == NM
        assert layer.axis_labels == ("z", "y", "x")


def test_labels_can_be_painted_at_once(viewer: napari.Viewer, cremi_file: Path) -> None:
    viewer.open(cremi_file, plugin=PLUGIN)
    labels = viewer.layers["neuron_ids"]
    labels.fill((0, 0, 0), 77)
    assert labels.data[0, 0, 0] == 77
    labels.undo()
    assert labels.data[0, 0, 0] != 77


def test_a_stack_without_voxel_size_says_so(
    viewer: napari.Viewer, tmp_path: Path, notifications: NotificationManager, qtbot
) -> None:
    write_tiff(tmp_path / "stack.tif", np.zeros((3, 20, 30), np.uint8))
    viewer.open(tmp_path / "stack.tif", plugin=PLUGIN)
    (layer,) = viewer.layers
    assert layer.name == "stack" + UNKNOWN_SIZE
    assert units(layer) == ["pixel"] * 3
    qtbot.waitUntil(lambda: bool(notifications.records))
    assert "Set the voxel size of stack" in notifications.records[-1].message


def test_a_stack_larger_than_memory_opens_and_scrolls(viewer: napari.Viewer, tmp_path: Path) -> None:
    shape = (50000, 8192, 8192)  # 3.4 TB, of which nothing but one chunk is written
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        raw = file.create_dataset("volumes/raw", shape, np.uint8, chunks=(1, 512, 512))
        raw.attrs["resolution"] = (40.0, 4.0, 4.0)
        raw[2000, :8, :8] = 200
    viewer.open(tmp_path / "huge.h5", plugin=PLUGIN)
    (layer,) = viewer.layers
    viewer.dims.set_point(0, 2000 * 40.0)
    assert layer.get_value((2000 * 40.0, 4.0, 4.0), world=True) == 200
    viewer.dims.set_point(0, 2001 * 40.0)
    assert layer.get_value((2001 * 40.0, 4.0, 4.0), world=True) == 0


def test_pyramids_become_multiscale_images_and_editable_labels(viewer: napari.Viewer, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9, (2, 1100, 600), dtype=np.uint32)
    write_volume(Volume(data.astype(np.uint8), (30, 6, 6), "raw"), tmp_path / "raw.zarr")
    write_volume(Volume(data, (30, 6, 6), "ids", kind="labels"), tmp_path / "ids.zarr")
    viewer.open(tmp_path / "raw.zarr", plugin=PLUGIN)
    viewer.open(tmp_path / "ids.zarr", plugin=PLUGIN)
    image, labels = viewer.layers
    assert image.multiscale
    assert not labels.multiscale
    assert_array_equal(image.scale, (30, 6, 6))
    assert_array_equal(labels.data, data)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr", ".n5", ".precomputed"])
def test_layers_survive_saving_and_opening(viewer: napari.Viewer, tmp_path: Path, suffix: str) -> None:
    data = np.random.default_rng(0).integers(0, 2**40, (3, 20, 30)).astype(np.uint64)
    layer = viewer.add_labels(data, name="my ids", scale=(40, 4, 4), units=("nm",) * 3)
    path = tmp_path / f"saved{suffix}"
    assert layer.save(str(path), plugin=PLUGIN)
    saved = open_volume(path, "labels")
    assert_array_equal(saved[:], data)
    assert saved.dtype == np.uint64
    assert saved.voxel_size_nm == (40, 4, 4)


def test_lengths_in_micrometers_are_saved_in_nm(viewer: napari.Viewer, tmp_path: Path) -> None:
    layer = viewer.add_image(np.zeros((3, 9, 9), np.uint8), scale=(0.04, 0.004, 0.004), units=("um",) * 3)
    layer.save(str(tmp_path / "saved.h5"), plugin=PLUGIN)
    assert open_volume(tmp_path / "saved.h5").voxel_size_nm == pytest.approx((40, 4, 4))


def test_several_layers_go_into_one_container(viewer: napari.Viewer, tmp_path: Path) -> None:
    options = {"scale": (30, 6, 6), "units": ("nm",) * 3}
    viewer.add_image(np.full((3, 9, 9), 7, np.uint8), name="raw", **options)
    viewer.add_labels(np.full((3, 9, 9), 5, np.uint32), name="ids", **options)
    viewer.layers.save(str(tmp_path / "both.zarr"), plugin=PLUGIN)
    assert open_volume(tmp_path / "both.zarr/raw")[0, 0, 0] == 7
    assert open_volume(tmp_path / "both.zarr/ids", "labels")[0, 0, 0] == 5


def test_painting_and_saving_loses_nothing_else_in_the_file(viewer: napari.Viewer, cremi_file: Path) -> None:
    with h5py.File(cremi_file, "a") as file:
        file["annotations/notes"] = np.arange(3)
    viewer.open(cremi_file, plugin=PLUGIN)
    raw = np.asarray(viewer.layers["raw"].data)
    labels = viewer.layers["neuron_ids"]
    labels.fill((0, 0, 0), 77)
    labels.save(str(cremi_file), plugin=PLUGIN)
    assert open_volume(cremi_file, "labels")[0, 0, 0] == 77
    assert_array_equal(open_volume(cremi_file)[:], raw)
    viewer.layers.save(str(cremi_file), plugin=PLUGIN)
    with h5py.File(cremi_file) as file:
        assert set(file) == {"annotations", "volumes"}
        assert file["volumes/labels/neuron_ids"][0, 0, 0] == 77
        assert_array_equal(file["annotations/notes"], np.arange(3))


def test_a_duplicated_layer_is_saved_beside_its_original(viewer: napari.Viewer, cremi_file: Path) -> None:
    viewer.open(cremi_file, plugin=PLUGIN)
    labels = viewer.layers["neuron_ids"]
    original = labels.data.copy()
    metadata = {"scale": labels.scale, "units": labels.units, "metadata": labels.metadata}
    viewer.add_labels(np.full_like(original, 9), name="copy", **metadata)
    viewer.layers.save(str(cremi_file), plugin=PLUGIN)
    assert_array_equal(open_volume(cremi_file / "volumes/labels/neuron_ids", "labels")[:], original)
    assert (open_volume(cremi_file / "copy", "labels")[:] == 9).all()


def test_saving_one_layer_into_a_zarr_keeps_the_other(viewer: napari.Viewer, tmp_path: Path) -> None:
    volumes = {"raw": Volume(np.ones((3, 9, 9), np.uint8)), "ids": Volume(np.ones((3, 9, 9), np.uint32))}
    write_volumes(volumes, tmp_path / "a.zarr")
    layer = viewer.add_labels(np.full((3, 9, 9), 5), name="new ids")
    layer.save(str(tmp_path / "a.zarr"), plugin=PLUGIN)
    assert {found.location.inner for found in find_volumes(tmp_path / "a.zarr")} == {"raw", "ids", "new ids"}


def test_masks_can_be_seen(viewer: napari.Viewer, tmp_path: Path) -> None:
    mask = np.zeros((3, 40, 40), np.uint8)
    mask[:, 10:30, 10:30] = 1
    write_volume(Volume(mask, (30, 6, 6)), tmp_path / "membranes.zarr")
    viewer.open(tmp_path / "membranes.zarr", plugin=PLUGIN)
    assert viewer.layers[0].contrast_limits == [0, 1]
    assert viewer.screenshot(canvas_only=True, flash=False)[..., 0].max() > 200


def test_one_array_with_nan_does_not_keep_the_others_from_opening(
    viewer: napari.Viewer, tmp_path: Path, notifications: NotificationManager, qtbot
) -> None:
    with h5py.File(tmp_path / "mix.h5", "w") as file:
        file["raw"] = np.zeros((3, 9, 9), np.uint8)
        file["probability"] = np.full((3, 9, 9), np.nan, np.float32)
    viewer.open(tmp_path / "mix.h5", plugin=PLUGIN)
    assert len(viewer.layers) == 1
    qtbot.waitUntil(lambda: any("not finite" in record.message for record in notifications.records))


def test_a_layer_of_the_wrong_shape_is_refused_and_the_old_file_stays(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    write_volume(Volume(np.ones((2, 9, 9), np.uint8)), tmp_path / "kept.h5")
    layer = viewer.add_image(np.zeros((2, 2, 9, 9), np.uint8))
    with pytest.raises(EmSegError, match="4 axes"):
        layer.save(str(tmp_path / "kept.h5"), plugin=PLUGIN)
    assert open_volume(tmp_path / "kept.h5").shape == (2, 9, 9)


def bad_path(folder: Path, what: str) -> Path:
    path = folder / what
    if what == "truncated.tif":
        write_tiff(path, np.random.default_rng(0).integers(0, 255, (4, 40, 40), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:3000])
    elif what == "no.h5":
        path.write_text("no")
    elif what == "empty":
        path.mkdir()
    elif what == "flat.tif":
        write_tiff(path, np.zeros((9, 9), np.uint8))
    elif what == "nan.h5":
        with h5py.File(path, "w") as file:
            file["raw"] = np.full((2, 9, 9), np.nan)
    return path


@pytest.mark.parametrize("what", ["truncated.tif", "no.h5", "empty", "flat.tif", "nan.h5"])
def test_bad_files_end_in_one_notification(
    viewer: napari.Viewer, tmp_path: Path, what: str, notifications: NotificationManager
) -> None:
    try:
        viewer.open(bad_path(tmp_path, what), plugin=PLUGIN)
    except EmSegError as error:  # what Qt does with an exception in a slot: it calls sys.excepthook
        notifications.receive_error(type(error), error, error.__traceback__)
    (shown,) = notifications.records
    assert shown.severity == NotificationSeverity.ERROR
    assert "Expected" in shown.message
    assert not viewer.layers


@pytest.mark.parametrize(("key", "n_layers"), [("tissue", 1), ("tissue_with_truth", 2)])
def test_the_synthetic_samples_open(viewer: napari.Viewer, key: str, n_layers: int) -> None:
    viewer.open_sample(PLUGIN, key)
    assert len(viewer.layers) == n_layers
    assert all(units(layer) == NM for layer in viewer.layers)
    assert isinstance(viewer.layers[-1], Labels if n_layers == 2 else Image)


def test_a_data_set_that_is_not_here_says_where_to_put_it(
    viewer: napari.Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EM_SEG_DATA", str(tmp_path))
    with pytest.raises(SourceNotFoundError, match="EM_SEG_DATA"):
        viewer.open_sample(PLUGIN, "cremi")


@pytest.mark.parametrize("key", ["ac4", "isbi2012", "vnc", "medulla"])
def test_local_data_sets_open_with_their_voxel_size(
    viewer: napari.Viewer, real_data: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("EM_SEG_DATA", str(real_data))
    viewer.open_sample(PLUGIN, key)
    sizes = {"ac4": (30, 6, 6), "isbi2012": (50, 4, 4), "vnc": (50, 4.6, 4.6), "medulla": (10, 10, 10)}
    picture = viewer.screenshot(canvas_only=True, flash=False)
    assert picture[..., :3].std() > 20  # the image is seen, not a black map above it
    for layer in viewer.layers:
        assert_array_equal(layer.scale, sizes[key])
        assert units(layer) == NM


def test_ac4_opens_by_drag_and_drop_at_30_6_6_nm(viewer: napari.Viewer, real_data: Path) -> None:
    viewer.window._qt_viewer._qt_open([str(real_data / "ac4_z63-99.h5")], stack=False, plugin=PLUGIN)
    assert [type(layer) for layer in viewer.layers] == [Image, Labels]
    assert_array_equal(viewer.layers[0].scale, (30, 6, 6))
    assert viewer.layers[0].data.shape == (37, 1024, 1024)
