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


def test_layers_of_the_same_shape_are_set_together_and_others_left(
    viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot
) -> None:
    image = viewer.add_image(np.zeros((3, 9, 9)))
    labels = viewer.add_labels(np.zeros((3, 9, 9), int))
    other = viewer.add_image(np.zeros((4, 9, 9)))
    dock._layer.value = image
    enter(dock, 40, 4, 4)
    qtbot.mouseClick(button(dock), Qt.MouseButton.LeftButton)
    assert_array_equal(labels.scale, (40, 4, 4))
    assert_array_equal(other.scale, (1, 1, 1))


def test_it_follows_layers_that_come_and_go(viewer: napari.Viewer, dock: VoxelSizeWidget) -> None:
    viewer.add_image(np.zeros((9, 9)), name="flat")
    assert dock._layer.value is None
    viewer.add_image(np.zeros((3, 9, 9)), name="stack", scale=(30, 6, 6), units=("nm",) * 3)
    assert dock._layer.value.name == "stack"
    assert dock._state.value == "30 × 6 × 6 nm"
    viewer.layers.clear()
    assert dock._layer.value is None


def test_closing_it_leaves_nothing_connected(viewer: napari.Viewer, dock: VoxelSizeWidget, qtbot) -> None:
    viewer.window.remove_dock_widget(dock.native)
    dock.native.deleteLater()
    qtbot.wait(50)
    viewer.add_image(np.zeros((3, 9, 9)))  # would raise in a slot of the deleted widget


def test_nothing_is_clipped(viewer: napari.Viewer, dock: VoxelSizeWidget) -> None:
    viewer.add_image(np.zeros((3, 9, 9)), name="raw" + UNKNOWN_SIZE)
    for child in (*[box.native for box in dock._sizes], button(dock)):
        assert child.width() >= child.minimumSizeHint().width()
