"""How far objects are followed rightly, on validation slices: python benchmarks/propagation.py [MODEL ...].

Sequences: the 15 AC4 validation slices, seeds on the middle one (confidences and lost slices: their middle);
the 4 validation slices of ISBI 2012; the synthetic sample. Seeds are the true sections (of at least 100
pixels), or those of a watershed of the predicted boundaries. Only objects on the reference slice can be
followed, so only they count as truth. Beside the model, with outlines that follow membranes and with its own,
stand two plain rivals: each section of the next slice's watershed goes to the object that it overlaps most
(its depth, and where membranes are cut off, are the best on training slices), and the masks of the reference
slice left where they are. Several models are compared by their own outlines on the middle of the slices. IoU is
the mean over objects that are in the truth or in the result on a slice. --memory follows 100 objects through so
many slices of 1024×1024 and says what that takes. Figures go into docs/images/.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from metrics import DATA, peak_memory
from napari_em_seg.io import open_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import Prediction, Propagation, predict_boundary, propagate, watershed_seeds
from napari_em_seg.pipeline.propagation import Propagated, collected
from napari_em_seg.propagate.calibration import overlaps, seeds_of
from napari_em_seg.sample import generate
from napari_em_seg.segment import hmin_watershed
from napari_em_seg.volume import Volume

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DEPTHS = (0.05, 0.1, 0.2, 0.3)
MEMBRANES = (127, 190, 255)

Labels = NDArray[Any]
Way = Callable[["Walk", Labels], Labels]
"""From a sequence and seeds on its reference slice to labels."""

_DONE: dict[tuple[str, int, str, bool, str], Propagated] = {}


@dataclass(frozen=True, eq=False)
class Walk:
    """Slices with their truth, and where seeds are."""

    name: str
    volume: Volume
    truth: Labels
    reference: int

    @property
    def followed(self) -> Labels:
        """The truth of the objects that are on the reference slice."""
        names = np.unique(seeds_of(self.truth[self.reference]))
        return np.where(np.isin(self.truth, names), self.truth, 0).astype(np.int64)


def ac4(slices: slice, reference: int, name: str) -> Walk:
    file = DATA / "ac4_z63-99.h5"
    raw, truth = open_volume(str(file), "image"), open_volume(str(file), "labels")
    return Walk(name, Volume(raw[slices], raw.voxel_size_nm, "ac4"), truth[slices], reference)


def middle_of(sequence: Walk) -> Walk:
    """Return the middle 512×512 pixels."""
    part = np.s_[:, 256:768, 256:768]
    volume = Volume(sequence.volume[part], sequence.volume.voxel_size_nm, "middle")
    return Walk(f"the middle of {sequence.name}", volume, sequence.truth[part], sequence.reference)


def isbi() -> Walk:
    folder = DATA / "isbi2012_z00-14"
    raw, truth = (open_volume(str(folder / f"{name}.tif"))[11:15] for name in ("raw", "neuron_ids"))
    return Walk("ISBI 2012, 11-14", Volume(raw, (50.0, 4.0, 4.0), "isbi"), truth, 1)


def sample() -> Walk:
    made = generate((15, 256, 256), seed=7)
    return Walk("synthetic sample", Volume(made.raw, made.voxel_size_nm, "sample"), made.labels, 7)


def followed_by(model: str, *, follows_membranes: bool = True) -> Way:
    def way(sequence: Walk, seeds: Labels) -> Labels:
        return propagated(sequence, seeds, model, follows_membranes=follows_membranes).labels

    return way


def propagated(sequence: Walk, seeds: Labels, model: str, *, follows_membranes: bool = True) -> Propagated:
    """Follow seeds, or return what came out of it before."""
    key = (
        sequence.name,
        sequence.reference,
        model,
        follows_membranes,
        sha256(np.ascontiguousarray(seeds)).hexdigest(),
    )
    if key not in _DONE:
        wanted = Propagation(sequence.reference, model, follows_membranes=follows_membranes)
        _DONE[key] = collected(propagate(sequence.volume, seeds, wanted), sequence.volume.shape)
    return _DONE[key]


def left_alone(sequence: Walk, seeds: Labels) -> Labels:
    return np.repeat(seeds[None], len(sequence.truth), axis=0)


class Overlap:
    """Gives each section of the next slice's watershed to the object, or nothing, that it overlaps most."""

    def __init__(self) -> None:
        self._maps: dict[str, NDArray[np.uint8]] = {}
        self._sections: dict[tuple[str, float], Labels] = {}
        self.depth, self.membrane = DEPTHS[0], MEMBRANES[0]

    def tune(self, sequence: Walk) -> None:
        """Choose the depth, and what is cut off as membrane, by what is best on these slices."""

        def quality(options: tuple[float, int]) -> float:
            self.depth, self.membrane = options
            labels = self(sequence, seeds_of(sequence.truth[sequence.reference]))
            return float(np.mean([iou for rows in by_distance(sequence, labels).values() for iou in rows]))

        self.depth, self.membrane = max(product(DEPTHS, MEMBRANES), key=quality)

    def __call__(self, sequence: Walk, seeds: Labels) -> Labels:
        """Hand labels from slice to slice, away from the reference slice."""
        if sequence.name not in self._maps:
            self._maps[sequence.name] = np.asarray(predict_boundary(sequence.volume, Prediction(views=1)))
        boundary = self._maps[sequence.name]
        key = sequence.name, self.depth
        if key not in self._sections:
            self._sections[key] = hmin_watershed(boundary, self.depth, mode="2d")
        sections = self._sections[key]
        sections = np.where(boundary > self.membrane, 0, sections)
        found = np.zeros(sections.shape, np.int64)
        found[sequence.reference] = seeds
        for step, end in ((1, len(found)), (-1, -1)):
            for z in range(sequence.reference + step, end, step):
                found[z] = linked(sections[z], found[z - step])
        return found


def linked(sections: Labels, before: Labels) -> Labels:
    names, objects = np.unique(before, return_inverse=True)
    kinds, places = np.unique(sections, return_inverse=True)
    table = np.bincount(places.ravel() * len(names) + objects.ravel(), minlength=len(names) * len(kinds))
    best = names[table.reshape(len(kinds), len(names)).argmax(axis=1)]
    best[kinds == 0] = 0
    return np.asarray(best[places].reshape(sections.shape))


def by_distance(sequence: Walk, labels: Labels) -> Mapping[int, list[float]]:
    """Return IoU of objects by the distance of the slice from the reference slice."""
    found: dict[int, list[float]] = {}
    for z, (one, true) in enumerate(zip(labels, sequence.followed, strict=True)):
        if z != sequence.reference:
            found.setdefault(abs(z - sequence.reference), []).extend(overlaps(one, true).values())
    return dict(sorted(found.items()))


def rand(sequence: Walk, labels: Labels) -> float:
    return evaluate(contingency(labels, sequence.followed)).adapted_rand_error


def row(name: str, values: Sequence[Any]) -> None:
    cells = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def head(name: str, columns: Sequence[str]) -> None:
    print()
    row(name, columns)
    row("---", ["---"] * len(columns))


def compared(sequence: Walk, ways: Mapping[str, Way], *, watershed: bool) -> dict[str, Mapping[int, float]]:
    """Print one row for each way, and return its means by distance."""
    true = seeds_of(sequence.truth[sequence.reference])
    distances = sorted({abs(z - sequence.reference) for z in range(len(sequence.truth))} - {0})
    more = ["watershed seeds: adapted Rand"] if watershed else []
    head(
        f"{sequence.name}, {len(np.unique(true)) - 1} objects",
        [*(f"IoU at {d}" for d in distances), "adapted Rand", *more, "s per slice"],
    )
    curves = {}
    for name, way in ways.items():
        start = time.perf_counter()
        labels = way(sequence, true)
        seconds = (time.perf_counter() - start) / len(labels)
        curves[name] = {d: float(np.mean(rows)) for d, rows in by_distance(sequence, labels).items()}
        others = (
            [rand(sequence, way(sequence, watershed_seeds(sequence.volume, sequence.reference)))]
            if more
            else []
        )
        row(name, [*curves[name].values(), rand(sequence, labels), *others, f"{seconds:.1f}"])
    return curves


def calibration(sequence: Walk, found: Propagated) -> None:
    """Print how often masks are right (IoU > 0.5), by their confidence."""
    head("confidence", ["masks", "mean confidence", "right"])
    sure, right = [], []
    for z, true in enumerate(sequence.followed):
        iou = overlaps(found.labels[z], true)
        for name, value in zip(found.objects, found.confidence[:, z], strict=True):
            if z != sequence.reference and value > 0:
                sure.append(float(value))
                right.append(iou.get(name, 0.0) > 0.5)
    p, is_right = np.array(sure), np.array(right)
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 1.01)):
        of_these = (p >= low) & (p < high)
        if of_these.any():
            row(f"{low:.2f} to {min(high, 1):.2f}", [int(of_these.sum()), float(p[of_these].mean()),
                                                     float(is_right[of_these].mean())])  # fmt: skip


def lost(sequence: Walk, model: str, distance: int) -> None:
    """Print what a slice that shows nothing does to the slices behind it."""
    z = sequence.reference + distance
    raw = np.array(sequence.volume[:])
    raw[z] = 0
    seeds = seeds_of(sequence.truth[sequence.reference])
    head("IoU behind a lost slice", [f"at {d}" for d in range(distance, len(raw) - sequence.reference)])
    volume = Volume(raw, sequence.volume.voxel_size_nm, "lost")
    broken = replace(sequence, name=f"slice {z} lost", volume=volume)
    for name, one in (("all there", sequence), (broken.name, broken)):
        labels = propagated(one, seeds, model).labels
        row(name, [float(np.mean(list(overlaps(labels[k], one.followed[k]).values())))
                   for k in range(z, len(raw))])  # fmt: skip


def memory(model: str, n_slices: int) -> None:
    shape = (n_slices, 1024, 1024)
    raw = open_volume(str(DATA / "ac4_z63-99.h5"), "image")[:]
    image = raw[np.minimum(ramp := np.arange(n_slices) % (2 * len(raw)), 2 * len(raw) - 1 - ramp)]
    middle = n_slices // 2
    plane = open_volume(str(DATA / "ac4_z63-99.h5"), "labels")[:][int(np.minimum(r := middle % 74, 73 - r))]
    names, counts = np.unique(plane, return_counts=True)
    names = names[np.argsort(-counts)]
    seeds = np.where(np.isin(plane, names[names > 0][:100]), plane, 0)
    start, cpu = time.perf_counter(), time.process_time()
    sequence = Walk("memory", Volume(image, (30.0, 6.0, 6.0), "memory"), np.zeros((1, 1, 1)), middle)
    found = propagated(sequence, seeds, model)
    size, seconds, cpu = "×".join(map(str, shape)), time.perf_counter() - start, time.process_time() - cpu
    reached = int((found.confidence[:, -1] > 0).sum())
    print(f"\n{len(np.unique(seeds)) - 1} objects through {size}: {peak_memory() / 1e9:.1f} GB at most, "
          f"{seconds:.0f} s, {cpu:.0f} s of processor time; {reached} reached the last slice")  # fmt: skip


def draw(sequence: Walk, labels: Labels, curves: Mapping[str, Mapping[int, float]]) -> None:
    """Draw IoU against distance, and a part of four slices with truth and result."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot([0, *curve], [1, *curve.values()], marker=".", label=name)
    axes.set(xlabel="slices away from the reference slice", ylabel="mean IoU", ylim=(0, 1.02))
    axes.legend(fontsize=8)
    figure.savefig(IMAGES / "propagation.svg")
    rng = np.random.default_rng(1)
    colours = rng.uniform(0.15, 1, (int(sequence.truth.max()) + 1, 3))
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for k, (up, down) in enumerate(zip(*figure.subplots(2, 4), strict=True)):
        z = min(sequence.reference + (0, 2, 4, 7)[k], len(labels) - 1)
        grey = np.repeat(sequence.volume[z][..., None] / 255.0, 3, axis=2)
        for axes, plane in ((up, labels[z]), (down, sequence.followed[z])):
            colour = np.where((plane > 0)[..., None], 0.55 * grey + 0.45 * colours[plane], grey)
            colour[find_boundaries(plane, mode="inner")] = 1
            axes.imshow(colour)
            axes.set_axis_off()
        up.set_title("seeds" if k == 0 else f"{z - sequence.reference} slices on", fontsize=9)
    figure.savefig(IMAGES / "propagation.png", dpi=90)
    with Image.open(IMAGES / "propagation.png") as picture:
        picture.convert("RGB").quantize(128).save(IMAGES / "propagation.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="*", default=["auto"], help="one: all tables; several: those are compared"
    )
    parser.add_argument("--memory", type=int, metavar="SLICES", default=0)
    parser.add_argument("--no-figures", action="store_true")
    arguments = parser.parse_args()
    if not (DATA / "ac4_z63-99.h5").exists():
        print(f"Needs {DATA / 'ac4_z63-99.h5'}, see EM_SEG_DATA")
        return
    first = arguments.models[0]
    if arguments.memory:
        memory(first, arguments.memory)
        return
    validation = ac4(slice(22, 37), 7, "AC4, 22-36")
    if len(arguments.models) > 1:
        ways = {Path(model).stem: followed_by(model, follows_membranes=False) for model in arguments.models}
        compared(middle_of(validation), ways, watershed=False)
        return
    rival = Overlap()
    rival.tune(ac4(slice(0, 15), 7, "tuning"))
    ways = {
        "propagator": followed_by(first),
        "its own outlines": followed_by(first, follows_membranes=False),
        f"overlap with the watershed (h = {rival.depth}, cut at {rival.membrane})": rival,
        "masks left alone": left_alone,
    }
    curves = compared(validation, ways, watershed=True)
    others(first, ways, curves if not arguments.no_figures else None)


def others(model: str, ways: Mapping[str, Way], curves: Mapping[str, Mapping[int, float]] | None) -> None:
    """Print the smaller tables, and draw."""
    compared(isbi(), ways, watershed=False)
    compared(sample(), {name: way for name, way in ways.items() if "watershed" not in name}, watershed=False)
    middle = middle_of(ac4(slice(22, 37), 7, "AC4, 22-36"))
    found = propagated(middle, seeds_of(middle.truth[7]), model)
    calibration(middle, found)
    lost(middle, model, 2)
    if curves is not None:
        draw(middle, found.labels, {name: curves[name] for name in ways})


if __name__ == "__main__":
    main()
