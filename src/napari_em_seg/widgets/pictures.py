"""Pictures of a real viewer, for the demo, the docs and the tests."""

import time
from pathlib import Path

import napari
from napari.qt import get_qapp

__all__ = ["save_picture", "settle"]


def settle(seconds: float = 0.3) -> None:
    """Let Qt draw what is pending."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        get_qapp().processEvents()
        time.sleep(0.01)


def save_picture(viewer: napari.Viewer, path: Path, *, canvas_only: bool = False) -> None:
    """Save the window, or its canvas alone, as PNG."""
    settle()
    viewer.screenshot(str(path), canvas_only=canvas_only, flash=False)
