"""History: all that was done to a session, done again on a fresh copy of it."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._location import absolute, clear_read_errors
from napari_em_seg.review.folder import journal_of, read_references
from napari_em_seg.review.journal import Journal
from napari_em_seg.review.operations import REDO, RETRAIN, UNDO, Operation
from napari_em_seg.review.session import Session

__all__ = ["copy_fresh", "replay"]


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
