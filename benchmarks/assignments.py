"""What the assignment program reaches on the AC4 validation slices: python benchmarks/assignments.py.

An affinity model predicts training slices (0-21 of the second stack) and the 15 validation slices. All
thresholds are chosen on the first; on the second are printed: errors of every route from the same prediction,
how well each measure of confidence finds wrong links, and how many corrections reviewers need who follow it.
Figure 11 of the paper goes into docs/images/confidence.svg, the curves of reviews into corrections.svg.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics import DATA
from napari_em_seg.assign.assignments import APPEARANCE
from napari_em_seg.assign.baselines import best_level, link_by_overlap, single_level
from napari_em_seg.assign.confidence import LINK_FEATURES, error_probability, link_features
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.errors import Comparison, compare, slice_errors
from napari_em_seg.assign.features import DUMMY, FEATURES
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.assign.problem import Problem
from napari_em_seg.assign.ranking import auc, figure_11, share_of_errors_in_lowest
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.result import label_volume, objects
from napari_em_seg.assign.sections import LEVELS
from napari_em_seg.assign.simulated_review import Review, Reviewer, by_score, by_size, in_random_order, review
from napari_em_seg.assign.training import samples_of, train_costs
from napari_em_seg.io import open_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import AssignRecipe, Prediction, Prices, Proposals, predict_affinities, propose
from napari_em_seg.pipeline.agglomeration import scores_of_tree
from napari_em_seg.pipeline.assignment import load_model, probabilities, program
from napari_em_seg.pipeline.assignment_training import connected, right_assignments
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.following import following
from napari_em_seg.segment import best_h, hmin_watershed
from napari_em_seg.volume import Volume

IMAGES = Path(__file__).parents[1] / "docs" / "images"
TUNING, VALIDATION = slice(0, 22), slice(22, 37)
SIZE = (30.0, 6.0, 6.0)
DEPTHS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)
FILL = 30.0
MOST = 600  # verdicts of a reviewer who errs, and so would never be done

Labels = NDArray[Any]


def line(name: str, at: object, labels: Labels, truth: Labels, seconds: float) -> None:
    scores, errors = evaluate(contingency(labels, truth)), slice_errors(labels, truth)
    rates = errors.rates
    print(
        f"{name:34} {at!s:>6} {scores.adapted_rand_error:8.4f} {scores.vi_split:8.3f} {scores.vi_merge:8.3f}"
        f" {errors.inter_fn:5d} {errors.inter_fp:5d} {errors.intra_fn:5d} {errors.intra_fp:5d}"
        f"  {rates['inter_fn'] + rates['inter_fp']:.4f} {seconds:8.1f}",
        flush=True,
    )


def watersheds(tuning: Any, validation: Any) -> None:
    """Print (a), the watershed in 3-D, and (b), that slice by slice with the best overlaps linked."""
    (maps, truth), (new, new_truth) = tuning, validation
    boundary, unseen = (np.stack([m.boundary[z] for z in range(m.shape[0])]) for m in (maps, new))
    begun = time.perf_counter()
    h, _ = best_h(boundary, truth, DEPTHS)
    line("(a) 3-D watershed", h, hmin_watershed(unseen, h), new_truth, time.perf_counter() - begun)
    begun = time.perf_counter()
    errors = {}
    for h in DEPTHS:
        linked = link_by_overlap(hmin_watershed(boundary, h, mode="2d"))
        errors[h] = evaluate(contingency(linked, truth)).adapted_rand_error
    h = min(errors, key=lambda depth: errors[depth])
    linked = link_by_overlap(hmin_watershed(unseen, h, mode="2d"))
    line("(b) 2-D watershed, overlaps linked", h, linked, new_truth, time.perf_counter() - begun)


def agglomerations(tuned: Proposals, truth: Labels, proposals: Proposals, new_truth: Labels) -> None:
    """(d), at the threshold with the best adapted Rand error on training slices, and with the best VI."""
    curve = scores_of_tree(tuned.labels, tuned.tree, truth)
    for name, key in (("Rand", "adapted_rand_error"), ("VI", "vi")):
        at = min(curve, key=lambda t: getattr(curve[t], key))
        begun = time.perf_counter()
        labels = proposals.tree.apply(proposals.labels, at)
        line(f"(d) agglomeration, chosen by {name}", at, labels, new_truth, time.perf_counter() - begun)


def solved(proposals: Proposals, model: AssignmentModel | None) -> tuple[Labels, NDArray[np.bool_], Resolver]:
    probability = probabilities(proposals, model)
    prices = Prices() if model is None else model.prices
    problem = program(proposals, probability, prices)
    resolver = Resolver(problem)
    chosen = resolver.solution.chosen[: problem.n_assignments]
    h, a = proposals.hypotheses, proposals.assignments
    return label_volume(h, objects(h, a, chosen), fill=FILL), chosen, resolver


def confidences(
    proposals: Proposals, model: AssignmentModel, chosen: NDArray[np.bool_], resolver: Resolver, judged: Any
) -> dict[str, NDArray[np.float64]]:
    """Print how well each measure finds wrong links; draw figure 11; return confidences of all assignments."""
    h, a, rows = proposals.hypotheses, proposals.assignments, np.flatnonzero(chosen)
    begun = time.perf_counter()
    found = regrets(resolver, rows)
    seconds = time.perf_counter() - begun
    probability = probabilities(proposals, model)
    costs = resolver.regions.problem.costs[: len(a)]
    table = link_features(h, a, proposals.features, probability, costs, found.value, rows)
    p_error = error_probability(h, a, table, rows, model.errors)
    measures = {
        "ratio (9)": table[:, LINK_FEATURES.index("ratio")],
        "forest": probability[rows],
        "regret": np.minimum(found.value, 1e6),
        "calibrated": -p_error,
    }
    known = judged.is_judged[rows] & ~is_at_border(h, a)[rows]
    wrong = judged.is_wrong[rows]
    print(f"\n{known.sum()} links judged, {wrong[known].sum()} wrong, {p_error[known].sum():.1f} expected; "
          f"{len(rows)} regrets in {seconds:.1f} s, {found.is_exact.mean():.1%} exact")  # fmt: skip
    print(f"{'confidence':12} {'AUC':>7} {'errors in the lowest 10 %':>26}")
    for name, values in measures.items():
        share = share_of_errors_in_lowest(wrong[known], values[known])
        print(f"{name:12} {auc(wrong[known], values[known]):7.4f} {share:26.3f}")
    draw_figure_11(measures, wrong, known)
    everywhere = {}
    for name, values in measures.items():
        full = probability - 2 if name != "ratio (9)" else np.full(len(a), np.median(values))
        full = np.array(full, float)
        full[rows] = values
        everywhere[name] = full
    return everywhere


def draw_figure_11(measures: Mapping[str, Any], wrong: Any, known: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, values in measures.items():
        curve = figure_11(wrong[known], values[known])
        axes.plot(100 * curve.share, curve.errors, label=name)
    axes.set(xlabel="most confident links (%)", ylabel="wrong links per link", ylim=(0, None))
    axes.legend()
    figure.savefig(IMAGES / "confidence.svg")


def corrections(
    proposals: Proposals, problem: Problem, best: NDArray[np.bool_], orders: Mapping[str, Any],
    comparison: Comparison,
) -> None:  # fmt: skip
    """Print how many verdicts reviewers need, one who knows and one who errs; draw the curves.

    A reviewer accepts links of the best answer that the hypotheses allow, and rejects wrong ones, for which one
    of that answer is put in their place. To what is neither wrong nor in there (the same said by smaller or
    larger regions) they say "don't know": that counts as a verdict, and pins nothing.
    """
    h, a = proposals.hypotheses, proposals.assignments
    judged = comparison.judge(h, a)
    is_known = judged.is_judged & (best | judged.is_wrong)
    print(f"\n{'order':14} {'errs':>5} {'wrong':>6} {'verdicts to halve':>18} {'to a tenth':>11} "
          f"{'to none':>8} {'corrections':>12} {'left':>5} {'refused':>8} {'seconds':>8}")  # fmt: skip
    courses = {}
    for rate in (0.0, 0.05):
        for name, order in orders.items():
            begun = time.perf_counter()
            resolver = Resolver(problem)
            course = courses[name, rate] = review(
                h, a, resolver.solution.chosen[: len(a)], Reviewer(best, is_known, rate),
                lambda pins, of=resolver: of.solve(pins).chosen[: len(a)],  # type: ignore[misc]
                judged_first(order, judged.is_judged), costs=problem.costs[: len(a)],
                most=MOST if rate else None,
            )  # fmt: skip
            first = course.errors[0]
            until = [course.verdicts_until(int(first * share)) for share in (0.5, 0.1, 0.0)]
            said = ["–" if n is None else str(n) for n in until]
            print(
                f"{name:14} {rate:5.0%} {first:6d} {said[0]:>18} {said[1]:>11} {said[2]:>8} "
                f"{course.corrections[-1]:12d} {course.errors[-1]:5d} {course.n_refused:8d} "
                f"{time.perf_counter() - begun:8.1f}", flush=True,
            )  # fmt: skip
    draw_corrections(courses)


def judged_first(order: Any, is_judged: NDArray[np.bool_]) -> Any:
    """Leave for the end what nobody can judge: the truth has no label there."""
    return lambda chosen, listed: np.where(is_judged[listed], order(chosen, listed), np.inf)


def draw_corrections(courses: Mapping[tuple[str, float], Review]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for (name, rate), course in courses.items():
        both[int(rate > 0)].plot(np.arange(len(course.errors)) + 1, course.errors, label=name)
    for axes, title in zip(both, ("Who never errs", "Who errs 5 % of the time"), strict=True):
        axes.set(xlabel="verdicts", ylim=(0, None), xscale="log", title=title)
    both[0].set(ylabel="wrong links left")
    both[0].legend(fontsize="small")
    figure.savefig(IMAGES / "corrections.svg")


def followed(raw: Volume, tuning: Any, validation: Any) -> None:
    """Print what it brings that the propagator follows all sections, with forests of several seeds."""
    both = []
    for part, (maps, truth) in ((TUNING, tuning), (VALIDATION, validation)):
        image = Volume(raw[part], SIZE, "ac4")
        begun = time.perf_counter()
        found = propose(image, maps, voxel_size_nm=SIZE, followed=following(image, SIZE, "auto", lambda: False))
        print(f"{len(image)} slices followed and proposed in {time.perf_counter() - begun:.0f} s", flush=True)
        both.append((found, right_assignments(found, connected(truth))))
    (tuned, right), (unseen, unseen_right) = both
    column, is_link = FEATURES.index("agreement"), unseen.assignments.kind < APPEARANCE
    for name in ("agreement", "overlap", "evidence"):
        values = unseen.features[is_link, FEATURES.index(name)].astype(np.float64)
        print(f"AUC of {name} alone: {auc(~unseen_right[is_link], values):.3f}")
    for seed, uses in product(range(3), (False, True)):
        rows, new = (np.array(one.features) for one in (tuned, unseen))
        if not uses:
            rows[:, column] = new[:, column] = DUMMY
        samples = samples_of(tuned.hypotheses, tuned.assignments, rows, right)
        probability = train_costs([samples], seed=seed).probability(new)
        solution = Resolver(program(unseen, probability, Prices(4.5, 1.5))).solution
        h, a = unseen.hypotheses, unseen.assignments
        labels = label_volume(h, objects(h, a, solution.chosen[: len(a)]), fill=FILL)
        line(f"seed {seed}, {'with' if uses else 'without'} agreement", "", labels, validation[1], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--affinity", default="affinity", help="name or file of the affinity model")
    parser.add_argument("--model", default="auto", help="file of the assignment model; else the bundled one")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--cache", type=Path, help="a folder that keeps predictions")
    parser.add_argument("--no-routes", action="store_true", help="leave the other routes out")
    parser.add_argument("--no-review", action="store_true", help="leave the simulated reviews out")
    parser.add_argument("--follow", action="store_true", help="only what following all sections brings")
    arguments = parser.parse_args()
    path = DATA / "ac4_z63-99.h5"
    if not path.exists():
        raise SystemExit(f"The data is not there ({DATA}); EM_SEG_DATA says where it is")
    raw, ids = open_volume(path), open_volume(path, "labels")

    def predicted(part: slice) -> PredictedMaps:
        name = f"{Path(arguments.affinity).stem}-{part.start}-{part.stop}-{arguments.views}-u8.npy"
        kept = None if arguments.cache is None else arguments.cache / name
        if kept is not None and kept.exists():
            return PredictedMaps(np.load(kept))
        wanted = Prediction((arguments.affinity,), slices=part, views=arguments.views, half=True)
        found = predict_affinities(raw, wanted)[:3]
        if kept is not None:
            np.save(kept, found)
        return PredictedMaps(found)

    tuning, validation = ((predicted(part), ids[part]) for part in (TUNING, VALIDATION))
    maps, truth = validation
    print(f"{'route':34} {'at':>6} {'Rand':>8} {'VI split':>8} {'VI merge':>8} inter FN, FP  intra FN, FP"
          f"   inter  seconds")  # fmt: skip
    if arguments.follow:
        followed(raw, tuning, validation)
        return
    if not arguments.no_routes:
        watersheds(tuning, validation)
    recipe = AssignRecipe(model=arguments.model)
    model = load_model(recipe, maps, SIZE)
    tuned = propose(raw[TUNING], tuning[0], recipe, voxel_size_nm=SIZE)
    begun = time.perf_counter()
    proposals = propose(raw[VALIDATION], maps, recipe, voxel_size_nm=SIZE)
    seconds = time.perf_counter() - begun

    level, _ = best_level(tuned.hypotheses, compare(tuned.hypotheses, tuning[1]), LEVELS)
    begun = time.perf_counter()
    fixed = propose(
        raw[VALIDATION], maps, recipe, voxel_size_nm=SIZE, only=lambda found: single_level(found, level)
    )
    line("(c) ILP, hypotheses of one level", level, solved(fixed, model)[0], truth, time.perf_counter() - begun)
    agglomerations(tuned, tuning[1], proposals, truth)
    begun = time.perf_counter()
    labels, chosen, resolver = solved(proposals, model)
    solution = resolver.solution
    line("ILP, sections", "", labels, truth, seconds + time.perf_counter() - begun)
    line("ILP, sections, plain rule", "", solved(proposals, None)[0], truth, seconds)
    begun = time.perf_counter()
    flat = replace(recipe, source="levels")
    other = load_model(flat, maps, SIZE) if arguments.model == "auto" else None
    levels = propose(raw[VALIDATION], maps, flat, voxel_size_nm=SIZE)
    line("ILP, level sets", "", solved(levels, other)[0], truth, time.perf_counter() - begun)
    n, m, took = len(proposals.hypotheses), len(proposals.assignments), sum(solution.seconds.values())
    print(f"\n{n} hypotheses, {m} assignments; solved in {took:.2f} s, {1000 * took / n:.2f} ms a hypothesis, "
          f"gap {solution.gap:.2e}, {solution.n_fractional} fractional")  # fmt: skip

    comparison = compare(proposals.hypotheses, truth)
    best = right_assignments(proposals, truth)
    h, a = proposals.hypotheses, proposals.assignments
    floor = comparison.errors(h, a, best).errors
    mine = comparison.errors(h, a, chosen).errors
    for name, errors in (("solution", mine), ("best that the hypotheses allow", floor)):
        print(f"{name}: inter-slice errors {errors.inter_fn} + {errors.inter_fp}, "
              f"intra-slice {errors.intra_fn} + {errors.intra_fp}")  # fmt: skip
    if model is None:
        return
    found = confidences(proposals, model, chosen, resolver, comparison.judge(h, a))
    if not arguments.no_review:
        orders = {name: by_score(values) for name, values in found.items()}
        orders |= {"random": in_random_order(len(a)), "largest first": by_size(h, a)}
        corrections(proposals, resolver.regions.problem, best, orders, comparison)


if __name__ == "__main__":
    main()
