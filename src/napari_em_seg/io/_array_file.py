"""Files of named arrays (.npz) with a card of plain JSON, written whole or not at all, read without pickle."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import EmSegError, FormatError, SourceNotFoundError, SourcePermissionError
from napari_em_seg.io._atomic import atomic

__all__ = ["damaged", "load_arrays", "save_arrays"]

Arrays = dict[str, NDArray[Any]]

_VERSION = 1
_CARD = "card"
_DAMAGE = (
    AttributeError, EOFError, KeyError, MemoryError, NotImplementedError, OSError, RuntimeError, TypeError,
    ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save_arrays(
    path: Path,
    kind: str,
    arrays: Mapping[str, NDArray[Any]],
    card: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write the arrays; the card says beside its own entries what the file is."""
    text = json.dumps({"kind": kind, "version": _VERSION, **card}, allow_nan=False)
    with atomic(Path(path), overwrite=overwrite) as partial, partial.open("wb") as stream:
        contents: dict[str, Any] = {_CARD: np.frombuffer(text.encode(), np.uint8), **arrays}
        np.savez_compressed(stream, **contents)


def load_arrays(path: Path, kind: str, types: Mapping[str, tuple[type, int]]) -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays named in `types`, each of that type and number of axes, and the card."""
    path = Path(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            card = json.loads(file[_CARD].tobytes())
            _check_card(path, card, kind)
            arrays = {name: file[name] for name in types}
    except EmSegError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"There is no file {path}", f"a {kind} file", "Check the path") from error
    except PermissionError as error:
        raise SourcePermissionError(f"Reading {path} is not permitted", "a file that you may read",
                                    "Ask its owner") from error  # fmt: skip
    except _DAMAGE as error:
        raise damaged(path, kind, str(error) or type(error).__name__) from error
    for name, (dtype, n_axes) in types.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != n_axes:
            raise damaged(path, kind, f"{name} is {arrays[name].dtype} of {arrays[name].ndim} axes")
    return arrays, card


def damaged(path: Path, kind: str, reason: str) -> FormatError:
    """Return the error that says what is wrong with a file."""
    return FormatError(f"{path} is damaged, or no {kind} file ({reason})", f"a {kind} file, whole",
                       "Get it again, or make it again")  # fmt: skip


def _check_card(path: Path, card: object, kind: str) -> None:
    found = card if isinstance(card, dict) else {}
    if found.get("kind") != kind:
        raise FormatError(f"{path} is a {found.get('kind', 'nameless')} file", f"a {kind} file",
                          "Choose another file")  # fmt: skip
    if found.get("version") != _VERSION:
        raise FormatError(f"{path} is of the file version {found.get('version')}", f"version {_VERSION}",
                          "Update napari-em-seg")  # fmt: skip
