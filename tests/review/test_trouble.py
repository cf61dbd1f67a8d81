"""What can go wrong around a session: each time one clear message, and nothing lost."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import (
    DataError,
    EmSegError,
    FormatError,
    SourceNotFoundError,
    SourcePermissionError,
    TargetExistsError,
)
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.review import Session, SessionInUseError, create_session, fold
from napari_em_seg.volume import Volume

HERE = Path(__file__).parent
NOBODY = 65534
SIZE = (30.0, 6.0, 6.0)


def says_three_things(error):
    return all((error.came, error.expected, error.do)) and str(error).count(". ") >= 2


@pytest.fixture
def image(tmp_path):
    numbers = np.random.default_rng(1).integers(0, 255, (5, 300, 280), "uint8")
    (tmp_path / "data").mkdir()
    write_volume(Volume(numbers, SIZE), tmp_path / "data" / "raw.zarr")
    return tmp_path / "data" / "raw.zarr"


@pytest.fixture
def with_image(image, found, tmp_path):
    return create_session(tmp_path / "data" / "b.emseg", found, {"image": open_volume(image)})


# Creating


def test_a_session_is_not_replaced_unless_one_says_so(path, found):
    with pytest.raises(TargetExistsError):
        create_session(path, found)
    create_session(path, found, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_session_at_which_somebody_is_at_work_is_not_replaced(session, found):
    session.note("at work")
    with pytest.raises(SessionInUseError):
        create_session(session.path, found, overwrite=True)
    session.note("still at work")
    with Session(session.path, mode="read") as again:
        assert len(again.operations) == 2


def test_what_is_no_session_is_never_replaced(tmp_path, found):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    with pytest.raises(FormatError, match="is no session"):
        create_session(tmp_path / "thesis", found, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "words"


def test_a_session_that_fails_halfway_leaves_nothing(tmp_path, found):
    class Failing:
        shape, dtype = found.nodes.shape, found.nodes.dtype

        def __getitem__(self, z):
            if z == 2:
                raise KeyboardInterrupt
            return found.nodes[z]

    with pytest.raises(KeyboardInterrupt):
        create_session(tmp_path / "a.emseg", replace(found, nodes=Failing()))
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
import _small
from napari_em_seg.errors import EmSegError
from napari_em_seg.review import Session, create_session
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(n):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
if sys.argv[3] == "create":
    found = _small.reconstruction()
    limit(2000)
    create_session(sys.argv[1], found)
with Session(sys.argv[1], _small.Exact) as session:
    for i in range(5):
        session.note(f"note {i}")
    limit(60_000)
    try:
        for i in range(500):
            session.note("x" * 3000)
    except EmSegError as error:
        before = len(session.operations)
        limit(-1)
        session.note("and on")
        print(f"{before} {error}")
"""


def run_full_disk(path, what):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(path), str(HERE), what],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_while_people_work(path, small):
    """A limit on the size of files stands in for a full disk; once there is space, the same program goes on."""
    result = run_full_disk(path, "edit")
    assert result.returncode == 0, result.stderr
    n, message = result.stdout.split(" ", 1)
    assert "all that was done before is safe" in message
    assert "Free some space, then do the last step again" in message
    with Session(path, small.Exact) as session:
        assert len(session.operations) == int(n) + 1 > 6
        assert session.operations[-1].payload["text"] == "and on"
        assert [o.id for o in session.operations] == list(range(1, int(n) + 2))


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_leaves_no_half_session(tmp_path):
    result = run_full_disk(tmp_path / "a.emseg", "create")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "EmSegError" in last
    assert "nothing was left behind" in last
    assert list(tmp_path.iterdir()) == []


# Opening


@pytest.mark.parametrize("mode", ["edit", "read"])
def test_what_is_no_session(tmp_path, image, mode):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.emseg").write_text("words")
    for name, kind, words in (
        ("none.emseg", SourceNotFoundError, "no session"),
        ("empty", FormatError, "is no session"),
        ("text.emseg", FormatError, "is no session"),
        ("data/raw.zarr", FormatError, "is no session"),
    ):
        with pytest.raises(kind, match=words) as caught:
            Session(tmp_path / name, mode=mode)
        assert says_three_things(caught.value)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("mode", ["edit", "read"])
def test_a_session_from_a_newer_version_is_left_alone(path, mode):
    card = json.loads((path / "session.json").read_text())
    (path / "session.json").write_text(json.dumps({**card, "version": 2, "program": "9.1"}))
    before = snapshot(path)
    with pytest.raises(FormatError, match=r"version 2, from napari-em-seg 9\.1.*Update.*nothing was changed"):
        Session(path, mode=mode)
    assert snapshot(path) == before


def snapshot(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "part", ["arrays/kind", "arrays/nodes/c/1", "generations/0000/costs/c", "generations/0000/card.json",
             "journal.sqlite", "generations/0000/chosen/c/0"],
)  # fmt: skip
def test_a_session_with_a_part_missing(path, part):
    place = path / part
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(EmSegError) as caught:
        Session(path)
    assert says_three_things(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(EmSegError):  # not: is in use; the first one let go of it
        Session(path)


def test_a_bit_that_fell_over(path):
    chunk = path / "generations" / "0000" / "costs" / "c" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        Session(path)
    assert "costs" in str(caught.value)
    assert says_three_things(caught.value)


@contextmanager
def as_nobody():
    """Run a block as a user without rights; root may do everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def closed_path(path, small):
    """Return a session with two operations in a place where nobody may write; one is in the WAL alone."""
    with Session(path, small.Exact) as session:
        link = int(session.links().id[0])
        session.reject(link)
        session.note("kept")
        wal = (path / "journal.sqlite-wal").read_bytes()
        main = (path / "journal.sqlite").read_bytes()
    opened = [p for p in path.parents if not p.stat().st_mode & stat.S_IXOTH]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | 0o011)
    (path / "lock.sqlite").unlink(missing_ok=True)
    yield path, main, wal
    for part in (path, *path.rglob("*")):
        part.chmod(0o755)


def close_up(path):
    for part in (path, *path.rglob("*")):
        part.chmod(0o555 if part.is_dir() else 0o444)


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of files")
@pytest.mark.parametrize("was_killed", [False, True])
def test_a_folder_that_may_only_be_read(closed_path, small, was_killed):
    path, main, wal = closed_path
    if was_killed:  # what was done is in the WAL alone, which nobody may recover here
        (path / "journal.sqlite").write_bytes(main)
        (path / "journal.sqlite-wal").write_bytes(wal)
    close_up(path)
    before = snapshot(path)
    with as_nobody():
        with pytest.raises(SourcePermissionError, match=r"not permitted.*Open it to read") as caught:
            Session(path, small.Exact)
        assert says_three_things(caught.value)
        with Session(path, mode="read") as session:
            assert [o.kind for o in session.operations] == ["reject", "note"]
            assert len(session.links())
            with pytest.raises(SourcePermissionError):
                session.undo()
    assert snapshot(path) == before


# Two programs


def test_another_program_has_it(path, small):
    script = (
        "import sys; from napari_em_seg.review import Session\n"
        "with Session(sys.argv[1]) as session:\n"
        "    session.note('mine'); print('ready', flush=True); sys.stdin.readline()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(SessionInUseError, match=rf"process {other.pid} on ") as caught:
            Session(path, small.Exact)
        assert says_three_things(caught.value)
        with Session(path, mode="read") as session:
            assert [o.payload["text"] for o in session.operations] == ["mine"]
    finally:
        other.kill()
        other.communicate()
    with Session(path, small.Exact) as session:  # the lock went with the program
        session.note("and mine")
        assert len(session.operations) == 2


def test_a_second_window_of_the_same_program(session, small):
    with pytest.raises(SessionInUseError):
        Session(session.path, small.Exact)
    session.note("still mine")
    with pytest.raises(SessionInUseError):
        Session(session.path, small.Exact)
    session.close()
    with Session(session.path, small.Exact) as again:
        again.note("now mine")


# The image


def test_the_image_is_found_where_it_was(with_image, image):
    with Session(with_image) as session:
        volume = session.volume("image")
        assert np.array_equal(volume[:], open_volume(image)[:])
        assert volume.voxel_size_nm == SIZE
        with pytest.raises(DataError, match="refers to no 'boundary'"):
            session.volume("boundary")
    assert sum(p.stat().st_size for p in with_image.rglob("*") if p.is_file()) < 200_000  # it is no copy


def test_session_and_image_moved_together(with_image, tmp_path):
    moved = tmp_path / "elsewhere"
    (tmp_path / "data").rename(moved)
    with Session(moved / "b.emseg") as session:
        assert session.volume("image").source.startswith(str(moved))


def test_an_image_that_moved_alone(with_image, image, tmp_path):
    image.rename(tmp_path / "moved.zarr")
    with Session(with_image) as session:
        with pytest.raises(SourceNotFoundError, match=rf"no longer at {re.escape(str(image))}") as caught:
            session.volume("image")
        assert says_three_things(caught.value)
        with pytest.raises(SourceNotFoundError):
            session.moved("image", tmp_path / "not-there.zarr")
        session.moved("image", tmp_path / "moved.zarr")
        assert session.volume("image").source == str(tmp_path / "moved.zarr")
    with Session(with_image) as session:
        assert session.volume("image").source == str(tmp_path / "moved.zarr")
        assert session.state == fold(session.operations)


@pytest.mark.parametrize("change", ["contrast", "shift", "slice", "shape", "dtype"])
def test_an_image_that_changed(with_image, image, change):
    numbers = open_volume(image)[:]
    changed = {
        "contrast": 255 - numbers,
        "shift": np.roll(numbers, 1, axis=2),
        "slice": numbers[[0, 1, 1, 3, 4]],
        "shape": numbers[:4],
        "dtype": numbers.astype("uint16"),
    }[change]
    write_volume(Volume(changed, SIZE), image, overwrite=True)
    with Session(with_image) as session:
        session.note("nothing is lost by that")
        with pytest.raises(DataError, match="has changed") as caught:
            session.volume("image")
        assert says_three_things(caught.value)


def test_an_image_in_memory_cannot_be_referred_to(tmp_path, found):
    with pytest.raises(DataError, match=r"only in memory.*Save it first"):
        create_session(tmp_path / "a.emseg", found, {"image": Volume(np.zeros((2, 3, 4), "uint8"))})
    assert list(tmp_path.iterdir()) == []


# Kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_nothing():
    """A short run of the harness: ten kills of editors, four of programs that make a session."""
    result = subprocess.run(
        [sys.executable, str(HERE / "kill_harness.py"), "--kills", "10", "--makers", "4"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["operations"] >= 10
    assert report["lost"] == 0
