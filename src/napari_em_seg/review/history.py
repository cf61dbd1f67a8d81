"""History: what was done, written out for others, and done again on a fresh copy of the session."""

import csv
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._location import absolute, clear_read_errors
from napari_em_seg.review.folder import journal_of, read_references
from napari_em_seg.review.journal import Journal
from napari_em_seg.review.links import Links, link_name
from napari_em_seg.review.operations import REDO, RETRAIN, UNDO, Operation, to_json
from napari_em_seg.review.session import Session

__all__ = ["copy_fresh", "describe", "replay", "write_history", "write_links"]


def write_history(
    operations: Sequence[Operation], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write all operations: a CSV with the main columns if the name says so, else JSON lines with all."""
    place = absolute(path)
    if place.suffix.lower() == ".csv":
        _write_text(place, _csv(describe(operation) for operation in operations), overwrite)
        return
    _write_text(place, "".join(to_json(o.as_dict()) + "\n" for o in operations), overwrite)


def write_links(links: Links, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write links as CSV, in the order they are in; several regions are separated by blanks."""
    _write_text(absolute(path), _csv(links.as_dicts()), overwrite)


def describe(operation: Operation) -> dict[str, Any]:
    """Return the main entries of an operation, one line of a table."""
    payload = operation.payload
    link, choice = payload.get("link"), payload.get("choice", payload.get("variable"))
    return {
        "id": operation.id, "time": operation.time, "user": operation.user, "duration_s": operation.duration_s,
        "kind": operation.kind, "link": None if link is None else link_name(link), "choice": choice,
        "target": payload.get("target"), "text": payload.get("text", payload.get("name")),
        "objective_before": operation.objective_before, "objective_after": operation.objective_after,
    }  # fmt: skip


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, row in enumerate(rows):
        if i == 0:
            writer.writerow(row)
        writer.writerow(" ".join(map(str, v)) if isinstance(v, list) else v for v in row.values())
    return text.getvalue()


def _write_text(path: Path, text: str, overwrite: bool) -> None:
    with atomic(path, overwrite=overwrite) as partial:
        partial.write_text(text, "utf-8")


def copy_fresh(session: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
    """Make a copy of a session to which nothing has been done yet; costs learned in it come along, unused."""
    source, place = absolute(session), absolute(target)
    read_references(source)
    with atomic(place) as partial, clear_read_errors(str(source)):
        partial.mkdir()
        for name in ("arrays", "generations", "agglomeration"):
            if (source / name).is_dir():
                shutil.copytree(source / name, partial / name)
        shutil.copyfile(source / "session.json", partial / "session.json")
        Journal.create(journal_of(partial))
    return place


def replay(operations: Iterable[Operation], session: Session) -> None:
    """Do again what was done, in a session to which nothing has been done: same people and times, same result.

    Everything is solved anew. With a solver that answers the same question in the same way, both journals are
    equal in all entries.
    """
    for operation in operations:
        how: dict[str, Any] = {"user": operation.user, "time": operation.time, "shown": operation.shown,
                               "duration_s": operation.duration_s}  # fmt: skip
        if operation.kind == UNDO:
            session.undo(**how)
        elif operation.kind == REDO:
            session.redo(**how)
        elif operation.kind == RETRAIN:
            session.adopt_generation(operation.draft, **how)
        else:
            session.commit(operation.draft, **how)
