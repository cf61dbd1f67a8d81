"""Dock "Voxel size": shows the size of a layer's voxels, and lets the user say it where the file does not."""

import napari
from magicgui.widgets import ComboBox, Container, FloatSpinBox, Label, PushButton
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_info

from napari_em_seg.io import to_nm
from napari_em_seg.volume import AXES, VoxelSize, as_voxel_size
from napari_em_seg.widgets.docking import FollowsDock
from napari_em_seg.widgets.layers import role_of, shape_of, take_away, voxel_size_options, without_remark
from napari_em_seg.widgets.state import real

__all__ = ["VoxelSizeWidget", "layer_voxel_size", "set_layer_voxel_size"]


_LONGEST = 1e12  # nm; layers of other microscopes may be open as well
_DECIMALS = 4
_WIDTH = 300  # pixels; the title that napari gives the dock and usual layer names fit


class VoxelSizeWidget(Container):
    """Voxel size of a layer, and of those that share its shape and its old voxel size."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = real(viewer)
        self._layer = ComboBox(
            label="Layer", choices=self._stacks, nullable=False, tooltip="The image or labels to measure"
        )
        self._state = Label(label="Now")
        self._sizes = [
            FloatSpinBox(label=f"{axis} (nm)", min=0.0, max=_LONGEST, step=1.0, tooltip=tooltip)
            for axis, tooltip in zip(
                AXES,
                (
                    "Distance between slices in nm",
                    "Height of a pixel in nm",
                    "Width of a pixel in nm",
                ),
                strict=True,
            )
        ]
        self._apply = PushButton(
            text="Set voxel size",
            tooltip="Set it on this layer, and on those that share its shape and old voxel size",
        )
        for box in self._sizes:
            box.native.setDecimals(_DECIMALS)  # magicgui would round 4.625 to 4.63
        super().__init__(widgets=[self._layer, self._state, *self._sizes, self._apply])
        self._shown: Layer | None = None
        self._layer.changed.connect(self._on_layer_changed)
        for box in self._sizes:
            box.changed.connect(self._on_size_changed)
        self.native.setMinimumWidth(_WIDTH)
        self._follows_dock = FollowsDock(self.native)
        self.native.installEventFilter(self._follows_dock)
        self._apply.changed.connect(self._on_apply)
        viewer.layers.events.inserted.connect(self._on_layers_changed)
        viewer.layers.events.removed.connect(self._on_layers_changed)
        self.native.destroyed.connect(self._disconnect)
        self._on_layer_changed()

    def _stacks(self, _widget: object = None) -> list[Layer]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image | Labels) and layer.ndim == 3]

    def _disconnect(self) -> None:
        self._follow(None)
        self._viewer.layers.events.inserted.disconnect(self._on_layers_changed)
        self._viewer.layers.events.removed.disconnect(self._on_layers_changed)

    def _on_layers_changed(self, _event: object = None) -> None:
        self._layer.reset_choices()
        self._on_layer_changed()

    def _on_layer_changed(self, _layer: object = None) -> None:
        layer = self._layer.value
        self._follow(layer)
        self._on_size_changed()
        if layer is None:
            self._state.value = "open a stack first"
            return
        size = layer_voxel_size(layer)
        self._state.value = " × ".join(f"{length:g}" for length in size) + " nm" if size else "unknown"
        for box, length in zip(self._sizes, size or (0, 0, 0), strict=True):
            box.value = length

    def _follow(self, layer: Layer | None) -> None:
        """Notice when somebody else changes the layer that is shown."""
        if layer is self._shown:
            return
        for events in (self._shown.events,) if self._shown is not None else ():
            events.scale.disconnect(self._on_layer_changed)
            events.units.disconnect(self._on_layer_changed)
        self._shown = layer
        if layer is not None:
            layer.events.scale.connect(self._on_layer_changed)
            layer.events.units.connect(self._on_layer_changed)

    def _on_size_changed(self, _size: float = 0.0) -> None:
        self._apply.enabled = self._layer.value is not None and all(box.value > 0 for box in self._sizes)

    def _on_apply(self) -> None:
        size = as_voxel_size([box.value for box in self._sizes])
        chosen = self._layer.value
        before = layer_voxel_size(chosen)
        together = [
            x for x in self._stacks() if shape_of(x) == shape_of(chosen) and layer_voxel_size(x) == before
        ]
        take_away(self._viewer, [x for x in self._stacks() if role_of(x) == "preview"])  # of the old size
        slices = self._viewer.dims.current_step
        for layer in together:
            set_layer_voxel_size(layer, size)
        self._viewer.dims.current_step = slices
        self._viewer.fit_to_view()
        self._on_layers_changed()
        show_info(f"{' × '.join(f'{s:g}' for s in size)} nm set on {', '.join(x.name for x in together)}")


def layer_voxel_size(layer: Layer) -> VoxelSize | None:
    """Voxel size of a layer, or None where its units are pixels."""
    return to_nm(tuple(layer.scale), tuple(str(unit) for unit in layer.units))


def set_layer_voxel_size(layer: Layer, size: VoxelSize) -> None:
    """Set scale and units, and take the remark off the layer's name."""
    options = voxel_size_options(size)
    layer.scale, layer.units = options["scale"], options["units"]
    layer.name = without_remark(layer.name)
