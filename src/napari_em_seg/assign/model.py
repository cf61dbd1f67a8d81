"""Models of assignments: the forest of costs and the forest of errors, in one file with a card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from napari_em_seg.assign.confidence import LINK_FEATURES
from napari_em_seg.assign.costs import Prices
from napari_em_seg.assign.features import FEATURES
from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.forest import Forest
from napari_em_seg.io._array_file import damaged, load_arrays, save_arrays

__all__ = ["AssignmentModel", "bundled_files"]

_KIND = "assignment model"
_PARTS = {"costs": FEATURES, "errors": LINK_FEATURES}


@dataclass(frozen=True, eq=False)
class AssignmentModel:
    """What was learned of assignments.

    Attributes
    ----------
    costs
        How probable each assignment is.
    errors
        How likely a chosen one is wrong; None where too few have been seen.
    prices
        What ends and gaps cost, as was best where it was trained.
    card
        How it was made, plain JSON: ``data``, ``licence``, ``command``, ``voxel_size_nm`` and more.
    """

    costs: Forest
    errors: Forest | None = None
    prices: Prices = field(default_factory=Prices)
    card: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the model as one file (.npz), whole or not at all."""
        parts = {"costs": self.costs, **({} if self.errors is None else {"errors": self.errors})}
        arrays = {f"{part}_{name}": a for part, forest in parts.items() for name, a in forest.arrays().items()}
        card = {
            **self.card, "parts": sorted(parts), "features": {part: list(_PARTS[part]) for part in parts},
            "prices": vars(self.prices),
        }  # fmt: skip
        save_arrays(path, _KIND, arrays, card, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> "AssignmentModel":
        """Read a model; a file that is damaged, or is none, is a FormatError."""
        _, card = load_arrays(path, _KIND, {})
        parts = card.get("parts")
        if not isinstance(parts, list) or "costs" not in parts or not set(parts) <= set(_PARTS):
            raise damaged(Path(path), _KIND, f"it holds {parts}")
        if card.get("features") != {part: list(_PARTS[part]) for part in parts}:
            raise FormatError(f"{path} was trained on other features", f"these: {', '.join(FEATURES)}",
                              "Train it again, or use the version of napari-em-seg that wrote it")  # fmt: skip
        types = {f"{part}_{name}": t for part in parts for name, t in Forest.types().items()}
        arrays, _ = load_arrays(path, _KIND, types)
        try:
            forests = {}
            for part in parts:
                own: dict[str, Any] = {name: arrays[f"{part}_{name}"] for name in Forest.types()}
                forests[part] = Forest(_PARTS[part], **own)
            prices = Prices(**card["prices"])
        except (DataError, KeyError, TypeError) as error:
            raise damaged(Path(path), _KIND, getattr(error, "came", str(error))) from error
        return cls(forests["costs"], forests.get("errors"), prices, card)


def bundled_files() -> list[Path]:
    """Return the files of the models that come along, by name."""
    return sorted(Path(str(files("napari_em_seg.assign") / "bundled")).glob("*.npz"))
