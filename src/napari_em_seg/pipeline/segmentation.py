"""Segmentation of boundary maps: into files, and scored for the choice of networks and depths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_em_seg import io
from napari_em_seg.errors import DataError
from napari_em_seg.metrics import Scores
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.segment import best_h, hmin_watershed
from napari_em_seg.segment.hmin import Mode
from napari_em_seg.volume import Progress, Volume

__all__ = ["DEPTHS", "Segmentation", "sections", "segment_to_file", "segmentation_scores"]

DEPTHS = (
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.06,
    0.08,
    0.1,
    0.12,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
)
"""The depths h of the watershed among which the best is looked for."""


@dataclass(frozen=True)
class Segmentation:
    """What was segmented: at which depth, into how many; with a truth, the scores of all depths tried."""

    h: float
    n_segments: int
    scores: Mapping[float, Scores]


def segment_to_file(
    source: str,
    out: str,
    *,
    h: float | None = None,
    truth: str | None = None,
    mode: Mode = "3d",
    sigma: float = 1.0,
    mask: str | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> Segmentation:
    """Segment a boundary map by the watershed from H-minima, at a depth given or the best for a truth."""
    io.check_volume_target(out, kind="labels", overwrite=overwrite)
    boundary = io.open_volume(source)
    inside = None if mask is None else io.open_volume(mask, "labels")[:] != 0
    options: Any = {"sigma": sigma, "mode": mode, "mask": inside, "progress": progress}
    scores: Mapping[float, Scores] = {}
    if truth is not None and h is None:
        h, scores = best_h(boundary, open_labels(truth), DEPTHS, **options)
    elif h is None or truth is not None:
        came = "Neither a depth nor a truth" if h is None else "Both a depth and a truth"
        raise DataError(f"{came} is given", "one of the two", "Give --h, or --truth to look for the best h")
    labels = hmin_watershed(boundary, h, **options)
    volume = Volume(labels, boundary.voxel_size_nm, "segments", kind="labels")
    io.write_volume(volume, out, overwrite=overwrite, progress=progress)
    return Segmentation(h, int(labels.max()), scores)


def segmentation_scores(
    maps: Sequence[NDArray[np.float32]], truths: Sequence[NDArray[Any]], *, is_flat: bool
) -> dict[str, float]:
    """Segment the maps at every depth, with one h for all of them, and return the scores at the best.

    Each is the mean over the maps; ``score`` is the adapted Rand error.
    """
    tables = [
        best_h(boundary, truth, DEPTHS, mode="2d" if is_flat else "3d")[1]
        for boundary, truth in zip(maps, truths, strict=True)
    ]
    names = ("adapted_rand_error", "vi_split", "vi_merge")
    means = {h: {name: float(np.mean([getattr(t[h], name) for t in tables])) for name in names} for h in DEPTHS}
    h = min(DEPTHS, key=lambda h: means[h]["adapted_rand_error"])
    return {"score": means[h]["adapted_rand_error"], **means[h], "h": h}


def sections(membranes: NDArray[Any]) -> NDArray[np.int32]:
    """Give numbers to what membranes part from each other, every slice for itself; membranes are 0."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    numbered: NDArray[np.int32] = ndimage.label(membranes == 0, in_plane)[0]
    return numbered
