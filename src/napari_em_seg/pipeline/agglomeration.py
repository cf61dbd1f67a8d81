"""From affinities to objects: supervoxels, a tree of merges, a threshold; and the forest that learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.errors import Cancelled, DataError, TargetExistsError
from napari_em_seg.forest import Forest
from napari_em_seg.metrics import Scores, contingency, evaluate
from napari_em_seg.pipeline.affinity_maps import open_affinities
from napari_em_seg.pipeline.blocks import Blocks, Cancelling, Segments, supervoxel_file
from napari_em_seg.pipeline.own_forests import own_forests
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.pipeline.workers import prepare_on_workers
from napari_em_seg.segment import agglomerate, region_graph, zwatershed
from napari_em_seg.segment._forest import load_forest, save_forest
from napari_em_seg.segment.blocks import Writable, segment_in_blocks
from napari_em_seg.segment.forests import bundled_forest, check_voxel_size
from napari_em_seg.segment.learned import train_forest, truth_of_leaves
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.segment.zwatershed import link_by_size, max_affinity_graph, remove_dust
from napari_em_seg.volume import ArrayLike, Progress, Volume, VoxelSize

__all__ = [
    "THRESHOLDS", "AffinityPart", "Agglomerated", "ForestGain", "Fragments", "agglomerated", "forest_gain",
    "scores_of_tree",
    "segment_affinities_to_file", "train_agglomeration",
]  # fmt: skip

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Where merge trees are cut to find the best threshold: merges of a score above 1 − threshold are made."""

ScoreName = Literal["mean", "quantile", "learned"]


@dataclass(frozen=True)
class Fragments:
    """How supervoxels are made from affinities: by `segment.zwatershed`, then crumbs go to their neighbours.

    Membranes fall into single voxels with none but weak edges, which would be nine of ten supervoxels. So
    segments of less than `crumbs` voxels are joined to another one across their strongest edge, however weak
    it is. That goes by `segment.zwatershed.link_by_size`, and never joins two that are both larger.
    """

    low: float = 0.0
    high: float = 0.99
    size_threshold: int = 400
    weight_threshold: float = 0.3
    crumbs: int = 100
    dust: int = 0

    def of(self, affinities: ArrayLike, progress: Progress = None) -> NDArray[np.uint32]:
        """Return the supervoxels."""
        labels = zwatershed(
            affinities, low=self.low, high=self.high, size_threshold=self.size_threshold,
            weight_threshold=self.weight_threshold, dust=0 if self.crumbs else self.dust, progress=progress,
        )  # fmt: skip
        if not self.crumbs:
            return labels
        edges, weights = max_affinity_graph(labels, affinities)
        sizes = np.bincount(labels.reshape(-1))
        labels = link_by_size(edges, weights, sizes, self.crumbs, 0.0)[labels]
        return remove_dust(labels, self.dust) if self.dust else labels


@dataclass(frozen=True)
class Agglomerated:
    """What was segmented: at which threshold, into how many; with a truth, the scores of all thresholds."""

    threshold: float
    n_segments: int
    scores: Mapping[float, Scores]


def agglomerated(
    affinities: ArrayLike,
    score: Literal["mean", "quantile"] | Forest = "mean",
    fragments: Fragments = Fragments(),
    *,
    quantile: float = 0.5,
    voxel_size_nm: VoxelSize | None = None,
    progress: Progress = None,
) -> tuple[NDArray[np.uint32], MergeTree]:
    """Return supervoxels, and the tree of all their merges."""
    labels = fragments.of(affinities, progress)
    graph = region_graph(labels, affinities, voxel_size=voxel_size_nm or (1.0, 1.0, 1.0))
    return labels, agglomerate(graph, score, quantile=quantile)


def scores_of_tree(labels: ArrayLike, tree: MergeTree, truth: ArrayLike) -> dict[float, Scores]:
    """Compare the segments of every threshold with the truth; voxels are compared once."""
    overlaps = contingency(labels, truth)
    return {t: evaluate(overlaps.joined(tree.cut(t))) for t in THRESHOLDS}


def segment_affinities_to_file(
    source: str,
    out: str,
    *,
    score: ScoreName = "mean",
    forest: Path | None = None,
    quantile: float = 0.5,
    threshold: float | None = None,
    truth: str | None = None,
    fragments: Fragments = Fragments(),
    blocks: Blocks | None = None,
    tree_file: Path | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Cancelling = None,
) -> Agglomerated:
    """Segment affinities at a threshold given, or the best for a truth; keep the tree of merges if wanted.

    A forest is the one given, else the one that came along. With blocks nothing is held in memory but a block
    and the region graph; a run that was stopped goes on. Cancelling, which raises `Cancelled`, is for them.
    """
    io.check_volume_target(out, kind="labels", overwrite=overwrite)
    if tree_file is not None and tree_file.exists() and not overwrite:
        raise TargetExistsError(f"{tree_file} exists", "a new file", "Choose another name, or say --overwrite")
    if (threshold is None) == (truth is None):
        came = "Neither a threshold nor a truth" if threshold is None else "Both a threshold and a truth"
        raise DataError(f"{came} is given", "one of the two",
                        "Give --threshold, or --truth to look for the best one")  # fmt: skip
    affinities = open_affinities(source)
    size = affinities.voxel_size_nm
    judge = _score(score, forest, size)
    compared = None if truth is None else open_labels(truth)

    def conclude(labels: Writable, tree: MergeTree) -> Agglomerated:
        scores = {} if compared is None else scores_of_tree(labels, tree, compared)
        best = min(scores, key=lambda t: scores[t].adapted_rand_error) if threshold is None else threshold
        if tree_file is not None:
            tree.save(tree_file, overwrite=overwrite)
        volume = Volume(Segments(labels, tree.cut(best)), size, "segments", kind="labels")
        io.write_volume(volume, out, overwrite=overwrite, progress=progress)
        return Agglomerated(best, len(np.unique(tree.segments(best))), scores)

    if blocks is None:
        return conclude(
            *agglomerated(
                affinities, judge, fragments, quantile=quantile, voxel_size_nm=size, progress=progress
            )
        )
    folder = blocks.folder_for(source)
    if blocks.scheduler is not None:
        prepare_on_workers(source, blocks, fragments, progress, cancelled)
    with supervoxel_file(folder, affinities.shape[1:]) as file:
        return conclude(
            *segment_in_blocks(
                affinities, folder, fragments.of, block=blocks.shape, overlap=blocks.margin, score=judge,
                quantile=quantile, voxel_size=size or (1.0, 1.0, 1.0), out=file, about=repr(fragments),
                progress=progress, cancelled=cancelled,
            )
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class AffinityPart:
    """Slices of affinities, and the true objects there."""

    affinities: ArrayLike
    truth: NDArray[Any]
    voxel_size_nm: VoxelSize | None = None


def train_agglomeration(
    out: Path,
    parts: Sequence[AffinityPart],
    *,
    fragments: Fragments = Fragments(),
    seed: int = 0,
    rounds: int = 3,
    weights: Literal["equal", "size"] = "equal",
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Forest:
    """Train the forest that scores merges, and write it; cancelling, which is asked, raises `Cancelled`."""
    if out.exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new file", "Choose another name, or say --overwrite")
    examples = []
    for part in parts:
        if cancelled():
            raise Cancelled("The training was cancelled")
        labels = fragments.of(part.affinities)
        graph = region_graph(labels, part.affinities, voxel_size=part.voxel_size_nm or (1.0, 1.0, 1.0))
        examples.append((graph, truth_of_leaves(graph, labels, part.truth)))
    forest = train_forest(
        examples, seed=seed, rounds=rounds, weights=weights, progress=progress, cancelled=cancelled,
        card={**(card or {}), "fragments": asdict(fragments)},
    )  # fmt: skip
    save_forest(forest, out, overwrite=overwrite)
    return forest


def _score(
    name: ScoreName, forest: Path | None, voxel_size: VoxelSize | None
) -> Literal["mean", "quantile"] | Forest:
    if name != "learned":
        return name
    if forest is None:
        return bundled_forest(voxel_size, own_forests("agglomeration"))
    found = load_forest(forest)
    check_voxel_size(found, voxel_size or (1.0, 1.0, 1.0))
    return found


@dataclass(frozen=True)
class ForestGain:
    """The segmentation error (adapted Rand, at the best threshold) of the mean affinity, and of a forest."""

    mean: float
    forest: float


def forest_gain(forest: Forest, part: AffinityPart, fragments: Fragments = Fragments()) -> ForestGain:
    """Say what a forest gains on slices that it has not seen."""

    def error(score: Literal["mean"] | Forest) -> float:
        found = agglomerated(part.affinities, score, fragments, voxel_size_nm=part.voxel_size_nm)
        return min(scores.adapted_rand_error for scores in scores_of_tree(*found, part.truth).values())

    return ForestGain(error("mean"), error(forest))
