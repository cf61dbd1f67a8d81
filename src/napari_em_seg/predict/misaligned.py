"""Finding slices that do not lie on their neighbours: shifts by phase correlation, and dissimilarity."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["Alignment", "measure_alignment", "phase_correlation"]

SIDE = 1024  # pixels of the middle that are compared
BLUR = 2.0  # pixels; takes away noise, which no two slices share
LEAST_SHIFT = 8.0  # pixels: less is how neurites run, even where it is rare
LEAST_CHANGE = 0.1  # of the correlation
UNRELATED = 0.9  # dissimilarity that is too much however much a stack varies
GAIN = 0.05  # of the correlation, that a shift has to bring before it is believed
LEAST_ALIKE = 0.15  # correlation after the shift: less happens by chance, beside a lost slice

_SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, eq=False)
class Alignment:
    """How every slice lies on the one before.

    Parameters
    ----------
    shift_px
        Row z: how far (y, x) slice z lies from slice z − 1; 0 in the first row, and where no shift makes
        the two more alike.
    dissimilarity
        1 − r with the correlation r of the slices z − 1 and z as they lie; 0 for the first.
    """

    shift_px: NDArray[np.float32]
    dissimilarity: NDArray[np.float32]

    @property
    def distance_px(self) -> NDArray[np.float32]:
        """Length of each shift."""
        return np.asarray(np.hypot(*self.shift_px.T), np.float32)

    def jumps(self, strictness: float = 3.5) -> NDArray[np.intp]:
        """Return every z where slice z does not lie on slice z − 1.

        A pair is such when its shift or its dissimilarity exceeds ``median + strictness · 1.4826 · MAD`` of
        all pairs, and also 8 pixels, or the median by 0.1: in a stack without faults some pair is always
        the worst. Slices that have nothing in common (dissimilarity above 0.9) need not exceed that.

        Parameters
        ----------
        strictness
            Standard deviations from what is usual in this stack; fewer flag more slices.
        """
        if len(self.dissimilarity) < 2:
            return np.zeros(0, np.intp)
        distance, change = self.distance_px[1:], self.dissimilarity[1:]
        is_far = distance > max(LEAST_SHIFT, _bound(distance, strictness))
        bound = min(UNRELATED, _bound(change, strictness))
        is_other = change > max(float(np.median(change)) + LEAST_CHANGE, bound)
        return np.flatnonzero(is_far | is_other) + 1

    def flagged(self, strictness: float = 3.5) -> tuple[int, ...]:
        """Return the slices beside a jump: a net that looks at neighbours is misled on both sides of it.

        A single displaced or lost slice has a jump before and after it, and so flags its neighbours too.
        """
        jumps = self.jumps(strictness)
        return tuple(int(z) for z in np.union1d(jumps - 1, jumps))


def measure_alignment(
    volume: ArrayLike, progress: Progress = None, cancelled: Callable[[], bool] | None = None
) -> Alignment:
    """Compare each slice with the one before; reads the middle (at most 1024×1024) of each slice once.

    Parameters
    ----------
    volume
        A stack of slices.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before each slice; true ends early, with zeros for the slices that are left.
    """
    depth, *size = volume.shape
    if len(size) != 2:
        raise DataError(f"The array has {1 + len(size)} axes", "three (z, y, x)", "Give a stack of slices")
    starts = [max(0, (n - SIDE) // 2) for n in size]
    y, x = (slice(s, min(n, s + SIDE)) for s, n in zip(starts, size, strict=True))
    shift, change = np.zeros((depth, 2), np.float32), np.zeros(depth, np.float32)
    before: NDArray[np.float32] | None = None
    for z in range(depth):
        if cancelled is not None and cancelled():
            break
        image = _prepared(np.asarray(volume[z : z + 1, y, x])[0])
        if before is not None:
            shift[z], change[z] = _compare(before, image)
        before = image
        if progress is not None:
            progress(z + 1, depth)
    return Alignment(shift, change)


def phase_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[int, int]:
    """Return how far (y, x) the second image lies from the first, in whole pixels.

    The peak of ``F⁻¹(G · S₂ · S₁* / |S₂ · S₁*|)`` with the spectra S of the images, faded out towards their
    edges (Hann), and the Gaussian G, which takes away the frequencies that hold noise only.
    """
    height, width = first.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    spectra = [fft.rfft2((image - image.mean()) * window) for image in (first, second)]
    cross = spectra[1] * np.conj(spectra[0])
    size = np.abs(cross)
    cross /= np.maximum(size, 1e-6 * size.max() + np.finfo(np.float32).tiny)
    square = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width)[None] ** 2
    surface = fft.irfft2(cross * np.exp(-2 * (np.pi * BLUR) ** 2 * square), (height, width))
    y, x = np.unravel_index(surface.argmax(), surface.shape)
    return int((y + height // 2) % height - height // 2), int((x + width // 2) % width - width // 2)


def _prepared(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Clip the extreme half per cent (dirt, charging) and blur."""
    values = image.astype(np.float32)
    return np.asarray(gaussian_filter(np.clip(values, *np.percentile(values, (0.5, 99.5))), BLUR))


def _compare(before: NDArray[np.float32], image: NDArray[np.float32]) -> tuple[tuple[int, int], float]:
    """Return the shift, if it makes the images more alike, and their dissimilarity as they lie."""
    as_it_lies = _correlation(before, image)
    shift = phase_correlation(before, image)
    is_far = max(map(abs, shift)) > min(before.shape) // 2  # too little would overlap
    shifted = 0.0 if is_far else _correlation(*_overlap(before, image, shift))
    is_believed = shifted >= max(LEAST_ALIKE, as_it_lies + GAIN)
    return shift if is_believed else (0, 0), 1 - as_it_lies


def _overlap(
    first: NDArray[np.float32], second: NDArray[np.float32], shift: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the parts of two images that show the same place if the second is shifted."""
    there = tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(shift, first.shape, strict=True))
    here = tuple(slice(max(0, -d), n + min(0, -d)) for d, n in zip(shift, first.shape, strict=True))
    return first[here], second[there]


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the Pearson correlation; 0 where an image is of one single value."""
    a, b = (image.astype(np.float64).ravel() - image.mean(dtype=np.float64) for image in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _bound(values: NDArray[np.float32], strictness: float) -> float:
    median = np.median(values)
    return float(median + strictness * _SIGMA_PER_MAD * np.median(np.abs(values - median)))
