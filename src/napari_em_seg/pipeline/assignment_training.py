"""Training of assignment models from labelled truth: what costs, what is likely wrong, what prices are best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import Assignments
from napari_em_seg.assign.confidence import LINK_FEATURES, link_features
from napari_em_seg.assign.costs import Prices
from napari_em_seg.assign.errors import compare
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.assign.problem import make_problem
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.result import label_volume, objects
from napari_em_seg.assign.solver import solve
from napari_em_seg.assign.training import Samples, samples_of, train_costs
from napari_em_seg.assign.truth import true_ids, truth_costs
from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.forest import Forest, fit_forest
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.assignment import USUAL, AssignRecipe, Proposals, Steps, program, propose
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.following import FOLLOWS, Followed, following
from napari_em_seg.volume import ArrayLike, Progress, VoxelSize

__all__ = ["PRICES", "TruthPart", "connected", "right_answer", "right_assignments", "train_assignment"]

Mask = NDArray[np.bool_]
Column = NDArray[np.float64]

PRICES = tuple(Prices(nothing, end) for nothing in (3.0, 4.5) for end in (1.5, 3.0))
"""Among these the best are looked for."""


@dataclass(frozen=True, eq=False)
class TruthPart:
    """An image, what was predicted of it, and its true objects; arrays of one shape."""

    raw: ArrayLike
    maps: PredictedMaps
    truth: NDArray[Any]
    voxel_size_nm: VoxelSize | None = None


def train_assignment(
    out: Path,
    parts: Sequence[TruthPart],
    recipe: AssignRecipe = USUAL,
    *,
    seed: int = 0,
    prices: Prices | None = None,
    with_following: bool = False,
    device: str = "auto",
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AssignmentModel:
    """Train a model of assignments, and write it.

    The forest of costs learns from the assignments that come nearest to the truth. How likely a chosen one is
    wrong can only be learned where the forest has not learned the costs: each half of the slices is therefore
    solved with costs from a forest that knows the other half (and all other volumes). The best prices, too, are
    those of these solutions.

    Parameters
    ----------
    out
        The file, NAME.npz.
    parts
        Volumes with truth. The predictor should not have been trained on them, or it looks too good.
    recipe
        How hypotheses are made.
    seed
        Of the forests.
    prices
        None: the best of `PRICES`.
    with_following
        Whether the propagator follows all sections, so that the forest sees how well it agrees. What is trained
        so asks it for every volume that it is used on, which takes long without a GPU.
    device
        For that.
    card
        What else to write down.
    overwrite
        Whether a file may be replaced.
    progress
        Called with steps done and steps in all.
    cancelled
        Asked now and then; once it says true, `Cancelled` is raised.
    """
    if out.exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new file", "Choose another name, or say --overwrite")
    if not parts:
        raise DataError("There is no volume", "at least one with its truth", "Give --data")
    following_for = 20 if with_following else 0  # steps of each volume, as it takes so much longer
    cases, steps = [], Steps(progress, cancelled, (2 + following_for) * len(parts) + 2)
    for number, part in enumerate(parts):
        followed = following(part.raw, part.voxel_size_nm, device, cancelled) if with_following else None
        cases.append(_case(part, recipe, number, followed, steps.part(following_for), cancelled))
        steps.next()
    unseen = []
    for case in cases:
        unseen.append(_unseen(case, cases, seed))
        steps.next()
    best = prices or min(
        PRICES, key=lambda p: sum(_badness(c, u, p) for c, u in zip(cases, unseen, strict=True))
    )
    errors = _train_errors(cases, unseen, best, seed)
    steps.next()
    costs = train_costs([case.samples() for case in cases], seed=seed)
    about = {
        **(card or {}), "source": recipe.source_for(parts[0].maps), "voxel_size_nm": parts[0].voxel_size_nm,
        "seed": seed, "n_right": costs.card["n_right"], "min_area": recipe.min_area, FOLLOWS: with_following,
    }  # fmt: skip
    model = AssignmentModel(costs, errors, best, about)
    steps.go_on()
    model.save(out, overwrite=overwrite)
    steps.next()
    return model


def connected(truth: NDArray[Any]) -> NDArray[np.int64]:
    """Return the truth with a number of its own for each connected part of an object.

    Within a block of a larger volume, two parts of a neuron may have nothing that joins them; no link could.
    """
    from skimage.measure import label

    return np.asarray(label(truth, connectivity=3, background=0), np.int64)


def right_assignments(proposals: Proposals, truth: ArrayLike) -> Mask:
    """Return which of what was proposed is the best answer that there can be."""
    return right_answer(proposals.hypotheses, proposals.assignments, truth)


def right_answer(hypotheses: Hypotheses, assignments: Assignments, truth: ArrayLike) -> Mask:
    """Return which assignments are the best answer that there can be with these hypotheses."""
    costs = truth_costs(hypotheses, assignments, true_ids(hypotheses, truth))
    solution = solve(make_problem(hypotheses, assignments, *costs))
    return np.asarray(solution.chosen[: len(assignments)])


@dataclass(frozen=True, eq=False)
class _Case:
    proposals: Proposals
    truth: NDArray[np.int64]
    right: Mask

    def samples(self, where: Mask | None = None) -> Samples:
        """Return samples of all assignments, or of those there."""
        p = self.proposals
        right = self.right if where is None else self.right & where
        return samples_of(p.hypotheses, p.assignments, p.features, right)

    def halves(self) -> tuple[Mask, Mask]:
        """Return the assignments out of the first half of the slices, and those out of the second."""
        h, a = self.proposals.hypotheses, self.proposals.assignments
        z = np.where(a.sources[:, 0] >= 0, h.z[a.sources[:, 0]], h.z[a.targets[:, 0]] - 1)
        is_first = z < h.n_slices // 2
        return is_first, ~is_first


def _case(
    part: TruthPart, recipe: AssignRecipe, number: int, followed: Followed | None, progress: Progress,
    cancelled: Callable[[], bool],
) -> _Case:  # fmt: skip
    """Return what can be learned from a volume; one of which nothing can be is an error."""
    if part.truth.shape != part.maps.shape:
        raise DataError(f"The truth of volume {number + 1} is {part.truth.shape} and the prediction "
                        f"{part.maps.shape} (z, y, x)", "both of the same slices",
                        "Say which slices A:B of the labels were predicted")  # fmt: skip
    proposals = propose(
        part.raw, part.maps, recipe, voxel_size_nm=part.voxel_size_nm, followed=followed, progress=progress,
        cancelled=cancelled,
    )  # fmt: skip
    truth = connected(part.truth)
    right = right_assignments(proposals, truth)
    if not right.any():
        raise DataError(f"No section in volume {number + 1} is like one of its truth",
                        "labels of the objects in this image",
                        "Look at image, maps and labels together")  # fmt: skip
    return _Case(proposals, truth, right)


def _unseen(case: _Case, cases: Sequence[_Case], seed: int) -> Column:
    """Return the probability of each assignment by a forest that has not seen this half of the slices."""
    others = [other.samples() for other in cases if other is not case]
    found = np.zeros(len(case.right))
    first, second = case.halves()
    for here, there in ((first, second), (second, first)):
        forest = train_costs([case.samples(there), *others], seed=seed)
        found[here] = forest.probability(case.proposals.features[here])
    return found


def _badness(case: _Case, probability: Column, prices: Prices) -> float:
    """Return the variation of information between the objects and the truth."""
    solution = solve(program(case.proposals, probability, prices))
    h, a = case.proposals.hypotheses, case.proposals.assignments
    labels = label_volume(h, objects(h, a, solution.chosen[: len(a)]))
    return evaluate(contingency(labels, case.truth.astype(np.uint64))).vi


def _train_errors(cases: Sequence[_Case], unseen: Sequence[Column], prices: Prices, seed: int) -> Forest | None:
    """Train the forest that says how likely a chosen assignment is wrong; None if all were right, or wrong."""
    rows, wrong = [], []
    for case, probability in zip(cases, unseen, strict=True):
        h, a = case.proposals.hypotheses, case.proposals.assignments
        problem = program(case.proposals, probability, prices)
        resolver = Resolver(problem)
        chosen = np.flatnonzero(resolver.solution.chosen[: len(a)])
        found = regrets(resolver, chosen).value
        judged = compare(h, case.truth).judge(h, a)
        table = link_features(
            h, a, case.proposals.features, probability, problem.costs[: len(a)], found, chosen
        )
        is_known = judged.is_judged[chosen]
        rows.append(table[is_known])
        wrong.append(judged.is_wrong[chosen][is_known])
    is_wrong = np.concatenate(wrong)
    if not is_wrong.any() or is_wrong.all():
        return None
    return fit_forest(LINK_FEATURES, np.concatenate(rows), is_wrong, seed=seed, n_trees=200, depth=12, least=5)
