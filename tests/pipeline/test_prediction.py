"""Predicting by name: the model and the slices that are meant, and a file that is whole or not there."""

import h5py
import numpy as np
import pytest
import torch

from napari_em_seg.errors import DataError, EmSegError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import Choice, Prediction, predict_boundary, predict_to_file
from napari_em_seg.predict.nets.unet import UNet
from napari_em_seg.volume import Volume

PLAIN = {"views": 1, "device": "cpu", "dtype": "float32", "misaligned": ()}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def predicted(volume: Volume, *models: str, **options: object) -> np.ndarray:
    return predict_boundary(volume, Prediction(models, **{**PLAIN, **options}))


# ---------------------------------------------------------------------------------------------- which models


def test_a_model_is_meant_by_its_name_or_its_file(small_tissue, put_model) -> None:
    file = put_model("mine")
    by_name = predicted(small_tissue.raw, "mine")
    assert by_name.shape == small_tissue.raw.shape
    assert by_name.std() > 0.01
    np.testing.assert_array_equal(by_name, predicted(small_tissue.raw, str(file)))


def test_auto_is_the_model_of_the_nearest_voxel_size_and_says_so(small_tissue, put_model) -> None:
    put_model("near", 0, voxel_size_nm=(30.0, 5.0, 5.0))
    put_model("far", 1, voxel_size_nm=(30.0, 16.0, 16.0))
    choices: list[Choice] = []
    found = predict_boundary(small_tissue.raw, Prediction(**PLAIN), on_choice=choices.append)
    assert [choice.model.name for choice in choices] == ["near"]
    np.testing.assert_array_equal(found, predicted(small_tissue.raw, "near"))


def test_several_models_give_their_voxelwise_maximum(small_tissue, put_model) -> None:
    put_model("one", 1)
    put_model("two", 2, n_slices=3)
    one, two = (predicted(small_tissue.raw, name) for name in ("one", "two"))
    assert (one > two).any() and (two > one).any()
    np.testing.assert_allclose(predicted(small_tissue.raw, "one", "two"), np.maximum(one, two), atol=1e-6)


def test_a_local_model_joins_in_on_the_misaligned_slices_only(small_tissue, put_model) -> None:
    put_model("one", 1)
    put_model("two", 2)
    one, two = (predicted(small_tissue.raw, name) for name in ("one", "two"))
    expected = one.copy()
    expected[[2, 5]] = np.maximum(one, two)[[2, 5]]
    options = {"local_models": ["two"], "misaligned": [2, 5]}
    np.testing.assert_allclose(predicted(small_tissue.raw, "one", **options), expected, atol=1e-6)
    part = predicted(small_tissue.raw, "one", **options, slices=slice(4, 7))
    np.testing.assert_allclose(part, expected[4:7], atol=1e-6)  # counted in the volume, not in the part


@pytest.mark.usefixtures("models_folder")
def test_a_misspelt_model_is_guessed(small_tissue, put_model) -> None:
    put_model("mouse-cortex")
    with pytest.raises(SourceNotFoundError, match="Did you mean mouse-cortex"):
        predicted(small_tissue.raw, "mouse-corteks")


def test_no_model_at_all_is_refused(small_tissue) -> None:
    with pytest.raises(DataError, match="No model"):
        predicted(small_tissue.raw)


def test_models_for_something_else_are_refused(small_tissue, put_model) -> None:
    put_model("affinities", task="affinity", kernel=None)
    with pytest.raises(DataError, match="affinities predicts affinity"):
        predicted(small_tissue.raw, "affinities")


def test_models_that_want_other_gray_levels_do_not_mix(small_tissue, put_model) -> None:
    put_model("one", 1)
    put_model("two", 2, normalisation="slice")
    with pytest.raises(DataError, match="normalised in different ways"):
        predicted(small_tissue.raw, "one", "two")
    assert not np.allclose(predicted(small_tissue.raw, "two"), predicted(small_tissue.raw, "one"))


# ------------------------------------------------------------------------------------------------- which part


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 5), slice(6, None), slice(7, 8)])
@pytest.mark.parametrize("views", [1, 4])
def test_some_slices_are_those_of_the_whole(small_tissue, put_model, part, views) -> None:
    put_model("mine", n_slices=3)
    whole = predicted(small_tissue.raw, "mine", views=views)
    found = predicted(small_tissue.raw, "mine", slices=part, views=views)
    np.testing.assert_allclose(found, whole[part], atol=1e-6)


@pytest.mark.parametrize("part", [slice(5, 2), slice(8, 9), slice(0, 8, 2)])
def test_slices_that_are_not_there_are_refused(small_tissue, put_model, part, tmp_path) -> None:
    put_model("mine")
    wanted = Prediction(["mine"], **PLAIN, slices=part)
    with pytest.raises(DataError, match="slices") as caught:
        predict_to_file(str(small_tissue.file), str(tmp_path / "out.h5"), wanted)
    assert "slice(" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"views": 3}, {"tile": 0}, {"device": "abacus"}, {"misaligned": [99]}])
def test_options_that_make_no_sense_are_refused(small_tissue, put_model, options, tmp_path) -> None:
    put_model("mine")
    wanted = Prediction(["mine"], **{**PLAIN, "local_models": ["mine"], **options})
    with pytest.raises(EmSegError):
        predict_to_file(str(small_tissue.file), str(tmp_path / "out.h5"), wanted)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------- into a file


@pytest.mark.parametrize(
    "target", ["out.zarr", "out.zarr/maps/boundary", "out.h5/inside/path", "out.tif", "out.n5/b"]
)
def test_a_map_is_written_whole_with_its_voxel_size(small_tissue, put_model, target, tmp_path) -> None:
    put_model("mine")
    out = str(tmp_path / target)
    predict_to_file(str(small_tissue.file), out, Prediction(["mine"], **{**PLAIN, "dtype": "uint8"}))
    found = open_volume(out)
    assert found.dtype == np.uint8
    assert found.kind == "image"
    assert found.voxel_size_nm == (30, 6, 6)
    expected = predicted(small_tissue.raw, "mine", dtype="uint8")
    np.testing.assert_array_equal(found[:], expected)
    assert [path.name for path in tmp_path.iterdir()] == [target.partition("/")[0]]


def test_the_two_types_agree_within_rounding(small_tissue, put_model, tmp_path) -> None:
    put_model("mine")
    for dtype in ("uint8", "float32"):
        wanted = Prediction(["mine"], **{**PLAIN, "dtype": dtype})
        predict_to_file(str(small_tissue.file), str(tmp_path / f"{dtype}.h5"), wanted)
    coarse, fine = (open_volume(tmp_path / f"{dtype}.h5")[:] for dtype in ("uint8", "float32"))
    assert fine.dtype == np.float32
    assert 0 <= fine.min() < fine.max() <= 1
    np.testing.assert_allclose(coarse / 255, fine, atol=0.5 / 255 + 1e-6)


def test_a_map_joins_the_image_in_its_container(small_tissue, put_model, tmp_path) -> None:
    put_model("mine")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["volumes/raw"] = small_tissue.raw[:]
        file["volumes/raw"].attrs["resolution"] = (30.0, 6.0, 6.0)
    image = str(tmp_path / "all.h5")
    predict_to_file(image, f"{image}/volumes/boundary", Prediction(["auto"], **PLAIN))
    assert open_volume(f"{image}/volumes/boundary").shape == small_tissue.raw.shape
    np.testing.assert_array_equal(open_volume(image)[:], small_tissue.raw[:])


@pytest.fixture
def sizeless(small_tissue, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("sizeless") / "stack.tif"
    write_volume(Volume(small_tissue.raw[:]), path)
    return str(path)


def test_an_unknown_voxel_size_stays_unknown_or_is_said(sizeless, put_model, tmp_path) -> None:
    put_model("mine")
    with pytest.raises(DataError, match=r"voxel size of .*stack.tif is unknown.*--voxel-size.*mine"):
        predict_to_file(sizeless, str(tmp_path / "a.h5"), Prediction(**PLAIN))
    predict_to_file(sizeless, str(tmp_path / "b.h5"), Prediction(["mine"], **PLAIN))
    assert open_volume(tmp_path / "b.h5").voxel_size_nm is None
    predict_to_file(sizeless, str(tmp_path / "c.h5"), Prediction(**PLAIN), voxel_size_nm=(40, 5, 5))
    assert open_volume(tmp_path / "c.h5").voxel_size_nm == (40, 5, 5)


# ------------------------------------------------------------------------------------------------ what can fail


@pytest.mark.parametrize("target", ["out.h5", "out.zarr", "all.h5/boundary", "all.zarr/boundary", "out.tif"])
def test_a_prediction_that_fails_midway_leaves_nothing(
    small_tissue, put_model, target, tmp_path, monkeypatch
) -> None:
    put_model("mine")
    for name in ("all.h5/raw", "all.zarr/raw"):
        write_volume(small_tissue.raw, tmp_path / name)
    before = sorted(path for path in tmp_path.rglob("*"))
    forward, calls = UNet.forward, []

    def fail(net: UNet, images: torch.Tensor) -> torch.Tensor:
        calls.append(images)
        if len(calls) > 5:
            raise RuntimeError("the machine is on fire")
        return forward(net, images)

    monkeypatch.setattr(UNet, "forward", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        predict_to_file(str(small_tissue.file), str(tmp_path / target), Prediction(["mine"], **PLAIN))
    assert len(calls) == 6
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.fixture
def _no_prediction(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was loaded or predicted")

    monkeypatch.setattr("napari_em_seg.predict.run.predict", refuse)
    monkeypatch.setattr("napari_em_seg.pipeline.prediction.load_weights", refuse)


@pytest.mark.usefixtures("_no_prediction")
@pytest.mark.parametrize("target", ["out.tif", "out.zarr", "out.h5/inside", "out.zarr2.zarr/a/b", "out.h5"])
def test_a_target_that_is_there_is_refused_before_the_work(small_tissue, put_model, target, tmp_path) -> None:
    put_model("mine")
    out = tmp_path / target
    write_volume(small_tissue.raw, out)
    with pytest.raises(TargetExistsError):
        predict_to_file(str(small_tissue.file), str(out), Prediction(["mine"], **PLAIN))
    np.testing.assert_array_equal(open_volume(out)[:], small_tissue.raw[:])


@pytest.mark.usefixtures("_no_prediction")
@pytest.mark.parametrize("target", ["no/such/folder/out.tif", "no/out.h5/a", "out", "out.jpg", "file/out.zarr"])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    small_tissue, put_model, target, tmp_path
) -> None:
    put_model("mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(EmSegError) as caught:
        predict_to_file(str(small_tissue.file), str(tmp_path / target), Prediction(["mine"], **PLAIN))
    assert str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_overwriting_is_possible(small_tissue, put_model, tmp_path) -> None:
    put_model("mine")
    out = str(tmp_path / "out.h5")
    write_volume(small_tissue.raw, out)
    predict_to_file(str(small_tissue.file), out, Prediction(["mine"], **PLAIN), overwrite=True)
    np.testing.assert_allclose(open_volume(out)[:], predicted(small_tissue.raw, "mine"), atol=1e-6)


def test_an_image_may_not_be_overwritten_by_its_own_map_unasked(small_tissue, put_model, tmp_path) -> None:
    put_model("mine")
    image = str(tmp_path / "image.tif")
    write_volume(small_tissue.raw, image)
    with pytest.raises(TargetExistsError):
        predict_to_file(image, image, Prediction(["mine"], **PLAIN))


def test_numbers_that_are_none_are_refused(small_tissue, put_model, tmp_path) -> None:
    put_model("mine")
    image = tmp_path / "nan.h5"
    with h5py.File(image, "w") as file:
        file["raw"] = np.where(np.arange(64) == 9, np.nan, small_tissue.raw[:]).astype(np.float32)
    with pytest.raises(DataError, match="not finite"):
        predict_to_file(str(image), str(tmp_path / "out.h5"), Prediction(["mine"], **PLAIN))
    assert not (tmp_path / "out.h5").exists()
