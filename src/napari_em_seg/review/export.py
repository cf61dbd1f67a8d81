"""Export: labels of all objects, links as a table, the history as it is or as a table."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.io import write_volume
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._location import absolute
from napari_em_seg.review.links import Links, link_name
from napari_em_seg.review.operations import Operation, to_json
from napari_em_seg.review.view import View
from napari_em_seg.volume import Progress, Volume, VoxelSize

__all__ = ["MakeLabels", "describe", "labels_of", "write_history", "write_labels", "write_links"]

MakeLabels = Callable[[Hypotheses, NDArray[np.int32]], NDArray[np.uint32]]
"""Called with all hypotheses and the object of each (0: none); returns the object of each voxel."""


def labels_of(view: View, make_labels: MakeLabels) -> NDArray[np.uint32]:
    """Return the object of each voxel (z, y, x); what was painted and is used lies above all else."""
    objects = view.objects
    n = len(view.reconstruction.z)
    labels = make_labels(view.reconstruction.hypotheses(), objects[:n])
    for number, region in view.state.regions.items():
        if objects[number]:
            (height, width), mask = region.shape, region.mask
            labels[region.z, region.y : region.y + height, region.x : region.x + width][mask] = objects[number]
    return labels


def write_labels(
    view: View,
    path: str | os.PathLike[str],
    make_labels: MakeLabels,
    *,
    voxel_size_nm: VoxelSize | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write the object of each voxel, in the format that the name says."""
    volume = Volume(labels_of(view, make_labels), voxel_size_nm, "labels", kind="labels")
    write_volume(volume, path, overwrite=overwrite, progress=progress)


def write_history(
    operations: Sequence[Operation], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write all operations: a CSV with the main columns if the name says so, else JSON lines with all."""
    place = absolute(path)
    if place.suffix.lower() == ".csv":
        _write_text(place, _csv(describe(operation) for operation in operations), overwrite)
        return
    _write_text(place, "".join(to_json(o.as_dict()) + "\n" for o in operations), overwrite)


def write_links(links: Links, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write links as CSV, in the order they are in; several regions are separated by blanks."""
    _write_text(absolute(path), _csv(links.as_dicts()), overwrite)


def describe(operation: Operation) -> dict[str, Any]:
    """Return the main entries of an operation, one line of a table."""
    payload = operation.payload
    link, choice = payload.get("link"), payload.get("choice", payload.get("variable"))
    return {
        "id": operation.id, "time": operation.time, "user": operation.user, "duration_s": operation.duration_s,
        "kind": operation.kind, "link": None if link is None else link_name(link), "choice": choice,
        "target": payload.get("target"), "text": payload.get("text", payload.get("name")),
        "objective_before": operation.objective_before, "objective_after": operation.objective_after,
    }  # fmt: skip


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, row in enumerate(rows):
        if i == 0:
            writer.writerow(row)
        writer.writerow(" ".join(map(str, v)) if isinstance(v, list) else v for v in row.values())
    return text.getvalue()


def _write_text(path: Path, text: str, overwrite: bool) -> None:
    with atomic(path, overwrite=overwrite) as partial:
        partial.write_text(text, "utf-8")
