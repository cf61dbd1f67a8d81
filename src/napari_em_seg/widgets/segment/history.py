"""History: the settings that a segmentation had, to go back to and forth; no voxels are kept for them."""

from dataclasses import dataclass

from napari_em_seg.pipeline.adjustable import Cut, Parts

__all__ = ["History", "Setting"]

_RUNS = 2  # each keeps the part of every voxel; another agglomeration of the same parts is no other run


@dataclass(frozen=True)
class Setting:
    """Parts, and how they are cut: together they are a segmentation."""

    parts: Parts
    cut: Cut


class History:
    """Settings one after the other, of the last two runs at most; one of them holds now."""

    def __init__(self) -> None:
        self._settings: list[Setting] = []
        self._place = -1

    @property
    def now(self) -> Setting | None:
        """The setting that holds."""
        return self._settings[self._place] if self._settings else None

    @property
    def before(self) -> Setting | None:
        """The one before it."""
        return self._settings[self._place - 1] if self._place > 0 else None

    @property
    def after(self) -> Setting | None:
        """The one that was undone last."""
        is_last = self._place == len(self._settings) - 1
        return None if is_last else self._settings[self._place + 1]

    def put(self, setting: Setting) -> None:
        """Add a setting, which holds from now on; what was undone is gone, and so are older runs."""
        if setting == self.now:
            return
        settings = [*self._settings[: self._place + 1], setting]
        runs = list(dict.fromkeys(id(one.parts.labels) for one in settings))[-_RUNS:]
        self._settings = [one for one in settings if id(one.parts.labels) in runs]
        self._place = len(self._settings) - 1

    def undo(self) -> None:
        """Go back to the setting before."""
        self._place = max(self._place - 1, 0) if self._settings else -1

    def redo(self) -> None:
        """Go forth again."""
        self._place = min(self._place + 1, len(self._settings) - 1)
