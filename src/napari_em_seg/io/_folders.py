"""What Zarr and N5 share: containers that are folders, with JSON beside the arrays."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_em_seg.io._found import Found, nothing_inside
from napari_em_seg.io._location import Location, clear_read_errors

__all__ = ["find_below", "read_json", "subfolders", "write_json"]


def find_below(location: Location, walk: Callable[[Location], Iterator[Found]]) -> list[Found]:
    """List what a walk gives at and below the location; a path that is not there is answered with all."""
    with clear_read_errors(str(location)):
        if not location.full_path.is_dir():
            raise nothing_inside(location, (f.location.inner for f in walk(Location(location.path))))
        return list(walk(location))


def subfolders(path: Path) -> list[Path]:
    """Folders right below a path, in order, without hidden ones."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    with clear_read_errors(str(path)):
        return dict(json.loads(path.read_text("utf-8")))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object so that people can read it, too."""
    path.write_text(json.dumps(content, indent=1), "utf-8")
