"""Forests that come along: the nearest in voxel size is taken, and none that does not fit."""

from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import DataError, SourceNotFoundError
from napari_em_seg.forest import Forest
from napari_em_seg.segment import forests
from napari_em_seg.segment._forest import load_forest, save_forest
from napari_em_seg.segment.features import FEATURES

MIB = 2**20


def leaf(value: float, **card: object) -> Forest:
    return Forest(FEATURES, np.zeros(1, np.int32), np.array([-1], np.int32), np.zeros(1),
                  np.zeros((1, 2), np.int32), np.array([value]), card)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(forests, "bundled_folder", lambda: tmp_path)
    return tmp_path


def test_the_nearest_is_taken(folder: Path) -> None:
    save_forest(leaf(0.25, voxel_size=[30, 6, 6]), folder / "b.npz")
    save_forest(leaf(0.5, voxel_size=[50, 4, 4]), folder / "a.npz")
    assert forests.bundled_forest((30, 6, 6)).value == 0.25
    assert forests.bundled_forest((29, 5.5, 5.5)).value == 0.25
    assert forests.bundled_forest((45, 4.4, 4.4)).value == 0.5


def test_of_equally_near_ones_the_first_is_taken(folder: Path) -> None:
    for name, value in (("b", 0.1), ("a", 0.2)):
        save_forest(leaf(value, voxel_size=[30, 6, 6]), folder / f"{name}.npz")
    assert forests.bundled_forest((30, 6, 6)).value == 0.2


def test_without_any_the_way_to_one_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (folder, folder / "nothing"):
        monkeypatch.setattr(forests, "bundled_folder", lambda place=place: place)
        with pytest.raises(SourceNotFoundError, match=r"No forest .* train agglomeration"):
            forests.bundled_forest((30, 6, 6))


@pytest.mark.parametrize("size", [(30, 12, 12), (30, 6, 8), (50, 6, 6), (20, 6, 6)])
def test_other_voxels_are_refused(folder: Path, size: tuple[float, float, float]) -> None:
    save_forest(leaf(0.25, voxel_size=[30, 6, 6]), folder / "b.npz")
    with pytest.raises(DataError, match="trained on voxels of 30 × 6 × 6 nm"):
        forests.bundled_forest(size)


def test_unknown_voxels_are_refused(folder: Path) -> None:
    save_forest(leaf(0.25, voxel_size=[30, 6, 6]), folder / "b.npz")
    with pytest.raises(DataError, match=r"unknown.*--voxel-size"):
        forests.bundled_forest(None)


def test_a_forest_that_does_not_say_is_for_whoever_names_it() -> None:
    forests.check_voxel_size(leaf(0.5), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("path", sorted(forests.bundled_folder().glob("*.npz")), ids=lambda path: path.stem)
def test_what_comes_along_is_small_and_says_what_it_is(path: Path) -> None:
    assert path.stat().st_size <= MIB
    card = load_forest(path).card
    assert {"data", "licence", "command", "seed", "voxel_size"} <= set(card)
