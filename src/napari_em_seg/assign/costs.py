"""Costs of assignments: how improbable each one is, by a trained forest or by a plain rule."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _feature_kernels as kernels
from napari_em_seg.assign import _hypothesis_kernels
from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, Assignments
from napari_em_seg.assign.features import DUMMY, FEATURES
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike

__all__ = [
    "Prices", "assignment_costs", "is_at_border", "probability_of", "segmentation_costs",
    "untrained_probability",
]  # fmt: skip

Column = NDArray[np.float64]

_LEAST = 1e-3  # a forest of a hundred trees cannot tell less


@dataclass(frozen=True)
class Prices:
    """What is added to −log p, per smallest region involved.

    Parameters
    ----------
    nothing
        For leaving a smallest region unexplained: e^−nothing is how probable an explanation has to be.
    end
        For an appearance or a disappearance within the volume, beside its −log p: an object that ends
        costs a reviewer a correction, and the forest meets few of them.
    segmentation
        θ_S, the weight of the segmentation costs (3).
    """

    nothing: float = 4.5
    end: float = 3.0
    segmentation: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite([self.nothing, self.end, self.segmentation]).all() and self.nothing >= 0):
            raise DataError(f"The prices are {self}", "finite numbers, that of nothing from 0 on",
                            "Use the defaults")  # fmt: skip


def assignment_costs(
    hypotheses: Hypotheses,
    assignments: Assignments,
    probability: Column,
    prices: Prices = Prices(),
    segmentation: Column | None = None,
) -> tuple[Column, Column]:
    r"""Return the cost of each assignment, and of leaving each leaf unexplained: equations (2) to (5).

    .. math:: c_a = n_a (-\log p_a + \text{end}_a) + \theta_S \sum_{i \in a} S(C_i)

    with :math:`n_a` the smallest regions under the hypotheses of the assignment, so that large hypotheses do
    not win for being fewer. Appearances in the first slice and disappearances from the last one are free: there
    the volume ends, not the object.

    Parameters
    ----------
    hypotheses, assignments
        What can be chosen.
    probability
        Of each assignment.
    prices
        See there.
    segmentation
        S(C) of each hypothesis, from `segmentation_costs`; needed where its weight is not 0.
    """
    involved = assignments.involved
    leaves = hypotheses.leaves_under(involved)
    is_end = assignments.kind >= APPEARANCE
    costs = -np.log(np.clip(probability, _LEAST, 1)) + np.where(is_end, prices.end, 0.0)
    costs = np.where(is_at_border(hypotheses, assignments), 0, costs * leaves)
    if prices.segmentation:
        if segmentation is None:
            raise DataError(f"The segmentation weight is {prices.segmentation}, and there are no such costs",
                            "the segmentation costs of all hypotheses", "Give a boundary map")  # fmt: skip
        costs = costs + prices.segmentation * np.where(involved >= 0, segmentation[involved], 0).sum(axis=1)
    return costs, np.full(int(hypotheses.is_leaf.sum()), prices.nothing)


def probability_of(
    hypotheses: Hypotheses, assignments: Assignments, costs: Column, prices: Prices = Prices()
) -> Column:
    """Return the probabilities that costs without segmentation costs were made of; 1 where they are free."""
    leaves = hypotheses.leaves_under(assignments.involved)
    per_leaf = costs / leaves - np.where(assignments.kind >= APPEARANCE, prices.end, 0.0)
    return np.where(is_at_border(hypotheses, assignments), 1.0, np.exp(-np.maximum(per_leaf, 0)))


def is_at_border(hypotheses: Hypotheses, assignments: Assignments) -> NDArray[np.bool_]:
    """Whether an assignment is an end only because the volume ends there."""
    first, last = assignments.targets[:, 0], assignments.sources[:, 0]
    return np.asarray(
        ((assignments.kind == APPEARANCE) & (hypotheses.z[first] == 0))
        | ((assignments.kind == DISAPPEARANCE) & (hypotheses.z[last] == hypotheses.n_slices - 1))
    )


def segmentation_costs(hypotheses: Hypotheses, boundary: ArrayLike, smoothness: float = 1.0) -> Column:
    r"""Return S(C) of each hypothesis (3): what labelling its pixels as neuron costs in the energy (1).

    .. math:: S(C) = \sum_{j \in C} (\log p_j(0) - \log p_j(1)) + \lambda_S |\partial C|

    where p(1) = 1 − boundary probability is that of neuron. It is negative where the pixels look like neuron.
    """
    counts = np.zeros((len(hypotheses), kernels.N_BINS))
    sums, border = np.zeros((len(hypotheses), 2)), np.zeros((len(hypotheses), 2))
    for z in range(hypotheses.n_slices):
        plane = np.clip(np.asarray(boundary[z], np.float32), _LEAST, 1 - _LEAST)
        a, b = hypotheses.starts[z : z + 2]
        odds = np.log(plane) - np.log1p(-plane)
        kernels.inside(hypotheses.nodes[z], odds, odds, counts[a:b], sums[a:b], a)
        kernels.outline(hypotheses.nodes[z], plane, hypotheses.parent, hypotheses.last, border)
    sums = _hypothesis_kernels.add_up(sums, hypotheses.parent)
    return np.asarray(sums[:, 1] + smoothness * border[:, 0])


def untrained_probability(features: NDArray[np.float32]) -> Column:
    """Return a plain guess where no forest fits: what overlaps well, and holds together, goes on.

    The overlap of both sides, raised by evidence that they are one (of two partners the lesser one) and by
    stability, and lowered where a region holds together only at a level above a half, as do those that consist
    of several cells; of ends, what the best rival leaves over. It ranks as one would by eye, and gives the
    first click a usable answer; a trained forest is far better.
    """
    column = {name: features[:, i].astype(np.float64) for i, name in enumerate(FEATURES)}
    overlap = np.maximum(column["overlap"], 0)
    partner = np.where(column["overlap_partner"] >= 0, np.minimum(column["overlap_partner"] * 1.5, 1) * 0.8, 1)
    across = np.where(column["evidence_partner"] >= 0, column["evidence_partner"], column["evidence"])
    evidence = np.where(across >= 0, 0.1 + 0.9 * across, 0.5)
    stable = 0.5 + np.clip(column["stability"], 0, 0.5)
    whole = np.clip(2 - 2 * column["birth"], 0.02, 1)
    linked = overlap * partner * evidence
    rival = np.maximum(column["rival_source"], column["rival_target"])
    ends = 0.5 * (1 - np.clip(rival, 0, 1)) ** 2
    is_end = column["overlap"] == DUMMY
    return np.clip(np.where(is_end, ends, linked) * stable * whole, _LEAST, 1 - _LEAST)
