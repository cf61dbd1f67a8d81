"""Segmentations that can be adjusted at once: parts are worked out once, and every setting is a look-up."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import Cancelled
from napari_em_seg.pipeline.agglomeration import Fragments
from napari_em_seg.pipeline.blocks import Cancelling
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.own_forests import own_forests
from napari_em_seg.segment import Mode, RegionGraph, agglomerate, basins, region_graph
from napari_em_seg.segment.forests import bundled_forest
from napari_em_seg.segment.merge_tree import MergeTree, look_up
from napari_em_seg.segment.zwatershed import link_by_size
from napari_em_seg.volume import ArrayLike, Progress, SliceWise, VoxelSize

if TYPE_CHECKING:
    from napari_em_seg.segment.agglomerate import Score

__all__ = ["Cut", "Method", "Parts", "PartsRecipe", "ScoreOrNone", "Segmented", "parts_of"]

Labels = NDArray[np.uint32]
Method = Literal["hmin-3d", "hmin-2d", "zwatershed"]
ScoreOrNone = Literal["none", "mean", "quantile", "learned"]

_MODES: dict[Method, Mode] = {"hmin-3d": "3d", "hmin-2d": "2d"}
_STEPS = 1000  # of the progress


@dataclass(frozen=True)
class PartsRecipe:
    """How parts are made: what takes time to change.

    Attributes
    ----------
    method
        The watershed of a boundary map from its H-minima, in 3-D or slice by slice, or that of affinities.
    sigma
        For boundary maps: standard deviation of the Gaussian, in pixels.
    score, quantile
        For affinities: how their supervoxels are agglomerated; none: not at all.
    fragments
        For affinities: how supervoxels are made.
    """

    method: Method = "hmin-3d"
    sigma: float = 1.0
    score: ScoreOrNone = "mean"
    quantile: float = 0.5
    fragments: Fragments = field(default_factory=Fragments)


@dataclass(frozen=True)
class Cut:
    """Which segments parts are put together to: what costs nothing to change.

    Attributes
    ----------
    level
        The depth h of minima that stay, or the threshold of the agglomeration.
    smallest
        Segments of fewer voxels join the neighbour with the weakest boundary between them, or become 0.
    is_joining
        Which of the two.
    """

    level: float
    smallest: int = 0
    is_joining: bool = True


@dataclass(frozen=True, eq=False)
class Segmented(SliceWise):
    """The segments (z, y, x) of a cut, looked up slice by slice as they are read; it never changes."""

    dtype = np.dtype(np.uint32)

    parts: "Parts"
    table: Labels

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """That of the parts."""
        z, y, x = self.parts.labels.shape
        return z, y, x

    def _plane(self, z: int) -> Labels:
        return look_up(self.parts.labels[z], self.table)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(look_up(self.parts.labels, self.table), dtype)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Voxels by label, 0 where there is no such segment."""
        return _summed(self.table, self.parts.sizes)

    @property
    def n_segments(self) -> int:
        """How many there are, the background aside."""
        return int(np.count_nonzero(self.sizes[1:]))

    def whole(self, progress: Progress = None, cancelled: Cancelling = None) -> Labels:
        """Return all of it in memory."""
        report = _share(progress, cancelled, 0, 1)
        out = np.empty(self.shape, np.uint32)
        for z in range(len(out)):
            report(z, len(out))
            look_up(self.parts.labels[z], self.table, out[z])
        return out


@dataclass(frozen=True, eq=False)
class Parts:
    """The finest segments of a volume, and which of them are one at any level.

    Attributes
    ----------
    labels
        The part of each voxel (z, y, x); 0 for none.
    sizes
        Voxels of each part, the first of them of those without.
    edges, strength
        Pairs of parts (k, 2) that touch, and from 0 to 1 how weak the boundary between them is.
    joined
        Gives the table from part to segment at a level; a segment is called by its first part, so that
        names, and colours, stay while it grows.
    recipe
        How they were made.
    graph, tree
        Of parts from affinities: what another agglomeration begins with, and all merges of this one.
    """

    labels: Labels
    sizes: NDArray[np.int64]
    edges: Labels
    strength: NDArray[np.float64]
    joined: Callable[[float], Labels]
    recipe: PartsRecipe
    graph: RegionGraph | None = None
    tree: MergeTree | None = None

    def at(self, cut: Cut) -> Segmented:
        """Return the segments of a cut: in proportion to parts, voxels are looked up when they are read."""
        table = self.joined(cut.level)
        if cut.smallest > 1:
            table = self._without_small(table, cut)
        return Segmented(self, table)

    def _without_small(self, table: Labels, cut: Cut) -> Labels:
        sizes = _summed(table, self.sizes)
        if not cut.is_joining:
            return np.where(sizes[table] < cut.smallest, np.uint32(0), table)
        ends = table[self.edges]
        is_between = ends[:, 0] != ends[:, 1]
        linked = link_by_size(ends[is_between], self.strength[is_between], sizes, cut.smallest, 0.0)
        return _called_by_first(linked[table])


def parts_of(
    maps: PredictedMaps,
    recipe: PartsRecipe = PartsRecipe(),
    *,
    voxel_size_nm: VoxelSize | None = None,
    before: Parts | None = None,
    progress: Progress = None,
    cancelled: Cancelling = None,
) -> Parts:
    """Work out the parts of a volume; boundaries and affinities are made of each other where needed.

    Parameters
    ----------
    maps
        A boundary map or affinities.
    voxel_size_nm
        Needed by the learned score.
    before
        Other parts of the same maps; where only the agglomeration differs, their supervoxels are used again.
    progress, cancelled
        Once the latter says true, `Cancelled` is raised.
    """
    if recipe.method == "zwatershed":
        return _from_affinities(maps, recipe, voxel_size_nm, before, progress, cancelled)
    boundary: ArrayLike = maps.boundary if maps.is_affinity else maps.maps
    found = basins(
        boundary, sigma=recipe.sigma, mode=_MODES[recipe.method], progress=_share(progress, cancelled, 0, 1)
    )
    return Parts(
        found.labels, _sizes(found.labels, len(found.minima)), found.edges, 1 - found.saddles,
        lambda h: _called_by_first(found.table(h)), recipe,
    )  # fmt: skip


def _from_affinities(
    maps: PredictedMaps, recipe: PartsRecipe, voxel_size_nm: VoxelSize | None, before: Parts | None,
    progress: Progress, cancelled: Cancelling,
) -> Parts:  # fmt: skip
    score: Score = "mean"
    if recipe.score == "learned":
        score = bundled_forest(voxel_size_nm, own_forests("agglomeration"))
    elif recipe.score != "none":
        score = recipe.score
    size = voxel_size_nm or (1.0, 1.0, 1.0)
    if (
        before is not None and before.graph is not None
        and before.recipe.fragments == recipe.fragments and before.graph.voxel_size == size
    ):  # fmt: skip
        labels, sizes, graph = before.labels, before.sizes, before.graph
    else:
        affinities = maps.affinities()
        labels = recipe.fragments.of(affinities, _share(progress, cancelled, 0, 0.8))
        graph = region_graph(
            labels, affinities, voxel_size=size, progress=_share(progress, cancelled, 0.8, 0.9)
        )
        sizes = _sizes(labels, int(labels.max()))
    joined: Callable[[float], Labels]
    tree = None
    if recipe.score == "none":
        nothing_joined = np.arange(len(sizes), dtype=np.uint32)
        joined = lambda _: nothing_joined  # noqa: E731 - the other one is a function as well
    else:
        tree = agglomerate(graph, score, quantile=recipe.quantile, cancelled=cancelled,
                           progress=_share(progress, cancelled, 0.9, 1))  # fmt: skip
        joined = tree.cut
    return Parts(labels, sizes, graph.edges, graph.mean, joined, recipe, graph, tree)


def _share(progress: Progress, cancelled: Cancelling, start: float, stop: float) -> Callable[[int, int], None]:
    """Return the progress of one step of several; it also ends a step that knows nothing of cancelling."""

    def report(done: int, n: int) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("The segmentation was cancelled")
        if progress is not None:
            progress(round(_STEPS * (start + (stop - start) * done / max(n, 1))), _STEPS)

    return report


def _sizes(labels: Labels, n: int) -> NDArray[np.int64]:
    """Count voxels slice by slice: numpy counts a copy with twice as many bytes."""
    sizes = np.zeros(n + 1, np.int64)
    for plane in labels:
        sizes += np.bincount(plane.reshape(-1), minlength=n + 1)
    return sizes


def _summed(table: Labels, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the voxels of each segment; exact below 2⁵³."""
    return np.bincount(table, sizes, minlength=len(table)).astype(np.int64)


def _called_by_first(table: Labels) -> Labels:
    """Call segments by their first parts, whatever they were called; 0 stays nothing."""
    first = np.zeros(int(table.max()) + 1, np.uint32)
    first[table[::-1]] = np.arange(len(table), dtype=np.uint32)[::-1]  # the last one written stays
    first[0] = 0
    return first[table]
