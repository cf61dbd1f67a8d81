"""Desks: which review is going on in which viewer, so that other docks can hand things over to it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

    from napari_em_seg.widgets.review.desk import Desk

__all__ = ["desk_of", "put_away", "set_up"]

_DESKS: dict[int, "Desk"] = {}  # by the identity of the viewer; taken out when the dock is closed


def set_up(viewer: "napari.Viewer", desk: "Desk") -> None:
    """Say that there is a review in a viewer."""
    _DESKS[id(viewer)] = desk


def put_away(viewer: "napari.Viewer", desk: "Desk") -> None:
    """Say that it has ended."""
    if _DESKS.get(id(viewer)) is desk:
        del _DESKS[id(viewer)]


def desk_of(viewer: "napari.Viewer") -> "Desk | None":
    """Return the review of a viewer that has a session open; None if there is no such one."""
    desk = _DESKS.get(id(viewer))
    return desk if desk is not None and desk.session is not None else None
