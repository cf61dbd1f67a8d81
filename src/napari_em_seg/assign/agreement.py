"""Agreement: whether objects that were followed to the next slice say that two regions belong together."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_em_seg.assign.candidates import Pairs
from napari_em_seg.assign.features import DUMMY
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError

__all__ = ["Step", "agreement"]

Step = tuple[int, NDArray[Any], NDArray[Any]]
"""A slice z, and objects that were followed: their labels (y, x) there and in the next slice; 0 is none."""


def agreement(hypotheses: Hypotheses, pairs: Pairs, followed: Iterable[Step]) -> NDArray[np.float32]:
    r"""Return for each pair of regions how well objects that were followed agree that they are one (p,).

    .. math:: A(i, j) = \sum_k \min \left(\frac{|i \cap k|}{|i|}, \frac{|j \cap k|}{|j|} \right)

    over the objects k: 1 where both regions consist of the same objects, 0 where they have none in common.
    Where neither has a pixel of any object, nothing is said of them. Where several steps say something of a
    pair, their mean counts; where none does, it is `features.DUMMY`.
    """
    total, n_known = np.zeros(len(pairs)), np.zeros(len(pairs))
    z_of = hypotheses.z[pairs.source]
    for z, here, there in followed:
        rows = np.flatnonzero(z_of == z)
        known, planes = np.unique(np.stack((here, there)), return_inverse=True)
        planes = planes.reshape(2, *np.shape(here)) + int(known[0] != 0)  # 0 stays none
        source, target = (_shares(hypotheses, z + k, planes[k], int(planes.max()) + 1) for k in (0, 1))
        i = pairs.source[rows] - hypotheses.starts[z]
        j = pairs.target[rows] - hypotheses.starts[z + 1]
        is_known = (np.diff(source.indptr)[i] > 0) | (np.diff(target.indptr)[j] > 0)
        total[rows] += source[i].minimum(target[j]).sum(axis=1)
        n_known[rows] += is_known
    return np.where(n_known > 0, total / np.maximum(n_known, 1), DUMMY).astype(np.float32)


def _shares(hypotheses: Hypotheses, z: int, objects: NDArray[Any], n_objects: int) -> sparse.csr_array:
    """Return which share of each region of a slice belongs to each object (regions, objects); not to 0."""
    nodes = hypotheses.nodes[z]
    if objects.shape != nodes.shape:
        raise DataError(f"The followed objects are {objects.shape} and the slice {nodes.shape} (y, x)",
                        "labels of the same shape", "Give the labels that belong to this volume")  # fmt: skip
    first, end = (int(v) for v in hypotheses.starts[z : z + 2])
    inside = (objects > 0) & (nodes >= 0)
    keys = (nodes[inside].astype(np.int64) - first) * n_objects + objects[inside]
    keys, pixels = np.unique(keys, return_counts=True)
    own = sparse.csr_array((pixels, (keys // n_objects, keys % n_objects)), shape=(end - first, n_objects))
    area = sparse.diags_array(1 / np.maximum(hypotheses.area[first:end], 1))
    return sparse.csr_array(area @ (_holding(hypotheses.parent[first:end] - first) @ own))


def _holding(parent: NDArray[Any]) -> sparse.csr_array:
    """Return which regions hold which (n, n), themselves included, by the one around each (below 0: none)."""
    outer = inner = np.arange(len(parent))
    found = [(outer, inner)]
    while len(outer):
        outer = parent[outer]
        outer, inner = outer[outer >= 0], inner[outer >= 0]
        found.append((outer, inner))
    rows, columns = (np.concatenate(side) for side in zip(*found, strict=True))
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(parent), len(parent)))
