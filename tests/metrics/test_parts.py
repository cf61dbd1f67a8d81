"""The measures of each object and each segment: by hand, and as parts of the total."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_em_seg.metrics import contingency, evaluate, per_object, per_segment


@st.composite
def tables(draw):
    shape = draw(array_shapes(max_dims=3, max_side=6))
    segmentation, truth = (draw(arrays(np.uint8, shape, elements=st.integers(0, 5))) for _ in range(2))
    background = draw(st.sampled_from(["singletons", "label"]))
    return contingency(segmentation, truth, ignore_truth=(), background=background)


def test_objects_by_hand():
    # object:  1 in segments 4 (3 voxels) and 5 (1); 2 in segment 5 alone (2); 3 in background (2)
    table = contingency(np.array([4, 4, 4, 5, 5, 5, 0, 0]), np.array([1, 1, 1, 1, 2, 2, 3, 3]))
    objects = per_object(table)

    assert len(objects) == 3
    assert objects.ids.tolist() == [1, 3, 2]
    assert objects.voxels.tolist() == [4, 2, 2]
    assert objects.n_segments.tolist() == [2, 0, 1]
    assert objects.largest_segment.tolist() == [4, 0, 5]
    # IoU: 3 of 4; one voxel of two; 2 of the 3 voxels of segment 5
    assert objects.iou.tolist() == [3 / 4, 1 / 2, 2 / 3]
    # object 1: 3/8·log2(4/3) + 1/8·log2 4; object 3: 2/8·log2 2
    assert objects.vi_split == pytest.approx([3 / 8 * log2(4 / 3) + 1 / 4, 1 / 4, 0], rel=1e-15)
    # (9 + 1)/16; two singletons (1 + 1)/4
    assert objects.v_rand_split.tolist() == [10 / 16, 1 / 2, 1]


def test_segments_by_hand():
    table = contingency(np.array([4, 4, 4, 5, 5, 5, 0, 0]), np.array([1, 1, 1, 1, 2, 2, 3, 3]))
    segments = per_segment(table)

    assert len(segments) == 2
    assert segments.ids.tolist() == [5, 4]
    assert segments.voxels.tolist() == [3, 3]
    assert segments.n_objects.tolist() == [2, 1]
    assert segments.largest_object.tolist() == [2, 1]
    assert segments.iou.tolist() == [2 / 3, 3 / 4]
    # segment 5: 1/8·log2 3 + 2/8·log2(3/2) = 3/8·log2 3 − 1/4
    assert segments.vi_merge == pytest.approx([3 / 8 * log2(3) - 1 / 4, 0], rel=1e-15)
    assert segments.v_rand_merge.tolist() == pytest.approx([5 / 9, 1], rel=1e-15)


def test_background_as_a_label_is_listed():
    table = contingency(np.array([0, 0, 7]), np.array([1, 2, 2]), background="label")

    assert per_segment(table).ids.tolist() == [0, 7]
    assert per_object(table).ids.tolist() == [2, 1]
    assert per_object(table).n_segments.tolist() == [2, 1]
    assert per_object(table).largest_segment.tolist() == [0, 0]


def test_a_proper_segment_goes_before_background():
    # One voxel of each: neither is larger, but the segment can be shown to a person.
    assert per_object(contingency(np.array([0, 0, 9]), np.array([1, 1, 1]))).largest_segment.tolist() == [9]


def test_ties_go_to_the_lowest_id():
    table = contingency(np.array([8, 3, 8, 3]), np.array([2, 2, 1, 1]))

    assert per_object(table).ids.tolist() == [1, 2]
    assert per_object(table).largest_segment.tolist() == [3, 3]
    assert per_segment(table).ids.tolist() == [3, 8]
    assert per_segment(table).largest_object.tolist() == [1, 1]


def test_nothing_but_background_has_no_segments():
    assert len(per_segment(contingency(np.zeros(3, int), np.ones(3, int)))) == 0


@settings(deadline=None)
@given(tables())
def test_parts_add_up_to_the_total(table):
    total, objects, segments = evaluate(table), per_object(table), per_segment(table)

    assert objects.vi_split.sum() == pytest.approx(total.vi_split, abs=1e-12)
    assert segments.vi_merge.sum() == pytest.approx(total.vi_merge, abs=1e-12)
    assert objects.voxels.sum() == total.n_voxels
    assert (len(objects), len(segments)) == (total.n_objects, total.n_segments)
    assert objects.n_segments.sum() == segments.n_objects.sum()

    n_singletons = total.n_voxels - segments.voxels.sum()
    squares_t, squares_s = objects.voxels.astype(float) ** 2, segments.voxels.astype(float) ** 2
    assert np.average(objects.v_rand_split, weights=squares_t) == pytest.approx(total.v_rand_split)
    joint = (segments.v_rand_merge * squares_s).sum() + n_singletons
    assert joint / (squares_s.sum() + n_singletons) == pytest.approx(total.v_rand_merge)


@settings(deadline=None)
@given(tables())
def test_worst_comes_first(table):
    objects, segments = per_object(table), per_segment(table)

    assert (np.diff(objects.vi_split) <= 0).all()
    assert (np.diff(segments.vi_merge) <= 0).all()
    assert ((objects.iou > 0) & (objects.iou <= 1)).all()
    assert ((segments.iou > 0) & (segments.iou <= 1)).all()
