"""Exports: labels, links, graph, history, meshes, skeletons and a report, of a session or of labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from napari_em_seg import io
from napari_em_seg.errors import Cancelled, DataError, SourceNotFoundError
from napari_em_seg.io._atomic import already_there
from napari_em_seg.io._location import absolute
from napari_em_seg.io._meshes import MeshFormat, check_mesh_folder, mesh_folder
from napari_em_seg.io._swc import check_skeleton_folder, skeleton_folder
from napari_em_seg.pipeline.reconstruction import export_graph, session_labels
from napari_em_seg.pipeline.report import write_report
from napari_em_seg.review import Session, write_history, write_links
from napari_em_seg.shapes import Objects, Runs, find_objects, skeletonise, surface_of
from napari_em_seg.volume import Progress, Volume, VoxelSize

__all__ = ["Export", "Exported", "check_export", "export_session", "export_volume"]

_STEPS = 1000  # of the progress
_OF_SESSIONS = ("links", "graph", "history")
_TARGETS = ("labels", *_OF_SESSIONS, "meshes", "skeletons", "report")
_SHARES = {"objects": 1.0, "labels": 1.0, "meshes": 3.0, "skeletons": 12.0, "report": 1.0}
"""How much longer one takes than another, about."""


@dataclass(frozen=True)
class Export:
    """What is to be written where; what has no place is left out.

    Attributes
    ----------
    labels
        Objects as labels, in any format that can be written.
    links, graph, history
        Of a session: links (CSV), sections and their links (GraphML or JSON), all that was done (JSON lines,
        or CSV).
    meshes, skeletons
        Folders, with a file for each object.
    report
        One HTML file.
    label_format
        One of the names in `io.FORMATS`; without it the suffix says.
    mesh_format
        Of the meshes.
    objects
        Meshes and skeletons of these alone; none: of all.
    least
        Only of those that have so many voxels.
    fill
        How far objects of a session grow into what is between them, in pixels.
    """

    labels: str | None = None
    links: str | None = None
    graph: str | None = None
    history: str | None = None
    meshes: str | None = None
    skeletons: str | None = None
    report: str | None = None
    label_format: str | None = None
    mesh_format: MeshFormat = "ply"
    objects: Sequence[int] = ()
    least: int = 1
    fill: float = 30.0

    @property
    def targets(self) -> dict[str, str]:
        """What is wanted, by name, and where it goes."""
        return {name: place for name in _TARGETS if (place := getattr(self, name))}


@dataclass(frozen=True)
class Exported:
    """What was written: how many meshes and skeletons, the length of these in nm, and all places in order."""

    places: tuple[str, ...]
    n_objects: int = 0
    length_nm: float = 0.0


def check_export(wanted: Export, *, has_session: bool, overwrite: bool = False) -> None:
    """Raise what exporting would raise for what is wanted and for its places, before anything is done."""
    if wanted.mesh_format not in get_args(MeshFormat):
        raise DataError(f"The meshes are to be {wanted.mesh_format!r}",
                        f"one of {', '.join(get_args(MeshFormat))}", "Choose one of these")  # fmt: skip
    if wanted.least < 1:
        raise DataError(f"Objects are to have {wanted.least} voxels at least", "a number from 1 on", "Try 1000")
    targets = wanted.targets
    odd = [] if has_session else [name for name in _OF_SESSIONS if name in targets]
    if odd:
        raise DataError(f"There are no {' and no '.join(odd)}: these are labels", "a session, for these",
                        "Leave them out, or open a session")  # fmt: skip
    for name, place in targets.items():
        if name == "labels":
            io.check_volume_target(place, wanted.label_format, kind="labels", overwrite=overwrite)
        elif name == "meshes":
            check_mesh_folder(absolute(place), wanted.mesh_format, overwrite=overwrite)
        elif name == "skeletons":
            check_skeleton_folder(absolute(place), overwrite=overwrite)
        else:
            _check_file(absolute(place), overwrite)
    places = [absolute(place) for place in targets.values()]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise DataError(f"Two things are to be written to {twice}", "a place for each", "Change one of them")


def export_session(
    session: Session,
    wanted: Export,
    *,
    about: str = "",
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Exported:
    """Write what a session has come to; each file or folder appears once it is whole.

    ``about`` says in the report how it was made. Who cancels gets `Cancelled`; what was complete by then stays.
    """
    check_export(wanted, has_session=True, overwrite=overwrite)
    view, targets = session.view, wanted.targets
    if "links" in targets:
        write_links(view.links.sorted_by("confidence"), targets["links"], overwrite=overwrite)
    if "graph" in targets:
        export_graph(session, absolute(targets["graph"]), overwrite=overwrite)
    if "history" in targets:
        write_history(view.operations, targets["history"], overwrite=overwrite)
    if not set(targets) - set(_OF_SESSIONS):
        return Exported(tuple(targets.values()))
    shares = _Shares(["objects", *targets], progress, cancelled)
    labels = session_labels(session, fill=wanted.fill, progress=shares.next("objects"), cancelled=cancelled)
    return _export(labels, wanted, shares, overwrite, session, None, about)


def export_volume(
    labels: Volume,
    wanted: Export,
    *,
    image: Volume | None = None,
    about: str = "",
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Exported:
    """Write labels and what can be made of them, as `export_session` does.

    Parameters
    ----------
    labels
        The objects; 0 is none.
    wanted
        What, and where to.
    image
        What they are seen on in the report.
    about
        How they were made, as text for the report.
    overwrite, progress, cancelled
        See `export_session`.
    """
    check_export(wanted, has_session=False, overwrite=overwrite)
    return _export(
        labels, wanted, _Shares([*wanted.targets], progress, cancelled), overwrite, None, image, about
    )


def _export(
    labels: Volume, wanted: Export, shares: "_Shares", overwrite: bool, session: Session | None,
    image: Volume | None = None, about: str = "",
) -> Exported:  # fmt: skip
    targets, n, length = wanted.targets, 0, 0.0
    if "labels" in targets:
        io.write_volume(labels, targets["labels"], wanted.label_format, overwrite=overwrite,
                        progress=shares.next("labels"))  # fmt: skip
    if "meshes" in targets:
        n = _write_meshes(labels, wanted, overwrite, shares.next("meshes"), shares.cancelled)
    if "skeletons" in targets:
        n, length = _write_skeletons(labels, wanted, overwrite, shares.next("skeletons"), shares.cancelled)
    if "report" in targets:
        write_report(absolute(targets["report"]), labels, image=image, session=session, about=about,
                     overwrite=overwrite, progress=shares.next("report"))  # fmt: skip
    return Exported(tuple(targets.values()), n, length)


def _write_meshes(
    labels: Volume, wanted: Export, overwrite: bool, progress: Progress, cancelled: Callable[[], bool]
) -> int:
    size, found = _sized(labels), _chosen(labels, wanted, progress)
    with mesh_folder(absolute(wanted.meshes or ""), wanted.mesh_format, overwrite=overwrite) as put:
        for name, runs in _each(found, progress, cancelled):
            put(name, *surface_of(runs, size))
    return len(found)


def _write_skeletons(
    labels: Volume, wanted: Export, overwrite: bool, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[int, float]:
    size, found, length = _sized(labels), _chosen(labels, wanted, progress), 0.0
    with skeleton_folder(absolute(wanted.skeletons or ""), overwrite=overwrite) as put:
        for name, runs in _each(found, progress, cancelled):
            made = skeletonise(runs, size, cancelled=cancelled)
            put(name, made.points, made.radius, made.parent)
            length += made.length_nm
    return len(found), length


def _sized(labels: Volume) -> VoxelSize:
    if labels.voxel_size_nm is None:
        raise DataError(f"The voxel size of {labels.label} is not known", "one in nm, for lengths",
                        "Set it first, in the dock Voxel size or with convert --voxel-size Z Y X")  # fmt: skip
    return labels.voxel_size_nm


def _chosen(labels: Volume, wanted: Export, progress: Progress) -> Objects:
    """Return the objects that are wanted; looking for them is a tenth of the work."""
    report = None if progress is None else lambda done, n: progress(done, 10 * n)
    found = find_objects(labels, wanted.objects or None, least=wanted.least, progress=report)
    if not len(found):
        raise DataError(f"{labels.label} has no object of {wanted.least:,} voxels or more", "one at least",
                        "Choose a smaller size, or other labels")  # fmt: skip
    return found


def _each(found: Objects, progress: Progress, cancelled: Callable[[], bool]) -> Iterator[tuple[int, Runs]]:
    """Give name and voxels of each object; progress counts voxels."""
    whole, done = int(found.voxels.sum()), 0
    for place, name in enumerate(found.ids.tolist()):
        if cancelled():
            raise Cancelled("The export was cancelled")
        yield name, found.runs(place)
        done += int(found.voxels[place])
        if progress is not None:
            progress(round(_STEPS * (0.1 + 0.9 * done / whole)), _STEPS)


def _check_file(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise SourceNotFoundError(f"The folder {path.parent} does not exist", "an existing folder",
                                  "Create it first, or choose another")  # fmt: skip
    if path.is_dir() or (path.exists() and not overwrite):
        raise already_there(str(path))


class _Shares:
    """Progress of several things that are done one after the other; ends them when asked to stop."""

    def __init__(self, names: Sequence[str], progress: Progress, cancelled: Callable[[], bool]) -> None:
        self._progress, self.cancelled = progress, cancelled
        self._left = {name: _SHARES[name] for name in names if name in _SHARES}
        self._whole, self._done = sum(self._left.values()), 0.0

    def next(self, name: str) -> Callable[[int, int], None]:
        """Return the progress of the next one."""
        before, share = self._done, self._left.pop(name)
        self._done += share
        return partial(self._report, before, share)

    def _report(self, before: float, share: float, step: int, steps: int) -> None:
        if self.cancelled():
            raise Cancelled("The export was cancelled")
        if self._progress is not None:
            self._progress(round(_STEPS * (before + share * step / max(steps, 1)) / self._whole), _STEPS)
