"""The measures in total, on cases that are worked out by hand."""

from dataclasses import asdict, fields
from fractions import Fraction
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_em_seg.metrics import Contingency, Scores, contingency, evaluate
from napari_em_seg.metrics.scores import _sum_of_squares


def scores(segmentation, truth, **options) -> Scores:
    return evaluate(contingency(np.array(segmentation), np.array(truth), **options))


def test_perfect_is_exactly_zero():
    truth = np.random.default_rng(0).integers(1, 50, (4, 30, 30))
    result = scores((truth * 7919) % 1009, truth)  # other ids, the same regions

    assert (result.adapted_rand_error, result.vi_split, result.vi_merge, result.vi) == (0, 0, 0, 0)
    assert (result.v_rand_split, result.v_rand_merge, result.v_rand_f) == (1, 1, 1)
    assert (result.adapted_rand_precision, result.adapted_rand_recall) == (1, 1)
    assert (result.n_voxels, result.n_segments, result.n_objects) == (3600, 49, 49)


def test_all_split():
    # Four overlaps of 1: Σp² = 4. Four segments of 1: Σs² = 4. One object of 4: Σt² = 16.
    # merge = 4/4, split = 4/16, F = 2·4 / (4 + 16) = 2/5. Which of 4 equal segments: log2 4 = 2 bits.
    result = scores([1, 2, 3, 4], [5, 5, 5, 5])

    assert (result.v_rand_merge, result.v_rand_split, result.v_rand_f) == (1, 1 / 4, 2 / 5)
    assert (result.adapted_rand_precision, result.adapted_rand_recall) == (1, 1 / 4)
    assert result.adapted_rand_error == 3 / 5
    assert (result.vi_split, result.vi_merge, result.vi) == (2, 0, 2)
    assert (result.n_voxels, result.n_segments, result.n_objects) == (4, 4, 1)


def test_all_merged():
    # The same with the arguments swapped: Σs² = 16 and Σt² = 4.
    result = scores([5, 5, 5, 5], [1, 2, 3, 4])

    assert (result.v_rand_merge, result.v_rand_split, result.v_rand_f) == (1 / 4, 1, 2 / 5)
    assert result.adapted_rand_error == 3 / 5
    assert (result.vi_split, result.vi_merge, result.vi) == (0, 2, 2)


def test_one_of_two_objects_is_halved():
    # Overlaps 2, 2, 4: Σp² = 4 + 4 + 16 = 24 = Σs². Objects 4, 4: Σt² = 32.
    # merge = 1, split = 24/32 = 3/4, F = 48/56 = 6/7. Half of the voxels carry 1 bit: VI split = 1/2.
    result = scores([1, 1, 2, 2, 3, 3, 3, 3], [1, 1, 1, 1, 2, 2, 2, 2])

    assert (result.v_rand_merge, result.v_rand_split) == (1, 3 / 4)
    assert result.v_rand_f == 6 / 7
    assert result.adapted_rand_error == 1 / 7
    assert (result.vi_split, result.vi_merge) == (1 / 2, 0)


def test_a_split_and_a_merge():
    # Overlaps (1, 1): 2, (2, 1): 1, (2, 3): 1. Σp² = 6, segments 2, 2: Σs² = 8, objects 3, 1: Σt² = 10.
    # VI split: 2/4·log2(3/2) + 1/4·log2(3/1) = 3/4·log2 3 − 1/2. VI merge: segment 2, 2/4·log2(2/1) = 1/2.
    result = scores([1, 1, 2, 2], [1, 1, 1, 3])

    assert (result.v_rand_merge, result.v_rand_split) == (6 / 8, 6 / 10)
    assert result.adapted_rand_error == 1 / 3
    assert result.vi_split == pytest.approx(0.75 * log2(3) - 0.5, rel=1e-15)
    assert result.vi_merge == 1 / 2


def test_background_counts_as_singletons():
    # The last voxel is background of the truth. Left: overlaps 2, 1, 1, all of them whole segments:
    # Σp² = Σs² = 4 + 1 + 1 = 6, Σt² = 16. Recall 6/16, F = 12/22, error 10/22 = 5/11.
    # VI split: half of the voxels at log2(4/2) = 1 bit, half at log2(4/1) = 2 bits: 3/2.
    result = scores([7, 7, 0, 0, 7], [1, 1, 1, 1, 0])

    assert (result.v_rand_merge, result.v_rand_split) == (1, 6 / 16)
    assert result.adapted_rand_error == 5 / 11
    assert (result.vi_split, result.vi_merge) == (3 / 2, 0)
    assert (result.n_voxels, result.n_segments, result.n_objects) == (4, 1, 1)


def test_background_counts_as_a_label():
    # Two segments of 2 in an object of 4: Σp² = Σs² = 8, Σt² = 16.
    result = scores([7, 7, 0, 0, 7], [1, 1, 1, 1, 0], background="label")

    assert (result.v_rand_merge, result.v_rand_split) == (1, 8 / 16)
    assert (result.vi_split, result.vi_merge) == (1, 0)
    assert (result.n_voxels, result.n_segments, result.n_objects) == (4, 2, 1)


def test_an_empty_segmentation_is_all_singletons():
    # Σp² = Σs² = 4, Σt² = 4 + 4 = 8; every voxel is one of two in its object: 1 bit.
    result = scores([0, 0, 0, 0], [1, 1, 2, 2])

    assert (result.v_rand_merge, result.v_rand_split) == (1, 1 / 2)
    assert (result.vi_split, result.vi_merge) == (1, 0)
    assert (result.n_segments, result.n_objects) == (0, 2)


def test_the_names_are_stable():
    rand = ["adapted_rand_error", "adapted_rand_precision", "adapted_rand_recall"]
    information = ["vi_split", "vi_merge", "vi"]
    v_rand = ["v_rand_merge", "v_rand_split", "v_rand_f"]
    names = [*rand, *information, *v_rand, "n_voxels", "n_segments", "n_objects"]
    result = scores([1, 2], [1, 1])

    assert [field.name for field in fields(Scores)] == names
    assert list(result.to_dict()) == names
    assert result.to_dict() == asdict(result)
    assert {type(value) for value in result.to_dict().values()} == {int, float}


def test_squares_beyond_64_bits_are_exact():
    # 2⁴² voxels: the squares pass 2⁶³ by far, and float64 would lose the odd voxel.
    half = 2**41 + 1
    ids = np.array([1, 2], np.uint64)
    table = Contingency(ids, np.array([5, 5], np.uint64), np.array([half, half - 2]), "label")

    assert evaluate(table).v_rand_split == float(Fraction(half**2 + (half - 2) ** 2, (2 * half - 2) ** 2))
    assert evaluate(Contingency(ids, ids, table.counts)).adapted_rand_error == 0


@given(st.lists(st.integers(1, 2**36), min_size=1, max_size=100))
def test_sum_of_squares_is_that_of_integers(sizes):
    array = np.array(sizes, np.int64)
    assert _sum_of_squares(array, array) == sum(size * size for size in sizes)
