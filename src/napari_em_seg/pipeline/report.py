"""Report: one HTML file with pictures and numbers of a segmentation, or of a session and its review."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from napari_em_seg import __version__
from napari_em_seg.errors import EmSegError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.metrics import ObjectShapes
from napari_em_seg.pipeline._pictures import (
    SOURCE,
    TARGET,
    Views,
    colours_of,
    contrast_of,
    data_uri,
    figure_uri,
    regions_picture,
    section_picture,
)
from napari_em_seg.pipeline.evaluation import judge_labels
from napari_em_seg.review import Session, Status, curve, verdicts_per_minute
from napari_em_seg.review.links import link_name
from napari_em_seg.review.scene import in_words, scene_of
from napari_em_seg.volume import Progress, Volume

__all__ = ["write_report"]

_LARGEST = 30  # objects in the table and in the views
_DOUBTFUL = 12  # links with a picture

_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
 :root { color-scheme: light dark }
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
 td, th { padding: .15rem 1rem .15rem 0; text-align: right } th:first-child, td:first-child { text-align: left }
 td.words { text-align: left } img { max-width: 100%; vertical-align: middle } figure { margin: 1rem 0 }
 .plot { background: #fff } .row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 18rem }
 .swatch { display: inline-block; width: 1em; height: 1em; vertical-align: middle; margin-right: .5em }
 pre { overflow-x: auto; padding: .5rem; border: 1px solid #8888 }
</style>
<h1>$title</h1>
$body
<p><small>Made by napari-em-seg $version.</small></p>
</html>
""")


def write_report(
    out: Path,
    labels: Volume,
    *,
    image: Volume | None = None,
    session: Session | None = None,
    about: str = "",
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write a report; all pictures are within the file.

    Parameters
    ----------
    out
        The file.
    labels
        The objects.
    image
        What they are shown on; of a session its image, if that is where it was.
    session
        What they come from: the report then tells of its review.
    about
        How they were made, as text.
    overwrite
        Whether a file that is there may be replaced.
    progress
        Called with steps done and steps in all; may end it by raising.
    """
    title = session.path.name if session is not None else labels.name
    shapes = judge_labels(labels, labels.voxel_size_nm, progress=_half(progress, 0))
    words = ""
    if session is not None and image is None:
        try:
            image = session.volume("raw")
        except EmSegError as error:
            words = f"<p>Without the image: {escape(str(error))}</p>"
    if image is not None and image.shape != labels.shape:
        image, words = None, "<p>Without the image, which has another shape.</p>"
    body = [
        words,
        _numbers(labels, shapes),
        _sections(image, labels),
        _views(labels, shapes, _half(progress, 1)),
    ]
    if session is not None:
        body += [_review(session), _doubtful(session, image)]
    body += [_sizes(shapes), _largest(labels, shapes)]
    if about:
        body.append(f"<h2>How it was made</h2><pre>{escape(about)}</pre>")
    page = _PAGE.substitute(title=escape(title), body="\n".join(body), version=__version__)
    with atomic(out, overwrite=overwrite) as partial:
        partial.write_text(page, "utf-8")


def _half(progress: Progress, before: int) -> Progress:
    return None if progress is None else lambda done, n: progress(before * n + done, 2 * n)


def _numbers(labels: Volume, shapes: ObjectShapes) -> str:
    found, size = shapes.figures(), labels.voxel_size_nm
    rows = {
        "Voxels (z, y, x)": " × ".join(map(str, labels.shape)),
        "Voxel size": "unknown" if size is None else " × ".join(f"{s:g}" for s in size) + " nm",
        "Objects": f"{found.n_objects:,}",
        "Labelled": f"{found.n_voxels / labels.size:.1%} of all voxels",
    }
    if size is not None:
        rows |= {
            "Length of objects, median": f"{found.length_median_um:.2f} µm",
            "The longest": f"{found.length_longest_um:.2f} µm",
        }
    rows |= {
        "Ends inside the volume": f"{found.n_ends:,}, of {found.n_with_ends:,} objects",
        "Objects that touch no border (1,000 voxels or more)": f"{found.n_orphans:,}",
        "The largest object": f"{found.largest_share:.1%} of all labelled voxels",
    }
    return "<h2>Numbers</h2>" + _table(rows)


def _table(rows: dict[str, str]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in rows.items())
    return f"<table>{cells}</table>"


def _figure(uri: str, words: str, kind: str = "") -> str:
    return f'<figure><img class="{kind}" src="{uri}" alt="{escape(words)}"><figcaption>{escape(words)}</figcaption></figure>'  # noqa: E501


def _sections(image: Volume | None, labels: Volume) -> str:
    contrast = (0.0, 1.0) if image is None else contrast_of(image)
    places = sorted({(2 * k + 1) * len(labels) // 6 for k in range(3)})
    shown = [_figure(data_uri(section_picture(image, labels, z, contrast)), f"Slice {z}") for z in places]
    return f'<h2>Sections</h2><div class="row">{"".join(shown)}</div>'


def _views(labels: Volume, shapes: ObjectShapes, progress: Progress) -> str:
    largest = shapes.ids[np.argsort(-shapes.voxels, kind="stable")[:_LARGEST]]
    views = Views(labels.shape, largest, labels.voxel_size_nm or (1.0, 1.0, 1.0))
    for z in range(len(labels)):
        views.put(z, labels[z])
        if progress is not None:
            progress(z + 1, len(labels))
    return (
        f"<h2>The {len(largest)} largest objects</h2>"
        + _figure(data_uri(views.from_above()), "Seen along z from the first slice; what is farther is darker")
        + _figure(data_uri(views.from_the_side()), "Seen along y; the first slice is at the top")
    )


def _sizes(shapes: ObjectShapes) -> str:
    from matplotlib.figure import Figure

    figure = Figure((7, 2.6), layout="constrained")
    axes = figure.subplots()
    top = float(np.log10(shapes.voxels.max())) + 0.05
    axes.hist(shapes.voxels, np.logspace(0, top, 40).tolist(), color="#0072B2")
    axes.set(xscale="log", xlabel="voxels", ylabel="objects")
    return "<h2>Sizes</h2>" + _figure(figure_uri(figure), "How many objects there are of each size", "plot")


def _largest(labels: Volume, shapes: ObjectShapes) -> str:
    order = np.argsort(-shapes.voxels, kind="stable")[:_LARGEST]
    size = labels.voxel_size_nm
    head = ["object", "voxels", *(["µm³", "length (µm)"] if size else []), "slices", "ends inside"]
    rows = [f"<tr>{''.join(f'<th>{name}' for name in head)}"]
    for row, colour in zip(order.tolist(), colours_of(shapes.ids[order]).tolist(), strict=True):
        swatch = f'<span class="swatch" style="background:rgb{tuple(colour)}"></span>'
        cells = [f"{swatch}{shapes.ids[row]}", f"{shapes.voxels[row]:,}"]
        if size:
            cells += [f"{shapes.voxels[row] * np.prod(size) / 1e9:.3f}", f"{shapes.length_um[row]:.2f}"]
        cells += [f"{shapes.n_slices[row]}", f"{shapes.ends[row]}"]
        rows.append("<tr>" + "".join(f"<td>{cell}" for cell in cells))
    return f"<table>{''.join(rows)}</table>"


def _review(session: Session) -> str:
    view = session.view
    links, left, model = view.links, view.expected(), view.reconstruction.model or {}
    answered = Counter(Status(int(said)).name.lower().replace("_", " ") for said in links.status)
    n_open = answered.pop("open", 0)
    said = ", ".join(f"{n:,} {name}" for name, n in sorted(answered.items())) or "none yet"
    people = Counter(operation.user for operation in view.operations)
    rows = {
        "Model": str(model.get("name", "unknown")),
        "Objective": f"{view.outcome.objective:,.2f}, at most {view.outcome.gap:.3%} above the best",
        "Links": f"{len(links):,}",
        "Answered": said,
        "Open": f"{n_open:,}",
        "Errors that are expected to be left": f"{left.mean:.0f} ({left.low} to {left.high}, 90 %)",
        "Operations": ", ".join(f"{n:,} by {name}" for name, n in sorted(people.items())) or "none yet",
    }
    pace = verdicts_per_minute(view.operations)
    if pace:
        rows["Pace"] = f"{pace:.1f} verdicts a minute"
    return "<h2>Review</h2>" + _table(rows) + _curve(curve(view.operations))


def _curve(points: Sequence[Any]) -> str:
    if len(points) < 2:
        return ""
    from matplotlib.figure import Figure

    figure = Figure((7, 2.6), layout="constrained")
    axes, n = figure.subplots(), [p.n_verdicts for p in points]
    axes.fill_between(n, [p.low for p in points], [p.high for p in points], color="#56B4E9", alpha=0.4)
    axes.plot(n, [p.mean for p in points], color="#0072B2")
    axes.set(xlabel="verdicts", ylabel="errors expected left", ylim=(0, None))
    return _figure(figure_uri(figure), "Errors expected to be left after each verdict, with 90 %", "plot")


def _doubtful(session: Session, image: Volume | None) -> str:
    """Return the open links that are most doubtful, with both slices."""
    view = session.view
    links = view.links[view.links.is_open].sorted_by("confidence")
    contrast = (0.0, 1.0) if image is None else contrast_of(image)
    rows = ["<tr><th>link<th>slices<th>p(error)<th><th class=words>what it says"]
    for link, p_error in zip(links.id[:_DOUBTFUL].tolist(), links.p_error.tolist(), strict=False):
        scene = scene_of(view, link, (), view.objects)
        z = scene.z
        pictures = "".join(
            f'<img src="{data_uri(picture)}" alt="slice {z}"> '
            for picture in (
                regions_picture(image, z, scene.box, scene.asked.sources, contrast, SOURCE),
                regions_picture(image, z + 1, scene.box, scene.asked.targets, contrast, TARGET),
            )
        )
        rows.append(f"<tr><td>{link_name(link)}<td>{z}→{z + 1}<td>{p_error:.2f}<td>{pictures}"
                    f"<td class=words>{escape(in_words(scene.asked))}")  # fmt: skip
    if len(rows) == 1:
        return ""
    return f"<h2>The most doubtful open links</h2><table>{''.join(rows)}</table>"
