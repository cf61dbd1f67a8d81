"""The guided tour: synthetic tissue, truth and a plain baseline, in a viewer or as pictures and report."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from napari_em_seg import pipeline
from napari_em_seg.errors import EmSegError
from napari_em_seg.metrics import Scores
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.demo_chapters import Followed, Reviewed, propagation_chapter, review_chapter

__all__ = ["run_demo"]

Say = Callable[[str], object]

_MEASURES = {
    "adapted_rand_error": "adapted Rand error",
    "vi_split": "VI split (bits)",
    "vi_merge": "VI merge (bits)",
    "v_rand_f": "V-Rand F",
}

_REPORT = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>napari-em-seg demo</title>
<style>
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
 img { max-width: 100% } td, th { padding: .2rem 1rem .2rem 0; text-align: left }
</style>
<h1>napari-em-seg: the demo</h1>
<p>Synthetic tissue of $shape voxels (z, y, x), each $size nm, and its truth: $n_objects neurites.</p>
<h2>A plain baseline against the truth</h2>
<p>Gaussian smoothing and a watershed on the grey values, with nothing learned. A perfect segmentation has
errors of 0 and an F of 1.</p>
<table>$rows</table>
$pictures
<h2>Reconstructed and reviewed</h2>
<p>The dock “Review links” predicted affinities of a part of the tissue (12 × 256 × 256 voxels), linked its
sections by the assignment program, and listed $n_links links, the most doubtful first. A robot that knows the
truth then worked through the list with the dock's own keys: of $n_wrong wrong links $n_left were left after
$n_verdicts verdicts, and the adapted Rand error went from $before to $after.</p>
$review
<h2>Followed</h2>
<p>The true sections of the slice in the middle were seeds, and the dock “Propagate” followed them through the
others: $n_followed objects, with an adapted Rand error of $followed_error.</p>
$propagation
</html>
""")


def run_demo(folder: Path | None, say: Say) -> None:
    """Show the tour in a viewer until the user closes it, or leave pictures and a report in a folder."""
    _require_screen()
    say("Growing synthetic tissue …")
    raw, truth = pipeline.sample_volumes()
    say("Segmenting it with the plain baseline (Gaussian and watershed) …")
    baseline, scores = pipeline.baseline(raw, truth)
    for name, title in _MEASURES.items():
        say(f"  {title:20} {getattr(scores, name):.3f}")
    if folder is None:
        _show(raw, truth, baseline)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _take_pictures(raw, truth, baseline, folder)
        say("Reconstructing a part of it, and having a robot review the links …")
        reviewed = review_chapter(raw, truth, folder)
        first, *verdicts = reviewed.errors
        say(f"  {first} wrong links, {verdicts[-1]} after {len(verdicts)} verdicts")
        say("Following objects from the slice in the middle …")
        followed = propagation_chapter(raw, truth, folder)
        say(f"  {followed.n_objects} objects, adapted Rand error {followed.error:.3f}")
        _write_report(folder, truth, scores, pictures, reviewed, followed)
        say(f"Pictures and report.html are in {folder}")


def _require_screen() -> None:
    """Qt aborts the whole process without a screen, so say it before."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EmSegError(
            "There is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)",
            "a screen, be it a virtual one",
            "Run 'make demo', or 'xvfb-run -a napari-em-seg demo --headless DIR'",
        )


def _viewer(raw: Volume, truth: Volume, baseline: Volume):
    import napari

    from napari_em_seg.widgets.layers import add_volume

    viewer = napari.Viewer(title="napari-em-seg demo")
    for volume, name in ((raw, "raw"), (baseline, "baseline watershed"), (truth, "truth")):
        add_volume(viewer, volume, name=name)
    viewer.layers["baseline watershed"].visible = False
    viewer.layers["truth"].opacity = 0.4
    viewer.canvas.overlays.scale_bar.visible = True
    return viewer


def _show(raw: Volume, truth: Volume, baseline: Volume) -> None:
    import napari

    viewer = _viewer(raw, truth, baseline)
    viewer.window.add_plugin_dock_widget("napari-em-seg", "Review links")
    napari.run()


def _take_pictures(raw: Volume, truth: Volume, baseline: Volume, folder: Path) -> dict[str, str]:
    from napari_em_seg.widgets.pictures import save_picture

    viewer = _viewer(raw, truth, baseline)
    viewer.window.resize(1280, 800)
    layers = viewer.layers
    layers["truth"].visible = False
    save_picture(viewer, folder / "image.png")
    layers["truth"].visible = True
    save_picture(viewer, folder / "truth.png")
    layers["truth"].visible, layers["baseline watershed"].visible = False, True
    layers["baseline watershed"].opacity = 0.4
    save_picture(viewer, folder / "baseline.png")
    layers["baseline watershed"].visible = layers["raw"].visible = False
    _show_neurites(viewer, np.asarray(truth))
    save_picture(viewer, folder / "neurites-3d.png")
    _show_section(viewer)
    save_picture(viewer, folder / "image-3d.png")
    viewer.close()
    return {
        "image.png": "One section",
        "truth.png": "The same with its truth",
        "baseline.png": "The same with the baseline's objects",
        "neurites-3d.png": "Twelve neurites in 3-D; sections are 30 nm thick, pixels 6 nm wide",
        "image-3d.png": "The same with the section in the middle",
    }


def _show_neurites(viewer, labels: np.ndarray) -> None:
    """Show twelve neurites in 3-D: those that run through most sections, the middling ones in size."""
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    runs_through = np.isin(ids, labels[0]) & np.isin(ids, labels[-1])
    chosen = ids[runs_through][np.argsort(sizes[runs_through])[::-1][1:13]]
    shown = np.where(np.isin(labels, chosen), labels, 0)
    layer = viewer.layers["truth"]
    viewer.add_labels(shown, name="neurites", scale=layer.scale, units=layer.units)
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (0, 35, 50)
    viewer.fit_to_view()


def _show_section(viewer) -> None:
    """Show the section in the middle where it lies between the neurites."""
    raw = viewer.layers["raw"]
    raw.depiction = "plane"
    raw.plane.position = tuple(n / 2 for n in raw.data.shape)
    raw.plane.normal = (1, 0, 0)
    raw.rendering = "average"
    raw.visible = True


def _write_report(
    folder: Path,
    truth: Volume,
    scores: Scores,
    pictures: dict[str, str],
    reviewed: Reviewed,
    followed: Followed,
) -> None:
    rows = "".join(
        f"<tr><th>{escape(title)}<td>{getattr(scores, name):.3f}" for name, title in _MEASURES.items()
    )
    text = _REPORT.substitute(
        shape=" × ".join(map(str, truth.shape)),
        size=" × ".join(f"{length:g}" for length in truth.voxel_size_nm or ()),
        n_objects=scores.n_objects,
        rows=rows,
        pictures=_figures(pictures),
        review=_figures(reviewed.pictures),
        propagation=_figures(followed.pictures),
        n_followed=followed.n_objects,
        followed_error=f"{followed.error:.3f}",
        n_links=reviewed.n_links,
        n_wrong=reviewed.errors[0],
        n_left=reviewed.errors[-1],
        n_verdicts=len(reviewed.errors) - 1,
        before=f"{reviewed.before:.3f}",
        after=f"{reviewed.after:.3f}",
    )
    (folder / "report.html").write_text(text, "utf-8")
    (folder / "measures.json").write_text(json.dumps(asdict(scores), indent=1), "utf-8")


def _figures(pictures: dict[str, str]) -> str:
    return "".join(
        f'<h3>{escape(title)}</h3><img src="{name}" alt="{escape(title)}">' for name, title in pictures.items()
    )
