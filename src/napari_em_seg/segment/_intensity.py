"""Watershed on the grey values alone: the plain baseline that every predictor has to beat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import h_minima
from skimage.segmentation import watershed

__all__ = ["intensity_watershed"]


def intensity_watershed(raw: NDArray[Any], sigma: float = 3.0, depth: float = 0.2) -> NDArray[np.int32]:
    """Segment a stack of slices by smoothing and a watershed, without learning anything.

    Membranes are dark, so each slice is smoothed (Gaussian, ``sigma`` in pixels) and turned over. The
    H-minima of each slice, joined where they overlap in neighbouring slices, are the markers from which
    the whole stack is flooded at once.

    Parameters
    ----------
    raw
        Grey values (z, y, x).
    sigma
        Standard deviation of the Gaussian in pixels, within the slice.
    depth
        How much deeper than its surroundings a basin has to be, as a part of the grey value range.
    """
    grey = raw.astype(np.float32)
    low, high = (np.float32(level) for level in np.percentile(grey[:: max(1, len(raw) // 8)], (1, 99)))
    scaled = (grey - low) / max(high - low, np.float32(1e-6))
    height = 1 - ndimage.gaussian_filter(scaled, (0, sigma, sigma))
    basins = np.stack([h_minima(plane, depth) for plane in height])
    markers, _ = ndimage.label(basins)
    labels: NDArray[np.int32] = watershed(height, markers).astype(np.int32)
    return labels
