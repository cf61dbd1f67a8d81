"""Files of a run in blocks: what it is about, and what was made so far, so that a killed run can go on."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import EmSegError, FormatError
from napari_em_seg.io._array_file import damaged, load_arrays, save_arrays
from napari_em_seg.io._atomic import atomic
from napari_em_seg.segment._stitch import Block
from napari_em_seg.volume import ArrayLike

__all__ = ["Arrays", "Files", "Types", "sample_of"]

Arrays = dict[str, NDArray[Any]]
Types = Mapping[str, tuple[type, int]]

_log = logging.getLogger(__name__)

_ABOUT = "about.json"
_N_SAMPLES = 8


@dataclass(frozen=True)
class Files:
    """A folder of files, each marked as of this run."""

    folder: Path
    run: str

    @classmethod
    def opened(cls, folder: Path, about: Mapping[str, Any]) -> "Files":
        """Make the folder, or check that it is about the same."""
        text = json.dumps(about, indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            contents = [path for path in folder.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise EmSegError(f"The folder {folder} cannot be used: {error.strerror or error}",
                             "a folder that you may write to", "Choose another one") from error  # fmt: skip
        if not contents:  # a run that was killed at once leaves hidden files
            with atomic(folder / _ABOUT) as partial:
                partial.write_text(text, encoding="utf-8")
        else:
            _check_same(folder, json.loads(text))
        return cls(folder, hashlib.sha256(text.encode()).hexdigest()[:16])

    def path(self, name: str) -> Path:
        """Return where it is, or will be."""
        return self.folder / f"{name}.npz"

    def kept(self, name: str, types: Types, make: Callable[[], Arrays]) -> Arrays:
        """Read a file; where it is missing or damaged, make and write it."""
        kind, mark = f"block ({name.partition('-')[0]})", f"{self.run} {name}"
        if self.path(name).exists():
            try:
                arrays, card = load_arrays(self.path(name), kind, types)
                if card.get("mark") == mark:
                    return arrays
                raise damaged(self.path(name), kind, "it is that of another block or run")
            except FormatError as error:
                _log.warning("%s; it is made anew", error.came)
        arrays = make()
        save_arrays(self.path(name), kind, arrays, {"mark": mark}, overwrite=True)
        return arrays


def sample_of(affinities: ArrayLike, blocks: Iterable[Block]) -> str:
    """Return a hash of the middle slices of a few blocks: all of a large volume would take too long."""
    cores = [block.core for block in blocks]
    digest = hashlib.sha256()
    for i in sorted({i * (len(cores) - 1) // (_N_SAMPLES - 1) for i in range(_N_SAMPLES)}):
        z, y, x = cores[i]
        middle = (z.start + z.stop) // 2
        digest.update(np.ascontiguousarray(affinities[:, middle : middle + 1, y, x]).tobytes())
    return digest.hexdigest()


def _check_same(folder: Path, about: dict[str, Any]) -> None:
    try:
        found = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"The folder {folder} holds something, but no {_ABOUT} that can be read",
                          "an empty folder, or that of a run in blocks",
                          "Choose another folder, or empty this one") from error  # fmt: skip
    found = found if isinstance(found, dict) else {}
    differing = [key for key in about if found.get(key) != about[key]]
    if differing:
        texts = ("other affinities" if key == "sample" else f"{key} {found.get(key)!r}" for key in differing)
        wanted = ("those given" if key == "sample" else f"{key} {about[key]!r}" for key in differing)
        raise FormatError(f"The folder {folder} is that of a run with {', '.join(texts)}",
                          f"one with {', '.join(wanted)}",
                          "Choose another folder, or empty this one to begin anew")  # fmt: skip
