"""Time of hypotheses from a boundary map, and what they hold of the truth: python benchmarks/level_sets.py.

Times are those of one slice, for squares of growing size and one and two threads: seconds that passed, and
those that processors were busy, whatever else they did meanwhile. A second table gives the latter for all 100
minimal cuts at once and for 100 maximum flows by scipy, in alternation, and what their energies differ by. The
map is that of benchmarks/watershed.py (neurons of AC4, mirrored; without that file, wavy columns), or --map.

--figure FILE draws image, map, smooth map and nested level sets with their tree for a crop of the sample.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph
from watershed import boundary_map

from metrics import DATA, real_truth, synthetic_truth
from napari_em_seg.assign.hypotheses import Hypotheses, joined, pruned
from napari_em_seg.assign.level_sets import (
    component_tree,
    evidence,
    grown,
    level_set_regions,
    level_thresholds,
    minimal_cuts,
    smoothed,
)
from napari_em_seg.io import open_volume

Map = NDArray[Any]
SMOOTHNESS = 0.05
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))
STEPS = 4096  # to a unit, as in minimal_cuts


def stages(boundary: Map, smoothness: float, threads: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed, each as a call of its own."""
    f, thresholds = evidence(boundary), level_thresholds(100)
    rank = minimal_cuts(f, smoothness, thresholds)
    whole = component_tree(rank, 1 / (1 + np.exp(thresholds)))
    few = pruned(whole, max_area=100_000, max_depth=10)
    return {
        "evidence": lambda: evidence(boundary),
        "sweeps": lambda: minimal_cuts(f, smoothness, thresholds, exact=False, threads=threads),
        "sweeps, repair": lambda: minimal_cuts(f, smoothness, thresholds, threads=threads),
        "tree": lambda: component_tree(rank, 1 / (1 + np.exp(thresholds))),
        "pruned": lambda: pruned(whole, max_area=100_000, max_depth=10),
        "grown": lambda: grown(few, 2),
        "all": lambda: level_set_regions(boundary, smoothness=smoothness, threads=threads),
    }


def timed(functions: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return for each function the seconds that passed and those that processors were busy, in alternation."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            start, busy = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - start, time.process_time() - busy))
    return taken


def flow_energies(f: NDArray[np.int64], weight: int, thresholds: NDArray[np.int64]) -> list[int]:
    """Return the least energy at each threshold, by a maximum flow each."""
    n, pairs = f.size, pairs_of(f.shape)
    found = []
    for threshold in thresholds:
        excess = f.ravel() - threshold
        rich, poor = np.flatnonzero(excess > 0), np.flatnonzero(excess < 0)
        rows = np.concatenate((pairs[0], pairs[1], np.full(len(rich), n), poor))
        columns = np.concatenate((pairs[1], pairs[0], rich, np.full(len(poor), n + 1)))
        capacity = np.concatenate((np.full(2 * len(pairs[0]), weight), excess[rich], -excess[poor]))
        graph = sparse.csr_array((capacity.astype(np.int32), (rows, columns)), shape=(n + 2, n + 2))
        found.append(int(csgraph.maximum_flow(graph, n, n + 1).flow_value - excess[rich].sum()))
    return found


def pairs_of(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return all pairs of the 8-neighbourhood, as numbers of pixels (2, n)."""
    height, width = shape
    number = np.arange(height * width).reshape(shape)
    ends = [
        (number[: height - dy, max(0, -dx) : width - max(0, dx)], number[dy:, max(0, dx) : width + min(0, dx)])
        for dy, dx in OFFSETS
    ]
    return np.stack([np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1)])


def our_energies(f: NDArray[np.int64], weight: int, thresholds: NDArray[np.int64]) -> list[int]:
    """Return the energy of each level set."""
    rank, (a, b) = (
        minimal_cuts(f / STEPS, weight / STEPS, thresholds / STEPS, threads=1).ravel(),
        pairs_of(f.shape),
    )
    flat = f.ravel()
    return [
        int((threshold - flat[rank >= k]).sum() + weight * ((rank[a] >= k) != (rank[b] >= k)).sum())
        for k, threshold in enumerate(thresholds, 1)
    ]


def compare_with_flows(boundary: Map, smoothness: float, runs: int) -> None:
    """Print the times of all cuts at once and of one after the other, and whether they are as good."""
    f = np.rint(evidence(boundary).astype(np.float64) * STEPS).astype(np.int64)
    weight = round(smoothness * STEPS)
    thresholds = np.rint(level_thresholds(100) * STEPS).astype(np.int64)
    taken = timed({
        "ours": lambda: minimal_cuts(f / STEPS, weight / STEPS, thresholds / STEPS, threads=1),
        "flows": lambda: flow_energies(f, weight, thresholds),
    }, runs)  # fmt: skip
    ours, theirs = our_energies(f, weight, thresholds), flow_energies(f, weight, thresholds)
    most = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    seconds = [statistics.median(run[1] for run in taken[name]) for name in ("ours", "flows")]
    print(f"{f.shape[0]:5}² {smoothness:10g} {seconds[0]:10.3f} {seconds[1]:10.2f} {most:12}", flush=True)


def measure_times(sides: list[int], volume: Map, smoothness: float, runs: int) -> None:
    """Print the time of each stage for squares of all sizes."""
    names = list(stages(volume[0][:32, :32], smoothness, 1))
    print(f"{'':14}" + "".join(f"{name:>17}" for name in names) + "   regions")
    for side in sides:
        boundary = np.ascontiguousarray(volume[0][:side, :side])
        for threads in (1, 2):
            taken = timed(stages(boundary, smoothness, threads), runs)
            line = ""
            for name in names:
                passed, busy = (statistics.median(column) for column in zip(*taken[name], strict=True))
                line += f"{passed:10.3f} {busy:6.3f}"
            n = len(level_set_regions(boundary, smoothness=smoothness).parent)
            print(f"{side:5}² {threads:>2} thr.{line} {n:9,}", flush=True)


def draw(path: Path) -> None:
    """Draw how hypotheses come about, for a crop of the sample; its map is that of the bundled model."""
    from matplotlib.figure import Figure

    from napari_em_seg.pipeline import Prediction, choose_model, predict_boundary, sample_volumes

    raw, _ = sample_volumes((5, 256, 256), seed=1)
    model = choose_model(raw).model.name
    boundary = predict_boundary(raw, Prediction((model,), views=1, dtype="float32"))[2, 40:150, 60:200]
    found = joined([level_set_regions(boundary, min_area=60, max_area=6000)])
    smooth = 1 / (1 + np.exp(smoothed(evidence(boundary), SMOOTHNESS)))
    figure = Figure(figsize=(11, 5.6), layout="constrained", dpi=100)
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 1.1))
    panels = {"image": raw[2][40:150, 60:200], "boundary map": boundary, "smooth map": smooth}
    for column, (title, panel) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(panel, cmap="gray")
        axes.set(title=title, xticks=[], yticks=[])
    nested, tree = figure.add_subplot(grid[0, 3]), figure.add_subplot(grid[1, :])
    draw_regions(nested, found, panels["image"])
    draw_tree(tree, found)
    figure.savefig(path)
    if path.suffix == ".png":
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.FLOYDSTEINBERG)
        small.save(path, optimize=True)


def leaf_colours(found: Hypotheses) -> dict[int, Any]:
    from matplotlib import colormaps

    leaves = np.flatnonzero(found.is_leaf)
    rng = np.random.default_rng(0)
    return dict(
        zip(leaves.tolist(), colormaps["turbo"](rng.permutation(len(leaves)) / len(leaves)), strict=True)
    )


def draw_regions(axes: Any, found: Hypotheses, image: Map) -> None:
    """Fill the smallest regions, and draw the outlines of all, dark where they are born late."""
    from matplotlib import colormaps

    axes.imshow(image, cmap="gray", alpha=0.6)
    for i in range(len(found) - 1, -1, -1):
        inside = np.pad((found.nodes[0] >= i) & (found.nodes[0] <= found.last[i]), 1)
        if i in (colours := leaf_colours(found)):
            filled = np.zeros((*found.nodes.shape[1:], 4))
            filled[inside[1:-1, 1:-1]] = colours[i] * np.array([1, 1, 1, 0.45])
            axes.imshow(filled)
        colour = colormaps["viridis_r"](found.birth[i])
        axes.contour(np.arange(-1, inside.shape[1] - 1), np.arange(-1, inside.shape[0] - 1), inside, [0.5],
                     colors=[colour], linewidths=1.2)  # fmt: skip
    axes.set(title="nested level sets", xticks=[], yticks=[])


def draw_tree(axes: Any, found: Hypotheses) -> None:
    """Draw each region as a line from birth to death, below the one that holds it."""
    colours = leaf_colours(found)
    place = np.zeros(len(found))
    place[found.is_leaf] = np.arange(found.is_leaf.sum())
    for i in range(len(found) - 1, -1, -1):
        if not found.is_leaf[i]:
            place[i] = place[found.parent == i].mean()
    for i in range(len(found)):
        axes.plot([place[i]] * 2, [found.birth[i], found.death[i]], lw=3, color=colours.get(i, "0.3"))
        if (up := found.parent[i]) >= 0:
            axes.plot([place[i], place[up]], [found.death[i]] * 2, lw=1, color="0.3")
    axes.set(xticks=[], ylabel="level (boundary probability)", ylim=(-0.02, 1.02),
             title="their tree: each from where it begins to where it is part of a larger one")  # fmt: skip
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--flow-sides", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--smoothness", type=float, default=SMOOTHNESS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--map", type=Path, help="a boundary map; its first slice is timed, mirrored if small")
    parser.add_argument("--figure", type=Path, help="where to draw (SVG or PNG); nothing else is done then")
    arguments = parser.parse_args()
    if arguments.figure is not None:
        draw(arguments.figure)
        return
    given = None if arguments.map is None else open_volume(arguments.map)[:]
    shape = (1, max(arguments.sides), max(arguments.sides))
    is_real = (DATA / "ac4_z00-47.h5").exists()
    if given is None:
        given = boundary_map((real_truth(shape) if is_real else synthetic_truth(shape)).astype(np.uint32))
        source = "AC4 mirrored" if is_real else "synthetic"
    else:
        pad = [(0, max(0, n - m)) for n, m in zip(shape[1:], given.shape[1:], strict=True)]
        given, source = np.pad(given[:1], [(0, 0), *pad], mode="symmetric"), arguments.map.name
    level_set_regions(given[0, :64, :64], threads=2)  # compiles
    print(f"{source}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; 100 levels")
    print(f"smoothness {arguments.smoothness:g}; median seconds of {arguments.runs} runs in alternation\n")
    measure_times(arguments.sides, given, arguments.smoothness, arguments.runs)
    print(f"\n{'':6} {'smoothness':>10} {'all at once':>10} {'100 flows':>9} {'energies differ':>16}")
    for side in arguments.flow_sides:
        compare_with_flows(given[0, :side, :side], arguments.smoothness, max(1, arguments.runs // 2))


if __name__ == "__main__":
    main()
