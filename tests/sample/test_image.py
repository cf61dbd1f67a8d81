"""The image: like EM, and hard enough."""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from napari_em_seg.sample import Sample, generate


def test_membranes_are_dark(tissue: Sample):
    assert tissue.raw[tissue.labels == 0].mean() < tissue.raw[tissue.labels > 0].mean() - 20


def test_cytoplasm_is_uneven(tissue: Sample):
    deep = np.stack([distance_transform_edt(p > 0) > 6 for p in tissue.labels])
    image = gaussian_filter(tissue.raw.astype(float), (0, 1, 1))
    dark = np.percentile(image[tissue.labels == 0], 40)
    assert 0.01 < (image[deep] < dark).mean() < 0.4  # mitochondria and more, as dark as membranes


def test_sections_differ_in_brightness_and_contrast(tissue: Sample):
    assert tissue.raw.mean((1, 2)).std() > 5
    assert tissue.raw.std((1, 2)).std() > 0.5


def test_obliquely_cut_membranes_have_less_contrast():
    """A membrane stands upright where it is at the same pixel one section up and down, else it leans."""
    tissue = generate((10, 224, 224), seed=6, misalignment=0)
    upright, oblique = [], []
    for z in range(1, 9):
        image = tissue.raw[z] / tissue.raw[z].std()
        contrast = gaussian_filter(image, 6) - gaussian_filter(image, 1)
        above, membrane, below = tissue.labels[z - 1], tissue.labels[z] == 0, tissue.labels[z + 1]
        upright.append(
            contrast[membrane & (above == 0) & (below == 0) & (distance_transform_edt(membrane) < 3)]
        )
        oblique.append(contrast[membrane & (above > 0) & (below > 0) & (above != below)])
    assert min(len(np.concatenate(upright)), len(np.concatenate(oblique))) > 1000
    assert np.concatenate(oblique).mean() < 0.85 * np.concatenate(upright).mean()


def test_thresholding_fails(tissue: Sample):
    image = gaussian_filter(tissue.raw.astype(float), (0, 1, 1))
    image = (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)
    errors = [
        adapted_rand_error(tissue.labels, label(image > t, background=0, connectivity=1))[0]
        for t in np.linspace(-1.5, 1.0, 11)
    ]
    assert min(errors) > 0.5


def test_thresholding_fails_in_a_single_section(tissue: Sample):
    plane = tissue.raw[5].astype(float)
    truth = label(tissue.labels[5], background=0, connectivity=1)
    errors = [
        adapted_rand_error(truth, label(gaussian_filter(plane, s) > t, background=0, connectivity=1))[0]
        for t in np.percentile(plane, np.arange(10, 65, 5))
        for s in (0.7, 1.5, 2.5)
    ]
    assert min(errors) > 0.3
