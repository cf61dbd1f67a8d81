"""Volumes to napari layers and back: scale, units and type on the way in, voxel size on the way out."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from napari_em_seg.errors import DataError
from napari_em_seg.io import to_nm
from napari_em_seg.pipeline import refuse_not_finite
from napari_em_seg.pipeline.config import STEPS
from napari_em_seg.volume import AXES, ArrayLike, Volume, VoxelSize

__all__ = [
    "TISSUE",
    "UNKNOWN_SIZE",
    "LayerData",
    "Role",
    "add_volume",
    "affinities_of",
    "fits_memory",
    "go_to_slice",
    "is_whole",
    "marked",
    "pixel_at",
    "placed_like",
    "refuse_half",
    "role_of",
    "shape_of",
    "slice_in_view",
    "take_away",
    "to_layer_data",
    "to_volume",
    "unread_volume_of",
    "volume_of_layer",
    "voxel_size_options",
    "without_remark",
]

TISSUE = "tissue"
"""In the metadata of a layer: what people said that it shows."""

LayerData = tuple[Any, dict[str, Any], str]

Role = Literal["", "boundary", "affinities", "segments", "objects", "propagated", "errors", "preview"]
"""What a layer is in the way from the image to objects, whatever its name; nothing for what people opened."""

UNKNOWN_SIZE = " (voxel size unknown)"
"""Ends the name of a layer whose voxel size nobody has said yet."""

_ROLE = "napari-em-seg role"
_VERTEX_ARRAYS = 16  # that every OpenGL has
_LOAD_LABELS_BELOW = 2**30  # bytes; only labels in memory can be painted


def to_layer_data(volume: Volume) -> LayerData:
    """Describe a volume as a napari layer; images stay on disk, labels that fit are loaded for editing."""
    options: dict[str, Any] = {
        "name": volume.name + ("" if volume.voxel_size_nm else UNKNOWN_SIZE),
        "axis_labels": AXES,
        "metadata": {"source": volume.source},
        **voxel_size_options(volume.voxel_size_nm),
    }
    if volume.kind == "labels":
        data = np.asarray(volume) if fits_memory(volume) else volume
        if data.dtype == bool:
            data = np.asarray(data).view(np.uint8)
        return data, options, "labels"
    limits = _contrast_limits(volume)
    if limits:
        options["contrast_limits"] = limits
    if volume.pyramid:
        return [volume, *volume.pyramid], {**options, "multiscale": True}, "image"
    return volume, {**options, "multiscale": False}, "image"


def fits_memory(volume: Volume) -> bool:
    """Whether labels are loaded, as painting needs them."""
    return volume.nbytes < _LOAD_LABELS_BELOW


def _contrast_limits(volume: Volume) -> tuple[float, float] | None:
    """Stretch the contrast of masks: napari shows 8 bits from 0 to 255, where 1 is black."""
    if volume.dtype.kind == "f":
        return None
    highest = float(volume[len(volume) // 2].max())
    return (0.0, 1.0) if highest <= 1 else None


def without_remark(name: str) -> str:
    """Take the remark on the unknown voxel size off a layer's name, wherever napari put a number."""
    return name.replace(UNKNOWN_SIZE, "")


def voxel_size_options(voxel_size_nm: VoxelSize | None) -> dict[str, Any]:
    """Scale and units of a layer; a layer without voxel size is measured in pixels."""
    if voxel_size_nm is None:
        return {}
    return {"scale": voxel_size_nm, "units": ("nm", "nm", "nm")}


def to_volume(data: Any, options: dict[str, Any], layer_type: str) -> Volume:
    """Turn a layer's data and options into a volume, as napari hands them to a writer."""
    if options.get("multiscale") or isinstance(data, list | tuple):
        data = data[0]
    name = without_remark(str(options.get("name", layer_type)))
    if np.ndim(data) != 3:
        raise DataError(
            f"The layer {name!r} has {np.ndim(data)} axes",
            "a stack of slices with the three axes (z, y, x)",
            "Save 2-D and time series layers with napari's own writers",
        )
    units = tuple(str(unit) for unit in options.get("units") or ())
    voxel_size = to_nm(tuple(float(s) for s in options.get("scale") or ()), units)
    source = str((options.get("metadata") or {}).get("source", ""))
    kind = "labels" if layer_type == "labels" else "image"
    if isinstance(data, Volume):
        return Volume(data.data, voxel_size, name, source, kind)
    return Volume(data, voxel_size, name, source, kind)


def volume_of_layer(layer: Any) -> Volume:
    """Return what an image layer shows as a volume; numbers that are not finite are refused."""
    volume = unread_volume_of(layer)
    refuse_not_finite(volume)
    return volume


def is_whole(layer: Any) -> bool:
    """Whether no part of a layer is still to be predicted: how it was made is kept once it is complete."""
    return "models" not in layer.metadata or STEPS in layer.metadata


def refuse_half(layer: Any) -> None:
    """Raise a DataError for a prediction that was stopped: what is missing would count as inside of cells."""
    if not is_whole(layer):
        raise DataError(f"The prediction {layer.name} is not complete", "one that is, of all slices",
                        "Press Go on in the dock Predict, or predict it anew")  # fmt: skip


def unread_volume_of(layer: Any) -> Volume:
    """Return what an image or labels layer shows as a volume, of which nothing is read yet."""
    from napari.layers import Labels

    options = {"name": layer.name, "scale": tuple(layer.scale), "units": layer.units,
               "metadata": layer.metadata, "multiscale": layer.multiscale}  # fmt: skip
    return to_volume(layer.data, options, "labels" if isinstance(layer, Labels) else "image")


def placed_like(layer: Any) -> dict[str, Any]:
    """Return the options that put a layer where another one of the same shape lies."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def marked(role: Role, **more: Any) -> dict[str, Any]:
    """Return the metadata of a layer that has a role; see `role_of`.

    A layer of affinities shows the boundaries that follow from them, and keeps the affinities (3, z, y, x)
    themselves as ``affinities`` among ``more``.
    """
    return {_ROLE: role, **more}


def role_of(layer: Any) -> Role:
    """Return what a layer is in the way from the image to objects."""
    role: Role = layer.metadata.get(_ROLE, "")
    return role


def affinities_of(layer: Any) -> ArrayLike | None:
    """Return the affinities (3, z, y, x) behind a layer, if there are some."""
    found: ArrayLike | None = layer.metadata.get("affinities")
    return found


def add_volume(viewer: Any, volume: Volume, **options: Any) -> Any:
    """Show a volume in a viewer, and return its layer."""
    from napari.layers import Layer

    data, usual, layer_type = to_layer_data(volume)
    return viewer.add_layer(Layer.create(data, {**usual, **options}, layer_type))


def shape_of(layer: Any) -> tuple[int, ...]:
    """Return the shape of a layer's data, of the finest level where there are several."""
    return tuple(layer.data[0].shape if layer.multiscale else layer.data.shape)


def pixel_at(layer: Any, position: Sequence[float]) -> tuple[int, int, int] | None:
    """Return the voxel of a layer at a place in the world; None outside of it."""
    z, y, x = (round(float(v)) for v in layer.world_to_data(np.asarray(position)[-3:]))
    is_inside = all(0 <= v < n for v, n in zip((z, y, x), shape_of(layer), strict=True))
    return (z, y, x) if is_inside else None


def slice_in_view(viewer: Any, layer: Any) -> int:
    """Return the slice of a stack that a viewer shows, the nearest one where it shows none."""
    z = layer.world_to_data(viewer.dims.point[-3:])[0]
    return int(np.clip(round(float(z)), 0, shape_of(layer)[0] - 1))


def go_to_slice(viewer: Any, layer: Any, z: int) -> None:
    """Show a slice of a stack."""
    viewer.dims.set_point(viewer.dims.ndim - 3, float(layer.data_to_world((z, 0, 0))[0]))


def take_away(viewer: Any, layers: Iterable[Any]) -> None:
    """Remove those of some layers that are still there.

    vispy leaves arrays of vertices switched on whose memory napari frees with the layer. Where several layers
    of a type go before anything is drawn again, OpenGL then reads what is no more, and the process ends.
    """
    from vispy.gloo import gl

    canvas = getattr(getattr(getattr(viewer, "window", None), "_qt_viewer", None), "canvas", None)
    for layer in list(layers):
        if layer not in viewer.layers:  # or not any more: without its image a review takes its layers away
            continue
        viewer.layers.remove(layer)
        if canvas is not None:
            canvas._scene_canvas.set_current()
            for place in range(_VERTEX_ARRAYS):
                gl.glDisableVertexAttribArray(place)
