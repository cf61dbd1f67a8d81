"""Training crops meet what serial sections meet, and their labels stay true."""

from dataclasses import replace

import numpy as np
import pytest

from napari_em_seg.predict.augment import NONE, STANDARD, Augmentation, augment


def stripes(n_slices: int = 3, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Bright and dark stripes, and labels that say which is which on the centre slice."""
    labels = (np.arange(side) // 12 % 2)[None, None, :].repeat(side, 1).astype(np.uint8)
    return np.repeat(labels.astype(np.float32), n_slices, 0), labels


def run(settings: Augmentation, seed: int = 0, n_slices: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return augment(*stripes(n_slices), np.random.default_rng(seed), settings)


def test_nothing_changes_nothing() -> None:
    image, labels = run(NONE)
    np.testing.assert_array_equal(image, stripes()[0])
    np.testing.assert_array_equal(labels, stripes()[1])


def test_the_same_seed_gives_the_same_crop_and_another_another() -> None:
    first, again, other = (run(STANDARD, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_crop_that_is_given_stays_as_it_is() -> None:
    image, labels = stripes()
    augment(image, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(image, stripes()[0])


def test_shape_and_dtype_stay() -> None:
    image, labels = run(STANDARD)
    assert image.shape == (3, 96, 96)
    assert image.dtype == np.float32
    assert labels.shape == (1, 96, 96)
    assert labels.dtype == np.uint8


def test_labels_bend_with_the_image() -> None:
    image, labels = run(replace(NONE, elastic_px=6.0))
    assert (labels[0] != stripes()[1][0]).mean() > 0.05  # something moved
    assert ((image[1] > 0.5) == labels[0]).mean() > 0.98  # and both moved alike


@pytest.mark.parametrize("settings", [replace(NONE, missing=1.0), replace(NONE, shift=1.0, shift_px=9)])
def test_accidents_befall_the_neighbours_and_never_the_centre(settings: Augmentation) -> None:
    before = stripes(5)[0]
    changed = np.zeros(5, bool)
    for seed in range(8):
        changed |= (run(settings, seed, 5)[0] != before).any(axis=(1, 2))
    assert changed.tolist() == [True, True, False, True, True]


def test_a_missing_slice_is_dark_all_over() -> None:
    image, _ = run(replace(NONE, missing=1.0))
    assert (image[0] == image.min()).all()


def test_each_slice_has_an_exposure_of_its_own() -> None:
    image, _ = run(replace(NONE, brightness=0.5))
    means = image.mean(axis=(1, 2))
    assert len(set(means.round(4))) == 3


def test_noise_is_as_strong_as_said() -> None:
    strengths = [(run(replace(NONE, noise=0.4), seed)[0][1] - stripes()[0][1]).std() for seed in range(20)]
    assert 0.3 < max(strengths) < 0.45
    assert min(strengths) < 0.1


def test_one_slice_is_enough() -> None:
    image, _ = run(STANDARD, n_slices=1)
    assert np.isfinite(image).all()
