"""napari-em-seg segment of affinities, as a user meets it: in blocks, and killed on the way."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.io import open_volume, write_volumes
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

BLOCKS = ("--method", "zwatershed", "--threshold", 0.4, "--blocks", 2, 24, 24)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Affinities as predict leaves them; on membranes they are low."""
    inside = generate((6, 96, 96), 3).labels > 0
    noise = np.random.default_rng(0).integers(0, 60, (3, *inside.shape))
    found = (40 + 150 * inside + noise).astype(np.uint8)
    volumes = {place: Volume(found[c], (30, 6, 6), place) for c, place in enumerate(AFFINITY_MAPS)}
    write_volumes(volumes, tmp_path / "maps.zarr")
    return tmp_path / "maps.zarr"


def kept(folder: Path) -> dict[str, int]:
    """Return the blocks and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*-*.npz")}


def test_a_killed_run_in_blocks_goes_on(command, maps, tmp_path) -> None:
    fresh = command(
        "segment", maps, "--out", tmp_path / "fresh.zarr", *BLOCKS, "--block-folder", tmp_path / "b"
    )
    assert fresh.code == 0, fresh
    folder, out = tmp_path / "maps.zarr.blocks", tmp_path / "out.zarr"
    program = [sys.executable, "-m", "napari_em_seg", "segment", maps, "--out", out, *BLOCKS]
    with subprocess.Popen(list(map(str, program)), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(kept(folder)) < 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
    before = kept(folder)
    assert 5 <= len(before) < len(kept(tmp_path / "b"))
    assert not out.exists()

    said = command("segment", maps, "--out", out, *BLOCKS)
    assert said.code == 0, said
    assert said.out.splitlines()[-1] == f"{folder} keeps the blocks, for another threshold or --agglomerate"
    after = kept(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) == set(kept(tmp_path / "b"))
    np.testing.assert_array_equal(*(open_volume(path, "labels")[:] for path in (out, tmp_path / "fresh.zarr")))
    assert said.out.splitlines()[0].split(":")[1] == fresh.out.splitlines()[0].split(":")[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "zwatershed", "--threshold", 0.5, "--overlap", 1, 1, 1), "without --blocks"),
        (("--method", "zwatershed", "--threshold", 0.5, "--block-folder", "b"), "without --blocks"),
        (("--h", 0.1, "--blocks", 2, 8, 8), "--blocks does nothing for --method hmin"),
        ((*BLOCKS, "--overlap", 3, 0, 0), "overlap of (3, 0, 0)"),
    ],
)
def test_what_does_not_fit_together_is_refused(command, maps, tmp_path, options, words) -> None:
    said = command("segment", maps, "--out", tmp_path / "out.zarr", *options)
    assert said.code == 2, said
    assert words in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["maps.zarr"]


def test_other_blocks_want_another_folder(command, maps, tmp_path) -> None:
    assert command("segment", maps, "--out", tmp_path / "0.zarr", *BLOCKS).code == 0
    said = command("segment", maps, "--out", tmp_path / "1.zarr", *BLOCKS[:-3], 3, 48, 48)
    assert said.code == 2
    assert "is that of a run with block [2, 24, 24]" in said.err


def test_a_stopped_run_says_how_to_go_on(command, maps, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_em_seg.cli.segmenting.stop_on_interrupt", _stopped_at_once)
    said = command("segment", maps, "--out", tmp_path / "out.zarr", *BLOCKS)
    assert said.code == 130
    assert "give the same command again" in said.err
    assert not (tmp_path / "out.zarr").exists()


class _stopped_at_once:  # noqa: N801 - stands for a function
    def __enter__(self):
        return lambda: True

    def __exit__(self, *_):
        return None
