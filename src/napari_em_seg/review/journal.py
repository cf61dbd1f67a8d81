"""Journal: the operations of a session in SQLite, appended one by one, each of them whole or not at all."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_em_seg.errors import EmSegError, FormatError, SourceNotFoundError, SourcePermissionError
from napari_em_seg.review.operations import Operation, from_json, to_json

__all__ = ["Journal"]

_VERSION = 1
_APPLICATION = 0x454D5347  # "EMSG", in the header of the file
_COLUMNS = (
    "id", "time", "user", "duration_s", "kind", "payload", "shown", "objective_before", "objective_after",
    "result",
)  # fmt: skip
_JSON = ("payload", "shown", "result")
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE operations (
    id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    user TEXT NOT NULL,
    duration_s REAL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    shown TEXT NOT NULL,
    objective_before REAL NOT NULL,
    objective_after REAL NOT NULL,
    result TEXT NOT NULL
);
CREATE TRIGGER never_altered BEFORE UPDATE ON operations
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER never_removed BEFORE DELETE ON operations
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


class Journal:
    """The operations of a session.

    Written ahead (WAL) and flushed to the disk before `append` returns, so that neither the end of the program
    nor that of the power takes away what was appended. Use `create` and `open`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, copied: Path | None = None) -> None:
        self.path = path
        self._connection = connection
        self._copied = copied

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty journal where there is none."""
        with _clear_errors(path):
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
            finally:
                connection.close()

    @classmethod
    def open(cls, path: Path, *, is_read_only: bool = False) -> "Journal":
        """Open a journal; what a killed program left half written in it is left out by SQLite.

        To read one changes nothing, and is possible while another program writes.
        """
        if not path.is_file():
            raise SourceNotFoundError(f"The journal {path} is not there", "a whole session",
                                      "Restore it from a copy") from None  # fmt: skip
        with _clear_errors(path):
            journal = cls._reading(path) if is_read_only else cls(path, _connect(path, "rw"))
            try:
                journal._check()
                if not is_read_only:
                    journal._connection.execute("PRAGMA journal_mode = WAL")
                    journal._connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                journal.close()
                raise
        return journal

    @classmethod
    def _reading(cls, path: Path) -> "Journal":
        """Open without a right to write; SQLite cannot where WAL has to be recovered, but a copy can be."""
        try:
            connection = _connect(path, "ro")
            connection.execute("SELECT count(*) FROM operations").fetchone()
        except sqlite3.OperationalError:
            folder = Path(tempfile.mkdtemp(prefix="emseg-"))
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{ending}", folder / f"journal.sqlite{ending}")
            return cls(path, _connect(folder / "journal.sqlite", "rw"), folder)
        return cls(path, connection)

    def _check(self) -> None:
        one = self._one
        if one("PRAGMA application_id") != _APPLICATION:
            raise FormatError(f"{self.path} is no journal of a session", "one that this program wrote",
                              "Restore it from a copy")  # fmt: skip
        version = one("PRAGMA user_version")
        if version > _VERSION:
            raise FormatError(f"{self.path} is of the version {version}", f"version {_VERSION}",
                              "Update napari-em-seg; nothing was changed")  # fmt: skip
        problem = one("PRAGMA quick_check(1)")
        if problem != "ok":
            raise FormatError(f"The journal {self.path} is damaged ({problem})", "an undamaged file",
                              "Restore it from a copy")  # fmt: skip
        count = "SELECT count(*), min(id), max(id) FROM operations"
        n, first, last = self._connection.execute(count).fetchone()
        if n and (first, last) != (1, n):
            raise FormatError(f"The journal {self.path} has {n} operations numbered {first} to {last}",
                              "all from 1 on", "Restore it from a copy")  # fmt: skip

    def _one(self, question: str) -> Any:
        return self._connection.execute(question).fetchone()[0]

    def append(self, operation: Operation) -> None:
        """Write an operation; once this returns it is on the disk."""
        entry = operation.as_dict()
        values = [to_json(entry[name]) if name in _JSON else entry[name] for name in _COLUMNS]
        marks = ", ".join("?" * len(_COLUMNS))
        with _clear_errors(self.path):
            self._connection.execute(f"INSERT INTO operations ({', '.join(_COLUMNS)}) VALUES ({marks})", values)

    def operations(self, after: int = 0) -> list[Operation]:
        """Return all operations, or those after one, in order."""
        question = f"SELECT {', '.join(_COLUMNS)} FROM operations WHERE id > ? ORDER BY id"
        with _clear_errors(self.path):
            rows = self._connection.execute(question, (after,)).fetchall()
        return [_operation(row) for row in rows]

    def close(self) -> None:
        """Let go of the file; what was written ahead becomes part of it."""
        with suppress(sqlite3.Error):  # a disk that is full, say: the next one to open does it then
            self._connection.close()
        if self._copied is not None:
            shutil.rmtree(self._copied, ignore_errors=True)


def _operation(row: tuple[Any, ...]) -> Operation:
    entry: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    return Operation(**entry | {name: from_json(entry[name]) for name in _JSON})


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _explained(path, error) from error
    except sqlite3.DatabaseError as error:
        raise FormatError(f"The journal {path} is damaged ({error})", "an undamaged file",
                          "Restore it from a copy") from error  # fmt: skip
    except OSError as error:
        raise EmSegError(f"The journal {path} cannot be used: {error.strerror or error}", "a working disk",
                         "Check the disk and its permissions, then try again") from error  # fmt: skip


def _explained(path: Path, error: sqlite3.OperationalError) -> EmSegError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
        return SourcePermissionError(f"Writing {path} is not permitted ({error})",
                                     "a session that you may write to",
                                     "Open it to read, or copy it to a folder of yours")  # fmt: skip
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return EmSegError(f"Writing {path} failed ({error}); all that was done before is safe",
                          "enough space and a working disk",
                          "Free some space, then do the last step again")  # fmt: skip
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EmSegError(f"{path} is being used by another program", "nobody else who writes",
                          "Wait for it, then do the last step again")  # fmt: skip
    return EmSegError(f"The journal {path} cannot be used ({error})", "a whole session on a working disk",
                      "Try again, or restore it from a copy")  # fmt: skip
