"""Merge tree: the whole course of an agglomeration, of which every threshold is a cut."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.io._array_file import damaged, load_arrays, save_arrays
from napari_em_seg.segment import _table_kernels as kernels

__all__ = ["MergeTree", "look_up"]

Labels = NDArray[np.uint32]
Nodes = NDArray[np.int32]

_KIND = "merge tree"
_LARGEST = 1 << 28  # a table of 1 GiB
_FOR_ONE_THREAD = 1 << 21  # voxels that others would not be started for in time


@dataclass(frozen=True, eq=False)
class MergeTree:
    r"""The merges of an agglomeration, first to last.

    Leaves are the nodes 0 to n − 1; merge i makes the node n + i of two earlier ones, as in SciPy's linkage.
    A score is how sure it was that both are one object, from 0 to 1. Scores may rise again after a merge; the
    height does not fall:

    .. math:: h_i = \max_{j \le i} (1 - s_j)

    so that the merges below any threshold are the first ones: the cut is what the agglomeration would have
    given had it stopped there, and cuts are nested. (A score can only rise where a merge has changed one of the
    two regions. So the maximum over all earlier merges is that over the two branches below, and what happens
    elsewhere in the volume does not matter. A forest may find such a rise a little later, see `agglomerate`;
    merges elsewhere that were made meanwhile then count as well.)

    Attributes
    ----------
    labels
        The label of each leaf (n,), increasing.
    a, b
        The nodes that each merge joins; a is the lower one.
    score
        The score of each merge when it was made.
    """

    labels: Labels
    a: Nodes
    b: Nodes
    score: NDArray[np.float64]

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise DataError(f"The tree {problem}", "merges of nodes that are there, the lower one first, "
                            "of increasing labels from 1 on", "Agglomerate again")  # fmt: skip

    @cached_property
    def height(self) -> NDArray[np.float64]:
        """From which threshold on each merge counts; never falls."""
        return np.asarray(np.maximum.accumulate(1 - self.score))

    def n_merges(self, threshold: float) -> int:
        """Return how many merges are below the threshold."""
        if not isinstance(threshold, int | float | np.number) or math.isnan(threshold) or threshold < 0:
            raise DataError(f"The threshold is {threshold}", "a number from 0 (nothing is merged) on, where "
                            "more than 1 merges all that touches", "Try 0.5")  # fmt: skip
        return int(np.searchsorted(self.height, threshold, side="left"))

    def segments(self, threshold: float) -> Labels:
        """Return the segment of each leaf, named by the least of its labels; so names stay while it grows."""
        return np.asarray(kernels.unite(self.a, self.b, self.n_merges(threshold), self.labels))

    def cut(self, threshold: float) -> Labels:
        """Return the table from each label to its segment, with all merges of 1 − score below the threshold.

        Labels that are no leaves stay what they are, 0 among them.
        """
        largest = int(self.labels[-1]) if len(self.labels) else 0
        if largest >= _LARGEST:
            raise DataError(f"The largest label is {largest}", f"labels below {_LARGEST}, for a table of 1 GiB",
                            "Number the labels anew, from 1 on")  # fmt: skip
        table = np.arange(largest + 1, dtype=np.uint32)
        table[self.labels] = self.segments(threshold)
        return table

    def apply(self, labels: NDArray[Any], threshold: float, *, out: Labels | None = None) -> Labels:
        """Return the segment of every voxel.

        Parameters
        ----------
        labels
            Whole numbers, uint32 at best.
        threshold
            As for `cut`.
        out
            Where to write, contiguous, of the same shape: new memory costs more time than the look-up. May be
            `labels` itself.
        """
        return look_up(labels, self.cut(threshold), out)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the tree as one file (.npz), whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {"labels": self.labels, "a": self.a, "b": self.b, "score": self.score}
        save_arrays(path, _KIND, arrays, {}, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> "MergeTree":
        """Read a tree; a file that is damaged, or is none, is a FormatError."""
        types = {"labels": (np.uint32, 1), "a": (np.int32, 1), "b": (np.int32, 1), "score": (np.float64, 1)}
        arrays, _ = load_arrays(path, _KIND, types)
        try:
            return cls(**arrays)
        except DataError as error:
            raise damaged(Path(path), _KIND, error.came) from error


def look_up(labels: NDArray[Any], table: Labels, out: Labels | None = None) -> Labels:
    """Return the entry of each label in a table; labels beyond it stay. For out see `MergeTree.apply`."""
    labels = np.asarray(labels)
    if labels.dtype != np.uint32:
        labels = _as_uint32(labels)
    out = np.empty(labels.shape, np.uint32) if out is None else out
    if out.shape != labels.shape or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise DataError(f"The array to write to is {out.dtype} of the shape {out.shape}",
                        f"contiguous uint32 of the shape {labels.shape}", "Leave it out")  # fmt: skip
    source, target = np.ascontiguousarray(labels).reshape(-1), out.reshape(-1)
    if source.size < _FOR_ONE_THREAD:
        kernels.look_up(source, table, target)
        return out
    n = max(1, min(8, os.cpu_count() or 1))
    limits = [source.size * i // (4 * n) for i in range(4 * n + 1)]  # smaller parts even out busy cores
    with ThreadPoolExecutor(n) as pool:
        parts = [slice(*pair) for pair in pairwise(limits)]
        list(pool.map(lambda part: kernels.look_up(source[part], table, target[part]), parts))
    return out


def _problem(tree: MergeTree) -> str:
    """Say what is wrong with a tree; nothing where it is right."""
    if not len(tree.a) == len(tree.b) == len(tree.score):
        return f"has {len(tree.a)}, {len(tree.b)} and {len(tree.score)} entries"
    if len(tree.labels) and (tree.labels[0] == 0 or (tree.labels[1:] <= tree.labels[:-1]).any()):
        return "has labels that do not increase from 1 on"
    if not ((tree.score >= 0) & (tree.score <= 1)).all():
        return "has scores that are not from 0 to 1"
    misfit = kernels.first_misfit(tree.a, tree.b, len(tree.labels))
    return "" if misfit < 0 else f"has a merge ({misfit}) of nodes that are not there"


def _as_uint32(labels: NDArray[Any]) -> Labels:
    low, high = -1, -1
    if labels.dtype.kind in "iu":
        low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > 0xFFFFFFFF:
        raise DataError(f"The labels are {labels.dtype}, from {low} to {high}",
                        "whole numbers from 0 to 4294967295",
                        "Give the labels that were agglomerated")  # fmt: skip
    return labels.astype(np.uint32)
