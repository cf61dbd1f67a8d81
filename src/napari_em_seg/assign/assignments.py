"""Assignments: what may become of a hypothesis from one slice to the next."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["APPEARANCE", "CONTINUATION", "DISAPPEARANCE", "KINDS", "MERGE", "SPLIT", "Assignments"]

CONTINUATION, SPLIT, MERGE, APPEARANCE, DISAPPEARANCE = range(5)
KINDS = ("continuation", "split", "merge", "appearance", "disappearance")


@dataclass(frozen=True, eq=False)
class Assignments:
    """Links between hypotheses of one slice (sources) and of the next one (targets); −1 stands for no one.

    =============  =========  =========
    kind           sources    targets
    =============  =========  =========
    continuation   i, −1      j, −1
    split          i, −1      j, k
    merge          i, j       k, −1
    appearance     −1, −1     i, −1
    disappearance  i, −1      −1, −1
    =============  =========  =========

    Of two partners the one with the lower number comes first.

    Attributes
    ----------
    kind
        Which place in `KINDS` (m,).
    sources, targets
        Hypotheses (m, 2).
    """

    kind: NDArray[np.int8]
    sources: NDArray[np.int32]
    targets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    @cached_property
    def involved(self) -> NDArray[np.int32]:
        """Sources and targets (m, 4)."""
        return np.concatenate((self.sources, self.targets), axis=1)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_] | slice) -> "Assignments":
        return Assignments(self.kind[rows], self.sources[rows], self.targets[rows])
