"""How fast the assignment program is solved, and solved anew: python benchmarks/solver.py --slices 15 37 100.

AC4, predicted by the affinity model that comes along; more slices than there are (37) are the same ones to
and fro. For each number of slices: seconds to propose and to solve, the proven gap, what a verdict takes,
and the regrets of all links.
On the smallest one the whole program is handed to another solver as well, in the same run.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from metrics import DATA
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.solver import solve
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import AssignRecipe, Prediction, Prices, predict_affinities, propose
from napari_em_seg.pipeline.assignment import load_model, probabilities, program
from napari_em_seg.pipeline.evidence import PredictedMaps

SIZE = (30.0, 6.0, 6.0)


def to_and_fro(n: int, there: int) -> Any:
    """Return n slices, from the first to the last that is there, back, and so on."""
    period = np.concatenate((np.arange(there), np.arange(there - 2, 0, -1)))
    return period[np.arange(n) % len(period)]


def verdicts(resolver: Resolver, n: int) -> tuple[list[float], bool]:
    """Reject links one by one and take it back; return the seconds, and whether the answer is the old one."""
    problem, before = resolver.regions.problem, resolver.solution
    chosen = np.flatnonzero(before.chosen[: problem.n_assignments])
    seconds = []
    for link in np.random.default_rng(0).choice(chosen, n, replace=False):
        begun = time.perf_counter()
        resolver.pin({int(link): 0})
        seconds.append(time.perf_counter() - begun)
        resolver.pin({int(link): -1})
    return seconds, bool(np.isclose(resolver.solution.objective, before.objective))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs="+", default=[15, 37])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--cache", type=Path, help="a folder that keeps the prediction")
    parser.add_argument("--peer", default="highs-ilp", help="another solver, by name")
    parser.add_argument("--time-limit", type=float, default=120.0, help="of the other solver")
    arguments = parser.parse_args()
    path = DATA / "ac4_z63-99.h5"
    if not path.exists():
        raise SystemExit(f"The data is not there ({DATA}); EM_SEG_DATA says where it is")
    raw = open_volume(path)
    kept = None if arguments.cache is None else arguments.cache / f"affinity-all-{arguments.views}-u8.npy"
    if kept is not None and kept.exists():
        maps = np.load(kept)
    else:
        maps = predict_affinities(raw, Prediction(("affinity",), views=arguments.views, half=True))[:3]
        if kept is not None:
            np.save(kept, maps)

    print(f"{'slices':>6} {'hypotheses':>10} {'variables':>9} {'propose s':>9} {'relaxed s':>9} {'whole s':>8} "
          f"{'gap':>8} {'ms/hyp.':>7} {'pin ms 50, 95 %':>16} {'all regrets':>11} {'s':>6}")  # fmt: skip
    smallest = None
    for n in sorted(arguments.slices):
        order = to_and_fro(n, len(raw))
        begun = time.perf_counter()
        part = PredictedMaps(np.ascontiguousarray(maps[:, order]))
        proposals = propose(raw[:][order], part, AssignRecipe(), voxel_size_nm=SIZE)
        proposing = time.perf_counter() - begun
        model = load_model(AssignRecipe(), part, SIZE)
        prices = Prices() if model is None else model.prices
        problem = program(proposals, probabilities(proposals, model), prices)
        smallest = smallest or problem
        solution = solve(problem)
        relaxed, whole = solution.seconds["relaxed"], solution.seconds["whole"]
        resolver = Resolver(problem)
        seconds, is_back = verdicts(resolver, 100)
        links = np.flatnonzero(solution.chosen[: problem.n_assignments])
        begun = time.perf_counter()
        is_exact = regrets(resolver, links).is_exact.all()
        regretting = time.perf_counter() - begun
        ms, h = 1000 * np.percentile(seconds, [50, 95]), len(proposals.hypotheses)
        print(
            f"{n:6} {h:10} {len(problem.costs):9} {proposing:9.1f} {relaxed:9.2f} {whole:8.3f} "
            f"{solution.gap:8.1e} {1000 * (relaxed + whole) / h:7.3f} {ms[0]:8.1f} {ms[1]:7.1f} "
            f"{len(links):11} {regretting:6.2f}{'' if is_back and is_exact else '  NOT BACK, OR NOT EXACT'}",
            flush=True,
        )  # fmt: skip
    ours = solve(smallest)
    theirs = solve(smallest, solver=arguments.peer, time_limit=arguments.time_limit)
    took = sum(ours.seconds.values())
    peer = theirs.seconds[arguments.peer]
    print(f"\nsmallest: objective {ours.objective:.3f} in {took:.2f} s; "
          f"{arguments.peer} alone, with PuLP's model, {theirs.objective:.3f} in {peer:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
