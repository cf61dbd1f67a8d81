"""View: what a session shows at one moment; it never changes, so one can look while a verdict is solved."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.review.changes import applied
from napari_em_seg.review.expected import Calibration, Expected, calibrate, expected_left
from napari_em_seg.review.links import Links, links_of, objects_of
from napari_em_seg.review.merges import Merges
from napari_em_seg.review.operations import RETRAIN, Operation
from napari_em_seg.review.reconstruction import Outcome, Reconstruction
from napari_em_seg.review.state import State, active

__all__ = ["View", "outcome_of"]


@dataclass(frozen=True, eq=False)
class View:
    """All that was done by then, the state that it led to, and the solution."""

    operations: tuple[Operation, ...]
    state: State
    reconstruction: Reconstruction
    outcome: Outcome
    merges: Merges | None

    @cached_property
    def links(self) -> Links:
        """All links that can be looked at, the merges of the agglomeration at the end."""
        listed = links_of(self.reconstruction, self.outcome, self.state, self.objects)
        return listed if self.merges is None else listed + self.merges.links(self.state, numbers=self.objects)

    @cached_property
    def objects(self) -> NDArray[np.int32]:
        """The object of each hypothesis (0: none), with what somebody joined."""
        joined = None if self.merges is None else self.merges.joined(self.state)
        return objects_of(self.reconstruction, self.outcome, self.state, joined)

    def after(self, operation: Operation) -> "View":
        """Return the same with an operation at the end, and with what was worked out of it."""
        view = replace(self, operations=(*self.operations, operation))
        for made in ("links", "objects", "calibration"):
            if made in self.__dict__:
                view.__dict__[made] = self.__dict__[made]
        return view

    def expected(self, links: Links | None = None, level: float = 0.9) -> Expected:
        """Return how many errors are left among open links, as far as the verdicts so far tell."""
        listed = self.links if links is None else links
        p = listed.p_error[listed.is_open]
        return expected_left(p[~np.isnan(p)], self.calibration, level=level)

    @cached_property
    def calibration(self) -> Calibration:
        """How far stated probabilities can be trusted, as far as the verdicts so far tell."""
        pairs = [(v.p_error, v.is_wrong) for v in self.state.verdicts if v.p_error is not None]
        said = np.array([(p, is_wrong) for p, is_wrong in pairs if is_wrong is not None], float).reshape(-1, 2)
        return calibrate(said[:, 0], said[:, 1])


def outcome_of(operations: tuple[Operation, ...], state: State, reconstruction: Reconstruction) -> Outcome:
    """Put together the solution from what each operation changed since the costs were learned."""
    done, _ = active(operations)
    trained = max((i for i, operation in enumerate(done) if operation.kind == RETRAIN), default=-1)
    size = len(reconstruction.kind) + state.n_links
    return applied(reconstruction.outcome, done[trained + 1 :], size)
