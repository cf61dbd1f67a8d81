"""Keys: the one map from keys to what they do; buttons, the help and the documentation are made from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path
from psygnal import Signal

from napari_em_seg.errors import DataError
from napari_em_seg.io._atomic import atomic

__all__ = ["ACTIONS", "Action", "KeyMap", "as_markdown", "key_map"]


@dataclass(frozen=True)
class Action:
    """Something that a key does while links are reviewed."""

    name: str
    title: str
    key: str
    help: str


ACTIONS = (
    Action("accept", "Accept", "A", "The link is right"),
    Action("reject", "Reject", "R", "The link is wrong, and none of the alternatives is meant"),
    *(
        Action(f"alternative {k}", f"Alternative {k}", str(k), f"Alternative {k} of the list is right")
        for k in range(1, 10)
    ),
    Action("don't know", "Unsure", "D", "Nobody can tell from these pictures"),
    Action("skip", "Skip", "S", "Leave it for later, go to the next one"),
    Action("back", "Back", "W", "Go back to the link before"),
    Action("next of object", "Object", "N", "Go to the next doubtful link of the same object"),
    Action("undo", "Undo", "U", "Take back what was done last, as often as you like"),
    Action("redo", "Redo", "Shift+U", "Do again what was taken back last"),
    Action("neighbours", "Slices", "G", "Show the slices before and after as well, or not"),
    Action("3-D", "3-D", "T", "Show the objects in question in 3-D, or go back to the slices"),
    Action("help", "Keys", "H", "Show these keys, and change them"),
)


class KeyMap:
    """Which key does what, as the user wants it; kept in a file.

    Parameters
    ----------
    path
        Of the file; it need not be there.
    """

    changed = Signal()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: dict[str, str] = _read(path)

    def key(self, name: str) -> str:
        """Return the key of an action, in words such as ``Shift+U``; empty for none."""
        return self._own.get(name, _DEFAULTS[name])

    def title(self, name: str) -> str:
        """Return what stands on a button: the title of an action with its key."""
        title, key = _TITLES[name], self.key(name)
        return f"{title} [{key.replace('Shift+', '⇧')}]" if key else title

    def change(self, keys: Mapping[str, str]) -> None:
        """Give actions other keys; one key for two of them is refused, and nothing is changed then."""
        wanted = {action.name: keys.get(action.name, self.key(action.name)) for action in ACTIONS}
        taken: dict[str, str] = {}
        for name, key in wanted.items():
            if key and key in taken:
                raise DataError(f"The key {key} is to mean {taken[key]!r} and {name!r}",
                                "one meaning for a key", "Choose another key for one of them")  # fmt: skip
            taken[key] = name
        self._own = {name: key for name, key in wanted.items() if key != _DEFAULTS[name]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(self._path, overwrite=True) as partial:
            partial.write_text(json.dumps(self._own, indent=1), "utf-8")
        self.changed.emit()


def key_map() -> KeyMap:
    """Return the user's keys."""
    return KeyMap(user_config_path("napari-em-seg") / "keys.json")


def as_markdown() -> str:
    """Return the table of keys for the documentation."""
    lines = ["| key | | what it does |", "| --- | --- | --- |"]
    numbered = [action for action in ACTIONS if action.name.startswith("alternative")]
    for action in ACTIONS:
        if action is numbered[0]:
            lines.append("| `1` … `9` | Alternative | That one of the list is right |")
        elif action not in numbered:
            lines.append(f"| `{action.key}` | {action.title} | {action.help} |")
    return "\n".join(lines) + "\n"


_DEFAULTS = {action.name: action.key for action in ACTIONS}
_TITLES = {action.name: action.title for action in ACTIONS}


def _read(path: Path) -> dict[str, str]:
    """Read the user's keys; a file that is not there or damaged means the usual ones."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: key for name, key in found.items() if name in _DEFAULTS and isinstance(key, str)}
