"""Links: the list that a reviewer works through, as columns, sorted and filtered in milliseconds."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE
from napari_em_seg.assign.assignments import KINDS as ASSIGNMENT_KINDS
from napari_em_seg.assign.result import objects_linked
from napari_em_seg.errors import DataError
from napari_em_seg.review.reconstruction import Outcome, Reconstruction
from napari_em_seg.review.state import State, Status

__all__ = [
    "KINDS", "MERGE_IN_AGGLOMERATION", "NO_LINK", "ORDERS", "Links", "Order", "link_name", "links_of",
    "objects_of", "parse_link",
]  # fmt: skip

KINDS = (*ASSIGNMENT_KINDS, "merge in agglomeration")
MERGE_IN_AGGLOMERATION = len(ASSIGNMENT_KINDS)
NO_LINK = -1

Order = Literal["confidence", "regret", "p_error", "impact"]
ORDERS: dict[str, int] = {"confidence": 1, "regret": 1, "p_error": -1, "impact": -1}
"""What links are sorted by: 1 where low values are the worst and come first, −1 where high ones do."""

_NEUTRAL = ("id", "kind", "z", "object", "status")


@dataclass(frozen=True, eq=False)
class Links:
    """Links, one in each row of all columns.

    Assignments have their number as id, merges in an agglomeration −2 minus their number in the tree, so that
    −1 is no link; see `link_name`.

    Attributes
    ----------
    id
        Of the link.
    kind
        Which place in `KINDS`.
    z
        The upper one of the two slices that it links.
    sources, targets
        Hypotheses, −1 for no one; of merges in an agglomeration the labels of one supervoxel on each side.
    cost, confidence, regret, p_error, impact
        As in `Reconstruction` and `Scores`.
    alternative
        The best other answer, or `NO_LINK`.
    status
        What people said of it.
    object
        The label of the object that it is part of; 0 for none.
    """

    id: NDArray[np.int64]
    kind: NDArray[np.int8]
    z: NDArray[np.int32]
    sources: NDArray[np.int32]
    targets: NDArray[np.int32]
    cost: NDArray[np.float64]
    confidence: NDArray[np.float32]
    regret: NDArray[np.float32]
    p_error: NDArray[np.float32]
    impact: NDArray[np.float32]
    alternative: NDArray[np.int64]
    status: NDArray[np.int8]
    object: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: NDArray[Any] | slice) -> "Links":
        return Links(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __add__(self, other: "Links") -> "Links":
        """Return the rows of both, one list after the other."""
        return Links(**{
            field.name: np.concatenate((getattr(self, field.name), getattr(other, field.name)))
            for field in fields(self)
        })  # fmt: skip

    def sorted_by(self, order: str = "confidence", *, is_reversed: bool = False) -> "Links":
        """Return the worst first, or the last; those of which nothing is known last, and equal ones by id.

        By what no link is better or worse, such as its slice, the lowest come first.
        """
        if order not in (*ORDERS, *_NEUTRAL):
            raise DataError(f"The order is {order!r}", f"one of {', '.join((*ORDERS, *_NEUTRAL))}",
                            "Choose one of these")  # fmt: skip
        sign = ORDERS.get(order, 1) * (-1 if is_reversed else 1)
        return self[np.lexsort((self.id, sign * getattr(self, order).astype(float)))]

    def where(
        self,
        *,
        kinds: Collection[int] | None = None,
        z: slice = slice(None),
        label: int | None = None,
        statuses: Collection[int] | None = None,
    ) -> "Links":
        """Return the links of these kinds, from these slices, of this object, with one of these statuses."""
        is_kept = np.ones(len(self), bool)
        if kinds is not None:
            is_kept &= _among(self.kind, kinds, len(KINDS))
        if statuses is not None:
            is_kept &= _among(self.status, statuses, len(Status))
        if z.start is not None:
            is_kept &= self.z >= z.start
        if z.stop is not None:
            is_kept &= self.z < z.stop
        if label is not None:
            is_kept &= self.object == label
        return self[np.flatnonzero(is_kept)]

    def drawn(self, n: int, seed: int = 0) -> "Links":
        """Return open links drawn at random: a look at some shows errors that stated probabilities do not."""
        rows = np.flatnonzero(self.is_open)
        return self[np.random.default_rng(seed).permutation(rows)[:n]]

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Which ones wait for an answer."""
        return _among(self.status, (Status.OPEN, Status.SKIPPED, Status.DO_NOT_KNOW), len(Status))

    def find(self, link: int) -> int:
        """Return the row of a link."""
        rows = np.flatnonzero(self.id == link)
        if not len(rows):
            raise DataError(f"Link {link_name(link)} is not in the list", "one that is",
                            "Look at the list of links")  # fmt: skip
        return int(rows[0])

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the rows with their rank, for JSON and CSV; None for what is not known."""
        columns: dict[str, list[Any]] = {f.name: getattr(self, f.name).tolist() for f in fields(self)}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [_as_dict(rank, row) for rank, row in enumerate(rows, 1)]


def _as_dict(rank: int, row: dict[str, Any]) -> dict[str, Any]:
    row = {key: None if value != value else value for key, value in row.items()}
    alternative = row["alternative"]
    row |= {
        "id": link_name(row["id"]), "kind": KINDS[row["kind"]], "status": Status(row["status"]).title,
        "alternative": None if alternative == NO_LINK else link_name(alternative),
        "sources": [i for i in row["sources"] if i >= 0], "targets": [i for i in row["targets"] if i >= 0],
    }  # fmt: skip
    return {"rank": rank, **row}


def _among(column: NDArray[np.int8], wanted: Collection[int], n: int) -> NDArray[np.bool_]:
    table = np.zeros(n, bool)
    table[list(wanted)] = True
    return np.asarray(table[column])


def link_name(link: int) -> str:
    """Return what people call a link: ``412``, or ``m7`` for the merge 7 in an agglomeration."""
    return str(link) if link >= NO_LINK else f"m{-2 - link}"


def parse_link(text: str) -> int:
    """Read what people call a link."""
    number = text.removeprefix("m")
    if not (number.isascii() and number.isdecimal()):
        raise DataError(f"The link is {text!r}", "a number such as 412, or m7 for a merge in an agglomeration",
                        "Look at the list of links")  # fmt: skip
    return int(number) if number == text else -2 - int(number)


def links_of(
    reconstruction: Reconstruction,
    outcome: Outcome,
    state: State,
    numbers: NDArray[np.int32] | None = None,
) -> Links:
    """Return all chosen assignments, and those on which somebody has spoken.

    Ends in the first and the last slice are not among them: there nothing is known, and nothing is doubtful.
    ``numbers`` has the object of each hypothesis (`objects_of`), where that is known already.
    """
    status = np.zeros(len(outcome.chosen), np.int8)
    spoken = [link for link in state.statuses if link >= 0]
    status[spoken] = [state.statuses[link] for link in spoken]
    rows = np.flatnonzero(outcome.chosen | (status != Status.OPEN))
    kind, sources, targets, cost = _assignments(reconstruction, state, rows)
    z = np.concatenate((reconstruction.z, np.full(state.n_regions, -1, np.int32)))
    for number, region in state.regions.items():
        z[number] = region.z
    upper = np.where(kind == APPEARANCE, z[targets[:, 0]] - 1, z[sources[:, 0]])
    is_border = (kind == APPEARANCE) & (upper < 0)
    is_border |= (kind == DISAPPEARANCE) & (upper == reconstruction.n_slices - 1)
    if is_border.any():
        rows, kind, upper, cost = (column[~is_border] for column in (rows, kind, upper, cost))
        sources, targets = sources[~is_border], targets[~is_border]
    numbers = objects_of(reconstruction, outcome, state) if numbers is None else numbers
    first = np.where(sources[:, 0] >= 0, sources[:, 0], targets[:, 0])
    scores = {name: column[rows] for name, column in outcome.scores.columns().items()}
    scores["alternative"] = scores["alternative"].astype(np.int64)
    return Links(
        id=rows.astype(np.int64), kind=kind, z=upper.astype(np.int32), sources=sources, targets=targets,
        cost=cost, status=status[rows], object=numbers[first], **scores,
    )  # fmt: skip


def _assignments(
    reconstruction: Reconstruction, state: State, rows: NDArray[np.intp]
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Return kinds, sources, targets and costs of some assignments, in order, those made by hand at the end."""
    n = len(reconstruction.kind)
    n_old = int(np.searchsorted(rows, n))
    old, made = rows[:n_old], [state.links[number] for number in rows[n_old:].tolist() if number in state.links]
    ends = [np.array([getattr(link, side) for link in made], np.int32).reshape(-1, 2)
            for side in ("sources", "targets")]  # fmt: skip
    return (
        np.concatenate((reconstruction.kind[old], np.array([link.kind for link in made], np.int8))),
        np.concatenate((reconstruction.sources[old], ends[0])),
        np.concatenate((reconstruction.targets[old], ends[1])),
        np.concatenate((reconstruction.costs[old], np.array([link.cost for link in made], float))),
    )


def objects_of(
    reconstruction: Reconstruction,
    outcome: Outcome,
    state: State,
    joined: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Return the object of each hypothesis, those that were painted at the end; 0 for those not used.

    Pairs of hypotheses that are ``joined`` make one of their objects, where both are used.
    """
    _, sources, targets, _ = _assignments(reconstruction, state, np.flatnonzero(outcome.chosen))
    n = len(reconstruction.z) + state.n_regions
    if joined is None or not len(joined):
        return objects_linked(sources, targets, n)
    is_used = np.zeros(n + 1, np.bool_)
    is_used[np.concatenate((sources, targets))] = True
    pairs = joined[is_used[joined].all(axis=1)]
    none = np.full_like(pairs, -1)
    return objects_linked(np.concatenate((sources, pairs)), np.concatenate((targets, none)), n)
