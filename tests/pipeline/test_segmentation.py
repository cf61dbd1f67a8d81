"""Segmenting a boundary map into a file: at a depth, or at the best one for a truth."""

import numpy as np
import pytest

from napari_em_seg.errors import DataError, EmSegError, TargetExistsError
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline import segment_to_file
from napari_em_seg.pipeline.segmentation import DEPTHS, segmentation_scores
from napari_em_seg.segment import hmin_watershed
from napari_em_seg.volume import Volume


@pytest.fixture(scope="module")
def boundary(small_tissue) -> np.ndarray:
    """A map that is right, but for noise."""
    noise = np.random.default_rng(0).uniform(0, 0.4, small_tissue.labels.shape)
    return np.clip((small_tissue.labels[:] == 0) * 0.7 + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(small_tissue, boundary, tmp_path_factory):
    """Map, truth and a mask as files."""
    path = tmp_path_factory.mktemp("maps")
    write_volume(Volume(boundary, (30, 6, 6), "boundary"), path / "boundary.h5")
    write_volume(Volume(np.rint(boundary * 255).astype(np.uint8), (30, 6, 6)), path / "coarse.tif")
    write_volume(small_tissue.labels, path / "truth.h5")
    mask = np.zeros(boundary.shape, np.uint8)
    mask[:, 8:56, 4:60] = 255
    write_volume(Volume(mask, kind="labels"), path / "mask.tif")
    return path


def segment(folder, out, source="boundary.h5", **options):
    for name in ("truth", "mask"):
        if name in options:
            options[name] = str(folder / options[name])
    found = segment_to_file(str(folder / source), str(out), **options)
    return found, open_volume(out, "labels")


@pytest.mark.parametrize("target", ["out.zarr", "out.h5/volumes/labels/segments", "out.tif"])
def test_a_map_is_segmented_at_a_depth(folder, boundary, target, tmp_path) -> None:
    found, labels = segment(folder, tmp_path / target, h=0.1)
    expected = hmin_watershed(boundary, 0.1)
    np.testing.assert_array_equal(labels[:], expected)
    assert (found.h, found.n_segments, dict(found.scores)) == (0.1, expected.max(), {})
    assert labels.voxel_size_nm == (30, 6, 6)
    assert labels.kind == "labels"
    assert labels.dtype == expected.dtype


def test_a_map_of_bytes_is_a_map_as_well(folder, boundary, tmp_path) -> None:
    _, labels = segment(folder, tmp_path / "out.tif", "coarse.tif", h=0.1)
    np.testing.assert_array_equal(labels[:], hmin_watershed(np.rint(boundary * 255).astype(np.uint8), 0.1))


def test_the_best_depth_for_a_truth_is_found(folder, small_tissue, tmp_path) -> None:
    found, labels = segment(folder, tmp_path / "out.h5", truth="truth.h5")
    errors = {h: scores.adapted_rand_error for h, scores in found.scores.items()}
    assert tuple(errors) == DEPTHS
    assert found.h == min(DEPTHS, key=lambda h: errors[h])
    measured = evaluate(contingency(labels, small_tissue.labels))
    assert measured.adapted_rand_error == pytest.approx(errors[found.h])
    assert found.n_segments == len(np.unique(labels[:]))


@pytest.mark.parametrize("options", [{}, {"h": 0.1, "truth": "truth.h5"}])
def test_either_a_depth_or_a_truth_is_given(folder, options, tmp_path) -> None:
    with pytest.raises(DataError, match="--h, or --truth"):
        segment(folder, tmp_path / "out.h5", **options)
    assert not list(tmp_path.iterdir())


def test_slices_by_themselves_share_no_label(folder, boundary, tmp_path) -> None:
    _, labels = segment(folder, tmp_path / "out.h5", h=0.1, mode="2d")
    seen: set[int] = set()
    for plane in labels[:]:
        here = set(np.unique(plane).tolist())
        assert not here & seen
        seen |= here
    np.testing.assert_array_equal(labels[:], hmin_watershed(boundary, 0.1, mode="2d"))


@pytest.mark.parametrize("mode", ["3d", "2d"])
@pytest.mark.parametrize("options", [{"h": 0.1}, {"truth": "truth.h5"}])
def test_nothing_is_outside_the_mask(folder, boundary, mode, options, tmp_path) -> None:
    """A mask in a file holds numbers, of which any but 0 means tissue."""
    inside = open_volume(folder / "mask.tif")[:] != 0
    found, labels = segment(folder, tmp_path / "out.h5", mask="mask.tif", mode=mode, **options)
    assert not labels[:][~inside].any()
    assert labels[:][inside].all()
    np.testing.assert_array_equal(labels[:], hmin_watershed(boundary, found.h, mask=inside, mode=mode))


def test_more_smoothing_gives_other_segments(folder, boundary, tmp_path) -> None:
    _, labels = segment(folder, tmp_path / "out.h5", h=0.1, sigma=0.0)
    np.testing.assert_array_equal(labels[:], hmin_watershed(boundary, 0.1, sigma=0.0))
    assert not np.array_equal(labels[:], hmin_watershed(boundary, 0.1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"h": -0.1}, "depth h is -0.1"),
        ({"h": 1.0}, "depth h is 1.0"),
        ({"h": float("nan")}, "depth h is nan"),
        ({"h": 0.1, "sigma": -1.0}, "Sigma is -1.0"),
        ({"h": 0.1, "source": "no.h5"}, "no.h5"),
        ({"h": 0.1, "mask": "no.tif"}, "no.tif"),
        ({"truth": "no.tif"}, "no.tif"),
        ({"h": 0.1, "source": "truth.h5"}, "uint32"),
        ({"h": 0.1, "mask": "small.tif"}, "4×64×64"),
        ({"truth": "small.tif"}, "(4, 64, 64)"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(folder, options, said, tmp_path) -> None:
    if not (folder / "small.tif").exists():
        write_volume(Volume(np.ones((4, 64, 64), np.uint8), kind="labels"), folder / "small.tif")
    with pytest.raises(EmSegError) as caught:
        segment(folder, tmp_path / "out.h5", **options)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_there_is_refused_before_the_work(folder, tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("segmented")

    monkeypatch.setattr("napari_em_seg.pipeline.segmentation.hmin_watershed", refuse)
    (tmp_path / "out.tif").write_text("precious")
    with pytest.raises(TargetExistsError):
        segment(folder, tmp_path / "out.tif", h=0.1)
    assert (tmp_path / "out.tif").read_text() == "precious"
    with pytest.raises(EmSegError, match="does not exist"):
        segment(folder, tmp_path / "nowhere" / "out.tif", h=0.1)


def test_one_depth_is_chosen_for_all_maps(small_tissue, boundary) -> None:
    """Else a network would be judged by depths that nobody could choose."""
    truth = small_tissue.labels[:]
    maps, truths = [boundary, boundary[:4] * 0.3], [truth, truth[:4]]
    found = segmentation_scores(maps, truths, is_flat=False)
    errors = {
        h: np.mean(
            [
                evaluate(contingency(hmin_watershed(m, h), t)).adapted_rand_error
                for m, t in zip(maps, truths, strict=True)
            ]
        )
        for h in DEPTHS
    }
    assert found["h"] == min(DEPTHS, key=lambda h: errors[h])
    assert found["score"] == found["adapted_rand_error"] == pytest.approx(errors[found["h"]])
    assert {"vi_split", "vi_merge"} <= set(found)
