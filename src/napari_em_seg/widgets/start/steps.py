"""Steps: the way from a stack to neurons, how far a viewer has come on it, and which dock goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from napari.layers import Image

from napari_em_seg.widgets.layers import is_whole, role_of, shape_of, without_remark
from napari_em_seg.widgets.state import ViewerState
from napari_em_seg.widgets.voxel_size import layer_voxel_size

__all__ = ["STEPS", "Step", "image_in"]


@dataclass(frozen=True)
class Step:
    """A step of the way: its name, what it is for, its dock, and what says how far it has come.

    ``found`` gives a few words once the step is done, else nothing.
    """

    title: str
    hint: str
    dock: str
    found: Callable[[Sequence[Any], ViewerState], str]


def image_in(layers: Sequence[Any], state: ViewerState) -> Image | None:
    """Return the stack that is worked on: the one chosen in a dock, else the first that was opened."""
    stacks = [x for x in layers if isinstance(x, Image) and x.ndim == 3 and not x.rgb and not role_of(x)]
    return state.image if state.image in stacks else next(iter(stacks), None)


def _image(layers: Sequence[Any], state: ViewerState) -> str:
    layer = image_in(layers, state)
    if layer is None:
        return ""
    size = layer_voxel_size(layer)
    text = " × ".join(f"{n:g}" for n in size) + " nm" if size else "voxel size not known: see Voxel size"
    return f"{without_remark(layer.name)}, {' × '.join(map(str, shape_of(layer)))}, {text}"


def _named(*roles: str) -> Callable[[Sequence[Any], ViewerState], str]:
    """Return what names the layers of these roles."""
    return lambda layers, _state: ", ".join(x.name for x in layers if role_of(x) in roles and is_whole(x))


def _review(_layers: Sequence[Any], state: ViewerState) -> str:
    desk = state.desk
    if desk is None or desk.session is None or desk.sheet is None:
        return ""
    n = len(desk.sheet.view.state.verdicts)
    return f"{desk.session.path.name}: {n:,} of {len(desk.sheet.links):,} links answered"


def _done(dock: str) -> Callable[[Sequence[Any], ViewerState], str]:
    """Return what says what was done last in a dock."""
    return lambda _layers, state: state.done.get(dock, "")


STEPS = (
    Step("Open a stack", "A stack of EM sections, with its voxel size", "Voxel size", _image),
    Step("Predict", "Membranes or affinities, by a network", "Predict", _named("boundary", "affinities")),
    Step("Segment", "Objects at once, by watershed and agglomeration", "Segment", _named("segments")),
    Step("Reconstruct and review", "Objects by the assignment program; its doubtful links, worst first",
         "Review links", _review),
    Step("Propagate", "Follow objects that you seed on one slice", "Propagate", _named("propagated")),
    Step("Evaluate", "Measure against a truth, or how plausible objects are", "Evaluate",
         _done("Evaluate")),
    Step("Export", "Labels, links, meshes, skeletons, a report", "Export", _done("Export")),
    Step("Train", "Teach a network your tissue, from a few painted slices", "Train", _done("Train")),
)  # fmt: skip
"""In the order in which people take them; none has to be taken."""
