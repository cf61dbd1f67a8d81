"""The folder of a session (``*.emseg``): what lies where, and how a new one is made, whole or not at all.

=====================  ================================================================================
``session.json``       the version of this layout, when and by which program it was made, references
``journal.sqlite``     all operations (SQLite in WAL mode, with ``-wal`` and ``-shm`` while it is open)
``arrays/``            hypotheses, assignments, features: never altered
``generations/0000/``  costs, the solution and its scores; one more folder after each retraining
``agglomeration/``     the tree of merges, where there is one
``lock.sqlite``        held by the program that writes; ``owner.json`` says which one that is
=====================  ================================================================================
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_em_seg import __version__
from napari_em_seg.errors import FormatError, SourceNotFoundError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._folders import read_json, write_json
from napari_em_seg.io._location import absolute, clear_read_errors
from napari_em_seg.review.journal import Journal
from napari_em_seg.review.lock import Lock
from napari_em_seg.review.merges import Merges
from napari_em_seg.review.reconstruction import Reconstruction
from napari_em_seg.review.references import Reference, refer
from napari_em_seg.volume import Volume

__all__ = ["VERSION", "add_generation", "create_session", "journal_of", "load_merges", "read_references"]

VERSION = 1
_FORMAT = "napari-em-seg session"


def create_session(
    path: str | os.PathLike[str],
    reconstruction: Reconstruction,
    references: Mapping[str, Volume] | None = None,
    *,
    merges: Merges | None = None,
    overwrite: bool = False,
) -> Path:
    """Make a session without any operation; its name appears only once all is written.

    Parameters
    ----------
    path
        ``out.emseg``.
    reconstruction
        What people will look at.
    references
        The volumes that it was made from, by name; they stay where they are.
    merges
        Of an agglomeration, to be looked at in the same list.
    overwrite
        Whether a session that is there may be replaced, with all that people did in it.
    """
    folder = absolute(path)
    listed = {name: refer(volume, folder) for name, volume in (references or {}).items()}
    if folder.exists() and overwrite:
        read_references(folder)  # refuses what is no session
        Lock(folder).release()  # refuses what somebody is at work on
    with atomic(folder, overwrite=overwrite) as partial:
        partial.mkdir()
        replace(reconstruction, generation=0).save(partial)
        if merges is not None:
            merges.save(partial / "agglomeration")
        Journal.create(journal_of(partial))
        card = {
            "format": _FORMAT, "version": VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "program": __version__, "references": {k: reference.as_dict() for k, reference in listed.items()},
        }  # fmt: skip
        write_json(partial / "session.json", card)
    return folder


def journal_of(folder: Path) -> Path:
    """Return where the operations are."""
    return folder / "journal.sqlite"


def read_references(folder: Path) -> dict[str, Reference]:
    """Return the references of a session, once it is sure that it is one, and one that we can read."""
    card = _read_card(folder)
    if card.get("format") != _FORMAT:
        raise FormatError(f"{folder} is no session", "a folder *.emseg that this program made",
                          "Choose another one")  # fmt: skip
    version = card.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise FormatError(
            f"The session {folder} is of the version {version}, from napari-em-seg {card.get('program')}",
            f"a version up to {VERSION}", "Update napari-em-seg; nothing was changed",
        )  # fmt: skip
    with clear_read_errors(str(folder)):
        return {name: Reference.from_dict(entry) for name, entry in card["references"].items()}


def _read_card(folder: Path) -> dict[str, Any]:
    place = folder / "session.json"
    with clear_read_errors(str(folder)):
        if not folder.exists():
            raise SourceNotFoundError(f"There is no session {folder}", "a folder *.emseg",
                                      "Check the path for typing errors")  # fmt: skip
        if not place.is_file():
            return {}
    return read_json(place)


def load_merges(folder: Path) -> Merges | None:
    """Return the tree of merges, where there is one."""
    place = folder / "agglomeration"
    return Merges.load(place) if place.is_dir() else None


def add_generation(folder: Path, reconstruction: Reconstruction) -> int:
    """Write new costs and their solution beside all earlier ones, whole or not at all; return their number.

    Nothing refers to them before the operation is in the journal, so that a kill in between does no harm.
    """
    place = folder / "generations"
    number = 1 + max(int(path.name) for path in place.iterdir() if path.name.isdecimal())
    with atomic(place / f"{number:04}") as partial:
        partial.mkdir()
        reconstruction.save_generation(partial)
    return number
