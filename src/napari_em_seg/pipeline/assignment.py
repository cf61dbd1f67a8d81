"""From a prediction to assignments: hypotheses, candidates, costs, the best choice, how sure each link is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.agreement import Step, agreement
from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.candidates import Candidates, Limits, find_candidates
from napari_em_seg.assign.costs import Prices, assignment_costs, untrained_probability
from napari_em_seg.assign.features import Evidence, assignment_features
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.level_sets import level_set_hypotheses
from napari_em_seg.assign.model import AssignmentModel, bundled_files
from napari_em_seg.assign.problem import Problem, make_problem
from napari_em_seg.assign.sections import LEVELS, section_hypotheses
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline.agglomeration import Fragments
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.own_forests import own_forests
from napari_em_seg.segment import agglomerate, region_graph
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.volume import ArrayLike, Progress, VoxelSize

__all__ = [
    "SUPERVOXELS", "USUAL", "AssignRecipe", "Proposals", "Source", "Steps", "bundled_models", "load_model",
    "model_named", "probabilities", "program", "propose",
]  # fmt: skip

SUPERVOXELS = Fragments(low=0.02, size_threshold=1000, weight_threshold=0.1, crumbs=0)

_FOLLOWING = 96  # steps that following counts for, beside four others: it takes far longer

Source = Literal["auto", "sections", "levels"]
"""Where hypotheses come from: sections of an agglomeration's nested segments, or level sets of boundaries."""


@dataclass(frozen=True)
class AssignRecipe:
    """How a prediction becomes assignments.

    Parameters
    ----------
    source
        Of the hypotheses; "auto": sections where there are affinities, else level sets.
    model
        A file of `train assignment`, or the name of one that comes along; "auto" chooses one of these by source
        and voxel size, "none" is the plain rule that learned nothing.
    limits
        What is near enough to be linked.
    fragments
        Supervoxels of the agglomeration. Crumbs stay apart: joined to their neighbours they would give these
        ragged sections, of which many are no one's.
    min_area
        Fewest pixels of a hypothesis.
    """

    source: Source = "auto"
    model: str = "auto"
    limits: Limits = field(default_factory=Limits)
    fragments: Fragments = SUPERVOXELS
    min_area: int = 50

    def source_for(self, maps: PredictedMaps) -> Literal["sections", "levels"]:
        """Return the source that suits the maps."""
        return self.source if self.source != "auto" else "sections" if maps.is_affinity else "levels"


USUAL = AssignRecipe()
"""The default."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """All that can be chosen, and what is known of it.

    Attributes
    ----------
    hypotheses, candidates, features
        See `assign`.
    labels, tree
        Supervoxels and the tree of their merges, where there is an agglomeration.
    """

    hypotheses: Hypotheses
    candidates: Candidates
    features: NDArray[np.float32]
    labels: NDArray[np.uint32] | None = None
    tree: MergeTree | None = None

    @property
    def assignments(self) -> Assignments:
        """The assignments among the candidates."""
        return self.candidates.assignments


def propose(
    raw: ArrayLike,
    maps: PredictedMaps,
    recipe: AssignRecipe = USUAL,
    *,
    voxel_size_nm: VoxelSize | None = None,
    followed: Callable[[Progress], Iterable[Step]] | None = None,
    only: Callable[[Hypotheses], Hypotheses] | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Proposals:
    """Return hypotheses, what may become of them, and the features of that.

    Parameters
    ----------
    raw
        The image (z, y, x).
    maps
        Boundaries or affinities of it.
    recipe
        How.
    voxel_size_nm
        Of the volume.
    followed
        Gives objects that were followed from slice to slice, and calls what it is given while it does so; see
        `pipeline.following`.
    only
        Leaves hypotheses out.
    progress
        Called with steps done and steps in all.
    cancelled
        Asked now and then; once it says true, `Cancelled` is raised.
    """
    if tuple(raw.shape) != maps.shape:
        raise DataError(f"The image is {tuple(raw.shape)} and the prediction {maps.shape} (z, y, x)",
                        "a prediction of the same slices", "Predict this image")  # fmt: skip
    steps = Steps(progress, cancelled, 4 if followed is None else 4 + _FOLLOWING)
    labels, tree, cuts = None, None, []
    if maps.is_affinity or recipe.source_for(maps) == "sections":
        labels, tree = _agglomerated(maps, recipe, voxel_size_nm)
        cuts = [tree.cut(level) for level in LEVELS]
    steps.next()
    if recipe.source_for(maps) == "sections" and labels is not None:
        hypotheses = section_hypotheses(labels, cuts, min_area=recipe.min_area, cancelled=steps.go_on)
    else:
        hypotheses = level_set_hypotheses(maps.boundary, min_area=recipe.min_area, cancelled=steps.go_on)
    steps.next()
    hypotheses = hypotheses if only is None else only(hypotheses)
    candidates = find_candidates(hypotheses, maps.across, recipe.limits, cancelled=steps.go_on)
    steps.next()
    agreed = None
    if followed is not None:
        agreed = agreement(hypotheses, candidates.pairs, followed(steps.part(_FOLLOWING)))
    evidence = Evidence(raw, maps.boundary, maps.across, cuts, LEVELS if cuts else (), labels, agreed)
    features = assignment_features(hypotheses, candidates, evidence, cancelled=steps.go_on)
    steps.next()
    return Proposals(hypotheses, candidates, features, labels, tree)


def load_model(
    recipe: AssignRecipe, maps: PredictedMaps, voxel_size_nm: VoxelSize | None
) -> AssignmentModel | None:
    """Return the model of a recipe; None for the plain rule."""
    if recipe.model == "none":
        return None
    if recipe.model != "auto":
        return model_named(recipe.model) or AssignmentModel.load(Path(recipe.model))
    source = recipe.source_for(maps)
    known = [model for model in bundled_models() if model.card.get("source") == source]
    if not known:
        return None
    if voxel_size_nm is None:
        return known[0]
    return min(known, key=lambda model: _distance(model.card.get("voxel_size_nm"), voxel_size_nm))


def model_named(name: str) -> AssignmentModel | None:
    """Return the model of a file, or of those that come along the one of that name; None if it is gone."""
    for model in bundled_models():
        if model.card.get("name") == name:
            return model
    return AssignmentModel.load(Path(name)) if Path(name).is_file() else None


def bundled_models() -> list[AssignmentModel]:
    """Return one's own models, then those that come along, by name."""
    return [AssignmentModel.load(path) for path in (*own_forests("assignment"), *bundled_files())]


def probabilities(proposals: Proposals, model: AssignmentModel | None) -> NDArray[np.float64]:
    """Return how probable each assignment is."""
    return (
        untrained_probability(proposals.features)
        if model is None
        else model.costs.probability(proposals.features)
    )


def program(proposals: Proposals, probability: NDArray[np.float64], prices: Prices) -> Problem:
    """Return the integer program of all that can be chosen."""
    h, a = proposals.hypotheses, proposals.assignments
    return make_problem(h, a, *assignment_costs(h, a, probability, prices))


def _agglomerated(
    maps: PredictedMaps, recipe: AssignRecipe, voxel_size_nm: VoxelSize | None
) -> tuple[NDArray[np.uint32], MergeTree]:
    affinities = maps.affinities()
    labels = recipe.fragments.of(affinities)
    graph = region_graph(labels, affinities, voxel_size=voxel_size_nm or (1.0, 1.0, 1.0))
    return labels, agglomerate(graph, "mean")


def _distance(known: object, wanted: VoxelSize) -> float:
    """Return how far two voxel sizes are apart, as a sum of logarithms."""
    if not isinstance(known, list | tuple) or len(known) != 3:
        return float("inf")
    return float(sum(abs(np.log(a / b)) for a, b in zip(known, wanted, strict=True)))


class Steps:
    """Counts steps done, and asks whether to go on."""

    def __init__(self, progress: Progress, cancelled: Callable[[], bool], n: int) -> None:
        self._progress, self._cancelled, self._n, self._done = progress, cancelled, n, 0

    def go_on(self) -> bool:
        """Say no to the question whether to stop; if it is yes, what asks is left at once."""
        if self._cancelled():
            raise Cancelled("The work was cancelled")
        return False

    def part(self, n: int) -> Progress:
        """Return progress of work that is to count as the n steps that come next."""
        before = self._done

        def on_progress(done: int, total: int) -> None:
            self._done = before + n * done // max(total, 1)
            if self._progress is not None:
                self._progress(self._done, self._n)

        return on_progress

    def next(self) -> None:
        """Count one more step."""
        self._done += 1
        self.go_on()
        if self._progress is not None:
            self._progress(self._done, self._n)
