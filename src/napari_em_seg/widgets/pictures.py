"""Pictures of a real viewer, for the demo, the docs and the tests."""

import time
from pathlib import Path
from typing import Any

import napari
from napari.qt import get_qapp

__all__ = ["save_picture", "settle", "wait_for"]


def settle(seconds: float = 0.3) -> None:
    """Let Qt draw what is pending."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        get_qapp().processEvents()
        time.sleep(0.01)


def wait_for(dock: Any, least: float = 0.05) -> None:
    """Let a dock finish what it does, at least so many seconds."""
    settle(least)
    while dock.work.is_busy:
        settle(0.01)
    settle(0)


def save_picture(viewer: napari.Viewer, path: Path, *, canvas_only: bool = False) -> None:
    """Save the window, or its canvas alone, as PNG."""
    settle()
    viewer.screenshot(str(path), canvas_only=canvas_only, flash=False)
