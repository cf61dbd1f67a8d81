"""The seed decides everything; damage touches the image only; bad input is refused."""

import os
import pickle

import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.sample import generate

SMALL = (6, 96, 112)


def test_same_seed_same_bytes(monkeypatch: pytest.MonkeyPatch):
    one = generate(SMALL, seed=3)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    two = generate(SMALL, seed=3)
    assert one.raw.tobytes() == two.raw.tobytes()
    assert one.labels.tobytes() == two.labels.tobytes()


def test_other_seed_other_tissue():
    one, two = generate(SMALL, seed=3), generate(SMALL, seed=4)
    assert (one.raw != two.raw).mean() > 0.5
    assert (one.labels != two.labels).mean() > 0.2


@pytest.mark.parametrize("damage", ["missing_slice", "fold", "stain"])
def test_damage_spoils_one_inner_section_and_not_the_truth(damage: str):
    whole, spoilt = generate(SMALL, seed=3), generate(SMALL, seed=3, **{damage: True})
    np.testing.assert_array_equal(whole.labels, spoilt.labels)
    changed = np.flatnonzero((whole.raw != spoilt.raw).any((1, 2)))
    assert len(changed) == 1
    z = changed[0]
    assert 0 < z < SMALL[0] - 1
    assert spoilt.raw[z].mean() < whole.raw[z].mean()
    share = (whole.raw[z].astype(int) - spoilt.raw[z] > 30).mean()
    if damage == "missing_slice":
        assert spoilt.raw[z].max() < 16
    else:
        assert 0.01 < share < 0.6


def test_damages_take_sections_of_their_own():
    whole = generate(SMALL, seed=3)
    spoilt = generate(SMALL, seed=3, missing_slice=True, fold=True, stain=True)
    assert (whole.raw != spoilt.raw).any((1, 2)).sum() == 3


def test_misalignment_shifts_image_and_labels_together():
    straight, shaken = generate(SMALL, seed=3, misalignment=0), generate(SMALL, seed=3, misalignment=4)
    assert (straight.labels != shaken.labels).mean() > 0.05
    assert shaken.raw[shaken.labels == 0].mean() < shaken.raw[shaken.labels > 0].mean() - 20


@pytest.mark.parametrize(
    "shape",
    [
        (2, 64, 64),
        (3, 63, 64),
        (30, 512),
        (30, 512, 512, 3),
        (-3, 64, 64),
        (3.5, 64, 64),
        (True, 64, 64),
        512,
        "abc",
    ],
)
def test_bad_shape_is_refused(shape):
    with pytest.raises(DataError, match="shape"):
        generate(shape)


@pytest.mark.parametrize(
    "bad", [{"seed": -1}, {"seed": 0.5}, {"seed": "a"}, {"misalignment": -1}, {"misalignment": float("nan")}]
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(DataError, match=next(iter(bad))):
        generate(SMALL, **bad)


def test_numpy_numbers_are_taken():
    shape = tuple(np.array([3, 64, 64]))
    assert generate(shape, np.int64(1)).raw.tobytes() == generate((3, 64, 64), 1).raw.tobytes()


def test_sample_can_be_pickled():
    sample = generate((3, 64, 64))
    assert pickle.loads(pickle.dumps(sample)).voxel_size_nm == sample.voxel_size_nm
