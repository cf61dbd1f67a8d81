"""What docks of one viewer share, with docks opened as napari's menu opens them."""

import napari
import numpy as np
import pytest

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError
from napari_em_seg.widgets.state import state_of

PLUGIN = "napari-em-seg"


def open_dock(viewer: napari.Viewer, name: str):
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def close_dock(viewer: napari.Viewer, dock) -> None:
    viewer.window.remove_dock_widget(dock)
    dock.shut_down()
    dock.work.wait()


def test_docks_opened_from_the_menu_share_one_state(viewer) -> None:
    review, propagate = open_dock(viewer, "Review links"), open_dock(viewer, "Propagate")
    assert review.state is propagate.state is state_of(viewer)
    assert propagate.state._desk is review.desk  # napari hands each dock another proxy of the viewer
    close_dock(viewer, review)
    assert propagate.state._desk is None
    close_dock(viewer, propagate)


def test_two_viewers_have_two_states(viewer, qtbot) -> None:
    other = napari.Viewer(show=False)
    assert state_of(viewer) is not state_of(other)
    other.close()


def test_one_of_a_kind_at_a_time_on_a_layer(viewer) -> None:
    state, told = state_of(viewer), []
    state.changed.connect(lambda: told.append(1))
    state.claim("Prediction", one := viewer.add_image(np.zeros((2, 2)), name="raw"))
    with pytest.raises(DataError, match="Prediction of raw is under way already"):
        state.claim("Prediction", one)
    state.claim("Watershed", one)
    state.claim("Prediction", viewer.add_image(np.zeros((2, 2)), name="other"))
    state.release("Prediction", one)
    state.claim("Prediction", one)
    assert len(told) == 5


def test_what_was_done_is_kept_and_told(viewer) -> None:
    state, told = state_of(viewer), []
    state.changed.connect(lambda: told.append(dict(state.done)))
    state.tell("Export", "2 things written")
    state.tell("Export", "3 things written")
    assert told == [{"Export": "2 things written"}, {"Export": "3 things written"}]


def test_what_was_chosen_is_remembered_for_the_next_time(viewer) -> None:
    dock = open_dock(viewer, "Propagate")
    assert dock.extent.value() == 10
    dock.extent.setValue(4)
    dock.way.setCurrentText("up (to higher slices)")
    close_dock(viewer, dock)
    other = napari.Viewer(show=False)
    again = open_dock(other, "Propagate")
    assert (again.extent.value(), again.way.currentText()) == (4, "up (to higher slices)")
    close_dock(other, again)
    other.close()


def test_a_chosen_layer_stays_chosen_when_others_come(viewer) -> None:
    dock = open_dock(viewer, "Propagate")
    for name in ("one", "two"):
        viewer.add_image(np.zeros((3, 8, 8), np.uint8), name=name)
    dock.image.setCurrentText("two")
    viewer.add_image(np.zeros((3, 8, 8), np.uint8), name="three")
    assert dock.image.currentText() == "two"
    assert dock.image.layer is viewer.layers["two"]
    close_dock(viewer, dock)


def test_a_renamed_layer_is_renamed_in_the_docks(viewer) -> None:
    dock = open_dock(viewer, "Propagate")
    layer = viewer.add_image(np.zeros((3, 8, 8), np.uint8), name="raw")
    layer.name = "cortex"
    assert dock.image.currentText() == "cortex"
    close_dock(viewer, dock)


def test_networks_run_where_the_docks_say(viewer, monkeypatch, qtbot) -> None:
    start, dock = open_dock(viewer, "Start here"), open_dock(viewer, "Propagate")
    viewer.add_image(np.zeros((3, 8, 8), np.uint8), name="raw", scale=(30, 6, 6), units=("nm",) * 3)
    seeds = dock.add_seeds()
    seeds.data[1, 2:6, 2:6] = 1
    viewer.dims.set_current_step(0, 1)
    start.device.setCurrentText("cpu")
    given = []
    monkeypatch.setattr(pipeline, "propagate", lambda _v, _s, wanted, **_: given.append(wanted) or ())
    dock.go.click()
    qtbot.waitUntil(lambda: bool(given))
    assert given[0].device == "cpu"
    close_dock(viewer, dock)
    close_dock(viewer, start)
