"""Meshes and skeletons: tubes of known length, and how long the objects of a segmentation take.

Run: .venv/bin/python benchmarks/shapes.py [LABELS[,A:B]] [--least 1000]

Tubes have a radius of 80 nm in voxels of 30 × 6 × 6 nm; their length counts their round ends. Without LABELS
the synthetic sample is taken. Times are those of the processor.
"""

import argparse
import time

import numpy as np

from napari_em_seg.pipeline import sample_volumes
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.shapes import find_objects, skeletonise, surface_of

SIZE = (30.0, 6.0, 6.0)
RADIUS = 80.0
TUBES = {
    "across slices": ((150, 300, 300), (1400, 300, 300)),
    "along x": ((300, 100, 100), (300, 100, 900)),
    "2 slices in 1,100 nm": ((300, 100, 100), (360, 800, 900)),
    "24°": ((300, 100, 100), (700, 600, 800)),
    "61°": ((100, 200, 100), (1000, 200, 600)),
}


def tube(start: tuple[float, ...], stop: tuple[float, ...]) -> np.ndarray:
    grid = (np.stack(np.meshgrid(*map(np.arange, (50, 170, 170)), indexing="ij"), -1) + 0.5) * SIZE
    a, b = np.array(start, float), np.array(stop, float)
    share = np.clip(((grid - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
    return (np.linalg.norm(grid - a - share[..., None] * (b - a), axis=-1) <= RADIUS).astype(np.uint8)


def tubes() -> None:
    print("| tube | length (nm) | skeleton (nm) | difference | ends |\n| --- | --- | --- | --- | --- |")
    for name, (start, stop) in TUBES.items():
        length = float(np.linalg.norm(np.subtract(start, stop))) + 2 * RADIUS
        found = skeletonise(find_objects(tube(start, stop)).runs(0), SIZE, constant_nm=100)
        share = found.length_nm / length - 1
        print(f"| {name} | {length:.0f} | {found.length_nm:.0f} | {share:+.1%} | {found.n_ends} |")


def objects(text: str | None, least: int) -> None:
    labels = sample_volumes()[1] if text is None else open_labels(text)
    found = find_objects(labels, least=least)
    size, columns = labels.voxel_size_nm or SIZE, []
    for place in range(len(found)):
        runs = found.runs(place)
        began = time.process_time()
        _, triangles = surface_of(runs, size)
        half = time.process_time()
        skeleton = skeletonise(runs, size)
        columns.append((half - began, time.process_time() - half, len(triangles), skeleton.length_nm,
                        skeleton.n_ends, skeleton.n_trees))  # fmt: skip
    table, voxels = np.array(columns), found.voxels
    print(f"\n{len(found)} objects of {least} voxels or more, {voxels.sum():,} voxels in all")
    largest, small = voxels.argmax(), voxels < 100_000
    print("| | s | µs a voxel | of the largest object | the dearest | median below 100,000 voxels |")
    print("| --- " * 6 + "|")
    for name, column in (("meshes", 0), ("skeletons", 1)):
        seconds = table[:, column]
        each = 1e6 * seconds / voxels
        micros = 1e6 * seconds.sum() / voxels.sum(), each[largest], each.max(), np.median(each[small])
        print(f"| {name} | {seconds.sum():.0f} | {' | '.join(f'{value:.1f}' for value in micros)} |")
    n_triangles = table[:, 2].sum()  # 13 bytes each in PLY, and 12 for half a corner
    print(f"{n_triangles:,.0f} triangles ({19e-6 * n_triangles:.0f} MB as PLY)")
    print(f"{table[:, 3].sum() / 1e3:,.0f} µm of skeletons, {table[:, 4].sum():.0f} ends, "
          f"{table[:, 5].sum():.0f} trees")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="?")
    parser.add_argument("--least", type=int, default=1000)
    arguments = parser.parse_args()
    skeletonise(find_objects(np.ones((2, 4, 4), np.uint8)).runs(0), SIZE)  # compiled by then
    tubes()
    objects(arguments.labels, arguments.least)


if __name__ == "__main__":
    main()
