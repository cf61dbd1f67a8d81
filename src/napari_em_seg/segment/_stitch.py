"""Blocks of a volume, which labels of neighbouring ones are the same, and names for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_em_seg.metrics import contingency

__all__ = ["Block", "Box", "Link", "Place", "grid", "same_labels", "stitched"]

Place = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Link = tuple[Place, Place, NDArray[np.int64]]
"""Two blocks, and pairs (k, 2) of a label of one and one of the other that are the same."""


@dataclass(frozen=True)
class Block:
    """A part of the volume: the core, that no other block has, and the region, which is read around it."""

    place: Place
    core: Box
    region: Box

    @property
    def inside(self) -> Box:
        """The core, counted from the beginning of the region."""
        return within(self.core, self.region)

    def before(self) -> list[Place]:
        """Return the places of the blocks before this one, along each axis that has one."""
        z, y, x = self.place
        return [place for place in ((z - 1, y, x), (z, y - 1, x), (z, y, x - 1)) if min(place) >= 0]

    def shared(self, other: "Block") -> Box | None:
        """Return the part of the volume that both regions hold, if any."""
        low = [max(a.start, b.start) for a, b in zip(self.region, other.region, strict=True)]
        high = [min(a.stop, b.stop) for a, b in zip(self.region, other.region, strict=True)]
        return _box(low, high) if all(a < b for a, b in zip(low, high, strict=True)) else None


def grid(shape: Sequence[int], block: Sequence[int], overlap: Sequence[int]) -> dict[Place, Block]:
    """Cut a volume into blocks, in C order; the last ones along an axis may be smaller.

    Cores begin at multiples of the block, as the chunks of files do.
    """
    counts = [-(-n // step) for n, step in zip(shape, block, strict=True)]
    blocks = {}
    for z, y, x in product(*map(range, counts)):
        start = [i * step for i, step in zip((z, y, x), block, strict=True)]
        stop = [min(i + step, n) for i, step, n in zip(start, block, shape, strict=True)]
        low = [max(i - margin, 0) for i, margin in zip(start, overlap, strict=True)]
        high = [min(i + margin, n) for i, margin, n in zip(stop, overlap, shape, strict=True)]
        blocks[z, y, x] = Block((z, y, x), _box(start, stop), _box(low, high))
    return blocks


def within(box: Box, region: Box) -> Box:
    """Return a box as counted from the beginning of a region."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, region, strict=True))
    return z, y, x


def same_labels(one: NDArray[np.uint32], other: NDArray[np.uint32], share: float) -> NDArray[np.int64]:
    r"""Return the pairs of labels that stand for the same, in two labelings of the same voxels.

    With :math:`n_{ab}` voxels in both, :math:`n_a` and :math:`n_b` in each (background counts there), it is

    .. math:: b = \arg\max_{b'} n_{ab'}, \quad a = \arg\max_{a'} n_{a'b}, \quad
              n_{ab} \ge share \cdot \max(n_a, n_b)

    where of equal overlaps the one with the lower label is the largest. So each label is in one pair at most.
    """
    table = contingency(one, other, ignore_truth=(), background="label")
    both = (table.segmentation > 0) & (table.truth > 0)
    a, b, n = (column[both].astype(np.int64) for column in (table.segmentation, table.truth, table.counts))
    larger = np.maximum(table.segments.per_pair, table.objects.per_pair)[both]
    is_same = _is_largest(a, n, b) & _is_largest(b, n, a) & (n >= share * larger)
    return np.stack((a, b), 1)[is_same]


def stitched(
    sizes: dict[Place, NDArray[np.int64]], links: Sequence[Link]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Name the labels of all blocks, so that those that are linked, also through others, have one name.

    Parameters
    ----------
    sizes
        Voxels of each label in the core of each block, those of the background first.
    links
        Of neighbouring blocks.

    Returns
    -------
    names
        Of all labels of all blocks, one block after the other: 0 for background, and for what lies in no core;
        else from 1 on, in the order of blocks and labels.
    starts
        Where the names of each block begin, and last where they end.
    """
    starts = np.cumsum([0, *map(len, sizes.values())], dtype=np.int64)
    first = dict(zip(sizes, starts[:-1].tolist(), strict=True))
    pairs = [pairs + np.array((first[one], first[other])) for one, other, pairs in links]
    a, b = np.concatenate([np.empty((0, 2), np.int64), *pairs]).T
    n = int(starts[-1])
    n_groups, group = connected_components(coo_array((np.ones(len(a), np.bool_), (a, b)), (n, n)), False)
    is_there = np.concatenate(list(sizes.values())) > 0
    is_there[starts[:-1]] = False
    groups, met = np.unique(group[is_there], return_index=True)
    names = np.zeros(n_groups, np.uint32)
    names[groups[np.argsort(met)]] = np.arange(1, 1 + len(groups))
    return names[group], starts


def _is_largest(label: NDArray[np.int64], n: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which pair of each label has the largest overlap."""
    order = np.lexsort((other, -n, label))
    is_first = np.ones(len(label), np.bool_)
    is_first[1:] = label[order][1:] != label[order][:-1]
    result = np.empty(len(label), np.bool_)
    result[order] = is_first
    return result


def _box(start: Sequence[int], stop: Sequence[int]) -> Box:
    z, y, x = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return z, y, x
