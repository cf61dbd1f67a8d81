"""Overlays: layers of errors over the image, and the view on the one that is asked about."""

from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_em_seg.pipeline import Evaluation
from napari_em_seg.pipeline.error_maps import LEFT_OUT, OTHERS, FalseMerges, FalseSplits, Parts
from napari_em_seg.pipeline.evaluation import Place
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.colours import ALTERNATIVE, DOUBTFUL, MAIN, MERGE, SPLIT, TARGET
from napari_em_seg.widgets.layers import go_to_slice, marked, placed_like, shape_of, take_away

__all__ = ["ASKED", "MERGES", "SPLITS", "Overlays", "legend"]

SPLITS, MERGES, ASKED = "false splits", "false merges", "in question"

_FILL = 0.35  # of the canvas is what is asked about
_LEAST = 60  # pixels; what is smaller is not brought closer
_PARTS = {1: MAIN, 2: TARGET, OTHERS: ALTERNATIVE, LEFT_OUT: DOUBTFUL}


def legend(**words: str) -> str:
    """Return a line of coloured squares with words: ``legend(first="largest part", …)``."""
    colours = {
        "first": MAIN, "second": TARGET, "others": ALTERNATIVE, "left_out": DOUBTFUL,
        "split": SPLIT, "merge": MERGE,
    }  # fmt: skip
    return "&nbsp; ".join(
        f'<span style="color: {colours[key]}">■</span>&nbsp;{said.replace(" ", "&nbsp;")}'
        for key, said in words.items()
    )


class Overlays:
    """Keeps the layers of errors of one evaluation in a viewer; they lie where the segmentation lies.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[str, Labels] = {}
        self._over: Labels | None = None

    def begin(self, over: Labels) -> None:
        """Take the layers of the last evaluation away; those to come lie over this one."""
        self.end()
        self._over = over

    def end(self) -> None:
        """Take the layers away."""
        take_away(self._viewer, self._layers.values())
        self._layers.clear()

    def show_errors(self, evaluation: Evaluation, segmentation: Volume, truth: Volume) -> None:
        """Show the voxels of false splits and of false merges."""
        self._show(SPLITS, FalseSplits(evaluation, segmentation, truth), {1: SPLIT, LEFT_OUT: DOUBTFUL}, 0.55)
        self._show(MERGES, FalseMerges(evaluation, segmentation, truth), {1: MERGE}, 0.55)

    def ask(self, parts: Parts) -> None:
        """Show the parts of one object."""
        self._show(ASKED, parts, _PARTS, 0.7)

    def _show(self, name: str, data: Any, colours: dict[int, str], opacity: float) -> None:
        layer = self._layers.get(name)
        if layer is not None and layer in self._viewer.layers:
            layer.data = data
            return
        active = self._viewer.layers.selection.active
        colormap = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colours})
        layer = Labels(
            data, name=name, multiscale=False, opacity=opacity, colormap=colormap, metadata=marked("errors"),
            **placed_like(self._over),
        )  # fmt: skip
        layer.editable = False
        self._layers[name] = layer
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = active

    def go_to(self, place: Place) -> None:
        """Show a slice, with a box of it in the middle, as large as lets one see what is around it."""
        go_to_slice(self._viewer, self._over, place.z)
        if self._viewer.dims.ndisplay != 2:
            return
        top, left, bottom, right = place.box
        camera, scale = self._viewer.scene.camera, np.abs(self._over.scale[-2:])
        canvas, image = np.array(self._viewer.canvas.size), np.array(shape_of(self._over)[1:])
        sides = np.minimum(np.maximum((bottom - top, right - left), _LEAST) / _FILL, image)
        camera.zoom = float((canvas / (sides * scale)).min())
        reach = np.minimum(canvas / camera.zoom / scale, image) / 2  # what lies beyond the image shows nothing
        middle = np.clip(((top + bottom) / 2, (left + right) / 2), reach, image - reach)
        camera.center = tuple(float(v) for v in self._over.data_to_world((place.z, *middle))[-3:])
