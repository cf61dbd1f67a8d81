"""Time and memory of the measures, against scikit-image in alternation: python benchmarks/metrics.py."""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information

from napari_em_seg.metrics import contingency, evaluate, per_object, per_segment, plausibility

Labels = NDArray[np.uint64]
Result = tuple[float, float, float]

DATA = Path(os.environ.get("EM_SEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
BACKGROUND = "label"  # what scikit-image makes of 0 in the segmentation


def ours(segmentation: Labels, truth: Labels) -> Result:
    table = contingency(segmentation, truth, background=BACKGROUND)
    scores = evaluate(table)
    per_object(table)
    per_segment(table)
    return scores.adapted_rand_error, scores.vi_split, scores.vi_merge


def scikit_image(segmentation: Labels, truth: Labels) -> Result:
    table = contingency_table(truth, segmentation, ignore_labels=[0], sparse_type="array")
    error, _, _ = adapted_rand_error(table=table)
    split, merge = variation_of_information(truth, segmentation, table=table / table.sum())
    return error, split, merge


def real_truth(shape: tuple[int, ...]) -> Labels:
    """Return the neurons of AC4, mirrored at the ends to fill the shape."""
    parts = []
    for name in ("ac4_z00-47.h5", "ac4_z63-99.h5"):
        with h5py.File(DATA / name) as file:
            parts.append(file["volumes/labels/neuron_ids"][:])
    labels = np.concatenate(parts)
    for axis, length in enumerate(shape):
        ramp = np.arange(length) % (2 * labels.shape[axis])
        labels = labels.take(np.minimum(ramp, 2 * labels.shape[axis] - 1 - ramp), axis=axis)
    return labels.astype(np.uint64)


def synthetic_truth(shape: tuple[int, ...]) -> Labels:
    """Return wavy columns about 60 voxels wide, with background between them."""
    z, y, x = (np.arange(length) for length in shape)
    y = y[:, None] + 12 * np.sin(x / 40).astype(int) + 2 * z[:, None, None]
    x = x + 9 * np.sin(np.arange(shape[1]) / 30).astype(int)[:, None] + z[:, None, None]
    inside = (y % 60 > 3) & (x % 60 > 3)
    return np.where(inside, 1 + (y // 60) * (shape[2] // 60 + 8) + x // 60, 0).astype(np.uint64)


def perturbed(truth: Labels) -> Labels:
    """Return a segmentation as watersheds give it: borders moved, objects cut in blocks, some ids merged."""
    moved = np.roll(truth, (3, 2), axis=(1, 2))
    z, y, x = (np.arange(length) for length in truth.shape)
    blocks = (z[:, None, None] // 16 * 7 + y[:, None] // 200 * 3 + x // 200) % 5
    cut = np.where(moved > 0, moved * np.uint64(5) + blocks.astype(np.uint64), 0)
    merged = np.arange(int(cut.max()) + 1, dtype=np.uint64)
    merged[60::40] = merged[20:-40:40]
    return merged[cut]


def peak_memory(key: str = "VmHWM") -> int:
    """Return the most memory that this process held since it was last reset, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measured(function: Callable[..., Result], *labels: Labels) -> tuple[float, float, Result]:
    """Return seconds, MB beyond what was held before, and the result."""
    has_proc = Path("/proc/self/clear_refs").exists()
    if has_proc:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory("VmRSS") if has_proc else 0
    start = time.perf_counter()
    result = function(*labels)
    seconds = time.perf_counter() - start
    return seconds, (peak_memory() - before) / 1e6 if has_proc else float("nan"), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(100, 1024, 1024), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)

    is_real = (DATA / "ac4_z00-47.h5").exists()
    truth = real_truth(shape) if is_real else synthetic_truth(shape)
    segmentation = perturbed(truth)
    first, _, _ = measured(ours, segmentation[:1], truth[:1])

    runs: dict[str, list[tuple[float, float, Result]]] = {"napari-em-seg": [], "scikit-image": []}
    for _ in range(arguments.runs):
        runs["napari-em-seg"].append(measured(ours, segmentation, truth))
        runs["scikit-image"].append(measured(scikit_image, segmentation, truth))

    pairs = len(contingency(segmentation, truth, background=BACKGROUND).counts)
    print(
        f"{'×'.join(map(str, shape))} uint64, {'AC4 mirrored' if is_real else 'synthetic'} and perturbed, "
        f"{pairs:,} pairs, inputs {2 * truth.nbytes / 1e6:,.0f} MB, {os.cpu_count()} cores"
    )
    print(f"median time and highest peak of {arguments.runs} runs in alternation")
    print(f"the first call, not among them, took {first:.1f} s to compile\n")
    print(f"{'':14}  seconds (min–max)      peak beyond inputs  adapted Rand  VI split  VI merge")
    for name, results in runs.items():
        seconds = [run[0] for run in results]
        spread = f"({min(seconds):.2f}–{max(seconds):.2f})"
        memory = f"{max(run[1] for run in results):,.1f} MB"
        error, split, merge = results[-1][2]
        print(
            f"{name:14}  {statistics.median(seconds):7.2f} {spread:13}  {memory:>18}"
            f"  {error:12.6f}  {split:8.5f}  {merge:8.5f}"
        )
    print("\nOurs with the tables per object and per segment; scikit-image with one table for both measures.")
    looks = [measured(lambda labels: (plausibility(labels, (30, 6, 6)).length_um.sum(), 0, 0), segmentation)
             for _ in range(arguments.runs)]  # fmt: skip
    seconds, peak = statistics.median(run[0] for run in looks), max(run[1] for run in looks)
    print(f"\nWithout a truth: {seconds:.2f} s, {peak:,.1f} MB beyond the input")


if __name__ == "__main__":
    main()
