"""The measures in total: adapted Rand, variation of information and V_Rand."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.metrics.table import Contingency, Sizes

__all__ = ["Scores", "evaluate", "information"]


@dataclass(frozen=True)
class Scores:
    r"""How far a segmentation is from the truth, by several measures.

    Let :math:`p_{ij}` be the share of voxels in segment i and object j, :math:`s_i = \sum_j p_{ij}` the
    share of a segment and :math:`t_j = \sum_i p_{ij}` that of an object, over the voxels that count.

    The V_Rand scores ask of two random voxels: if they are in one object, are they in one segment (split),
    and the other way round (merge)? Splits shrink :math:`\sum p_{ij}^2` against :math:`\sum t_j^2`, merges
    against :math:`\sum s_i^2`. Recall and precision of the adapted Rand error are the same two numbers,
    and its error is one minus their harmonic mean. A voxel is paired with itself too, as in the papers
    and the SNEMI3D script; scikit-image leaves these n pairs out.

    Attributes
    ----------
    adapted_rand_error
        :math:`1 - 2 \sum p_{ij}^2 / (\sum s_i^2 + \sum t_j^2)`; 0 is perfect.
    adapted_rand_precision, v_rand_merge
        :math:`\sum p_{ij}^2 / \sum s_i^2`; 1 where no segment merges objects.
    adapted_rand_recall, v_rand_split
        :math:`\sum p_{ij}^2 / \sum t_j^2`; 1 where no object is split.
    vi_split
        :math:`H(S|T) = \sum p_{ij} \log_2 (t_j / p_{ij})` bits; 0 where no object is split.
    vi_merge
        :math:`H(T|S) = \sum p_{ij} \log_2 (s_i / p_{ij})` bits; 0 where no segment merges objects.
    vi
        Their sum.
    v_rand_f
        The harmonic mean of both V_Rand scores; 1 is perfect.
    n_voxels
        Voxels that counted.
    n_segments, n_objects
        Labels among them in the segmentation and in the truth. Singletons of the background are not
        counted as segments here.

    References
    ----------
    I. Arganda-Carreras et al. (2015), Crowdsourcing the creation of image segmentation algorithms for
    connectomics, Frontiers in Neuroanatomy 9:142.
    M. Meilă (2007), Comparing clusterings – an information based distance, J. Multivariate Analysis 98.
    """

    adapted_rand_error: float
    adapted_rand_precision: float
    adapted_rand_recall: float
    vi_split: float
    vi_merge: float
    vi: float
    v_rand_merge: float
    v_rand_split: float
    v_rand_f: float
    n_voxels: int
    n_segments: int
    n_objects: int

    def to_dict(self) -> dict[str, float | int]:
        """Return all measures under their names."""
        return asdict(self)


def evaluate(table: Contingency) -> Scores:
    """Compute all measures from one table; a perfect segmentation has errors of exactly 0."""
    joint = _sum_of_squares(table.counts, table.overlaps)
    segments = _sum_of_squares(table.counts, table.segment_sizes)
    objects = _sum_of_squares(table.counts, table.object_sizes)
    merge, split, f_score = joint / segments, joint / objects, 2 * joint / (segments + objects)
    vi_split = float(information(table, table.object_sizes).sum())
    vi_merge = float(information(table, table.segment_sizes).sum())
    return Scores(
        adapted_rand_error=(segments + objects - 2 * joint) / (segments + objects),
        adapted_rand_precision=merge,
        adapted_rand_recall=split,
        vi_split=vi_split,
        vi_merge=vi_merge,
        vi=vi_split + vi_merge,
        v_rand_merge=merge,
        v_rand_split=split,
        v_rand_f=f_score,
        n_voxels=table.n_voxels,
        n_segments=len(table.segments.ids) - int(table.is_singletons.any()),
        n_objects=len(table.objects.ids),
    )


def information(table: Contingency, sizes: Sizes) -> NDArray[np.float64]:
    r"""Return what each pair adds to the conditional entropy given labels of these sizes, in bits.

    This is :math:`p_{ij} \log_2 (t_j / p_{ij})` for ``object_sizes``, and the same with :math:`s_i` for
    ``segment_sizes``: exactly 0 where the overlap is the whole label.
    """
    bits: NDArray[np.float64] = np.log2(sizes / table.overlaps)
    return bits * (table.counts / table.n_voxels)


def _sum_of_squares(counts: Sizes, sizes: Sizes) -> int:
    r"""Return :math:`\sum_k size_k^2` over labels, as the sum of their size over all their voxels.

    Exact, where float64 would round and int64 overflow: the sizes are taken 20 bits at a time, so that no
    partial sum reaches 2⁶³ for volumes below 2⁴³ voxels.
    """
    return sum(int(counts @ (sizes >> shift & 0xFFFFF)) << shift for shift in (0, 20, 40))
