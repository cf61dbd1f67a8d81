"""The steps composed."""

import numpy as np

from napari_em_seg import pipeline


def test_the_baseline_fails_on_the_sample_so_there_is_something_to_improve() -> None:
    raw, truth = pipeline.sample_volumes((8, 256, 256), seed=1)
    labels, scores = pipeline.baseline(raw, truth)
    assert labels.shape == truth.shape
    assert labels.voxel_size_nm == truth.voxel_size_nm
    assert 0.3 < scores.adapted_rand_error < 1


def test_the_sample_has_one_voxel_size_for_image_and_truth() -> None:
    raw, truth = pipeline.sample_volumes((4, 128, 128))
    assert raw.voxel_size_nm == truth.voxel_size_nm
    assert (raw.kind, truth.kind) == ("image", "labels")
    assert np.asarray(raw).dtype == np.uint8
