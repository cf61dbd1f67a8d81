"""napari-em-seg train boundary, as a user meets it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_em_seg.io import write_volume
from napari_em_seg.predict.weights import read_card
from napari_em_seg.volume import Volume

QUICK = ("--architecture", "unet-small-s1", "--side", 32, "--batch", 1, "--device", "cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(command, small_tissue, monkeypatch):
    """Train on the tissue for a moment; later options take the place of earlier ones."""
    monkeypatch.setattr("napari_em_seg.predict.train._draw_curves", lambda _curves, path: path.touch())

    def run(out, *options, data=None, validate=None):
        data = data or f"{small_tissue.file},0:6"
        validate = validate or f"{small_tissue.file},6:8"
        given = ("--data", data, "--validate", validate, *QUICK, "--steps", 2, *options)
        return command("train", "boundary", out, *given)

    return run


def weights(path: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(path).items()}


def refused(said, *words) -> None:
    """Exit code 2, and one message that says what came, what was expected and what to do."""
    assert said.code == 2, said
    assert "Traceback" not in said.err
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("Error: ")
    assert lines[0].count(". Expected ") == 1
    for word in words:
        assert str(word) in lines[0]


def test_weights_are_trained_from_a_container(train, small_tissue, tmp_path) -> None:
    said = train(tmp_path / "net.safetensors", "--tissue", "made up", "--licence", "CC0", "--seed", 4)
    assert said.code == 0, said
    assert "adapted_rand_error" in said.out
    assert f"Wrote {tmp_path / 'net.safetensors'}" in said.out
    assert "net.training" in said.out
    card = read_card(tmp_path / "net.safetensors")
    assert (card.name, card.architecture, card.kernel) == ("net", "unet-small-s1", "l3")
    assert (card.voxel_size_nm, card.tissue, card.licence, card.seed) == ((30, 6, 6), "made up", "CC0", 4)
    assert card.command.startswith("napari-em-seg train boundary ")
    assert "--seed 4" in card.command
    assert {"adapted_rand_error (validation)", "vi_split (validation)"} <= set(card.measures)
    assert {path.name for path in (tmp_path / "net.training").iterdir()} >= {"curves.csv", "curves.png"}


def test_image_and_labels_may_be_two_files_of_which_the_size_is_told(train, small_tissue, tmp_path) -> None:
    write_volume(Volume(small_tissue.raw[:]), tmp_path / "raw.tif")
    write_volume(Volume(small_tissue.labels[:], kind="labels"), tmp_path / "ids.tif")
    both = f"{tmp_path / 'raw.tif'},{tmp_path / 'ids.tif'}"
    refused(train(tmp_path / "a.safetensors", data=both), "raw.tif", "--voxel-size")
    said = train(tmp_path / "a.safetensors", "--voxel-size", 40, 5, 5, data=f"{both},:6", validate=f"{both},6:")
    assert said.code == 0, said
    assert read_card(tmp_path / "a.safetensors").voxel_size_nm == (40, 5, 5)
    assert "raw.tif" in read_card(tmp_path / "a.safetensors").data[0]


def test_membranes_can_be_given(train, small_tissue, tmp_path) -> None:
    membranes = Volume((small_tissue.labels[:] == 0).astype(np.uint8) * 255, (30, 6, 6), kind="labels")
    write_volume(membranes, tmp_path / "membranes.tif")
    data = f"{small_tissue.file}/raw,{tmp_path / 'membranes.tif'}"
    said = train(tmp_path / "a.safetensors", "--kernel", "membranes", data=data, validate=data)
    assert said.code == 0, said
    assert read_card(tmp_path / "a.safetensors").kernel is None


def test_a_killed_training_goes_on_as_if_nothing_had_been(train, small_tissue, tmp_path) -> None:
    long = ("--steps", 110, "--validate-every", 200)
    given = ("--data", f"{small_tissue.file},0:6", "--validate", f"{small_tissue.file},6:8", *QUICK)
    program = [sys.executable, "-m", "napari_em_seg", "train", "boundary", tmp_path / "a.safetensors"]
    process = subprocess.Popen(
        [str(word) for word in (*program, *given, *long)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "a.training" / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0
    assert checkpoint.exists()
    assert not (tmp_path / "a.safetensors").exists()
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        from napari_em_seg.predict.train import _Run

        advance = _Run.advance
        patch.setattr(_Run, "advance", lambda run, *rest: (advance(run, *rest), steps.append(run.step))[0])
        assert train(tmp_path / "a.safetensors", *long).code == 0
    assert steps == list(range(101, 111))
    assert train(tmp_path / "whole.safetensors", *long).code == 0
    assert weights(tmp_path / "a.safetensors") == weights(tmp_path / "whole.safetensors")


def test_weights_that_are_there_are_kept_unless_one_says_otherwise(train, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    assert train(out).code == 0
    before = out.read_bytes()
    refused(train(out, "--seed", 1), "a.safetensors exists", "--overwrite")
    assert out.read_bytes() == before
    assert train(out, "--seed", 1, "--overwrite").code == 0
    assert read_card(out).seed == 1
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--architecture", "unet"), ("unet", "unet-small-s1")),
        (("--steps", 0), ("steps",)),
        (("--batch", 0), ("0 crops",)),
        (("--side", 500), ("500×500",)),
        (("--seed", -1), ("seed",)),
        (("--device", "abacus"), ("abacus",)),
        (("--voxel-size", 0, 6, 6), ("voxel size",)),
        (("--begin-from", "nobody"), ("nobody",)),
        (("--licence", ""), ("licence",)),
    ],
)
@pytest.mark.usefixtures("models_folder")
def test_wrong_options_end_with_one_message(train, tmp_path, options, words) -> None:
    refused(train(tmp_path / "a.safetensors", *options), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{0}/nothing.h5", ("nothing.h5",)),
        ("{1},{1},{1}", ("IMAGE[,LABELS][,A:B]",)),
        ("{1},{1},0:4,4:8", ("IMAGE[,LABELS][,A:B]",)),
        ("{1},9:12", ("8 slices", "9:12")),
        ("{1},5:2", ("5:2",)),
        ("{1},-3:-1", ("-3:-1", "A:B")),
        ("{1},0:6:2", ("0:6:2", "A:B")),
        ("{1}/raw", ("same array",)),
        ("{0}/empty.h5", ("empty.h5",)),
        ("{1}/raw,{0}/small.tif", ("(8, 64, 64)", "(8, 60, 64)")),
        ("{1}/raw,{0}/zeros.tif", ("object everywhere",)),
        ("", ()),
    ],
)
def test_wrong_data_end_with_one_message(train, small_tissue, tmp_path, data, words) -> None:
    for name, shape in (("small.tif", (8, 60, 64)), ("zeros.tif", (8, 64, 64))):
        write_volume(Volume(np.zeros(shape, np.uint8), (30, 6, 6), kind="labels"), tmp_path / name)
    given = data.format(tmp_path, small_tissue.file)
    refused(train(tmp_path / "a.safetensors", data=given or ","), *words)
    refused(train(tmp_path / "a.safetensors", validate=given or ","), *words)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("name", ["weights", "weights.pth"])
def test_the_suffix_says_what_the_file_is(train, tmp_path, name) -> None:
    refused(train(tmp_path / name), ".safetensors")


def test_unknown_choices_are_wrong_usage(train, tmp_path) -> None:
    for option in ("--kernel", "--zero"):
        said = train(tmp_path / "a.safetensors", option, "nonsense")
        assert said.code == 2
        assert "nonsense" in said.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a process alone")
def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(small_tissue, tmp_path) -> None:
    command = [
        sys.executable, "-m", "napari_em_seg", "train", "boundary", str(tmp_path / "m.safetensors"),
        "--data", str(small_tissue.file), "--validate", f"{small_tissue.file},0:3", "--steps", "2000",
        "--architecture", "m2fcn-small-1", "--side", "32", "--batch", "1", "--validate-every", "5",
        "--device", "cpu",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first validation
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "give the same command again to go on" in said
    assert (tmp_path / "m.training" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "m.safetensors").exists()
