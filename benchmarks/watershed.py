"""Time, memory and error of the H-minima watershed, against scikit-image: python benchmarks/watershed.py.

The map is made from the neurons of AC4 (mirrored to fill the shape; without that file, from wavy columns): a
sigmoid of the distance to the nearest membrane within the slice, with smooth noise that opens gaps in membranes
and raises islands in cells. The plain chain: Gaussian per slice (scipy), h_minima, label and watershed, all
with six neighbours.
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
from scipy.special import expit
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from metrics import DATA, peak_memory, real_truth, synthetic_truth
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.segment.hmin import best_h, hmin_watershed

Map = NDArray[np.float32]
Segment = Callable[[Map, float], NDArray[Any]]

CROSS = ndimage.generate_binary_structure(3, 1)
CANDIDATES = np.round(np.geomspace(0.005, 0.4, 20), 4)


def ours_3d(boundary: Map, h: float) -> NDArray[Any]:
    return hmin_watershed(boundary, h, drift=None)


def ours_3d_drift(boundary: Map, h: float) -> NDArray[Any]:
    return hmin_watershed(boundary, h)


def ours_2d(boundary: Map, h: float) -> NDArray[Any]:
    return hmin_watershed(boundary, h, mode="2d")


def chain_3d(boundary: Map, h: float) -> NDArray[Any]:
    smooth = ndimage.gaussian_filter(boundary, (0, 1, 1))
    markers, _ = ndimage.label(h_minima(smooth, h, CROSS), CROSS)
    return watershed(smooth, markers, CROSS)


def chain_2d(boundary: Map, h: float) -> NDArray[Any]:
    labels, first = np.empty(boundary.shape, np.int32), 0
    for plane, out in zip(boundary, labels, strict=True):
        smooth = ndimage.gaussian_filter(plane, 1)
        markers, n = ndimage.label(h_minima(smooth, h, CROSS[1]), CROSS[1])
        out[:] = watershed(smooth, markers, CROSS[1]) + first
        first += n
    return labels


def boundary_map(truth: NDArray[np.uint32], noise: float = 0.8) -> Map:
    """Return probabilities such as a net of moderate quality would give; cells do not all go down to 0.

    Where they do, a depth is a matter of rounding: h_minima keeps all minima of equal height, ours one of them.
    """
    rng = np.random.default_rng(0)
    result = np.empty(truth.shape, np.float32)
    for labels, out in zip(truth, result, strict=True):
        inside = labels > 0
        for axis in (0, 1):
            inside &= (labels == np.roll(labels, 1, axis)) & (labels == np.roll(labels, -1, axis))
        distance = ndimage.distance_transform_edt(inside).astype(np.float32)
        field = np.zeros_like(distance)
        for s in (2, 5):
            field += 3.5 * s * ndimage.gaussian_filter(rng.standard_normal(labels.shape, np.float32), s)
        out[:] = expit(1.2 * (2.5 - np.minimum(distance, 6)) + noise * field)
    return result


def measured(function: Segment, boundary: Map, h: float) -> tuple[float, float, NDArray[Any]]:
    """Return seconds, bytes per voxel beyond what was held before, and the labels."""
    has_proc = Path("/proc/self/clear_refs").exists()
    if has_proc:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory("VmRSS") if has_proc else 0
    start = time.perf_counter()
    labels = function(boundary, h)
    seconds = time.perf_counter() - start
    return seconds, (peak_memory() - before) / boundary.size if has_proc else float("nan"), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(20, 1024, 1024), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)

    is_real = (DATA / "ac4_z00-47.h5").exists()
    truth = (real_truth(shape) if is_real else synthetic_truth(shape)).astype(np.uint32)
    boundary = boundary_map(truth)
    start = time.perf_counter()
    for function in (ours_3d, ours_2d):
        function(boundary[:1], 0.1)
    compiling = time.perf_counter() - start
    start = time.perf_counter()
    h, scores = best_h(boundary, truth, CANDIDATES, drift=None)
    searching = time.perf_counter() - start

    functions = {
        "napari-em-seg 3-D": ours_3d,
        "scikit-image 3-D": chain_3d,
        "napari-em-seg 3-D, drift found": ours_3d_drift,
        "napari-em-seg 2-D": ours_2d,
        "scikit-image 2-D": chain_2d,
    }
    if arguments.ours_only:
        functions = {name: function for name, function in functions.items() if name.startswith("napari")}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    errors = {}
    for _ in range(arguments.runs):
        for name, function in functions.items():
            seconds, memory, labels = measured(function, boundary, h)
            runs[name].append((seconds, memory))
            if name not in errors:
                result = evaluate(contingency(labels.astype(np.uint32, copy=False), truth))
                errors[name] = (result.adapted_rand_error, result.vi_split, result.vi_merge, labels.max())
            del labels

    source = "AC4 mirrored" if is_real else "synthetic"
    print(f"{'×'.join(map(str, shape))} float32, {source}, {os.cpu_count()} cores; h = {h:g}")
    print(f"median time and highest peak of {arguments.runs} runs in alternation")
    print(f"best_h: {len(scores)} depths in {searching:.1f} s, least error {scores[h].adapted_rand_error:.4f}")
    print(f"the first calls, not among them, took {compiling:.1f} s (machine code is kept on disk)\n")
    print(f"{'':31} {'seconds (min–max)':24}  bytes a voxel    Rand  VI split  VI merge  segments")
    for name, results in runs.items():
        seconds = [run[0] for run in results]
        error, split, merge, n = errors[name]
        print(
            f"{name:31} {statistics.median(seconds):7.2f} {f'({min(seconds):.2f}–{max(seconds):.2f})':16}"
            f"  {max(run[1] for run in results):13.1f}  {error:6.4f}  {split:8.4f}  {merge:8.4f}  {n:8,}"
        )
    print("\nBytes beyond the map, at the peak. Rand and VI are against the neurons in 3-D: those of the 2-D")
    print("versions, which link no slices, compare only with each other.")


if __name__ == "__main__":
    main()
