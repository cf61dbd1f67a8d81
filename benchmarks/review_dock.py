"""How fast the dock "Review links" answers, on a session of real tissue in a real viewer.

Run: python scripts/with_display.py .venv/bin/python benchmarks/review_dock.py SESSION.emseg [--verdicts 40]

The session is copied first; nothing is written into it. Times are medians, 95th percentiles and maxima: until
the next link is drawn, until the verdict is solved and shown, and how long the event loop was away at most.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_em_seg.review import Links
from napari_em_seg.widgets.keys import KeyMap
from napari_em_seg.widgets.pictures import settle
from napari_em_seg.widgets.review.dock import ReviewWidget
from napari_em_seg.widgets.review.table import LinksModel, LinkTable

ANSWERS = ("accept", "accept", "reject", "alternative 1")


def until(condition) -> None:
    while not condition():
        QApplication.processEvents()
        time.sleep(0.002)


def line(name: str, seconds: list[float]) -> None:
    ms = 1e3 * np.array(seconds)
    print(f"{name:34} {np.median(ms):6.0f} {np.quantile(ms, 0.95):6.0f} {ms.max():6.0f} ms")


def verdicts(dock: ReviewWidget, n: int) -> None:
    ticks: list[float] = []
    clock = QTimer()
    clock.setInterval(4)
    clock.timeout.connect(lambda: ticks.append(time.perf_counter()))
    clock.start()
    shown, settled, away = [], [], []
    for i in range(n):
        settle(0.1)
        ticks.clear()
        start = time.perf_counter()
        dock._actions[ANSWERS[i % len(ANSWERS)]]()
        QApplication.processEvents()
        shown.append(time.perf_counter() - start)
        until(lambda: not dock.work.is_busy)
        settled.append(time.perf_counter() - start)
        settle(0.1)
        away.append(float(np.diff([start, *ticks]).max()))
    clock.stop()
    line("next link drawn", shown)
    line("verdict solved and shown", settled)
    line("event loop away", away)


def rows(n: int = 100_000) -> None:
    """Show, sort and scroll a list of so many links."""
    rng = np.random.default_rng(0)
    ends = np.stack((rng.integers(0, n, n), np.full(n, -1)), axis=1).astype(np.int32)
    score = [rng.random(n).astype(np.float32) for _ in range(4)]
    links = Links(
        np.arange(n), rng.integers(0, 5, n).astype(np.int8), rng.integers(0, 99, n).astype(np.int32), ends,
        ends, rng.random(n), *score, np.full(n, -1), np.zeros(n, np.int8),
        rng.integers(1, n, n).astype(np.int32),
    )  # fmt: skip
    model = LinksModel()
    table = LinkTable(model)
    table.resize(420, 500)
    table.show()
    model.show(links)
    settle(0.3)
    sorting, scrolling = [], []
    for k in range(20):
        start = time.perf_counter()
        model.show(links.sorted_by(("confidence", "z", "p_error")[k % 3]))
        QApplication.processEvents()
        sorting.append(time.perf_counter() - start)
        start = time.perf_counter()
        table.select(int(rng.integers(n)))
        QApplication.processEvents()
        scrolling.append(time.perf_counter() - start)
    line(f"{n:,} rows sorted and shown", sorting)
    line(f"{n:,} rows, scrolled to any", scrolling)
    table.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session", nargs="?")
    parser.add_argument("--verdicts", type=int, default=40)
    arguments = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1440, 900)
    print(f"{'':34} median   95 %    max")
    rows()
    if arguments.session is None:
        print("Give a session to time verdicts: python benchmarks/review_dock.py SESSION.emseg")
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.emseg"
            shutil.copytree(arguments.session, copy)
            dock = ReviewWidget(viewer, KeyMap(Path(folder) / "keys.json"))
            viewer.window.add_dock_widget(dock, name="Review links", area="right")
            settle(0.3)
            start = time.perf_counter()
            dock.open_session(str(copy))
            until(lambda: dock.desk.scene is not None)
            print(f"{'session opened, first link shown':34} {time.perf_counter() - start:6.2f} s")
            until(lambda: not dock.work.is_busy)
            print(f"{'solver ready':34} {time.perf_counter() - start:6.2f} s")
            verdicts(dock, arguments.verdicts)
            dock.shut_down()
            dock.work.wait()
    viewer.close()


if __name__ == "__main__":
    main()
