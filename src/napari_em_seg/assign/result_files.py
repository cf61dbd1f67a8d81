"""A solution as a graph (JSON, GraphML)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, KINDS, Assignments
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.result import check_chosen, links, objects
from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic

__all__ = ["to_graph", "write_graphml", "write_json"]

Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]
Row = dict[str, Any]

_OWN = ("source", "target", "assignment", "kind", "object")
_GRAPHML = "http://graphml.graphdrawing.org/xmlns"


def to_graph(
    hypotheses: Hypotheses,
    assignments: Assignments,
    chosen: Mask,
    columns: Columns | None = None,
    numbers: NDArray[np.int32] | None = None,
) -> dict[str, Any]:
    """Return the solution as nodes and links in terms of JSON, in the layout that networkx calls node-link.

    A node is a used hypothesis: ``id``, ``z``, ``y``, ``x`` (its centre), ``area``, ``object``, and whether an
    object ``begins`` or ``ends`` there. A link leads from a hypothesis (``source``) to one of the next slice
    (``target``): ``assignment``, ``kind``, ``object``, and the columns: what else to say, by name, of all
    assignments or of those chosen; a number that is not finite is None. ``numbers`` has the object of each
    hypothesis, where more than links makes them one.
    """
    check_chosen(assignments, chosen)
    numbers = objects(hypotheses, assignments, chosen) if numbers is None else numbers
    more = _of_chosen(assignments, chosen, columns)
    begins, ends = (np.zeros(len(hypotheses), np.bool_) for _ in range(2))
    begins[assignments.targets[chosen & (assignments.kind == APPEARANCE), 0]] = True
    ends[assignments.sources[chosen & (assignments.kind == DISAPPEARANCE), 0]] = True
    at = np.flatnonzero(numbers)
    names = ("id", "z", "y", "x", "area", "object", "begins", "ends")
    values = (at, hypotheses.z[at], *hypotheses.centre[at].round(2).T, hypotheses.area[at], numbers[at],
              begins[at], ends[at])  # fmt: skip
    nodes = [
        dict(zip(names, row, strict=True)) for row in zip(*(part.tolist() for part in values), strict=True)
    ]
    number, source, target = links(assignments, chosen)
    place = np.searchsorted(np.flatnonzero(chosen), number)
    edges = [
        {"source": i, "target": j, "assignment": m, "kind": KINDS[kind], "object": name}
        | {column: entries[k] for column, entries in more.items()}
        for i, j, m, kind, name, k in zip(
            source.tolist(), target.tolist(), number.tolist(), assignments.kind[number].tolist(),
            numbers[source].tolist(), place.tolist(), strict=True,
        )
    ]  # fmt: skip
    about = {"shape": list(hypotheses.nodes.shape), "objects": len(np.unique(numbers[at]))}
    return {"directed": True, "multigraph": False, "graph": about, "nodes": nodes, "links": edges}


def write_json(path: Path, contents: Any, *, overwrite: bool = False) -> None:
    """Write a graph as JSON, whole or not at all."""
    with atomic(Path(path), overwrite=overwrite) as partial:
        partial.write_text(json.dumps(contents, allow_nan=False), encoding="utf-8")


def write_graphml(path: Path, graph: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a graph from `to_graph` as GraphML, whole or not at all; what is None is left out."""
    root = ElementTree.Element("graphml", {"xmlns": _GRAPHML})
    keys: dict[tuple[str, str], str] = {}
    body = ElementTree.Element("graph", {"id": "G", "edgedefault": "directed"})
    for node in graph["nodes"]:
        element = ElementTree.SubElement(body, "node", {"id": str(node["id"])})
        _put(element, "node", node, ("id",), keys)
    for edge in graph["links"]:
        ends = {end: str(edge[end]) for end in ("source", "target")}
        _put(ElementTree.SubElement(body, "edge", ends), "edge", edge, ("source", "target"), keys)
    for (domain, name), key in keys.items():
        of_type = _type(domain, name, graph)
        ElementTree.SubElement(root, "key", {"id": key, "for": domain, "attr.name": name, "attr.type": of_type})
    root.append(body)
    with atomic(Path(path), overwrite=overwrite) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _put(
    element: ElementTree.Element, domain: str, row: Row, left_out: tuple[str, ...], keys: dict[Any, str]
) -> None:
    """Write the attributes of a node or a link."""
    for name, value in row.items():
        if name not in left_out and value is not None:
            key = keys.setdefault((domain, name), f"d{len(keys)}")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            ElementTree.SubElement(element, "data", {"key": key}).text = text


def _type(domain: str, name: str, graph: Mapping[str, Any]) -> str:
    """Return what GraphML calls the type of an attribute."""
    rows = graph["nodes" if domain == "node" else "links"]
    found = {type(row[name]) for row in rows if row[name] is not None}
    for of_type, title in ((str, "string"), (float, "double"), (int, "long")):
        if of_type in found:
            return title
    return "boolean"


def _of_chosen(assignments: Assignments, chosen: Mask, columns: Columns | None) -> dict[str, list[Any]]:
    """Return the columns of chosen assignments as Python values."""
    n = int(chosen.sum())
    found = {}
    for name, column in (columns or {}).items():
        values = np.asarray(column)
        if name in _OWN or values.shape not in ((len(assignments),), (n,)):
            raise DataError(f"The column {name} has the shape {values.shape}",
                            f"another name than those of links, and {len(assignments)} values, or {n} of "
                            "those chosen", "Compute it anew")  # fmt: skip
        values = values[chosen] if values.shape == (len(assignments),) else values
        found[name] = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values.tolist()]
    return found
