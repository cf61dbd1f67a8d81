"""Reading and writing volumes: TIFF, slice folders, HDF5, Zarr, OME-Zarr, N5, Neuroglancer precomputed."""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg.errors import (
    AmbiguousSourceError,
    DataError,
    FormatError,
    SourceNotFoundError,
    TargetExistsError,
)
from napari_em_seg.io import _hdf5, _n5, _precomputed, _slices, _tiff, _zarr
from napari_em_seg.io import _zarr_write as _zarr_writing
from napari_em_seg.io._atomic import already_there, atomic
from napari_em_seg.io._found import Found
from napari_em_seg.io._guess import to_nm
from napari_em_seg.io._location import Location, absolute, clear_read_errors, locate
from napari_em_seg.volume import Kind, Progress, Volume

__all__ = [
    "FORMATS",
    "Format",
    "check_target",
    "check_volume_target",
    "find_volumes",
    "is_container",
    "open_volume",
    "open_volumes",
    "to_nm",
    "write_volume",
    "write_volumes",
]


def _is_never_replaced(path: Path) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """A file format: how its files are recognised, listed and written.

    ``holds_nothing_else`` says of a folder whether only the format's own would be lost with it;
    ``label_dtypes`` are the types in which labels can be written, none: all.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    find: Callable[[Location], list[Found]]
    write: Callable[..., None]
    is_folder: bool = False
    holds_many: bool = False
    holds_nothing_else: Callable[[Path], bool] = _is_never_replaced
    label_dtypes: tuple[str, ...] = ()

    def holds_labels(self, dtype: np.dtype[Any]) -> bool:
        """Whether labels of this type can be written."""
        return not self.label_dtypes or dtype.name in self.label_dtypes


_tiff_reading = (_tiff.recognises, _tiff.find)
_zarr_reading = (_zarr.recognises, _zarr.find)
_slices_reading = (_slices.recognises, _slices.find)
_zarr_write = _zarr_writing.write

FORMATS = (
    Format(
        "ome-tiff",
        "OME-TIFF",
        (".ome.tif", ".ome.tiff"),
        *_tiff_reading,
        _tiff.write,
        label_dtypes=_tiff.OME_DTYPES,
    ),
    Format("tiff", "multi-page TIFF", (".tif", ".tiff"), *_tiff_reading, _tiff.write),
    Format(
        "hdf5",
        "HDF5",
        (".h5", ".hdf5", ".hdf"),
        _hdf5.recognises,
        _hdf5.find,
        _hdf5.write,
        holds_many=True,
    ),
    Format(
        "ome-zarr",
        "OME-Zarr 0.5",
        (".ome.zarr", ".zarr"),
        *_zarr_reading,
        _zarr_write,
        True,
        True,
        _zarr.holds_only_nodes,
    ),
    Format(
        "ome-zarr-0.4",
        "OME-Zarr 0.4",
        (),
        *_zarr_reading,
        partial(_zarr_write, version=2),
        True,
        True,
        _zarr.holds_only_nodes,
    ),
    Format(
        "zarr3",
        "Zarr 3",
        (),
        *_zarr_reading,
        partial(_zarr_write, ome=False),
        True,
        True,
        _zarr.holds_only_nodes,
    ),
    Format(
        "zarr2",
        "Zarr 2",
        (),
        *_zarr_reading,
        partial(_zarr_write, version=2, ome=False),
        True,
        True,
        _zarr.holds_only_nodes,
    ),
    Format("n5", "N5", (".n5",), _n5.recognises, _n5.find, _n5.write, True, True, label_dtypes=_n5.DTYPES),
    Format(
        "precomputed",
        "Neuroglancer precomputed",
        (".precomputed",),
        _precomputed.recognises,
        _precomputed.find,
        _precomputed.write,
        is_folder=True,
        holds_nothing_else=_precomputed.holds_only_scales,
        label_dtypes=_precomputed.LABEL_DTYPES,
    ),
    Format(
        "png-slices",
        "folder of PNG slices",
        (".slices",),
        *_slices_reading,
        _slices.write,
        True,
        False,
        _slices.holds_only_slices,
        _slices.WRITTEN_DTYPES,
    ),
    Format(
        "tiff-slices",
        "folder of TIFF slices",
        (),
        *_slices_reading,
        _slices.write_tiff,
        True,
        False,
        _slices.holds_only_slices,
    ),
)
"""All formats; where several could be meant by a suffix, the first."""

_log = logging.getLogger(__name__)
_CREMI_NAMES = {path: kind for kind, path in _hdf5.DEFAULT_PATHS.items()}


def open_volume(source: str | os.PathLike[str], kind: Kind = "image") -> Volume:
    """Open the one image, or the one label array, at a path; nothing is read but what describes it.

    Inside HDF5, Zarr and N5 the path goes on (``cells.h5/volumes/raw``). Without that, the array is
    found by name and dtype: the CREMI names first, then the only one that looks like what is wanted.

    Raises
    ------
    EmSegError
        One of its kinds, where there is nothing, nothing readable, or more than one candidate.
    """
    found = _choose(find_volumes(source), kind, str(source))
    volume = found.open(kind)
    if kind == "labels" and found.kind == "image":
        _log.warning("%s looks like an image; its grey values are taken as labels", found.location)
    return volume


def open_volumes(source: str | os.PathLike[str]) -> list[Volume]:
    """Open every volume at a path, each as what it seems to be; at least one."""
    found = find_volumes(source)
    stacks = [f for f in found if f.is_stack]
    return [f.open(f.kind) for f in stacks or _refuse_all(found, str(source))]


def find_volumes(source: str | os.PathLike[str]) -> list[Found]:
    """List the arrays at a path without opening them, unsuitable ones included."""
    location = locate(source)
    with clear_read_errors(str(source)):
        format_ = recognised(location.path)
    if format_ is None:
        raise _unreadable(location)
    if location.inner and not format_.holds_many:
        raise _no_inside(location)
    return format_.find(location)


def recognised(path: Path) -> Format | None:
    """Find the format of what is at a path, by its content."""
    return next((format_ for format_ in FORMATS if format_.recognises(path)), None)


def _no_inside(location: Location) -> FormatError:
    return FormatError(
        f"{location.path} is one volume and has nothing inside, so not {location.inner}",
        "a path that ends with the file or folder itself",
        f"Leave out /{location.inner}",
    )


def _choose(found: list[Found], kind: Kind, source: str) -> Found:
    stacks = [f for f in found if f.is_stack] or _refuse_all(found, source)
    fitting = [f for f in stacks if f.kind == kind]
    named = [f for f in fitting if _CREMI_NAMES.get(f.location.inner) == kind]
    if len(stacks) == 1 and not (kind == "labels" and _is_only_raw(stacks[0], source)):
        return stacks[0]
    if len(named or fitting) == 1:
        return (named or fitting)[0]
    wanted = "label array" if kind == "labels" else "image"
    raise AmbiguousSourceError(
        f"{source} holds {len(fitting) or 'no'} {wanted}{'s' * (len(fitting) > 1)} among its arrays: "
        + "; ".join(map(str, fitting or stacks)),
        f"exactly one {wanted}",
        f"Say which array you mean, for instance {source}/{(fitting or stacks)[0].location.inner}",
    )


def _is_only_raw(only: Found, source: str) -> bool:
    """Whether truth was asked for, but there is just what CREMI calls the image, and nobody named it."""
    is_raw = _CREMI_NAMES.get(only.location.inner) == "image" and only.dtype.kind != "f"
    return is_raw and locate(source) != only.location


def _refuse_all(found: list[Found], source: str) -> list[Found]:
    if not found:
        raise DataError(
            f"{source} holds no arrays",
            "at least one stack of slices (z, y, x)",
            "Check that this is the right file or folder",
        )
    if len(found) == 1 and found[0].refusal is not None:
        raise found[0].refusal
    raise DataError(
        f"{source} holds no stack of slices, only {'; '.join(map(str, found))}",
        "numbers with the three axes (z, y, x)",
        "Choose one channel or time point, or put single slices into one folder, and open that",
    )


def _unreadable(location: Location) -> FormatError:
    if location.path.is_dir():
        is_empty = not any(location.path.iterdir())
        came = f"The folder {location} " + ("is empty" if is_empty else "holds no slices and no volume")
        return FormatError(
            came,
            "a folder of PNG or TIFF slices, Zarr, N5 or Neuroglancer precomputed",
            "Choose the folder that holds the slices or the volume itself",
        )
    suffix = "".join(location.path.suffixes[-1:])
    return FormatError(
        f"{location.path} is not what its name says ({suffix or 'no suffix'}): its content is none of "
        "the formats that can be read",
        "TIFF, HDF5, Zarr, N5, Neuroglancer precomputed, or a folder of slices",
        "Check that the file was copied whole, or convert it (Fiji reads and writes most formats)",
    )


def write_volume(
    volume: Volume,
    target: str | os.PathLike[str],
    format_name: str | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write a volume; the format follows from the suffix, or is given by name.

    Labels keep their dtype, all is compressed that the format can compress without loss, and the final
    name appears only once all is written. Inside HDF5, Zarr and N5 the path goes on, and what is there
    already stays.

    Parameters
    ----------
    volume
        What to write; read a few slices at a time.
    target
        ``out.tif``, ``out.h5/volumes/raw``, ``out.zarr/labels``, ``out.n5/raw``, ``out.precomputed``.
    format_name
        One of the names in ``FORMATS``.
    overwrite
        Whether something that is there may be replaced.
    progress
        Called with slices done and slices in all.
    """
    format_, location = _format_of(absolute(target), format_name)
    replaces_all = format_.find is _zarr.find and not location.inner
    _refuse_wrong_place(format_, location, ("",) if replaces_all else ())
    format_.write(volume, location, overwrite=overwrite, progress=progress)


def write_volumes(
    volumes: Mapping[str, Volume],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write several volumes into one HDF5, Zarr or N5 container, all of them or none.

    Parameters
    ----------
    volumes
        By their paths inside the container.
    target
        ``out.h5``, ``out.zarr`` or ``out.n5``.
    overwrite
        Whether something that is there may be replaced.
    progress
        Called with slices done and slices in all, once through for every volume.
    """
    format_, location = _format_of(absolute(target), None)
    check_target(target, volumes, overwrite=overwrite)
    n_slices = sum(len(volume) for volume in volumes.values())
    done = 0
    with atomic(location.path, overwrite=overwrite) as partial_path:
        for inner, volume in volumes.items():
            format_.write(volume, Location(partial_path, inner), progress=_continued(progress, done, n_slices))
            done += len(volume)


def is_container(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder that holds volumes under paths inside it, and may be added to."""
    there = recognised(absolute(path))
    return there is not None and there.holds_many and any(f.location.inner for f in find_volumes(path))


def check_target(
    target: str | os.PathLike[str], inner_paths: Collection[str], *, overwrite: bool = False
) -> None:
    """Raise what `write_volumes` would raise for its target, before the work that is to be written."""
    format_, location = _format_of(absolute(target), None)
    if location.inner or not format_.holds_many:
        raise FormatError(
            f"{target} cannot hold {len(inner_paths)} volumes",
            f"a name ending in {', '.join(s for f in FORMATS if f.holds_many for s in f.suffixes)}",
            "Choose one of these, or save the volumes one by one",
        )
    if location.path.exists() and not overwrite:
        raise already_there(str(location))
    _refuse_wrong_place(format_, location, inner_paths)


def check_volume_target(
    target: str | os.PathLike[str],
    format_name: str | None = None,
    *,
    kind: Kind = "image",
    overwrite: bool = False,
) -> None:
    """Raise what `write_volume` would raise for its target, before the work that is to be written."""
    format_, location = _format_of(absolute(target), format_name)
    replaces_all = format_.find is _zarr.find and not location.inner
    _refuse_wrong_place(format_, location, ("",) if replaces_all else ())
    if not location.path.parent.is_dir():
        raise SourceNotFoundError(
            f"The folder {location.path.parent} does not exist",
            "an existing folder to write into",
            "Create it first, or choose another",
        )
    if overwrite or not location.path.exists():
        return
    place = Location(location.path, location.inner or _usual_place(format_, kind))
    is_container = bool(place.inner) and recognised(location.path) is not None
    if not is_container or any(str(found.location) == str(place) for found in find_volumes(location.path)):
        raise already_there(str(place if is_container else location))


def _usual_place(format_: Format, kind: Kind) -> str:
    """Return where a volume goes inside what always holds several, if nobody says."""
    if format_.find is _hdf5.find:
        return _hdf5.DEFAULT_PATHS[kind]
    return _n5.DEFAULT_PATHS[kind] if format_.find is _n5.find else ""


def _continued(progress: Progress, before: int, total: int) -> Progress:
    """Count on from what other volumes have done."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _refuse_wrong_place(format_: Format, location: Location, inner_paths: Collection[str]) -> None:
    """Raise where writing would harm what is no volume, or other volumes, or hide one inside another."""
    path = location.path
    if location.inner and not format_.holds_many:
        raise _no_inside(location)
    if not path.exists():
        return
    there = recognised(path)
    if path.is_dir() and not _may_touch(path, there, format_, bool(location.inner)):
        raise TargetExistsError(
            f"{path} is a folder with other things in it",
            f"a new name, or {format_.title} that may be added to or replaced",
            "Choose another name",
        )
    if there is None or not format_.holds_many or there.find is not format_.find:
        return
    existing = [f.location.inner for f in there.find(Location(path))]
    for inner in existing:
        is_below = location.inner.startswith(f"{inner}/") and bool(inner)
        if is_below or (location.inner and inner.startswith(f"{location.inner}/")):
            raise TargetExistsError(
                f"{path} holds an array at {inner}",
                "a path that is neither above nor below it",
                "Choose another path inside",
            )
    others = sorted(set(existing) - set(inner_paths) - {""})
    if others and inner_paths and not location.inner:
        raise TargetExistsError(
            f"{path} holds other volumes, which would be lost: {', '.join(others)}",
            "a new name, or a path inside for the volume to write",
            f"Write to {path}/NAME, or choose another name",
        )


def _may_touch(path: Path, there: Format | None, format_: Format, adds: bool) -> bool:
    """Whether a folder may be added to or replaced, and nothing but a volume is lost with it."""
    if there is None:
        return format_.is_folder and not any(path.iterdir())
    if adds or format_.find is _n5.find:  # N5 always adds
        return there.find is format_.find
    return format_.is_folder and there.holds_nothing_else(path)


def _format_of(path: Path, name: str | None) -> tuple[Format, Location]:
    """Find the format, and split the path after the part that carries a container's suffix."""
    named = [f for f in FORMATS if f.name == name]
    if name is not None and not named:
        raise FormatError(
            f"There is no format {name!r}",
            f"one of {', '.join(f.name for f in FORMATS)}",
            "Choose one of these",
        )
    for root in (path, *path.parents):
        for format_ in FORMATS:
            if not root.name.lower().endswith(format_.suffixes or ("?",)):
                continue
            if not named or _related(format_, named[0]):
                return (named or [format_])[0], Location(root, _inner(path, root))
            if root == path:
                raise FormatError(
                    f"{path} is named as {format_.title}, but {named[0].title} is asked for",
                    "a name and a format that agree",
                    "Change one of them",
                )
    if named:
        return named[0], Location(path)
    raise FormatError(
        f"{path} does not say by its suffix what to write",
        f"a name ending in {', '.join(s for f in FORMATS for s in f.suffixes)}",
        f"Add one of these, or name the format ({', '.join(f.name for f in FORMATS)})",
    )


def _inner(path: Path, root: Path) -> str:
    return "" if path == root else path.relative_to(root).as_posix()


def _related(one: Format, other: Format) -> bool:
    """Whether two formats are read by the same code and so share suffixes: all Zarr kinds end in .zarr."""
    return one.find is other.find
