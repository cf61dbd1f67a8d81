"""The truth: dense, connected neurites that branch, begin and end."""

import numpy as np
import pytest
from scipy.ndimage import find_objects
from skimage.measure import label

from napari_em_seg.sample import Sample, generate


def test_arrays_are_what_they_say(tissue: Sample):
    assert tissue.raw.shape == tissue.labels.shape == (12, 224, 240)
    assert tissue.raw.dtype == np.uint8
    assert tissue.labels.dtype == np.uint32
    assert tissue.voxel_size_nm == (30.0, 6.0, 6.0)


def test_truth_is_dense_and_no_label_is_left_out(tissue: Sample):
    ids = np.unique(tissue.labels)
    assert ids.tolist() == list(range(len(ids)))
    assert len(ids) > 20
    assert 0.04 < (tissue.labels == 0).mean() < 0.25
    assert np.bincount(tissue.labels.ravel()).min() >= 50


@pytest.mark.parametrize("misalignment", [0.0, 1.0])
def test_every_neurite_is_connected(misalignment: float):
    labels = generate((9, 160, 160), seed=8, misalignment=misalignment).labels
    parts = label(labels, background=0, connectivity=1)
    assert parts.max() == labels.max()


def test_neighbours_in_a_section_are_parted_by_membrane(tissue: Sample):
    for one, other in (
        (tissue.labels[:, 1:], tissue.labels[:, :-1]),
        (tissue.labels[:, :, 1:], tissue.labels[:, :, :-1]),
    ):
        touching = (one != other) & (one > 0) & (other > 0)
        assert touching.mean() < 0.001


def test_some_neurites_have_several_sections_in_a_slice(tissue: Sample):
    branched = set()
    for plane in tissue.labels:
        parts = label(plane, background=0, connectivity=1)
        owner = np.zeros(parts.max() + 1, int)
        owner[parts.ravel()] = plane.ravel()
        large = np.bincount(parts.ravel()) > 100
        ids, counts = np.unique(owner[large & (owner > 0)], return_counts=True)
        branched.update(ids[counts > 1].tolist())
    assert len(branched) >= 2


def test_some_neurites_begin_or_end_inside(tissue: Sample):
    inside = 0
    depth, height, width = tissue.labels.shape
    for box in find_objects(tissue.labels.astype(np.int32)):
        z, y, x = box
        in_plane = y.start > 0 and x.start > 0 and y.stop < height and x.stop < width
        crosses = z.start == 0 and z.stop == depth
        inside += in_plane and not crosses
    assert inside >= 2


def test_neurites_drift(tissue: Sample):
    before, after = tissue.labels[:-1], tissue.labels[1:]
    both = (before > 0) & (after > 0)
    assert 0.8 < (before == after)[both].mean() < 0.99


def test_sections_are_large_and_small(tissue: Sample):
    sizes = np.concatenate([np.bincount(label(p, background=0).ravel())[1:] for p in tissue.labels])
    few, many = np.percentile(sizes, [99, 25])
    assert few > 10 * many


@pytest.mark.parametrize("shape", [(3, 64, 64), (5, 65, 131), (4, 200, 71)])
def test_any_shape(shape: tuple[int, int, int]):
    sample = generate(shape, seed=2)
    assert sample.raw.shape == sample.labels.shape == shape
    assert sample.labels.max() >= 3
    assert sample.raw.std() > 15
