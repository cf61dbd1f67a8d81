"""The measures against independent ones: scikit-image, the published script, and what must hold of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information

from napari_em_seg.errors import DataError
from napari_em_seg.metrics import contingency, evaluate

patient = settings(deadline=None)  # the first example waits for numba
ids = st.integers(0, 5)


@st.composite
def labelings(draw, n_arrays=2):
    """Draw label arrays of the same shape, with one to four axes."""
    shape = draw(array_shapes(min_dims=1, max_dims=4, max_side=6))
    return tuple(draw(arrays(np.int64, shape, elements=ids)) for _ in range(n_arrays))


def assert_agrees_with_skimage(result, segmentation, truth, ignore_truth) -> None:
    """Compare with scikit-image, whose Rand counts no voxel as a pair with itself: n pairs fewer.

    Its precision and recall come swapped against its own docstring (its issue 6485, open in 0.26), so
    that they are compared in either order.
    """
    segmentation, truth = np.ravel(segmentation), np.ravel(truth)
    counted = ~np.isin(truth, ignore_truth)
    n = counted.sum()
    squares_s = (np.unique(segmentation[counted], return_counts=True)[1] ** 2).sum()
    squares_t = (np.unique(truth[counted], return_counts=True)[1] ** 2).sum()
    joint = result.adapted_rand_precision * squares_s
    assert joint == pytest.approx(result.adapted_rand_recall * squares_t)
    assert result.adapted_rand_error == pytest.approx(1 - 2 * joint / (squares_s + squares_t), abs=1e-12)
    if squares_s > n and squares_t > n:  # else scikit-image divides by zero
        error, precision, recall = adapted_rand_error(truth, segmentation, ignore_labels=ignore_truth)
        pairs, pairs_s, pairs_t = joint - n, squares_s - n, squares_t - n
        assert error == pytest.approx(1 - 2 * pairs / (pairs_s + pairs_t), abs=1e-12)
        assert sorted((precision, recall)) == pytest.approx(
            sorted((pairs / pairs_s, pairs / pairs_t)), abs=1e-12
        )

    split, merge = variation_of_information(truth, segmentation, ignore_labels=ignore_truth)
    assert result.vi_split == pytest.approx(split, abs=1e-12)
    assert result.vi_merge == pytest.approx(merge, abs=1e-12)


@patient
@given(labelings(), st.sets(ids, max_size=3))
def test_agrees_with_skimage(both, ignored):
    segmentation, truth = both
    ignored = sorted(ignored)
    if np.isin(truth, ignored).all():
        with pytest.raises(DataError, match="No voxel is left"):
            contingency(segmentation, truth, ignore_truth=ignored)
        return
    table = contingency(segmentation, truth, ignore_truth=ignored, background="label")

    assert_agrees_with_skimage(evaluate(table), segmentation, truth, ignored)
    peer = contingency_table(truth, segmentation, ignore_labels=ignored).toarray()
    ours = np.zeros(peer.shape, np.int64)
    ours[table.truth, table.segmentation] = table.counts
    assert np.array_equal(ours, peer)


@patient
@given(labelings())
def test_singletons_agree_with_skimage_on_spelled_out_ids(both):
    segmentation, truth = both
    truth = truth + 1
    spelled_out = np.where(
        segmentation == 0, np.arange(6, 6 + segmentation.size).reshape(segmentation.shape), segmentation
    )
    result = evaluate(contingency(segmentation, truth))

    assert_agrees_with_skimage(result, spelled_out, truth, [0])
    assert result.to_dict() == pytest.approx(
        {**evaluate(contingency(spelled_out, truth)).to_dict(), "n_segments": result.n_segments}, abs=1e-12
    )


@patient
@given(labelings(n_arrays=3), st.sets(ids, max_size=2), st.sets(ids, max_size=2))
def test_masks_and_ignored_labels_leave_voxels_out(three, ignore_segmentation, ignore_truth):
    segmentation, truth, mask = three
    mask = mask > 1
    kept = mask & ~np.isin(segmentation, list(ignore_segmentation)) & ~np.isin(truth, list(ignore_truth))
    options = {"mask": mask, "ignore_segmentation": ignore_segmentation, "ignore_truth": ignore_truth}
    if not kept.any():
        with pytest.raises(DataError, match="No voxel is left"):
            contingency(segmentation, truth, **options)
        return
    result = evaluate(contingency(segmentation, truth, background="label", **options))

    assert result.n_voxels == kept.sum()
    assert_agrees_with_skimage(result, segmentation[kept], truth[kept], [])
    assert evaluate(contingency(segmentation, truth, **options)) == evaluate(
        contingency(segmentation[kept], truth[kept], ignore_truth=())
    )


def test_agrees_with_skimage_on_a_larger_random_labeling():
    random = np.random.default_rng(1)
    truth = random.integers(0, 300, (12, 64, 64)).repeat(3, axis=2)
    noise = random.integers(0, 400, truth.shape)
    segmentation = np.where(random.random(truth.shape) < 0.8, truth // 2, noise)
    result = evaluate(contingency(segmentation, truth, background="label"))

    assert_agrees_with_skimage(result, segmentation, truth, [0])


@patient
@given(labelings())
def test_follows_the_script_that_went_around(both):
    """The SNEMI3D script in Python, up to its c/n where c is meant."""
    segmentation, truth = both
    foreground = truth > 0
    if not foreground.any():
        return
    p = np.zeros((6, 6))
    np.add.at(p, (truth[foreground], segmentation[foreground]), 1)
    b, c = p[:, 1:], p[:, 0].sum()
    result = evaluate(contingency(segmentation, truth))

    def script(singletons):
        joint = (b**2).sum() + singletons
        return joint / ((b.sum(0) ** 2).sum() + singletons), joint / (p.sum(1) ** 2).sum()

    assert (result.adapted_rand_precision, result.adapted_rand_recall) == pytest.approx(script(c))
    precision, recall = script(c / truth.size)
    assert abs(result.adapted_rand_recall - recall) <= c / (p.sum(1) ** 2).sum()
    if c < foreground.sum():
        assert abs(result.adapted_rand_precision - precision) <= c / (b.sum(0) ** 2).sum()


@patient
@given(labelings(), st.lists(st.integers(1, 2**64 - 1), min_size=10, max_size=10, unique=True))
def test_other_ids_give_the_same_measures(both, others):
    segmentation, truth = both
    if not truth.any():
        return
    new_segments, new_objects = (np.array([0, *part], np.uint64) for part in (others[:5], others[5:]))
    result = evaluate(contingency(segmentation, truth))
    renamed = evaluate(contingency(new_segments[segmentation], new_objects[truth]))

    assert renamed.to_dict() == pytest.approx(result.to_dict(), rel=1e-12, abs=1e-12)


@patient
@given(labelings())
def test_swapping_the_arguments_swaps_splits_and_merges(both):
    first, second = both
    there = evaluate(contingency(first, second, ignore_truth=(), background="label"))
    back = evaluate(contingency(second, first, ignore_truth=(), background="label"))

    assert there.adapted_rand_error == back.adapted_rand_error
    assert there.v_rand_split == back.v_rand_merge
    assert there.v_rand_merge == back.v_rand_split
    assert (there.vi_split, there.vi_merge) == pytest.approx(
        (back.vi_merge, back.vi_split), rel=1e-12, abs=1e-12
    )
    assert (there.n_segments, there.n_objects) == (back.n_objects, back.n_segments)


@patient
@given(labelings())
def test_measures_stay_in_their_range(both):
    segmentation, truth = both
    result = evaluate(contingency(segmentation, truth, ignore_truth=()))

    assert 0 <= result.adapted_rand_error < 1
    assert 0 < result.v_rand_split <= 1
    assert 0 < result.v_rand_merge <= 1
    assert 0 <= result.vi_split <= np.log2(truth.size) + 1e-12
    assert 0 <= result.vi_merge <= np.log2(truth.size) + 1e-12
    assert result.adapted_rand_error == pytest.approx(1 - result.v_rand_f, abs=1e-12)
