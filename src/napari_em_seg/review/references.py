"""References to the volumes that a session is about: where they lie, and how to know that they are the same."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg import io
from napari_em_seg.errors import DataError, SourceNotFoundError
from napari_em_seg.io._location import absolute
from napari_em_seg.volume import Kind, Volume, VoxelSize

__all__ = ["Reference", "checksum", "open_reference", "refer"]

_SLICES = 9
_PATCHES = 3
_SIZE = 128


@dataclass(frozen=True)
class Reference:
    """A volume on the disk that a session needs but does not hold.

    Attributes
    ----------
    path, relative
        Where it is, and where seen from the folder that holds the session: when both have moved together, it is
        found again.
    shape, dtype, voxel_size_nm, kind
        As of the volume.
    checksum
        Of a sample of its voxels.
    """

    path: str
    relative: str
    shape: tuple[int, int, int]
    dtype: str
    voxel_size_nm: VoxelSize | None
    kind: Kind
    checksum: str

    def as_dict(self) -> dict[str, Any]:
        """Return all entries, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> "Reference":
        """Read them back."""
        z, y, x = entries["shape"]
        size = entries["voxel_size_nm"]
        return cls(**{**entries, "shape": (z, y, x), "voxel_size_nm": None if size is None else tuple(size)})


def refer(volume: Volume, session: Path) -> Reference:
    """Return a reference to a volume, from a session's folder."""
    if not volume.source:
        raise DataError(f"The volume {volume.name} is only in memory", "one that lies in a file",
                        "Save it first, then use the saved one")  # fmt: skip
    path = absolute(volume.source)
    try:
        relative = os.path.relpath(path, session.absolute().parent)
    except ValueError:  # another drive
        relative = ""
    return Reference(str(path), relative, volume.shape, volume.dtype.name, volume.voxel_size_nm, volume.kind,
                     checksum(volume))  # fmt: skip


def checksum(volume: Volume) -> str:
    """Return a checksum of up to nine slices, of three patches in each.

    It tells volumes apart, and shows what changes an image as a whole, such as another contrast, a shift or a
    slice left out; a few voxels that were painted over it misses. It reads as much of 1 TiB as of 1 GiB.
    """
    digest = hashlib.blake2b(digest_size=16)
    n_z, n_y, n_x = volume.shape
    digest.update(f"{volume.shape} {volume.dtype.name}".encode())
    rng = np.random.default_rng(0)
    for z in np.unique(np.linspace(0, n_z - 1, _SLICES).astype(int)):
        for _ in range(_PATCHES):
            y, x = (int(rng.integers(0, max(1, n - _SIZE + 1))) for n in (n_y, n_x))
            patch = np.asarray(volume.data[int(z), y : y + _SIZE, x : x + _SIZE])
            digest.update(np.ascontiguousarray(patch, patch.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def open_reference(name: str, reference: Reference, session: Path, moved: str | None = None) -> Volume:
    """Open the volume, where it was, or moved with the session, or where somebody said; none but the same.

    Raises
    ------
    SourceNotFoundError
        Where there is nothing at any of these places.
    DataError
        Where there is another volume.
    """
    places = [moved] if moved is not None else [reference.path]
    if moved is None and reference.relative:
        places.append(str(absolute(session.absolute().parent / reference.relative)))
    found = None
    for place in places:
        try:
            found = io.open_volume(place, reference.kind)
        except SourceNotFoundError:
            continue
        break
    if found is None:
        raise SourceNotFoundError(
            f"The {name} of {session} is no longer at {' or '.join(dict.fromkeys(places))}",
            "the volume that the session was made from", "Put it back, or tell the session where it is now",
        )  # fmt: skip
    difference = _difference(found, reference)
    if difference:
        raise DataError(f"The {name} of {session} at {found.source} has changed: {difference}",
                        "the volume that the session was made from",
                        "Put the original back, or make a new session for this one")  # fmt: skip
    if reference.voxel_size_nm is not None:
        found = found.with_voxel_size(reference.voxel_size_nm)
    return found


def _difference(volume: Volume, reference: Reference) -> str:
    if volume.shape != reference.shape or volume.dtype.name != reference.dtype:
        shapes = ["×".join(map(str, shape)) for shape in (volume.shape, reference.shape)]
        return f"it is {shapes[0]} of {volume.dtype.name}, not {shapes[1]} of {reference.dtype}"
    return "" if checksum(volume) == reference.checksum else "its voxels are others"
