"""Where a volume lies: a file or folder, and the path inside it."""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_em_seg.errors import EmSegError, FormatError, SourceNotFoundError, SourcePermissionError

__all__ = ["LIBRARY_ERRORS", "Location", "absolute", "clear_read_errors", "locate", "split_at_missing"]

LIBRARY_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error),
)
"""What libraries raise on files whose bytes are not what they expect."""

_ZARR_MARKS = (".zgroup", ".zarray", "zarr.json")


@dataclass(frozen=True)
class Location:
    """A path that exists, and what follows it inside the container: ``cells.h5`` and ``volumes/raw``."""

    path: Path
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.inner}" if self.inner else str(self.path)

    def __truediv__(self, inner: str) -> "Location":
        return Location(self.path, f"{self.inner}/{inner}".strip("/"))

    @property
    def full_path(self) -> Path:
        """The path as if the container were a folder, which Zarr and N5 are."""
        return self.path / self.inner

    @property
    def name(self) -> str:
        """Last part of the path inside, or the file's name without its suffixes."""
        if self.inner:
            return self.inner.rpartition("/")[2]
        last = self.path.name
        for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
            if last.lower().endswith(suffix):
                return last[: -len(suffix)]
        return Path(last).stem


def absolute(path: str | os.PathLike[str]) -> Path:
    """Write out the home folder, the working folder and ``..``."""
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - Path.absolute keeps ".."
    except (RuntimeError, ValueError) as error:  # no such user; a zero byte in the name
        raise _not_found(path) from error


def locate(source: str | os.PathLike[str]) -> Location:
    """Split a path into the outermost container that holds it, and the path inside."""
    if not str(source).strip():
        raise SourceNotFoundError("The path is empty", "a file or folder", "Name the one to open")
    whole = absolute(source)
    with clear_read_errors(str(source)):
        there = next(path for path in (whole, *whole.parents) if _is_there(path))
        there.stat()  # a dangling link or a forbidden path shows here
        root = there if there.is_file() else _outermost_container(there)
        if there != whole and root.is_dir() and not _is_container(root):
            raise _not_found(source)
    inner = whole.relative_to(root).as_posix()
    return Location(root, "" if inner == "." else inner)


def _is_there(path: Path) -> bool:
    """Whether there is something, if only a link; a forbidden folder raises."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _outermost_container(folder: Path) -> Path:
    containers = [path for path in (folder, *folder.parents) if _is_container(path)]
    return containers[-1] if containers else folder


def _is_container(folder: Path) -> bool:
    """Whether a folder has the metadata of a Zarr node or of an N5 root."""
    if any(os.path.isfile(folder / mark) for mark in _ZARR_MARKS):  # noqa: PTH113 - False where forbidden
        return True
    attributes = folder / "attributes.json"
    return os.path.isfile(attributes) and b'"n5"' in attributes.read_bytes()  # noqa: PTH113


def _not_found(path: str | os.PathLike[str]) -> SourceNotFoundError:
    return SourceNotFoundError(
        f"There is nothing at {path}", "an existing file or folder", "Check the path for typing errors"
    )


def split_at_missing(location: Location) -> tuple[Path, Path]:
    """Split a place to write to into the folder that exists, and the rest, which a write has to make.

    The rest has at least one part: that which will appear under its name once all is written.
    """
    root, parts = location.path, Path(location.inner).parts
    if not parts or not root.is_dir():
        return root.parent, Path(root.name, *parts)
    while len(parts) > 1 and (root / parts[0]).is_dir():
        root, parts = root / parts[0], parts[1:]
    return root, Path(*parts)


@contextmanager
def clear_read_errors(where: str) -> Iterator[None]:
    """Turn what libraries raise on bad files into our errors."""
    try:
        yield
    except EmSegError:
        raise
    except PermissionError as error:
        raise SourcePermissionError(
            f"Reading {where} is not permitted",
            "a file or folder that you may read",
            "Ask its owner for permission, or copy it to a folder of yours",
        ) from error
    except FileNotFoundError as error:
        raise SourceNotFoundError(
            f"{where} is not there, or a part of it is not",
            "all files in place",
            "Check that the disk is connected, that links lead somewhere, and that nothing was moved",
        ) from error
    except LIBRARY_ERRORS as error:
        raise FormatError(
            f"{where} cannot be read: {_reason(error)}",
            "a whole and undamaged file",
            "It may be truncated or damaged; copy it again from its origin",
        ) from error


def _reason(error: BaseException) -> str:
    """Say in plain words what a library complains of."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it does not say its {error.args[0]!r}" if error.args else "a part is missing"
    if isinstance(error, AttributeError | IndexError | TypeError | AssertionError):
        return "its description is not as the format demands"
    if isinstance(error, struct.error):
        return "it ends too early"
    text = " ".join(str(error).split()) or type(error).__name__
    if inside := re.match(r"Unable to .*? \((.*)\)$", text):  # h5py's way to say it
        text = inside[1].partition(":")[0]  # after it HDF5 gives its inner numbers
    text = re.sub(r"^[A-Z_]+: ", "", text)  # tensorstore's codes
    text = re.sub(r'Error (opening|reading|parsing) .*?"(: ?| driver: )', "", text) or "its bytes are garbled"
    text = re.sub(r"\bExpected\b", "expected", re.sub(r" \(chunk b'.*?'\)", "", text))
    text = re.sub(r"^<[\w.]+ [^>]*> ?", "", text)  # tifffile names the part of the file, as Python prints it
    text = re.sub(r"<[\w.]+ [^>]*>", "a part of it", text)
    return text[:240].rstrip(".: ")
