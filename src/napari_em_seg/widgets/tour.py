"""Tour: the newcomer's hour of the tutorial, step by step, by the buttons that a person presses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_em_seg.pipeline.robot import Robot
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import add_volume
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import PLUGIN
from napari_em_seg.widgets.pictures import settle, wait_for

__all__ = ["EXPORTED", "STEPS", "Tour"]

EXPORTED = ("labels", "links", "meshes", "skeletons", "report", "pipeline")


class Tour:
    """Goes through the docks in a viewer; tests run it, and the tutorial's pictures are taken from it.

    Parameters
    ----------
    viewer
        Where.
    raw, truth
        A small stack, and its objects: the robot that reviews knows them.
    folder
        For what is written, but for models: these go where EM_SEG_MODELS says.
    """

    def __init__(self, viewer: Any, raw: Volume, truth: Volume, folder: Path) -> None:
        self.viewer, self.raw, self.truth, self.folder = viewer, raw, truth, folder
        self.start: Any = None

    def open(self) -> None:
        """Open the dock Start, and a stack."""
        _, self.start = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Start here")
        add_volume(self.viewer, self.raw, name="raw")

    def predict(self) -> None:
        """Predict affinities, by the model for these voxels, with one view."""
        dock = self._dock("Predict")
        dock.options.task.setCurrentIndex(dock.options.task.findData("affinity"))
        dock.options.views.setCurrentIndex(dock.options.views.findData(1))
        self._press(dock, dock.go)

    def segment(self) -> None:
        """Segment the affinities, and move the slider."""
        dock = self._dock("Segment")
        dock.making.method.setCurrentText("z-watershed of affinities")
        self._press(dock, dock.go)
        dock.cutting.threshold.setValue(0.4)
        settle(0.6)

    def reconstruct(self) -> None:
        """Reconstruct from the same affinities, into a session."""
        self.viewer.layers["segments"].visible = self.viewer.layers["affinities"].visible = False
        dock = self._dock("Review links")
        dock.begin.boundary.choose(self.viewer.layers["affinities"])
        dock.begin.place.setText(str(self.folder / "tutorial.emseg"))
        self._press(dock, dock.begin.go)
        self._press(self.start, self.start.arrange)

    def review(self, n: int = 50) -> int:
        """Answer links, the worst first, as a person would who knows what is right; return how many."""
        dock = self._dock("Review links")
        robot = Robot(dock.desk.session.reconstruction, np.asarray(self.truth))
        for done in range(n):
            if dock.desk.link == NO_LINK:
                return done
            listed = [] if dock.desk.scene is None else [c.link for c in dock.desk.scene.alternatives]
            dock._actions[robot.answer(dock.desk.link, listed)]()
            wait_for(dock)
        return n

    def propagate(self, n: int = 3) -> None:
        """Seed the largest objects of the middle slice, follow them, and take the surest into the session."""
        dock, z = self._dock("Propagate"), len(self.raw) // 2
        self.viewer.dims.set_current_step(0, z)
        plane = np.asarray(self.truth[z])
        sizes = np.bincount(plane[plane > 0].astype(np.intp))
        seeds = dock.add_seeds()
        for number, label in enumerate(np.argsort(sizes)[::-1][:n], 1):
            seeds.data[z][plane == label] = number
        seeds.refresh()
        seeds.mode = "pan_zoom"
        self._press(dock, dock.go)

    def fine_tune(self, steps: int = 20) -> None:
        """Paint whole objects on two slices, let a boundary model learn on, and keep it after so many steps."""
        self._show_alone("raw")
        dock, middle = self._dock("Train"), len(self.raw) // 2
        dock.fine_tune.image.choose(self.viewer.layers["raw"])
        dock.fine_tune.meaning.setCurrentIndex(dock.fine_tune.meaning.findData("objects"))
        dock.fine_tune.paint.click()
        painted = dock.fine_tune.painted.layer
        for z in (middle - 1, middle + 1):
            painted.data[z] = self.truth[z]
        painted.refresh()
        painted.mode = "pan_zoom"
        self.viewer.dims.set_current_step(0, middle + 1)
        dock.go.click()
        while dock.work.is_busy and len(dock.curves.losses) < steps:
            settle(0.1)
        self._press(dock, dock.keep)

    def evaluate(self) -> None:
        """Compare the segments with the truth."""
        self._show_alone("raw", "segments")
        add_volume(self.viewer, self.truth, name="truth", visible=False)
        dock = self._dock("Evaluate")
        dock.segmentation.choose(self.viewer.layers["segments"])
        dock.truth.choose(self.viewer.layers["truth"])
        self._press(dock, dock.go)

    def export(self) -> None:
        """Write what the session has come to, and the pipeline that makes it again."""
        self._show_alone("raw", "objects")
        dock = self._dock("Export")
        for name, box in dock.what.boxes.items():
            box.setChecked(name in EXPORTED)
        self._press(dock, dock.go)

    def _show_alone(self, *names: str) -> None:
        for layer in self.viewer.layers:
            layer.visible = layer.name in names

    def _dock(self, name: str) -> Any:
        return self.start.open_dock(name)

    def _press(self, dock: Panel, button: Any) -> None:
        """Click on a button, and wait until all is done."""
        if not button.isEnabled():
            raise RuntimeError(f"{button.text()} cannot be pressed: {dock.words.text()}")
        button.click()
        wait_for(dock)


STEPS: dict[str, Callable[[Tour], object]] = {
    "open": Tour.open, "predict": Tour.predict, "segment": Tour.segment, "reconstruct": Tour.reconstruct,
    "review": Tour.review, "propagate": Tour.propagate, "fine-tune": Tour.fine_tune, "evaluate": Tour.evaluate,
    "export": Tour.export,
}  # fmt: skip
"""By their names, in the order of the tutorial."""
