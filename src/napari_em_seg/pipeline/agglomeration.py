"""From affinities to objects: supervoxels, a tree of merges, a threshold; and the forest that learns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_em_seg import io
from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.metrics import Scores, contingency, evaluate
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.pipeline.volumes import open_labels
from napari_em_seg.segment import agglomerate, region_graph, zwatershed
from napari_em_seg.segment.learned import Forest, train_forest, truth_of_leaves
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.volume import ArrayLike, Progress, Volume, VoxelSize

__all__ = [
    "THRESHOLDS", "AffinityMaps", "AffinityPart", "Agglomerated", "Fragments", "agglomerated",
    "open_affinities",
    "scores_of_tree", "segment_affinities_to_file", "train_agglomeration",
]  # fmt: skip

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Where merge trees are cut to find the best threshold: merges of a score above 1 − threshold are made."""

ScoreName = Literal["mean", "quantile", "learned"]


@dataclass(frozen=True, eq=False)
class AffinityMaps:
    """Three volumes read as one array (3, z, y, x): affinities to the neighbours at −1 along z, y and x."""

    maps: tuple[Volume, Volume, Volume]
    first: int = 0
    stop: int | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, slices, rows and columns."""
        z, y, x = self.maps[0].shape
        return 3, min(z, z if self.stop is None else self.stop) - self.first, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """As it lies in the files."""
        return self.maps[0].dtype

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """Of the maps."""
        return self.maps[0].voxel_size_nm

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read one channel, or several: the first key says which, the others where."""
        channel, *place = key if isinstance(key, tuple) else (key,)
        if isinstance(channel, slice):
            return np.stack([self[(c, *place)] for c in range(*channel.indices(3))])
        z, *plane = place or [slice(None)]
        if isinstance(z, slice):
            start, stop, step = z.indices(self.shape[1])
            z = slice(start + self.first, stop + self.first, step)
        else:
            z += self.first + (self.shape[1] if z < 0 else 0)
        found: NDArray[Any] = self.maps[channel][(z, *plane)]
        return found


def open_affinities(source: str, slices: slice = slice(None)) -> AffinityMaps:
    """Open the three maps that `predict` wrote into a container."""
    found = tuple(io.open_volume(f"{source}/{place}") for place in AFFINITY_MAPS)
    if len({(volume.shape, str(volume.dtype)) for volume in found}) > 1:
        raise DataError(
            f"The affinities in {source} are {', '.join(f'{v.shape} {v.dtype}' for v in found)}",
            "three maps of one shape and type", "Predict them again",
        )  # fmt: skip
    start, stop, _ = slices.indices(len(found[0]))
    return AffinityMaps((found[0], found[1], found[2]), start, stop)


@dataclass(frozen=True)
class Fragments:
    """How supervoxels are made from affinities; see `segment.zwatershed`."""

    low: float = 0.02
    high: float = 0.99
    size_threshold: int = 1000
    weight_threshold: float = 0.1
    dust: int = 0

    def of(self, affinities: ArrayLike, progress: Progress = None) -> NDArray[np.uint32]:
        """Return the supervoxels."""
        return zwatershed(
            affinities, low=self.low, high=self.high, size_threshold=self.size_threshold,
            weight_threshold=self.weight_threshold, dust=self.dust, progress=progress,
        )  # fmt: skip


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
    tree_file: Path | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> Agglomerated:
    """Segment affinities at a threshold given, or the best for a truth; keep the tree of merges if wanted."""
    io.check_volume_target(out, kind="labels", overwrite=overwrite)
    if tree_file is not None and tree_file.exists() and not overwrite:
        raise TargetExistsError(f"{tree_file} exists", "a new file", "Choose another name, or say --overwrite")
    if (threshold is None) == (truth is None):
        came = "Neither a threshold nor a truth" if threshold is None else "Both a threshold and a truth"
        raise DataError(f"{came} is given", "one of the two",
                        "Give --threshold, or --truth to look for the best one")  # fmt: skip
    affinities = open_affinities(source)
    size = affinities.voxel_size_nm
    labels, tree = agglomerated(
        affinities, _score(score, forest), fragments, quantile=quantile, voxel_size_nm=size, progress=progress
    )
    scores: Mapping[float, Scores] = {}
    if truth is not None:
        scores = scores_of_tree(labels, tree, open_labels(truth))
    if threshold is None:
        threshold = min(scores, key=lambda t: scores[t].adapted_rand_error)
    if tree_file is not None:
        tree.save(tree_file, overwrite=overwrite)
    tree.apply(labels, threshold, out=labels)
    io.write_volume(
        Volume(labels, size, "segments", kind="labels"), out, overwrite=overwrite, progress=progress
    )
    n_segments = len(np.unique(tree.segments(threshold)))
    return Agglomerated(threshold, n_segments, scores)


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
) -> Forest:
    """Train the forest that scores merges, and write it."""
    if out.exists() and not overwrite:
        raise TargetExistsError(f"{out} exists", "a new file", "Choose another name, or say --overwrite")
    examples = []
    for part in parts:
        labels = fragments.of(part.affinities)
        graph = region_graph(labels, part.affinities, voxel_size=part.voxel_size_nm or (1.0, 1.0, 1.0))
        examples.append((graph, truth_of_leaves(graph, labels, part.truth)))
    forest = train_forest(
        examples, seed=seed, rounds=rounds, weights=weights, card=dict(card or {}), progress=progress
    )
    forest.save(out, overwrite=overwrite)
    return forest


def _score(name: ScoreName, forest: Path | None) -> Literal["mean", "quantile"] | Forest:
    if name != "learned":
        return name
    if forest is None:
        raise DataError("No forest is given for --agglomerate learned", "the file of a trained one",
                        "Give --forest, or train one: napari-em-seg train agglomeration")  # fmt: skip
    return Forest.load(forest)
