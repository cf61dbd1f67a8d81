"""The dock "Review links", driven by keys and clicks in a real viewer."""

import shutil
import threading
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel, QPushButton, QShortcut
from scipy.ndimage import gaussian_filter

from napari_em_seg import pipeline
from napari_em_seg.errors import Cancelled
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import PredictedMaps
from napari_em_seg.pipeline.config import STEPS
from napari_em_seg.pipeline.robot import Robot
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.review import Session, Status
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.keys import ACTIONS, KeyMap
from napari_em_seg.widgets.layers import marked
from napari_em_seg.widgets.review.canvas import ALTERNATIVES, OBJECTS, SOURCES, TARGETS
from napari_em_seg.widgets.review.dock import ReviewWidget, how_good
from napari_em_seg.widgets.review.hand import PAINTED
from napari_em_seg.widgets.review.mesh import DOUBTFUL_PLACE, SURFACE

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Return a folder with an image, its truth, and a session of affinities so bad that there are errors."""
    folder = tmp_path_factory.mktemp("tissue")
    raw, truth = pipeline.sample_volumes((6, 128, 128), 3)
    rng = np.random.default_rng(0)
    right = affinity_labels(np.asarray(truth))[0].astype(float)
    noise = np.stack([gaussian_filter(rng.standard_normal(truth.shape), (0.5, 3, 3)) for _ in range(3)])
    affinities = (255 * np.clip(0.05 + 0.9 * right + 2.5 * noise, 0, 1)).astype(np.uint8)
    write_volume(Volume(np.asarray(raw), SIZE, "raw"), str(folder / "raw.zarr"))
    image = open_volume(str(folder / "raw.zarr"))
    pipeline.reconstruct_to_session(image, str(folder / "a.emseg"), maps=PredictedMaps(affinities))
    return folder, np.asarray(truth)


@pytest.fixture
def session(tissue, tmp_path):
    """Return a copy of the session that a test may write into."""
    shutil.copytree(tissue[0] / "a.emseg", tmp_path / "a.emseg")
    return str(tmp_path / "a.emseg")


@pytest.fixture
def dock(viewer: napari.Viewer, tmp_path: Path, qtbot):
    widget = ReviewWidget(viewer, KeyMap(tmp_path / "keys.json"))
    viewer.window.add_dock_widget(widget, name="Review links", area="right")
    yield widget
    widget.shut_down()
    widget.work.wait()


@pytest.fixture
def review(dock: ReviewWidget, session: str, qtbot) -> ReviewWidget:
    dock.open_session(session)
    settle(dock, qtbot)
    assert dock.desk.session is not None
    return dock


def settle(dock: ReviewWidget, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=60_000)
    QApplication.processEvents()


def press(dock: ReviewWidget, qtbot, name: str, where=None) -> None:
    """Press the key of an action, with the focus in the canvas or in the list."""
    window = dock.window()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    target = where or canvas_of(dock)
    target.setFocus()
    sequence = QKeySequence(dock._keys.key(name))[0]
    qtbot.keyClick(target, sequence.key(), sequence.keyboardModifiers())
    settle(dock, qtbot)


def canvas_of(dock: ReviewWidget):
    return dock._viewer.window._qt_viewer.canvas.native


def operations(dock: ReviewWidget) -> list[str]:
    return [operation.kind for operation in dock.desk.session.operations]


def test_an_opened_session_asks_about_the_worst_link(review: ReviewWidget, viewer: napari.Viewer) -> None:
    names = [layer.name for layer in viewer.layers]
    assert names[-4:] == [OBJECTS, SOURCES, TARGETS, ALTERNATIVES]
    listed = review.desk.sheet.listed
    assert review.desk.link == listed.id[0]
    assert (np.diff(listed.confidence) >= 0).all()
    assert review.table.selectionModel().currentIndex().row() == 0
    assert "Is this right?" in review._question.text()


@pytest.mark.parametrize("where", ["canvas", "table"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("accept", "accept"), ("reject", "reject"), ("alternative 1", "alternative"),
     ("don't know", "don't know"), ("skip", "skip")],
)  # fmt: skip
def test_a_key_answers_wherever_the_focus_is(review: ReviewWidget, qtbot, where, name, kind) -> None:
    asked = review.desk.link
    press(review, qtbot, name, review.table if where == "table" else None)
    assert operations(review) == [kind]
    assert review.desk.session.operations[0].payload["link"] == asked
    assert review.desk.link not in (asked, NO_LINK)
    assert review.desk.session.operations[0].duration_s > 0


def test_buttons_show_their_keys_and_do_the_same(review: ReviewWidget, qtbot) -> None:
    (button,) = [b for b in review.findChildren(QPushButton) if b.text() == "Accept [A]"]
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    settle(review, qtbot)
    assert operations(review) == ["accept"]


def test_undo_and_redo_go_back_to_the_link(review: ReviewWidget, qtbot) -> None:
    first = review.desk.link
    before = review.desk.sheet.view.outcome.chosen.copy()
    press(review, qtbot, "reject")
    after = review.desk.sheet.view.outcome.chosen.copy()
    press(review, qtbot, "undo")
    assert review.desk.link == first
    assert (review.desk.sheet.view.outcome.chosen == before).all()
    press(review, qtbot, "redo")
    assert (review.desk.sheet.view.outcome.chosen == after).all()
    press(review, qtbot, "undo")
    press(review, qtbot, "undo")
    assert "nothing to undo" in review.words.text()


def test_back_asks_again_about_the_link_before(review: ReviewWidget, qtbot) -> None:
    first = review.desk.link
    press(review, qtbot, "skip")
    press(review, qtbot, "back")
    assert review.desk.link == first


def test_a_row_brings_the_view_there(review: ReviewWidget, viewer: napari.Viewer, qtbot) -> None:
    listed = review.desk.sheet.listed
    row = next(r for r in range(len(listed)) if listed.z[r] >= 2 and listed.kind[r] == 0)
    review.table.selectRow(row)
    QApplication.processEvents()
    scene = review.desk.scene
    assert review.desk.link == listed.id[row]
    assert viewer.dims.current_step[0] == listed.z[row] == scene.z
    y, x, bottom, right = scene.box
    rows, columns = viewer.canvas.size
    centre, zoom = np.array(viewer.scene.camera.center[-2:]) / 6, viewer.scene.camera.zoom * 6
    assert abs((y + bottom) / 2 - centre[0]) * zoom < rows / 2  # it is within the canvas
    assert abs((x + right) / 2 - centre[1]) * zoom < columns / 2


def test_outlines_lie_on_the_edges_of_source_and_target(review: ReviewWidget, viewer: napari.Viewer) -> None:
    listed = review.desk.sheet.listed
    review.desk.ask(int(listed.id[listed.kind == 0][0]))
    scene, sources, targets = review.desk.scene, viewer.layers[SOURCES], viewer.layers[TARGETS]
    for layer, place, other in ((sources, scene.asked.sources[0], 1), (targets, scene.asked.targets[0], -1)):
        whole = np.zeros(layer.data.shape[1:], bool)
        y, x, bottom, right = place.box
        whole[y:bottom, x:right] = place.mask
        drawn = layer.data[place.z] == 1
        assert drawn.any()
        assert whole[drawn].all()
        assert ((layer.data[place.z + other] == 2) == drawn).all()  # the same, paler
    rest = set(range(6)) - {scene.z, scene.z + 1}
    assert not any(np.asarray(sources.data[z]).any() for z in rest)


def test_objects_are_those_of_the_solution(review, viewer, tmp_path, qtbot) -> None:
    press(review, qtbot, "reject")
    pipeline.export_labels(review.desk.session, str(tmp_path / "o.zarr"), fill=0)
    exported = open_volume(str(tmp_path / "o.zarr"), "labels")[:]
    assert (np.asarray(viewer.layers[OBJECTS].data[:]) == exported).all()


def test_hovering_shows_an_alternative_and_a_click_chooses_it(review: ReviewWidget, viewer, qtbot) -> None:
    choices = review.inspector.choices
    alternative = review.desk.scene.alternatives[0]
    place = choices.visualItemRect(choices.item(1)).center()
    choices.itemEntered.emit(choices.item(1))
    layer = viewer.layers[ALTERNATIVES]
    assert all((layer.data[p.z] == 1).any() for p in alternative.places)
    review.inspector.hovered.emit(None)
    assert not layer.visible
    best = [p for p in alternative.places if p.region not in {q.region for q in review.desk.scene.asked.places}]
    assert all((viewer.layers[SOURCES].data[p.z] == 3).any() for p in best)  # the best one stays, paler
    choices.itemEntered.emit(choices.item(1))
    assert operations(review) == []
    link = review.desk.link
    choices.scrollToItem(choices.item(1))
    place = choices.visualItemRect(choices.item(1)).center()
    qtbot.mouseClick(choices.viewport(), Qt.MouseButton.LeftButton, pos=place)
    settle(review, qtbot)
    (done,) = review.desk.session.operations
    assert (done.kind, done.payload["link"], done.payload["choice"]) == ("alternative", link, alternative.link)


def test_sorting_and_filters(review: ReviewWidget, qtbot) -> None:
    review.order.setCurrentIndex(review.order.findData("p_error"))
    review.order.activated.emit(review.order.currentIndex())
    assert (np.diff(review.desk.sheet.listed.p_error) <= 0).all()
    review.kind.setCurrentIndex(1)
    review.kind.activated.emit(1)
    assert set(review.desk.sheet.listed.kind) == {0}
    review.only_here.setChecked(True)
    z = review.canvas.slice_shown()
    assert set(review.desk.sheet.listed.z) <= {z}
    review._viewer.dims.set_current_step(0, 3)
    assert set(review.desk.sheet.listed.z) <= {3}
    review.only_here.setChecked(False)
    review.table.horizontalHeader().sectionClicked.emit(3)
    assert (np.diff(review.desk.sheet.listed.z) >= 0).all()
    review.table.horizontalHeader().sectionClicked.emit(3)
    assert (np.diff(review.desk.sheet.listed.z) <= 0).all()


def test_a_click_on_an_object_lists_its_links(review: ReviewWidget, viewer: napari.Viewer, qtbot) -> None:
    labels = np.asarray(viewer.layers[OBJECTS].data[:])
    label = int(np.bincount(labels[labels > 0]).argmax())
    z, y, x = np.argwhere(labels == label)[len(np.argwhere(labels == label)) // 2]
    review.on_click(viewer.layers[OBJECTS].data_to_world((z, y, x)))
    assert set(review.desk.sheet.listed.object) == {label}
    assert review.only_object.text() == f"object {label} ✕"
    qtbot.mouseClick(review.only_object, Qt.MouseButton.LeftButton)
    assert len(set(review.desk.sheet.listed.object)) > 1


def test_a_real_click_in_the_canvas_finds_links_and_a_drag_does_not(review, viewer, qtbot) -> None:
    canvas = canvas_of(review)
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    qtbot.mouseMove(canvas, middle + QPoint(20, 20))
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(20, 20))
    assert review.only_object.isHidden()
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    assert not review.only_object.isHidden() or "No object" in review.words.text()


def test_neighbours_are_shown_on_demand(review: ReviewWidget, qtbot) -> None:
    panes = review.inspector._panes
    assert panes[-1].isHidden()
    assert panes[2].isHidden()
    press(review, qtbot, "neighbours")
    assert not panes[-1].isHidden()
    press(review, qtbot, "neighbours")
    assert panes[2].isHidden()


def test_all_of_it_fits_a_low_screen(review: ReviewWidget, viewer, qtbot) -> None:
    window = viewer.window._qt_window
    window.resize(1280, 800)
    press(review, qtbot, "neighbours")
    viewer.window.add_dock_widget(QLabel("tab"), name="other", area="right", tabify=True)
    review.parentWidget().raise_()
    review._want_object(review.desk.object_of(review.desk.link))
    qtbot.wait(100)
    assert window.height() <= 800
    panes = review.inspector._panes.values()
    assert max(pane.geometry().bottom() for pane in panes) < review.inspector.choices.geometry().top()
    for box in (review.order, review.status):
        widest = max(box.fontMetrics().horizontalAdvance(box.itemText(k)) for k in range(box.count()))
        assert widest <= box.width() - 30  # for the arrow


def test_3d_shows_a_mesh_of_right_proportions_and_goes_back(review, viewer, qtbot) -> None:
    listed = review.desk.sheet.listed
    review.desk.ask(int(listed.id[listed.kind == 0][0]))
    press(review, qtbot, "3-D")
    assert viewer.dims.ndisplay == 3
    surface, point = viewer.layers[SURFACE], viewer.layers[DOUBTFUL_PLACE]
    assert tuple(surface.scale) == SIZE
    label = review.desk.object_of(review.desk.link)
    inside = np.argwhere(np.asarray(viewer.layers[OBJECTS].data[:]) == label)
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    assert (low <= inside.min(axis=0)).all()
    assert (high >= inside.max(axis=0)).all()
    assert (high <= np.array(review.canvas.image.data.shape)).all()
    assert point.data[0][0] == pytest.approx(review.desk.scene.z + 0.5)
    press(review, qtbot, "3-D")
    assert viewer.dims.ndisplay == 2
    assert SURFACE not in [layer.name for layer in viewer.layers]
    assert viewer.layers[OBJECTS].visible


def test_a_link_is_made_by_hand(review: ReviewWidget, viewer: napari.Viewer, qtbot) -> None:
    made = review.desk.session.reconstruction
    hypotheses = made.hypotheses()
    numbers = review.desk.sheet.objects.numbers
    upper = np.flatnonzero((made.z == 2) & (numbers[: len(made.z)] > 0))
    lower = np.flatnonzero((made.z == 3) & (numbers[: len(made.z)] > 0))
    known = {(int(a), int(b)) for a, b in zip(made.sources[:, 0], made.targets[:, 0], strict=True)}
    source, target = next((a, b) for a in upper for b in lower if (a, b) not in known)
    qtbot.mouseClick(review.by_hand, Qt.MouseButton.LeftButton)
    review.desk.link = NO_LINK
    for region in (source, target):
        place = hypotheses.region(int(region))
        y, x = np.argwhere(place.mask)[0] + (place.y, place.x)
        world = review.canvas.image.data_to_world((place.z, y, x))
        for _ in range(20):  # click through the regions that lie there
            review.on_click(world)
            if any(p.region == region for p in review.hand._picked):
                break
    assert sorted(p.region for p in review.hand._picked) == sorted((source, target))
    qtbot.mouseClick(review.make_button, Qt.MouseButton.LeftButton)
    settle(review, qtbot)
    assert operations(review) == ["by hand"]
    (done,) = review.desk.session.operations
    assert (done.payload["sources"][0], done.payload["targets"][0]) == (source, target)
    assert review.desk.sheet.view.outcome.chosen[-1]
    after = review.desk.sheet.objects.numbers
    assert after[source] == after[target] > 0


def test_a_region_is_painted_with_naparis_brush_and_keys_are_naparis(review, viewer, qtbot) -> None:
    qtbot.mouseClick(review.paint, Qt.MouseButton.LeftButton)
    layer = viewer.layers[PAINTED]
    assert layer.mode == "paint"
    assert not review.shortcuts.is_on
    assert "napari" in review._mode.text()
    qtbot.keyClick(canvas_of(review), Qt.Key.Key_1)
    assert layer.mode == "erase"  # napari's own meaning of 1
    assert operations(review) == []
    z = review.canvas.slice_shown()
    layer.data[:] = 0
    layer.paint((z, 60, 60), 1)
    painted = np.asarray(layer.data[z]) > 0
    qtbot.mouseClick(review.use_button, Qt.MouseButton.LeftButton)
    settle(review, qtbot)
    assert operations(review) == ["region"]
    (region,) = review.desk.session.state.regions.values()
    whole = np.zeros_like(painted)
    whole[region.y : region.y + region.shape[0], region.x : region.x + region.shape[1]] = region.mask
    assert (whole == painted).all()
    assert PAINTED not in [one.name for one in viewer.layers]
    assert review.shortcuts.is_on


def test_behind_another_dock_it_takes_no_keys_and_no_clicks(review: ReviewWidget, viewer, qtbot) -> None:
    viewer.window.add_dock_widget(QLabel("in front"), name="other", area="right", tabify=True)
    qtbot.waitUntil(lambda: not review.is_seen)
    window = viewer.window._qt_window
    other = next(d for d in window.findChildren(QDockWidget) if d.windowTitle() == "other")
    other.raise_()
    asked = review.desk.link
    press(review, qtbot, "accept")
    canvas = canvas_of(review)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(canvas.width() // 2, canvas.height() // 2))
    assert operations(review) == []
    assert review.desk.link == asked
    assert review.only_object.isHidden()
    review.parentWidget().raise_()
    qtbot.waitUntil(lambda: review.is_seen)
    press(review, qtbot, "accept")
    assert operations(review) == ["accept"]


def test_keys_follow_the_user_and_survive(review: ReviewWidget, qtbot, tmp_path) -> None:
    review._keys.change({"accept": "Y"})
    assert any(button.text() == "Accept [Y]" for button in review.findChildren(QPushButton))
    press(review, qtbot, "accept")
    assert operations(review) == ["accept"]
    assert KeyMap(tmp_path / "keys.json").key("accept") == "Y"


def test_every_action_has_a_key_and_a_shortcut(review: ReviewWidget) -> None:
    bound = {shortcut.key().toString() for shortcut in review.shortcuts._shortcuts}
    assert {QKeySequence(action.key).toString() for action in ACTIONS} == bound


def test_without_a_session_the_keys_are_naparis(dock: ReviewWidget, viewer: napari.Viewer, qtbot) -> None:
    assert not dock.shortcuts.is_on
    assert not any(s.isEnabled() for s in viewer.window._qt_window.findChildren(QShortcut)
                   if s in dock.shortcuts._shortcuts)  # fmt: skip


def test_the_robot_leads_the_sample_to_no_error_and_all_can_be_undone(review, tissue, qtbot, session) -> None:
    robot = Robot(review.desk.session.reconstruction, tissue[1])
    before = review.desk.sheet.view.outcome
    assert robot.errors(before) > 3
    n = 0
    while review.desk.link != NO_LINK and robot.errors(review.desk.sheet.view.outcome) and n < 400:
        scene = review.desk.scene
        answer = robot.answer(review.desk.link, [choice.link for choice in scene.alternatives])
        press(review, qtbot, answer)
        n += 1
    assert robot.errors(review.desk.sheet.view.outcome) == 0
    right = review.desk.sheet.view.outcome.chosen.copy()
    assert "errors left" in review.numbers._text.text()
    for _ in range(n):
        review.desk.undo()
    settle(review, qtbot)
    assert (review.desk.sheet.view.outcome.chosen == before.chosen).all()
    for _ in range(n):
        review.desk.redo()
    settle(review, qtbot)
    assert (review.desk.sheet.view.outcome.chosen == right).all()
    review.desk.close()
    settle(review, qtbot)
    with Session(session, mode="read") as again:
        assert (again.outcome.chosen == right).all()


def test_retraining_says_what_it_did(review: ReviewWidget, tissue, qtbot) -> None:
    qtbot.mouseClick(review.retrain_button, Qt.MouseButton.LeftButton)
    settle(review, qtbot)
    assert "at least 20" in review.words.text()
    robot = Robot(review.desk.session.reconstruction, tissue[1])
    review.desk.want(kinds=frozenset(range(5)))  # not merges, which have other features
    review.desk.go_on()
    for _ in range(24):
        scene = review.desk.scene
        press(review, qtbot, robot.answer(review.desk.link, [choice.link for choice in scene.alternatives]))
    qtbot.mouseClick(review.retrain_button, Qt.MouseButton.LeftButton)
    settle(review, qtbot)
    assert "held out" in review.words.text()
    generation = review.desk.session.state.generation
    assert generation == (1 if "replaced" in review.words.text() else 0)
    assert all(
        bool(review.desk.sheet.view.outcome.chosen[link]) == bool(value)
        for link, value in review.desk.session.state.assignment_pins.items()
    )


def test_the_event_loop_does_not_wait_for_the_solver(
    review: ReviewWidget, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gone_on, answers = threading.Event(), threading.Event(), []

    class Waiting:
        """A solver that answers only once the event loop has let it."""

        def __init__(self, solver: Any) -> None:
            self.solver = solver

        def solve(self, state: Any) -> Any:
            begun.set()
            answers.append(gone_on.wait(60))
            return self.solver.solve(state)

    session = review.desk.session
    solver_of = session._solver
    monkeypatch.setattr(session, "_solver", lambda found: Waiting(solver_of(found)))
    review.desk.accept()
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    QTimer.singleShot(0, gone_on.set)
    settle(review, qtbot)
    assert answers
    assert all(answers)


def test_closing_in_the_middle_of_work_leaves_the_session_sound(
    viewer: napari.Viewer, session: str, tmp_path: Path, qtbot
) -> None:
    widget = ReviewWidget(viewer, KeyMap(tmp_path / "keys.json"))
    docked = viewer.window.add_dock_widget(widget, name="Review links")
    widget.open_session(session)
    settle(widget, qtbot)
    for _ in range(6):
        widget.desk.accept()
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    names = [layer.name for layer in viewer.layers]
    assert not {OBJECTS, SOURCES, TARGETS, ALTERNATIVES} & set(names)
    assert widget._on_mouse not in viewer.mouse_drag_callbacks
    with Session(session) as again:  # nobody holds it any more, and all that was said is there
        assert [operation.kind for operation in again.operations] == ["accept"] * 6


def test_an_image_that_is_removed_closes_its_session(review, viewer, qtbot, session) -> None:
    viewer.layers.remove(review.canvas.image)
    settle(review, qtbot)
    assert review.desk.session is None
    assert "nothing is lost" in review.words.text()
    assert OBJECTS not in [layer.name for layer in viewer.layers]
    with Session(session):
        pass


def test_layers_that_are_renamed_or_removed_do_not_upset_it(review, viewer, qtbot) -> None:
    viewer.layers[OBJECTS].name = "mine"
    viewer.layers.remove(viewer.layers[TARGETS])
    press(review, qtbot, "accept")
    assert operations(review) == ["accept"]
    assert viewer.layers["mine"] is review.canvas.layer(OBJECTS)


def test_outlines_follow_a_layer_that_is_scaled_and_translated(dock, viewer, session, tissue, qtbot) -> None:
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    image = viewer.add_image(raw, scale=(30, 6, 6), translate=(300, 50, -70), units=("nm",) * 3,
                             metadata={"source": raw.source})  # fmt: skip
    dock.open_session(session)
    settle(dock, qtbot)
    assert dock.canvas.image is image
    assert tuple(viewer.layers[SOURCES].translate) == (300, 50, -70)
    assert dock.canvas.slice_shown() == max(dock.desk.scene.z, 0)


def test_a_multiscale_image_is_reviewed_as_any_other(dock, viewer, session, tissue, qtbot) -> None:
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image([raw, np.asarray(raw[:])[:, ::2, ::2]], multiscale=True, scale=SIZE, units=("nm",) * 3,
                     metadata={"source": raw.source})  # fmt: skip
    dock.open_session(session)
    settle(dock, qtbot)
    press(dock, qtbot, "accept")
    press(dock, qtbot, "3-D")
    assert SURFACE in [layer.name for layer in viewer.layers]
    press(dock, qtbot, "3-D")
    assert operations(dock) == ["accept"]


def test_what_cannot_be_opened_is_said(dock: ReviewWidget, tmp_path: Path, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.work.show_error", told.append)
    dock.open_session(str(tmp_path / "none.emseg"))
    settle(dock, qtbot)
    assert "There is no session" in told[0]
    assert dock.desk.session is None


def test_reconstruct_from_a_layer_and_boundaries(dock, viewer, tmp_path, qtbot, tissue) -> None:
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(np.zeros((9, 9)), name="flat")
    viewer.add_image(raw, name="raw", scale=SIZE, units=("nm",) * 3, metadata={"source": raw.source})
    boundary = (np.asarray(raw[:]) < 90).astype(np.float32)
    viewer.add_image(boundary, name="membranes", scale=SIZE, units=("nm",) * 3)
    names = [dock.begin.image.itemText(i) for i in range(dock.begin.image.count())]
    assert names == ["raw", "membranes"]
    dock.begin.boundary.setCurrentIndex(dock.begin.boundary.findText("membranes"))
    assert not dock.begin.views.isEnabled()
    dock.begin.place.setText(str(tmp_path / "new.emseg"))
    qtbot.mouseClick(dock.begin.go, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    settle(dock, qtbot)
    assert dock.desk.session is not None
    assert len(dock.desk.sheet.links)
    assert dock.begin.isHidden()
    qtbot.mouseClick(dock.close_button, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    assert not dock.begin.isHidden()


def test_predicted_affinities_are_used_whole_and_are_no_image(
    dock, viewer, tmp_path, qtbot, tissue, monkeypatch
):
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(raw, name="raw", scale=SIZE, units=("nm",) * 3, metadata={"source": raw.source})
    affinities = np.full((3, *raw.shape), 200, np.uint8)
    viewer.add_image(np.zeros(raw.shape, np.uint8), name="affinities", scale=SIZE, units=("nm",) * 3,
                     metadata=marked("affinities", affinities=affinities))  # fmt: skip
    assert [dock.begin.image.itemText(i) for i in range(dock.begin.image.count())] == ["raw"]
    dock.begin.boundary.setCurrentIndex(dock.begin.boundary.findText("affinities"))
    dock.begin.place.setText(str(tmp_path / "a.emseg"))
    given = []

    def caught(_image, _out, *, maps, **_):
        given.append(maps)
        raise Cancelled("enough")

    monkeypatch.setattr(pipeline, "reconstruct_to_session", caught)
    qtbot.mouseClick(dock.begin.go, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    assert given[0].maps is affinities


def test_an_image_in_memory_is_predicted_and_kept_beside_the_session(dock, viewer, tmp_path, qtbot, tissue):
    raw = np.asarray(open_volume(str(tissue[0] / "raw.zarr"))[:4])
    viewer.add_image(raw, name="cells", scale=SIZE, units=("nm",) * 3)
    dock.begin.place.setText(str(tmp_path / "c.emseg"))
    qtbot.mouseClick(dock.begin.go, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.desk.session is not None, timeout=120_000)
    settle(dock, qtbot)
    kept = open_volume(str(tmp_path / "c-image.zarr" / "raw"))
    assert (kept[:] == raw).all()
    assert (np.asarray(dock.desk.session.volume("raw")[:]) == raw).all()
    assert kept.voxel_size_nm == SIZE


def test_a_reconstruction_can_be_cancelled_and_leaves_nothing(dock, viewer, tmp_path, qtbot, tissue) -> None:
    raw = open_volume(str(tissue[0] / "raw.zarr"))
    viewer.add_image(raw, name="raw", scale=SIZE, units=("nm",) * 3, metadata={"source": raw.source})
    dock.begin.place.setText(str(tmp_path / "new.emseg"))
    qtbot.mouseClick(dock.begin.go, Qt.MouseButton.LeftButton)
    qtbot.wait(300)
    assert not dock.foot.isHidden()
    qtbot.mouseClick(dock.cancel_button, Qt.MouseButton.LeftButton)
    settle(dock, qtbot)
    assert dock.desk.session is None
    assert "Cancelled" in dock.words.text()
    assert list(tmp_path.glob("new*")) == []


def test_a_place_that_was_typed_stays_and_another_follows_the_image(dock, viewer, qtbot, tmp_path) -> None:
    begin, stack = dock.begin, np.zeros((4, 32, 32), np.uint8)
    first, second = (viewer.add_image(stack, name=name) for name in ("first", "second"))
    assert Path(begin.place.text()).name == "first.emseg"
    begin.image.choose(second)
    assert Path(begin.place.text()).name == "second.emseg"
    viewer.layers.remove(second)
    assert Path(begin.place.text()).name == "first.emseg"
    begin.place.clear()
    qtbot.keyClicks(begin.place, str(tmp_path / "mine.emseg"))
    third = viewer.add_image(stack, name="third")
    viewer.add_labels(np.zeros((4, 32, 32), np.uint8), name="seeds")
    begin.image.choose(third)
    viewer.layers.remove(first)
    assert begin.place.text() == str(tmp_path / "mine.emseg")


def test_a_session_is_named_after_the_file_of_its_image(dock, viewer, tmp_path) -> None:
    place, stack = dock.begin.place, np.zeros((4, 32, 32), np.uint8)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "cells_z63-99.h5").touch()
    write_volume(Volume(stack, SIZE), str(tmp_path / "b.ome.zarr"))
    for source, name in (
        ("cells_z63-99.h5/volumes/raw", "cells_z63-99"), ("b.ome.zarr", "b"), ("b.ome.zarr/raw", "b"),
        ("tiles", "tiles"),
    ):  # fmt: skip
        layer = viewer.add_image(stack, name="raw", metadata={"source": str(tmp_path / source)})
        assert place.text() == str(tmp_path / f"{name}.emseg")
        viewer.layers.remove(layer)
    layer = viewer.add_image(open_volume(str(tmp_path / "b.ome.zarr")), name="raw")  # the volume knows it
    assert place.text() == str(tmp_path / "b.emseg")
    viewer.layers.remove(layer)
    viewer.add_image(stack, name="raw", metadata={"source": "/gone/with the disk.h5/raw"})
    assert place.text() == str(Path.home() / "raw.emseg")


def test_it_begins_with_the_newest_maps_of_the_image(dock, viewer) -> None:
    boundary, stack = dock.begin.boundary, np.zeros((4, 32, 32), np.uint8)
    raw = viewer.add_image(stack, name="raw")
    assert boundary.layer is None
    membranes = viewer.add_image(stack, name="boundary", metadata=marked("boundary"))
    assert boundary.layer is membranes
    assert not dock.begin.views.isEnabled()
    first = viewer.add_image(stack, name="affinities", metadata=marked("affinities"))
    assert boundary.layer is first
    viewer.add_image(stack, name="newer boundary", metadata=marked("boundary"))
    viewer.add_image(stack[:3], name="of another image", metadata=marked("affinities"))
    assert boundary.layer is first
    second = viewer.add_image(stack, name="newer", metadata=marked("affinities"))
    assert boundary.layer is second
    viewer.layers.remove(second)
    assert boundary.layer is first
    boundary.setCurrentIndex(boundary.findData(membranes))  # now somebody chooses
    viewer.add_image(stack, name="newest", metadata=marked("affinities"))
    assert boundary.layer is membranes
    viewer.layers.remove(raw)
    assert boundary.layer is None


def test_predicting_anew_may_be_chosen_though_there_are_maps(dock, viewer) -> None:
    stack = np.zeros((4, 32, 32), np.uint8)
    viewer.add_image(stack, name="raw")
    viewer.add_image(stack, name="affinities", metadata=marked("affinities"))
    dock.begin.boundary.setCurrentIndex(0)
    viewer.add_image(stack, name="newer", metadata=marked("affinities"))
    assert dock.begin.boundary.layer is None
    assert dock.begin.views.isEnabled()


def test_half_a_prediction_is_not_begun_with_until_it_is_complete(dock, viewer) -> None:
    stack = np.zeros((4, 32, 32), np.uint8)
    viewer.add_image(stack, name="raw")
    layer = viewer.add_image(stack, name="affinities", metadata=marked("affinities", models=("a",)))
    assert dock.begin.boundary.layer is None
    layer.metadata = {**layer.metadata, STEPS: [{}]}
    dock.state.changed.emit()
    assert dock.begin.boundary.layer is layer


def test_only_what_may_be_boundaries_is_offered_as_such(dock, viewer) -> None:
    stack = np.zeros((4, 32, 32), np.uint8)
    viewer.add_image(stack, name="raw")
    for name, data, role in (("bytes", stack, ""), ("floats", stack.astype(np.float32), ""),
                             ("16 bits", stack.astype(np.uint16), ""), ("preview", stack, "preview"),
                             ("predicted", stack, "boundary")):  # fmt: skip
        viewer.add_image(data, name=name, metadata=marked(role))
    box = dock.begin.boundary
    assert [box.itemText(k) for k in range(1, box.count())] == ["bytes", "floats", "predicted"]
    dock.begin.image.choose(viewer.layers["bytes"])
    assert [box.itemText(k) for k in range(1, box.count())] == ["raw", "floats", "predicted"]
    box.setCurrentIndex(1)
    dock.begin.image.choose(viewer.layers["raw"])  # which cannot be its own boundaries
    assert box.currentText() == "predicted"


def test_it_begins_with_the_image_that_was_worked_on(dock, viewer) -> None:
    stack = np.zeros((4, 32, 32), np.uint8)
    first, second = (viewer.add_image(stack, name=name) for name in ("first", "second"))
    dock.state.image = second
    assert dock.begin.image.layer is second
    dock.begin.image.choose(first)
    dock.state.image = None
    dock.state.image = second
    assert dock.begin.image.layer is first


def test_one_number_of_links_is_said_and_what_they_are(review: ReviewWidget) -> None:
    kinds = np.asarray(review.desk.sheet.links.kind)
    n, n_ends = len(kinds), int(((kinds == 3) | (kinds == 4)).sum())
    assert n_ends
    assert f"{n:,} of {n:,} links" in review._title.text()
    assert f"{n:,} links: " in review.words.text()
    assert f", {n_ends:,} ends" in review.words.text()
    n_between = int((kinds < 3).sum())
    assert f"links: {n_between:,} between slices" in review.words.text()


@pytest.mark.parametrize(
    ("gap", "said"),
    [(0.0, "best possible solution found"), (1e-9, "best possible solution found"),
     (0.003, "within 0.3 % of the best possible"), (0.0001, "within 0.1 % of the best possible"),
     (0.0121, "within 1.3 % of the best possible")],
)  # fmt: skip
def test_how_good_a_solution_is_is_said_in_words(gap, said) -> None:
    assert how_good(gap) == said


def test_the_title_says_how_good_the_solution_is(review: ReviewWidget) -> None:
    assert how_good(review.desk.sheet.view.outcome.gap) in review._title.text()
    assert "gap" not in review._title.text()


def test_what_was_made_on_the_way_is_hidden_while_links_are_reviewed(dock, viewer, session, qtbot) -> None:
    stack = np.zeros((6, 128, 128), np.uint8)
    ours = [viewer.add_image(stack, metadata=marked("affinities")), viewer.add_labels(stack, name="segments")]
    ours[1].metadata = marked("segments")
    own = viewer.add_labels(stack, name="own")
    dock.open_session(session)
    settle(dock, qtbot)
    assert not any(layer.visible for layer in ours)
    assert own.visible
    assert viewer.layers[OBJECTS].visible


def test_boundaries_of_another_shape_are_refused(dock, viewer, tmp_path, qtbot, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    viewer.add_image(np.zeros((4, 32, 32), np.uint8), name="raw", scale=SIZE, units=("nm",) * 3)
    viewer.add_image(np.zeros((5, 32, 32), np.uint8), name="b")
    dock.begin.boundary.setCurrentIndex(dock.begin.boundary.findText("b"))
    dock.begin.place.setText(str(tmp_path / "x.emseg"))
    qtbot.mouseClick(dock.begin.go, Qt.MouseButton.LeftButton)
    assert "(5, 32, 32)" in told[0]
    assert "Choose another layer" in told[0]


def test_skipped_links_come_last(review: ReviewWidget, qtbot) -> None:
    first = review.desk.link
    press(review, qtbot, "skip")
    assert review.desk.next_link() != first
    links = review.desk.sheet.links
    assert links.status[links.find(first)] == Status.SKIPPED


def test_two_viewers_do_not_disturb_each_other(review, tissue, tmp_path, qtbot) -> None:
    other = napari.Viewer(show=True)
    try:
        second = ReviewWidget(other, KeyMap(tmp_path / "keys2.json"))
        other.window.add_dock_widget(second, name="Review links")
        shutil.copytree(tissue[0] / "a.emseg", tmp_path / "b.emseg")
        second.open_session(str(tmp_path / "b.emseg"))
        settle(second, qtbot)
        press(second, qtbot, "accept")
        assert operations(second) == ["accept"]
        assert operations(review) == []
        second.shut_down()
        second.work.wait()
    finally:
        other.close()
