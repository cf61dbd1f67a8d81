"""State: what the docks of one viewer share: the review, the image, the device, and what is going on."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_em_seg.errors import DataError

if TYPE_CHECKING:
    import napari

    from napari_em_seg.widgets.panel import Panel
    from napari_em_seg.widgets.review.desk import Desk

__all__ = ["ViewerState", "real", "state_of"]


class ViewerState:
    """One for each viewer; ``changed`` is emitted when anything in it is another.

    ``models_changed`` is emitted when there are other models: lists of them read the folders again.

    Attributes
    ----------
    image
        The layer of the image that was chosen last in any dock, with which the others begin.
    device
        Where networks run: auto, cpu, cuda, …
    panels
        The docks that are open.
    done
        What was done last in docks that leave nothing in the viewer that would tell, by their names.
    """

    changed = Signal()
    models_changed = Signal()

    def __init__(self) -> None:
        self._desk: Desk | None = None
        self._image: Any = None
        self._device = "auto"
        self._under_way: set[tuple[str, int]] = set()
        self.panels: list[Panel] = []
        self.done: dict[str, str] = {}

    @property
    def desk(self) -> "Desk | None":
        """The review, if there is one with a session open."""
        return self._desk if self._desk is not None and self._desk.session is not None else None

    def set_up(self, desk: "Desk") -> None:
        """Say that there is a review."""
        self._desk = desk
        desk.opened.connect(self.changed.emit)
        desk.closed.connect(self.changed.emit)
        desk.listed.connect(self.changed.emit)
        self.changed.emit()

    def put_away(self, desk: "Desk") -> None:
        """Say that it has ended."""
        if self._desk is desk:
            self._desk = None
            self.changed.emit()

    @property
    def image(self) -> Any:
        """The layer that is worked on; None if nobody has chosen one."""
        return self._image

    @image.setter
    def image(self, layer: Any) -> None:
        if layer is not self._image:
            self._image = layer
            self.changed.emit()

    @property
    def device(self) -> str:
        """Where networks run."""
        return self._device

    @device.setter
    def device(self, name: str) -> None:
        if name != self._device:
            self._device = name
            self.changed.emit()

    def tell(self, dock: str, done: str) -> None:
        """Say in a few words what was done in a dock."""
        self.done[dock] = done
        self.changed.emit()

    def is_under_way(self, what: str, layer: Any) -> bool:
        """Whether such a thing is being done with a layer."""
        return (what, id(layer)) in self._under_way

    def claim(self, what: str, layer: Any) -> None:
        """Say that such a thing is being done with a layer; refuse a second one of its kind."""
        if self.is_under_way(what, layer):
            raise DataError(f"{what} of {getattr(layer, 'name', layer)} is under way already",
                            "one of a kind at a time", "Wait for its end, or cancel it")  # fmt: skip
        self._under_way.add((what, id(layer)))
        self.changed.emit()

    def release(self, what: str, layer: Any) -> None:
        """Say that it is over."""
        self._under_way.discard((what, id(layer)))
        self.changed.emit()


def state_of(viewer: "napari.Viewer") -> ViewerState:
    """Return what the docks of a viewer share."""
    return _STATES.setdefault(real(viewer), ViewerState())


def real(viewer: "napari.Viewer") -> "napari.Viewer":
    """Return the viewer itself: napari hands a dock a proxy, which gives new proxies of layers each time.

    Docks tell layers apart by identity, and share what they know of a viewer.
    """
    found: napari.Viewer = getattr(viewer, "__wrapped__", viewer)
    return found


_STATES: "WeakKeyDictionary[napari.Viewer, ViewerState]" = WeakKeyDictionary()
