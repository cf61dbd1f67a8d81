"""Which models there are, and which one is chosen for a volume."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError, SourceNotFoundError
from napari_em_seg.pipeline.models import misfit
from napari_em_seg.predict.registry import ARCHITECTURES, Figures
from napari_em_seg.predict.weights import read_card
from napari_em_seg.volume import Volume


def volume(*size: float) -> Volume:
    return Volume(np.zeros((3, 8, 8), np.uint8), size or None, "stack")


@pytest.fixture
def three(put_model) -> None:
    put_model("fly", voxel_size_nm=(50.0, 4.0, 4.0))
    put_model("mouse", voxel_size_nm=(30.0, 6.0, 6.0))
    put_model("isotropic", voxel_size_nm=(8.0, 8.0, 8.0))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("size", "name"),
    [
        ((30, 6, 6), "mouse"),
        ((29, 6.5, 6), "mouse"),
        ((45, 4, 4), "fly"),
        ((50, 5, 5), "fly"),
        ((10, 10, 10), "isotropic"),
        ((5, 5, 5), "isotropic"),
    ],
)
def test_the_model_of_the_nearest_voxel_size_is_chosen(size, name) -> None:
    assert pipeline.choose_model(volume(*size)).model.name == name


@pytest.mark.usefixtures("three")
def test_the_choice_says_why() -> None:
    choice = pipeline.choose_model(volume(30, 6, 6))
    for expected in ("3 boundary models", "30 × 6 × 6 nm"):
        assert expected in choice.why
    assert choice.warning == ""


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("size", "ratio"), [((30, 12, 12), "2.0"), ((30, 6, 3), None), ((8, 32, 32), "4.0")])
def test_pixels_of_quite_another_size_are_warned_of(size, ratio) -> None:
    warning = pipeline.choose_model(volume(*size)).warning
    assert warning
    assert ratio is None or ratio in warning


@pytest.mark.usefixtures("three")
def test_pixels_of_about_the_same_size_are_no_cause_for_alarm() -> None:
    assert not pipeline.choose_model(volume(40, 5, 5)).warning


@pytest.mark.usefixtures("three")
def test_without_a_voxel_size_the_models_are_named() -> None:
    with pytest.raises(DataError, match="voxel size of stack is unknown") as caught:
        pipeline.choose_model(volume())
    for name in ("fly", "mouse", "isotropic", "--voxel-size"):
        assert name in caught.value.do


@pytest.mark.usefixtures("three")
def test_models_for_something_else_are_not_chosen(put_model) -> None:
    put_model("affinities", voxel_size_nm=(20.0, 20.0, 20.0), task="affinity", kernel=None)
    assert pipeline.choose_model(volume(20, 20, 20)).model.name != "affinities"
    assert pipeline.choose_model(volume(20, 20, 20), "affinity").model.name == "affinities"


@pytest.mark.usefixtures("models_folder")
def test_where_there_is_no_model_the_way_to_one_is_told() -> None:
    with pytest.raises(SourceNotFoundError, match="napari-em-seg train boundary"):
        pipeline.choose_model(volume(30, 6, 6))
    assert pipeline.models() == []


@pytest.mark.usefixtures("three")
def test_models_are_listed_with_what_they_cost() -> None:
    found = {info.file.name: info for info in pipeline.models()}
    assert set(found) == {"fly", "mouse", "isotropic"}
    assert all(info.figures.n_parameters > 0 and info.figures.n_slices == 1 for info in found.values())


def test_all_networks_are_listed(monkeypatch) -> None:
    figures = Figures(1, 1, 1, 1, 1, 1)  # real ones take seconds
    monkeypatch.setattr(
        sys.modules["napari_em_seg.pipeline.models"], "describe_architecture", lambda _: figures
    )
    assert [network.name for network, _ in pipeline.architectures()] == list(ARCHITECTURES)


def _break(path: Path, how: str) -> None:
    from safetensors.numpy import load_file, save_file

    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not weights")
    elif how == "pickle":
        path.write_bytes(b"\x80\x02}q\x00.")
    elif how == "without card":
        save_file(load_file(path), path)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "unknown network":
        path.write_bytes(content.replace(b"unet-small-s1", b"unet-future-9"))
    elif how == "unknown arguments":
        path.write_bytes(content.replace(b"base_channels", b"basic_channel"))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    "how",
    ["cut short", "empty", "text", "pickle", "without card", "folder", "unknown network", "unknown arguments"],
)
def test_a_damaged_file_is_left_out_with_a_warning(put_model, caplog, how) -> None:
    _break(put_model("broken", voxel_size_nm=(20.0, 20.0, 20.0)), how)
    with caplog.at_level(logging.WARNING):
        listed = {info.file.name for info in pipeline.models()}
        chosen = pipeline.choose_model(volume(20, 20, 20)).model.name
    assert listed == {"fly", "mouse", "isotropic"}
    assert chosen in listed or how == "unknown arguments"  # which shows only when the network is built
    assert "left out" in caplog.text
    assert "broken.safetensors" in caplog.text


# ------------------------------------------------------------------------------------- what speaks against one


@pytest.mark.parametrize(
    ("size", "tissue", "expected"),
    [
        ((30, 6, 6), "", ""),
        ((30, 6, 6), "Mouse cortex", ""),
        (None, "", "voxel size of the image is unknown; in training it was 30 × 6 × 6 nm"),
        ((30, 6, 12), "", "Pixels differ 2.0 times"),
        ((10, 6, 6), "", "Slices differ 3.0 times in thickness"),
        ((30, 6, 6), "fly brain", "It learned mouse cortex, and this is fly brain"),
    ],
)
def test_other_voxels_and_other_tissue_speak_against_a_model(put_model, size, tissue, expected) -> None:
    card = read_card(put_model("mine", n_slices=3, voxel_size_nm=(30.0, 6.0, 6.0), tissue="mouse cortex"))
    said = misfit(card, size, tissue)
    assert expected in said
    assert bool(said) == bool(expected)


def test_models_of_one_slice_do_not_mind_how_thick_it_is(put_model) -> None:
    assert misfit(read_card(put_model("mine", voxel_size_nm=(30.0, 6.0, 6.0))), (10.0, 6.0, 6.0)) == ""
