"""Boundary labels, against a kernel slid over every voxel."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_em_seg.errors import DataError
from napari_em_seg.predict.labels import boundary_labels, from_m2fcn_convention

KERNELS = ("l3", "c3", "c5")


def offsets(kernel):
    if kernel == "l3":
        return [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    radius = {"c3": 1, "c5": 2}[kernel]
    return list(product(range(-radius, radius + 1), repeat=3))


def brute_force(ids, kernel):
    """Count the distinct labels under the kernel, as the paper defines it."""
    result = np.zeros(ids.shape, np.uint8)
    for place in np.ndindex(ids.shape):
        around = [tuple(np.add(place, offset)) for offset in offsets(kernel)]
        inside = [p for p in around if all(0 <= i < n for i, n in zip(p, ids.shape, strict=True))]
        result[place] = len({int(ids[p]) for p in inside}) > 1
    return result


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    ids=hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.uint64]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.integers(0, 2),
    )
)
def test_same_as_brute_force(kernel, ids):
    np.testing.assert_array_equal(boundary_labels(ids, kernel), brute_force(ids, kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1, 9, 13), (2, 14, 7), (9, 3, 10), (12, 1, 1), (4, 8, 8)])
@pytest.mark.parametrize("coarse", [1, 3])
def test_same_as_brute_force_on_blobs(kernel, shape, coarse):
    """Labels of several voxels, so that some kernels hold a single one."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 4, [-(-side // coarse) for side in shape])
    ids = cells.repeat(coarse, 0).repeat(coarse, 1).repeat(coarse, 2)[tuple(map(slice, shape))]

    np.testing.assert_array_equal(boundary_labels(ids, kernel), brute_force(ids, kernel))


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_is_a_label_like_any_other(kernel):
    ids = np.random.default_rng(0).integers(0, 3, (4, 7, 6))
    np.testing.assert_array_equal(boundary_labels(ids, kernel), boundary_labels(ids + 5, kernel))
    assert not boundary_labels(np.zeros((3, 4, 5), int), kernel).any()


def test_ids_beyond_float_precision_differ():
    ids = np.array([2**63, 2**63 + 1], np.uint64).reshape(1, 1, 2)
    assert boundary_labels(ids, "l3").tolist() == [[[1, 1]]]


def test_thickness_grows_with_the_kernel():
    ids = np.zeros((9, 20, 20), int)
    ids[:, :, 10:] = 1
    width = {kernel: int(boundary_labels(ids, kernel)[4, 10].sum()) for kernel in KERNELS}
    assert width == {"l3": 2, "c3": 2, "c5": 4}


def test_neighbouring_slices_count():
    ids = np.zeros((5, 3, 3), int)
    ids[3:] = 1
    assert boundary_labels(ids, "l3")[:, 1, 1].tolist() == [0, 0, 1, 1, 0]
    assert boundary_labels(ids, "c5")[:, 1, 1].tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_views_and_read_only_arrays(kernel):
    ids = np.random.default_rng(0).integers(0, 3, (5, 8, 6)).transpose(2, 0, 1)[:, ::-1]
    ids.flags.writeable = False
    result = boundary_labels(ids, kernel)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, brute_force(ids, kernel))


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4)])
def test_empty(shape):
    assert boundary_labels(np.zeros(shape, int), "c5").shape == shape


@pytest.mark.parametrize("ids", [np.zeros((4, 4), int), np.zeros((2, 4, 4))])
def test_refuses_what_are_no_label_volumes(ids):
    with pytest.raises(DataError, match="three axes"):
        boundary_labels(ids, "c3")


def test_refuses_unknown_kernels():
    with pytest.raises(DataError, match="l3, c3, c5"):
        boundary_labels(np.zeros((2, 4, 4), int), "c7")


def test_turns_the_inverted_convention():
    theirs = np.array([0, 1, 1], np.uint8)  # 0 at a boundary
    ours = from_m2fcn_convention(theirs)
    assert ours.tolist() == [1, 0, 0]
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(from_m2fcn_convention(ours), theirs)
    assert from_m2fcn_convention(theirs.astype(bool)).tolist() == [True, False, False]
    assert from_m2fcn_convention(np.array([0.25], np.float32)).tolist() == [0.75]
    assert from_m2fcn_convention(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("labels", [[0, 255], [-1, 0], [0.5, np.nan], ["a"]])
def test_refuses_to_turn_other_maps(labels):
    with pytest.raises(DataError, match="labels 0 and 1"):
        from_m2fcn_convention(np.array(labels))


def test_needs_no_torch():
    code = "import sys, napari_em_seg.predict.labels; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
