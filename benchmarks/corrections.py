"""What objects that are followed and accepted spare a reviewer: python benchmarks/corrections.py.

On the 15 AC4 validation slices, true sections of the middle slice are followed; of the largest objects, or of
those with the most wrong links. Objects that a person accepts are taken into a session as the dock Propagate
does it, which pins them. Then a reviewer who knows the truth goes through the links, the worst first, as in
benchmarks/assignments.py. "looked at": accepted are objects of which every mask is right (IoU with the truth
above one half); "all": whatever came without a gap. Rand is that of the objects, before the review and after
it; "left" are wrong links that the reviewer could not put right.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics import DATA
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.errors import compare
from napari_em_seg.assign.result import label_volume, objects
from napari_em_seg.assign.simulated_review import Review, Reviewer, review
from napari_em_seg.assign.truth import true_ids
from napari_em_seg.io import open_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import (
    AssignRecipe,
    Prediction,
    Propagation,
    predict_affinities,
    propagate,
    reconstruct,
)
from napari_em_seg.pipeline.assignment_training import connected, right_answer
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.propagation import collected
from napari_em_seg.pipeline.resolver import LinkResolver, with_added
from napari_em_seg.propagate.calibration import overlaps, seeds_of
from napari_em_seg.review import Outcome, Reconstruction, Session, State, create_session
from napari_em_seg.review.conflicts import without_margins
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.volume import Volume

VALIDATION, REFERENCE = slice(22, 37), 7
FILL = 30.0

Labels = NDArray[Any]
ACCEPTING: list[float] = []  # seconds, of one object each


@dataclass(frozen=True, eq=False)
class Case:
    """A reconstruction, and what is known of it."""

    made: Reconstruction
    truth: Labels
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]
    judged: NDArray[np.bool_]

    @classmethod
    def of(cls, made: Reconstruction, truth: Labels) -> "Case":
        """Judge all assignments; those that say the same by smaller or larger regions are left out."""
        h, a = made.hypotheses(), made.assignments
        judged, right = compare(h, truth).judge(h, a), right_answer(h, a, truth)
        return cls(made, truth, right, judged.is_judged & (right | judged.is_wrong), judged.is_judged)

    def wrong_links(self, names: Labels) -> NDArray[np.intp]:
        """Return in how many wrong links each true object takes part."""
        h, a, chosen = self.made.hypotheses(), self.made.assignments, self.made.outcome.chosen
        wrong = np.flatnonzero(chosen & self.known & ~self.right & ~is_at_border(h, a))
        of = np.append(true_ids(h, self.truth).ids, 0)
        found = [np.unique(of[one]) for one in a.involved[wrong]]
        counts = np.bincount(np.concatenate(found), minlength=int(names.max()) + 1)
        return np.asarray(counts[names])


class Course:
    """Solves under verdicts, with what was accepted before, and keeps the newest scores."""

    def __init__(self, case: Case, accepted: State) -> None:
        self._resolver, self._accepted, self._judged = LinkResolver(case.made), accepted, case.judged
        self.hypotheses, self.assignments = with_added(case.made.hypotheses(), case.made.assignments, accepted)
        self.outcome: Outcome = self._resolver.solve(accepted)

    def __call__(self, pins: Mapping[int, int]) -> NDArray[np.bool_]:
        """Return what is chosen under these pins."""
        self.outcome = self._resolver.solve(replace(self._accepted, pins={**self._accepted.pins, **pins}))
        return self.outcome.chosen

    def worst_first(self, chosen: NDArray[np.bool_], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Order links by how likely they are wrong; those come last that nobody can judge, or made by hand."""
        is_judged = np.append(self._judged, np.zeros(len(chosen) - len(self._judged), np.bool_))[rows]
        return np.where(is_judged, -self.outcome.scores.p_error[rows].astype(np.float64), np.inf)


def accepted_into(case: Case, labels: Labels, names: list[int]) -> State:
    """Return the state of a session into which these objects were accepted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "review.emseg"
        create_session(path, case.made)
        with Session(path, LinkResolver) as session:
            for name in names:
                masks = {z: plane == name for z, plane in enumerate(labels) if (plane == name).any()}
                masks = without_margins(ObjectVolume(session.view), masks)
                begun = time.perf_counter()
                session.add_object(masks)
                ACCEPTING.append(time.perf_counter() - begun)
            return session.state


def reviewed(case: Case, accepted: State) -> tuple[Review, list[float]]:
    """Let the reviewer go through; return the course, and the Rand error before and after."""
    course = Course(case, accepted)
    more = np.zeros(len(course.assignments) - len(case.right), np.bool_)
    right, known = np.concatenate((case.right, ~more)), np.concatenate((case.known, more))
    rand = [error(case, course, accepted)]
    found = review(
        course.hypotheses, course.assignments, course.outcome.chosen, Reviewer(right, known), course,
        course.worst_first,
    )  # fmt: skip
    return found, [*rand, error(case, course, accepted)]


def error(case: Case, course: Course, accepted: State) -> float:
    """Return the adapted Rand error of the objects as they are."""
    made, chosen = case.made, course.outcome.chosen
    h, a = with_added(made.hypotheses(), made.assignments, accepted, chosen)
    labels = label_volume(h, objects(h, a, chosen), fill=FILL)
    return evaluate(contingency(labels, case.truth)).adapted_rand_error


def is_right(labels: Labels, truth: Labels, name: int) -> bool:
    """Whether an object has the right mask in every slice where it, or the true one, is."""
    return all(
        overlaps(np.where(plane == name, name, 0), np.where(true == name, name, 0)).get(name, 0) > 0.5
        for plane, true in zip(labels, truth, strict=True)
        if (plane == name).any() or (true == name).any()
    )


def has_gap(labels: Labels, name: int) -> bool:
    """Whether an object is away in between: such a one cannot be accepted as a whole."""
    z = np.flatnonzero((labels == name).any(axis=(1, 2)))
    return bool(len(z) != z[-1] - z[0] + 1)


def row(name: str, n: int, found: Review, rand: list[float]) -> None:
    first = int(found.errors[0])
    until = [found.verdicts_until(int(first * share)) for share in (0.5, 0.1, 0.0)]
    said = " | ".join("–" if k is None else str(k) for k in until)
    print(f"| {name} | {n} | {first} | {rand[0]:.4f} | {said} | {found.corrections[-1]} | {found.errors[-1]} "
          f"| {rand[1]:.4f} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 30, 100], help="how many are followed")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--cache", type=Path, help="a folder that keeps predictions")
    arguments = parser.parse_args()
    path = DATA / "ac4_z63-99.h5"
    if not path.exists():
        raise SystemExit(f"The data is not there ({DATA}); EM_SEG_DATA says where it is")
    raw, truth = open_volume(path, "image"), open_volume(path, "labels")[VALIDATION]
    image = Volume(raw[VALIDATION], raw.voxel_size_nm, "ac4")

    def cached(name: str, make: Any) -> Any:
        kept = None if arguments.cache is None else arguments.cache / f"{name}.npy"
        if kept is not None and kept.exists():
            return np.load(kept)
        found = make()
        if kept is not None:
            np.save(kept, found)
        return found

    maps = cached(f"affinity-22-37-{arguments.views}-u8", lambda: predict_affinities(
        raw, Prediction(("affinity",), slices=VALIDATION, views=arguments.views, half=True))[:3])  # fmt: skip
    made = reconstruct(image, PredictedMaps(maps), AssignRecipe(), voxel_size_nm=image.voxel_size_nm)
    case = Case.of(made, connected(truth))
    seeds = seeds_of(case.truth[REFERENCE])
    present, sizes = np.unique(seeds[seeds > 0], return_counts=True)
    n_wrong = case.wrong_links(present)
    orders = {
        "largest": present[np.argsort(-sizes)],
        "with wrong links": present[np.lexsort((-sizes, -n_wrong))][: np.count_nonzero(n_wrong)],
    }
    labels = cached(f"followed-22-37-{REFERENCE}", lambda: collected(
        propagate(image, seeds, Propagation(REFERENCE)), image.shape).labels)  # fmt: skip
    print(f"{len(present)} objects on slice {REFERENCE}")
    print("| objects followed | accepted | wrong links | Rand | verdicts to halve | to a tenth | to none "
          "| corrections | left | Rand in the end |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    row("none", 0, *reviewed(case, State()))
    for (kind, order), n in product(orders.items(), arguments.objects):
        some = [int(k) for k in order[:n] if not has_gap(labels, k)]
        right = [k for k in some if is_right(labels, case.truth, k)]
        for how, names in (("looked at", right), ("all", some)):
            row(f"{len(some)} {kind}, {how}", len(names), *reviewed(case, accepted_into(case, labels, names)))
    print(f"\nan object is accepted in {statistics.median(ACCEPTING):.2f} s (median of {len(ACCEPTING)}), "
          f"{max(ACCEPTING):.2f} s at most")  # fmt: skip


if __name__ == "__main__":
    main()
