"""Real napari viewers for the tests of the widgets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

napari = pytest.importorskip("napari")


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test settings of its own, as they are at first."""
    from napari import settings

    settings._clear_plugin_settings_cache()
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    yield
    settings._clear_plugin_settings_cache()


@pytest.fixture
def viewer(qtbot: object) -> Iterator["napari.Viewer"]:
    """Give a real viewer, shown on the (virtual) screen, closed afterwards."""
    viewer = napari.Viewer(show=True)
    yield viewer
    viewer.close()
