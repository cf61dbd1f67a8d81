"""Where a volume lies: a file or folder, and the path inside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_em_seg.errors import FormatError, SourceNotFoundError, SourcePermissionError

__all__ = ["Location", "clear_read_errors", "expanded", "locate", "split_at_missing"]


@dataclass(frozen=True)
class Location:
    """A path that exists, and what follows it inside the container: ``cells.h5`` and ``volumes/raw``."""

    path: Path
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.inner}" if self.inner else str(self.path)

    @property
    def name(self) -> str:
        """Last part of the path inside, or the file's name without its suffixes."""
        last = self.inner.rpartition("/")[2] if self.inner else self.path.name
        for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
            if last.lower().endswith(suffix):
                return last[: -len(suffix)]
        return last if self.inner else Path(last).stem


def locate(source: str | os.PathLike[str]) -> Location:
    """Split a path at the last part that exists; the rest is the path inside the container."""
    whole = expanded(source)
    with clear_read_errors(str(source)):
        for path in (whole, *whole.parents):
            if os.path.lexists(path):
                return _inside(path, whole)
    raise _not_found(whole)


def expanded(source: str | os.PathLike[str]) -> Path:
    """Write out the home folder; a user who is not there is a path that is not there."""
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise _not_found(Path(source)) from error


def _inside(path: Path, whole: Path) -> Location:
    inner = whole.relative_to(path).as_posix()
    if inner == ".":
        path.stat()  # a dangling link or a forbidden path shows here
        return Location(path)
    # A missing file in an ordinary folder is missing; what may hold arrays is a file, Zarr or N5.
    is_container = path.is_file() or any(
        (folder / mark).exists()
        for folder in (path, *path.parents)
        for mark in (".zgroup", ".zarray", "zarr.json", "attributes.json", ".zattrs")
    )
    if not is_container:
        raise _not_found(whole)
    return Location(path, inner)


def _not_found(path: Path) -> SourceNotFoundError:
    return SourceNotFoundError(
        f"There is nothing at {path}", "an existing file or folder", "Check the path for typing errors"
    )


def split_at_missing(location: Location) -> tuple[Path, Path]:
    """Split a place to write to into the folder that exists, and the rest, which a write has to make.

    The rest has at least one part: that which will appear under its name once all is written.
    """
    if not location.inner or not location.path.exists():
        return location.path.parent, Path(location.path.name, location.inner)
    root, parts = location.path, Path(location.inner).parts
    while len(parts) > 1 and (root / parts[0]).is_dir():
        root, parts = root / parts[0], parts[1:]
    return root, Path(*parts)


@contextmanager
def clear_read_errors(where: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what libraries raise on bad files into our errors; ``also`` lists a library's own kinds."""
    try:
        yield
    except (FormatError, SourceNotFoundError, SourcePermissionError):
        raise
    except PermissionError as error:
        raise SourcePermissionError(
            f"Reading {where} is not permitted",
            "a file or folder that you may read",
            "Ask its owner for permission, or copy it to a folder of yours",
        ) from error
    except FileNotFoundError as error:
        raise SourceNotFoundError(
            f"{where} is gone, or a part of it is: {error}",
            "all files in place",
            "Check that the disk is connected and that nothing was moved",
        ) from error
    except (OSError, EOFError) as error:
        raise _damaged(where, error) from error
    except also as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> FormatError:
    return FormatError(
        f"{where} cannot be read: {_first_line(error)}",
        "a whole and undamaged file",
        "It may be truncated or damaged; copy it again from its origin",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
