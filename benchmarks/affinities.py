"""Split-VI curves of what affinities give, on the AC4 validation slices: python benchmarks/affinities.py MODEL.

The model predicts training slices (0-21 of the second stack) and the 15 validation slices. On the first the
forest is trained and every threshold chosen; on the second all are measured: the watershed alone (over its own
merge threshold), agglomeration by mean, by quantile and by the forest, the mutex watershed of the supervoxels
where mwatershed is installed (pip install mwatershed), and the watershed of a boundary map.
A forest is surer of what it was trained on, so its threshold is that which is best for two others, each trained
on one half of the training slices and applied to the other half. --forest takes one that is there (in which
case its threshold is tuned on all training slices, which it may have seen).
The figure goes into docs/images/affinities.svg. Merge errors are shown apart, since they cost a person more.
With --compare it draws the curves of several networks, all agglomerated by mean, into docs/images/malis.svg.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics import DATA
from napari_em_seg.forest import Forest
from napari_em_seg.io import open_volume
from napari_em_seg.metrics import Scores, contingency, evaluate
from napari_em_seg.pipeline import Prediction, predict_affinities, predict_boundary
from napari_em_seg.pipeline.agglomeration import (
    AffinityPart,
    Fragments,
    agglomerated,
    scores_of_tree,
    train_agglomeration,
)
from napari_em_seg.pipeline.segmentation import DEPTHS
from napari_em_seg.predict.weights import resolve
from napari_em_seg.segment import best_h, region_graph
from napari_em_seg.segment._forest import load_forest
from napari_em_seg.segment.features import FEATURES, features
from napari_em_seg.segment.zwatershed import link_by_size, max_affinity_graph, steepest_ascent

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "affinities.svg"
TUNING, VALIDATION = slice(0, 22), slice(22, 37)
SIZE = (30.0, 6.0, 6.0)
WEIGHTS = tuple(round(0.05 * step, 2) for step in range(1, 20))

Curve = Mapping[float, Scores]
Errors = Mapping[float, float]
"""Adapted Rand error at each threshold."""
Part = tuple[NDArray[Any], NDArray[Any]]
"""Affinities, or a boundary map, and the truth there."""


@dataclass(frozen=True)
class Route:
    """A way to objects: how well each threshold does on training slices, and its curve on validation slices."""

    name: str
    tuned: Callable[[], Errors]
    measured: Callable[[], Curve]


def watershed_only(part: Part) -> Curve:
    """Merge small segments at ever lower affinities; nothing else."""
    affinities, truth = part
    fragments = Fragments()
    basins = steepest_ascent(affinities, fragments.low, fragments.high)
    edges, weights = max_affinity_graph(basins, affinities)
    sizes, overlaps, found = np.bincount(basins.ravel()), contingency(basins, truth), {}
    for weight in WEIGHTS:
        table = link_by_size(edges, weights, sizes, 2000, weight)
        merged_sizes = np.bincount(table, sizes).astype(np.int64)
        table = link_by_size(table[edges], weights, merged_sizes, fragments.crumbs, 0.0)[table]
        found[weight] = evaluate(overlaps.joined(table))
    return found


def merged(score: Any) -> Callable[[Part], Curve]:
    """Agglomerate by a score, and cut the tree at every threshold."""

    def curve(part: Part) -> Curve:
        affinities, truth = part
        labels, tree = agglomerated(affinities, score, quantile=0.75, voxel_size_nm=SIZE)
        return scores_of_tree(labels, tree, truth)

    return curve


def mutex(part: Part) -> Curve:
    """Cluster supervoxels by the mutex watershed: mean affinities above a threshold attract, others repel."""
    from mwatershed import cluster_edges

    affinities, truth = part
    labels = Fragments().of(affinities)
    graph = region_graph(labels, affinities, voxel_size=SIZE)
    mean = features(graph)[:, FEATURES.index("mean_all")].astype(float)
    overlaps, found = contingency(labels, truth), {}
    for bias in WEIGHTS:
        edges = [(w - bias, int(u), int(v)) for w, (u, v) in zip(mean.tolist(), graph.ends, strict=True)]
        clusters = dict(cluster_edges(edges))
        table = np.zeros(int(labels.max()) + 1, np.int64)
        table[graph.labels.astype(np.intp)] = [clusters.get(k, k) + 1 for k in range(len(graph.labels))]
        found[bias] = evaluate(overlaps.joined(table))
    return found


def boundary_route(part: Part) -> Curve:
    boundary, truth = part
    return best_h(boundary, truth, DEPTHS)[1]


def errors(curve: Curve) -> Errors:
    return {threshold: scores.adapted_rand_error for threshold, scores in curve.items()}


def route(name: str, curve: Callable[[Part], Curve], tuning: Part, validation: Part) -> Route:
    return Route(name, lambda: errors(curve(tuning)), lambda: curve(validation))


def forest_of(part: Part, seed: int) -> Forest:
    affinities, truth = part
    with tempfile.TemporaryDirectory() as folder:
        return train_agglomeration(
            Path(folder) / "forest.npz", [AffinityPart(affinities, truth, SIZE)], seed=seed
        )


def learned_route(tuning: Part, validation: Part, given: Path | None, seed: int) -> Route:
    if given is not None:
        return route("+ learned", merged(load_forest(given)), tuning, validation)
    affinities, truth = tuning
    middle = len(truth) // 2
    halves = [(affinities[:, z], truth[z]) for z in (slice(0, middle), slice(middle, None))]

    def tuned() -> Errors:
        found = [errors(merged(forest_of(one, seed))(other)) for one, other in (halves, halves[::-1])]
        plain = [errors(merged("mean")(half)) for half in halves]
        means = [{t: (one[t] + other[t]) / 2 for t in one} for one, other in (found, plain)]
        least, of_mean = (min(mean.values()) for mean in means)
        print(f"on each half of the training slices, learned from the other: {least:.4f}; mean: {of_mean:.4f}")
        return means[0]

    return Route("+ learned", tuned, lambda: merged(forest_of(tuning, seed))(validation))


def _first_three(part: Part) -> Part:
    """Leave long-range affinities and descriptors out."""
    return part[0][:3], part[1]


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    both, merges = figure.subplots(1, 2)
    for name, curve in curves.items():
        order = sorted(curve)
        split, merge = ([getattr(curve[t], key) for t in order] for key in ("vi_split", "vi_merge"))
        both.plot(merge, split, marker=".", label=name)
        merges.plot(np.linspace(0, 1, len(order)), merge, marker=".", label=name)
    both.set(
        xlabel="VI merge (bits)",
        ylabel="VI split (bits)",
        xlim=(0, 1),
        ylim=(0, 2),
        title="Over all thresholds",
    )
    merges.set(xlabel="threshold, from few merges to many", ylabel="VI merge (bits)", ylim=(0, 1),
               title="Under-segmentation")  # fmt: skip
    both.legend(fontsize="small")
    figure.savefig(path)


def compared(models: list[str], predicted: Callable[[str], Part], path: Path) -> None:
    """Print and draw the curves of several networks, given as NAME=FILE."""
    curves: dict[str, Curve] = {}
    print(f"{'network':24} {'at':>6} adapted Rand  VI split  VI merge")
    for name, _, file in (model.partition("=") for model in models):
        curve = curves[name] = merged("mean")(predicted(file or name))
        best = min(curve, key=lambda t: curve[t].adapted_rand_error)
        scores = curve[best]
        print(f"{name:24} {best:6g} {scores.adapted_rand_error:12.4f} {scores.vi_split:9.3f} "
              f"{scores.vi_merge:9.3f}", flush=True)  # fmt: skip
    draw(curves, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="affinity", help="name or file; the bundled one, if none")
    parser.add_argument("--boundary", default="auto", help="name or file of the boundary model")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--cache", type=Path, help="a folder that keeps predictions, to try thresholds sooner")
    parser.add_argument("--forest", type=Path, help="a trained forest; else one is trained")
    parser.add_argument("--seed", type=int, default=0, help="of the forest that is trained")
    parser.add_argument("--compare", nargs="+", metavar="NAME=FILE", help="networks, instead of all else")
    parser.add_argument("--no-forest", action="store_true", help="leave the learned score out")
    arguments = parser.parse_args()
    path = DATA / "ac4_z63-99.h5"
    if not path.exists():
        raise SystemExit(f"The data is not there ({DATA}); EM_SEG_DATA says where it is")
    raw, truth = open_volume(path), open_volume(path, "labels")[:]

    def predicted(function: Any, model: str, part: slice) -> Part:
        name = f"{Path(model).stem}-{part.start}-{part.stop}-{arguments.views}.npy"
        kept = None if arguments.cache is None else arguments.cache / name
        if kept is not None and kept.exists():
            return np.load(kept), truth[part]
        found = function(raw, Prediction((model,), slices=part, views=arguments.views, dtype="float32"))
        if kept is not None:
            np.save(kept, found)
        return found, truth[part]

    if arguments.compare:
        images = FIGURE.with_name("malis.svg")
        compared(
            arguments.compare,
            lambda file: _first_three(predicted(predict_affinities, file, VALIDATION)),
            images,
        )
        return
    tuning, validation = (predicted(predict_affinities, arguments.model, part) for part in (TUNING, VALIDATION))
    tuning, validation = _first_three(tuning), _first_three(validation)
    boundaries = [predicted(predict_boundary, arguments.boundary, part) for part in (TUNING, VALIDATION)]

    print(f"{resolve(arguments.model).name if arguments.model != 'affinity' else 'bundled model'}, "
          f"{arguments.views} views, {os.cpu_count()} cores; thresholds chosen on training slices")  # fmt: skip
    labels = Fragments().of(validation[0])
    oracle = evaluate(contingency(labels, validation[1])).vi_merge
    print(f"{labels.max():,} supervoxels in the validation slices, VI merge {oracle:.3f} before any merge\n")
    print(f"{'route':24} {'at':>6} adapted Rand  V_Rand F  VI split  VI merge     VI   best Rand (at)"
          "  seconds: tuning, result")  # fmt: skip
    routes = [
        route("watershed only", watershed_only, tuning, validation),
        route("+ mean", merged("mean"), tuning, validation),
        route("+ quantile (0.75)", merged("quantile"), tuning, validation),
        *([] if arguments.no_forest else [learned_route(tuning, validation, arguments.forest, arguments.seed)]),
        *([route("+ mutex watershed", mutex, tuning, validation)] if find_spec("mwatershed") else []),
        route("boundary map, H-minima", boundary_route, *boundaries),
    ]
    curves: dict[str, Curve] = {}
    for one in routes:
        start = time.perf_counter()
        tuned = one.tuned()
        middle = time.perf_counter()
        curve = curves[one.name] = one.measured()
        stop = time.perf_counter()
        value = min(tuned, key=lambda t: tuned[t])
        scores, best = curve[value], min(curve, key=lambda t: curve[t].adapted_rand_error)
        print(
            f"{one.name:24} {value:6g} {scores.adapted_rand_error:12.4f} {scores.v_rand_f:9.4f} "
            f"{scores.vi_split:9.3f} {scores.vi_merge:9.3f} {scores.vi:6.3f}   "
            f"{curve[best].adapted_rand_error:.4f} ({best:g}) {middle - start:16.1f} {stop - middle:7.1f}",
            flush=True,
        )
    draw(curves, arguments.figure)


if __name__ == "__main__":
    main()
