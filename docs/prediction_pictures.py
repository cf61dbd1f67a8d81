"""Makes docs/images/predicted-*.png: image, boundary map, segments and truth of a slice, side by side.

Run it from the root of the checkout: .venv/bin/python docs/prediction_pictures.py
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hsv2rgb, label2rgb
from skimage.segmentation import find_boundaries

from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Prediction, choose_model, predict_boundary, sample_volumes
from napari_em_seg.pipeline.segmentation import DEPTHS, sections
from napari_em_seg.segment import best_h, hmin_watershed
from napari_em_seg.volume import Volume

IMAGES = Path(__file__).parent / "images"
DATA = Path(os.environ.get("EM_SEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIDE, GAP = 440, 6


def main() -> None:
    """Make all pictures; those of real data where it is there."""
    raw, truth = sample_volumes((8, 512, 512), seed=1)
    show("sample", raw, truth[:], slice(0, 8), slice(0, 8))
    if not DATA.exists():
        return
    path = DATA / "ac4_z63-99.h5"
    show("ac4", open_volume(path), open_volume(path, "labels")[:], slice(0, 6), slice(26, 32))
    isbi = DATA / "isbi2012_z00-14"
    membranes = sections(open_volume(isbi / "membranes.tif")[:])
    image = open_volume(isbi / "raw.tif").with_voxel_size((50, 4, 4))
    show("isbi", image, membranes, slice(0, 4), slice(11, 15), mode="2d")


def show(name: str, raw: Volume, truth: NDArray[Any], tuning: slice, shown: slice, *, mode: Any = "3d") -> None:
    """Predict, segment at the depth that is best for the tuning slices, and save the middle slice."""
    choice = choose_model(raw)
    maps = [
        predict_boundary(raw, Prediction((choice.model.name,), slices=part, dtype="float32"))
        for part in (tuning, shown)
    ]
    h, _ = best_h(maps[0], truth[tuning], DEPTHS, mode=mode)
    labels = hmin_watershed(maps[1], h, mode=mode)
    middle = len(labels) // 2
    z = shown.start + middle
    image = np.asarray(raw[z])
    panels = [
        np.repeat(image[..., None], 3, -1),
        np.repeat((255 * maps[1][middle]).astype(np.uint8)[..., None], 3, -1),
        coloured(labels[middle], image),
        coloured(truth[z], image),
    ]
    save(panels, IMAGES / f"predicted-{name}.png")


def coloured(labels: NDArray[Any], image: NDArray[Any]) -> NDArray[np.uint8]:
    """Colour each segment, with a dark line around it, over the image."""
    _, numbered = np.unique(labels, return_inverse=True)
    numbered = numbered.reshape(labels.shape) + int(labels.min() != 0)
    rng = np.random.default_rng(0)
    hues, n = rng.permutation(64) / 64, int(numbered.max())
    colours = hsv2rgb(np.stack([hues[np.arange(n) % 64], rng.uniform(0.5, 1, n), rng.uniform(0.6, 1, n)], -1))
    found = label2rgb(numbered, image, colours, alpha=0.4, bg_label=0)
    found[find_boundaries(numbered, mode="inner")] *= 0.3
    return (255 * found).astype(np.uint8)


def save(panels: list[NDArray[np.uint8]], path: Path) -> None:
    """Put the upper left square of each panel side by side."""
    row = Image.new("RGB", (len(panels) * (SIDE + GAP) - GAP, SIDE), "white")
    for i, panel in enumerate(panels):
        row.paste(Image.fromarray(np.ascontiguousarray(panel[:SIDE, :SIDE])), (i * (SIDE + GAP), 0))
    row.quantize(256, kmeans=2).save(path, optimize=True)


if __name__ == "__main__":
    main()
