"""Objects as runs: every voxel of every object, once."""

import numpy as np
import pytest

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.shapes import find_objects


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 6, (5, 7, 9)), np.ones((1, 3, 2), int)).astype(np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_runs_hold_each_voxel_once(labels, dtype) -> None:
    found = find_objects(labels.astype(dtype))
    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    for place, name in enumerate(found.ids.tolist()):
        runs, mask = found.runs(place), labels == name
        assert found.voxels[place] == runs.n_voxels == mask.sum()
        painted = np.zeros(labels.shape, np.uint8)
        runs.paint(painted, (0, 0, 0))
        assert (painted == mask).all()
        assert (np.stack(runs.voxels(), 1) == np.argwhere(mask)).all()
        where = np.argwhere(mask)
        assert [(s.start, s.stop) for s in runs.box] == [
            *zip(where.min(axis=0), where.max(axis=0) + 1, strict=True)
        ]


def test_only_some_and_only_large_ones(labels) -> None:
    sizes = np.bincount(labels.ravel())
    assert find_objects(labels, [4, 2]).ids.tolist() == [2, 4]
    least = int(np.sort(sizes[1:])[2])
    found = find_objects(labels, least=least)
    assert found.ids.tolist() == [k for k in range(1, 6) if sizes[k] >= least]
    assert [found.runs(k).n_voxels for k in range(len(found))] == [sizes[k] for k in found.ids]
    assert not len(find_objects(np.zeros((2, 3, 4), np.uint8)))


def test_each_slice_is_read_once(labels) -> None:
    class Once:
        shape, dtype, read = labels.shape, labels.dtype, []

        def __getitem__(self, z):
            self.read.append(z)
            return labels[z]

    find_objects(Once())
    assert Once.read == list(range(5))


def test_what_cannot_be_is_said(labels) -> None:
    with pytest.raises(DataError, match="no object 77"):
        find_objects(labels, [2, 77])
    with pytest.raises(DataError, match="number -3"):
        find_objects(np.full((1, 2, 2), -3))
    with pytest.raises(DataError, match="whole numbers"):
        find_objects(np.zeros((2, 2, 2)))
    with pytest.raises(Cancelled):
        find_objects(labels, cancelled=lambda: True)
