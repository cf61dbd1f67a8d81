"""napari-em-seg propagate, as a user meets it."""

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.predict.registry import build
from napari_em_seg.predict.weights import Card, save_weights
from napari_em_seg.volume import Volume


@pytest.fixture
def model(models_folder):
    """A propagator that says yes everywhere, so that the first object never ends."""
    net = build("propagator-small", pixel_nm=6.0)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(2.0)
    card = Card("tiny", "propagator-small", 1, None, (30, 6, 6), "nothing", (), "none",
                arguments={"pixel_nm": 6.0}, task="propagator")  # fmt: skip
    save_weights(models_folder / "tiny.safetensors", net, card)
    return models_folder / "tiny.safetensors"


@pytest.fixture
def seeds(small_tissue, tmp_path):
    plane = np.asarray(small_tissue.labels[3])[None]
    write_volume(Volume(plane.astype(np.uint32), (30, 6, 6), "seeds", kind="labels"), str(tmp_path / "s.zarr"))
    return tmp_path / "s.zarr", plane[0]


def read(table):
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_labels_and_confidences_are_written(command, small_tissue, seeds, model, tmp_path):
    path, plane = seeds
    out, table = tmp_path / "out.zarr", tmp_path / "sure.csv"
    ran = command(
        "propagate", small_tissue.file / "raw", path, "--reference", 3, "--out", out, "--confidence", table,
        "--voxel-size", 30, 6, 6,
    )  # fmt: skip
    assert ran.code == 0, ran
    names = np.unique(plane)[1:]
    assert f"{len(names)} objects" in ran.out
    found = open_volume(str(out), "labels")
    assert found.shape == small_tissue.raw.shape
    assert (found[3] == plane).all()
    rows = read(table)
    assert {int(row["object"]) for row in rows} == set(names.tolist())
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert {row["confidence"] for row in rows if row["z"] == "3"} == {"1.0000"}


@pytest.mark.parametrize(
    ("options", "slices"),
    [(("--direction", "up"), {3, 4, 5, 6, 7}), (("--direction", "down", "--extent", 2), {1, 2, 3}),
     (("--extent", 1), {2, 3, 4}), (("--slices", "2:4"), {2, 3})],
)  # fmt: skip
def test_how_far_and_which_way(command, small_tissue, seeds, model, tmp_path, options, slices):
    table = tmp_path / "sure.csv"
    ran = command(
        "propagate", small_tissue.file / "raw", seeds[0], "--reference", 3, "--out", tmp_path / "out.zarr",
        "--model", model, "--confidence", table, *options,
    )  # fmt: skip
    assert ran.code == 0, ran
    walked = {int(row["z"]) for row in read(table)}
    assert walked == slices


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"--reference": 9}, "one of 0 to 7"), ({"--extent": 0}, "at least one slice"),
     ({"--model": "nothing"}, "no model named"), ({"--slices": "5:7"}, "not among the slices")],
)  # fmt: skip
def test_what_does_not_fit_is_said(command, small_tissue, seeds, model, tmp_path, changed, words):
    options = {"--reference": 3, "--out": tmp_path / "out.zarr", **changed}
    given = [part for pair in options.items() for part in pair]
    ran = command("propagate", small_tissue.file / "raw", seeds[0], *given)
    assert ran.code == 2, ran
    assert words in ran.err
    assert not (tmp_path / "out.zarr").exists()


def test_seeds_of_another_image_are_refused(command, small_tissue, model, tmp_path):
    write_volume(
        Volume(np.ones((2, 9, 9), np.uint32), (30, 6, 6), "x", kind="labels"), str(tmp_path / "x.zarr")
    )
    ran = command(
        "propagate",
        small_tissue.file / "raw",
        tmp_path / "x.zarr",
        "--reference",
        3,
        "--out",
        tmp_path / "o.zarr",
    )
    assert ran.code == 2
    assert "(2, 9, 9)" in ran.err


def test_ctrl_c_keeps_what_is_done(model, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (400, 96, 96), np.uint8)
    seeds = np.zeros((1, 96, 96), np.uint32)
    seeds[0, 20:60, 20:60] = 5
    write_volume(Volume(image, (30, 6, 6), "raw"), str(tmp_path / "raw.zarr"))
    write_volume(Volume(seeds, (30, 6, 6), "s", kind="labels"), str(tmp_path / "s.zarr"))
    program = ["napari-em-seg", "propagate", tmp_path / "raw.zarr", tmp_path / "s.zarr",
               "--reference", 0, "--out", tmp_path / "out.zarr"]  # fmt: skip
    code = (
        "import runpy, sys, napari_em_seg.propagate.tracker as t; step = t._Walker._step; "
        "sys.argv = sys.argv[1:]; "
        "t._Walker._step = lambda self, o, z: (print(z, flush=True), step(self, o, z))[1]; "
        "runpy.run_module('napari_em_seg', run_name='__main__')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        while process.stdout.readline().strip() != "3":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert len(said[0].split()) < 100  # slices that it still took, of 396
    found = open_volume(str(tmp_path / "out.zarr"), "labels")
    assert (found[0] == seeds[0]).all()
    assert "the other slices are empty" in said[1]
