"""Reconstruction: solved, scored, kept as a session; and solved anew under what a reviewer has said."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.assign.assignments import APPEARANCE, Assignments
from napari_em_seg.assign.costs import Prices
from napari_em_seg.assign.features import FEATURES
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.local import Resolver
from napari_em_seg.assign.regret import regrets
from napari_em_seg.assign.result import label_volume, objects
from napari_em_seg.assign.result_files import to_graph, write_graphml, write_json
from napari_em_seg.assign.solver import refuse_options, solve
from napari_em_seg.errors import Cancelled, DataError, EmSegError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io._location import absolute
from napari_em_seg.pipeline._plain import to_plain
from napari_em_seg.pipeline.assignment import (
    USUAL,
    AssignRecipe,
    Steps,
    load_model,
    probabilities,
    program,
    propose,
)
from napari_em_seg.pipeline.evidence import PredictedMaps, open_maps
from napari_em_seg.pipeline.following import following, follows
from napari_em_seg.pipeline.joins import joins_of
from napari_em_seg.pipeline.prediction import Prediction, predict_affinities, resolved
from napari_em_seg.pipeline.resolver import LinkResolver, Scorer, with_added
from napari_em_seg.review import Merges, Outcome, Reconstruction, Session, View, create_session
from napari_em_seg.review.references import checksum
from napari_em_seg.volume import ArrayLike, Progress, Volume, VoxelSize

__all__ = [
    "AFFINITIES", "Assigned", "assign_to_session", "export_graph", "export_labels", "in_a_file",
    "open_session", "reconstruct", "reconstruct_to_session", "refuse_target", "session_labels",
]  # fmt: skip

AFFINITIES = Prediction(("affinity",))
"""What is predicted where nobody says: affinities, by the model that suits the voxel size."""


@dataclass(frozen=True)
class Assigned:
    """What a session was made of."""

    n_hypotheses: int
    n_assignments: int
    n_links: int
    n_objects: int
    gap: float
    model: str


def assign_to_session(
    raw: str,
    maps: str,
    out: str,
    recipe: AssignRecipe,
    *,
    solver: str = "highs",
    gap: float = 1e-3,
    time_limit: float = 600.0,
    device: str = "auto",
    voxel_size_nm: VoxelSize | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Assigned:
    """Make a session from an image and what was predicted of it; who cancels gets `Cancelled`, and none."""
    refuse_target(out, overwrite=overwrite)
    refuse_options(solver, gap, time_limit)
    image = io.open_volume(raw, "image")
    image = image if voxel_size_nm is None else image.with_voxel_size(voxel_size_nm)
    predicted, size = open_maps(maps)
    if image.voxel_size_nm is None and size is not None:
        image = image.with_voxel_size(size)
    if image.voxel_size_nm is None:
        raise DataError(f"The voxel size of {image.label} is not known", "one in nm, for lengths and meshes",
                        "Give --voxel-size Z Y X")  # fmt: skip
    made = reconstruct(
        image, predicted, recipe, voxel_size_nm=image.voxel_size_nm, solver=solver, gap=gap,
        time_limit=time_limit, device=device, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    merges = joins_of(made, predicted, image.voxel_size_nm, cancelled)
    made = _told(made, maps=str(absolute(maps)), steps=[])
    return _keep(made, merges, image, out, overwrite)


def reconstruct_to_session(
    image: Volume,
    out: str,
    *,
    maps: PredictedMaps | None = None,
    wanted: Prediction = AFFINITIES,
    recipe: AssignRecipe = USUAL,
    steps: Sequence[Mapping[str, Any]] | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Assigned:
    """Make a session from an image, all in one: predict affinities unless there are maps, solve, score, keep.

    An image that lies in no file is written beside the session, as a session refers to a file. ``steps`` say
    how the maps were made (`pipeline.config`), and are kept. Who cancels gets `Cancelled`, and no session.
    """
    refuse_target(out, overwrite=overwrite)
    n_predict = 0 if maps is not None else 3
    total = 100 * (n_predict + 1)
    if maps is None:
        part = _part(progress, 0, 100 * n_predict, total)
        found = predict_affinities(image, wanted, progress=part, cancelled=cancelled)
        if cancelled():
            raise Cancelled("The prediction was cancelled")
        maps = PredictedMaps(found[:3])
        steps = [{"step": "predict", "parameters": to_plain(resolved(image, wanted))}]
    made = reconstruct(
        image, maps, recipe, voxel_size_nm=image.voxel_size_nm, device=wanted.device,
        progress=_part(progress, 100 * n_predict, 100, total), cancelled=cancelled,
    )  # fmt: skip
    merges = joins_of(made, maps, image.voxel_size_nm, cancelled)
    made = _told(made, steps=None if steps is None else [dict(step) for step in steps])
    return _keep(made, merges, in_a_file(image, Path(out)), out, overwrite)


def _told(made: Reconstruction, **more: Any) -> Reconstruction:
    """Return the same, and what came before it in its card."""
    return replace(made, model={**(made.model or {}), **more})


def in_a_file(image: Volume, session: Path) -> Volume:
    """Return the image as it lies in a file; one that is in none, or differs, is written beside the session.

    What lies there under that name is left alone: another session may refer to it, or it is somebody's data.
    """
    if image.source and _lies_in(image.source, image):
        return image
    for number in count(1):
        name = f"{session.stem}-image.zarr" if number == 1 else f"{session.stem}-image-{number}.zarr"
        place = session.with_name(name)
        if not place.exists():
            io.write_volume(image, str(place / "raw"))
            break
        if _lies_in(str(place / "raw"), image):
            break
    return io.open_volume(str(place / "raw"), "image")


def _lies_in(source: str, image: Volume) -> bool:
    try:
        lying = io.open_volume(source, "image")
    except EmSegError:
        return False
    return lying.shape == image.shape and lying.dtype == image.dtype and checksum(lying) == checksum(image)


def refuse_target(out: str, *, overwrite: bool = False) -> None:
    """Raise what making a session would raise for its place, before any work."""
    if not out.endswith(".emseg"):
        raise DataError(f"The session is to be {out}", "a name that ends in .emseg", "Choose such a name")
    if Path(out).exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new session", "Choose another name, or say --overwrite")
    folder = absolute(out).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SourceNotFoundError(f"Nothing can be written into the folder {folder}",
                                  "an existing folder, to put the session into",
                                  "Create it first, or choose another")  # fmt: skip


def _keep(made: Reconstruction, merges: Merges | None, image: Volume, out: str, overwrite: bool) -> Assigned:
    create_session(out, made, {"raw": image}, merges=merges, overwrite=overwrite)
    h, a, chosen = made.hypotheses(), made.assignments, made.outcome.chosen
    n_objects = np.count_nonzero(np.unique(objects(h, a, chosen)))
    return Assigned(
        len(h), len(a), int((chosen & (a.kind < APPEARANCE)).sum()), int(n_objects),
        made.outcome.gap, str((made.model or {}).get("name")),
    )  # fmt: skip


def reconstruct(
    raw: ArrayLike,
    maps: PredictedMaps,
    recipe: AssignRecipe,
    *,
    voxel_size_nm: VoxelSize | None = None,
    solver: str = "highs",
    gap: float = 1e-3,
    time_limit: float = 600.0,
    device: str = "auto",
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Reconstruction:
    """Propose, price, solve and score; where the model has learned from it, sections are followed first."""
    refuse_options(solver, gap, time_limit)
    steps = Steps(None if progress is None else lambda done, _: progress(400 + 100 * done, 600), cancelled, 2)
    model = load_model(recipe, maps, voxel_size_nm)
    proposals = propose(
        raw, maps, recipe, voxel_size_nm=voxel_size_nm, progress=_part(progress, 0, 400, 600),
        followed=following(raw, voxel_size_nm, device, cancelled) if follows(model) else None,
        cancelled=cancelled,
    )  # fmt: skip
    prices = Prices() if model is None else model.prices
    problem = program(proposals, probabilities(proposals, model), prices)
    resolver = Resolver(problem, gap=gap, time_limit=time_limit, cancelled=cancelled)
    if solver != "highs":
        steps.go_on()
        resolver.adopt(solve(problem, solver=solver, gap=gap, time_limit=time_limit))
    steps.next()
    solution = resolver.solution
    h, a = proposals.hypotheses, proposals.assignments
    n = len(a)
    card = {
        "name": "a plain rule" if model is None else model.card.get("name", recipe.model),
        "file": None if recipe.model in ("auto", "none") else str(Path(recipe.model).absolute()),
        "source": recipe.source_for(maps), "prices": vars(prices),
        "recipe": {**to_plain(recipe), "solver": solver, "gap": gap, "time_limit": time_limit},
    }  # fmt: skip
    rows = np.flatnonzero(solution.chosen[:n])
    found = regrets(resolver, rows)
    scorer = Scorer(h, a, proposals.features, problem.costs[:n], prices, model)
    scores = scorer.scores(solution.chosen[:n], found.value, found.alternative)
    outcome = Outcome(solution.chosen[:n], solution.objective, solution.gap, scores)
    steps.next()
    return Reconstruction(
        h.nodes, h.z, h.parent, h.last, h.birth, h.death, a.kind, a.sources, a.targets, proposals.features,
        problem.costs[:n], problem.costs[n:], outcome, FEATURES, 0, card,
    )  # fmt: skip


def open_session(path: str, *, user: str | None = None, mode: Literal["edit", "read"] = "edit") -> Session:
    """Open a session so that verdicts are solved for."""
    return Session(path, LinkResolver, user=user, mode=mode)


def export_labels(
    session: Session,
    out: str,
    *,
    fill: float = 30.0,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write the objects of a session as labels."""
    io.check_volume_target(out, kind="labels", overwrite=overwrite)
    io.write_volume(session_labels(session, fill=fill, progress=progress), out, overwrite=overwrite)


def session_labels(
    session: Session,
    *,
    fill: float = 30.0,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Volume:
    """Return the objects of a session as labels in memory, grown by ``fill`` pixels into what is between."""
    view = session.view  # people may go on meanwhile
    labels = label_volume(_as_it_is(view)[0], view.objects, fill=fill, progress=progress, cancelled=cancelled)
    if cancelled():
        raise Cancelled("The export was cancelled")
    reference = session.references.get("raw")
    size = None if reference is None else reference.voxel_size_nm
    return Volume(labels, size, "objects", kind="labels")


def export_graph(session: Session, out: Path, *, overwrite: bool = False) -> None:
    """Write the sections of a session and their links, with how sure they are, as a graph: GraphML, or JSON."""
    if out.suffix not in (".graphml", ".json"):
        raise DataError(f"The graph is to be {out.name}", "a name that ends in .graphml or .json",
                        "Choose such a name")  # fmt: skip
    view = session.view
    sure = {name: values for name, values in view.outcome.scores.columns().items() if name != "alternative"}
    graph = to_graph(*_as_it_is(view), sure, view.objects)
    if out.suffix == ".json":
        write_json(out, graph, overwrite=overwrite)
    else:
        write_graphml(out, graph, overwrite=overwrite)


def _as_it_is(view: View) -> tuple[Hypotheses, Assignments, NDArray[np.bool_]]:
    """Return what a session has come to, with what was made by hand."""
    made, chosen = view.reconstruction, view.outcome.chosen
    return *with_added(made.hypotheses(), made.assignments, view.state, chosen), chosen


def _part(progress: Progress, done: int, n: int, total: int) -> Progress:
    """Return progress that counts as n steps of more, after those done."""
    if progress is None:
        return None
    return lambda step, steps: progress(done + n * step // max(steps, 1), total)
