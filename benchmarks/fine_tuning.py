"""How much fine-tuning on two painted slices helps: python benchmarks/fine_tuning.py.

The Drosophila nerve cord (VNC), of which slices 0 to 11 may be learned from, and 12 to 14 are measured. The
bundled model that "auto" takes there has learned from slices 0 to 11 of this very stack; so as to be an honest
case the model of mouse cortex (AC4) is fine-tuned, which has never seen such tissue, and that other one is
shown beside it. Two slices are painted: "dense", all sections between the true membranes, or "scribbles", a few
strokes along membranes and within cells, drawn at random from the truth. The depth h of the watershed is the
best on these two slices, by their truth. Each slice is segmented on its own.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from boundaries import Stack, predicted, row
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from metrics import DATA
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline.fine_tuning import FineTuning, fine_tune
from napari_em_seg.pipeline.painted import INSIDE, MEMBRANE
from napari_em_seg.pipeline.segmentation import sections

BEGIN, NATIVE = "deepem3d-small-s3-ac4", "deepem3d-small-s3-drosophila"
PAINTED, MEASURED = (3, 8), slice(12, 15)
SIZE = (50.0, 4.6, 4.6)
STROKES, LENGTH, MEMBRANE_PX, INSIDE_PX = 15, 80, 3, 7
"""Of each kind on each slice; their length and width in pixels."""


def scribbled(membranes: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw strokes along membranes, and within cells, of a slice."""
    is_membrane = membranes != 0
    depth = ndimage.distance_transform_edt(~is_membrane)
    out = np.zeros(membranes.shape, np.uint8)
    for kind, ground, width in (
        (INSIDE, depth > INSIDE_PX, INSIDE_PX),
        (MEMBRANE, skeletonize(is_membrane), MEMBRANE_PX),
    ):
        for _ in range(STROKES):
            start = tuple(rng.choice(np.argwhere(ground)))
            stroke = np.zeros(out.shape, bool)
            y, x = (slice(max(0, v - LENGTH // 2), v + LENGTH // 2) for v in start)
            stroke[y, x] = ground[y, x]
            numbered, _ = ndimage.label(stroke, np.ones((3, 3)))
            stroke = numbered == numbered[start]
            if kind == INSIDE:  # one line through the cell, not all of it
                stroke &= np.abs(np.arange(len(out))[:, None] - start[0]) <= 1
            brush = ndimage.distance_transform_edt(~stroke) <= width / 2
            out[brush & (is_membrane if kind == MEMBRANE else ~is_membrane)] = kind
    return out


def painted(membranes: NDArray[np.generic], how: str, seed: int) -> NDArray[np.int32]:
    """Return the labels that somebody would have painted."""
    labels = np.zeros(membranes.shape, np.int32)
    rng = np.random.default_rng(seed)
    whole = sections(membranes)
    for z in PAINTED:
        labels[z] = whole[z] if how == "dense" else scribbled(membranes[z], rng)
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", nargs="*", default=["dense", "scribbles"], metavar="dense|scribbles")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=FineTuning.learning_rate)
    parser.add_argument("--folder", type=Path, help="where weights and checkpoints are to stay")
    parser.add_argument("--without-native", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="fine-tuning-"))
    folder.mkdir(parents=True, exist_ok=True)
    raw = open_volume(DATA / "vnc_z00-14" / "raw").with_voxel_size(SIZE)
    membranes = open_volume(DATA / "vnc_z00-14" / "membranes")[:]
    stack = Stack("VNC", raw, sections(membranes), slice(0, 0), MEASURED, "2d")

    def measure(name: str, model: str) -> None:
        maps = [predicted(stack, slice(z, z + 1), [model], arguments.views)[0] for z in PAINTED]
        truth = np.concatenate([stack.truth[z : z + 1] for z in PAINTED])
        boundary, seconds = predicted(stack, MEASURED, [model], arguments.views)
        tuned = Stack(
            "VNC", raw, np.concatenate([truth, stack.truth[MEASURED]]), slice(0, 2), slice(2, 5), "2d"
        )
        print(row(name, tuned, np.concatenate(maps), boundary, seconds), flush=True)

    print(f"slices {MEASURED.start} to {MEASURED.stop - 1}; painted {PAINTED}; {arguments.threads} threads, "
          f"{arguments.minutes:g} min\n")  # fmt: skip
    print(f"{'model':34} {'slices of':10} {'h':>6} adapted Rand  V_Rand F  VI split  VI merge   at best h (h)"
          "  s/megapixel")  # fmt: skip
    measure("AC4 model, as it comes", BEGIN)
    for how in arguments.how:
        out = folder / f"{how}.safetensors"
        labels = painted(membranes, how, arguments.seed)
        tuning = FineTuning(
            "objects" if how == "dense" else "scribbles", BEGIN, arguments.minutes, seed=arguments.seed,
            learning_rate=arguments.rate,
        )  # fmt: skip
        began = time.monotonic()
        found = fine_tune(out, raw, labels, tuning, device="cpu", overwrite=True)
        if found is None:
            raise SystemExit("It was stopped")
        for one in found.curves:
            print("   ", "  ".join(f"{name} {value:.4g}" for name, value in one.items()), flush=True)
        share = np.mean([np.mean(labels[z] != 0) for z in PAINTED])
        print(f"    {how}: {share:.1%} of two slices painted; {time.monotonic() - began:.0f} s in all; "
              f"kept aside: {found.before:.4f} before, {found.after:.4f} after")  # fmt: skip
        if found.card is not None:
            measure(f"fine-tuned, {how}", str(out))
    if not arguments.without_native:
        measure("model that learned from slices 0-11", NATIVE)


if __name__ == "__main__":
    main()
