"""Meshes and skeletons in files: read back by other means, whole or not at all, and nothing else is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import EmSegError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io import _meshes
from napari_em_seg.io._meshes import mesh_folder
from napari_em_seg.io._swc import skeleton_folder

CORNERS = np.array([[0, 0, 0], [30, 0, 0], [0, 6, 0], [0, 0, 6.5]], np.float32)  # z, y, x
TRIANGLES = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])


def write(folder: Path, format_, **options) -> None:
    with mesh_folder(folder, format_, **options) as put:
        put(88, CORNERS, TRIANGLES)
        put(2**40, CORNERS[:3], TRIANGLES[:1])


def test_ply(tmp_path) -> None:
    write(tmp_path / "m", "ply")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1099511627776.ply", "88.ply"]
    head, _, body = (tmp_path / "m" / "88.ply").read_bytes().partition(b"end_header\n")
    assert b"element vertex 4\n" in head
    assert b"element face 4\n" in head
    assert b" nm " in head
    assert (np.frombuffer(body, "<f4", 12).reshape(4, 3) == CORNERS[:, ::-1]).all()
    faces = np.frombuffer(body[48:], [("n", "u1"), ("at", "<i4", 3)])
    assert (faces["n"] == 3).all()
    assert (faces["at"] == TRIANGLES).all()


def test_obj(tmp_path) -> None:
    write(tmp_path / "m", "obj")
    lines = (tmp_path / "m" / "88.obj").read_text().splitlines()
    assert "nm" in lines[0]
    assert [line.split()[1:] for line in lines if line.startswith("v ")][3] == ["6.50", "0.00", "0.00"]
    assert [line for line in lines if line.startswith("f ")][1] == "f 1 4 2"


def test_precomputed(tmp_path) -> None:
    write(tmp_path / "m", "precomputed")
    folder = tmp_path / "m"
    assert json.loads((folder / "info").read_text()) == {"@type": "neuroglancer_legacy_mesh"}
    (fragment,) = json.loads((folder / "88:0").read_text())["fragments"]
    data = (folder / fragment).read_bytes()
    assert int.from_bytes(data[:4], "little") == 4
    assert (np.frombuffer(data[4:52], "<f4").reshape(4, 3) == CORNERS[:, ::-1]).all()
    assert (np.frombuffer(data[52:], "<u4").reshape(-1, 3) == TRIANGLES).all()


def test_precomputed_is_refused_where_names_have_no_colon(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_meshes.os, "name", "nt")
    with pytest.raises(EmSegError, match="colon"):
        _meshes.check_mesh_folder(tmp_path / "m", "precomputed")


def test_swc_is_in_micrometres_with_trees_that_programs_can_read(tmp_path) -> None:
    with skeleton_folder(tmp_path / "s") as put:
        put(5, np.array([[30, 60, 90], [60, 60, 90], [0, 0, 6]]), np.array([50, 60, 3]), np.array([-1, 0, -1]))
    text = (tmp_path / "s" / "5.swc").read_text()
    assert "um" in text.splitlines()[0]
    rows = np.loadtxt(tmp_path / "s" / "5.swc")
    assert rows.tolist() == [
        [1, 0, 0.09, 0.06, 0.03, 0.05, -1], [2, 0, 0.09, 0.06, 0.06, 0.06, 1], [3, 0, 0.006, 0, 0, 0.003, -1]
    ]  # fmt: skip


def test_a_failure_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), mesh_folder(tmp_path / "m", "ply") as put:
        put(1, CORNERS, TRIANGLES)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_only_folders_of_the_same_kind_are_replaced(tmp_path) -> None:
    write(tmp_path / "m", "ply")
    with pytest.raises(TargetExistsError, match="exists already"):
        write(tmp_path / "m", "ply")
    with mesh_folder(tmp_path / "m", "ply", overwrite=True) as put:
        put(7, CORNERS, TRIANGLES)
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["7.ply"]
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    with pytest.raises(TargetExistsError, match=r"thesis\.txt"):
        write(tmp_path / "m", "ply", overwrite=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "obj")
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        write(tmp_path / "none" / "m", "ply")
    (tmp_path / "file").write_text("")
    with pytest.raises(EmSegError, match="is a file"):
        write(tmp_path / "file", "ply", overwrite=True)
