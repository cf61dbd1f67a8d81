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
    "angstroms": 0.1,
    "ångström": 0.1,
    "nanometres": 1.0,
    "micrometres": 1e3,
    "millimeters": 1e6,
    "millimetres": 1e6,
    "meters": 1e9,
    "metres": 1e9,
    "metre": 1e9,
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


def guess_kind(name: str, dtype: Any, stated: Any = None) -> Kind:
    """Take the kind that a file states; else labels are integers of 32 or 64 bits, or named as such."""
    if stated == "labels" or stated == "image":
        return "labels" if stated == "labels" else "image"
    dtype, words = np.dtype(dtype), set(re.split(r"[^a-z]+", name.lower()))
    if dtype.kind == "b" or (dtype.kind in "ui" and dtype.itemsize >= 4):
        return "labels"
    return "labels" if dtype.kind in "ui" and words & _LABEL_WORDS else "image"


def unit_in_nm(unit: Any) -> float | None:
    """Length of a unit in nm, or None for pixels and unknown units."""
    if not isinstance(unit, str):
        return None
    unit = unit.strip().replace("\\u00B5", "µ")  # ImageJ writes the letter as its number
    return _NM.get(unit) or (_NM.get(unit.lower()) if len(unit) > 2 else None)  # Mm is not mm


def to_nm(sizes: Any, units: Any) -> VoxelSize | None:
    """Turn three sizes with their units into a voxel size; None where anything is missing or odd."""
    try:
        z, y, x = (float(size) * (unit_in_nm(unit) or 0.0) for size, unit in zip(sizes, units, strict=True))
    except (TypeError, ValueError):
        return None
    return (z, y, x) if all(0 < length < np.inf for length in (z, y, x)) else None
