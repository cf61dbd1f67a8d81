"""Running: a pipeline from its file, step by step; what is done already is not done again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_em_seg import io
from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.io._atomic import atomic
from napari_em_seg.pipeline.adjustable import parts_of
from napari_em_seg.pipeline.agglomeration import segment_affinities_to_file
from napari_em_seg.pipeline.blocks import Blocks
from napari_em_seg.pipeline.config import (
    Assign,
    Config,
    Evaluate,
    Predict,
    Review,
    Segment,
    Step,
    check_order,
    steps_as_text,
)
from napari_em_seg.pipeline.evaluation import evaluate_labels, judge_labels
from napari_em_seg.pipeline.evidence import open_maps
from napari_em_seg.pipeline.exports import Export, check_export, export_session, export_volume
from napari_em_seg.pipeline.prediction import Models, predict_to_file
from napari_em_seg.pipeline.reconstruction import assign_to_session, open_session, session_labels
from napari_em_seg.pipeline.retraining import retrain_session
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.review import Operation, Session, replay
from napari_em_seg.review.operations import MOVED, RETRAIN, from_json
from napari_em_seg.volume import Progress, Volume, VoxelSize

__all__ = ["Done", "run_config"]

_JOURNAL = "done.json"


@dataclass(frozen=True)
class Done:
    """A step of a run: its name, where its result is, and whether that was there already."""

    name: str
    place: str
    was_there: bool


def run_config(
    config: Config,
    *,
    scheduler: str | None = None,
    overwrite: bool = False,
    on_step: Callable[[str], object] = lambda _: None,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Done]:
    """Do all steps of a pipeline.

    A step is left out if its result is there, and it and all before it have the same parameters as when that
    was made; ``done.json`` in the folder of results says so. A result that is there otherwise is an error,
    before anything is done, unless it may be overwritten: then everything is done again.

    Parameters
    ----------
    config
        From `config.read_config`.
    scheduler
        Address of a dask.distributed scheduler, whose workers find the supervoxels of blocks.
    overwrite
        Whether results may be replaced.
    on_step
        Told the name of each step when it begins.
    progress, cancelled
        As everywhere; who cancels gets `Cancelled`, and steps that were complete stay.
    """
    check_order(config)
    run = _Run(config, scheduler, overwrite, progress, cancelled)
    run.check()
    found = []
    for step, place, mark in run.planned:
        name = type(step).__name__.lower()
        is_there = run.is_done(step, place, mark)
        if not is_there:
            if cancelled():
                raise Cancelled("The run was cancelled")
            on_step(name)
            run.do(step, place)
            run.note(place, mark)
        run.take(step, place)
        found.append(Done(name, place, is_there))
    return found


class _Run:
    """Where each result goes, what is there, and how each step is done."""

    def __init__(
        self, config: Config, scheduler: str | None, overwrite: bool, progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._config, self._scheduler, self._overwrite = config, scheduler, overwrite
        self._options: dict[str, Any] = {"progress": progress, "cancelled": cancelled}
        self._image = config.place(config.input.image)
        self._maps = None if config.input.maps is None else config.place(config.input.maps)
        self._labels: str | None = None
        self._session: str | None = None
        self._folder = Path(config.result(""))
        self.planned = list(self._plan())

    def _plan(self) -> Any:
        """Give each step, with files in full, its place, and a mark of all that its result depends on."""
        config, text = self._config, json.dumps(self._voxel_size())
        for k, step in enumerate(config.steps):
            text += _marked(steps_as_text(replace(config, steps=(step,))))
            full = self._in_full(step)
            yield full, self._place(full, k), hashlib.sha256(text.encode()).hexdigest()[:24]

    def _voxel_size(self) -> VoxelSize | None:
        return self._config.input.voxel_size_nm

    def _in_full(self, step: Step) -> Step:
        place = self._config.place
        if isinstance(step, Predict):
            return replace(step, models=[*map(self._model, step.models)],
                           local_models=[*map(self._model, step.local_models)])  # fmt: skip
        if isinstance(step, Assign):
            return replace(step, model=self._model(step.model))
        if isinstance(step, Review):
            return replace(step, history=place(step.history))
        if isinstance(step, Evaluate):
            return step if step.truth is None else replace(step, truth=place(step.truth))
        if isinstance(step, Export):
            places: dict[str, Any] = {name: self._config.result(to) for name, to in step.targets.items()}
            return replace(step, **places)
        return step

    def _model(self, name: str) -> str:
        """Return the path of a model that lies beside the file, or else its name."""
        path = self._config.place(name)
        return path if Path(path).is_file() else name

    def _place(self, step: Step, k: int) -> str:
        """Return where the result of a step goes; of exports, a mark that they are done."""
        if isinstance(step, Predict):
            name = step.out or ("affinities.zarr" if self._task(step) == "affinity" else "boundary.zarr")
            return self._config.result(name)
        if isinstance(step, Export | Review):
            return f"{type(step).__name__.lower()} {k}"
        return self._config.result(step.out)

    def _task(self, step: Predict) -> str:
        return Models(self._opened(), step).task

    def _opened(self) -> Volume:
        volume, size = io.open_volume(self._image, "image"), self._voxel_size()
        return volume if size is None else volume.with_voxel_size(size)

    # What is there

    def _journal(self) -> dict[str, str]:
        path = self._folder / _JOURNAL
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_done(self, step: Step, place: str, mark: str) -> bool:
        """Whether a result is there, made in the same way."""
        made = [] if isinstance(step, Review) else _places(step, place)
        return (
            not self._overwrite
            and self._journal().get(place) == mark
            and all(Path(one).exists() for one in made)
        )

    def note(self, place: str, mark: str) -> None:
        """Say that a step is done."""
        entries = {**self._journal(), place: mark}
        with atomic(self._folder / _JOURNAL, overwrite=True) as partial:
            partial.write_text(json.dumps(entries, indent=1), "utf-8")

    def check(self) -> None:
        """Refuse what is missing or in the way, before anything is done."""
        self._opened()
        if self._maps is not None:
            open_maps(self._maps)
        self._folder.mkdir(parents=True, exist_ok=True)
        has_session, taken = False, set[str]()
        for step, place, mark in self.planned:
            for one in _places(step, place):
                if one in taken:
                    raise DataError(
                        f"Two steps write to {one}", "a place for each", "Change out: of one of them"
                    )
                taken.add(one)
                if self._folder in Path(one).parents:
                    Path(one).parent.mkdir(parents=True, exist_ok=True)
            has_session = isinstance(step, Assign) or (has_session and not isinstance(step, Segment))
            if isinstance(step, Evaluate) and step.truth is not None:
                open_labels(step.truth)
            if isinstance(step, Review):
                _operations(step.history)
            if self.is_done(step, place, mark) or self._overwrite:
                continue
            if isinstance(step, Export):
                check_export(step, has_session=has_session)
            elif Path(place).is_absolute() and Path(place).exists():
                raise DataError(f"{place} is there, and was made in another way, or by another run",
                                "no result yet, or that of the same steps",
                                "Give another folder, or do all steps again with --overwrite")  # fmt: skip

    # What is done

    def take(self, step: Step, place: str) -> None:
        """Go on with a result."""
        if isinstance(step, Predict):
            self._maps = place
        elif isinstance(step, Segment):
            self._labels, self._session = place, None
        elif isinstance(step, Assign):
            self._labels, self._session = None, place

    def do(self, step: Step, place: str) -> None:
        """Do one step."""
        if isinstance(step, Predict):
            predict_to_file(self._image, place, step, voxel_size_nm=self._voxel_size(),
                            overwrite=self._overwrite, progress=self._watched)  # fmt: skip
        elif isinstance(step, Segment):
            self._segment(step, place)
        elif isinstance(step, Assign):
            assign_to_session(
                self._image, self._maps or "", place, step, solver=step.solver, gap=step.gap,
                time_limit=step.time_limit, voxel_size_nm=self._voxel_size(), overwrite=self._overwrite,
                **self._options,
            )  # fmt: skip
        elif isinstance(step, Review):
            with open_session(self._session or "") as session:
                _repeat(_operations(step.history), session)
        elif isinstance(step, Evaluate):
            self._evaluate(step, Path(place))
        else:
            self._export(step)

    def _watched(self, done: int, n: int) -> None:
        """Report progress of what cannot be cancelled in another way."""
        if self._options["cancelled"]():
            raise Cancelled("The run was cancelled")
        if self._options["progress"] is not None:
            self._options["progress"](done, n)

    def _segment(self, step: Segment, out: str) -> None:
        if step.blocks is not None:
            self._segment_in_blocks(step, out)
            return
        io.check_volume_target(out, kind="labels", overwrite=self._overwrite)
        maps, size = open_maps(self._maps or "")
        size = self._voxel_size() or size
        made = parts_of(maps, step, voxel_size_nm=size, **self._options)
        volume = Volume(made.at(step.cut), size, "segments", kind="labels")
        io.write_volume(volume, out, overwrite=self._overwrite)

    def _segment_in_blocks(self, step: Segment, out: str) -> None:
        if step.method != "zwatershed" or step.score == "none" or step.smallest or step.blocks is None:
            raise DataError(
                f"Blocks are given for {step.method} by {step.score}, and smallest is {step.smallest}",
                "zwatershed by mean, quantile or learned, and smallest: 0",
                "Leave blocks out, or change this",
            )  # fmt: skip
        segment_affinities_to_file(
            self._maps or "", out, score=step.score, quantile=step.quantile, threshold=step.level,
            fragments=step.fragments, blocks=Blocks(step.blocks, step.overlap, scheduler=self._scheduler),
            overwrite=self._overwrite, **self._options,
        )  # fmt: skip

    def _evaluate(self, step: Evaluate, out: Path) -> None:
        found: Mapping[str, Any]
        labels = self._latest()
        if step.truth is None:
            shapes = judge_labels(
                labels, labels.voxel_size_nm, orphan_voxels=step.orphan_voxels, **self._options
            )
            found = shapes.figures().to_dict()
        else:
            made = evaluate_labels(
                labels, open_labels(step.truth), **self._options,
                background="label" if step.zero_is_segment else "singletons",
            )  # fmt: skip
            found = made.scores.to_dict()
        plain = {name: None if value != value else value for name, value in found.items()}
        with atomic(out, overwrite=self._overwrite) as partial:
            partial.write_text(json.dumps(plain, indent=1), "utf-8")

    def _latest(self) -> Volume:
        if self._session is None:
            return io.open_volume(self._labels or "", "labels")
        with Session(self._session, mode="read") as session:
            return session_labels(session, cancelled=self._options["cancelled"])

    def _export(self, step: Export) -> None:
        options = {"about": steps_as_text(self._config), "overwrite": self._overwrite, **self._options}
        if self._session is not None:
            with Session(self._session, mode="read") as session:
                export_session(session, step, **options)
            return
        labels = io.open_volume(self._labels or "", "labels")
        export_volume(labels, step, image=self._opened(), **options)


def _places(step: Step, place: str) -> list[str]:
    """Return what a step writes."""
    return [*step.targets.values()] if isinstance(step, Export) else [place]


def _marked(text: str) -> str:
    """Leave the line out that says which release wrote it, and where results go."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(("napari-em-seg:", "folder:")))


def _operations(path: str) -> list[Operation]:
    """Read a history of JSON lines."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
        return [Operation(**from_json(line)) for line in lines if line.strip()]
    except (OSError, TypeError) as error:
        raise DataError(f"The history {path} cannot be read: {error}", "what export --history OUT.jsonl writes",
                        "Export it again") from error  # fmt: skip


def _repeat(operations: list[Operation], session: Session) -> None:
    """Do again what people did; costs are learned again where they were learned then."""
    for operation in operations:
        if operation.kind == RETRAIN:
            retrain_session(session, user=operation.user, time=operation.time)
        elif operation.kind != MOVED:  # the image is where this file says
            replay([operation], session)
