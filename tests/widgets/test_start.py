"""The dock "Start", clicked through in a real viewer, opened as napari's menu opens it."""

import sys

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_em_seg import pipeline
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import PredictedMaps
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import marked
from napari_em_seg.widgets.parts import PLUGIN
from napari_em_seg.widgets.recent import add_recent, recent_sessions
from napari_em_seg.widgets.start.steps import STEPS
from napari_em_seg.widgets.state import state_of

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Return a session about a little tissue."""
    folder = tmp_path_factory.mktemp("tissue")
    raw, truth = pipeline.sample_volumes((5, 96, 96), 3)
    affinities = (235 * affinity_labels(np.asarray(truth))[0] + 10).astype(np.uint8)
    write_volume(Volume(np.asarray(raw), SIZE, "raw"), str(folder / "raw.zarr"))
    image = open_volume(str(folder / "raw.zarr"))
    pipeline.reconstruct_to_session(image, str(folder / "a.emseg"), maps=PredictedMaps(affinities))
    return folder / "a.emseg"


@pytest.fixture
def start(viewer: napari.Viewer, qtbot):
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Start here")
    yield dock
    for widget in our_docks(viewer):
        widget.shut_down()
        widget.work.wait()


def our_docks(viewer):
    from napari_em_seg.widgets.panel import Panel

    return viewer.window._qt_window.findChildren(Panel)


def text(start, title: str) -> str:
    return start._texts[title].text()


def mark(start, title: str) -> str:
    return start._marks[title].text()


def stack(viewer, **options):
    return viewer.add_image(np.zeros((4, 32, 32), np.uint8), scale=SIZE, units=("nm",) * 3, **options)


def test_it_says_what_there_is_and_what_is_not(viewer, start) -> None:
    assert mark(start, "Open a stack") == "1"
    layer = stack(viewer, name="cortex")
    assert mark(start, "Open a stack") == "✓"
    assert "cortex, 4 × 32 × 32, 30 × 6 × 6 nm" in text(start, "Open a stack")
    layer.name = "other"
    assert "other, 4" in text(start, "Open a stack")
    assert mark(start, "Predict") == "2"
    membranes = stack(viewer, name="membranes", metadata=marked("boundary"))
    assert mark(start, "Predict") == "✓"
    assert "membranes" in text(start, "Predict")
    viewer.add_labels(np.zeros((4, 32, 32), np.uint8), name="truth")
    assert mark(start, "Export") == "7"  # nothing was exported yet
    viewer.layers.remove(membranes)
    assert mark(start, "Predict") == "2"
    viewer.layers.remove(layer)
    assert mark(start, "Open a stack") == "1"


def test_what_was_measured_exported_and_learned_is_ticked(viewer, start) -> None:
    for dock, number in (("Evaluate", 6), ("Export", 7), ("Train", 8)):
        assert mark(start, dock) == str(number)
        state_of(viewer).tell(dock, f"{dock} is done & <well>")
        assert mark(start, dock) == "✓"
        assert f"{dock} is done &amp; &lt;well&gt;" in text(start, dock)


def test_long_paths_are_shortened_and_nothing_is_clipped(viewer, start, qtbot) -> None:
    folder = "/data/" + "a_very_long_name_of_a_folder_" * 4
    state_of(viewer).tell("Export", f"6 things written into {folder}")
    stack(viewer, name="a_stack_with_a_name_of_many_letters_and_no_spaces_at_all")
    viewer.window._qt_window.resizeDocks([start.parentWidget()], [380], Qt.Orientation.Horizontal)
    QApplication.processEvents()
    assert start._texts["Export"].toolTip().endswith(folder)
    for label in start._texts.values():
        document = QTextDocument()
        document.setDefaultFont(label.font())
        document.setDocumentMargin(0)
        document.setHtml(label.text())
        document.setTextWidth(label.width())
        assert document.idealWidth() <= label.width()
        assert document.size().height() <= label.height() + 1


def test_a_stack_without_voxel_size_says_where_to_set_it(viewer, start) -> None:
    viewer.add_image(np.zeros((4, 32, 32), np.uint8), name="raw")
    assert "voxel size not known" in text(start, "Open a stack")


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: step.dock)
def test_each_button_opens_its_dock_and_brings_it_to_the_front(viewer, start, step, qtbot) -> None:
    for _ in range(2):  # the second time it is there already
        qtbot.mouseClick(start.buttons[step.title], Qt.MouseButton.LeftButton)
        QApplication.processEvents()
    titles = [d.windowTitle() for d in viewer.window._qt_window.findChildren(QDockWidget)]
    assert titles.count(step.dock) == 1


def test_a_dock_that_was_closed_can_be_opened_again(viewer, start, qtbot) -> None:
    first = start.open_dock("Propagate")
    viewer.window.remove_dock_widget(first)
    qtbot.waitUntil(lambda: first.is_shut)
    second = start.open_dock("Propagate")
    assert second is not first
    assert not second.is_shut


def test_a_session_is_opened_from_the_list_and_counted(viewer, start, session, qtbot) -> None:
    assert start.recent.count() == 0
    add_recent(session)
    start.refresh()
    start.recent.itemActivated.emit(start.recent.item(0))
    qtbot.waitUntil(lambda: state_of(viewer).desk is not None, timeout=30_000)
    desk = state_of(viewer).desk
    n = len(desk.sheet.links)
    assert f"0 of {n} links answered" in text(start, "Reconstruct and review")
    desk.accept()
    qtbot.waitUntil(lambda: not desk.work.is_busy, timeout=30_000)
    assert f"1 of {len(desk.sheet.links)} links answered" in text(start, "Reconstruct and review")
    assert state_of(viewer).image.name == "raw"


def test_sessions_that_are_gone_are_not_listed_and_the_latest_comes_first(tmp_path, viewer) -> None:
    paths = [tmp_path / f"{k}.emseg" for k in range(10)]
    for path in paths:
        path.mkdir()
        add_recent(path)
    add_recent(paths[5])
    paths[9].rmdir()
    assert recent_sessions()[:3] == [paths[5], paths[8], paths[7]]
    assert len(recent_sessions()) == 7


def test_arranged_for_proofreading_only_the_image_and_its_objects_are_seen(
    viewer, start, session, qtbot
) -> None:
    stack(viewer, name="membranes", metadata=marked("boundary"))
    qtbot.mouseClick(start.arrange, Qt.MouseButton.LeftButton)
    assert not viewer.layers["membranes"].visible
    start.open_session(session)
    qtbot.waitUntil(lambda: state_of(viewer).desk is not None, timeout=30_000)
    viewer.dims.ndisplay = 3
    qtbot.mouseClick(start.arrange, Qt.MouseButton.LeftButton)
    assert viewer.dims.ndisplay == 2
    shown = {layer.name for layer in viewer.layers if layer.visible}
    assert shown == {"raw", "objects", "link source", "link target"}


def test_the_device_is_shared_and_remembered(viewer, start) -> None:
    start.device.setCurrentText("cpu")
    assert state_of(viewer).device == "cpu"
    other = napari.Viewer(show=False)
    _, again = other.window.add_plugin_dock_widget(PLUGIN, "Start here")
    assert state_of(other).device == "cpu"
    again.shut_down()
    other.close()


def test_opening_it_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys; import napari_em_seg.widgets.start.dock, napari_em_seg.widgets.review.dock; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
