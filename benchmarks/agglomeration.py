"""Time and error of region graph, agglomeration and cuts, against waterz: python benchmarks/agglomeration.py.

The boundary map is that of benchmarks/watershed.py. Affinities are 1 − the higher one of both voxels; fragments
are its watershed slice by slice, so that all links across slices are left to agglomeration. The forest is
trained in the upper left corner, and all errors are those of the right two thirds. waterz, where it can be
imported, gets the same fragments and affinities, and makes its region graph in the same call; it gathers the
means alone, and no tree. CPU s are the seconds that processors were busy, whatever else they did meanwhile.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from watershed import boundary_map

from metrics import DATA, real_truth, synthetic_truth
from napari_em_seg.forest import Forest
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.segment.agglomerate import agglomerate
from napari_em_seg.segment.features import features
from napari_em_seg.segment.hmin import hmin_watershed
from napari_em_seg.segment.learned import train_forest, truth_of_leaves
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.region_graph import RegionGraph, region_graph

try:
    import waterz
except ImportError:
    waterz = None

Labels = NDArray[np.uint32]
Affinities = NDArray[np.float32]
Times = tuple[float, float]

THRESHOLDS = np.round(np.arange(0.04, 1, 0.04), 2)
VOXEL_SIZE = (30.0, 6.0, 6.0)
WATERZ_MEAN = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"


def fragments(truth: Labels) -> tuple[Labels, Affinities]:
    """Return an over-segmentation, and affinities as a net of moderate quality would give them."""
    boundary = boundary_map(truth)
    affinities = np.stack([1 - np.maximum(boundary, np.roll(boundary, 1, axis)) for axis in range(3)])
    return hmin_watershed(boundary, 0.0, mode="2d"), affinities


@contextmanager
def silent() -> Iterator[None]:
    """Keep what compiled code prints off the screen."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def with_waterz(labels: Labels, affinities: Affinities, threshold: float) -> NDArray[Any]:
    wide = labels.astype(np.uint64)
    with silent():
        return next(
            iter(waterz.agglomerate(affinities, [threshold], fragments=wide, scoring_function=WATERZ_MEAN))
        )


def ours(labels: Labels, affinities: Affinities, threshold: float) -> Labels:
    graph = region_graph(labels, affinities, voxel_size=VOXEL_SIZE)
    return agglomerate(graph, stop_at=threshold).apply(labels, threshold)


def timed(function: Callable[[], Any], runs: int) -> tuple[list[Times], Any]:
    """Return the seconds that passed and those that processors were busy, of each run, and the last result."""
    taken = []
    for _ in range(runs):
        start, busy = time.perf_counter(), time.process_time()
        result = function()
        taken.append((time.perf_counter() - start, time.process_time() - busy))
    return taken, result


def line(name: str, taken: list[Times], rest: str = "") -> None:
    seconds, busy = zip(*taken, strict=True)
    span = f"({min(seconds):.3f}–{max(seconds):.3f})"
    print(
        f"{name:42} {statistics.median(seconds):8.3f} {span:18} {statistics.median(busy):8.3f}  {rest}",
        flush=True,
    )


def errors(tree: MergeTree, labels: Labels, truth: Labels) -> str:
    """Return the least VI over all thresholds, and where it is."""
    found = []
    for threshold in THRESHOLDS:
        score = evaluate(contingency(tree.apply(labels, float(threshold)), truth))
        found.append((score.vi, score.vi_split, score.vi_merge, score.adapted_rand_error, threshold))
    vi, split, merge, rand, threshold = min(found)
    return f"{vi:7.4f} {split:9.4f} {merge:9.4f} {rand:7.4f} {threshold:6.2f}"


def trained(truth: Labels, labels: Labels, affinities: Affinities) -> tuple[list[Times], Forest]:
    """Train in the upper left corner: a third of the rows and of the columns."""
    corner = (slice(None), slice(0, truth.shape[1] // 3), slice(0, truth.shape[2] // 3))
    crop = np.ascontiguousarray(labels[corner])
    graph = region_graph(crop, affinities[(slice(None), *corner)], voxel_size=VOXEL_SIZE)
    example = graph, truth_of_leaves(graph, crop, np.ascontiguousarray(truth[corner]))
    return timed(lambda: train_forest([example]), 1)


def compile_all() -> float:
    """Call everything once on little; return how long that took."""
    start = time.perf_counter()
    labels = np.arange(1, 65, dtype=np.uint32).reshape(4, 4, 4)
    graph = region_graph(labels, np.ones((3, 4, 4, 4), np.float32))
    features(graph)
    agglomerate(graph).apply(labels, 0.5)
    return time.perf_counter() - start


def measure_learned(graph: RegionGraph, forest: Forest, runs: int) -> MergeTree:
    line("features of all edges", timed(lambda: features(graph), runs)[0])
    seconds, tree = timed(lambda: agglomerate(graph, forest), 1)
    line("agglomeration, learned, whole tree", seconds)
    return tree


def measure_cut(tree: MergeTree, labels: Labels, n_slices: int, runs: int) -> None:
    """Time cuts of a taller volume, the same labels again and again."""
    tall = np.resize(labels, (n_slices, *labels.shape[1:]))
    out = np.empty_like(tall)
    out.fill(0)  # memory that was never written to costs more than the look-up
    rng = np.random.default_rng(0)
    seconds, _ = timed(lambda: tree.cut(float(rng.uniform(0.1, 0.9))), 5 * runs)
    line(f"cut: table of {len(tree.labels):,} leaves", seconds)
    seconds, _ = timed(lambda: tree.apply(tall, float(rng.uniform(0.1, 0.9)), out=out), 5 * runs)
    line(f"cut and apply to {'×'.join(map(str, tall.shape))}", seconds)


def measure_waterz(labels: Labels, affinities: Affinities, truth: Labels, threshold: float, runs: int) -> None:
    functions = {"region graph, mean, apply: napari-em-seg": ours}
    if waterz is not None:
        functions["the same: waterz"] = with_waterz
    seconds: dict[str, list[Times]] = {name: [] for name in functions}
    results = {}
    for _ in range(runs):
        for name, function in functions.items():
            taken, results[name] = timed(lambda function=function: function(labels, affinities, threshold), 1)
            seconds[name] += taken
    for name in functions:
        score = evaluate(contingency(results[name], truth))
        line(name, seconds[name], f"VI {score.vi:.4f}, {len(np.unique(results[name])):,} segments")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(20, 1024, 1024), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tall", type=int, default=100, help="slices to apply cuts to")
    parser.add_argument("--no-forest", action="store_true")
    arguments = parser.parse_args()
    shape, runs = tuple(arguments.shape), arguments.runs

    is_real = (DATA / "ac4_z00-47.h5").exists()
    truth = (real_truth(shape) if is_real else synthetic_truth(shape)).astype(np.uint32)
    labels, affinities = fragments(truth)
    compiling = compile_all()
    seconds, graph = timed(lambda: region_graph(labels, affinities, voxel_size=VOXEL_SIZE), runs)

    print(f"{'×'.join(map(str, shape))}, {'AC4 mirrored' if is_real else 'synthetic'}, {os.cpu_count()} cores; "
          f"{len(graph.labels):,} fragments, {len(graph.edges):,} edges")  # fmt: skip
    print(f"the first calls, not among the times, took {compiling:.1f} s (machine code is kept on disk)\n")
    print(f"{f'median of {runs} runs':42}  seconds (min–max)         CPU s")
    line("region graph", seconds)
    trees = {}
    for name in ("mean", "quantile"):
        seconds, trees[name] = timed(lambda name=name: agglomerate(graph, name), runs)
        line(f"agglomeration, {name}, whole tree", seconds)
    if not arguments.no_forest:
        training, forest = trained(truth, labels, affinities)
        line("training in a corner, 3 rounds", training, f"{forest.card['n_samples']:,} samples")
        trees["learned"] = measure_learned(graph, forest, runs)
    measure_cut(trees["mean"], labels, arguments.tall, runs)
    measure_waterz(labels, affinities, truth, 0.3, runs)

    rest = slice(shape[2] // 3, None)
    crop, held_out = np.ascontiguousarray(labels[:, :, rest]), np.ascontiguousarray(truth[:, :, rest])
    title = "least error, right two thirds"
    print(f"\n{title:42} {'VI':>7} {'split':>9} {'merge':>9} {'Rand':>7}     at")
    for name, tree in trees.items():
        print(f"{name:42} {errors(tree, crop, held_out)}")


if __name__ == "__main__":
    main()
