"""Skeletons: known lengths and ends of tubes, in anisotropic voxels."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.shapes import find_objects, skeletonise
from napari_em_seg.shapes.skeleton import _Grid

SIZE = (30.0, 6.0, 6.0)


def of(labels, **options):
    return skeletonise(find_objects(labels).runs(0), SIZE, **{"constant_nm": 100.0, **options})


def check_trees(skeleton) -> None:
    """Each node comes after the one before it, so there is no ring."""
    assert (skeleton.parent < np.arange(len(skeleton.parent))).all()
    assert np.isfinite(skeleton.points).all()
    assert (skeleton.radius > 0).all()


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((150, 300, 300), (1400, 300, 300)),  # across slices
        ((300, 100, 100), (300, 100, 900)),  # within them
        ((100, 200, 100), (1000, 200, 500)),
        ((300, 100, 100), (360, 800, 900)),  # nearly within them: two slices in a thousand nm
        ((300, 100, 100), (700, 800, 900)),
    ],
)
def test_a_tube_has_its_length_and_two_ends(tube, start, stop) -> None:
    radius = 80.0
    found = of(tube((start, stop), radius))
    check_trees(found)
    assert (found.n_ends, found.n_trees) == (2, 1)
    length = np.linalg.norm(np.subtract(start, stop)) + 2 * radius
    assert found.length_nm == pytest.approx(length, rel=0.03)
    axis = np.subtract(stop, start) / np.linalg.norm(np.subtract(stop, start))
    off = found.points - start
    off -= np.outer(off @ axis, axis)
    assert np.median(np.linalg.norm(off, axis=1)) < 20  # less than a slice
    assert np.median(found.radius) == pytest.approx(radius, abs=20)


def test_a_tube_that_branches_has_three_ends(tube) -> None:
    fork, ends = (700, 500, 500), ((100, 150, 500), (1400, 250, 250), (1300, 900, 800))
    labels = np.maximum.reduce([tube((end, fork), 60.0) for end in ends])
    found = of(labels)
    check_trees(found)
    assert (found.n_ends, found.n_trees) == (3, 1)
    length = sum(np.linalg.norm(np.subtract(end, fork)) + 60 for end in ends)
    assert found.length_nm == pytest.approx(length, rel=0.03)
    for end in ends:
        assert np.linalg.norm(found.points - end, axis=1).min() < 60


def test_a_short_branch_is_left_out_if_it_is_shorter_than_wanted(tube) -> None:
    labels = tube(((750, 100, 500), (750, 900, 500)), 60.0) | tube(((750, 500, 500), (750, 500, 700)), 30.0)
    assert of(labels, constant_nm=60.0).n_ends == 3
    assert of(labels, constant_nm=300.0).n_ends == 2


def test_a_branch_that_passes_by_is_not_explained_by_its_neighbour(tube) -> None:
    """Two arms of a hairpin, nearer to each other than they reach: a ball would swallow one of them."""
    labels = tube(((700, 400, 100), (700, 400, 900), (700, 480, 900), (700, 480, 100)), 30.0)
    found = of(labels, constant_nm=60.0)
    assert found.n_ends == 2
    assert found.length_nm == pytest.approx(2 * 800 + 80 + 60, rel=0.1)  # the narrow turn is smoothed


def test_one_tree_for_each_part(tube) -> None:
    parts = tube(((300, 100, 100), (300, 100, 800)), 40.0) | tube(((900, 700, 100), (900, 700, 800)), 40.0)
    parts[0, 0, 0] = 1
    found = of(parts)
    check_trees(found)
    assert found.n_trees == 3
    assert found.n_ends == 5  # the speck is one


def test_the_distance_from_the_surface_is_the_exact_one_less_half_a_voxel() -> None:
    labels = gaussian_filter(np.random.default_rng(0).standard_normal((20, 40, 40)), 1.5) > 0
    labels[[0, -1]] = labels[:, [0, -1]] = labels[:, :, [0, -1]] = False
    depth = _Grid(find_objects(labels.astype(np.uint8)).runs(0), SIZE).depth()
    exact = distance_transform_edt(labels, sampling=SIZE)[labels]
    assert (depth <= exact).all()
    assert (exact - depth <= 15).all()
    assert depth.min() == 3


def test_beyond_the_border_an_object_goes_on(tube) -> None:
    labels = tube(((750, 510, 0), (750, 510, 1020)), 60.0)  # to both sides
    found = of(labels)
    tips = np.sort(found.points[:, 2])[[0, -1]]
    assert tips == pytest.approx([3, 1017])
    assert found.radius[np.argsort(found.points[:, 2])[5:-5]].min() > 40
    assert of(np.ones((3, 20, 20), np.uint8)).radius.max() == pytest.approx(45, abs=10)


def test_cancel_and_what_cannot_be(tube) -> None:
    labels = tube(((750, 100, 300), (750, 400, 300)), 40.0)
    with pytest.raises(Cancelled):
        of(labels, cancelled=lambda: True)
    with pytest.raises(DataError, match="constant -1"):
        of(labels, constant_nm=-1)
