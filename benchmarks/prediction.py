"""How long the bundled boundary models take on this machine: python benchmarks/prediction.py [--slices N]."""

import argparse
import os
import statistics
import time

import numpy as np

from napari_em_seg.pipeline import Prediction, predict_boundary
from napari_em_seg.predict.weights import find_models
from napari_em_seg.volume import Volume

SHAPE = (100, 1024, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (arguments.slices, *SHAPE[1:]), np.uint8)
    volume = Volume(image, (30.0, 6.0, 6.0), "noise")
    print(f"{arguments.slices}×1024×1024, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"median of {arguments.runs} runs, models and views in alternation\n")
    print(f"{'model':34} views  seconds a slice (min–max)  100 slices, minutes")
    cases = [(model.name, n) for model in find_models() if model.card.task == "boundary" for n in (1, 4, 16)]
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(arguments.runs):
        for name, views in cases:
            start = time.perf_counter()
            predict_boundary(volume, Prediction((name,), views=views, device=arguments.device))
            times[name, views].append((time.perf_counter() - start) / arguments.slices)
    for (name, views), seconds in times.items():
        middle = statistics.median(seconds)
        spread = f"({min(seconds):.2f}–{max(seconds):.2f})"
        print(f"{name:34} {views:5}  {middle:15.2f} {spread:13} {middle * SHAPE[0] / 60:15.1f}")


if __name__ == "__main__":
    main()
