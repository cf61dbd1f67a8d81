"""Writing so that the final name never holds half a file, whatever happens in between."""

import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from napari_em_seg.errors import EmSegError, SourceNotFoundError, SourcePermissionError, TargetExistsError

__all__ = ["already_there", "atomic"]

_HOST = re.sub(r"\W+", "_", platform.node())[:40] or "host"
_LONG_NAME = 120  # bytes


@contextmanager
def atomic(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside the target, and rename it to the target once all is written.

    A write that fails or is cancelled removes its temporary path. What a killed process left behind
    is removed by the next write to the same target.
    """
    if not overwrite:
        _refuse_existing(target)
    with _clear_write_errors(target):
        _remove_leftovers(target)
        partial = target.with_name(f"{_hidden(target)}.partial-{_writer_name()}")
        try:
            yield partial
            _sync(partial)
            if not overwrite:
                _refuse_existing(target)
            _replace(partial, target)
        except BaseException:
            _remove_for_good(partial)
            raise


@contextmanager
def _clear_write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except EmSegError:
        raise
    except PermissionError as error:
        raise SourcePermissionError(
            f"Writing {target} is not permitted", "a folder that you may write to", "Choose another folder"
        ) from error
    except FileNotFoundError as error:
        if target.parent.is_dir():
            raise EmSegError(
                f"Writing {target} failed: a file vanished while it was written, or the folder takes none",
                "an ordinary folder that nobody else cleans up",
                "Write again, or choose another folder",
            ) from error
        raise SourceNotFoundError(
            f"The folder {target.parent} does not exist",
            "an existing folder to write into",
            "Create it first, or choose another",
        ) from error
    except OSError as error:
        raise EmSegError(
            f"Writing {target} failed: {error.strerror or error}; nothing was left behind",
            "enough space and a working disk",
            "Free some space or choose another disk, then write again",
        ) from error


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise already_there(str(target))


def already_there(target: str) -> TargetExistsError:
    """Say that something would be overwritten."""
    return TargetExistsError(
        f"{target} exists already",
        "a name that is free",
        "Choose another name, or say that it may be overwritten (--overwrite)",
    )


def _hidden(target: Path) -> str:
    """Begin the names of temporary paths; long names are cut, since a name has at most 255 bytes."""
    name = target.name
    if len(os.fsencode(name)) > _LONG_NAME:
        name = f"{name[:20]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return f".{name}"


def _writer_name() -> str:
    """Tell one write from all others: on other computers, in other processes, in other threads."""
    return f"{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _replace(partial: Path, target: Path) -> None:
    """Rename; what is in the way of a folder, or is one, is moved aside first."""
    if not target.exists() or not (target.is_dir() or partial.is_dir()):
        partial.replace(target)
        return
    old = target.with_name(f"{_hidden(target)}.replaced-{_writer_name()}")
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    with suppress(OSError):  # what was to be written is there; the next write removes what is left
        _remove(old)


def _remove_leftovers(target: Path) -> None:
    """Remove what dead processes of this computer left; put back a folder that one had moved aside."""
    pattern = re.compile(re.escape(_hidden(target)) + rf"\.(partial|replaced)-{re.escape(_HOST)}-(\d+)-\w+")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if not match or psutil.pid_exists(int(match[2])):
            continue
        if match[1] == "replaced" and not target.exists():
            path.rename(target)
        else:
            _remove(path)


def _sync(path: Path) -> None:
    """Let the bytes reach the disk before the name does."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("r+b") as stream:  # Windows syncs only what may be written
                os.fsync(stream.fileno())


def _remove_for_good(path: Path) -> None:
    """Remove what a failed write left; chunks that were still on their way may put it back for a while."""
    for _ in range(20):
        with suppress(OSError):
            _remove(path)
        time.sleep(0.02)
        if not path.exists():
            return


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
