"""Lock: one program at a time writes to a session; the operating system lets go when the program ends."""

import getpass
import json
import os
import platform
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from napari_em_seg.errors import EmSegError, SourcePermissionError

__all__ = ["Lock", "SessionInUseError", "user_name"]


class SessionInUseError(EmSegError, BlockingIOError):
    """Another program has the session open to write."""


class Lock:
    """The right to write to a session, held until `release`, or until the program ends in whatever way.

    It is an exclusive transaction on a small SQLite file of its own, which is the file lock that works on every
    system. Beside it lies who holds it, for the message to others.
    """

    def __init__(self, folder: Path) -> None:
        self._owner = folder / "owner.json"
        self._connection = _locked(folder, self._owner)
        with suppress(OSError):  # only a courtesy
            _write_owner(self._owner)

    def release(self) -> None:
        """Let others write."""
        with suppress(OSError):
            self._owner.unlink(missing_ok=True)
        self._connection.close()


def _locked(folder: Path, owner: Path) -> sqlite3.Connection:
    path = folder / "lock.sqlite"
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise _not_permitted(folder, error) from error
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            raise SessionInUseError(f"{folder} is open {_holder(owner)}", "nobody else who changes it",
                                    "Close it there first") from error  # fmt: skip
        raise _not_permitted(folder, error) from error
    return connection


def _not_permitted(folder: Path, error: sqlite3.Error) -> SourcePermissionError:
    return SourcePermissionError(f"Writing to the session {folder} is not permitted ({error})",
                                 "a folder that you may write to, on a disk with space",
                                 "Open it to read, or copy it to a folder of yours")  # fmt: skip


def _write_owner(path: Path) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"user": user_name(), "computer": platform.node(), "process": os.getpid(), "since": since}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(owner), "utf-8")
    partial.replace(path)


def _holder(path: Path) -> str:
    try:
        owner = json.loads(path.read_text("utf-8"))
        return (f"in another window or program (user {owner['user']}, process {owner['process']} on "
                f"{owner['computer']}, since {owner['since']})")  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return "in another program"


def user_name() -> str:
    """Return who is at work, as the operating system knows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such entry in the table of users
        return "unknown"
