"""Time, memory and agreement of segmentation in blocks with that of the whole: python benchmarks/blocks.py.

The affinities are those of benchmarks/zwatershed.py, made from the neurons of AC4 (mirrored to fill the shape;
without that file, from the synthetic sample), in an HDF5 file. Supervoxels are by the z-watershed with the
settings of the command line, merges by mean affinity. All at once: affinities and labels in memory. In blocks:
affinities read from the file, labels written to another one, blocks kept in a folder.

Both are compared by the variation of information (VI, in bits): split is what blocks divide and the whole does
not, merge the other way round. Each voxel has its part in it; near are those voxels that two blocks read.
"""

import argparse
import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from zwatershed import made_affinities

from metrics import DATA, peak_memory, real_truth
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.agglomeration import Fragments
from napari_em_seg.sample import generate
from napari_em_seg.segment import MergeTree, agglomerate, region_graph
from napari_em_seg.segment.blocks import segment_in_blocks

Labels = NDArray[np.uint32]
Shape = tuple[int, int, int]
Result = tuple[Any, MergeTree]

THRESHOLDS = (0.3, 0.5, 0.7)


def whole(affinities: h5py.Dataset) -> Result:
    values = affinities[:]
    labels = Fragments().of(values)
    return labels, agglomerate(region_graph(labels, values))


def in_blocks(
    affinities: h5py.Dataset, folder: Path, out: h5py.Dataset, block: Shape, overlap: Shape, threads: int
) -> Result:
    return segment_in_blocks(
        affinities, folder, Fragments().of, block=block, overlap=overlap, out=out, threads=threads
    )


def measured(function: Callable[[], Result]) -> tuple[float, float, Result]:
    """Return seconds, MB beyond what was held before, and the result."""
    has_proc = Path("/proc/self/clear_refs").exists()
    if has_proc:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # what was freed before must not hide what is used
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory("VmRSS") if has_proc else 0
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    return seconds, (peak_memory() - before) / 1e6 if has_proc else float("nan"), result


def near(shape: tuple[int, ...], block: Shape, overlap: Shape) -> NDArray[np.bool_]:
    """Say which voxels more than one block reads."""
    result = np.zeros(shape, np.bool_)
    for axis, (step, margin) in enumerate(zip(block, overlap, strict=True)):
        for border in range(step, shape[axis], step):
            np.moveaxis(result, axis, 0)[max(border - margin, 0) : border + margin] = True
    return result


def bits(one: Labels, other: Labels) -> NDArray[np.float64]:
    """Return what each voxel adds to the VI."""
    keys = one.astype(np.uint64) << np.uint64(32) | other
    _, pair, n = np.unique(keys, return_inverse=True, return_counts=True)
    pair = pair.reshape(one.shape)
    sizes = np.bincount(one.reshape(-1))[one] * np.bincount(other.reshape(-1))[other].astype(np.float64)
    return np.log2(sizes / n[pair].astype(np.float64) ** 2) / one.size


def agreement(blocks: Labels, expected: Labels, is_near: NDArray[np.bool_]) -> str:
    """Return VI between both, its share near borders, and VI of the rest of the volume on its own."""
    scores = evaluate(contingency(blocks, expected, ignore_truth=(), background="label"))
    parts = bits(blocks, expected)
    share = f"{100 * parts[is_near].sum() / parts.sum():6.1f}" if parts.sum() > 1e-9 else "     –"
    far = evaluate(contingency(blocks[~is_near], expected[~is_near], ignore_truth=(), background="label")).vi
    return f"{scores.vi:8.4f} {scores.vi_split:8.4f} {scores.vi_merge:8.4f}  {share} {far:9.4f}"


def against_truth(labels: Labels, truth: Labels) -> str:
    scores = evaluate(contingency(labels, truth))
    return f"{scores.vi_split:9.4f} {scores.vi_merge:8.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--block", type=int, nargs=3, default=(8, 256, 256), metavar=("Z", "Y", "X"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    shape, block, runs = tuple(arguments.shape), tuple(arguments.block), arguments.runs
    overlaps = [(0, 0, 0), *((b // k, h // k, w // k) for k in (8, 4, 2) for b, h, w in (block,))]

    is_real = (DATA / "ac4_z00-47.h5").exists()
    truth = (real_truth(shape) if is_real else generate(shape).labels).astype(np.uint32)
    start = time.perf_counter()
    some = np.random.default_rng(0).random((3, 4, 16, 16), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        segment_in_blocks(some, Path(folder), Fragments().of, block=(4, 8, 16), overlap=(0, 2, 0))
    compiling = time.perf_counter() - start

    times: dict[Shape | None, list[tuple[float, float]]] = {key: [] for key in (None, *overlaps)}
    results: dict[Shape | None, tuple[Labels, MergeTree, float]] = {}
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "volumes.h5", "w") as file:
        affinities = file.create_dataset("affinities", data=made_affinities(truth))
        for run in range(runs):
            for overlap in times:
                kept = Path(folder) / f"{run}-{overlap}"
                out = file.create_dataset(kept.name, shape, np.uint32)
                seconds, memory, (labels, tree) = measured(
                    (lambda: whole(affinities)) if overlap is None
                    else lambda kept=kept, out=out, overlap=overlap: in_blocks(
                        affinities, kept, out, block, overlap, arguments.threads
                    )
                )  # fmt: skip
                times[overlap].append((seconds, memory))
                n_bytes = sum(path.stat().st_size for path in kept.iterdir()) if kept.exists() else 0
                results.setdefault(overlap, (labels[:], tree, n_bytes / 1e6))

    print(f"{'×'.join(map(str, shape))} float32, {'AC4' if is_real else 'synthetic'}, {os.cpu_count()} cores; "
          f"blocks of {'×'.join(map(str, block))}, threads: {arguments.threads}")  # fmt: skip
    print(f"median time and highest peak of {runs} runs in alternation")
    print(f"the first calls, not among them, took {compiling:.1f} s (machine code is kept on disk)\n")
    print(f"{'overlap':14} {'seconds (min–max)':22} peak MB  folder MB  supervoxels")
    for overlap, measures in times.items():
        seconds, peaks = zip(*measures, strict=True)
        name = "all at once" if overlap is None else "×".join(map(str, overlap))
        span, (labels, _, size) = f"({min(seconds):.2f}–{max(seconds):.2f})", results[overlap]
        print(f"{name:14} {statistics.median(seconds):6.2f} {span:15} {max(peaks):7.0f}  {size:9.1f} "
              f"{labels.max():12,}")  # fmt: skip

    expected, expected_tree, _ = results.pop(None)
    print(f"\n{'':22}{'VI between blocks and all at once':36}{'VI, rest':>7}"
          " | VI against neurons: blocks, all at once")  # fmt: skip
    print(f"{'overlap':14} {'cut at':6} {'both':>8} {'split':>8} {'merge':>8} {'% near':>7} {'alone':>9} | "
          f"{'split':>8} {'merge':>8} {'split':>9} {'merge':>8}")  # fmt: skip
    for overlap, (labels, tree, _) in results.items():
        is_near = near(shape, block, overlap)
        name = f"{'×'.join(map(str, overlap)):14}"
        if is_near.all():
            is_near[:] = False
        print(f"{name} uncut  {agreement(labels, expected, is_near)} |")
        for threshold in THRESHOLDS:
            found, other = tree.apply(labels, threshold), expected_tree.apply(expected, threshold)
            print(f"{name} {threshold:5.1f}  {agreement(found, other, is_near)} |{against_truth(found, truth)} "
                  f"{against_truth(other, truth)}")  # fmt: skip
        print(f"{'':14} voxels near borders: {100 * near(shape, block, overlap).mean():.1f} %")


if __name__ == "__main__":
    main()
