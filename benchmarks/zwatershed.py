"""Time, memory and error of the z-watershed, against waterz in alternation: python benchmarks/zwatershed.py.

The affinities are made from the neurons of AC4 (mirrored to fill the shape; without that file, from the
synthetic sample): the boundary map of watershed.py turned over, low across slices where the neuron changes, and
white noise. waterz is measured where it is installed (pip install waterz). It says when its watershed is done;
that is timed outside. It has no linkage by size: beside our last step it joins segments by mean affinity.
"""

import argparse
import ctypes
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from watershed import boundary_map

from metrics import DATA, peak_memory, real_truth
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.sample import generate
from napari_em_seg.segment.zwatershed import max_affinity_graph, steepest_ascent, zwatershed

Affinities = NDArray[Any]
Labels = NDArray[Any]
Step = Callable[[Affinities], tuple[Labels, float | None]]

LOW, HIGH = 0.1, 0.99
LINKAGE = {"size_threshold": 1000, "weight_threshold": 0.5, "dust": 100}
STAMP = "import sys, time\nfor line in sys.stdin: print(time.perf_counter(), line, end='')"


def made_affinities(truth: NDArray[np.uint32], noise: float = 0.1) -> NDArray[np.float32]:
    """Return affinities such as a net of moderate quality would give."""
    rng = np.random.default_rng(0)
    boundary = np.clip(boundary_map(truth), 1e-4, 1 - 1e-4)
    result = np.empty((3, *truth.shape), np.float32)
    for c, out in enumerate(result):
        for z, plane in enumerate(out):
            beside = boundary[z - 1] if c == 0 else np.roll(boundary[z], 1, c - 1)
            affinity = 1 - np.maximum(boundary[z], beside)
            if c == 0:
                affinity[truth[z] != truth[z - 1]] *= 0.3
            plane[:] = expit(logit(affinity) + noise * rng.standard_normal(plane.shape, np.float32))
    return result


def ours_watershed(affinities: Affinities) -> tuple[Labels, float | None]:
    return steepest_ascent(affinities, LOW, HIGH), None


def ours_graph(affinities: Affinities) -> tuple[Labels, float | None]:
    labels = steepest_ascent(affinities, LOW, HIGH)
    max_affinity_graph(labels, affinities)
    return labels, None


def ours_whole(affinities: Affinities) -> tuple[Labels, float | None]:
    return zwatershed(affinities, low=LOW, high=HIGH, **LINKAGE), None


@contextmanager
def stamped() -> Iterator[list[tuple[float, str]]]:
    """Collect what is written to the standard output, with the time, by a process of its own."""
    lines: list[tuple[float, str]] = []
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile("w+") as stamps:
        clock = subprocess.Popen([sys.executable, "-c", STAMP], stdin=subprocess.PIPE, stdout=stamps)
        if clock.stdin is not None:
            os.dup2(clock.stdin.fileno(), 1)
        try:
            yield lines
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
            clock.communicate()
            stamps.seek(0)
            for line in stamps:
                stamp, _, text = line.partition(" ")
                lines.append((float(stamp), text))


def waterz(affinities: Affinities, threshold: float) -> tuple[Labels, float]:
    """Return the segments up to a score (1 − mean affinity), and the seconds until the watershed was done."""
    from waterz import agglomerate

    with stamped() as lines:
        start = time.perf_counter()
        results = agglomerate(affinities, [threshold], aff_threshold_low=LOW, aff_threshold_high=HIGH)
        labels = next(results)
    return labels, next(stamp for stamp, text in lines if text.startswith("creating region graph")) - start


def waterz_watershed(affinities: Affinities) -> tuple[Labels, float | None]:
    return waterz(affinities, 0)


def waterz_graph(affinities: Affinities) -> tuple[Labels, float | None]:
    return waterz(affinities, 0)[0], None


def waterz_whole(affinities: Affinities) -> tuple[Labels, float | None]:
    return waterz(affinities, 1 - LINKAGE["weight_threshold"])[0], None


def measured(function: Step, affinities: Affinities) -> tuple[float, float, Labels]:
    """Return seconds, bytes per voxel beyond what was held before, and the labels."""
    has_proc = Path("/proc/self/clear_refs").exists()
    if has_proc:
        trim = getattr(
            ctypes.CDLL(None), "malloc_trim", None
        )  # what was freed before must not hide what is used
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory("VmRSS") if has_proc else 0
    start = time.perf_counter()
    labels, part = function(affinities)
    seconds = time.perf_counter() - start if part is None else part
    return seconds, (peak_memory() - before) / labels.size if has_proc else float("nan"), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(20, 1024, 1024), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)

    is_real = (DATA / "ac4_z00-47.h5").exists()
    truth = (real_truth(shape) if is_real else generate(shape).labels).astype(np.uint32)
    floats = made_affinities(truth)
    whole = np.rint(floats * 255).astype(np.uint8)
    start = time.perf_counter()
    for some in (floats[:, :2], whole[:, :2]):
        ours_whole(np.ascontiguousarray(some))
    compiling = time.perf_counter() - start

    functions: dict[str, tuple[Step, Affinities]] = {
        "watershed: napari-em-seg": (ours_watershed, floats),
        "watershed: waterz": (waterz_watershed, floats),
        "watershed: napari-em-seg, uint8": (ours_watershed, whole),
        "+ graph:   napari-em-seg": (ours_graph, floats),
        "+ graph:   waterz": (waterz_graph, floats),
        "+ graph:   napari-em-seg, uint8": (ours_graph, whole),
        "whole:     napari-em-seg": (ours_whole, floats),
        "whole:     waterz, mean affinity": (waterz_whole, floats),
        "whole:     napari-em-seg, uint8": (ours_whole, whole),
    }
    if importlib.util.find_spec("waterz") is None:
        print("waterz is not installed: only ours is measured")
        functions = {name: item for name, item in functions.items() if "waterz" not in name}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    results, basins = {}, {}
    for _ in range(arguments.runs):
        for name, (function, affinities) in functions.items():
            seconds, memory, labels = measured(function, affinities)
            runs[name].append((seconds, memory))
            if name not in results:
                labels = labels.astype(np.uint32)
                scores = evaluate(contingency(labels, truth))
                results[name] = (
                    scores.vi_split,
                    scores.vi_merge,
                    np.count_nonzero(np.bincount(labels.ravel())[1:]),
                )
                if name in ("watershed: napari-em-seg", "watershed: waterz"):
                    basins[name] = labels
            del labels

    print(f"{'×'.join(map(str, shape))}, {'AC4 mirrored' if is_real else 'synthetic'}, {os.cpu_count()} cores; "
          f"low {LOW}, high {HIGH}, {LINKAGE}")  # fmt: skip
    print(f"median time and highest peak of {arguments.runs} runs in alternation")
    print(f"the first calls, not among them, took {compiling:.1f} s (machine code is kept on disk)\n")
    print(f"{'':33} {'seconds (min–max)':24}  bytes a voxel  VI split  VI merge   segments")
    for name, measures in runs.items():
        seconds = [run[0] for run in measures]
        split, merge, n = results[name]
        print(
            f"{name:33} {statistics.median(seconds):7.2f} {f'({min(seconds):.2f}–{max(seconds):.2f})':16}"
            f"  {max(run[1] for run in measures):13.1f}  {split:8.4f}  {merge:8.4f}  {n:9,}"
        )
    print("\nBytes beyond the affinities, at the peak; that of the watershed of waterz includes its graph.")
    if len(basins) == 2:
        one, two = basins.values()
        scores = evaluate(contingency(one, two))
        n_other = np.count_nonzero((one == 0) != (two == 0))
        print(
            f"Watersheds of floats: VI {scores.vi:.1g} between both, {n_other} voxels background in only one."
        )


if __name__ == "__main__":
    main()
