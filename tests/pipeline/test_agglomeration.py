"""From three maps of affinities to objects: read lazily, cut anywhere, learned where wanted."""

from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import DataError, EmSegError, FormatError, TargetExistsError
from napari_em_seg.io import open_volume, write_volumes
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.affinity_maps import open_affinities
from napari_em_seg.pipeline.agglomeration import (
    AffinityPart,
    Fragments,
    agglomerated,
    scores_of_tree,
    segment_affinities_to_file,
    train_agglomeration,
)
from napari_em_seg.pipeline.blocks import Blocks
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.sample import generate
from napari_em_seg.segment._forest import load_forest
from napari_em_seg.segment.merge_tree import MergeTree
from napari_em_seg.volume import Volume


def noisy(truth: np.ndarray, seed: int) -> np.ndarray:
    """Affinities of the truth, of which many are far off."""
    right = affinity_labels(truth)[0].astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 0.2, right.shape)
    return np.clip(0.15 + 0.7 * right + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return generate((6, 96, 96), 1).labels


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray) -> str:
    """A container as predict leaves it."""
    path = tmp_path_factory.mktemp("affinities") / "maps.zarr"
    found = np.rint(255 * noisy(truth, 0)).astype(np.uint8)
    volumes = {place: Volume(found[c], (30, 6, 6), place) for c, place in enumerate(AFFINITY_MAPS)}
    write_volumes(volumes, path)
    write_volumes({"labels": Volume(truth, (30, 6, 6), "labels", kind="labels")}, path.with_name("truth.zarr"))
    return str(path)


def truth_of(maps: str) -> str:
    return f"{Path(maps).with_name('truth.zarr')}/labels"


def test_three_maps_read_as_one_array(maps: str) -> None:
    whole = np.stack([open_volume(f"{maps}/{place}")[:] for place in AFFINITY_MAPS])
    found, part = open_affinities(maps), open_affinities(maps, slice(2, 5))
    assert found.shape == whole.shape
    assert part.shape == (3, 3, *whole.shape[2:])
    np.testing.assert_array_equal(found[:], whole)
    np.testing.assert_array_equal(found[1, 2:4, 5:9], whole[1, 2:4, 5:9])
    np.testing.assert_array_equal(part[0:2, 1, :, 3], whole[0:2, 3, :, 3])
    np.testing.assert_array_equal(part[2, -1], whole[2, 4])


def test_maps_that_do_not_fit_are_refused(tmp_path: Path, maps: str) -> None:
    with pytest.raises(FormatError, match="nothing at affinities/z"):
        open_affinities(truth_of(maps).removesuffix("/labels"))
    one, other = np.zeros((2, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    odd = {place: Volume(other if place.endswith("y") else one) for place in AFFINITY_MAPS}
    write_volumes(odd, tmp_path / "odd.zarr")
    with pytest.raises(DataError, match="three maps of one shape"):
        open_affinities(str(tmp_path / "odd.zarr"))


@pytest.mark.parametrize("score", ["mean", "quantile"])
def test_the_best_threshold_is_found_and_written(
    maps: str, tmp_path: Path, truth: np.ndarray, score: str
) -> None:
    out, tree = str(tmp_path / "segments.zarr"), tmp_path / "tree.npz"
    made = segment_affinities_to_file(maps, out, score=score, truth=truth_of(maps), tree_file=tree)  # type: ignore[arg-type]
    errors = {t: scores.adapted_rand_error for t, scores in made.scores.items()}
    assert errors[made.threshold] == min(errors.values()) < 0.1
    written = open_volume(out, "labels")
    assert written.voxel_size_nm == (30, 6, 6)
    assert len(np.unique(written[:])) == made.n_segments + bool((written[:] == 0).any())
    scores = evaluate(contingency(written[:], truth))
    assert scores.adapted_rand_error == pytest.approx(errors[made.threshold])
    # the tree that was kept gives any other threshold without a look at the affinities
    labels, again = agglomerated(open_affinities(maps), score, voxel_size_nm=(30, 6, 6))  # type: ignore[arg-type]
    kept = MergeTree.load(tree)
    for t in (0.0, 0.3, 0.9):
        np.testing.assert_array_equal(kept.apply(labels, t), again.apply(labels, t))


def test_a_given_threshold_is_used(maps: str, tmp_path: Path) -> None:
    few, many = (
        segment_affinities_to_file(maps, str(tmp_path / f"{t}.zarr"), threshold=t).n_segments
        for t in (0.9, 0.1)
    )
    assert few < many


def test_a_forest_learns_from_truth_and_is_used(maps: str, tmp_path: Path) -> None:
    """On tissue it has not seen it is not worse than the mean."""
    parts = []
    for seed in (5, 6):
        other = generate((6, 96, 96), seed).labels
        parts.append(AffinityPart(noisy(other, seed), other, (30, 6, 6)))
    out = tmp_path / "forest.npz"
    train_agglomeration(out, parts, rounds=2, card={"licence": "ours"})
    assert load_forest(out).card["licence"] == "ours"
    with pytest.raises(TargetExistsError):
        train_agglomeration(out, parts)
    errors = {}
    for score, forest in (("mean", None), ("learned", out)):
        made = segment_affinities_to_file(
            maps, str(tmp_path / f"{score}.zarr"), score=score, forest=forest, truth=truth_of(maps)  # type: ignore[arg-type]
        )  # fmt: skip
        errors[score] = made.scores[made.threshold].adapted_rand_error
    assert errors["learned"] <= errors["mean"] + 0.02


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Neither a threshold nor a truth"),
        ({"threshold": 0.5, "truth": "truth.zarr"}, "Both a threshold and a truth"),
        ({"threshold": 0.5, "score": "learned"}, "No forest"),
        ({"threshold": 0.5, "blocks": Blocks((0, 8, 8))}, "blocks are"),
        ({"threshold": 0.5, "blocks": Blocks((4, 8, 8), (5, 0, 0))}, "overlap of"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    maps: str, tmp_path: Path, options: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_em_seg.segment.forests.bundled_folder", lambda: tmp_path / "nothing")
    with pytest.raises(EmSegError, match=said):
        segment_affinities_to_file(maps, str(tmp_path / "out.zarr"), **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_forest_that_came_along_is_used_unless_one_is_given(
    maps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_em_seg.segment.forests.bundled_folder", lambda: tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    other = generate((6, 96, 96), 5).labels
    parts = [AffinityPart(noisy(other, 5), other, (30, 6, 6))]
    train_agglomeration(tmp_path / "bundled" / "one.npz", parts, rounds=1)
    train_agglomeration(tmp_path / "two.npz", parts, rounds=1, seed=9)
    trees = []
    for forest in (None, tmp_path / "bundled" / "one.npz", tmp_path / "two.npz"):
        kept = tmp_path / f"{len(trees)}.npz"
        segment_affinities_to_file(
            maps, str(tmp_path / f"{len(trees)}.zarr"), score="learned", forest=forest, threshold=0.5,
            tree_file=kept,
        )  # fmt: skip
        trees.append(MergeTree.load(kept).score.tolist())
    assert trees[0] == trees[1] != trees[2]


def test_a_forest_of_other_voxels_is_refused(maps: str, tmp_path: Path) -> None:
    other = generate((6, 96, 96), 5).labels
    train_agglomeration(tmp_path / "f.npz", [AffinityPart(noisy(other, 5), other, (30, 12, 12))], rounds=1)
    with pytest.raises(DataError, match="30 × 12 × 12 nm, and those of the affinities are 30 × 6 × 6"):
        segment_affinities_to_file(
            maps, str(tmp_path / "out.zarr"), score="learned", forest=tmp_path / "f.npz", threshold=0.5
        )


@pytest.mark.parametrize("crumbs", [0, 30])
def test_crumbs_join_others_and_nothing_else_does(truth: np.ndarray, crumbs: int) -> None:
    affinities = noisy(truth, 4)
    plain = Fragments(crumbs=0).of(affinities)
    found = Fragments(crumbs=crumbs).of(affinities)
    sizes = np.bincount(plain.ravel())
    if not crumbs:
        np.testing.assert_array_equal(found, plain)
        assert (sizes[1:] < 30).any()
        return
    assert ((found == 0) == (plain == 0)).all()
    pairs = np.unique(np.stack((plain.ravel(), found.ravel())), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]  # nothing was cut
    whole = [pair[1] for pair in pairs.T if sizes[pair[0]] >= crumbs]
    assert len(set(whole)) == len(whole)  # no two that are both larger became one
    assert np.bincount(found.ravel())[1:].min() >= crumbs


def test_dust_is_what_is_left_of_crumbs() -> None:
    affinities = np.zeros((3, 1, 1, 8), np.float32)
    affinities[2, 0, 0, :] = (0, 1, 1, 1, 1, 0, 1, 1)
    affinities[2, 0, 0, 5] = 0.1
    one = Fragments(low=0.2, size_threshold=0, crumbs=4)
    assert one.of(affinities).tolist() == [[[1] * 8]]
    two = Fragments(low=0.2, size_threshold=0, crumbs=0, dust=4)
    assert two.of(affinities).tolist() == [[[1] * 5 + [0] * 3]]
    apart = Fragments(low=0.2, size_threshold=0, crumbs=2, dust=4)
    assert apart.of(affinities).tolist() == [[[1] * 5 + [0] * 3]]


def test_one_block_is_the_whole(maps: str, tmp_path: Path) -> None:
    trees = []
    for blocks in (None, Blocks((6, 96, 96), folder=tmp_path / "blocks")):
        kept, out = tmp_path / f"{len(trees)}.npz", str(tmp_path / f"{len(trees)}.zarr")
        segment_affinities_to_file(maps, out, threshold=0.5, blocks=blocks, tree_file=kept)
        trees.append(MergeTree.load(kept))
    np.testing.assert_array_equal(*(open_volume(tmp_path / f"{i}.zarr", "labels")[:] for i in (0, 1)))
    np.testing.assert_array_equal(trees[0].score, trees[1].score)


def test_blocks_are_kept_for_another_threshold(
    maps: str, tmp_path: Path, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Blocks((3, 48, 48), folder=tmp_path / "blocks")
    made = segment_affinities_to_file(maps, str(tmp_path / "0.zarr"), truth=truth_of(maps), blocks=blocks)
    assert min(scores.adapted_rand_error for scores in made.scores.values()) < 0.1
    monkeypatch.setattr(Fragments, "of", None)  # nothing is made again
    again = segment_affinities_to_file(
        maps, str(tmp_path / "1.zarr"), threshold=made.threshold, score="quantile", blocks=blocks
    )
    assert again.n_segments > 1
    written = open_volume(tmp_path / "0.zarr", "labels")[:]
    scores = evaluate(contingency(written, truth))
    assert scores.adapted_rand_error == made.scores[made.threshold].adapted_rand_error
    assert {path.name.partition("-")[0] for path in (tmp_path / "blocks").iterdir()} == {
        "about.json", "graph", "names.npz", "supervoxels"
    }  # fmt: skip


def test_a_folder_for_blocks_that_cannot_be_is_told(maps: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EmSegError, match="cannot be used"):
        segment_affinities_to_file(
            maps, str(tmp_path / "o.zarr"), threshold=0.5, blocks=Blocks((3, 48, 48), folder=tmp_path / "file")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_replaced_unasked(maps: str, tmp_path: Path, truth: np.ndarray) -> None:
    out, tree = tmp_path / "out.zarr", tmp_path / "tree.npz"
    tree.write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="tree"):
        segment_affinities_to_file(maps, str(out), threshold=0.5, tree_file=tree)
    assert tree.read_bytes() == b"mine"
    assert not out.exists()


def test_scores_of_every_threshold_are_those_of_the_labels_cut_there(truth: np.ndarray) -> None:
    labels, tree = agglomerated(noisy(truth, 3))
    for t, scores in scores_of_tree(labels, tree, truth).items():
        assert scores == evaluate(contingency(tree.apply(labels, t), truth))
