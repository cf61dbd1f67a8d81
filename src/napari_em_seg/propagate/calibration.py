"""Calibration: follows known objects through slices not trained on, and sees which masks are right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_em_seg.predict.nets.propagator import Propagator
from napari_em_seg.propagate.confidence import Evidence, fit
from napari_em_seg.propagate.tracker import Sections, follow
from napari_em_seg.volume import Volume

__all__ = ["Known", "calibrate", "overlaps", "seeds_of"]

_LEAST = 100  # pixels of a seed


@dataclass(frozen=True, eq=False)
class Known:
    """A volume, and its objects (z, y, x)."""

    volume: Volume
    truth: NDArray[Any]


def overlaps(labels: NDArray[Any], truth: NDArray[Any]) -> dict[int, float]:
    r"""Return :math:`|m \cap g| / |m \cup g|` of all numbers in either of two slices; 0 is none."""
    one, n = np.unique(labels, return_counts=True)
    other, m = np.unique(truth, return_counts=True)
    both, k = np.unique(labels[labels == truth], return_counts=True)
    sizes, sizes_of_truth, common = (
        {int(a): int(b) for a, b in zip(*pair, strict=True)} for pair in ((one, n), (other, m), (both, k))
    )
    return {
        name: common.get(name, 0) / (sizes.get(name, 0) + sizes_of_truth.get(name, 0) - common.get(name, 0))
        for name in (sizes | sizes_of_truth) if name
    }  # fmt: skip


def seeds_of(plane: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the objects of a slice without those that are too small to be followed."""
    labels, inverse, counts = np.unique(plane, return_inverse=True, return_counts=True)
    return np.where(counts >= _LEAST, labels, 0)[inverse].reshape(plane.shape).astype(np.uint32)


def calibrate(
    net: Propagator,
    parts: Sequence[Known],
    device: torch.device | None = None,
    *,
    sections: Callable[[Volume], Sections | None] = lambda _: None,
    n_references: int = 2,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[float, ...] | None:
    """Return the weights of `confidence.probability`, or None where there was nothing to learn from.

    Objects are followed from a few reference slices, evenly spaced, with the sections that are given for a
    volume; a mask is right if it overlaps the section of its object by more than half.
    """
    evidence: list[Evidence] = []
    is_right: list[bool] = []
    for part in parts:
        for k in range(n_references):
            z = (2 * k + 1) * len(part.truth) // (2 * n_references)
            seeds = seeds_of(part.truth[z])
            if not seeds.any():
                continue
            for one in follow(net, part.volume, seeds, z, sections=sections(part.volume), device=device,
                              cancelled=cancelled):  # fmt: skip
                if one.z != z:
                    iou = overlaps(one.labels, part.truth[one.z])
                    evidence.extend(one.evidence.values())
                    is_right.extend(iou.get(name, 0) > 0.5 for name in one.evidence)
    return fit(evidence, is_right)
