"""Drafts: what a person's answer means, in numbers, before it is carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import APPEARANCE, CONTINUATION, DISAPPEARANCE, MERGE, SPLIT
from napari_em_seg.errors import DataError
from napari_em_seg.review.added import AddedLink, AddedRegion, cropped
from napari_em_seg.review.operations import ACCEPT, ALTERNATIVE, BY_HAND, OBJECT, REGION, REJECT, Draft
from napari_em_seg.review.reconstruction import Reconstruction
from napari_em_seg.review.state import State

__all__ = ["Known", "by_hand", "choose", "decide", "object_through", "region"]

_KIND_OF = {(1, 1): CONTINUATION, (1, 2): SPLIT, (2, 1): MERGE, (0, 1): APPEARANCE, (1, 0): DISAPPEARANCE}


class Known:
    """All assignments and hypotheses there are, those made by hand at the end."""

    def __init__(self, reconstruction: Reconstruction, state: State) -> None:
        self.reconstruction, self.state = reconstruction, state
        self.n_links = len(reconstruction.kind)
        self.n_regions = len(reconstruction.z)

    def link(self, link: int) -> AddedLink:
        """Return an assignment; one that is not there, or was undone, is an error."""
        found = self.reconstruction
        if 0 <= link < self.n_links:
            (a, b), (c, d) = found.sources[link].tolist(), found.targets[link].tolist()
            return AddedLink(int(found.kind[link]), (a, b), (c, d), float(found.costs[link]))
        if link in self.state.links:
            return self.state.links[link]
        raise DataError(f"There is no link {link}", f"one of 0 to {self.n_links - 1}, or one made by hand",
                        "Look at the list of links")  # fmt: skip

    def slice_of(self, region: int) -> int:
        """Return where a hypothesis is; one that is not there, or was undone, is an error."""
        if 0 <= region < self.n_regions:
            return int(self.reconstruction.z[region])
        if region in self.state.regions:
            return self.state.regions[region].z
        raise DataError(f"There is no region {region}", f"one of 0 to {self.n_regions - 1}, or one painted",
                        "Choose a region in the slice")  # fmt: skip

    def usual_end_cost(self) -> float:
        """Return the median cost of an end between the first and the last slice."""
        found = self.reconstruction
        is_end = (found.kind >= APPEARANCE) & (found.costs > 0)
        return float(np.median(found.costs[is_end])) if is_end.any() else 0.0

    def is_conflict(self, a: int, b: int) -> bool:
        """Whether two hypotheses have pixels in common."""
        first, second = min(a, b), max(a, b)
        if second < self.n_regions:
            return bool(second <= self.reconstruction.last[first])
        painted = self.state.regions[second]
        if self.slice_of(first) != painted.z:
            return False
        height, width = painted.mask.shape
        place = slice(painted.y, painted.y + height), slice(painted.x, painted.x + width)
        if first >= self.n_regions:
            whole = np.zeros(self.reconstruction.nodes.shape[1:], bool)
            other = self.state.regions[first]
            whole[other.y : other.y + other.mask.shape[0], other.x : other.x + other.mask.shape[1]] = other.mask
            return bool((whole[place] & painted.mask).any())
        nodes = np.asarray(self.reconstruction.nodes[painted.z])[place]
        return bool(((nodes >= first) & (nodes <= self.reconstruction.last[first]) & painted.mask).any())


def decide(link: int, is_right: bool, value: bool, shown: Mapping[str, Any]) -> Draft:
    """Accept or reject a link, which is to be chosen then or not."""
    return Draft(ACCEPT if is_right else REJECT, {"link": link, "pins": [[link, int(value)]]}, shown)


def choose(known: Known, link: int, choice: int, shown: Mapping[str, Any]) -> Draft:
    """Put another link in the place of one."""
    known.link(choice)
    if choice == link:
        raise DataError(f"Link {link} is the one that is asked about", "another one", "Accept it")
    payload = {"link": link, "choice": choice, "pins": [[link, 0], [choice, 1]]}
    return Draft(ALTERNATIVE, payload, shown)


def by_hand(
    known: Known, sources: Sequence[int], targets: Sequence[int], link: int | None, cost: float,
    shown: Mapping[str, Any],
) -> Draft:  # fmt: skip
    """Make an assignment, in the place of one, or of none; one that is there already is taken as it is."""
    kind = _KIND_OF.get((len(sources), len(targets)))
    ends = [(*sorted(side), -1, -1)[:2] for side in (sources, targets)]
    slices = [{known.slice_of(region) for region in side} for side in (sources, targets)]
    if kind is None or any(len(found) > 1 for found in slices):
        raise DataError(f"There are {len(sources)} sources in {len(slices[0])} slices and {len(targets)} "
                        f"targets in {len(slices[1])}", "one or two of one slice, not two on both sides",
                        "Choose one source and up to two targets, or two sources and one target")  # fmt: skip
    if sources and targets and min(slices[1]) != min(slices[0]) + 1:
        raise DataError(f"The link would go from slice {min(slices[0])} to slice {min(slices[1])}",
                        "from one slice to the next", "Choose regions in neighbouring slices")  # fmt: skip
    for side in (sources, targets):
        if len(side) == 2 and known.is_conflict(*side):
            raise DataError(f"The regions {side[0]} and {side[1]} overlap", "partners without common pixels",
                            "Choose others, or cut one of them")  # fmt: skip
    same = _same(known, ends)
    if same is not None:
        return decide(same, True, True, shown) if link in (None, same) else choose(known, link, same, shown)
    variable = known.n_links + known.state.n_links
    payload: dict[str, Any] = {"variable": variable, "kind": kind, "sources": list(ends[0]),
                               "targets": list(ends[1]), "cost": float(cost), "link": link}  # fmt: skip
    payload["pins"] = [[variable, 1]] if link is None else [[link, 0], [variable, 1]]
    return Draft(BY_HAND, payload, shown)


def _same(known: Known, ends: Sequence[tuple[int, ...]]) -> int | None:
    """Return the assignment that has these ends already, if there is one."""
    found = known.reconstruction
    is_same = (found.sources == ends[0]).all(axis=1) & (found.targets == ends[1]).all(axis=1)
    same = np.flatnonzero(is_same).tolist()
    same += [k for k, link in known.state.links.items() if [link.sources, link.targets] == [*ends]]
    return next(iter(same), None)


def region(
    known: Known,
    place: tuple[int, int, int],
    mask: NDArray[np.bool_],
    origin: str,
    candidates: Sequence[AddedLink],
    end_cost: float | None,
) -> Draft:
    """Make a hypothesis of what was painted, with what may become of it: both ends at least."""
    z, y, x = place
    n_z, n_y, n_x = known.reconstruction.nodes.shape
    mask = np.asarray(mask, bool)
    fits = mask.ndim == 2 and 0 <= z < n_z and y >= 0 and x >= 0
    if not (fits and y + mask.shape[0] <= n_y and x + mask.shape[1] <= n_x and mask.any()):
        raise DataError(f"A region of the shape {mask.shape} at {place} was painted",
                        f"some pixels within {(n_z, n_y, n_x)}", "Paint it inside a slice")  # fmt: skip
    number = known.n_regions + known.state.n_regions
    costs = [known.usual_end_cost() if end_cost is None else end_cost] * 2
    costs = [0.0 if z == border else cost for border, cost in zip((0, n_z - 1), costs, strict=True)]
    ends = [AddedLink(APPEARANCE, (-1, -1), (number, -1), costs[0]),
            AddedLink(DISAPPEARANCE, (number, -1), (-1, -1), costs[1])]  # fmt: skip
    painted = asdict(AddedRegion.from_mask(z, y, x, mask, origin))
    links = [asdict(link) for link in (*ends, *candidates)]
    first = known.n_links + known.state.n_links
    return Draft(REGION, {"region": number, **painted, "variable": first, "links": links})


def object_through(known: Known, masks: Mapping[int, NDArray[np.bool_]], origin: str) -> Draft:
    """Make an object of one mask (y, x) in each of several slices that follow each other, and pin its links.

    It may begin before and end behind them only where there is nothing: at the usual cost, and for nothing in
    the first and the last slice.
    """
    slices = sorted(z for z, mask in masks.items() if mask.any())
    n_z, n_y, n_x = known.reconstruction.nodes.shape
    fits = all(0 <= z < n_z and masks[z].shape == (n_y, n_x) for z in slices)
    if not slices or slices != list(range(slices[0], slices[-1] + 1)) or not fits:
        raise DataError(f"The object is in the slices {slices}", f"slices that follow each other, of 0 to "
                        f"{n_z - 1}, with masks of {n_y}×{n_x}",
                        "Fill the gap, or take the parts one by one")  # fmt: skip
    first_region, usual = known.n_regions + known.state.n_regions, known.usual_end_cost()
    regions = []
    for number, z in enumerate(slices, first_region):
        regions.append({"region": number, **asdict(AddedRegion.from_mask(z, *cropped(masks[z]), origin))})
    numbers = [int(entry["region"]) for entry in regions]
    ends = [0.0 if z == border else usual for z, border in ((slices[0], 0), (slices[-1], n_z - 1))]
    links = [
        AddedLink(APPEARANCE, (-1, -1), (numbers[0], -1), ends[0]),
        *(AddedLink(CONTINUATION, (a, -1), (b, -1), 0.0) for a, b in pairwise(numbers)),
        AddedLink(DISAPPEARANCE, (numbers[-1], -1), (-1, -1), ends[1]),
    ]
    variable = known.n_links + known.state.n_links
    pins = [[variable + k, 1] for k in range(len(links))]
    return Draft(OBJECT, {"regions": regions, "variable": variable, "links": [asdict(link) for link in links],
                          "pins": pins})  # fmt: skip
