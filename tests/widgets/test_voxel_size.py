"""The dock "Voxel size", clicked as a user would."""

import napari
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_em_seg.widgets.layers import UNKNOWN_SIZE
from napari_em_seg.widgets.voxel_size import VoxelSizeWidget


@pytest.fixture
def dock(viewer: napari.Viewer) -> VoxelSizeWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-em-seg", "Voxel size")
    return widget


def button(dock: VoxelSizeWidget) -> QPushButton:
    (found,) = dock.native.findChildren(QPushButton)
    return found


def enter(dock: VoxelSizeWidget, *sizes: float) -> None:
    for box, size in zip(dock._sizes, sizes, strict=True):
        box.value = size


def test_it_opens_without_layers_and_asks_for_one(dock: VoxelSizeWidget) -> None:
    assert "open a stack" in dock._state.value
    assert not button(dock).isEnabled()


def test_an_unknown_size_is_shown_as_unknown_and_can_be_set(
    viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot
) -> None:
    layer = viewer.add_image(np.zeros((3, 9, 9)), name="cells" + UNKNOWN_SIZE)
    assert dock._state.value == "unknown"
    assert not button(dock).isEnabled()  # nothing is guessed
    enter(dock, 40, 4, 5)
    qtbot.mouseClick(button(dock), Qt.MouseButton.LeftButton)
    assert_array_equal(layer.scale, (40, 4, 5))
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
    assert layer.name == "cells"
    assert dock._state.value == "40 × 4 × 5 nm"


def test_layers_of_the_same_stack_are_set_together_and_others_left(
    viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot
) -> None:
    image = viewer.add_image(np.zeros((3, 9, 9)))
    labels = viewer.add_labels(np.zeros((3, 9, 9), int))
    smaller = viewer.add_image(np.zeros((4, 9, 9)))
    known = viewer.add_image(np.zeros((3, 9, 9)), scale=(50, 8, 8), units=("nm",) * 3)
    dock._layer.value = image
    enter(dock, 40, 4, 4)
    qtbot.mouseClick(button(dock), Qt.MouseButton.LeftButton)
    assert_array_equal(labels.scale, (40, 4, 4))
    assert_array_equal(smaller.scale, (1, 1, 1))
    assert_array_equal(known.scale, (50, 8, 8))


def test_a_size_is_shown_and_kept_to_the_last_digit(
    viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot
) -> None:
    layer = viewer.add_image(np.zeros((3, 9, 9)), scale=(29.1375, 4.625, 4.625), units=("nm",) * 3)
    qtbot.mouseClick(button(dock), Qt.MouseButton.LeftButton)
    assert_array_equal(layer.scale, (29.1375, 4.625, 4.625))


def test_layers_in_other_units_do_not_upset_it(viewer: napari.Viewer, dock: VoxelSizeWidget) -> None:
    viewer.add_image(np.zeros((3, 9, 9)), scale=(2, 2, 2), units=("mm",) * 3)
    assert dock._state.value == "2e+06 × 2e+06 × 2e+06 nm"


def test_the_view_stays_where_it_was(viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot) -> None:
    viewer.add_image(np.zeros((9, 50, 50)))
    viewer.dims.current_step = (6, 0, 0)
    enter(dock, 40, 4, 4)
    qtbot.mouseClick(button(dock), Qt.MouseButton.LeftButton)
    assert viewer.dims.current_step[0] == 6
    assert viewer.scene.camera.center[-1] == pytest.approx(100, abs=10)  # the middle of 50 × 4 nm


def test_it_notices_when_somebody_else_sets_the_size(viewer: napari.Viewer, dock: VoxelSizeWidget) -> None:
    layer = viewer.add_image(np.zeros((3, 9, 9)), scale=(30, 6, 6), units=("nm",) * 3)
    layer.scale = (45, 5, 5)
    assert dock._state.value == "45 × 5 × 5 nm"


def test_it_follows_layers_that_come_and_go(viewer: napari.Viewer, dock: VoxelSizeWidget) -> None:
    viewer.add_image(np.zeros((9, 9)), name="flat")
    assert dock._layer.value is None
    viewer.add_image(np.zeros((3, 9, 9)), name="stack", scale=(30, 6, 6), units=("nm",) * 3)
    assert dock._layer.value.name == "stack"
    assert dock._state.value == "30 × 6 × 6 nm"
    viewer.layers.clear()
    assert dock._layer.value is None


def test_closing_it_leaves_nothing_connected(viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot) -> None:
    layer = viewer.add_image(np.zeros((3, 9, 9)))
    events = (viewer.layers.events.inserted, viewer.layers.events.removed, layer.events.scale)
    assert all(listeners(event, dock) for event in events)
    viewer.window.remove_dock_widget(dock.native)
    dock.native.deleteLater()
    qtbot.wait(50)
    assert not any(listeners(event, dock) for event in events)


def listeners(event: object, dock: VoxelSizeWidget) -> list[object]:
    """Our own slots; napari itself connects ``reset_choices`` of every dock."""
    methods = [callback for callback in event.callbacks if isinstance(callback, tuple)]
    return [name for owner, name in methods if owner() is dock and name.startswith("_on")]


def test_nothing_is_clipped(viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot) -> None:
    viewer.add_image(np.zeros((3, 9, 9)), name="raw" + UNKNOWN_SIZE)
    qtbot.wait(50)
    combo = dock._layer.native
    assert combo.width() > combo.fontMetrics().horizontalAdvance(combo.currentText())
    assert button(dock).width() > button(dock).fontMetrics().horizontalAdvance(button(dock).text())
