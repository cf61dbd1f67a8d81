"""A folder with files for each object, that appears whole or not at all and replaces nothing but its like."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_em_seg.errors import FormatError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io._atomic import already_there, atomic

__all__ = ["check_object_folder", "object_folder"]


def check_object_folder(target: Path, names: str, *, overwrite: bool = False) -> None:
    """Raise what writing such a folder would raise for its place, before the work.

    Parameters
    ----------
    target
        The folder.
    names
        Matches the names of all files that such a folder holds.
    overwrite
        Whether one that is there may be replaced; one that holds other things never is.
    """
    if not target.parent.is_dir():
        raise SourceNotFoundError(f"The folder {target.parent} does not exist",
                                  "an existing folder to write into",
                                  "Create it first, or choose another")  # fmt: skip
    if not target.exists():
        return
    if not target.is_dir():
        raise FormatError(f"{target} is a file", "a new folder", "Choose another name")
    others = [path.name for path in target.iterdir() if not re.fullmatch(names, path.name)]
    if others:
        raise TargetExistsError(f"{target} is a folder with other things in it, such as {min(others)}",
                                "a new name, or a folder of such files that may be replaced",
                                "Choose another name")  # fmt: skip
    if not overwrite and any(target.iterdir()):
        raise already_there(str(target))


@contextmanager
def object_folder(target: Path, names: str, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into; it gets its name once all is written, and is gone if that fails."""
    check_object_folder(target, names, overwrite=overwrite)
    with atomic(target, overwrite=overwrite or target.exists()) as partial:  # an empty folder is no loss
        partial.mkdir()
        yield partial
