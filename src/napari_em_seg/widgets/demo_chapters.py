"""The demo's chapters on the docks: a robot reviews a part of the sample; objects are followed through it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.robot import Robot
from napari_em_seg.review import curve
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.volume import Volume

__all__ = ["Followed", "Reviewed", "draw_curve", "propagation_chapter", "review_chapter"]

PART = (slice(0, 12), slice(0, 256), slice(0, 256))
"""What is reconstructed: a quarter of a slice, so that the demo takes a minute."""

MOST = 400
"""Verdicts after which the robot gives up."""


@dataclass(frozen=True)
class Reviewed:
    """What the robot found: links, wrong ones among them after each verdict, and the pictures by file name."""

    n_links: int
    errors: tuple[int, ...]
    before: float
    after: float
    pictures: dict[str, str]


@dataclass(frozen=True)
class Followed:
    """How many objects were followed, the adapted Rand error of that, and the picture."""

    n_objects: int
    error: float
    pictures: dict[str, str]


def review_chapter(raw: Volume, truth: Volume, folder: Path) -> Reviewed:
    """Press the dock's buttons as a person would, and leave pictures, a curve and the session in a folder."""
    from napari_em_seg.widgets.pictures import save_picture, wait_for
    from napari_em_seg.widgets.review.dock import ReviewWidget

    known = np.asarray(truth[PART])
    viewer = _viewer_of(raw)
    dock = ReviewWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Review links", area="right")
    dock.begin.place.setText(str(folder / "demo.emseg"))
    dock.begin.go.click()
    wait_for(dock, 0.2)
    robot = Robot(dock.desk.session.reconstruction, known)
    before, errors = _rand(dock, known), [robot.errors(dock.desk.sheet.view.outcome)]
    save_picture(viewer, folder / "review.png")
    dock._actions["3-D"]()
    wait_for(dock, 0.2)
    save_picture(viewer, folder / "review-3d.png")
    dock._actions["3-D"]()
    while dock.desk.link != NO_LINK and errors[-1] and len(errors) <= MOST:
        listed = [] if dock.desk.scene is None else [c.link for c in dock.desk.scene.alternatives]
        dock._actions[robot.answer(dock.desk.link, listed)]()
        wait_for(dock, 0)
        errors.append(robot.errors(dock.desk.sheet.view.outcome))
    save_picture(viewer, folder / "reviewed.png")
    points = curve(dock.desk.session.operations)
    draw_curve(errors, points, folder / "errors.png")
    found = Reviewed(
        len(dock.desk.sheet.links), tuple(errors), before, _rand(dock, known),
        {
            "review.png": "The dock Review links: the worst link of the reconstruction and its alternatives",
            "review-3d.png": "The same link in 3-D",
            "reviewed.png": f"After {len(errors) - 1} verdicts of a robot that knows the truth",
            "errors.png": "Wrong links against verdicts: the true number, and what the dock expected",
        },
    )  # fmt: skip
    dock.shut_down()
    dock.work.wait()
    viewer.close()
    (folder / "review.json").write_text(
        json.dumps({"links": found.n_links, "errors": errors, "adapted_rand_error_before": found.before,
                    "adapted_rand_error_after": found.after}, indent=1), "utf-8",
    )  # fmt: skip
    return found


def propagation_chapter(raw: Volume, truth: Volume, folder: Path) -> Followed:
    """Seed the true sections of the slice in the middle, and have the dock follow them."""
    from napari_em_seg.widgets.pictures import save_picture, wait_for
    from napari_em_seg.widgets.propagate.dock import PropagateWidget

    known = np.asarray(truth[PART])
    viewer = _viewer_of(raw)
    dock = PropagateWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Propagate", area="right")
    z = len(known) // 2
    viewer.dims.set_current_step(0, z)
    dock.add_seeds().data[z] = known[z]
    dock.go.click()
    wait_for(dock, 0.2)
    viewer.layers["seeds"].visible = False
    viewer.dims.set_current_step(0, min(z + 3, len(known) - 1))
    save_picture(viewer, folder / "propagated.png")
    names = np.unique(known[z][known[z] > 0])
    followed = np.where(np.isin(known, names), known, 0)
    error = evaluate(contingency(np.asarray(dock.result.data), followed)).adapted_rand_error
    dock.shut_down()
    dock.work.wait()
    viewer.close()
    title = "The dock Propagate: objects three slices away from the one where they were seeded"
    return Followed(len(names), float(error), {"propagated.png": title})


def _viewer_of(raw: Volume):
    """Return a viewer with a part of the sample."""
    import napari

    from napari_em_seg.widgets.layers import add_volume

    viewer = napari.Viewer(title="napari-em-seg demo")
    viewer.window.resize(1440, 900)
    add_volume(viewer, Volume(np.asarray(raw[PART]), raw.voxel_size_nm, "raw"))
    return viewer


def _rand(dock, truth: np.ndarray) -> float:
    return evaluate(contingency(np.asarray(dock.desk.sheet.objects[:]), truth)).adapted_rand_error


def draw_curve(errors: list[int], expected, path: Path) -> None:
    """Draw true errors against verdicts, and those that were expected, with their interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    verdicts = [point.n_verdicts for point in expected]
    axes.fill_between(
        verdicts, [p.low for p in expected], [p.high for p in expected], color="#56B4E9", alpha=0.3,
        label="expected, 9 of 10", linewidth=0,
    )  # fmt: skip
    axes.plot(verdicts, [point.mean for point in expected], color="#56B4E9", label="expected")
    axes.plot(range(len(errors)), errors, color="#E69F00", label="true")
    axes.set(xlabel="verdicts", ylabel="wrong links", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
