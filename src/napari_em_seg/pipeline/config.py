"""Config: the whole pipeline as a YAML file: what goes in, and the steps with all their parameters.

What a dock has done is a *step*: a dict ``{"step": NAME, "parameters": {…}}`` of plain numbers and texts. A
layer keeps the steps that it is the result of, from the image on, as a list in its metadata under `STEPS`;
`step_of` makes one out of a dataclass below, `config_of` puts steps together into a `Config`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from napari_em_seg import __version__
from napari_em_seg.errors import DataError, EmSegError, FormatError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.io._location import absolute, clear_read_errors
from napari_em_seg.pipeline._plain import from_plain, relative_to, to_plain
from napari_em_seg.pipeline.adjustable import Cut, PartsRecipe
from napari_em_seg.pipeline.assignment import AssignRecipe
from napari_em_seg.pipeline.exports import Export
from napari_em_seg.pipeline.prediction import Prediction
from napari_em_seg.review import Session, write_history
from napari_em_seg.volume import Volume, VoxelSize

__all__ = [
    "STEPS", "Assign", "Config", "Evaluate", "Input", "Predict", "Review", "Segment", "about_session",
    "check_order", "config_of", "config_of_session", "export_pipeline",
    "read_config", "step_of", "steps_as_text", "with_export", "write_config",
]  # fmt: skip

STEPS = "napari-em-seg steps"
"""Under what name a layer's metadata hold the steps that it is the result of."""

_VERSION = 1


@dataclass(frozen=True)
class Input:
    """What goes in.

    Attributes
    ----------
    image
        A path, as commands take it.
    maps
        A boundary map or affinities of it, if these are not predicted.
    voxel_size_nm
        Of both, where the files do not know it.
    """

    image: str
    maps: str | None = None
    voxel_size_nm: VoxelSize | None = None


@dataclass(frozen=True)
class Predict(Prediction):
    """A boundary map or affinities, written to ``out``; without that to boundary.zarr or affinities.zarr."""

    out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Segment(PartsRecipe):
    """Segments of the map, written to ``out``.

    Attributes
    ----------
    level, smallest, is_joining
        See `pipeline.adjustable.Cut`.
    blocks, overlap
        For affinities larger than memory: voxels of a block, and how many more on each side.
    """

    level: float
    smallest: int = 0
    is_joining: bool = True
    blocks: tuple[int, int, int] | None = None
    overlap: tuple[int, int, int] | None = None
    out: str = "segments.zarr"

    @property
    def cut(self) -> Cut:
        """Which segments the parts become."""
        return Cut(self.level, self.smallest, self.is_joining)


@dataclass(frozen=True)
class Assign(AssignRecipe):
    """Objects by the assignment program, kept as a session in ``out``."""

    solver: str = "highs"
    gap: float = 1e-3
    time_limit: float = 600.0
    out: str = "session.emseg"


@dataclass(frozen=True)
class Review:
    """What people have done in a session, done again: ``history`` is what export --history writes (JSONL)."""

    history: str


@dataclass(frozen=True)
class Evaluate:
    """Measures of the latest labels, written to ``out``; without a truth, how plausible they are."""

    truth: str | None = None
    zero_is_segment: bool = False
    orphan_voxels: int = 1000
    out: str = "measures.json"


Step = Predict | Segment | Assign | Review | Evaluate | Export

_KINDS: dict[str, type[Any]] = {
    "predict": Predict, "segment": Segment, "assign": Assign, "review": Review, "evaluate": Evaluate,
    "export": Export,
}  # fmt: skip
_MADE: dict[type[Any], type[Any]] = {Prediction: Predict, PartsRecipe: Segment, AssignRecipe: Assign}
_IN_PATHS = {"image", "maps", "truth", "history"}


@dataclass(frozen=True)
class Config:
    """A pipeline.

    Attributes
    ----------
    input
        What goes in; paths count from ``base``.
    steps
        In order.
    folder
        Where results go that have no other place.
    base
        The folder that the file lies in.
    """

    input: Input
    steps: tuple[Step, ...]
    folder: str = "results"
    base: Path = field(default_factory=Path.cwd)

    def place(self, path: str) -> str:
        """Return where a path leads that counts from the file."""
        return str(absolute(self.base / path))

    def result(self, name: str) -> str:
        """Return where a result goes."""
        return str(absolute(self.base / self.folder / name))


def step_of(made: Any, **more: Any) -> dict[str, Any]:
    """Return what was done as a step, to be kept in the metadata of a layer.

    Parameters
    ----------
    made
        A `Prediction`, a `PartsRecipe` (with ``cut=``, its `Cut`), an `AssignRecipe`, or a step itself.
    more
        Parameters that it does not have.
    """
    cut = more.pop("cut", None)
    values = {f.name: getattr(made, f.name) for f in fields(made)} | ({} if cut is None else vars(cut)) | more
    kind = _MADE.get(type(made), type(made))
    step = kind(**values)
    return {"step": _name(step), "parameters": _parameters(step)}


def config_of(
    image: Volume | Input,
    steps: Sequence[Mapping[str, Any]],
    base: Path | None = None,
    *,
    folder: str = "results",
) -> Config:
    """Put together what was done to an image.

    Parameters
    ----------
    image
        What goes in; a volume has to lie in a file.
    steps
        As `step_of` makes them; a first one called "input" can have ``maps``, the path of a map that was not
        predicted.
    base
        The folder that paths count from; the working folder, if nobody says.
    folder
        Where results go, from there.
    """
    if isinstance(image, Volume):
        if not image.source:
            raise DataError(f"The image {image.name} lies in no file", "one that a file can name",
                            "Save it first, and open the saved one")  # fmt: skip
        image = Input(str(absolute(image.source)), voxel_size_nm=image.voxel_size_nm)
    given = [entry for entry in steps if entry.get("step") == "input"]
    for entry in given:
        image = replace(image, **entry["parameters"])
    found = tuple(_step(str(entry.get("step")), entry.get("parameters"), "The step") for entry in steps
                  if entry.get("step") != "input")  # fmt: skip
    config = Config(image, found, folder, base or Path.cwd())
    check_order(config)
    return config


def config_of_session(session: Session, base: Path | None = None, *, history: str | None = None) -> Config:
    """Return what a session was made by.

    Parameters
    ----------
    session
        The session.
    base
        The folder that paths count from.
    history
        Where all that people did in it is written, so that it is done again.
    """
    card, image = session.reconstruction.model or {}, session.references.get("raw")
    steps, maps = card.get("steps"), card.get("maps")
    if image is None or "recipe" not in card or (steps is None and maps is None):
        raise DataError(
            f"The session {session.path.name} does not say how it was made: it is older, or its maps came "
            "from elsewhere", "one made from files, or from layers of the dock Predict",
            "Make it again, or write the file by hand: see docs/export.md",
        )  # fmt: skip
    name = card.get("file") or card["name"]
    recipe = {**card["recipe"], "source": card["source"], "model": "none" if name == "a plain rule" else name}
    steps = [*(steps or []), {"step": "assign", "parameters": recipe}]
    if history is not None:
        steps.append({"step": "review", "parameters": {"history": history}})
    return config_of(Input(image.path, maps, image.voxel_size_nm), steps, base)


def export_pipeline(
    session: Session, path: str | Path, overwrite: bool = False, *, export: Export | None = None
) -> list[str]:
    """Write what a session was made by, and what people did in it beside that; return both places.

    If something was exported, that is a step, too.
    """
    place = absolute(path)
    history = place.with_suffix(".history.jsonl") if session.operations else None
    config = config_of_session(session, place.parent, history=None if history is None else history.name)
    config = with_export(config, export)
    if history is not None:
        write_history(session.operations, history, overwrite=overwrite)
    try:
        write_config(config, place, overwrite=overwrite)
    except EmSegError:
        if history is not None and not overwrite:
            history.unlink(missing_ok=True)
        raise
    return [str(place), *([] if history is None else [str(history)])]


def with_export(config: Config, export: Export | None) -> Config:
    """Return a pipeline that ends with an export of the same names, into a folder among the results."""
    if export is None or not export.targets:
        return config
    names: dict[str, Any] = {name: f"export/{Path(place).name}" for name, place in export.targets.items()}
    return replace(config, steps=(*config.steps, replace(export, **names)))


def about_session(session: Session) -> str:
    """Return what a session was made by as YAML; nothing where it does not say."""
    try:
        return steps_as_text(config_of_session(session))
    except EmSegError:
        return ""


def check_order(config: Config) -> None:
    """Refuse steps of which one needs what none before it makes."""
    has_maps, has_labels, has_session = config.input.maps is not None, False, False
    for step in config.steps:
        name = _name(step)
        if isinstance(step, Predict):
            has_maps = True
        elif isinstance(step, Segment | Assign):
            _need(has_maps, name, "a step predict before it, or input: maps:")
            has_labels, has_session = True, isinstance(step, Assign)
        elif isinstance(step, Review):
            _need(has_session, name, "a step assign before it")
        else:
            _need(has_labels, name, "a step segment or assign before it")


def _need(is_there: bool, name: str, what: str) -> None:
    if not is_there:
        raise DataError(f"The step {name} has nothing to work on", what, "Put that in, or leave this out")


def read_config(path: str | Path) -> Config:
    """Read a file; whatever does not belong there is an error that names it."""
    place = absolute(path)
    with clear_read_errors(str(place)):
        text = place.read_text("utf-8")
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FormatError(f"{place} is no YAML: {' '.join(str(error).split())}", "YAML with input: and steps:",
                          "Mend this place") from error  # fmt: skip
    if not isinstance(entries, dict):
        raise FormatError(f"{place} holds {type(entries).__name__}", "input: and steps:", "See docs/export.md")
    _refuse_unknown(entries, ("napari-em-seg", "version", "input", "folder", "steps"), str(place))
    version = entries.get("version", _VERSION)
    if version != _VERSION:
        raise FormatError(
            f"{place} is of the version {version!r}", f"version {_VERSION}", "Update napari-em-seg"
        )
    steps = entries.get("steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(s, dict) and len(s) == 1 for s in steps):
        raise DataError(f"The steps of {place} are {steps!r}",
                        f"a list, in each entry one of {', '.join(_KINDS)}: '- predict: {{views: 4}}'",
                        "See docs/export.md")  # fmt: skip
    named = [pair for step in steps for pair in step.items()]
    found = tuple(_step(str(name), values, f"{place}, step {k} ({name})")
                  for k, (name, values) in enumerate(named, 1))  # fmt: skip
    source = from_plain(Input, entries.get("input"), f"{place}, input")
    folder = from_plain(str, entries.get("folder", "results"), f"{place}, folder")
    config = Config(source, found, folder, place.parent)
    check_order(config)
    return config


def write_config(config: Config, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a file, with paths that count from it."""
    place = absolute(path)
    if place.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"The file is to be {place.name}", "a name that ends in .yaml", "Add that to the name")
    with atomic(place, overwrite=overwrite) as partial:
        partial.write_text(steps_as_text(config, place.parent), "utf-8")


def steps_as_text(config: Config, base: Path | None = None) -> str:
    """Return a pipeline as YAML; its paths count from ``base``, without that from where they did."""
    source = to_plain(replace(config.input, **_moved(config, config.input, base)))
    steps = [{_name(step): _parameters(replace(step, **_moved(config, step, base)))} for step in config.steps]
    entries = {
        "napari-em-seg": __version__, "version": _VERSION,
        "input": {name: value for name, value in source.items() if value is not None},
        "folder": config.folder, "steps": steps,
    }  # fmt: skip
    return str(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))


def _moved(config: Config, part: Any, base: Path | None) -> dict[str, Any]:
    """Return the paths of files that go in, as seen from another folder."""
    if base is None:
        return {}
    named = {f.name: getattr(part, f.name) for f in fields(part) if f.name in _IN_PATHS}
    return {name: relative_to(config.place(path), base) for name, path in named.items() if path is not None}


def _name(step: Step) -> str:
    return next(name for name, kind in _KINDS.items() if type(step) is kind)


def _parameters(step: Any) -> dict[str, Any]:
    """Return what a step is given; what stands for nothing is left out."""
    values: dict[str, Any] = to_plain(step)
    return {name: value for name, value in values.items() if value not in (None, [], [None, None])}


def _step(name: str, values: object, where: str) -> Step:
    if name not in _KINDS:
        raise DataError(f"{where} is {name!r}", f"one of {', '.join(_KINDS)}", "Choose one of these")
    found: Step = from_plain(_KINDS[name], {} if values is None else values, where)
    return found


def _refuse_unknown(entries: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    odd = [str(name) for name in entries if name not in known]
    if odd:
        raise DataError(f"{where} has the unknown {', '.join(odd)}", f"some of {', '.join(known)}",
                        "Look for typing errors")  # fmt: skip
