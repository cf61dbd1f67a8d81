"""Weight files: safetensors that carry their own card, how they are written, found and read. Never pickles."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from platformdirs import user_data_path
from safetensors import SafetensorError, safe_open

from napari_em_seg.errors import DataError, EmSegError, FormatError, SourceNotFoundError, SourcePermissionError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.predict.labels import Kernel
from napari_em_seg.predict.registry import architecture, build

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_em_seg.predict.nets import AnyNet

__all__ = [
    "SUFFIX",
    "Card", "ModelFile", "bundled_folder", "find_models", "load_weights", "read_card", "resolve",
    "save_weights", "user_folder",
]  # fmt: skip

SUFFIX = ".safetensors"
_VERSION = "1"
_ARCHIVE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save since 1.6, and pickles
_GET_AGAIN = "Get the file again, or the version of napari-em-seg that wrote it"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """What there is to know of trained weights; all of it plain JSON.

    Attributes
    ----------
    name
        By which they are chosen.
    architecture, arguments
        A name in the registry, and what was given to ``build`` beside it.
    n_slices
        Slices taken in; None for a network that takes blocks.
    kernel
        The boundary labels learned; None for other tasks.
    voxel_size_nm
        Of the training data, (z, y, x).
    tissue
        Such as "mouse neocortex, serial-section SEM".
    data
        Sources of the training data, one line each.
    licence
        Of the training data.
    measures
        Scores, each under a name that says on what.
    command, seed
        What made the file, so that it can be made again.
    normalisation
        What is brought to zero mean and unit variance before: each "slice", or the whole "volume".
    task
        What the output means.
    """

    name: str
    architecture: str
    n_slices: int | None
    kernel: Kernel | None
    voxel_size_nm: tuple[float, float, float]
    tissue: str
    data: tuple[str, ...]
    licence: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    seed: int | None = None
    normalisation: Literal["slice", "volume"] = "slice"
    task: str = "boundary"

    def __post_init__(self) -> None:
        problem = _card_problem(self)
        if problem:
            raise DataError(f"The model card has {problem}", "a complete card of plain JSON values",
                            "Correct it")  # fmt: skip

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read a card; fields that it does not know, from a later version, are left out."""
        try:
            values = dict(json.loads(text))
            known = {entry.name: values[entry.name] for entry in fields(cls) if entry.name in values}
            for name in ("voxel_size_nm", "data"):
                known[name] = tuple(known[name])
            return cls(**known)
        except (TypeError, ValueError, KeyError) as error:
            raise FormatError(f"The model card cannot be read ({error})", "a card as save_weights writes it",
                              "Get the file again from where it came") from error  # fmt: skip


@dataclass(frozen=True)
class ModelFile:
    """A weight file that was found."""

    path: Path
    origin: Literal["bundled", "user", "path"]
    card: Card

    @property
    def name(self) -> str:
        """By which it is chosen."""
        return self.card.name


def save_weights(path: Path, net: "nn.Module", card: Card, *, overwrite: bool = False) -> None:
    """Write weights and card as one file, whole or not at all.

    The card is in the safetensors metadata and nowhere else, so that a file that is copied is complete. A
    checksum over card and weights is beside it.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    problem = _misfit(tensors, _empty_net(card)) or _not_finite(tensors)
    if problem:
        raise DataError(f"The network {problem}", f"a {card.architecture} as its card says, all numbers finite",
                        "Give the card the architecture and the arguments that built it")  # fmt: skip
    text = card.to_json()
    metadata = {"format": "pt", "napari-em-seg": _VERSION, "card": text, "sha256": _digest(text, tensors)}
    with atomic(Path(path), overwrite=overwrite) as partial:
        partial.write_bytes(save(tensors, metadata))  # save_file makes files that nobody else may read


def load_weights(path: Path) -> "tuple[AnyNet, Card]":
    """Build the network that the card names and give it the weights, ready to predict (in eval mode).

    Nothing in the file is executed: it holds numbers and text, both checked before use.
    """
    from safetensors.torch import load_file

    path = Path(path)
    metadata = _metadata(path)
    card = _card_of(path, metadata)
    with _clear_read_errors(path):
        tensors = {name: value.clone() for name, value in load_file(path).items()}
    if _digest(metadata["card"], tensors) != metadata.get("sha256"):
        raise FormatError(f"{path} is damaged: its contents do not fit its checksum",
                          "the file as it was written", "Get it again from where it came")  # fmt: skip
    try:
        net = _empty_net(card)
    except DataError as error:
        raise FormatError(f"The card of {path} fits no network: {error.came}", error.expected,
                          _GET_AGAIN) from error  # fmt: skip
    problem = _misfit(tensors, net)
    if problem:
        raise FormatError(f"{path} {problem}", f"the weights of {card.architecture}, as its card says",
                          _GET_AGAIN)  # fmt: skip
    net.load_state_dict(tensors, assign=True)
    return net.eval(), card


def read_card(path: Path) -> Card:
    """Read only the card of a weight file; needs no torch and no memory for weights."""
    return _card_of(Path(path), _metadata(Path(path)))


def find_models() -> list[ModelFile]:
    """List the weights that are there: first the user's, then the bundled ones.

    Where two have one name the first counts. A file that cannot be read is left out and logged as a warning.
    """
    found: dict[str, ModelFile] = {}
    folders = (("user", user_folder()), *(("bundled", folder) for folder in _bundled_folders()))
    for origin, folder in folders:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                model = ModelFile(path, origin, read_card(path))  # type: ignore[arg-type]
                architecture(model.card.architecture)  # a later version may have others
            except EmSegError as error:
                _log.warning("The model %s was left out. %s", path.name, error)
                continue
            found.setdefault(model.name, model)
    return list(found.values())


def resolve(name_or_path: str | Path) -> ModelFile:
    """Return the weights of that name, or in that file."""
    text = str(name_or_path)
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix == SUFFIX or len(path.parts) > 1 or path.is_file():
        return ModelFile(path, "path", read_card(path))
    models = {model.name: model for model in find_models()}
    if text not in models:
        close = get_close_matches(text, models, n=1)
        raise SourceNotFoundError(
            f"There is no model named {text!r}",
            f"one of {', '.join(models) or '(none are installed)'}, or a {SUFFIX} file",
            f"Did you mean {close[0]}" if close else f"Put its file into {user_folder()}, or give its path",
        )
    return models[text]


def user_folder() -> Path:
    """Return the folder for one's own weights: EM_SEG_MODELS, else in the user's data folder."""
    chosen = os.environ.get("EM_SEG_MODELS")
    return Path(chosen) if chosen else user_data_path("napari-em-seg", appauthor=False) / "models"


def bundled_folder() -> Path:
    """Return the folder of the networks for maps that come with the package."""
    return Path(str(files("napari_em_seg.predict") / "bundled"))


def _bundled_folders() -> tuple[Path, ...]:
    """Return those of all weights that come with the package: propagators lie beside what walks with them."""
    predict = bundled_folder()
    return predict, predict.parents[1] / "propagate" / "bundled"


def _metadata(path: Path) -> dict[str, str]:
    """Return what the header says; this also finds files that are cut short."""
    with _clear_read_errors(path):
        with path.open("rb") as stream:
            start = stream.read(9)
        if start.startswith(_ARCHIVE_STARTS) and start[8:] != b"{":  # a length may begin like a pickle
            raise FormatError(
                f"{path} is a pickle, as torch.save writes it",
                f"a {SUFFIX} file",
                "It is refused, since opening a pickle can run any program hidden in it; "
                "convert it where you trust it, with save_weights",
            )
        with safe_open(path, framework="np") as opened:
            return dict(opened.metadata() or {})


@contextmanager
def _clear_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EmSegError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"There is no file {path}", f"a {SUFFIX} file",
                                  "Check the path") from error  # fmt: skip
    except PermissionError as error:
        raise SourcePermissionError(f"Reading {path} is not permitted", "a file that you may read",
                                    "Ask its owner") from error  # fmt: skip
    except (OSError, SafetensorError, ValueError) as error:
        raise FormatError(f"{path} is damaged, cut short, or no weight file ({error})",
                          f"a {SUFFIX} file, whole", "Get it again from where it came") from error  # fmt: skip


def _card_of(path: Path, metadata: Mapping[str, str]) -> Card:
    version = metadata.get("napari-em-seg")
    if version is None or "card" not in metadata:
        raise FormatError(f"{path} has no model card", "weights that napari-em-seg has written",
                          "Save them with save_weights and a card")  # fmt: skip
    if version != _VERSION:
        raise FormatError(f"{path} is of the file version {version}", f"version {_VERSION}",
                          "Update napari-em-seg")  # fmt: skip
    try:
        return Card.from_json(metadata["card"])
    except FormatError as error:
        raise FormatError(f"{path}: {error.came}", error.expected, error.do) from error


def _empty_net(card: Card) -> "AnyNet":
    """Build what the card names without memory for its weights, and check that it takes as many slices."""
    import torch

    with torch.device("meta"):
        net = build(card.architecture, **card.arguments)
    if net.n_slices != card.n_slices:
        raise DataError(f"The card says {card.n_slices} slices, but its network takes {net.n_slices}",
                        "the same number", "Correct the card")  # fmt: skip
    return net


def _misfit(tensors: "Mapping[str, Tensor]", net: "nn.Module") -> str:
    """Say how the weights differ from those of the network; nothing where they fit."""
    expected = net.state_dict()
    if missing := sorted(expected.keys() - tensors.keys()):
        return f"lacks {len(missing)} weights ({missing[0]} for one)"
    if extra := sorted(tensors.keys() - expected.keys()):
        return f"has {len(extra)} weights too many ({extra[0]} for one)"
    for name, tensor in tensors.items():
        ours, theirs = expected[name], tensor
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return (f"has {tuple(theirs.shape)} {theirs.dtype} for {name}, "
                    f"not {tuple(ours.shape)} {ours.dtype}")  # fmt: skip
    return ""


def _not_finite(tensors: "Mapping[str, Tensor]") -> str:
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    return f"has weights that are infinite or not a number ({bad[0]} for one)" if bad else ""


def _digest(card: str, tensors: "Mapping[str, Tensor]") -> str:
    """Return a checksum over the card and all weights with their names."""
    import torch

    digest = sha256(card.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _card_problem(card: Card) -> str:
    """Say what is wrong with a card; nothing where it is right."""
    for name, is_right in _CHECKS.items():
        value = getattr(card, name)
        if not is_right(value):
            return f"{value!r} as its {name}"
    try:
        card.to_json()
    except (TypeError, ValueError) as error:
        return f"values that are not JSON ({error})"
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_size(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 3:
        return False
    return all(isinstance(length, int | float) and length > 0 for length in value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "name": _is_filled,
    "architecture": _is_text,
    "n_slices": lambda value: value is None or isinstance(value, int),
    "kernel": lambda value: value is None or value in get_args(Kernel),
    "voxel_size_nm": _is_size,
    "tissue": _is_text,
    "data": lambda value: isinstance(value, tuple) and all(map(_is_text, value)),
    "licence": _is_filled,
    "arguments": _is_table,
    "measures": _is_table,
    "command": _is_text,
    "seed": lambda value: value is None or isinstance(value, int),
    "normalisation": lambda value: value in ("slice", "volume"),
    "task": _is_text,
}
