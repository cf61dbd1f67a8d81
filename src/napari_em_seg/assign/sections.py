"""Hypotheses from an agglomeration: the sections, slice by slice, of its nested three-dimensional segments."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _section_kernels as kernels
from napari_em_seg.assign.hypotheses import Hypotheses, SliceRegions, of_slices, pruned
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = ["LEVELS", "section_hypotheses", "section_regions"]

LEVELS = tuple(round(0.05 * step, 2) for step in range(8, 19))
"""Thresholds of the merge tree whose sections are hypotheses: 0.4 to 0.9."""


def section_hypotheses(
    labels: ArrayLike,
    cuts: Sequence[NDArray[np.uint32]],
    levels: Sequence[float] = LEVELS,
    *,
    min_area: int = 50,
    max_share: float = 0.25,
    max_depth: int | None = 4,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Hypotheses:
    """Return the sections of nested segments as hypotheses.

    At each level a segment's section in a slice is one or several connected parts; as segments grow from level
    to level, so do these, and what was in one part stays in one. That makes a tree, like that of level sets.
    The parts of the first level are its leaves: what is finer is taken for noise.

    Parameters
    ----------
    labels
        Supervoxels (z, y, x), 0 for none.
    cuts
        For each level the segment of each label, named by a label in it, and nested: what one level joins the
        next one does not part.
    levels
        What to call them, rising from 0 to 1.
    min_area, max_depth
        As for `pruned`.
    max_share
        Larger parts of a slice are no hypotheses: at high levels nearly everything is one segment, and would
        use up the depth. In a small slice a single cell may well be larger, so that 100,000 pixels are never
        too much, unless they are more than 0.6 of it.
    progress
        Called with slices done and slices in all.
    cancelled
        Asked before every slice.
    """
    if len(cuts) != len(levels) or not len(levels) or list(levels) != sorted(levels):
        raise DataError(f"There are {len(cuts)} cuts for the levels {list(levels)}",
                        "one for each level, which rise", "Cut the tree at every level")  # fmt: skip
    tables = np.stack(cuts)
    n_pixels = labels.shape[1] * labels.shape[2]
    max_area = round(max(max_share * n_pixels, min(0.6 * n_pixels, 100_000), min_area))

    def one(z: int) -> SliceRegions:
        part = section_regions(np.asarray(labels[z]), tables, levels)
        return pruned(part, min_area=min_area, max_area=max_area, max_depth=max_depth)

    return of_slices(one, labels.shape[0], progress=progress, cancelled=cancelled)


def section_regions(
    labels: NDArray[np.unsignedinteger], tables: NDArray[np.uint32], levels: Sequence[float]
) -> SliceRegions:
    """Return the connected parts of all segments of one slice, at every level.

    Parameters
    ----------
    labels
        Supervoxels (y, x), 0 for none.
    tables
        The segment of each label (columns) at each level (rows).
    levels
        One for each row.
    """
    pieces, ids = kernels.components(np.where(labels > 0, tables[0][labels], 0).astype(np.uint32))
    contacts = kernels.contacts(pieces)
    parent, level = kernels.merge(tables[1:, ids], contacts)
    names = np.array([*levels, 1], np.float32)
    death = np.where(parent >= 0, level[parent], len(levels))
    return SliceRegions(pieces, parent, names[level], names[death])
