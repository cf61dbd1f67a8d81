"""Robot: a reviewer who knows the truth, for the demo, tests and figures."""

from collections.abc import Sequence

import numpy as np

from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.pipeline.assignment_training import right_answer
from napari_em_seg.review import Outcome, Reconstruction
from napari_em_seg.volume import ArrayLike

__all__ = ["Robot"]


class Robot:
    """Says what is right of the candidates, be they chosen or not.

    Parameters
    ----------
    made
        What is under review.
    truth
        The true objects (z, y, x), 0 where nobody knows.

    Attributes
    ----------
    is_right
        Which assignments make up the best answer that there can be with these hypotheses.
    """

    def __init__(self, made: Reconstruction, truth: ArrayLike) -> None:
        hypotheses, assignments = made.hypotheses(), made.assignments
        self.is_right = right_answer(hypotheses, assignments, truth)
        self._counts = ~is_at_border(hypotheses, assignments)

    def answer(self, link: int, alternatives: Sequence[int]) -> str:
        """Return what it would do about a link, as an action of the key map; of merges it knows nothing."""
        if link < 0:
            return "don't know"
        if self.is_right[link]:
            return "accept"
        k = next((k for k, other in enumerate(alternatives, 1) if self.is_right[other]), None)
        return "reject" if k is None else f"alternative {k}"

    def errors(self, outcome: Outcome) -> int:
        """Return how many chosen links are wrong; ends at the border of the volume do not count."""
        chosen = outcome.chosen[: len(self.is_right)]
        return int(np.count_nonzero(chosen & ~self.is_right & self._counts))
