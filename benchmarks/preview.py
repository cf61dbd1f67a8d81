"""How soon the dock Predict shows something: python benchmarks/preview.py [--data ac4.h5].

Each run is a process of its own, which has imported what an open dock has, and no torch. "cold" is its first
preview, torch and the network loaded in it; "warm" is the second one. "first block" is how long the first block
of the whole takes after that, with four views, and "computed" how many voxels the network works on, halos
included, for each voxel of the result. With --threads 1 the seconds are those of the processor, which hardly
depend on what else runs.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Prediction
from napari_em_seg.pipeline.lazy_prediction import LazyPrediction, preview
from napari_em_seg.predict.weights import find_models
from napari_em_seg.volume import Volume

SHAPE = (40, 1024, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an image; without it, noise of 40×1024×1024")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="1: seconds of one core")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one, arguments.data, arguments.threads)))
        return
    what = "seconds of one core" if arguments.threads == 1 else "seconds"
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {what}, median of {arguments.runs} (min–max)"
    )
    print(f"{'model':30} {'preview, px':12} {'cold':>18} {'warm':>18} {'first block':>18}  computed")
    for model in find_models():
        if model.card.task in ("boundary", "affinity"):
            runs = [in_its_own_process(model.name, arguments) for _ in range(arguments.runs)]
            times = "".join(f" {spread([run[what] for run in runs]):>18}" for what in ("cold", "warm", "block"))
            print(f"{model.name:30} {runs[0]['pixels']:12}{times}  {runs[0]['computed']:8.2f}")


def in_its_own_process(name: str, arguments: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--one", name, "--threads", str(arguments.threads)]
    command += ["--data", arguments.data] if arguments.data else []
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if arguments.threads == 1 else {})}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(said.stdout)


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def measured(name: str, data: str | None, threads: int) -> dict:
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    volume = open_volume(data, "image") if data else Volume(noise, (30.0, 6.0, 6.0), "noise")
    middle = len(volume) // 2
    looked_at = (slice(middle, middle + 1), *(slice(0, n) for n in volume.shape[1:]))
    clock = time.process_time if threads == 1 else time.perf_counter
    times = [clock()]
    for _ in range(2):
        place, _ = preview(volume, Prediction((name,)), looked_at)
        times.append(clock())
    whole = LazyPrediction(volume, Prediction((name,)))
    next(whole.blocks(lambda: looked_at))
    times.append(clock())
    tiler = whole._run.tiler
    is_block_net = whole.task == "affinity"  # which works on slices of the halo, too; others only see them
    deep = 2 * tiler.halo[0] if is_block_net else 0
    areas = [math.prod(part.stop - part.start for part in tiler.outer(tile)[1:]) for tile in tiler]
    outer = sum(area * (tile.sizes[0] + deep) for area, tile in zip(areas, tiler, strict=True))
    pixels = "×".join(str(part.stop - part.start) for part in place[1:])
    cold, warm, block = np.diff(times).tolist()
    return {"cold": cold, "warm": warm, "block": block, "pixels": pixels,
            "computed": outer / math.prod(tiler.shape)}  # fmt: skip


if __name__ == "__main__":
    main()
