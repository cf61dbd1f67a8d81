"""Makes the pictures in docs/images/ from a real napari viewer.

Run it from the root of the checkout: .venv/bin/python scripts/with_display.py .venv/bin/python docs/pictures.py
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Pictures show napari as it comes, whatever the settings and models of whoever makes them.
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="napari-em-seg-")) / "settings.yaml")
os.environ["EM_SEG_MODELS"] = tempfile.mkdtemp(prefix="napari-em-seg-models-")

import napari
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.qt import get_qapp
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QMenu

from napari_em_seg.io import write_volume
from napari_em_seg.pipeline import baseline, predict_affinities, sample_volumes
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.demo_chapters import review_chapter
from napari_em_seg.widgets.layers import add_volume, marked
from napari_em_seg.widgets.pictures import save_picture, settle
from napari_em_seg.widgets.tour import STEPS, Tour

IMAGES = Path(__file__).parent / "images"
PLUGIN, TITLE = "napari-em-seg", "EM segmentation"
SIZE = (1280, 800)
N_NEURITES = 12


@contextmanager
def viewer_of(title: str) -> Iterator[napari.Viewer]:
    """Open a viewer of the pictures' size, and close it afterwards."""
    viewer = napari.Viewer(title=title)
    viewer.window.resize(*SIZE)
    settle(1.0)
    yield viewer
    viewer.close()


def save(viewer: napari.Viewer, name: str) -> None:
    """Save the window as a small PNG."""
    path = IMAGES / f"{name}.png"
    save_picture(viewer, path)
    shrink(path)


def shrink(path: Path) -> None:
    """Save a picture again with 256 colours, at the pictures' size."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if picture.size != SIZE:
        picture.thumbnail(SIZE)
    picture.quantize(256, kmeans=4, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def sample(viewer: napari.Viewer) -> None:
    """Take the sample in 2-D with its truth at 40 %, then twelve of its neurites in 3-D."""
    viewer.open_sample(PLUGIN, "tissue_with_truth")
    raw, labels = viewer.layers
    labels.opacity = 0.4
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.fit_to_view(margin=0.02)
    save(viewer, "sample")
    raw.visible = labels.visible = False
    shown = some_neurites(np.asarray(labels.data))
    viewer.add_labels(shown, name="neurites", scale=labels.scale, units=labels.units)
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (0, 35, 50)
    viewer.fit_to_view(margin=0.02)
    save(viewer, "neurites")


def some_neurites(labels: np.ndarray) -> np.ndarray:
    """Keep twelve neurites: of those that run through all sections the largest, but for the very largest."""
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    runs_through = np.isin(ids, labels[0]) & np.isin(ids, labels[-1])
    chosen = ids[runs_through][np.argsort(sizes[runs_through])[::-1][1 : 1 + N_NEURITES]]
    return np.where(np.isin(labels, chosen), labels, 0)


def voxel_size(viewer: napari.Viewer) -> None:
    """Take the dock "Voxel size", filled in, beside a TIFF file that does not say its voxel size."""
    raw, _ = sample_volumes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cortex.tif"
        write_volume(Volume(raw[:], name="cortex"), path)
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Voxel size")
        settle(1.0)
        viewer.open(path, plugin=PLUGIN)
        for box, length in zip(dock._sizes, raw.voxel_size_nm or (), strict=True):
            box.value = length
        viewer.fit_to_view(margin=0.02)
        settle(1.5)
        for remark in viewer.window._qt_window.findChildren(NapariQtNotification):
            remark.close()  # it covers the edge of the canvas
        save(viewer, "voxel-size")
        viewer.layers.clear()


def review() -> None:
    """Have the demo's robot review a part of the sample, and keep three of its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        review_chapter(*sample_volumes(), Path(folder))
        for made, name in (("review", "review"), ("review-3d", "review-3d"), ("errors", "review-errors")):
            (IMAGES / f"{name}.png").write_bytes((Path(folder) / f"{made}.png").read_bytes())
            if made != "errors":
                shrink(IMAGES / f"{name}.png")


def predict(viewer: napari.Viewer) -> None:
    """Take the dock "Predict" in the middle of a prediction, by a model that fits and one that does not."""
    raw, _ = sample_volumes((12, 256, 256))
    add_volume(viewer, raw)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Predict")
    settle(0.5)
    viewer.dims.set_current_step(0, 6)
    viewer.fit_to_view(margin=0.02)
    dock.options.models.list.item(1).setCheckState(Qt.CheckState.Checked)
    dock.go.click()
    while dock.prediction.n_blocks - dock.prediction.n_left < 5:
        settle(0.1)
    save(viewer, "predict")
    dock.cancel_button.click()
    while dock.work.is_busy:
        settle(0.1)


def propagate(viewer: napari.Viewer) -> None:
    """Take the dock "Propagate" after it has followed every section of a slice of the sample."""
    raw, _ = sample_volumes((12, 256, 256))
    add_volume(viewer, raw)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Propagate")
    viewer.dims.set_current_step(0, 6)
    for button in (dock.all_seeds, dock.go):
        button.click()
        while dock.work.is_busy:
            settle(0.1)
    dock._on_cell(3, 8)
    viewer.layers["seeds"].visible = False
    viewer.fit_to_view(margin=0.02)
    save(viewer, "propagate")


def train(viewer: napari.Viewer) -> None:
    """Take the dock "Train" while a model is fine-tuned on strokes of two slices of the sample."""
    raw, truth = sample_volumes((12, 256, 256))
    add_volume(viewer, raw)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    dock.fine_tune.paint.click()
    painted, labels = dock.fine_tune.painted.layer, np.asarray(truth)
    for z in (4, 8):
        for number, (y, x) in enumerate(np.ndindex(5, 5)):
            row, column = 8 + 50 * y, slice(8 + 50 * x, 44 + 50 * x)
            if number % 2:  # a stroke through a cell, else one along a membrane
                part = painted.data[z, row + 16 : row + 21, column]
                part[labels[z, row + 16 : row + 21, column] > 0] = 2
            else:
                part = painted.data[z, row : row + 36, column]
                part[labels[z, row : row + 36, column] == 0] = 1
    painted.refresh()
    viewer.dims.set_current_step(0, 4)
    viewer.fit_to_view(margin=0.02)
    dock.go.click()
    while dock.work.is_busy and len(dock.curves.errors) < 4:
        settle(0.5)
    save(viewer, "train")
    dock.pause.click()
    while dock.work.is_busy:
        settle(0.1)
    dock.discard.click()


def segment(viewer: napari.Viewer) -> None:
    """Take the dock "Segment" after affinities of the sample were merged up to a threshold."""
    raw, _ = sample_volumes((12, 256, 256))
    affinities = np.asarray(predict_affinities(raw)[:3])
    shown = 255 - affinities[1:].min(0)
    add_volume(viewer, raw)
    add_volume(viewer, Volume(shown, raw.voxel_size_nm, "affinities"), visible=False,
               metadata=marked("affinities", affinities=affinities))  # fmt: skip
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    dock.making.method.setCurrentText("z-watershed of affinities")
    dock.go.click()
    while dock.work.is_busy:
        settle(0.1)
    dock.cutting.threshold.setValue(0.4)
    dock.cutting.smallest.setValue(200)
    viewer.fit_to_view(margin=0.02)
    settle(1.0)
    save(viewer, "segment")


def evaluate(viewer: napari.Viewer) -> None:
    """Take the dock "Evaluate" at the object that a plain watershed of the sample splits worst."""
    raw, truth = sample_volumes((12, 256, 256))
    segments, _ = baseline(raw, truth)
    add_volume(viewer, raw)
    for volume, name in ((truth, "truth"), (segments, "segments")):
        add_volume(viewer, volume, name=name, visible=False)
    viewer.layers["segments"].metadata.update(marked("segments"))
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Evaluate")
    dock.go.click()
    while dock.work.is_busy:
        settle(0.1)
    dock.results.tabs.setCurrentIndex(1)
    dock.results.splits.selectRow(0)
    while dock.work.is_busy:
        settle(0.1)
    settle(1.0)
    save_picture(viewer, IMAGES / "evaluate.png")  # fewer colours would change those of the legend


def export(viewer: napari.Viewer) -> None:
    """Take the dock "Export" with objects of the sample that are to be written."""
    for volume in sample_volumes((12, 256, 256)):
        add_volume(viewer, volume)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Export")
    dock.where.folder.setText("/data/em")
    dock.where.name.setText("tissue")
    for name in ("meshes", "skeletons", "report"):
        dock.what.boxes[name].setChecked(True)
    dock.objects.which.setCurrentText("larger than")
    save(viewer, "export")


def tutorial(viewer: napari.Viewer) -> None:
    """Go through the tutorial, and take a picture after each step."""
    raw, truth = sample_volumes((12, 256, 256), 4)
    size = raw.voxel_size_nm
    raw, truth = Volume(raw[:], size, "raw"), Volume(truth[:], size, "truth", kind="labels")
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(viewer, raw, truth, Path(folder))
        for name, step in STEPS.items():
            step(tour)
            if name != "reconstruct":
                viewer.fit_to_view(margin=0.02)
            save(viewer, f"tutorial-{name}")


def menu(viewer: napari.Viewer) -> None:
    """Take the menu File ▸ Open Sample ▸ EM segmentation."""
    window = viewer.window._qt_window
    file = window.menuBar().actions()[0].menu()
    file.popup(window.menuBar().mapToGlobal(QPoint(0, window.menuBar().height())))
    settle()
    samples = open_submenu(file, "Open Sample")
    open_submenu(samples, TITLE)
    settle(1.0)
    place = window.geometry()
    screen = QGuiApplication.primaryScreen().grabWindow(0, place.x(), place.y(), place.width(), place.height())
    path = IMAGES / "open-sample.png"
    screen.save(str(path))
    file.close()
    shrink(path)


def open_submenu(menu: QMenu, title: str) -> QMenu:
    """Open a submenu beside its entry."""
    entry = next(action for action in menu.actions() if action.text().replace("&", "") == title)
    menu.setActiveAction(entry)
    submenu = entry.menu()
    submenu.popup(menu.mapToGlobal(menu.actionGeometry(entry).topRight()))
    settle()
    return submenu


def main() -> None:
    """Take all pictures, or those that are named: docs/pictures.py tutorial propagate."""
    IMAGES.mkdir(exist_ok=True)
    get_qapp()
    wanted = sys.argv[1:]
    for take in (sample, voxel_size, predict, propagate, train, segment, evaluate, export, tutorial, menu):
        if not wanted or take.__name__ in wanted:
            with viewer_of("napari") as viewer:
                take(viewer)
    if not wanted or "review" in wanted:
        review()


if __name__ == "__main__":
    main()
