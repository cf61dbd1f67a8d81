"""Parts and cuts: the same segments as the slow way, at every setting, and names that stay."""

import numpy as np
import pytest

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline.adjustable import Cut, Parts, PartsRecipe, parts_of
from napari_em_seg.pipeline.agglomeration import Fragments, agglomerated
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.sample import generate
from napari_em_seg.segment import hmin_watershed

SIZE = (30.0, 6.0, 6.0)
FRAGMENTS = Fragments(size_threshold=20, crumbs=10)


@pytest.fixture(scope="module")
def affinities() -> np.ndarray:
    right = affinity_labels(generate((6, 96, 96), 1).labels)[0].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.2, right.shape)
    return np.rint(255 * np.clip(0.15 + 0.7 * right + noise, 0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def boundary(affinities: np.ndarray) -> np.ndarray:
    return 255 - affinities[1:].min(0)


@pytest.fixture(scope="module")
def basins(boundary: np.ndarray) -> Parts:
    return parts_of(PredictedMaps(boundary))


@pytest.fixture(scope="module")
def merged(affinities: np.ndarray) -> Parts:
    return parts_of(PredictedMaps(affinities), PartsRecipe("zwatershed", fragments=FRAGMENTS))


def is_same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack((a.ravel(), b.ravel())), axis=1)
    return all(len(np.unique(row)) == pairs.shape[1] for row in pairs)


@pytest.mark.parametrize("mode", ["3d", "2d"])
@pytest.mark.parametrize("h", [0.0, 0.05, 0.3])
def test_a_depth_gives_the_watershed_of_that_depth(boundary: np.ndarray, mode: str, h: float) -> None:
    parts = parts_of(PredictedMaps(boundary), PartsRecipe(f"hmin-{mode}", sigma=1.5))
    assert is_same_partition(parts.at(Cut(h))[:], hmin_watershed(boundary, h, sigma=1.5, mode=mode))


@pytest.mark.parametrize("score", ["mean", "quantile"])
def test_a_threshold_gives_the_agglomeration_up_to_there(affinities: np.ndarray, score: str) -> None:
    recipe = PartsRecipe("zwatershed", score=score, quantile=0.75, fragments=FRAGMENTS)
    parts = parts_of(PredictedMaps(affinities), recipe, voxel_size_nm=SIZE)
    labels, tree = agglomerated(affinities, score, FRAGMENTS, quantile=0.75, voxel_size_nm=SIZE)
    assert (parts.at(Cut(0.4))[:] == tree.apply(labels, 0.4)).all()
    assert 1 < parts.at(Cut(0.4)).n_segments < len(tree.labels)


def test_without_agglomeration_there_are_supervoxels(affinities: np.ndarray) -> None:
    parts = parts_of(PredictedMaps(affinities), PartsRecipe("zwatershed", score="none", fragments=FRAGMENTS))
    assert (parts.at(Cut(0.9))[:] == FRAGMENTS.of(affinities)).all()


def test_affinities_have_boundaries_and_boundaries_affinities(
    affinities: np.ndarray, boundary: np.ndarray
) -> None:
    of_affinities = parts_of(PredictedMaps(affinities), PartsRecipe("hmin-3d"))
    assert is_same_partition(of_affinities.at(Cut(0.1))[:], hmin_watershed(boundary, 0.1))
    of_boundary = parts_of(PredictedMaps(boundary), PartsRecipe("zwatershed", fragments=FRAGMENTS))
    derived = PredictedMaps(boundary).affinities()
    assert (of_boundary.at(Cut(0.0))[:] == FRAGMENTS.of(derived)).all()


@pytest.mark.parametrize("name", ["basins", "merged"])
def test_sizes_and_names(name: str, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(name)
    fine, coarse = parts.at(Cut(0.05)), parts.at(Cut(0.3))
    assert (np.bincount(coarse[:].ravel(), minlength=len(coarse.sizes)) == coarse.sizes).all()
    assert coarse.n_segments == len(np.unique(coarse[:][coarse[:] > 0])) < fine.n_segments
    kept = np.unique(coarse[:])
    assert np.isin(kept, fine[:]).all()  # a segment that grows keeps its name
    assert (fine.whole() == fine[:]).all()
    assert (np.asarray(fine) == fine[:]).all()


@pytest.mark.parametrize("name", ["basins", "merged"])
def test_small_ones_are_removed(name: str, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(name)
    all_, large = parts.at(Cut(0.05))[:], parts.at(Cut(0.05, 300, is_joining=False))[:]
    sizes = np.bincount(all_.ravel())
    assert (large == np.where(sizes[all_] < 300, 0, all_)).all()
    assert (large == 0).any()
    assert large.any()


@pytest.mark.parametrize("name", ["basins", "merged"])
def test_small_ones_join_neighbours(name: str, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(name)
    cut = parts.at(Cut(0.05, 300))
    assert cut.sizes[1:][cut.sizes[1:] > 0].min() >= 300
    before = parts.at(Cut(0.05))
    pairs = np.unique(np.stack((before[:].ravel(), cut[:].ravel())), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]  # nothing is divided
    for label in np.unique(cut[:][cut[:] > 0]):
        assert (
            before.sizes[pairs[0][pairs[1] == label]] >= 300
        ).sum() <= 1  # nothing large joins something large


def test_a_small_one_joins_across_the_weakest_boundary() -> None:
    boundary = np.full((1, 8, 30), 255, np.uint8)
    boundary[0, :, :12] = boundary[0, :, 13:15] = boundary[0, :, 16:] = 0
    boundary[0, :, 12], boundary[0, :, 15] = 200, 120
    parts = parts_of(PredictedMaps(boundary), PartsRecipe(sigma=0))
    assert parts.at(Cut(0.1)).n_segments == 3
    found = parts.at(Cut(0.1, 40))[0]
    assert found[0, 0] != found[0, 13] == found[0, 29]


def test_another_agglomeration_uses_the_supervoxels_again(affinities: np.ndarray, merged: Parts) -> None:
    recipe = PartsRecipe("zwatershed", score="quantile", fragments=FRAGMENTS)
    again = parts_of(PredictedMaps(affinities), recipe, before=merged)
    fresh = parts_of(PredictedMaps(affinities), recipe)
    assert again.labels is merged.labels
    assert (again.at(Cut(0.4))[:] == fresh.at(Cut(0.4))[:]).all()
    other = parts_of(PredictedMaps(affinities), PartsRecipe("zwatershed", score="quantile"), before=merged)
    assert other.labels is not merged.labels


def test_the_learned_score_needs_the_voxel_size(affinities: np.ndarray) -> None:
    recipe = PartsRecipe("zwatershed", score="learned", fragments=FRAGMENTS)
    with pytest.raises(DataError, match="voxel size"):
        parts_of(PredictedMaps(affinities), recipe)
    parts = parts_of(PredictedMaps(affinities), recipe, voxel_size_nm=SIZE)
    assert parts.at(Cut(0.9)).n_segments < parts.at(Cut(0.0)).n_segments


@pytest.mark.parametrize("method", ["hmin-3d", "zwatershed"])
def test_progress_rises_to_the_end_and_cancelling_is_heard(affinities: np.ndarray, method: str) -> None:
    steps: list[float] = []
    recipe = PartsRecipe(method, fragments=FRAGMENTS)
    parts_of(PredictedMaps(affinities), recipe, progress=lambda done, n: steps.append(done / n))
    assert steps == sorted(steps)
    assert steps[-1] == 1
    with pytest.raises(Cancelled):
        parts_of(PredictedMaps(affinities), recipe, cancelled=lambda: True)


def test_copying_can_be_cancelled(basins: Parts) -> None:
    with pytest.raises(Cancelled):
        basins.at(Cut(0.1)).whole(cancelled=lambda: True)
