"""Features of a boundary, from statistics that can be merged: of its affinities and of both regions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.segment import _agglomerate_kernels as kernels
from napari_em_seg.segment.region_graph import RegionGraph

__all__ = ["FEATURES", "MEANINGS", "check_whole", "features", "statistics"]

_OF_AFFINITIES = {
    "mean": "mean affinity",
    "std": "standard deviation of the affinities",
    "min": "least affinity",
    "max": "greatest affinity",
    "q10": "affinity below which a tenth of them lies",
    "q25": "affinity below which a quarter of them lies",
    "q50": "median affinity",
    "q75": "affinity below which three quarters of them lie",
    "q90": "affinity below which nine tenths of them lie",
}
_CHANNELS = {
    "z": "across z, −1 where there is no contact across z",
    "y": "across y, −1 where there is no contact across y",
    "x": "across x, −1 where there is no contact across x",
    "all": "of all faces",
}

MEANINGS: dict[str, str] = {
    **{
        f"{name}_{c}": f"{text} {where}"
        for c, where in _CHANNELS.items()
        for name, text in _OF_AFFINITIES.items()
    },
    "contact_z": "faces across z",
    "contact_y": "faces across y",
    "contact_x": "faces across x",
    "log_size_small": "logarithm of the volume of the smaller region",
    "log_size_large": "logarithm of the volume of the larger region",
    "size_ratio": "volume of the smaller region, as a share of that of the larger one",
    "relative_contact": "area of contact / (volume of the smaller region)^(2/3)",
    "distance": "distance of the centroids of both regions",
    "relative_distance": "that distance / (volume of the smaller region)^(1/3)",
    "contact_spread": "root of the mean squared distance of faces from their centroid, "
    "/ (volume of the smaller region)^(1/3)",
    "elongation_small": "smaller region: longest principal axis / second",
    "flatness_small": "smaller region: second principal axis / third",
    "elongation_large": "larger region: longest principal axis / second",
    "flatness_large": "larger region: second principal axis / third",
    "elongation_union": "both regions together: longest principal axis / second",
    "shared_slices": "slices in which both bounding boxes are, as a share of the lesser number of slices",
}
"""What each feature means. Volumes, areas and lengths are in the unit of the voxel size of the graph."""

FEATURES: tuple[str, ...] = tuple(MEANINGS)
"""Names of the features, in order."""


def features(graph: RegionGraph) -> NDArray[np.float32]:
    r"""Return the features of all edges, one row each, in the order of `FEATURES`.

    A quantile is read off the histogram, as if affinities were spread evenly within a bin: with :math:`N_k` of
    n affinities below bin k of K, and :math:`n_k` in it,

    .. math:: Q(p) = \frac{1}{K} \left(k + \frac{p n - N_k}{n_k}\right)
              \quad\text{for}\quad N_k < p n \le N_k + n_k,

    and never beyond the least and the greatest affinity. Principal axes are roots of the eigenvalues of the
    covariance of positions within a region, where a voxel counts as a box. Of two regions of equal size
    the one whose centroid comes first in z, y, x is the smaller one.
    """
    check_whole(graph)
    rows = kernels.describe(np.array(graph.voxel_size), statistics(graph), graph.ends)
    return np.asarray(rows)


def statistics(graph: RegionGraph) -> kernels.Statistics:
    """Return a graph's statistics as the compiled loops take them; not copied."""
    arrays: tuple[NDArray[Any], ...] = (
        graph.histogram,
        graph.sums,
        graph.extremes,
        graph.node_sums,
        graph.boxes,
    )
    return kernels.Statistics(*map(np.ascontiguousarray, arrays))


def check_whole(graph: RegionGraph) -> None:
    """Raise a DataError if a node is known only as the neighbour of another one."""
    empty = np.flatnonzero(graph.sizes == 0)
    if len(empty):
        raise DataError(
            f"{len(empty)} regions have no voxels, label {graph.labels[empty[0]]} for one",
            "the graph of a whole volume, not that of one of its blocks",
            "Sum the graphs of all blocks first (merge_graphs)",
        )
