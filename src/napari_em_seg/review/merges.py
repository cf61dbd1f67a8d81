"""Merges of an agglomeration as links: listed beside the assignments, accepted or rejected in the tree."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from napari_em_seg.errors import DataError
from napari_em_seg.review.arrays import read_array, write_array
from napari_em_seg.review.links import MERGE_IN_AGGLOMERATION, NO_LINK, Links
from napari_em_seg.review.state import State, Status

__all__ = ["THRESHOLD", "Merges"]

THRESHOLD = "agglomeration threshold"
"""Name of the setting that says which merges are made."""

_ARRAYS = ("labels", "a", "b", "score", "z", "size")


@dataclass(frozen=True, eq=False)
class Merges:
    r"""The tree of an agglomeration (`segment.merge_tree.MergeTree`), with what is needed to show its merges.

    Every merge is an edge between two supervoxels, the largest one of each side; the merges below a threshold
    make these edges, and what hangs together is a segment. Each node hangs together by the edges of the merges
    below it, so without verdicts this is the cut of the tree. Who rejects a merge takes its edge away, who
    accepts one that was not made puts it in; no other edge changes.

    Attributes
    ----------
    labels
        The label of each leaf (n,), increasing.
    a, b, score
        The nodes that each merge joins, and how sure it is, from 0 to 1.
    z
        The slice to look at for each merge.
    size
        Voxels of each leaf.
    threshold
        Merges of which 1 − score is below it are made, unless the setting says otherwise.
    ends
        Where the leaves are objects of a solution: the hypotheses on both sides of each merge, near the place
        where they touch; −1 where nobody looked. None for other leaves.
    """

    labels: NDArray[np.uint32]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    score: NDArray[np.float64]
    z: NDArray[np.int32]
    size: NDArray[np.int64]
    threshold: float
    ends: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        n, n_merges = len(self.labels), len(self.a)
        node = n + np.arange(n_merges)
        if (
            {len(self.b), len(self.score), len(self.z)} != {n_merges}
            or len(self.size) != n
            or (self.ends is not None and self.ends.shape != (n_merges, 2))
            or not ((self.a >= 0) & (self.a < self.b) & (self.b < node)).all()
        ):
            raise DataError(f"There are {n_merges} merges of {n} leaves, which do not fit together",
                            "a tree, and one slice for each merge, one size for each leaf",
                            "Agglomerate again")  # fmt: skip

    def __len__(self) -> int:
        return len(self.a)

    @cached_property
    def _nodes(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The largest leaf of each node, and the voxels of each node."""
        leaf, size = list(range(len(self.labels))), self.size.tolist()
        for a, b in zip(self.a.tolist(), self.b.tolist(), strict=True):
            leaf.append(leaf[a] if self.size[leaf[a]] >= self.size[leaf[b]] else leaf[b])
            size.append(size[a] + size[b])
        return np.array(leaf, np.int32), np.array(size, np.int64)

    def is_made(self, state: State) -> NDArray[np.bool_]:
        """Return which merges are made: those below the threshold, but for what people decided."""
        threshold = float(state.settings.get(THRESHOLD, self.threshold))
        made = np.asarray(np.maximum.accumulate(1 - self.score) < threshold)
        for merge, value in state.merge_pins.items():
            made[merge] = bool(value)
        return made

    def table(self, state: State) -> NDArray[np.uint32]:
        """Return the table from each label to its segment, which has the least of its labels for a name."""
        made, (leaf, _) = self.is_made(state), self._nodes
        ends = leaf[self.a[made]], leaf[self.b[made]]
        n = len(self.labels)
        graph = sparse.coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(n, n))
        _, part = connected_components(graph, directed=False)
        _, first = np.unique(part, return_index=True)
        table = np.arange(int(self.labels[-1]) + 1 if n else 1, dtype=np.uint32)
        table[self.labels] = self.labels[first[part]]
        return table

    def joined(self, state: State) -> NDArray[np.int32]:
        """Return the pairs of hypotheses that belong to one object, as somebody said."""
        if self.ends is None:
            return np.zeros((0, 2), np.int32)
        pairs = self.ends[[merge for merge, value in state.merge_pins.items() if value]]
        return np.asarray(pairs[(pairs >= 0).all(axis=1)], np.int32)

    def links(self, state: State, *, least: float = 0.05, numbers: NDArray[np.int32] | None = None) -> Links:
        """Return the merges that may be wrong with at least this probability, and those that people spoke of.

        A merge that is made is wrong with the probability 1 − score, one that is not made with that of the
        score p; its confidence is 1 − p, as that of assignments. Merges of objects of a solution are left out
        where links have made these one by now; for that ``numbers`` has the object of each hypothesis.
        """
        without = State(settings=state.settings)
        stated = self.is_made(without)
        p = np.where(stated, 1 - self.score, self.score)
        status = np.zeros(len(self), np.int8)
        for link, said in state.statuses.items():
            if link < NO_LINK:
                status[-2 - link] = said
        is_asked = p >= least
        if self.ends is not None and numbers is not None:
            objects = np.append(numbers, 0)[self.ends]  # the last is for −1
            is_asked &= (objects > 0).all(axis=1) & (objects[:, 0] != objects[:, 1])
        rows = np.flatnonzero(is_asked | (status != Status.OPEN))
        (leaf, size), segment = self._nodes, self.table(state)
        if self.ends is None or numbers is None:
            ends = [self.labels[leaf[side[rows]]].astype(np.int32) for side in (self.a, self.b)]
            label = segment[ends[0]].astype(np.int32)
        else:
            ends = list(self.ends[rows].T)
            label = np.append(numbers, 0)[ends[0]].astype(np.int32)
        none = np.full(len(rows), -1, np.int32)
        smaller = np.minimum(size[self.a[rows]], size[self.b[rows]])
        with np.errstate(divide="ignore"):
            confidence, cost = 1 - p[rows], -np.log1p(-p[rows])
        return Links(
            id=-2 - rows.astype(np.int64), kind=np.full(len(rows), MERGE_IN_AGGLOMERATION, np.int8),
            z=self.z[rows], cost=cost,
            sources=np.stack((ends[0], none), 1), targets=np.stack((ends[1], none), 1),
            confidence=confidence.astype(np.float32), regret=np.full(len(rows), np.nan, np.float32),
            p_error=p[rows].astype(np.float32), impact=(p[rows] * smaller).astype(np.float32),
            alternative=np.full(len(rows), NO_LINK, np.int64), status=status[rows],
            object=label,
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder that is not there yet."""
        for name in _ARRAYS:
            write_array(folder / name, getattr(self, name))
        write_array(folder / "threshold", np.array([self.threshold]))
        if self.ends is not None:
            write_array(folder / "ends", self.ends)

    @classmethod
    def load(cls, folder: Path) -> "Merges":
        """Read them."""
        threshold = float(read_array(folder / "threshold")[0])
        ends = read_array(folder / "ends") if (folder / "ends").exists() else None
        return cls(**{name: read_array(folder / name) for name in _ARRAYS}, threshold=threshold, ends=ends)
