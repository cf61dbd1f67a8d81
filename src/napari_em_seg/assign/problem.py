"""The integer linear program: one variable for each assignment, one row for each constraint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError

__all__ = ["Problem", "leaf_paths", "make_problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    r"""Minimise :math:`c^T a` with :math:`A a = b` and a of zeros and ones.

    Attributes
    ----------
    costs
        Of each variable (n,), not negative: first those of the assignments, then those of leaving each leaf
        unexplained.
    matrix
        A, sparse by rows: first one row for each leaf (6), then one for each hypothesis (7).
    right
        b: one for rows of leaves, zero for those of hypotheses.
    n_assignments
        Variables that are assignments.
    """

    costs: NDArray[np.float64]
    matrix: sparse.csr_array
    right: NDArray[np.float64]
    n_assignments: int


def make_problem(
    hypotheses: Hypotheses,
    assignments: Assignments,
    costs: NDArray[np.float64],
    nothing: NDArray[np.float64],
) -> Problem:
    r"""Return the program for hypotheses and their assignments.

    Hypotheses consistency (6): on each path P from a leaf to the largest region that holds it, one hypothesis
    at most is used. Costs are not negative, so that the cheapest answer would be to use none at all. Therefore
    every leaf has to be explained, or to be left out at a price, by a variable :math:`e_P` of its own:

    .. math:: \sum_{i \in P} \sum_{a \in a_{\to i}} a + e_P = 1

    We say = 1 with a price and not "reward explanation", because a price is in the same unit as all other
    costs, −log p: it says how improbable the best explanation may be before none is the better one.

    Explanation consistency (7): what comes in goes out:

    .. math:: \sum_{a \in a_{\to i}} a - \sum_{a \in a_{i \to}} a = 0

    Parameters
    ----------
    hypotheses, assignments
        What can be chosen.
    costs
        Of each assignment.
    nothing
        The price of leaving out each leaf, in the order of leaves.
    """
    leaves = np.flatnonzero(hypotheses.is_leaf)
    if len(costs) != len(assignments) or len(nothing) != len(leaves):
        raise DataError(f"There are {len(costs)} and {len(nothing)} costs for {len(assignments)} assignments "
                        f"and {len(leaves)} leaves", "one for each", "Compute the costs anew")  # fmt: skip
    for values in (costs, nothing):
        if not np.isfinite(values).all():
            raise DataError("Some costs are infinite or not numbers", "finite costs",
                            "Look for odd values in the features")  # fmt: skip
    incoming = _incidence(assignments.targets, len(hypotheses))
    outgoing = _incidence(assignments.sources, len(hypotheses))
    paths = leaf_paths(hypotheses)
    matrix = sparse.block_array([
        [paths @ incoming, sparse.eye_array(len(leaves))], [incoming - outgoing, None],
    ], format="csr")  # fmt: skip
    right = np.concatenate((np.ones(len(leaves)), np.zeros(len(hypotheses))))
    return Problem(np.concatenate((costs, nothing)), matrix, right, len(assignments))


def _incidence(involved: NDArray[np.int32], n: int) -> sparse.csr_array:
    """Return a matrix that has a one where a hypothesis (row) takes part in an assignment (column)."""
    columns, side = np.nonzero(involved >= 0)
    rows = involved[columns, side]
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, len(involved)))


def leaf_paths(hypotheses: Hypotheses) -> sparse.csr_array:
    """Return a matrix that has a one where a hypothesis (column) is on the path of a leaf (row)."""
    leaves = np.flatnonzero(hypotheses.is_leaf)
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    row, node = np.arange(len(leaves)), leaves.astype(np.int32)
    while len(row):
        rows.append(row)
        columns.append(node)
        node = hypotheses.parent[node]
        row, node = row[node >= 0], node[node >= 0]
    ones = np.ones(sum(map(len, rows)))
    return sparse.csr_array(
        (ones, (np.concatenate(rows), np.concatenate(columns))), shape=(len(leaves), len(hypotheses))
    )
