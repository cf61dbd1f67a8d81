"""Affinities and shape descriptors, against their definitions voxel by voxel."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import NEAREST, affinity_labels, local_shape_descriptors

may_compile = settings(deadline=None)  # the first call waits for numba
LONG = (*NEAREST, (-2, 0, 0), (0, -3, 1), (1, 1, 9), (0, 0, -7))


def brute_force(ids, offsets, ignore):
    affinities = np.zeros((len(offsets), *ids.shape), np.uint8)
    known = np.zeros(affinities.shape, bool)
    for c, place in product(range(len(offsets)), np.ndindex(ids.shape)):
        other = tuple(np.add(place, offsets[c]))
        if all(0 <= i < n for i, n in zip(other, ids.shape, strict=True)):
            a, b = int(ids[place]), int(ids[other])
            known[(c, *place)] = ignore not in (a, b)
            affinities[(c, *place)] = a == b != 0 and a != ignore
    return affinities, known


@may_compile
@given(
    ids=hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.uint64]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 3),
    ),
    ignore=st.sampled_from([None, 0, 2, -1, 2**64 - 1]),
)
def test_affinities_same_as_brute_force(ids, ignore):
    for found, expected in zip(
        affinity_labels(ids, LONG, ignore=ignore), brute_force(ids, LONG, ignore), strict=True
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_affinities_by_hand():
    affinities, known = affinity_labels(np.array([1, 1, 2, 0, 0, 3]).reshape(1, 1, 6))
    assert affinities[:2].any() == known[:2].any() == False  # noqa: E712
    assert affinities[2].ravel().tolist() == [0, 1, 0, 0, 0, 0]
    assert known[2].ravel().tolist() == [False, True, True, True, True, True]


def test_ids_beyond_float_precision_differ():
    ids = np.array([2**63, 2**63 + 1], np.uint64).reshape(1, 1, 2)
    assert not affinity_labels(ids)[0].any()
    assert affinity_labels(ids, ignore=2**63)[1][2].ravel().tolist() == [False, False]


@pytest.mark.parametrize("offset", [(0, 0, 0), (0, 1), (0.5, 0, 1), (1, 0, 0, 0)])
def test_refuses_other_offsets(offset):
    with pytest.raises(DataError, match="three whole numbers"):
        affinity_labels(np.ones((2, 2, 2), int), [offset])


@pytest.mark.parametrize("ids", [np.ones((2, 2), int), np.ones((2, 2, 2))])
def test_refuses_what_is_no_labelling(ids):
    for function in (affinity_labels, lambda ids: local_shape_descriptors(ids, voxel_size_nm=(30, 6, 6))):
        with pytest.raises(DataError, match="along three axes"):
            function(ids)


def described(ids, sigma):
    """Return the descriptors by their definition, for σ in voxels."""
    result = np.zeros((10, *ids.shape))
    places = np.stack(np.indices(ids.shape), -1).reshape(-1, 3)
    radius = (3 * sigma + 0.5).astype(int)
    total = np.prod(
        [np.exp(-0.5 * (np.arange(-r, r + 1) / s) ** 2).sum() for r, s in zip(radius, sigma, strict=True)]
    )
    for place in np.argwhere(ids):
        way = places - place
        is_seen = (np.abs(way) <= radius).all(1) & (ids.ravel() == ids[tuple(place)])
        t = way[is_seen] / sigma
        w = np.exp(-0.5 * (t**2).sum(1)) / total
        mean = (w @ t) / w.sum()
        covariance = (t * w[:, None]).T @ t / w.sum() - np.outer(mean, mean)
        extent = np.maximum(np.diag(covariance), 1e-4)
        direction = [covariance[a, b] / np.sqrt(extent[a] * extent[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        values = [*(mean / 2 + 0.5), *extent, *(np.array(direction) / 2 + 0.5), w.sum()]
        result[(slice(None), *place)] = np.clip(values, 0, 1)
    return result


@pytest.mark.parametrize("shape", [(5, 9, 12), (1, 14, 9), (3, 1, 20), (1, 1, 1)])
@pytest.mark.parametrize("sigma_nm", [12.0, 40.0, (30.0, 12.0, 18.0)])
@pytest.mark.parametrize("coarse", [1, 4])
def test_descriptors_same_as_their_definition(shape, sigma_nm, coarse):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 4, [-(-side // coarse) for side in shape])
    ids = cells.repeat(coarse, 0).repeat(coarse, 1).repeat(coarse, 2)[tuple(map(slice, shape))]
    found = local_shape_descriptors(ids.astype(np.uint64) * 7, sigma_nm, voxel_size_nm=(20, 6, 6))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, described(ids, np.broadcast_to(sigma_nm, 3) / (20, 6, 6)), atol=2e-4)


def test_descriptors_mean_what_they_say():
    """A bar along x, 40 nm thick: in its middle nothing pulls; at its end everything lies on one side."""
    ids = np.zeros((9, 21, 121), int)
    ids[2:7, 8:13] = 5
    found = local_shape_descriptors(ids, 80.0, voxel_size_nm=(8, 8, 8))
    assert not found[:, ids == 0].any()
    middle, end = found[:, 4, 10, 60], found[:, 4, 10, 0]
    np.testing.assert_allclose(middle[[0, 1, 2, 6, 7, 8]], 0.5, atol=1e-4)
    assert middle[5] > 0.9 > 0.1 > middle[3]
    assert end[2] > 0.8
    assert end[9] == pytest.approx(middle[9] / 2, rel=0.1)


def test_objects_do_not_see_each_other():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (4, 10, 10))
    together = local_shape_descriptors(ids, 20.0, voxel_size_nm=(20, 6, 6))
    alone = sum(
        local_shape_descriptors(np.where(ids == i, i, 0), 20.0, voxel_size_nm=(20, 6, 6)) for i in range(4)
    )
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("sigma", "size"),
    [
        (0, (30, 6, 6)),
        (80, (30, 6)),
        (80, (0, 6, 6)),
        (float("nan"), (30, 6, 6)),
        ((80, 80), (30, 6, 6)),
        (80, 6),
    ],
)
def test_refuses_impossible_sizes(sigma, size):
    with pytest.raises(DataError, match="greater than 0"):
        local_shape_descriptors(np.ones((2, 2, 2), int), sigma, voxel_size_nm=size)
