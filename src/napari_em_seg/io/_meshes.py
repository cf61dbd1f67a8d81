"""Meshes as PLY, OBJ or Neuroglancer precomputed: one folder, one file for each object, lengths in nm."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import EmSegError
from napari_em_seg.io._object_folder import check_object_folder, object_folder

__all__ = ["MeshFormat", "PutMesh", "check_mesh_folder", "mesh_folder", "write_obj", "write_ply"]

MeshFormat = Literal["ply", "obj", "precomputed"]

PutMesh = Callable[[int, NDArray[Any], NDArray[Any]], None]
"""Called with an object, its corners (n, 3) as z, y, x in nm, and its triangles (m, 3)."""

_NAMES = {"ply": r"\d+\.ply", "obj": r"\d+\.obj", "precomputed": r"info|\d+(:0|\.mesh)"}
_ABOUT = "x, y, z in nm from the outer corner of the first voxel"


def check_mesh_folder(target: Path, format_: MeshFormat, *, overwrite: bool = False) -> None:
    """Raise what `mesh_folder` would raise, before the work."""
    if format_ == "precomputed" and os.name == "nt":
        raise EmSegError("Windows allows no colon in names, and files of precomputed meshes have one",
                         "ply or obj", "Choose one of these, or export on Linux or macOS")  # fmt: skip
    check_object_folder(target, _NAMES[format_], overwrite=overwrite)


@contextmanager
def mesh_folder(target: Path, format_: MeshFormat, *, overwrite: bool = False) -> Iterator[PutMesh]:
    """Give a function that writes the mesh of one object; the folder appears once all are written.

    Files are called by the object: ``88.ply``, ``88.obj``. A precomputed folder is a source of its own in
    Neuroglancer (its format for one level of detail), or goes below a segmentation that names it as its mesh.
    """
    check_mesh_folder(target, format_, overwrite=overwrite)
    with object_folder(target, _NAMES[format_], overwrite=overwrite) as folder:
        if format_ == "precomputed":
            (folder / "info").write_text(json.dumps({"@type": "neuroglancer_legacy_mesh"}), "utf-8")

        def put(name: int, corners: NDArray[Any], triangles: NDArray[Any]) -> None:
            if format_ == "ply":
                write_ply(folder / f"{name}.ply", corners, triangles)
            elif format_ == "obj":
                write_obj(folder / f"{name}.obj", corners, triangles)
            else:
                _write_fragment(folder, name, corners, triangles)

        yield put


def write_ply(path: Path, corners: NDArray[Any], triangles: NDArray[Any]) -> None:
    """Write a mesh as binary PLY."""
    head = (
        f"ply\nformat binary_little_endian 1.0\ncomment {_ABOUT}\n"
        f"element vertex {len(corners)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(triangles), [("n", "u1"), ("corners", "<i4", 3)])
    faces["n"], faces["corners"] = 3, triangles
    with path.open("wb") as stream:
        stream.write(head.encode("ascii"))
        stream.write(_xyz(corners).tobytes())
        stream.write(faces.tobytes())


def write_obj(path: Path, corners: NDArray[Any], triangles: NDArray[Any]) -> None:
    """Write a mesh as OBJ, a text; corners are counted from 1 there."""
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(f"# {_ABOUT}\n")
        np.savetxt(stream, _xyz(corners), "v %.2f %.2f %.2f")
        np.savetxt(stream, np.asarray(triangles) + 1, "f %d %d %d")


def _write_fragment(folder: Path, name: int, corners: NDArray[Any], triangles: NDArray[Any]) -> None:
    """Write what Neuroglancer looks for under the number of an object, and the mesh that it names."""
    fragment = f"{name}.mesh"
    (folder / f"{name}:0").write_text(json.dumps({"fragments": [fragment]}), "utf-8")
    parts = np.array([len(corners)], "<u4"), _xyz(corners), np.asarray(triangles, "<u4")
    (folder / fragment).write_bytes(b"".join(part.tobytes() for part in parts))


def _xyz(corners: NDArray[Any]) -> NDArray[np.float32]:
    """Return the axes the other way round, as all programs for meshes have them."""
    return np.ascontiguousarray(np.asarray(corners)[:, ::-1], "<f4")
