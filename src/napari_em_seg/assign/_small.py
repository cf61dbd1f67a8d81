"""Small programs, solved where HiGHS would take longer to begin than to solve."""

import numpy as np

from napari_em_seg.assign import _simplex_kernels as kernels
from napari_em_seg.assign._highs import Answer, Program

__all__ = ["solve_small"]


def solve_small(program: Program) -> Answer | None:
    """Return the answer to a small program in zeros and ones, proven; None if it takes HiGHS."""
    m, n = len(program.right), len(program.costs)
    if m * (m + n) > kernels.LARGEST:
        return None
    matrix = np.zeros((m, n))
    matrix[np.repeat(np.arange(m), np.diff(program.starts)), program.columns] = program.values
    status, x = kernels.solve(matrix, program.costs, program.right, program.lower, program.upper)
    if status == kernels.UNKNOWN:
        return None
    if status == kernels.INFEASIBLE:
        return Answer(None, np.inf, is_infeasible=True)
    return Answer(x, float(program.costs @ x), is_optimal=True)
