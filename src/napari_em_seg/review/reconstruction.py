"""What a session is about: hypotheses, assignments, their costs and the solution; and who solves it anew."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.io._folders import read_json, write_json
from napari_em_seg.review.arrays import lazy_array, read_array, write_array
from napari_em_seg.review.state import State
from napari_em_seg.volume import ArrayLike

__all__ = ["MakeResolver", "Outcome", "Reconstruction", "Resolver", "Scores"]

_FIXED = ("z", "parent", "last", "birth", "death", "kind", "sources", "targets", "features")
_COSTS = ("costs", "nothing")


@dataclass(frozen=True, eq=False)
class Scores:
    """How sure each assignment is (m,); not a number, and −1 for the alternative, where it is not chosen.

    Attributes
    ----------
    confidence
        From 0 on, the higher the surer.
    regret
        How much dearer the best answer without it is.
    p_error
        The probability that it is wrong.
    impact
        What an error would spoil, times that probability.
    alternative
        The assignment that the best answer without it has in its place.
    """

    confidence: NDArray[np.float32]
    regret: NDArray[np.float32]
    p_error: NDArray[np.float32]
    impact: NDArray[np.float32]
    alternative: NDArray[np.int32]

    @classmethod
    def unknown(cls, n: int) -> "Scores":
        """Return scores of n assignments of which nothing is known."""
        a, b, c, d = (np.full(n, np.nan, np.float32) for _ in range(4))
        return cls(a, b, c, d, np.full(n, -1, np.int32))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def resized(self, n: int) -> "Scores":
        """Return as many scores as asked for; new ones are unknown."""
        rest = Scores.unknown(max(0, n - len(self.confidence))).columns()
        return Scores(**{name: np.concatenate((c[:n], rest[name])) for name, c in self.columns().items()})


@dataclass(frozen=True, eq=False)
class Outcome:
    """A solution: which assignments are chosen, those made by hand at the end, and how sure each one is.

    ``gap`` says by what part the objective may be above the best one.
    """

    chosen: NDArray[np.bool_]
    objective: float
    gap: float
    scores: Scores

    def resized(self, n: int) -> "Outcome":
        """Return an outcome for n assignments; new ones are not chosen."""
        rest = np.zeros(max(0, n - len(self.chosen)), np.bool_)
        return replace(self, chosen=np.concatenate((self.chosen[:n], rest)), scores=self.scores.resized(n))


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Hypotheses, assignments and what was found out about them, as plain arrays.

    Attributes
    ----------
    nodes, z, parent, last, birth, death
        As in `assign.hypotheses.Hypotheses`; ``nodes`` may be on the disk.
    kind, sources, targets
        As in `assign.assignments.Assignments`.
    features
        Of each assignment (m, k).
    costs, nothing
        Of each assignment, and of leaving out each leaf.
    outcome
        The solution for these costs, under the pins that there were.
    feature_names
        Of the columns of ``features``.
    generation
        How often the costs were learned anew.
    model
        What made the costs: a name, a checksum, a path; in terms of JSON.
    """

    nodes: ArrayLike
    z: NDArray[np.int32]
    parent: NDArray[np.int32]
    last: NDArray[np.int32]
    birth: NDArray[np.float32]
    death: NDArray[np.float32]
    kind: NDArray[np.int8]
    sources: NDArray[np.int32]
    targets: NDArray[np.int32]
    features: NDArray[np.float32]
    costs: NDArray[np.float64]
    nothing: NDArray[np.float64]
    outcome: Outcome
    feature_names: tuple[str, ...] = ()
    generation: int = 0
    model: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        n, m = len(self.z), len(self.kind)
        of_regions = {name: len(getattr(self, name)) for name in ("parent", "last", "birth", "death")}
        of_links = {name: len(getattr(self, name)) for name in ("sources", "targets", "features", "costs")}
        scores = {name: len(column) for name, column in self.outcome.scores.columns().items()}
        n_solved = len(self.outcome.chosen)  # with those made by hand, if the costs were learned again
        fits = (
            {*of_regions.values()} == {n} and {*of_links.values()} == {m} and {*scores.values()} == {n_solved}
        )
        if not fits or n_solved < m or (self.generation == 0 and n_solved > m):
            raise DataError(f"There are {of_regions} for {n} hypotheses, {of_links} for {m} assignments, and "
                            f"{scores} for {n_solved} that are chosen or not",
                            "one entry for each", "Make the reconstruction anew")  # fmt: skip

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return int(self.nodes.shape[0])

    @property
    def assignments(self) -> Assignments:
        """As the steps before take them."""
        return Assignments(self.kind, self.sources, self.targets)

    def hypotheses(self) -> Hypotheses:
        """As the steps before take them; reads all slices, once."""
        return self._hypotheses

    @cached_property
    def _hypotheses(self) -> Hypotheses:
        return Hypotheses(np.asarray(self.nodes[:]), self.z, self.parent, self.last, self.birth, self.death)

    def save(self, folder: Path) -> None:
        """Write all, into a folder that is there already."""
        write_array(folder / "arrays" / "nodes", self.nodes)
        for name in _FIXED:
            write_array(folder / "arrays" / name, getattr(self, name))
        self.save_generation(folder / "generations" / f"{self.generation:04}")

    def save_generation(self, folder: Path) -> None:
        """Write what depends on the costs."""
        for name in _COSTS:
            write_array(folder / name, getattr(self, name))
        write_array(folder / "chosen", self.outcome.chosen)
        for name, column in self.outcome.scores.columns().items():
            write_array(folder / name, column)
        card = {"objective": self.outcome.objective, "gap": self.outcome.gap, "model": self.model,
                "feature_names": list(self.feature_names)}  # fmt: skip
        write_json(folder / "card.json", card)

    @classmethod
    def load(cls, folder: Path) -> "Reconstruction":
        """Read all but the slices, which are read as needed."""
        columns: dict[str, Any] = {name: read_array(folder / "arrays" / name) for name in _FIXED}
        nodes, rest = lazy_array(folder / "arrays" / "nodes"), _generation(folder, 0)
        try:
            return cls(nodes=nodes, **columns, **rest)
        except DataError as error:
            raise FormatError(f"The arrays of {folder} do not fit together: {error.came}", "a whole session",
                              "Restore it from a copy") from error  # fmt: skip

    def at_generation(self, folder: Path, generation: int) -> "Reconstruction":
        """Return the same with the costs and the solution of another generation."""
        if generation == self.generation:
            return self
        found = replace(self, **_generation(folder, generation))
        if "_hypotheses" in self.__dict__:  # they are the same, and large
            found.__dict__["_hypotheses"] = self._hypotheses
        return found


def _generation(folder: Path, generation: int) -> dict[str, Any]:
    place = folder / "generations" / f"{generation:04}"
    card = read_json(place / "card.json")
    scores = Scores(**{field.name: read_array(place / field.name) for field in fields(Scores)})
    outcome = Outcome(read_array(place / "chosen"), card["objective"], card["gap"], scores)
    costs = {name: read_array(place / name) for name in _COSTS}
    names, model = tuple(card["feature_names"]), card["model"]
    return {**costs, "outcome": outcome, "feature_names": names, "generation": generation, "model": model}


class Resolver(Protocol):
    """Finds the best solution under pins."""

    def solve(self, state: State) -> Outcome:
        """Return the solution under the pins of a state, with what was made by hand.

        Assignments made by hand have the numbers from m on, regions that were painted those from n on; these
        overlap other regions in any way, and no two that overlap may be used. There are
        ``m + state.n_links`` entries; those that are not among ``state.links`` are never chosen. Pins that
        clash are an EmSegError that names them.
        """
        ...


MakeResolver = Callable[[Reconstruction], Resolver]
"""Called with the reconstruction whose costs hold, once for each generation of costs."""
