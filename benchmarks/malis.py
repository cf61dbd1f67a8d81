"""Time of the MALIS weights on one core, against scipy's spanning trees alone: python benchmarks/malis.py.

The objects are neurons of AC4 (mirrored to fill the shape; without that file, synthetic ones), the affinities
those of a net of moderate quality: the sigmoid of blurred true affinities with smooth and with fine noise. The
plain way takes scipy's minimum spanning tree twice, with the edges of constrained MALIS; that finds the maximin
edges, but does not yet count the pairs of voxels that each decides.
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
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import expit

from napari_em_seg.io import open_volume
from napari_em_seg.predict.affinities import affinity_labels, local_shape_descriptors
from napari_em_seg.predict.malis import malis_pairs, malis_weights
from napari_em_seg.sample import generate

DATA = Path(os.environ.get("EM_SEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = DATA / "ac4_z00-47.h5"
VOXEL_SIZE_NM = (30.0, 6.0, 6.0)

Ids = NDArray[Any]
Affinities = NDArray[np.float32]


def real_ids(shape: tuple[int, ...]) -> Ids:
    """Return neurons around the middle of AC4, mirrored at the ends to fill the shape."""
    volume = open_volume(f"{REAL}/volumes/labels/neuron_ids", kind="labels")
    starts = [max(0, (n - m) // 2) for n, m in zip(volume.shape, shape, strict=True)]
    ids = volume[tuple(slice(start, start + m) for start, m in zip(starts, shape, strict=True))]
    for axis, length in enumerate(shape):
        ramp = np.arange(length) % (2 * ids.shape[axis])
        ids = ids.take(np.minimum(ramp, 2 * ids.shape[axis] - 1 - ramp), axis=axis)
    return ids


def noisy_affinities(ids: Ids) -> Affinities:
    rng = np.random.default_rng(0)
    logits = 8 * (ndimage.gaussian_filter(affinity_labels(ids)[0].astype(np.float32), (0, 0, 1, 1)) - 0.5)
    for sigma, strength in ((1, 1.2), (0, 0.3)):
        noise = ndimage.gaussian_filter(
            rng.standard_normal(logits.shape, np.float32), (0, sigma / 2, sigma, sigma)
        )
        logits += strength * noise / noise.std()
    return expit(logits)


def scipy_trees(affinities: Affinities, ids: Ids) -> tuple[Any, Any]:
    """Return the maximum spanning trees of the positive and the negative pass; absent edges are 0, so add 1."""
    is_within, known = affinity_labels(ids)
    v = [np.flatnonzero(each) for each in known]
    steps = [ids[0].size, ids.shape[2], 1]
    ends = np.concatenate(v), np.concatenate([each - step for each, step in zip(v, steps, strict=True)])
    cost, within = 2 - affinities[known], is_within[known] > 0
    trees = []
    for chosen, weights in ((within, cost), (slice(None), np.where(within, np.float32(1), cost))):
        graph = csr_array((weights[chosen], (ends[0][chosen], ends[1][chosen])), (ids.size, ids.size))
        trees.append(minimum_spanning_tree(graph))
    return trees[0], trees[1]


def descriptors(_: Affinities, ids: Ids) -> NDArray[np.float32]:
    return local_shape_descriptors(ids, voxel_size_nm=VOXEL_SIZE_NM)


def seconds(function: Callable[[Affinities, Ids], Any], affinities: Affinities, ids: Ids) -> float:
    start = time.perf_counter()
    function(affinities, ids)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 128), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ours-only", action="store_true")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)

    is_real = REAL.exists()
    ids = real_ids(shape) if is_real else generate(shape).labels
    affinities = noisy_affinities(ids)
    functions: dict[str, Callable[[Affinities, Ids], Any]] = {
        "MALIS weights, both passes": malis_weights,
        "scipy, both spanning trees": scipy_trees,
        "local shape descriptors": descriptors,
    }
    if arguments.ours_only:
        del functions["scipy, both spanning trees"]
    small = np.s_[:2, :32, :32]
    compiling = sum(seconds(f, affinities[:, *small].copy(), ids[small]) for f in functions.values())
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(arguments.runs):
        for name, function in functions.items():
            runs[name].append(seconds(function, affinities, ids))

    true, known = affinity_labels(ids)
    wrong = ((affinities > 0.5) != true)[known].mean()
    positive, negative = malis_pairs(affinities, ids)
    source, n_ids = "AC4 mirrored" if is_real else "synthetic", len(np.unique(ids))
    print(f"{'×'.join(map(str, shape))}, {source}: {n_ids:,} ids, {(ids == 0).mean():.0%} background")
    print(f"{known.sum():,} edges, {wrong:.1%} on the wrong side of 0.5")
    print(f"{positive.sum():,} positive pairs at {(positive > 0).sum():,} edges, ", end="")
    print(f"{negative.sum():,} negative at {(negative > 0).sum():,}")
    print(f"one thread; median of {arguments.runs} runs in alternation; {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"the first calls, not among them, took {compiling:.1f} s (machine code is kept on disk)\n")
    print(f"{'':28} seconds (min–max)")
    for name, times in runs.items():
        print(f"{name:28} {statistics.median(times):7.2f} ({min(times):.2f}–{max(times):.2f})")


if __name__ == "__main__":
    main()
