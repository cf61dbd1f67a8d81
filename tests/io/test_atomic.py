"""The final name never holds half a file: killed, cancelled, failing or refused writes."""

import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import FORMATS, _atomic, open_volume, write_volume
from napari_em_seg.volume import Volume

NAMES = [f.name for f in FORMATS]
FAMILIES = ["tiff", "hdf5", "ome-zarr", "zarr2", "n5", "precomputed", "png-slices"]
CONTAINERS = {"hdf5": "h5", "ome-zarr": "zarr", "zarr2": "zarr", "n5": "n5"}
SIZE = (30, 6, 6)
SHAPE = (24, 256, 256)

# Writes in child processes and kills them after a while: argv is a format and a list of (target, seconds).
KILLER = f"""
import json, os, signal, sys, time
import numpy as np
from napari_em_seg.io import write_volume
from napari_em_seg.volume import Volume
name, runs = sys.argv[1], json.loads(sys.argv[2])
volume = Volume(np.random.default_rng(1).integers(0, 255, {SHAPE}, "uint8"), (30, 6, 6))
for target, seconds in runs:
    child = os.fork()
    if not child:
        write_volume(volume, target, name, overwrite=True)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""

HOST = re.sub(r"\W+", "_", platform.node())[:40]
"""How a leftover says which computer it is from."""


def kill(name, runs):
    subprocess.run([sys.executable, "-c", KILLER, name, json.dumps(runs)], check=True, timeout=120)


def new_volume():
    return Volume(np.random.default_rng(1).integers(0, 255, SHAPE, "uint8"), SIZE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", FAMILIES)
def test_killed_writes_leave_nothing_or_all(name, tmp_path, numbers, target_in):
    seconds = [random.Random(name).uniform(0.0, 0.25) for _ in range(10)]
    folders = [tmp_path / str(i) for i in range(10)]
    old = numbers((3, 4, 5))
    for folder in folders:
        folder.mkdir()
    for folder in folders[5:]:  # half of the writes replace something
        write_volume(Volume(old, SIZE), target_in(folder, name), name)
    kill(name, [(str(target_in(f, name)), s) for f, s in zip(folders, seconds, strict=True)])
    new = new_volume()
    for i, folder in enumerate(folders):
        target = target_in(folder, name)
        if target.exists():
            got = open_volume(target)[:]
            assert np.array_equal(got, new.data) or (i >= 5 and np.array_equal(got, old))
        write_volume(Volume(old[::-1], SIZE), target, name, overwrite=True)
        assert [p.name for p in folder.iterdir()] == [target.name], "the next write cleans up"
        assert np.array_equal(open_volume(target)[:], old[::-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_killed_second_array_leaves_the_first(name, tmp_path, numbers):
    root, first = tmp_path / f"a.{CONTAINERS[name]}", numbers((3, 4, 5), "uint64")
    write_volume(Volume(first, SIZE, kind="labels"), root / "first", name)
    copies = [tmp_path / f"{i}.{CONTAINERS[name]}" for i in range(5)]
    for copy in copies:
        shutil.copytree(root, copy) if root.is_dir() else shutil.copy(root, copy)
    kill(name, [(f"{c}/second", s) for c, s in zip(copies, (0.01, 0.03, 0.06, 0.1, 0.2), strict=True)])
    for copy in copies:
        assert np.array_equal(open_volume(copy / "first", "labels")[:], first)
        write_volume(new_volume(), copy / "second", name, overwrite=True)
        assert np.array_equal(open_volume(copy / "second")[:], new_volume().data)
        assert np.array_equal(open_volume(copy / "first", "labels")[:], first)
        assert not [p for p in copy.rglob("*") if "partial" in p.name]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in (root, *copies)}


class FailsAtSlice:
    """An array that cannot be read beyond a slice."""

    def __init__(self, array, at, error):
        self.array, self.at, self.error, self.shape, self.dtype = array, at, error, array.shape, array.dtype

    def __getitem__(self, key):
        zs = range(self.shape[0])[key if not isinstance(key, tuple) else key[0]]
        if (zs if isinstance(zs, int) else max(zs)) >= self.at:
            raise self.error
        return self.array[key]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), EmSegError("a", "b", "c"), ZeroDivisionError()], ids=repr
)
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_source_that_fails_halfway(name, overwrite, error, tmp_path, numbers, target_in):
    target, old = target_in(tmp_path, name), numbers((3, 4, 5))
    if overwrite:
        write_volume(Volume(old, SIZE), target, name)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(type(error)):
        write_volume(
            Volume(FailsAtSlice(numbers((40, 9, 9)), 30, error), SIZE), target, name, overwrite=overwrite
        )
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    if overwrite:
        assert np.array_equal(open_volume(target)[:], old)


@pytest.mark.parametrize("name", NAMES)
def test_cancelling_leaves_nothing(name, tmp_path, numbers, target_in):
    def cancel(done, total):
        if done >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_volume(Volume(numbers((40, 9, 9)), SIZE), target_in(tmp_path, name), name, progress=cancel)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_cancelling_a_second_array_leaves_the_container_as_it_was(name, tmp_path, numbers):
    def cancel(done, total):
        raise KeyboardInterrupt

    root, first = tmp_path / f"a.{CONTAINERS[name]}", numbers((3, 4, 5))
    write_volume(Volume(first, SIZE), root / "first", name)
    before = sorted(map(str, tmp_path.rglob("*")))
    for inner in ("second", "group/second"):
        with pytest.raises(KeyboardInterrupt):
            write_volume(Volume(first, SIZE), root / inner, name, progress=cancel)
        assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert np.array_equal(open_volume(root)[:], first)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from napari_em_seg.errors import EmSegError
from napari_em_seg.io import write_volume
from napari_em_seg.volume import Volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
volume = Volume(np.random.default_rng(0).integers(0, 255, (16, 256, 256), "uint8"), (30, 6, 6))
try:
    write_volume(volume, sys.argv[1], sys.argv[2], overwrite=True)
except EmSegError as error:
    sys.exit(f"clear: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_full_disk(name, tmp_path, numbers, target_in):
    """A limit on the size of files stands in for a disk that is full."""
    target, old = target_in(tmp_path, name), numbers((3, 4, 5))
    write_volume(Volume(old, SIZE), target, name)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(target), name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines[-1].startswith("clear: "), result.stderr
    assert str(target) in lines[-1]
    assert "space" in lines[-1]
    assert "tensorstore" not in lines[-1]
    assert "Traceback" not in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    assert np.array_equal(open_volume(target)[:], old)


@pytest.mark.parametrize("name", FAMILIES)
def test_leftovers_of_others_that_are_alive_stay(name, tmp_path, numbers, target_in):
    target = target_in(tmp_path, name)
    alive = tmp_path / f".{target.name}.partial-{HOST}-{os.getppid()}-1a"
    away = tmp_path / f".{target.name}.partial-another_computer-999999999-1a"
    other = tmp_path / f".other{target.name}.partial-{HOST}-999999999-1a"
    dead = tmp_path / f".{target.name}.partial-{HOST}-999999999-1a"
    for path in (alive, away, other, dead):
        path.write_text("half")
    write_volume(Volume(numbers((3, 4, 5)), SIZE), target, name)
    assert {p.name for p in tmp_path.iterdir()} == {target.name, alive.name, away.name, other.name}


def test_a_replaced_folder_comes_back_after_a_kill(tmp_path, numbers):
    """Killed between the two renames that replace a folder: what was moved aside is not thrown away."""
    target, old = tmp_path / "a.zarr", numbers((3, 4, 5))
    write_volume(Volume(old, SIZE), target)
    target.rename(tmp_path / f".a.zarr.replaced-{HOST}-999999999-1a")
    with pytest.raises(FileExistsError):
        write_volume(Volume(old, SIZE), target)
    assert np.array_equal(open_volume(target)[:], old)


def test_missing_chunks_are_not_the_trace_of_a_kill(tmp_path):
    """All chunks of a written array are there or are background."""
    write_volume(new_volume(), tmp_path / "a.zarr", "zarr3")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.zarr/"}}
    assert np.array_equal(ts.open(spec).result().read().result(), new_volume().data)


@pytest.mark.parametrize("name", ["tiff", "zarr3"])
def test_long_names(name, tmp_path, numbers, target_in):
    """A name that the disk can hold is written, though the temporary name beside it is longer."""
    suffix = "".join(target_in(tmp_path, name).suffixes)
    target = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    write_volume(Volume(numbers((3, 4, 5)), SIZE), target, name)
    assert open_volume(target).shape == (3, 4, 5)


def test_what_is_written_counts_even_if_the_old_folder_cannot_be_removed(tmp_path, monkeypatch) -> None:
    target = tmp_path / "volume.zarr"
    target.mkdir()
    (target / "old").write_text("old")
    remove = _atomic._remove

    def stubborn(path: Path) -> None:
        if ".replaced-" in path.name:
            raise OSError("busy")
        remove(path)

    monkeypatch.setattr(_atomic, "_remove", stubborn)
    with _atomic.atomic(target, overwrite=True) as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
    assert [one.name for one in target.iterdir()] == ["new"]
