"""How well boundary models segment slices kept aside: python benchmarks/boundaries.py [MODEL …].

Each model predicts the validation slices of the data that it was trained for, and training slices of the same
stack, on which alone the depth h of the watershed is chosen. AC4: 15 slices, 3-D watershed against neurons in
3-D. ISBI 2012 and VNC: 4 and 3 slices, each slice segmented on its own against what its membranes part.
Several AC4 models give one more row, their ensemble (voxel-wise maximum).
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics import DATA
from napari_em_seg.io import open_volume
from napari_em_seg.metrics import Scores, contingency, evaluate
from napari_em_seg.pipeline import Prediction, predict_boundary
from napari_em_seg.pipeline.segmentation import DEPTHS, sections
from napari_em_seg.predict.weights import find_models, resolve
from napari_em_seg.segment import best_h, hmin_watershed
from napari_em_seg.volume import Volume

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Stack:
    """A stack with its truth, and which of its slices the table is of."""

    title: str
    raw: Volume
    truth: NDArray[Any]
    tuning: slice
    validation: slice
    mode: str


def stacks_of(tissue: str) -> list[Stack]:
    """Return the stacks that belong to a model's tissue."""
    if "mouse" in tissue:
        path = DATA / "ac4_z63-99.h5"
        truth = open_volume(path, "labels")[:]
        return [Stack("AC4", open_volume(path), truth, slice(0, 15), slice(22, 37), "3d")]
    size = (50.0, 4.0, 4.0)
    isbi, vnc = DATA / "isbi2012_z00-14", DATA / "vnc_z00-14"
    return [
        Stack(
            title,
            open_volume(raw).with_voxel_size(size),
            sections(open_volume(membranes)[:]),
            tuning,
            kept,
            "2d",
        )
        for title, raw, membranes, tuning, kept in (
            ("ISBI 2012", isbi / "raw.tif", isbi / "membranes.tif", slice(0, 9), slice(11, 15)),
            ("VNC", vnc / "raw", vnc / "membranes", slice(0, 4), slice(12, 15)),
        )
    ]


def predicted(stack: Stack, part: slice, models: Sequence[str], views: int) -> tuple[Map, float]:
    """Return the map of some slices, and seconds per megapixel."""
    start = time.perf_counter()
    wanted = Prediction(models, slices=part, views=views, dtype="float32", device="auto")
    found: Map = predict_boundary(stack.raw, wanted)
    return found, (time.perf_counter() - start) / found.size * 1e6


def scores_at(boundary: Map, stack: Stack, h: float) -> Scores:
    labels = hmin_watershed(boundary, h, mode=stack.mode)  # type: ignore[arg-type]
    return evaluate(contingency(labels, stack.truth[stack.validation]))


def row(name: str, stack: Stack, tuning: Map, boundary: Map, seconds: float) -> str:
    """Measure at the depth that is best for training slices, and at the best for validation slices."""
    options: Any = {"mode": stack.mode}
    h, _ = best_h(tuning, stack.truth[stack.tuning], DEPTHS, **options)
    scores = scores_at(boundary, stack, h)
    best, table = best_h(boundary, stack.truth[stack.validation], DEPTHS, **options)
    return (
        f"{name:34} {stack.title:10} {h:6.3f} {scores.adapted_rand_error:12.4f} {scores.v_rand_f:9.4f} "
        f"{scores.vi_split:9.3f} {scores.vi_merge:9.3f}   {table[best].adapted_rand_error:.4f} ({best:g})"
        f"{seconds:11.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="names or files; all that are found, if none"
    )
    parser.add_argument("--views", type=int, default=4)
    arguments = parser.parse_args()
    if not DATA.exists():
        raise SystemExit(f"The data is not there ({DATA}); EM_SEG_DATA says where it is")
    names = arguments.models or [str(model.path) for model in find_models() if model.card.task == "boundary"]
    cards = {name: resolve(name).card for name in names}

    print(
        f"{os.cpu_count()} cores, {arguments.views} views; "
        "h chosen on training slices, but for 'at best h', where it is the best for the slices measured\n"
    )
    print(
        f"{'model':34} {'slices of':10} {'h':>6} adapted Rand  V_Rand F  VI split  VI merge   at best h (h)"
        "  s/megapixel"
    )
    together: dict[str, list[tuple[Stack, Map, Map]]] = {}
    for name, card in cards.items():
        for stack in stacks_of(card.tissue):
            tuning, _ = predicted(stack, stack.tuning, [name], arguments.views)
            boundary, seconds = predicted(stack, stack.validation, [name], arguments.views)
            print(row(card.name, stack, tuning, boundary, seconds), flush=True)
            if not card.architecture.startswith("unet"):  # the peer is no part of the ensemble
                together.setdefault(stack.title, []).append((stack, tuning, boundary))
    for entries in together.values():
        if len(entries) > 1:
            tuning, boundary = (np.maximum.reduce([entry[i] for entry in entries]) for i in (1, 2))
            print(row(f"ensemble of the {len(entries)} above", entries[0][0], tuning, boundary, float("nan")))


if __name__ == "__main__":
    main()
