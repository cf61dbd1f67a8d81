"""Misaligned slices: shifts that were put there are found, and nothing is found in sound stacks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_em_seg.errors import DataError
from napari_em_seg.io import open_volume
from napari_em_seg.predict.misaligned import Alignment, measure_alignment, phase_correlation
from napari_em_seg.sample import generate


@pytest.fixture(scope="module")
def tissue():
    return generate((14, 256, 256), seed=3, misalignment=0.5).raw


def texture(shape=(128, 96), seed=0):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3).astype(np.float32)


@pytest.mark.parametrize("shift", [(0, 0), (7, -4), (-15, 20), (30, 0)])
def test_phase_correlation_finds_the_shift(shift):
    image = texture((190, 170))
    y, x = shift
    assert phase_correlation(image[32:160, 32:128], image[32 - y : 160 - y, 32 - x : 128 - x]) == shift


@pytest.mark.parametrize("shift", [(12, -9), (-3, 20)])
def test_a_shift_of_all_that_follows_flags_both_sides(tissue, shift):
    raw = tissue.copy()
    raw[6:] = np.roll(raw[6:], shift, (1, 2))
    alignment = measure_alignment(raw)
    assert alignment.jumps().tolist() == [6]
    assert alignment.flagged() == (5, 6)
    assert alignment.shift_px[6] == pytest.approx(shift, abs=3)  # the tissue itself moves a little


def test_a_single_displaced_slice_flags_its_neighbours(tissue):
    raw = tissue.copy()
    raw[7] = np.roll(raw[7], (14, 10), (0, 1))
    assert measure_alignment(raw).flagged() == (6, 7, 8)


def test_a_lost_slice_is_unlike_its_neighbours():
    raw = generate((14, 256, 256), seed=3, misalignment=0.5, missing_slice=True).raw
    lost = int(raw.mean((1, 2)).argmin())
    alignment = measure_alignment(raw)
    assert alignment.flagged() == (lost - 1, lost, lost + 1)
    assert (alignment.dissimilarity[[lost, lost + 1]] > 0.9).all()
    assert (alignment.distance_px[[lost, lost + 1]] == 0).all()


def test_a_slice_of_noise_or_of_one_value_is_flagged(tissue):
    raw = tissue.copy()
    raw[4] = np.random.default_rng(0).integers(0, 255, raw[4].shape)
    raw[10] = 128
    assert measure_alignment(raw).flagged() == (3, 4, 5, 9, 10, 11)


def test_sound_stacks_have_no_flags(tissue):
    assert measure_alignment(tissue).flagged() == ()
    noisy = tissue + np.random.default_rng(1).normal(0, 15, tissue.shape)
    assert measure_alignment(noisy).flagged() == ()


def test_stricter_and_looser():
    distance = np.zeros((10, 2), np.float32)
    distance[:, 0] = [0, 1, 2, 1, 3, 2, 1, 2, 9, 30]
    alignment = Alignment(distance, np.full(10, 0.5, np.float32))
    assert alignment.jumps().tolist() == [8, 9]
    assert alignment.jumps(strictness=10).tolist() == [9]


@pytest.mark.parametrize("depth", [1, 2])
def test_too_few_slices_to_tell(depth):
    alignment = measure_alignment(np.random.default_rng(0).random((depth, 64, 64)))
    assert alignment.flagged() == ()
    assert len(alignment.dissimilarity) == depth


def test_progress_and_cancelling(tissue):
    seen = []
    measure_alignment(tissue, lambda *n: seen.append(n))
    assert seen == [(z, 14) for z in range(1, 15)]
    alignment = measure_alignment(tissue, cancelled=lambda: True)
    assert not alignment.dissimilarity.any()


def test_other_arrays_are_refused():
    with pytest.raises(DataError, match="three"):
        measure_alignment(np.zeros((3, 3)))


def test_the_known_jumps_of_a_real_stack(real_data):
    alignment = measure_alignment(open_volume(real_data / "isbi2012_z00-14" / "raw.tif"))
    assert alignment.flagged() == (9, 10, 11)
