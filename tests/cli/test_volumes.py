"""The command line as a user meets it: a process with output, messages and an exit code."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_em_seg import __version__
from napari_em_seg.io import open_volume

SCORES = {
    "adapted_rand_error",
    "vi_split",
    "vi_merge",
    "v_rand_merge",
    "v_rand_split",
    "v_rand_f",
}


def write_tiff(path: Path, data: np.ndarray, photometric: str = "minisblack", **options: object) -> None:
    tifffile.imwrite(path, data, photometric=photometric, **options)


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_em_seg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tissue.zarr"
    result = run("sample", path, "--shape", 6, 128, 160, "--seed", 3)
    assert result.returncode == 0, result.stderr
    return path


def test_sample_writes_image_and_truth(sample_file: Path) -> None:
    raw, labels = open_volume(sample_file / "raw"), open_volume(sample_file / "labels", "labels")
    assert raw.shape == labels.shape == (6, 128, 160)
    assert raw.dtype == np.uint8
    assert raw.voxel_size_nm == labels.voxel_size_nm == (30, 6, 6)
    assert len(np.unique(labels[:])) > 3


def test_the_same_seed_gives_the_same_sample(sample_file: Path, tmp_path: Path) -> None:
    run("sample", tmp_path / "again.h5", "--shape", 6, 128, 160, "--seed", 3)
    again = open_volume(tmp_path / "again.h5/raw")
    np.testing.assert_array_equal(again[:], open_volume(sample_file / "raw")[:])


def test_sample_does_not_overwrite_unasked(sample_file: Path) -> None:
    result = run("sample", sample_file, "--shape", 6, 128, 160)
    assert result.returncode == 2
    assert "exists already" in result.stderr
    assert run("sample", sample_file, "--shape", 6, 128, 160, "--seed", 3, "--overwrite").returncode == 0


def test_info_says_what_is_there(sample_file: Path) -> None:
    said = run("info", f"{sample_file}/raw").stdout
    for expected in ("image", "6 × 128 × 160", "30 × 6 × 6 nm", "uint8"):
        assert expected in said


def test_info_lists_every_volume_as_json(sample_file: Path) -> None:
    volumes = json.loads(run("info", sample_file, "--json").stdout)
    assert {volume["kind"] for volume in volumes} == {"image", "labels"}
    assert all(volume["shape"] == [6, 128, 160] for volume in volumes)
    assert all(volume["voxel_size_nm"] == [30, 6, 6] for volume in volumes)


def test_truth_against_itself_has_no_error(sample_file: Path) -> None:
    result = run("evaluate", f"{sample_file}/labels", f"{sample_file}/labels", "--json")
    scores = json.loads(result.stdout)
    assert set(scores) >= SCORES
    assert scores["adapted_rand_error"] == 0
    assert scores["vi_split"] == scores["vi_merge"] == 0
    assert scores["v_rand_f"] == 1


def test_evaluate_finds_the_label_arrays_itself(sample_file: Path) -> None:
    assert json.loads(run("evaluate", sample_file, sample_file, "--json").stdout)["adapted_rand_error"] == 0


def test_evaluate_prints_every_measure_for_people(sample_file: Path) -> None:
    said = run("evaluate", sample_file, sample_file).stdout
    assert {line.split()[0] for line in said.splitlines()} >= SCORES


def test_evaluate_counts_a_merge_as_a_merge(tmp_path: Path) -> None:
    truth = np.repeat(np.arange(1, 5, dtype=np.uint32), 100).reshape(4, 10, 10)
    write_tiff(tmp_path / "truth.tif", truth)
    write_tiff(tmp_path / "merged.tif", np.where(truth == 2, 1, truth))
    scores = json.loads(run("evaluate", tmp_path / "merged.tif", tmp_path / "truth.tif", "--json").stdout)
    # Half of the voxels lie in a segment of two equal objects: one bit each, so half a bit on average.
    assert scores["vi_merge"] == pytest.approx(0.5)
    assert scores["vi_split"] == 0


def test_without_a_truth_evaluate_says_how_plausible_it_is(tmp_path: Path) -> None:
    labels = np.zeros((4, 20, 20), np.uint32)
    labels[:, :5], labels[1:3, 8:12, 8:12] = 1, 2
    write_tiff(tmp_path / "labels.tif", labels)
    figures = json.loads(run("evaluate", tmp_path / "labels.tif", "--orphan-voxels", 30, "--json").stdout)
    assert (figures["n_objects"], figures["n_ends"], figures["n_orphans"]) == (2, 2, 1)
    assert figures["length_median_um"] is None  # nobody knows the voxel size
    said = run("evaluate", tmp_path / "labels.tif", "--voxel-size", 30, 6, 6).stdout
    assert "n_orphans                0" in said
    assert "length_longest_um        0.1723" in said  # the diagonal of the slab at the edge


def test_convert_keeps_labels_and_sets_the_voxel_size(tmp_path: Path) -> None:
    labels = np.full((3, 20, 30), 2**63 + 1, np.uint64)
    write_tiff(tmp_path / "ids.tif", labels)
    result = run("convert", tmp_path / "ids.tif", tmp_path / "ids.zarr", "--voxel-size", 40, 4, 4)
    assert result.returncode == 0, result.stderr
    volume = open_volume(tmp_path / "ids.zarr", "labels")
    np.testing.assert_array_equal(volume[:], labels)
    assert volume.dtype == np.uint64
    assert volume.voxel_size_nm == (40, 4, 4)


def test_a_part_is_converted(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
    write_tiff(tmp_path / "all.tif", image)
    result = run(
        "convert",
        tmp_path / "all.tif",
        tmp_path / "part.zarr",
        "--part",
        "1:3,:16,10:",
        "--voxel-size",
        40,
        4,
        4,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(open_volume(tmp_path / "part.zarr")[:], image[1:3, :16, 10:])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("1-3", "such as 10:20,0:512,256:768"),
        ("0:1,0:1,0:1,0:1", "ranges of"),
        ("7:9", "5×20×30 (z, y, x); the part is 7:9"),
    ],
)
def test_a_part_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path, part: str, words: str) -> None:
    write_tiff(tmp_path / "all.tif", np.zeros((5, 20, 30), np.uint8))
    result = run("convert", tmp_path / "all.tif", tmp_path / "part.zarr", "--part", part)
    assert result.returncode == 2
    assert words in result.stderr
    assert not (tmp_path / "part.zarr").exists()


def test_info_says_that_the_voxel_size_is_unknown_and_how_to_set_it(tmp_path: Path) -> None:
    write_tiff(tmp_path / "stack.tif", np.zeros((3, 20, 30), np.uint8))
    said = run("info", tmp_path / "stack.tif").stdout
    assert "unknown" in said
    assert "--voxel-size" in said


def _bad_inputs(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (4, 32, 32), dtype=np.uint8)
    write_tiff(folder / "whole.tif", stack, compression="zlib")
    (folder / "truncated.tif").write_bytes((folder / "whole.tif").read_bytes()[:2000])
    (folder / "suffix.h5").write_text("this is no HDF5 file")
    (folder / "empty").mkdir()
    (folder / "unequal").mkdir()
    write_tiff(folder / "unequal" / "0.tif", stack[0])
    write_tiff(folder / "unequal" / "1.tif", stack[1, :20])
    (folder / "dtypes").mkdir()
    write_tiff(folder / "dtypes" / "0.tif", stack[0])
    write_tiff(folder / "dtypes" / "1.tif", stack[1].astype(np.uint16))
    (folder / "rgb").mkdir()
    write_tiff(folder / "rgb" / "0.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with h5py.File(folder / "nan.h5", "w") as file:
        file["raw"] = np.full((3, 8, 8), np.nan, np.float32)
    write_tiff(folder / "2d.tif", stack[0])
    write_tiff(folder / "4d.tif", np.zeros((2, 3, 8, 8), np.uint8), metadata={"axes": "TZYX"})
    return {path.name: path for path in folder.iterdir()} | {"missing.tif": folder / "missing.tif"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("truncated.tif", "truncated"),
        ("suffix.h5", "not what its name says"),
        ("empty", "is empty"),
        ("unequal", "20×32"),
        ("dtypes", "uint16"),
        ("rgb", "colour"),
        ("nan.h5", "not finite"),
        ("2d.tif", "32×32"),
        ("4d.tif", "2×3×8×8"),
        ("missing.tif", "There is nothing at"),
    ],
)
def test_bad_input_ends_with_one_clear_message(tmp_path: Path, name: str, said: str) -> None:
    result = run("info", _bad_inputs(tmp_path)[name])
    assert result.returncode == 2
    assert said in result.stderr
    assert "Expected" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_shapes_that_differ_are_named(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.ones((3, 8, 8), np.uint16))
    write_tiff(tmp_path / "b.tif", np.ones((3, 8, 9), np.uint16))
    result = run("evaluate", tmp_path / "a.tif", tmp_path / "b.tif")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "8" in result.stderr
    assert "9" in result.stderr


def test_a_sample_too_small_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    result = run("sample", tmp_path / "small.zarr", "--shape", 0, 10, 10)
    assert result.returncode == 2
    assert not list(tmp_path.iterdir())


def test_wrong_usage_has_exit_code_2() -> None:
    assert run("no-such-command").returncode == 2
    assert run("info").returncode == 2


def test_help_lists_the_commands_and_nothing_that_does_not_work() -> None:
    said = run("--help").stdout
    for command in ("sample", "info", "convert", "predict", "segment", "models", "train", "evaluate", "demo"):
        assert command in said
        assert run(command, "--help").returncode == 0


def test_version() -> None:
    assert run("--version").stdout.strip() == __version__


def test_ac4_is_described(real_data: Path) -> None:
    volumes = json.loads(run("info", real_data / "ac4_z63-99.h5", "--json").stdout)
    assert [volume["voxel_size_nm"] for volume in volumes] == [[30, 6, 6]] * 2
    assert {volume["kind"] for volume in volumes} == {"image", "labels"}
