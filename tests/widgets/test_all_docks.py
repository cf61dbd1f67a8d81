"""Every dock of the manifest: closed, it leaves nothing behind; open, the keyboard reaches every control."""

import gc
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
import pytest
from docks import (
    DOCKS,
    PLACED,
    PLUGIN,
    choose_in_menu,
    close_dock,
    controls_of,
    named,
    open_dock,
    parents,
    settle,
    tip,
)
from hands import operate, put_back, shown_by, sight, wait_for
from napari.settings import get_settings
from qtpy.QtCore import QEvent, Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QMessageBox,
    QPushButton,
    QTabBar,
    QTextBrowser,
    QWidget,
)

from napari_em_seg import pipeline
from napari_em_seg.errors import Cancelled
from napari_em_seg.pipeline import PredictedMaps
from napari_em_seg.pipeline.lazy_prediction import LazyPrediction
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import marked, take_away
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.recent import add_recent
from napari_em_seg.widgets.state import state_of


@pytest.fixture(scope="module")
def tissue() -> dict[str, np.ndarray]:
    raw, truth = (np.asarray(volume) for volume in pipeline.sample_volumes((4, 64, 64), 3))
    return {"raw": raw, "truth": truth, "affinities": (235 * affinity_labels(truth)[0] + 10).astype(np.uint8)}


@pytest.fixture(scope="module")
def session(tissue, tmp_path_factory) -> str:
    """Return the place of a session about the image."""
    path = tmp_path_factory.mktemp("session") / "a.emseg"
    image = Volume(tissue["raw"], PLACED["scale"], "raw")
    pipeline.reconstruct_to_session(image, str(path), maps=PredictedMaps(tissue["affinities"]))
    return str(path)


@pytest.fixture(scope="module")
def one_viewer(tissue, qapp, tmp_path_factory) -> Iterator[napari.Viewer]:
    """Give one viewer for all docks, with an image, its affinities and its labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari.settings._CFG_PATH", str(tmp_path_factory.mktemp("settings") / "settings.yaml"))
        viewer = napari.Viewer(show=True)
        shown = 255 - tissue["affinities"][1:].min(0)
        metadata = marked("affinities", affinities=tissue["affinities"])
        viewer.add_image(tissue["raw"], name="raw", **PLACED)
        viewer.add_image(shown, name="affinities", metadata=metadata, **PLACED)
        viewer.add_labels(tissue["truth"], name="truth", **PLACED)
        gc.freeze()  # looking through all that is here already takes a fifth of a second, each time
        yield viewer
        gc.unfreeze()
        viewer.close()


@pytest.fixture
def full(one_viewer, tmp_path, monkeypatch, qtbot) -> Iterator[napari.Viewer]:
    """Give that viewer, active; what came into it is taken out again."""
    monkeypatch.setenv("EM_SEG_MODELS", str(tmp_path / "models"))
    before = [(layer, dict(layer.metadata)) for layer in one_viewer.layers]
    one_viewer.window._qt_window.activateWindow()
    qtbot.waitUntil(one_viewer.window._qt_window.isActiveWindow)
    yield one_viewer
    for docked in list(one_viewer.window._wrapped_dock_widgets.values()):
        close_dock(docked)
    QTest.qWait(0)
    known = [layer for layer, _ in before]
    take_away(one_viewer, [layer for layer in one_viewer.layers if layer not in known])
    for layer, metadata in before:
        layer.scale, layer.units, layer.visible, layer.metadata = (
            PLACED["scale"],
            PLACED["units"],
            True,
            metadata,
        )
    one_viewer.dims.ndisplay = 2
    one_viewer.dims.set_current_step(0, 2)
    state = state_of(one_viewer)
    state.image, state.device = None, "auto"
    state.done.clear()
    get_settings().application.plugin_widget_positions = {}  # where docks were dragged to


# -------------------------------------------------------------------------------- closed, it leaves nothing


@dataclass
class Left:
    """What a dock could leave behind in a viewer."""

    callbacks: Counter[str]
    windows: Counter[str]
    threads: set[threading.Thread]

    @classmethod
    def of(cls, viewer: napari.Viewer) -> "Left":
        gc.collect()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        windows = Counter(f"{type(one).__name__} {one.objectName()}" for one in QApplication.topLevelWidgets())
        return cls(callbacks_of(viewer), windows, set(threading.enumerate()))


def callbacks_of(viewer: napari.Viewer) -> Counter[str]:
    """Count who is called by the viewer, its layers and what docks share; those that are dead are not."""
    found: Counter[str] = Counter()
    models = {"viewer": viewer, "layers": viewer.layers, "selection": viewer.layers.selection,
              "dims": viewer.dims, "camera": viewer.scene.camera, "cursor": viewer.cursor}  # fmt: skip
    models |= {f"layer {layer.name}": layer for layer in viewer.layers}
    for name, model in models.items():
        for event, emitter in {"any": model.events, **model.events.emitters}.items():
            found[f"{name}.events.{event}"] = sum(map(is_alive, emitter.callbacks))
        for kind in ("mouse_drag", "mouse_move", "mouse_wheel", "mouse_double_click"):
            found[f"{name}.{kind}_callbacks"] = len(getattr(model, f"{kind}_callbacks", ()))
        found[f"{name}.keymap"] = len(getattr(model, "keymap", ()))
    state = state_of(viewer)
    for name in ("changed", "models_changed"):
        found[f"state.{name}"] = len(getattr(state, name))
    return found


def is_alive(callback: Any) -> bool:
    """Whether a callback, for a method its owner and its name, would still be called.

    What draws a layer is napari's matter, and outlives it at times.
    """
    owner = callback[0]() if isinstance(callback, tuple) else callback
    return owner is not None and not type(owner).__module__.startswith("napari._vispy")


@pytest.mark.parametrize("name", DOCKS)
def test_a_dock_that_was_closed_leaves_nothing(full, name, session, monkeypatch, qtbot) -> None:
    layers, before = list(full.layers), Left.of(full)
    docked, widget = open_dock(full, name)
    list(PAGES.get(name, as_it_opens)(widget, session, monkeypatch))
    live(full, widget)
    inner, outer = weakref.ref(widget), weakref.ref(docked)
    for one in list(full.window._wrapped_dock_widgets.values()):  # with those that it opened
        close_dock(one)
    del docked, widget, one
    qtbot.waitUntil(lambda: check_garbage(inner, outer), timeout=5000)
    take_away(full, [layer for layer in full.layers if layer not in layers])
    after = Left.of(full)
    assert after.callbacks == before.callbacks
    assert after.windows == before.windows
    assert after.threads <= before.threads
    assert QThreadPool.globalInstance().activeThreadCount() == 0


def live(viewer: napari.Viewer, widget: Any) -> None:
    """Let a layer come, be renamed and go, slices change, and something be done in the thread."""
    viewer.add_labels(np.ones((4, 64, 64), np.uint8), name="other", **PLACED)
    viewer.layers["other"].name = "another"
    viewer.dims.set_current_step(0, 2)
    viewer.layers.selection.active = viewer.layers["truth"]
    if isinstance(widget, Panel):
        widget.work.put(lambda: None)
    settle(widget)
    viewer.layers.remove("another")
    settle(widget)


def check_garbage(*references: weakref.ref) -> None:
    gc.collect()
    for reference in references:
        alive = reference()
        assert alive is None, [repr(one)[:200] for one in gc.get_referrers(alive)]


# ----------------------------------------------------------------------------------- the keyboard reaches all


def as_it_opens(_dock: Any, _session: str, _patch: pytest.MonkeyPatch) -> Iterator[str]:
    yield "as it opens"


def entries(box: Callable[[Any], QComboBox]) -> Callable[..., Iterator[str]]:
    """Return what goes through the entries of a box, each of which shows other controls."""

    def pages(dock: Any, _session: str, _patch: pytest.MonkeyPatch) -> Iterator[str]:
        for place in range(box(dock).count()):
            box(dock).setCurrentIndex(place)
            settle(dock)
            yield box(dock).currentText()

    return pages


def review_pages(dock: Any, session: str, _patch: pytest.MonkeyPatch) -> Iterator[str]:
    dock.begin.boundary.choose(None)
    yield "no session"
    for page in ("a session", "opened again"):
        if dock.desk.session is None:
            dock.open_session(session)
            settle(dock)
        assert len(dock.desk.sheet.links) > 10
        dock._want_object(1)
        yield page


def evaluate_pages(dock: Any, _session: str, _patch: pytest.MonkeyPatch) -> Iterator[str]:
    for truth in (dock.segmentation.layer, None):
        dock.truth.choose(truth)
        dock.go.click()
        settle(dock)
        assert dock.results.tabs.count() > 2
        for tab in range(dock.results.tabs.count()):
            dock.results.tabs.setCurrentIndex(tab)
            yield f"{dock.results.title}, {'a' if truth else 'no'} truth"


def propagate_pages(dock: Any, _session: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    found = SimpleNamespace(z=1, labels=np.ones((64, 64), np.uint32), confidence={1: 0.5, 2: 0.7})
    patch.setattr(pipeline, "propagate", lambda *_, **__: iter([found]))
    dock.new_seeds.click()
    dock.go.click()
    settle(dock)
    yield "followed"


def start_pages(dock: Any, session: str, _patch: pytest.MonkeyPatch) -> Iterator[str]:
    yield "no session"
    add_recent(Path(session).parent)
    add_recent(Path(session))
    dock.refresh()
    yield "recent sessions"


def train_pages(dock: Any, session: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    for page in entries(lambda dock: dock.kind)(dock, session, patch):
        if hasattr(dock.form, "files"):
            dock.form.files.add("one.zarr")
            dock.form.files.add("two.zarr")
        yield page
    dock.kind.setCurrentText("Network for boundaries")
    dock.form.files.list.clear()
    dock.form.image.choose(dock._viewer.layers["raw"])
    dock.form.labels.choose(dock._viewer.layers["truth"])
    dock.form.network.setCurrentText("unet-small-s1")
    dock.form.steps.setValue(1_000_000)
    for page in ("learning", "paused"):
        if not dock.is_busy:
            dock.go.click()
        assert wait_for(lambda: len(dock.curves.losses) > 0, seconds=60)
        if page == "paused":
            dock.pause.click()
            settle(dock)
        yield page


def segment_pages(dock: Any, session: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from entries(lambda dock: dock.making.method)(dock, session, patch)
    dock.making.method.setCurrentIndex(0)
    dock.go.click()
    settle(dock)
    dock.cutting.depth.setValue(0.3)
    assert wait_for(lambda: not dock._pause.isActive())
    yield "changed"


def export_pages(dock: Any, session: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    yield "no session"
    review = open_dock(dock._viewer, "Review links")[1]
    review.open_session(session)
    settle(review)
    dock.what.boxes["meshes"].setChecked(True)
    yield from entries(lambda dock: dock.objects.which)(dock, session, patch)


def predict_pages(dock: Any, session: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from entries(lambda dock: dock.options.task)(dock, session, patch)
    dock.options.task.setCurrentIndex(0)

    def until_cancelled(_prediction: Any, _looking_at: Any, *, cancelled: Callable[[], bool], **_: Any) -> Any:
        while not cancelled():
            time.sleep(0.005)
        raise Cancelled("stopped")

    with pytest.MonkeyPatch.context() as inner:
        inner.setattr(LazyPrediction, "blocks", until_cancelled)
        dock.go.click()
        assert wait_for(dock.cancel_button.isVisible)
        dock.cancel_button.click()
        settle(dock)
    yield "cancelled"


PAGES = {
    "Start here": start_pages, "Predict": predict_pages, "Train": train_pages, "Export": export_pages,
    "Segment": segment_pages,
    "Review links": review_pages, "Evaluate": evaluate_pages, "Propagate": propagate_pages,
}  # fmt: skip


# --------------------------------------------------------------------------------- each control does something


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Give the dialogs that were shown; each is answered with nothing, or with No."""
    found: list[str] = []

    def instead(owner: type, name: str, answer: Any) -> None:
        monkeypatch.setattr(owner, name, lambda *_, **__: (found.append(name), answer)[1])

    instead(QFileDialog, "getOpenFileName", ("", ""))
    instead(QFileDialog, "getSaveFileName", ("", ""))
    instead(QFileDialog, "getExistingDirectory", "")
    instead(QMessageBox, "question", QMessageBox.StandardButton.No)
    instead(QDialog, "exec", 0)
    return found


@pytest.mark.parametrize("name", DOCKS)
def test_each_control_can_be_operated_and_each_button_does_something(
    full, name, session, asked, monkeypatch, tmp_path, qtbot
) -> None:
    shutil.copytree(session, tmp_path / "c.emseg")
    monkeypatch.setenv("HOME", str(tmp_path))  # sessions go there
    add_others(full)
    docked, dock = open_dock(full, name)
    body = docked.widget()
    seen, done, deaf = set[str](), set[str](), set[str]()
    for page in PAGES.get(name, as_it_opens)(dock, str(tmp_path / "c.emseg"), monkeypatch):
        seen |= {named(one) for one in usable(body)}
        while found := [one for one in usable(body) if named(one) not in done and can_be_used(one)]:
            control = min(
                found, key=lambda one: isinstance(one, QAbstractButton)
            )  # what ends the page comes last
            control_name = named(control)
            done.add(control_name)
            say(dock, "")
            as_it_was, before = shown_by(control), (sight(full, body, control), len(asked))
            operate(control)
            has_begun = is_busy(dock)
            done |= settle_soon(dock)
            if isinstance(control, QPushButton):
                is_deaf = not has_begun and (sight(full, body, control), len(asked)) == before
            else:
                is_deaf = shown_by(control) == as_it_was and (sight(full, body, control), len(asked)) == before
            if is_deaf:
                deaf.add(f"{page}: {control_name}")
            put_back(control, as_it_was)
            done |= settle_soon(dock)
            seen |= {named(one) for one in usable(body)}
    assert deaf <= HELD
    assert sorted(seen - done) == []


def add_others(viewer: napari.Viewer) -> None:
    """Add more layers, so that there are some to choose from."""
    for one in list(viewer.layers):
        like = {"name": f"other {one.name}", "metadata": dict(one.metadata), "visible": False, **PLACED}
        (viewer.add_labels if one.name == "truth" else viewer.add_image)(one.data.copy(), **like)


def usable(body: QWidget) -> list[QWidget]:
    return [one for one in controls_of(body) if not isinstance(one, QTextBrowser)]  # those are read


HELD = {"Watershed of boundaries, 3-D: QPushButton Before (hold)"}  # let go of, all is as before


def can_be_used(control: QWidget) -> bool:
    """Whether it is enabled, and there is something to choose."""
    if isinstance(control, QComboBox | QTabBar):
        return control.isEnabled() and control.count() > 1
    if isinstance(control, QAbstractItemView):
        return control.isEnabled() and control.model().rowCount() > (control.currentIndex().row() == 0)
    return control.isEnabled()


def is_busy(dock: Any) -> bool:
    return isinstance(dock, Panel) and dock.is_busy


def say(dock: Any, words: str) -> None:
    if isinstance(dock, Panel):
        dock.say(words)


def settle_soon(dock: Any) -> set[str]:
    """Wait until nothing goes on; what goes on for long is cancelled. Return what was clicked for that."""
    used = set()
    if not wait_for(lambda: not is_busy(dock), seconds=1.5):
        used.add(named(dock.cancel_button))
        operate(dock.cancel_button)
    settle(dock)
    return used


@pytest.mark.parametrize("name", DOCKS)
def test_the_keyboard_reaches_every_control_and_each_has_a_tip(full, name, session, monkeypatch, qtbot) -> None:
    docked, dock = open_dock(full, name)
    body = docked.widget()
    silent, unreached, idle = set[str](), set[str](), set[str]()
    for page in PAGES.get(name, as_it_opens)(dock, session, monkeypatch):
        if isinstance(dock, Panel):
            dock.foot.show()  # as it is while something goes on
        controls = controls_of(body)
        enable(controls, body)
        reached = stops(body)
        assert len(controls) > 3
        silent |= {f"{page}: {named(one)}" for one in controls if not tip(one)}
        unreached |= {
            f"{page}: {named(one)}" for one in controls if not is_reached(one, reached) and one.isVisible()
        }
        idle |= {f"{page}: {named(one)}" for one in reached if one not in controls}
    assert not silent
    assert not unreached
    assert not idle


def enable(controls: list[QWidget], body: QWidget) -> None:
    for control in controls:
        for one in (control, *parents(control)):
            one.setEnabled(True)
            if one is body:
                break


def stops(body: QWidget) -> list[QWidget]:
    """Press Tab from the first stop in a dock until it leads out of it; return where it stopped."""
    first = body.nextInFocusChain()
    while not (body.isAncestorOf(first) and takes_focus(first)):
        first = first.nextInFocusChain()
        assert first is not body
    first.setFocus(Qt.FocusReason.TabFocusReason)
    found: list[QWidget] = []
    while (here := QApplication.focusWidget()) is not None and body.isAncestorOf(here) and here not in found:
        found.append(here)
        QTest.keyClick(here, Qt.Key.Key_Tab)
    return found


def takes_focus(widget: QWidget) -> bool:
    is_stop = bool(widget.focusPolicy().value & Qt.FocusPolicy.TabFocus.value)
    return is_stop and widget.isVisible() and widget.isEnabled() and widget.focusProxy() is None


def is_reached(control: QWidget, reached: list[QWidget]) -> bool:
    return any(control is one or control.isAncestorOf(one) for one in reached)


@pytest.mark.parametrize("name", ["Review links", "Evaluate", "Propagate", "Train", "Predict"])
def test_what_can_grow_fills_its_dock(full, name, session, monkeypatch) -> None:
    for other in ("Segment", "Export"):
        close_dock(open_dock(full, other)[0])  # napari leaves more and more room below each further dock
    _, dock = open_dock(full, name)
    pages = PAGES[name](dock, session, monkeypatch)
    next(pages)
    if name == "Review links":
        next(pages)
    QTest.qWait(20)
    layout = dock.layout()
    items = [layout.itemAt(place) for place in range(layout.count())]
    assert sum(one.geometry().height() for one in items if one.spacerItem() is not None) == 0


# ------------------------------------------------------------------------------------------- docks among docks


def test_a_further_dock_takes_a_tab_and_the_window_keeps_its_size(full) -> None:
    window = full.window._qt_window
    window.resize(1280, 800)
    opened = [open_dock(full, name) for name in ("Export", "Voxel size", "Review links", "Train", "Start here")]
    QTest.qWait(20)
    for docked, _ in opened:
        assert len(window.tabifiedDockWidgets(docked)) == 4
        assert "(" not in docked.windowTitle()  # that is what the tab says
    assert [dock.is_seen for _, dock in opened if isinstance(dock, Panel)] == [False, False, False, True]
    assert (window.width(), window.height()) == (1280, 800)


def test_a_dock_is_one_for_the_menu_for_start_and_for_scripts(full) -> None:
    _, start = open_dock(full, "Start here")
    _, review = open_dock(full, "Review links")
    assert start.open_dock("Review links") is review
    propagate = start.open_dock("Propagate")
    assert open_dock(full, "Propagate")[1] is propagate
    _, train = full.window.add_plugin_dock_widget(PLUGIN, "Train")
    assert start.open_dock("Train") is train
    assert len(state_of(full).panels) == 4


def test_the_menu_brings_to_the_front_what_lies_behind_and_hides_what_is_in_front(full) -> None:
    (first, start), (_, export) = open_dock(full, "Start here"), open_dock(full, "Export")
    assert (start.is_seen, export.is_seen) == (False, True)
    choose_in_menu("Start here")
    assert wait_for(lambda: start.is_seen)
    assert not export.is_seen
    choose_in_menu("Start here")
    assert wait_for(lambda: export.is_seen)
    QTest.qWait(20)
    assert first.isHidden()
    choose_in_menu("Start here")  # and back, beside the other one again
    assert wait_for(lambda: start.is_seen)
    assert len(full.window._qt_window.tabifiedDockWidgets(first)) == 1


def test_a_tab_that_was_dragged_away_stays_there(full) -> None:
    (first, start), (second, export) = open_dock(full, "Start here"), open_dock(full, "Export")
    second.setFloating(True)
    QTest.qWait(20)
    assert second.isFloating()
    assert start.is_seen
    window = full.window._qt_window
    window.splitDockWidget(first, second, Qt.Orientation.Horizontal)
    QTest.qWait(20)
    assert not window.tabifiedDockWidgets(first)
    assert export.is_seen
    assert start.is_seen


def press(widget: QWidget, *keys: Qt.Key) -> None:
    widget.setFocus(Qt.FocusReason.TabFocusReason)
    for key in keys:
        QTest.keyClick(widget, key)
        QApplication.processEvents()


def test_arrow_keys_go_through_the_strip(full, session, monkeypatch) -> None:
    _, dock = open_dock(full, "Propagate")
    list(propagate_pages(dock, session, monkeypatch))
    full.dims.set_current_step(0, 1)
    press(dock.strip, Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Right)
    assert dock.result.selected_label == 2  # the last row
    assert full.dims.current_step[0] == 2
    press(dock.strip, Qt.Key.Key_Up, Qt.Key.Key_Left, Qt.Key.Key_Left, Qt.Key.Key_Left)
    assert dock.result.selected_label == 1
    assert full.dims.current_step[0] == 0


def test_arrow_keys_and_enter_choose_an_alternative(full, session, tmp_path) -> None:
    shutil.copytree(session, tmp_path / "b.emseg")
    _, dock = open_dock(full, "Review links")
    dock.open_session(str(tmp_path / "b.emseg"))
    settle(dock)
    choices = dock.inspector.choices
    seen = []
    dock.inspector.hovered.connect(seen.append)
    press(choices, Qt.Key.Key_Home, Qt.Key.Key_Down)
    assert choices.currentRow() == 1
    assert seen[-1] is dock.desk.scene.alternatives[0]
    press(choices, Qt.Key.Key_Return)
    settle(dock)
    assert [done.kind for done in dock.desk.session.operations] == ["alternative"]
