"""napari-em-seg predict, segment and models, as a user meets them."""

import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.predict.registry import ARCHITECTURES
from napari_em_seg.segment import hmin_watershed
from napari_em_seg.volume import Volume


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def refused(said, *words) -> None:
    """Exit code 2, and one message that says what came, what was expected and what to do."""
    assert said.code == 2, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("Error: ")
    assert lines[0].count(". Expected ") == 1
    for word in words:
        assert str(word) in lines[0]


@pytest.fixture
def predict(command, small_tissue):
    def run(out, *options, source=None):
        return command("predict", source or small_tissue.file, "--out", out, "--device", "cpu", *options)

    return run


# -------------------------------------------------------------------------------------------------- predict


def test_auto_says_which_model_it_is_and_why(predict, put_model, tmp_path) -> None:
    put_model("fly", 1, voxel_size_nm=(50.0, 4.0, 4.0))
    put_model("mouse", 2, voxel_size_nm=(29.0, 6.0, 6.0))
    said = predict(tmp_path / "out.h5")
    assert said.code == 0, said
    assert said.out.startswith("Model mouse: ")
    for expected in ("2 boundary models", "29 × 6 × 6 nm", "30 × 6 × 6 nm", "Wrote"):
        assert expected in said.out
    assert said.err == ""
    predict(tmp_path / "named.h5", "--model", "mouse")
    np.testing.assert_array_equal(open_volume(tmp_path / "out.h5")[:], open_volume(tmp_path / "named.h5")[:])


def test_pixels_of_another_size_are_warned_of(predict, put_model, tmp_path) -> None:
    put_model("coarse", voxel_size_nm=(30.0, 18.0, 18.0))
    said = predict(tmp_path / "out.h5", "--views", 1)
    assert said.code == 0
    assert said.err.startswith("Warning: Pixels differ 3.0 times")
    assert len(said.err.strip().splitlines()) == 1


def test_the_voxel_size_can_be_told_where_it_is_unknown(predict, small_tissue, put_model, tmp_path) -> None:
    put_model("fly", 1, voxel_size_nm=(50.0, 4.0, 4.0))
    put_model("mouse", 2)
    write_volume(Volume(small_tissue.raw[:]), tmp_path / "stack.tif")
    image = tmp_path / "stack.tif"
    refused(predict(tmp_path / "a.h5", source=image), "stack.tif", "unknown", "--voxel-size", "fly", "mouse")
    said = predict(tmp_path / "a.h5", "--voxel-size", 48, 4, 4, "--views", 1, source=image)
    assert said.code == 0, said
    assert "Model fly" in said.out
    assert open_volume(tmp_path / "a.h5").voxel_size_nm == (48, 4, 4)


def test_several_models_local_ones_slices_and_types(predict, put_model, tmp_path) -> None:
    files = [put_model(name, seed) for seed, name in enumerate(("one", "two", "three"))]
    options = ("--views", 1, "--dtype", "float32")
    maps = []
    for name in ("one", files[1], "three"):
        assert predict(tmp_path / f"{len(maps)}.h5", "--model", name, *options).code == 0
        maps.append(open_volume(tmp_path / f"{len(maps)}.h5")[:])
    said = predict(
        tmp_path / "out.h5", "--model", "one", "--model", files[1], "--local-model", "three",
        "--misaligned", "2,5", "--slices", "1:6", *options,
    )  # fmt: skip
    assert said.code == 0, said
    expected = np.maximum(maps[0], maps[1])
    expected[[2, 5]] = np.maximum(expected, maps[2])[[2, 5]]
    np.testing.assert_allclose(open_volume(tmp_path / "out.h5")[:], expected[1:6], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--slices", "9:12"), ("9:12", "0:8")),
        (("--slices", "5:2"), ("5:2",)),
        (("--slices", "5"), ("'5'", "A:B")),
        (("--views", 5), ("5 views", "16")),
        (("--model", "mousy"), ("mousy", "Did you mean mouse")),
        (("--model", "no/such.safetensors"), ("such.safetensors",)),
        (("--local-model", "mouse", "--misaligned", "2,x"), ("2,x",)),
        (("--local-model", "mouse", "--misaligned", "2,77"), ("77",)),
        (("--tile", 0), ("size",)),
        (("--device", "abacus"), ("abacus",)),
        (("--voxel-size", -1, 6, 6), ("voxel size",)),
    ],
)
def test_wrong_options_end_with_one_message(predict, put_model, tmp_path, options, words) -> None:
    put_model("mouse")
    refused(predict(tmp_path / "out.h5", "--model", "mouse", *options), *words)
    assert not list(tmp_path.iterdir())


def test_bad_places_end_with_one_message(predict, put_model, tmp_path) -> None:
    put_model("mouse")
    refused(predict(tmp_path / "no" / "out.h5"), "does not exist")
    refused(predict(tmp_path / "out.jpg"), "suffix")
    refused(predict(tmp_path / "out.h5", source=tmp_path / "nothing.tif"), "nothing.tif")
    (tmp_path / "out.h5").write_text("precious")
    refused(predict(tmp_path / "out.h5"), "out.h5")
    assert (tmp_path / "out.h5").read_text() == "precious"


@pytest.mark.usefixtures("models_folder")
def test_without_models_the_way_to_one_is_told(predict, tmp_path) -> None:
    refused(predict(tmp_path / "out.h5"), "train boundary")


# -------------------------------------------------------------------------------------------------- segment


@pytest.fixture
def boundary(small_tissue, tmp_path):
    found = Volume((small_tissue.labels[:] == 0).astype(np.float32), (30, 6, 6), "boundary")
    write_volume(found, tmp_path / "boundary.h5")
    return tmp_path / "boundary.h5"


def test_a_depth_is_used(command, boundary, tmp_path) -> None:
    said = command("segment", boundary, "--out", tmp_path / "out.zarr", "--h", 0.2)
    assert said.code == 0, said
    labels = open_volume(tmp_path / "out.zarr", "labels")
    np.testing.assert_array_equal(labels[:], hmin_watershed(open_volume(boundary), 0.2))
    assert re.search(rf"Wrote .*out.zarr: {labels[:].max()} segments at h = 0.2", said.out)


def test_the_best_depth_is_marked_in_a_table(command, small_tissue, boundary, tmp_path) -> None:
    said = command("segment", boundary, "--out", tmp_path / "out.h5", "--truth", small_tissue.file)
    assert said.code == 0, said
    rows = [line.split() for line in said.out.splitlines()[1:-1]]
    assert len(rows) > 5
    (best,) = [row for row in rows if row[-1] == "best"]
    assert float(best[1]) == min(float(row[1]) for row in rows)
    scores = evaluate(contingency(open_volume(tmp_path / "out.h5", "labels"), small_tissue.labels))
    assert float(best[1]) == pytest.approx(scores.adapted_rand_error, abs=1e-4)
    assert said.out.splitlines()[-1].endswith(f"at h = {best[0]}")


def test_slices_by_themselves_mask_and_sigma(command, small_tissue, boundary, tmp_path) -> None:
    write_volume(Volume((small_tissue.labels[:] != 0).astype(np.uint8), kind="labels"), tmp_path / "mask.tif")
    options = ("--h", 0.1, "--per-slice", "--sigma", 0.5, "--mask", tmp_path / "mask.tif")
    said = command("segment", boundary, "--out", tmp_path / "out.h5", *options)
    assert said.code == 0, said
    inside = small_tissue.labels[:] != 0
    expected = hmin_watershed(open_volume(boundary), 0.1, sigma=0.5, mode="2d", mask=inside)
    labels = open_volume(tmp_path / "out.h5", "labels")[:]
    np.testing.assert_array_equal(labels, expected)
    per_slice = [set(np.unique(plane[plane > 0])) for plane in labels]
    assert sum(map(len, per_slice)) == len(set().union(*per_slice))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("Neither", "--h", "--truth")),
        (("--h", 0.1, "--truth", "boundary.h5"), ("Both", "--h", "--truth")),
        (("--h", 1.5), ("1.5",)),
        (("--h", 0.1, "--sigma", -2), ("Sigma",)),
        (("--truth", "nothing.h5"), ("nothing.h5",)),
        (("--h", 0.1, "--mask", "nothing.h5"), ("nothing.h5",)),
    ],
)
def test_segment_refuses_what_makes_no_sense(command, boundary, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    refused(command("segment", boundary, "--out", "out.h5", *options), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["boundary.h5"]


def test_from_image_to_measures(predict, command, small_tissue, put_model, tmp_path) -> None:
    """What the commands write, the next ones read."""
    put_model("mouse")
    assert predict(tmp_path / "all.zarr" / "boundary").code == 0
    out = tmp_path / "all.zarr" / "segments"
    assert command("segment", tmp_path / "all.zarr" / "boundary", "--out", out, "--h", 0.05).code == 0
    said = command("evaluate", out, small_tissue.file, "--json")
    assert said.code == 0, said
    assert 0 <= json.loads(said.out)["adapted_rand_error"] <= 1


# --------------------------------------------------------------------------------------------------- models


def test_models_are_described_for_people(command, put_model) -> None:
    path = put_model(
        "mouse", tissue="mouse cortex", licence="CC-BY 4.0", measures={"error": 0.25}, command="make it"
    )
    said = command("models").out
    assert said.splitlines()[0] == "mouse"
    for expected in (
        "mouse cortex",
        "30 × 6 × 6 nm",
        "CC-BY 4.0",
        "error 0.25",
        "make it",
        str(path),
        "1 slice in",
    ):
        assert expected in said


def test_models_are_listed_for_programs(command, put_model) -> None:
    put_model("mouse", measures={"error": 0.25}, n_slices=3)
    put_model("µm", data=("a – b",))
    found = {entry["name"]: entry for entry in json.loads(command("models", "--json").out)}
    forests = {name: entry for name, entry in found.items() if entry["task"] in ("agglomeration", "assignment")}
    assert set(found) - set(forests) == {"mouse", "µm"}
    assert {entry["task"] for entry in forests.values()} == {"agglomeration", "assignment"}
    assert all(entry["licence"] and entry["data"] and entry["command"] for entry in forests.values())
    assert found["mouse"]["measures"] == {"error": 0.25}
    assert found["mouse"]["n_slices"] == 3
    assert found["mouse"]["origin"] == "user"
    assert found["mouse"]["voxel_size_nm"] == [30, 6, 6]
    assert {"licence", "data", "tissue", "architecture", "path", "n_parameters"} <= set(found["µm"])


@pytest.mark.usefixtures("models_folder")
def test_no_models_are_no_error(command) -> None:
    said = command("models")
    assert said.code == 0
    assert "train boundary" in said.out
    left = json.loads(command("models", "--json").out)  # forests come along whatever networks there are
    assert {entry["task"] for entry in left} <= {"agglomeration", "assignment"}


def test_networks_are_listed(command, monkeypatch) -> None:
    few = {name: ARCHITECTURES[name] for name in ("unet-small-s1", "m2fcn-small-2")}  # all of them take seconds
    monkeypatch.setattr(sys.modules["napari_em_seg.pipeline.models"], "ARCHITECTURES", few)
    said = command("models", "--networks").out
    assert [line.split()[0] for line in said.splitlines()] == ["network", *few]
    listed = json.loads(command("models", "--networks", "--json").out)
    assert [entry["name"] for entry in listed] == list(few)
    assert all(entry["n_parameters"] > 0 and entry["loss"] for entry in listed)


def test_a_damaged_model_is_a_warning_and_no_crash(command, put_model, caplog) -> None:
    put_model("mouse")
    broken = put_model("broken")
    broken.write_bytes(broken.read_bytes()[:-50])
    with caplog.at_level(logging.WARNING):
        said = command("models")
    assert said.code == 0
    assert said.out.splitlines()[0] == "mouse"
    assert "broken.safetensors was left out" in caplog.text


def test_a_warning_goes_to_stderr_so_that_json_stays_json(put_model) -> None:
    """In a process of its own, since logging is set up once for all."""
    put_model("broken").write_text("no weights")
    result = subprocess.run(
        [sys.executable, "-m", "napari_em_seg", "models", "--json"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "broken" not in {entry["name"] for entry in json.loads(result.stdout)}
    assert "broken.safetensors was left out" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "hmin", "--h", 0.1, "--threshold", 0.5), "--threshold does nothing for --method hmin"),
        (("--h", 0.1, "--agglomerate", "learned"), "--agglomerate does nothing for --method hmin"),
        (("--h", 0.1, "--quantile", 0.9), "--quantile does nothing for --method hmin"),
        (
            ("--method", "zwatershed", "--threshold", 0.5, "--sigma", 2),
            "--sigma does nothing for --method zwat",
        ),
        (
            ("--method", "zwatershed", "--threshold", 0.5, "--quantile", 0.9),
            "--quantile does nothing for --aggl",
        ),
        (
            ("--method", "zwatershed", "--threshold", 0.5, "--forest", "f.npz"),
            "--forest does nothing for --aggl",
        ),
        (("--method", "zwatershed", "--threshold", 0.5, "--per-slice"), "--per-slice does nothing"),
    ],
)
def test_options_of_another_method_are_refused(command, small_tissue, tmp_path, arguments, said) -> None:
    result = command("segment", small_tissue.file / "raw", "--out", tmp_path / "s.zarr", *arguments)
    assert result.code == 2
    assert said in result.err


def test_misaligned_slices_need_a_model_for_them(command, small_tissue, put_model, tmp_path) -> None:
    model = put_model("one")
    result = command(
        "predict",
        small_tissue.file / "raw",
        "--model",
        model,
        "--out",
        tmp_path / "m.zarr",
        "--misaligned",
        "2",
    )
    assert result.code == 2
    assert "--local-model" in result.err


def test_misaligned_slices_found_are_named(command, small_tissue, put_model, tmp_path, caplog) -> None:
    model = put_model("one")
    result = command(
        "predict", small_tissue.file / "raw", "--model", model, "--local-model", model, "--views", 1,
        "--device", "cpu", "--out", tmp_path / "m.zarr",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "Misaligned slices: " in caplog.text


def test_labels_are_no_image(command, small_tissue, put_model, tmp_path) -> None:
    model = put_model("one")
    result = command("predict", small_tissue.file / "labels", "--model", model, "--out", tmp_path / "m.zarr")
    assert result.code == 2
    assert "as labels do" in result.err


def test_a_part_of_the_truth_is_enough(command, small_tissue, tmp_path) -> None:
    """A map of slices 2 to 5 is compared with slices 2 to 5 of labels of the whole."""
    inside = (small_tissue.labels[2:6] == 0).astype(np.uint8) * 255
    write_volume(Volume(inside, (30, 6, 6), "map"), tmp_path / "map.zarr")
    truth = f"{small_tissue.file}/labels"
    result = command("segment", tmp_path / "map.zarr", "--truth", f"{truth},2:6", "--out", tmp_path / "s.zarr")
    assert result.code == 0, result.err
    assert command("evaluate", tmp_path / "s.zarr", f"{truth},2:6").code == 0
    whole = command("evaluate", tmp_path / "s.zarr", truth)
    assert whole.code == 2
    assert open_volume(tmp_path / "s.zarr", "labels").shape == (4, 64, 64)
