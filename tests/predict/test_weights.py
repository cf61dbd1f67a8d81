"""Weight files: what is saved comes back, and what is damaged is refused clearly."""

import json
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from napari_em_seg.errors import DataError, FormatError, SourceNotFoundError, TargetExistsError
from napari_em_seg.predict import weights
from napari_em_seg.predict.registry import build
from napari_em_seg.predict.weights import (
    Card,
    find_models,
    load_weights,
    read_card,
    resolve,
    save_weights,
    user_folder,
)

CARD = Card(
    name="tiny",
    architecture="unet-small-s3",
    arguments={"base_channels": 2, "levels": 2},
    n_slices=3,
    kernel="l3",
    voxel_size_nm=(30.0, 6.0, 6.0),
    tissue="mouse neocortex, ssSEM – µm",
    data=("AC4, slices 0–79", "AC3"),
    licence="ODC-By 1.0",
    measures={"adapted_rand_error on AC4 80–99": 0.1},
    command="napari-em-seg train boundary …",
    seed=7,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = build(CARD.architecture, **CARD.arguments)
    with torch.no_grad():
        made(torch.randn(2, 3, 16, 16))  # fills the statistics of the batch norms
    return made


@pytest.fixture
def file(tmp_path, net):
    path = tmp_path / "tiny.safetensors"
    save_weights(path, net, CARD)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the user's folder of models; the bundled one is another, empty one."""
    path = tmp_path / "models"
    path.mkdir()
    monkeypatch.setenv("EM_SEG_MODELS", str(path))
    monkeypatch.setattr(weights, "bundled_folder", lambda: tmp_path / "bundled")
    return path


def write(path, net, card=CARD, **changes):
    """Write a file as save_weights would, without its checks; its checksum is right."""
    tensors = {**{key: value.clone() for key, value in net.state_dict().items()}, **changes}
    tensors = {key: value for key, value in tensors.items() if value is not None}
    text = card if isinstance(card, str) else card.to_json()
    save_file(tensors, path, {"napari-em-seg": "1", "card": text, "sha256": weights._digest(text, tensors)})
    return path


def test_what_is_saved_comes_back_bit_by_bit(file, net):
    loaded, card = load_weights(file)
    assert card == CARD
    assert not loaded.training
    assert loaded.state_dict().keys() == net.state_dict().keys()
    for key, value in loaded.state_dict().items():
        assert value.dtype == net.state_dict()[key].dtype
        assert value.numpy().tobytes() == net.state_dict()[key].numpy().tobytes()
    images = torch.randn(1, 3, 9, 11)
    with torch.inference_mode():
        assert torch.equal(loaded(images), net.eval()(images))


def test_what_is_loaded_can_be_trained(file):
    loaded, _ = load_weights(file)
    loaded.train()(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(value.grad is not None for value in loaded.parameters())


def test_every_family_comes_back(tmp_path):
    for name in ("deepem3d-small-s5", "m2fcn-small-2"):
        made = build(name)
        card = replace(CARD, architecture=name, arguments={}, n_slices=made.n_slices)
        save_weights(tmp_path / name, made, card)
        loaded, _ = load_weights(tmp_path / name)
        assert all(torch.equal(made.state_dict()[key], value) for key, value in loaded.state_dict().items())


def test_lists_in_arguments_survive_json(tmp_path):
    card = replace(CARD, architecture="m2fcn-1", arguments={"widths": [2, 2, 2, 2, 2]}, n_slices=1)
    save_weights(tmp_path / "m.safetensors", build("m2fcn-1", widths=[2, 2, 2, 2, 2]), card)
    assert load_weights(tmp_path / "m.safetensors")[1] == card


def test_the_card_alone(file):
    assert read_card(file) == CARD


def test_does_not_overwrite_unasked(file, net):
    with pytest.raises(TargetExistsError):
        save_weights(file, net, CARD)
    save_weights(file, net, replace(CARD, seed=8), overwrite=True)
    assert read_card(file).seed == 8
    assert [path.name for path in file.parent.glob(".*")] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "m2fcn-small-1", "arguments": {}, "n_slices": 1}, "lacks"),
        ({"arguments": {"base_channels": 4, "levels": 2}}, "not "),
        ({"architecture": "nothing"}, "no network named"),
        ({"arguments": {"depth": 3}}, "cannot be built"),
        ({"n_slices": 5}, "5 slices"),
    ],
)
def test_saves_nothing_under_a_wrong_card(tmp_path, net, changes, message):
    with pytest.raises(DataError, match=message):
        save_weights(tmp_path / "a.safetensors", net, replace(CARD, **changes))
    assert not (tmp_path / "a.safetensors").exists()


def test_saves_no_broken_numbers(tmp_path, net):
    with torch.no_grad():
        net.head.weight[0] = torch.nan
    with pytest.raises(DataError, match="not a number"):
        save_weights(tmp_path / "a.safetensors", net, CARD)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.9, -1])
def test_cut_short(file, keep):
    content = file.read_bytes()
    end = keep if isinstance(keep, int) else int(keep * len(content))
    file.write_bytes(content[:end])
    for read in (load_weights, read_card):
        with pytest.raises(FormatError, match=r"tiny\.safetensors is damaged, cut short"):
            read(file)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_any_changed_byte_is_found(file, place):
    content = bytearray(file.read_bytes())
    content[len(content) * place // 100] ^= 4
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"tiny\.safetensors"):
        load_weights(file)


@pytest.mark.parametrize("content", [b"not weights at all, but text", b"\x00" * 64, b"\xff" * 64, b"{}"])
def test_other_files(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError):
        load_weights(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"bomb": Bomb()}, tmp_path / "new.pt")
    torch.save({"bomb": Bomb()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.safetensors").write_bytes(pickle.dumps(Bomb()))
    for name in ("new.pt", "old.pt", "raw.safetensors"):
        for read in (load_weights, read_card, resolve):
            with pytest.raises(FormatError, match="can run any program hidden in it"):
                read(tmp_path / name)
    assert not Path("exploded").exists()


def test_a_file_whose_header_length_begins_like_a_pickle_is_read(tmp_path, net):
    path = tmp_path / "same.safetensors"
    for length in range(8, 8 + 256, 8):  # headers come in steps of eight bytes
        card = replace(CARD, tissue="x" * length)
        save_weights(path, net, card, overwrite=True)
        if path.read_bytes().startswith(b"\x80"):
            break
    assert path.read_bytes().startswith(b"\x80")
    assert load_weights(path)[1] == card


def test_nothing_there(tmp_path, file):
    for path in (tmp_path / "no.safetensors", file / "below.safetensors"):
        with pytest.raises(SourceNotFoundError, match="There is no file"):
            load_weights(path)
    with pytest.raises(FormatError):
        load_weights(tmp_path)


def test_missing_extra_and_misshapen_weights(tmp_path, net):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FormatError, match=r"lacks 1 weights \(head.bias"):
        load_weights(write(path, net, **{"head.bias": None}))
    with pytest.raises(FormatError, match=r"has 1 weights too many \(other"):
        load_weights(write(path, net, other=torch.zeros(1)))
    with pytest.raises(FormatError, match=r"\(2,\) torch.float32 for head.bias, not \(1,\)"):
        load_weights(write(path, net, **{"head.bias": torch.zeros(2)}))
    with pytest.raises(FormatError, match=r"torch.float64 for head.bias"):
        load_weights(write(path, net, **{"head.bias": torch.zeros(1, dtype=torch.float64)}))


def test_a_card_of_another_network(tmp_path, net):
    card = replace(CARD, architecture="deepem3d-small-s3", arguments={})
    with pytest.raises(FormatError, match="as its card says"):
        load_weights(write(tmp_path / "a.safetensors", net, card))


@pytest.mark.parametrize("changes", [{"architecture": "net-of-next-year"}, {"arguments": {"depth": 3}}])
def test_a_card_of_an_unknown_network(tmp_path, net, changes):
    with pytest.raises(FormatError, match=r"a\.safetensors fits no network.*(net-of-next-year|depth)"):
        load_weights(write(tmp_path / "a.safetensors", net, replace(CARD, **changes)))


def test_weights_without_a_card(tmp_path):
    path = tmp_path / "a.safetensors"
    save_numpy({"a": np.zeros(3)}, path)
    with pytest.raises(FormatError, match="no model card"):
        load_weights(path)
    save_numpy({"a": np.zeros(3)}, path, {"napari-em-seg": "2", "card": "{}"})
    with pytest.raises(FormatError, match="file version 2"):
        load_weights(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "{", '{"name": "a"}'])
def test_unreadable_cards(tmp_path, net, text):
    with pytest.raises(FormatError, match=r"a\.safetensors: The model card cannot be read"):
        load_weights(write(tmp_path / "a.safetensors", net, text))


def test_fields_of_later_versions_are_left_out():
    assert Card.from_json(json.dumps({**json.loads(CARD.to_json()), "mood": "good"})) == CARD


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"licence": ""},
        {"tissue": None},
        {"kernel": "c7"},
        {"kernel": ["c3"]},
        {"voxel_size_nm": (6, 6)},
        {"voxel_size_nm": (30, 6, 0)},
        {"voxel_size_nm": 6},
        {"data": (1,)},
        {"data": 1},
        {"n_slices": "3"},
        {"seed": "x"},
        {"measures": {"error": float("nan")}},
        {"measures": []},
        {"arguments": {"net": object()}},
        {"normalisation": "tile"},
    ],
)
def test_refuses_incomplete_cards(changes):
    with pytest.raises(DataError, match="The model card has"):
        replace(CARD, **changes)


def test_no_models_at_all(folder):
    assert find_models() == []
    folder.rmdir()
    assert find_models() == []


def test_finds_ones_own_and_bundled_models(tmp_path, folder, net):
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    save_weights(bundled / "a.safetensors", net, replace(CARD, name="a", seed=1))
    save_weights(bundled / "b.safetensors", net, replace(CARD, name="b"))
    save_weights(folder / "mine.safetensors", net, replace(CARD, name="a", seed=2))

    assert [(model.name, model.origin) for model in find_models()] == [("a", "user"), ("b", "bundled")]
    assert resolve("a").card.seed == 2
    assert resolve("a").path == folder / "mine.safetensors"
    assert resolve(str(bundled / "a.safetensors")).card.seed == 1
    assert resolve(bundled / "a.safetensors").origin == "path"


def test_a_damaged_file_does_not_hide_the_others(folder, net, caplog):
    save_weights(folder / "good.safetensors", net, CARD)
    (folder / "bad.safetensors").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert [model.name for model in find_models()] == ["tiny"]
    assert "bad.safetensors is damaged" in caplog.text


def test_a_name_that_is_not_there(folder, net):
    with pytest.raises(SourceNotFoundError, match="none are installed"):
        resolve("tiny")
    save_weights(folder / "good.safetensors", net, CARD)
    with pytest.raises(SourceNotFoundError, match="Did you mean tiny"):
        resolve("tinny")
    with pytest.raises(SourceNotFoundError, match="There is no file"):
        resolve("tiny.safetensors")
    with pytest.raises(SourceNotFoundError, match="There is no file"):
        resolve("some/where")


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EM_SEG_MODELS", str(tmp_path))
    assert user_folder() == tmp_path
    monkeypatch.delenv("EM_SEG_MODELS")
    assert user_folder().parts[-2:] == ("napari-em-seg", "models")


def test_all_bundled_models_load(monkeypatch):
    monkeypatch.undo()
    for path in weights.bundled_folder().glob("*"):
        if path.suffix == ".safetensors":
            net, card = load_weights(path)
            assert net.n_slices == card.n_slices


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_others_may_read_the_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    save_weights(tmp_path / "mine.safetensors", build("unet-small-s3", **CARD.arguments), CARD)
    assert (tmp_path / "mine.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
