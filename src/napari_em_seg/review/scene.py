"""Scene: what there is to see of a link: where its regions lie, and what could be in its place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import APPEARANCE, CONTINUATION, DISAPPEARANCE, MERGE, SPLIT
from napari_em_seg.errors import DataError
from napari_em_seg.review.drafts import Known
from napari_em_seg.review.links import MERGE_IN_AGGLOMERATION
from napari_em_seg.review.view import View

_APART = MERGE_IN_AGGLOMERATION + 1

__all__ = ["Choice", "Place", "Scene", "in_words", "place_of", "scene_of"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where a region lies: its pixels, from (y, x) on in slice z, and the object that it is part of now."""

    region: int
    z: int
    y: int
    x: int
    mask: NDArray[np.bool_]
    object: int = 0

    @property
    def name(self) -> str:
        """What people call it: its object, or # and its number, if it is part of none."""
        return str(self.object or f"#{self.region}")

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First row and column, and those after the last ones."""
        height, width = self.mask.shape
        return self.y, self.x, self.y + height, self.x + width


@dataclass(frozen=True, eq=False)
class Choice:
    """One answer to the question what becomes of the regions.

    Attributes
    ----------
    link, kind
        As in `Links`.
    sources, targets
        Regions of slice z, and of the next one.
    difference
        How much dearer the solution is with it: exact for the best one, else at most the difference of costs.
    """

    link: int
    kind: int
    sources: tuple[Place, ...]
    targets: tuple[Place, ...]
    difference: float

    @property
    def places(self) -> tuple[Place, ...]:
        """All regions."""
        return self.sources + self.targets


@dataclass(frozen=True, eq=False)
class Scene:
    """A link in slice z, what could be in its place, and the box around the regions of the link."""

    z: int
    asked: Choice
    alternatives: tuple[Choice, ...]

    def looks_like(self, other: "Scene | None") -> bool:
        """Whether another scene shows the same, so that nothing has to be drawn anew."""
        return other is not None and self._looks == other._looks

    @cached_property
    def _looks(self) -> tuple[Any, ...]:
        return tuple(
            (
                choice.link,
                round(choice.difference, 3),
                *((place.region, place.object) for place in choice.places),
            )
            for choice in (self.asked, *self.alternatives)
        )

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First row and column of all regions of the link, and those after the last ones."""
        boxes = np.array([place.box for place in self.asked.places])
        y, x = boxes[:, :2].min(axis=0).tolist()
        bottom, right = boxes[:, 2:].max(axis=0).tolist()
        return y, x, bottom, right


def scene_of(
    view: View, link: int, alternatives: Sequence[int], numbers: NDArray[np.int32] | None = None
) -> Scene:
    """Return what there is to see of a link and of its alternatives.

    Parameters
    ----------
    view
        Of the session.
    link
        An assignment.
    alternatives
        What could be in its place, the best first.
    numbers
        The object of each hypothesis (`objects_of`), where they are known already.
    """
    if link < 0:
        return _scene_of_merge(view, -2 - link)
    known, places = Known(view.reconstruction, view.state), dict[int, Place]()

    def choice(number: int) -> Choice:
        made = known.link(number)
        sides = [
            tuple(places.setdefault(i, place_of(view, i, numbers)) for i in side if i >= 0)
            for side in (made.sources, made.targets)
        ]
        return Choice(number, made.kind, sides[0], sides[1], made.cost)

    asked = choice(link)
    best, regret = (getattr(view.outcome.scores, name)[link] for name in ("alternative", "regret"))
    found = [choice(number) for number in alternatives]
    differences = [
        float(regret) if other.link == best and np.isfinite(regret) else other.difference - asked.difference
        for other in found
    ]
    listed = tuple(replace(c, difference=d) for c, d in zip(found, differences, strict=True))
    z = asked.sources[0].z if asked.sources else asked.targets[0].z - 1
    return Scene(z, replace(asked, difference=0.0), listed)


def _scene_of_merge(view: View, merge: int) -> Scene:
    """Return what there is to see of two objects that may be one, and the other answer."""
    if view.merges is None or view.merges.ends is None or (view.merges.ends[merge] < 0).any():
        raise DataError(f"Nobody looked where the merge m{merge} is", "one that was asked about",
                        "Choose a link of the list")  # fmt: skip
    a, b = (place_of(view, int(region), view.objects) for region in view.merges.ends[merge])
    is_one = a.object == b.object
    asked, other = (
        Choice(-2 - merge, MERGE_IN_AGGLOMERATION if one else _APART, (a,), (b,), 0.0)
        for one in (is_one, not is_one)
    )
    return Scene(min(a.z, b.z), asked, (other,))


def place_of(view: View, region: int, numbers: NDArray[np.int32] | None = None) -> Place:
    """Return where a hypothesis lies, be it a painted one."""
    name = 0 if numbers is None or region >= len(numbers) else int(numbers[region])
    if region in view.state.regions:
        painted = view.state.regions[region]
        return Place(region, painted.z, painted.y, painted.x, painted.mask, name)
    found = view.reconstruction.hypotheses().region(region)
    return Place(region, found.z, found.y, found.x, found.mask, name)


def in_words(choice: Choice) -> str:
    """Say what a choice means, in terms of objects."""
    names = [[place.name for place in side] for side in (choice.sources, choice.targets)]
    sources, targets = (" and ".join(side) for side in names)
    is_same = sources == targets
    return {
        CONTINUATION: f"{sources} goes on" + ("" if is_same else f" as {targets}"),
        SPLIT: f"{sources} splits into {targets}", MERGE: f"{sources} merge into {targets}",
        APPEARANCE: f"{targets} begins here", DISAPPEARANCE: f"{sources} ends here",
        MERGE_IN_AGGLOMERATION: f"{sources} and {targets} are one object" if not is_same else
        f"both belong to {sources}", _APART: f"{sources} and {targets} are two objects",
    }[choice.kind]  # fmt: skip
