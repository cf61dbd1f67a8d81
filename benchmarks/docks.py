"""How long docks take to open, and whether that loads torch: python benchmarks/docks.py [--runs 3].

Each opening is the first one of a process of its own, in a viewer with a stack; napari's own part of the first
dock (its menus, magicgui) is paid before by the dock Voxel size, and shown for that one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from npe2 import PluginManifest

import napari_em_seg

PLUGIN = "napari-em-seg"
FIRST = "Voxel size"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(opened(arguments.one)))
        return
    manifest = PluginManifest.from_file(Path(napari_em_seg.__file__).with_name("napari.yaml"))
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds, median of {arguments.runs} (min–max)"
    )
    print("| dock | seconds | loads torch |\n| --- | --- | --- |")
    for widget in manifest.contributions.widgets:
        name = widget.display_name
        runs = [in_its_own_process(name) for _ in range(arguments.runs)]
        taken = [run["seconds"] for run in runs]
        loads = "yes" if any(run["torch"] for run in runs) else "no"
        print(f"| {name} | {statistics.median(taken):.2f} ({min(taken):.2f}–{max(taken):.2f}) | {loads} |")


def in_its_own_process(name: str) -> dict:
    said = subprocess.run([sys.executable, __file__, "--one", name], check=True, capture_output=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


def opened(name: str) -> dict:
    """Open a dock, until it is drawn."""
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.add_image(np.zeros((8, 256, 256), np.uint8), name="raw", scale=(30, 6, 6), units=("nm",) * 3)
    if name != FIRST:
        viewer.window.add_plugin_dock_widget(PLUGIN, FIRST)
    QApplication.processEvents()
    start = time.perf_counter()
    viewer.window.add_plugin_dock_widget(PLUGIN, name)
    QApplication.processEvents()
    seconds = time.perf_counter() - start
    viewer.close()
    return {"seconds": seconds, "torch": "torch" in sys.modules}


if __name__ == "__main__":
    main()
