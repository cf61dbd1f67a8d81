"""Surfaces: closed, turned outwards, where the object is, and the same however it is cut."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_em_seg.shapes import find_objects, surface, surface_of

SIZE = (30.0, 6.0, 6.0)


def blobs(shape=(14, 30, 30)):
    return (gaussian_filter(np.random.default_rng(0).standard_normal(shape), 1.5) > 0).astype(np.uint32)


def meshed(labels, place=0):
    return surface_of(find_objects(labels).runs(place), SIZE)


def is_closed(triangles) -> bool:
    """Whether each edge is met once in each direction."""
    edges = {(int(a), int(b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    return len(edges) == 3 * len(triangles) and all((b, a) in edges for a, b in edges)


def volume_of(corners, triangles) -> float:
    a, b, c = (corners[:, ::-1].astype(float)[triangles[:, k]] for k in range(3))  # x, y, z
    return float((a * np.cross(b, c)).sum() / 6)


def test_it_is_closed_and_turned_outwards_also_at_the_border() -> None:
    labels = blobs()
    assert all(labels[side].any() for side in (0, -1, np.s_[:, 0], np.s_[:, :, -1]))
    corners, triangles = meshed(labels)
    assert is_closed(triangles)
    assert volume_of(corners, triangles) == pytest.approx(labels.sum() * np.prod(SIZE), rel=0.03)


def test_lengths_are_nm_from_the_outer_corner_of_the_first_voxel() -> None:
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[2:5, 3:9, 0:20] = 7
    corners, triangles = meshed(labels)
    assert is_closed(triangles)
    assert corners.min(axis=0) == pytest.approx([60, 18, 0])
    assert corners.max(axis=0) == pytest.approx([150, 54, 120])


@pytest.mark.parametrize("budget", [1, 3000])
def test_it_is_the_same_however_it_is_cut(monkeypatch, budget) -> None:
    labels = blobs()
    whole = meshed(labels)
    monkeypatch.setattr(surface, "_VOXELS", budget)
    corners, triangles = meshed(labels)
    assert is_closed(triangles)
    assert np.unique(corners, axis=0).tolist() == np.unique(whole[0], axis=0).tolist()
    assert len(corners) == len(whole[0])
    assert volume_of(corners, triangles) == pytest.approx(volume_of(*whole), rel=1e-9)


def test_a_part_of_the_object_is_never_the_whole_volume(monkeypatch) -> None:
    labels = np.zeros((60, 200, 200), np.uint8)
    for z in range(60):
        labels[z, 3 * z : 3 * z + 4, 3 * z : 3 * z + 4] = 1  # across the whole volume, but thin
    sizes, march = [], surface._marched
    monkeypatch.setattr(surface, "_marched", lambda mask: (sizes.append(mask.size), march(mask))[1])
    monkeypatch.setattr(surface, "_VOXELS", 2**17)
    assert is_closed(meshed(labels)[1])
    assert sum(sizes) < labels.size / 10
