"""The user's own forests, which lie beside their own networks."""

import logging
from pathlib import Path
from typing import Literal

from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.errors import EmSegError
from napari_em_seg.predict.weights import user_folder
from napari_em_seg.segment._forest import load_forest

__all__ = ["FOREST_SUFFIX", "own_forests"]

FOREST_SUFFIX = ".npz"
_log = logging.getLogger(__name__)


def own_forests(task: Literal["agglomeration", "assignment"]) -> list[Path]:
    """Return the files of one's own forests for a task, by name; what cannot be read is logged as a warning."""
    return [path for path in sorted(user_folder().glob(f"*{FOREST_SUFFIX}")) if _task_of(path) == task]


def _task_of(path: Path) -> str:
    kinds = {"agglomeration": load_forest, "assignment": AssignmentModel.load}
    problems = []
    for task, load in kinds.items():
        try:
            load(path)
        except EmSegError as error:
            problems.append(str(error))
        else:
            return task
    _log.warning("The forest %s was left out. %s", path.name, " ".join(problems))
    return ""
