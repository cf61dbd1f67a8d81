"""How fast the dock "Segment" answers on real affinities, in a real viewer.

Run: python scripts/with_display.py .venv/bin/python benchmarks/segment_dock.py AFFINITIES [--moves 60]

AFFINITIES is what `napari-em-seg predict --model affinity` wrote. Times are medians, 95th percentiles and
maxima from setting the control to the end of the drawing of the canvas; beside them those of the time that the
processor worked for it, which other programs do not lengthen.
"""

import argparse
import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_em_seg import pipeline
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.widgets.layers import marked
from napari_em_seg.widgets.pictures import settle
from napari_em_seg.widgets.segment.controls import METHODS

Seconds = tuple[float, float]  # on the wall, of the processor


def line(name: str, seconds: list[Seconds]) -> None:
    columns = [
        f"{np.median(ms):6.0f} {np.quantile(ms, 0.95):6.0f} {ms.max():6.0f} ms"
        for ms in 1e3 * np.array(seconds).T
    ]
    print(f"{name:52} {'   '.join(columns)}")


class Drawn:
    """Knows when the canvas was drawn."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.when: list[Seconds] = []
        canvas = viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(lambda _: self.when.append(_now()), position="last")

    def after(self, change: Callable[[], object]) -> Seconds:
        """Make a change, and return the seconds until it was drawn."""
        settle(0.1)
        self.when.clear()
        start = _now()
        change()
        while not self.when:
            QApplication.processEvents()
        return self.when[-1][0] - start[0], self.when[-1][1] - start[1]


def _now() -> Seconds:
    return time.perf_counter(), time.process_time()


def wait(dock) -> float:
    start = time.perf_counter()
    while dock.work.is_busy:
        settle(0.02)
    return time.perf_counter() - start


def moves(dock, drawn: Drawn, name: str, n: int) -> None:
    """Move the slider to and fro over its whole length, then the size below which segments are small."""
    recipe = dock.history.now.parts.recipe
    is_merged = recipe.method == "zwatershed"
    level = dock.cutting.threshold if is_merged else dock.cutting.depth
    values = np.random.default_rng(0).permutation(np.linspace(0, 1 if is_merged else 0.7, n))
    line(f"{name}: slider", [drawn.after(lambda v=v: level.setValue(v)) for v in values])
    level.setValue(0.3 if is_merged else 0.05)
    sizes = range(100, 100 + 50 * min(n, 30), 50)
    line(
        f"{name}: small ones join", [drawn.after(lambda s=s: dock.cutting.smallest.setValue(s)) for s in sizes]
    )
    dock.cutting.small_ones.setCurrentIndex(1)
    line(f"{name}: small ones go", [drawn.after(lambda s=s: dock.cutting.smallest.setValue(s)) for s in sizes])
    dock.cutting.small_ones.setCurrentIndex(0)
    dock.cutting.smallest.setValue(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("affinities")
    parser.add_argument("--moves", type=int, default=60)
    arguments = parser.parse_args()
    maps = pipeline.open_affinities(arguments.affinities)
    affinities = np.stack([maps[c] for c in range(3)])
    boundary = np.stack([np.rint(255 * plane).astype(np.uint8) for plane in PredictedMaps(affinities).boundary])
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(boundary, name="affinities", metadata=marked("affinities", affinities=affinities),
                     scale=maps.voxel_size_nm, units=("nm",) * 3)  # fmt: skip
    settle(1.0)
    start = time.perf_counter()
    dock = viewer.window.add_plugin_dock_widget("napari-em-seg", "Segment")[1]
    settle(0.01)
    print(f"{' × '.join(map(str, boundary.shape))} voxels; dock opened in {time.perf_counter() - start:.2f} s")
    drawn = Drawn(viewer)
    runs = [(method, "") for method in list(METHODS)[:2]]
    runs += [(list(METHODS)[2], score) for score in ("mean", "quantile", "learned")]
    print(f"{'':52} median   95 %    max      median   95 %    max of the processor")
    for method, score in runs:
        dock.making.method.setCurrentText(method)
        dock.making.score.setCurrentText(score or "mean")
        name = f"{method}{score and f', {score}'}"
        dock.go.click()
        seconds, n_parts = wait(dock), len(dock.history.now.parts.sizes) - 1
        print(f"{name}: {n_parts:,} parts in {seconds:.1f} s")
        moves(dock, drawn, name, arguments.moves)
    shown = [drawn.after(dock.before.pressed.emit) for _ in range(10) if drawn.after(dock.before.released.emit)]
    line("before, held", shown)
    start = time.perf_counter()
    np.asarray(dock.result.data)
    print(f"the whole array, read by another dock: {time.perf_counter() - start:.2f} s")
    dock.keep.click()
    print(f"a copy is kept in {wait(dock):.2f} s")
    viewer.dims.ndisplay = 3
    settle(2.0)
    line("slider, in the 3-D view", [drawn.after(lambda t=t: dock.cutting.threshold.setValue(t))
                                     for t in np.linspace(0.2, 0.8, 8)])  # fmt: skip
    dock.shut_down()
    dock.work.wait()
    viewer.close()


if __name__ == "__main__":
    main()
