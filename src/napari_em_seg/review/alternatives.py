"""Alternatives: what could be in the place of an assignment, found without a look at all of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.review.reconstruction import Outcome, Reconstruction
from napari_em_seg.review.state import State

__all__ = ["Alternatives"]


class Alternatives:
    """Knows of each hypothesis which assignments leave it and which ones reach it.

    Parameters
    ----------
    reconstruction
        Of which generation does not matter, since candidates stay the same.
    """

    def __init__(self, reconstruction: Reconstruction) -> None:
        self._found = reconstruction
        self._sides = [_by_region(side, len(reconstruction.z))
                       for side in (reconstruction.sources, reconstruction.targets)]  # fmt: skip

    def of(
        self, link: int, costs: NDArray[np.float64], outcome: Outcome, state: State, n: int = 9
    ) -> list[int]:
        """Return the best other answer first, then others by cost, and by number where costs are equal.

        These are the assignments that leave a source of the link, or reach a target of it, or a hypothesis that
        overlaps one; they cannot hold at the same time.
        """
        found, m = set[int](), len(self._found.kind)
        for side, name in enumerate(("sources", "targets")):
            starts, rows = self._sides[side]
            mine = getattr(self._found, name)[link].tolist() if link < m else getattr(state.links[link], name)
            overlapping = {other for region in mine if region >= 0 for other in self._overlapping(region)}
            for region in overlapping:
                if region < len(self._found.z):
                    found.update(rows[starts[region] : starts[region + 1]].tolist())
            found.update(k for k, made in state.links.items() if overlapping & set(getattr(made, name)))
        found.discard(link)
        best = int(outcome.scores.alternative[link])
        by_cost = sorted(found - {best}, key=lambda k: (costs[k] if k < m else state.links[k].cost, k))
        return ([best] if best >= 0 and best != link else []) + by_cost[: n - 1 if best >= 0 else n]

    def _overlapping(self, region: int) -> Iterator[int]:
        """Give a hypothesis, what it holds, and what holds it; one that was painted alone."""
        if region >= len(self._found.z):
            yield region
            return
        yield from range(region, int(self._found.last[region]) + 1)
        while (region := int(self._found.parent[region])) >= 0:
            yield region


def _by_region(side: NDArray[np.int32], n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the assignments of each hypothesis begin, and all of them, by hypothesis."""
    rows, which = np.nonzero(side >= 0)
    regions = side[rows, which]
    order = np.argsort(regions, kind="stable")
    return np.searchsorted(regions[order], np.arange(n + 1)), rows[order]
