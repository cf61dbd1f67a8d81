"""Recent: the sessions that were opened last, kept in napari's settings of this plugin."""

from pathlib import Path

from napari_em_seg.widgets.parts import settings_of

__all__ = ["add_recent", "recent_sessions"]

_MOST = 8


def recent_sessions() -> list[Path]:
    """Return the sessions that were opened last and are still there, the latest first."""
    kept = settings_of("start")
    lines = [] if kept is None else str(kept.recent).splitlines()
    return [path for path in map(Path, lines) if path.is_dir()]


def add_recent(path: Path) -> None:
    """Say that a session was opened."""
    kept = settings_of("start")
    if kept is None:
        return
    others = [other for other in recent_sessions() if other != path.absolute()]
    kept.recent = "\n".join(map(str, [path.absolute(), *others][:_MOST]))
