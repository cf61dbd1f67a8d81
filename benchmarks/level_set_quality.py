"""What hypotheses of a boundary map hold of the truth, over settings: python benchmarks/level_set_quality.py.

Counted is the share of true sections (connected within a slice, more than 50 pixels) of which some hypothesis
has an IoU above 0.75. The slices are those of AC4 that models learned from, since defaults were chosen by this;
their map is predicted by the bundled model, unless there is one already (`predict --slices 0:22 --views 1`).
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from skimage.measure import label

from napari_em_seg.assign.hypotheses import Hypotheses, joined
from napari_em_seg.assign.level_sets import level_set_regions
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Prediction, predict_boundary

Map = NDArray[Any]
DATA = Path(os.environ.get("EM_SEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
SMOOTHNESS = 0.05


def sections(truth: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sections of a slice of more than 50 pixels, from 1 on, and their sizes."""
    found: Any = label(truth.astype(np.int64), background=0, connectivity=1)
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    number = np.where(sizes > 50, np.cumsum(sizes > 50), 0)
    return number[found], sizes[sizes > 50]


def best_overlaps(
    found: Hypotheses, numbers: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the largest IoU of each section of the one slice with a hypothesis."""
    n, nodes = len(found), found.nodes[0]
    is_both = (nodes >= 0) & (numbers > 0)
    at = nodes[is_both], numbers[is_both] - 1
    own = sparse.csr_array((np.ones(len(at[0])), at), shape=(n, len(sizes)))
    held = [(j, i) for i in range(n) for j in found.path(i)]
    holds = sparse.csr_array((np.ones(len(held)), np.transpose(held)), shape=(n, n))
    shared = (holds @ own).tocoo()
    rows, columns = shared.coords
    best = np.zeros(len(sizes))
    np.maximum.at(best, columns, shared.data / (found.area[rows] + sizes[columns] - shared.data))
    return best


def settings() -> Iterator[dict[str, Any]]:
    usual = {"smoothness": SMOOTHNESS, "n_levels": 100, "grow": 2}
    for smoothness in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        yield {**usual, "smoothness": smoothness}
    for n_levels in (25, 50, 200, 400):
        yield {**usual, "n_levels": n_levels}
    for grow in (0, 1, 3, 4):
        yield {**usual, "grow": grow}
    yield {**usual, "connectivity": 8}
    yield {**usual, "max_depth": 5}
    yield {**usual, "max_depth": None}


def measure_quality(boundary: Map, truth: NDArray[Any]) -> None:
    """Print what hypotheses hold of the truth over settings."""
    true = [sections(plane) for plane in truth]
    n_sections = sum(len(sizes) for _, sizes in true)
    print(f"{len(truth)} slices, {n_sections:,} sections")
    print(f"{'IoU > 0.75':>10} {'> 0.5':>7} {'mean':>6} {'hypotheses a slice':>19}")
    for chosen in settings():
        best, n = [], 0
        for plane, (numbers, sizes) in zip(boundary, true, strict=True):
            found = joined([level_set_regions(plane, **chosen)])
            n += len(found)
            best.append(best_overlaps(found, numbers, sizes))
        every = np.concatenate(best)
        text = ", ".join(f"{key} {value}" for key, value in chosen.items())
        shares = f"{(every > 0.75).mean():10.3f} {(every > 0.5).mean():7.3f} {every.mean():6.3f}"
        print(f"{shares} {n / len(truth):19.0f}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map", type=Path, nargs="?", help="a boundary map of the slices")
    parser.add_argument("truth", type=Path, nargs="?", default=DATA / "ac4_z63-99.h5", help="neurons")
    parser.add_argument("--slices", type=int, nargs=2, default=(0, 22), help="of the truth")
    arguments = parser.parse_args()
    if not arguments.truth.exists():
        raise SystemExit(f"The data is not there ({arguments.truth}); EM_SEG_DATA says where it is")
    part = slice(*arguments.slices)
    if arguments.map is None:
        boundary = predict_boundary(open_volume(arguments.truth), Prediction(slices=part, views=1))
    else:
        boundary = open_volume(arguments.map)[:]
    measure_quality(boundary, open_volume(arguments.truth, "labels")[part])


if __name__ == "__main__":
    main()
