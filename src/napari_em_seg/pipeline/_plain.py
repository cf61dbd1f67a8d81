"""Dataclasses as plain numbers, texts, lists and dicts, as YAML has them, and back, with clear errors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from napari_em_seg.errors import DataError

__all__ = ["from_plain", "relative_to", "to_plain"]

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "nothing"}


def to_plain(value: Any) -> Any:
    """Return a value without types of our own: dataclasses as dicts, slices as their ends."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    return value.item() if hasattr(value, "item") else value


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Return a value of a type out of plain ones; ``where`` says in errors which one is meant."""
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    for one in get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,):
        found = _simple(one, value, where)
        if found is not MISSING:
            return found
    raise DataError(f"{where} is {value!r}", _in_words(kind), "Write that, or leave it out")


def relative_to(path: str, folder: Path) -> str:
    """Return a path as it is written in a file in a folder; in full where another drive is meant."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {value!r}", f"names and values: {', '.join(known)}", "Write it so")
    odd = [str(name) for name in value if name not in known]
    if odd:
        raise DataError(f"{where} has the unknown {', '.join(odd)}", f"some of {', '.join(known)}",
                        "Look for typing errors")  # fmt: skip
    missing = [n for n, f in known.items() if n not in value and f.default is f.default_factory is MISSING]
    if missing:
        raise DataError(f"{where} does not say its {', '.join(missing)}", "a value for each", "Add it")
    hints = get_type_hints(kind)
    return kind(**{name: from_plain(hints[name], one, f"{where}: {name}") for name, one in value.items()})


def _simple(kind: Any, value: Any, where: str) -> Any:
    """Return the value, or MISSING if it is of another type."""
    origin, arguments = get_origin(kind), get_args(kind)
    is_list = isinstance(value, list | tuple)
    if kind in (NoneType, None):
        return None if value is None else MISSING
    if origin is Literal:
        return next((one for one in arguments if type(one) is type(value) and one == value), MISSING)
    if kind is slice:
        ends = is_list and len(value) == 2 and all(e is None or type(e) is int for e in value)
        return slice(*value) if ends else MISSING
    if origin is tuple and Ellipsis not in arguments:
        if not is_list or len(value) != len(arguments):
            return MISSING
        return tuple(from_plain(one, entry, where) for one, entry in zip(arguments, value, strict=True))
    if origin is not None and issubclass(origin, Sequence):
        return tuple(from_plain(arguments[0], entry, where) for entry in value) if is_list else MISSING
    if kind is float:
        return float(value) if type(value) in (int, float) else MISSING
    return value if type(value) is kind else MISSING


def _in_words(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(one) for one in arguments)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if kind is slice:
        return "the first slice and the one after the last, such as [0, 15]"
    if origin is tuple and Ellipsis not in arguments:
        return f"{len(arguments)} of them, each {_in_words(arguments[0])}"
    if origin is not None:
        return f"a list, each {_in_words(arguments[0])}"
    return _WORDS.get(kind, str(kind))
