"""Guesses that readers share: whether an array holds labels, and what a unit of length is in nm."""

import re
from typing import Any

import numpy as np

from napari_em_seg.volume import Kind, VoxelSize

__all__ = ["guess_kind", "to_nm", "unit_in_nm"]

_LABEL_WORDS = frozenset(
    {"label", "labels", "seg", "segs", "segment", "segments", "segmentation", "supervoxels", "fragments"}
    | {"id", "ids", "neuron", "neurons", "object", "objects", "instance", "instances", "seeds"}
    | {"gt", "truth", "groundtruth"}
)

_NM = {
    "angstrom": 0.1,
    "Å": 0.1,
    "picometer": 1e-3,
    "pm": 1e-3,
    "nanometer": 1.0,
    "nanometers": 1.0,
    "nanometre": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "micrometers": 1e3,
    "micrometre": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "mm": 1e6,
    "centimeter": 1e7,
    "cm": 1e7,
    "meter": 1e9,
    "m": 1e9,
}


def guess_kind(name: str, dtype: Any) -> Kind:
    """Labels are whole numbers of 32 or 64 bits, or smaller ones under a name that says so."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b" or (dtype.kind in "ui" and dtype.itemsize >= 4):
        return "labels"
    words = set(re.split(r"[^a-z]+", name.lower()))
    return "labels" if dtype.kind in "ui" and words & _LABEL_WORDS else "image"


def unit_in_nm(unit: str | None) -> float | None:
    """Length of a unit in nm, or None for pixels and unknown units."""
    if unit is None:
        return None
    return _NM.get(unit.strip()) or _NM.get(unit.strip().lower())


def to_nm(sizes: Any, units: Any) -> VoxelSize | None:
    """Turn three sizes with their units into a voxel size; None where anything is missing."""
    if np.shape(sizes) != (3,) or np.shape(units) != (3,):
        return None
    try:
        lengths = [float(size) * (unit_in_nm(unit) or 0.0) for size, unit in zip(sizes, units, strict=True)]
    except (TypeError, ValueError):
        return None
    return (lengths[0], lengths[1], lengths[2]) if min(lengths) > 0 and max(lengths) < np.inf else None
