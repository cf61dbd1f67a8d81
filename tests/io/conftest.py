"""Shared by the tests of readers and writers: numbers, targets, what a clear error is, another user."""

import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import EmSegError
from napari_em_seg.io import FORMATS, open_volume, write_volume
from napari_em_seg.volume import Volume

SUFFIXES = {f.name: (f.suffixes or next(g.suffixes for g in FORMATS if g.find is f.find))[0] for f in FORMATS}
NOBODY = 65534
LIBRARY_TALK = re.compile(
    r"Traceback|tensorstore_spec|source locations|kvstore|FAILED_PRECONDITION|INVALID_ARGUMENT|DATA_LOSS"
    r"|INTERNAL:|Error (opening|parsing|reading)|Unable to synchronously|<[\w.]+ object at 0x|\\x|\n"
    r"|read: '\w+'|list index|has no attribute|unhashable|NoneType|inhomogeneous|errno|Errno"
)
"""What libraries and Python say to programmers."""


@pytest.fixture(scope="session")
def numbers():
    """Random numbers that use the whole range of a dtype (of 16 bits at most in floats)."""

    def make(shape, dtype="uint8", seed=0):
        rng = np.random.default_rng(seed)
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return (rng.integers(0, 2**10, shape) / 2**10).astype(dtype)
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), True).astype(dtype)

    return make


@pytest.fixture(scope="session")
def target_in():
    """Name for a new volume of a format in a folder."""
    return lambda folder, format_name: Path(folder) / f"volume{SUFFIXES[format_name]}"


@pytest.fixture(scope="session")
def raises_clearly():
    """Expect one of our errors, with a message that a user understands."""

    @contextmanager
    def expect(kind=EmSegError, *words):
        with pytest.raises(EmSegError) as caught:
            yield caught
        error = caught.value
        assert isinstance(error, kind), f"{type(error).__name__} instead of {kind}: {error}"
        message = str(error)
        assert error.came and error.expected and error.do
        assert message.count("Expected ") == 1, f"an error within an error: {message}"
        assert ".." not in message.replace("...", ""), message
        assert len(message) < 700, message
        talk = LIBRARY_TALK.search(message)
        assert not talk, f"the message speaks as a library does ({talk}): {message}"
        for word in words:
            assert str(word) in message, f"{word!r} is not in: {message}"

    return expect


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Use every format once, so that what libraries import lazily is there before the user changes."""
    folder = tmp_path_factory.mktemp("warm")
    for format_ in FORMATS:
        target = folder / f"{format_.name}{SUFFIXES[format_.name]}"
        write_volume(Volume(np.zeros((2, 5, 6), "uint8"), (30, 6, 6)), target, format_.name)
        open_volume(target)[:]


@pytest.fixture
def as_nobody(tmp_path, warm):
    """Run a block as a user without rights (root may do everything); folders above stay open to all."""
    opened = [p for p in (tmp_path, *tmp_path.parents) if not p.stat().st_mode & stat.S_IXOTH]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | 0o011)

    @contextmanager
    def another_user():
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)

    yield another_user
    for folder in (tmp_path, *tmp_path.rglob("*")):
        if not folder.is_symlink():
            folder.chmod(0o755)
