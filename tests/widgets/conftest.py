"""Real napari viewers for the tests of the widgets."""

from collections.abc import Iterator

import pytest

napari = pytest.importorskip("napari")


@pytest.fixture
def viewer(qtbot: object) -> Iterator["napari.Viewer"]:
    """Give a real viewer, shown on the (virtual) screen, closed afterwards."""
    viewer = napari.Viewer(show=True)
    yield viewer
    viewer.close()
