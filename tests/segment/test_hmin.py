"""The H-minima watershed: known basins, the same as scikit-image's chain, nested, and tight through shifts."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from napari_em_seg.errors import DataError
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.segment import hmin
from napari_em_seg.segment.hmin import Basins, basins, best_h, hmin_watershed

CROSS = ndimage.generate_binary_structure(3, 1)
FLAT = CROSS.copy()
FLAT[[0, 2]] = False

Map = NDArray[np.float32]


def line(*heights: float) -> Map:
    """Return a map of one row."""
    return np.array(heights, np.float32)[None, None]


def smooth_map(seed: int, shape: tuple[int, int, int] = (6, 64, 64), sigma: float = 3.0) -> Map:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.7, sigma, sigma))
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


def chain(boundary: Map, h: float, sigma: float = 1.0) -> NDArray[Any]:
    """Return what scikit-image makes of it."""
    smooth = ndimage.gaussian_filter(boundary, (0, sigma, sigma))
    markers, _ = ndimage.label(h_minima(smooth, h, CROSS), CROSS)
    return watershed(smooth, markers, CROSS)


def information(one: NDArray[Any], two: NDArray[Any]) -> float:
    return evaluate(contingency(one.astype(np.uint32), two.astype(np.uint32))).vi


def canonical(labels: NDArray[Any]) -> NDArray[Any]:
    """Number labels in the order in which they are met."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].reshape(labels.shape)


def is_refinement(fine: NDArray[Any], coarse: NDArray[Any]) -> bool:
    pairs = np.unique(np.stack((fine.ravel(), coarse.ravel())), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1]


def assert_tiles(labels: NDArray[Any], structure: NDArray[np.bool_]) -> None:
    """Labels are 1 to n, everywhere, and each is one piece."""
    assert labels.dtype == np.uint32
    assert (np.unique(labels) == np.arange(1, labels.max() + 1)).all()
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        assert ndimage.label(labels[box] == i, structure)[1] == 1


def brute_dynamics(heights: NDArray[np.int64], structure: NDArray[np.bool_]) -> list[int]:
    """Return the depth of every minimum by raising the water level by level; equal minima: the first stays."""
    found, alive = [], {}
    for level in np.unique(heights):
        pools, n = ndimage.label(heights <= level, structure)
        for pool in range(1, n + 1):
            inside = pools == pool
            minima = sorted((depth, v) for v, depth in alive.items() if inside.flat[v])
            if not minima:
                alive[int(np.flatnonzero(inside)[0])] = int(level)
            for depth, v in minima[1:]:
                found.append(int(level) - depth)
                del alive[v]
    return sorted(found)


def test_one_row_merges_at_known_depths() -> None:
    row = line(0.1, 0.5, 0.3, 0.9, 0.0, 0.2, 0.15, 1.0)  # minima .1 .3 .0 .15; passes .5 .9 .2
    found = basins(row, sigma=0)
    assert np.allclose(found.minima, (0.1, 0.3, 0.0, 0.15), atol=1e-4)
    assert np.allclose(found.saddles, (0.2, 0.5, 0.9), atol=1e-4)
    assert np.allclose(found.dynamics, (0.05, 0.2, 0.8), atol=1e-4)
    assert (found.edges == [[3, 4], [1, 2], [2, 3]]).all()
    assert found.at(0.0).ravel().tolist() == [1, 1, 2, 3, 3, 3, 4, 4]
    assert found.at(0.06).ravel().tolist() == [1, 1, 2, 3, 3, 3, 3, 3]
    assert found.at(0.21).ravel().tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert found.at(0.81).ravel().tolist() == [1] * 8


def test_a_minimum_exactly_h_deep_stays() -> None:
    row = line(0.0, 0.5, 0.25, 1.0)  # multiples of 0.05 are kept exactly
    assert basins(row, sigma=0).at(0.25).max() == 2
    assert basins(row, sigma=0).at(0.2501).max() == 1


def test_of_two_equal_minima_one_stays() -> None:
    row = line(0.2, 0.4, 0.2, 1.0, 0.2)
    assert basins(row, sigma=0).at(0.3).max() == 2
    assert basins(row, sigma=0).at(0.9).max() == 1


def test_a_shallow_basin_follows_its_lowest_pass_not_the_deeper_neighbour() -> None:
    found = basins(line(0.0, 0.9, 0.6, 0.7, 0.3, 0.95), sigma=0)
    assert found.at(0.15).ravel().tolist() == [1, 1, 2, 2, 2, 2]


def test_a_cross_of_walls_makes_four_rooms_and_a_door_joins_two() -> None:
    plane = np.zeros((1, 9, 9), np.float32)
    plane[0, 4], plane[0, :, 4] = 0.8, 0.8
    rooms = basins(plane, sigma=0)
    assert len(rooms.minima) == 4
    assert len(np.unique(rooms.at(0.7)[0, [0, 0, 8, 8], [0, 8, 0, 8]])) == 4
    plane[0, 2, 4] = 0.3
    labels = hmin_watershed(plane, 0.5, sigma=0)
    assert labels[0, 0, 0] == labels[0, 0, 8]
    assert len(np.unique(labels)) == 3


def test_slices_are_joined_in_3d_and_not_in_2d() -> None:
    stack = np.zeros((3, 5, 5), np.float32)
    assert hmin_watershed(stack, 0.1).max() == 1
    assert [np.unique(plane).tolist() for plane in hmin_watershed(stack, 0.1, mode="2d")] == [[1], [2], [3]]


def test_corners_do_not_join() -> None:
    stack = np.ones((2, 2, 2), np.float32)
    stack[0, 0, 0] = stack[1, 1, 1] = stack[0, 1, 1] = 0
    assert basins(stack, sigma=0).at(0.5).max() == 2


def test_level_ground_goes_to_the_nearest_way_down() -> None:
    row = line(0.0, *[0.5] * 7, 0.1)
    assert basins(row, sigma=0).labels.ravel().tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_level_minimum_is_one_basin_however_winding() -> None:
    plane = np.ones((1, 11, 11), np.float32)
    plane[0, ::2] = 0.25
    plane[0, 1::4, -1] = plane[0, 3::4, 0] = 0.25
    assert len(basins(plane, sigma=0).minima) == 1


@pytest.mark.parametrize("mode", ["2d", "3d"])
@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_a_constant_map_has_one_label_per_volume_or_slice(mode: hmin.Mode, value: float) -> None:
    labels = hmin_watershed(np.full((2, 7, 5), value, np.float32), 0.0, mode=mode)
    assert labels.max() == (1 if mode == "3d" else 2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (9, 1, 1), (20, 3, 2)])
def test_thin_volumes(shape: tuple[int, int, int]) -> None:
    boundary = np.random.default_rng(1).random(shape, np.float32)
    assert_tiles(hmin_watershed(boundary, 0.0), CROSS)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 9)))
def test_depths_are_those_of_rising_water(heights: NDArray[np.uint8]) -> None:
    for mode, structure in (("3d", CROSS), ("2d", FLAT)):
        found = basins(heights * np.uint8(20), sigma=0, mode=mode, drift=None)
        expected = brute_dynamics(heights.astype(np.int64), structure)
        assert sorted(np.rint(found.dynamics * 255 / 20).astype(int)) == expected
        for h in (0.0, 0.2, 0.5):
            n = 1 + sum(depth * 20 / 255 >= h for depth in expected) + (mode == "2d") * (len(heights) - 1)
            assert found.at(h).max() == n


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8), elements=st.integers(0, 5)),
    st.sampled_from(["3d", "2d"]),
)
def test_labels_tile_the_volume_and_are_nested(heights: NDArray[np.uint8], mode: hmin.Mode) -> None:
    found = basins(heights * np.uint8(51), sigma=0, mode=mode, drift=None)
    results = [found.at(h) for h in (0.0, 0.1, 0.3, 0.5, 0.7, 0.99)]
    for labels in results:
        assert_tiles(labels, CROSS if mode == "3d" else FLAT)
    for fine, coarse in pairwise(results):
        assert is_refinement(fine, coarse)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_same_minima_as_scikit_image_where_no_heights_are_equal(seed: int) -> None:
    """Distinct heights leave no ties: both keep the same minima and part them the same way."""
    heights = np.random.default_rng(seed).permutation(250).astype(np.uint8)[None, None, :60]
    for h in (5, 20, 60):
        ours = basins(heights, sigma=0).at((h - 0.5) / 255)
        reference = chain(heights.astype(np.int32), h, 0)  # type: ignore[arg-type]
        assert ours.max() == reference.max()
        markers = h_minima(heights.astype(np.int32), h, CROSS) > 0
        assert (canonical(ours[markers]) == canonical(reference[markers])).all()
        assert information(ours, reference) < 0.4  # only the tops of passes are left to taste


@pytest.mark.parametrize("h", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_scikit_image_on_smooth_maps(seed: int, h: float) -> None:
    boundary = smooth_map(seed)
    ours, reference = hmin_watershed(boundary, h, drift=None), chain(boundary, h)
    assert ours.max() == reference.max()
    assert information(ours, reference) < 0.06


def test_every_depth_from_one_flooding_is_the_flooding_at_that_depth() -> None:
    boundary = smooth_map(3)
    found = basins(boundary)
    for h in (0.0, 0.03, 0.2):
        assert (found.at(h) == hmin_watershed(boundary, h)).all()


def test_bytes_and_floats_agree() -> None:
    whole = np.rint(smooth_map(4) * 255).astype(np.uint8)
    expected = hmin_watershed(whole, 0.05)
    for dtype in (np.float32, np.float64):
        as_floats = (whole.astype(np.float32) / np.float32(255)).astype(dtype)
        assert (hmin_watershed(as_floats, 0.05) == expected).all()
    half = hmin_watershed((whole / 255).astype(np.float16), 0.05)
    assert information(half, expected) < 0.1


def test_reads_slice_by_slice() -> None:
    class Lazy:
        """Refuses to be read as a whole."""

        shape, dtype = (6, 64, 64), np.dtype(np.float32)

        def __getitem__(self, key: Any) -> Any:
            assert isinstance(key, int)
            return smooth_map(5)[key]

    assert (hmin_watershed(Lazy(), 0.05) == hmin_watershed(smooth_map(5), 0.05)).all()


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    boundary = np.rint(smooth_map(6, (20, 48, 48), 2.0) * 24).astype(np.float32) / 24  # many ties
    expected = {mode: basins(boundary, sigma=0, mode=mode) for mode in ("3d", "2d")}
    for n in (1, 5):
        monkeypatch.setattr(hmin, "_threads", lambda n=n: n)
        for mode, found in expected.items():
            again: Basins = basins(boundary, sigma=0, mode=mode)  # type: ignore[arg-type]
            for name in ("labels", "edges", "saddles", "dynamics", "minima"):
                assert (getattr(again, name) == getattr(found, name)).all()


def test_outside_the_mask_nothing_passes() -> None:
    boundary = np.zeros((3, 8, 9), np.float32)
    mask = np.ones(boundary.shape, np.bool_)
    mask[:, :, 4] = False
    for mode, n in (("3d", 2), ("2d", 6)):
        labels = hmin_watershed(boundary, 0.9, mode=mode, mask=mask)  # type: ignore[arg-type]
        assert ((labels > 0) == mask).all()
        assert labels.max() == n
    assert not hmin_watershed(boundary, 0.1, mask=np.zeros_like(mask)).any()


def test_progress_counts_slices() -> None:
    calls: list[tuple[int, int]] = []
    hmin_watershed(smooth_map(7), 0.1, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (6, 6)


def cells(n_slices: int, pitch: int = 20, wall: int = 4) -> tuple[Map, NDArray[np.uint32]]:
    """Return straight columns with walls between them, no two alike in shape, and their truth (0: wall)."""
    rng = np.random.default_rng(0)
    rows = np.cumsum(rng.integers(pitch - 4, pitch + 5, 7))
    plane, truth = np.zeros((rows[-1], 120), np.float32), np.zeros((rows[-1], 120), np.uint32)
    top = 0
    for i, bottom in enumerate(rows):
        left = 0
        for j, right in enumerate([*np.cumsum(rng.integers(pitch - 4, pitch + 5, 5)), 120]):
            truth[top : bottom - wall, left : right - wall] = 1 + 10 * i + j
            left = right
        top = bottom
    plane[truth == 0] = 0.9
    return np.repeat(plane[None], n_slices, 0), np.repeat(truth[None], n_slices, 0)


@pytest.mark.parametrize("step", [(2, 0), (-1, 2), (3, 3)])
def test_a_shift_within_the_width_of_a_wall_does_not_leak(step: tuple[int, int]) -> None:
    """Two cells are at least a wall apart: while the shift is less, no cell lies on another one."""
    boundary, truth = cells(5)
    for stack in (boundary, truth):
        stack[2] = np.roll(stack[2], step, (0, 1))
    for sigma in (0.0, 1.0):
        labels = hmin_watershed(boundary, 0.2, sigma=sigma, drift=None)
        pairs = np.unique(np.stack((labels[[0, 1, 3, 4]][truth[[0, 1, 3, 4]] > 0],
                                    truth[[0, 1, 3, 4]][truth[[0, 1, 3, 4]] > 0])), axis=1)  # fmt: skip
        assert len(np.unique(pairs[0])) == pairs.shape[1]  # no label in two cells


@pytest.mark.parametrize("step", [(9, 0), (-8, 7), (0, -11)])
def test_a_slice_displaced_from_cell_to_cell_is_found_and_does_not_leak(step: tuple[int, int]) -> None:
    """Now cells lie on other cells, with nothing between: plain flooding joins them, ours must not.

    No more may be merged than slice by slice, and each cell stays in one piece across the displaced slice.
    """
    boundary, truth = cells(7)
    for stack in (boundary, truth):
        stack[3] = np.roll(stack[3], step, (0, 1))
    noise = np.random.default_rng(1).random(boundary.shape, np.float32)
    boundary = np.clip(boundary * 0.9 + 0.1 * noise, 0, 1)
    inner = np.zeros(truth.shape, np.bool_)
    inner[:, 12:-12, 12:-12] = True  # what was rolled around the edge does not match

    def scores(**options: Any) -> Any:
        return evaluate(contingency(hmin_watershed(boundary, 0.2, **options), truth, mask=inner))

    plain, found, flat = scores(drift=None), scores(), scores(mode="2d")
    assert plain.vi_merge > 1
    assert found.vi_merge <= flat.vi_merge + 0.01
    assert found.vi_split < 0.1
    assert found.adapted_rand_error < 0.02


def test_straight_and_slowly_drifting_stacks_count_as_not_displaced() -> None:
    boundary = np.stack([np.roll(plane, z, 0) for z, plane in enumerate(cells(6)[0])])
    assert (hmin_watershed(boundary, 0.2) == hmin_watershed(boundary, 0.2, drift=None)).all()


def test_a_given_drift_is_followed() -> None:
    boundary = np.ones((2, 12, 12), np.float32)
    boundary[0, 2:4, 2:4] = boundary[1, 8:10, 7:9] = 0
    for heights in (boundary, boundary[::-1]):
        step = [[6, 5]] if heights is boundary else [[-6, -5]]
        assert len(basins(heights, sigma=0, drift=step).minima) == 1
    assert len(basins(boundary, sigma=0, drift=None).minima) == 2
    assert len(basins(boundary, sigma=0, drift=[[50, -50]]).minima) == 2  # nothing lies opposite


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, 6, 7), elements=st.integers(0, 5)),
    hnp.arrays(np.int64, (3, 2), elements=st.integers(-2, 2)),
)
def test_drift_is_the_same_as_moving_the_slices(heights: NDArray[np.uint8], drift: NDArray[np.int64]) -> None:
    """Moved back into place on a canvas masked elsewhere, the slices have the same basins without drift."""
    offsets = 8 - np.concatenate(([[0, 0]], np.cumsum(drift, axis=0)))
    canvas, mask = np.zeros((4, 24, 24), np.uint8), np.zeros((4, 24, 24), np.bool_)
    for z, (y, x) in enumerate(offsets):
        canvas[z, y : y + 6, x : x + 7], mask[z, y : y + 6, x : x + 7] = heights[z] * np.uint8(51), True
    moved = basins(heights * np.uint8(51), sigma=0, drift=drift)
    placed = basins(canvas, sigma=0, mask=mask, drift=None)
    for h in (0.0, 0.3, 0.7):
        assert (moved.at(h).ravel() == placed.at(h)[mask]).all()


def test_best_h_is_the_best_of_separate_runs() -> None:
    boundary, truth = cells(3)
    rng = np.random.default_rng(2)
    boundary = np.clip(boundary * 0.7 + 0.4 * rng.random(boundary.shape, np.float32), 0, 1)
    candidates = (0.3, 0.0, 0.02, 0.1, 0.6)
    best, scores = best_h(boundary, truth, candidates)
    assert list(scores) == sorted(candidates)
    for h, score in scores.items():
        assert score == evaluate(contingency(hmin_watershed(boundary, h), truth))
    assert scores[best].adapted_rand_error == min(s.adapted_rand_error for s in scores.values())
    assert 0 < best < 0.6


def test_best_h_in_2d_counts_each_slice_on_its_own() -> None:
    boundary, truth = cells(3)
    truth[1] = 0  # a slice without truth does not count
    best, scores = best_h(boundary, truth, (0.0, 0.3), mode="2d", sigma=0)
    assert scores[best].adapted_rand_error == 0
    assert scores[best].n_objects == 2 * len(np.unique(truth[0])) - 2
    with pytest.raises(DataError, match="No voxel"):
        best_h(boundary, truth * 0, (0.1,), mode="2d")


@pytest.mark.parametrize(
    ("boundary", "options", "words"),
    [
        (np.zeros((4, 4)), {}, "shape"),
        (np.zeros((0, 4, 4)), {}, "shape"),
        (np.zeros((2, 4, 4, 1)), {}, "shape"),
        (np.zeros((2, 4, 4), np.int32), {}, "int32"),
        (np.full((2, 4, 4), np.nan), {}, "Slice 0.*NaN"),
        (np.full((2, 4, 4), 2.0), {}, "from 2 to 2"),
        (np.full((2, 4, 4), -0.5), {}, "from -0.5"),
        (np.zeros((2, 4, 4)), {"h": -0.1}, "depth"),
        (np.zeros((2, 4, 4)), {"h": 1.0}, "depth"),
        (np.zeros((2, 4, 4)), {"h": float("nan")}, "depth"),
        (np.zeros((2, 4, 4)), {"sigma": -1.0}, "Sigma"),
        (np.zeros((2, 4, 4)), {"sigma": float("inf")}, "Sigma"),
        (np.zeros((2, 4, 4)), {"mode": "4d"}, "mode"),
        (np.zeros((2, 4, 4)), {"mask": np.ones((2, 4, 3), bool)}, "mask"),
        (np.zeros((2, 4, 4)), {"mask": np.ones((2, 4, 4))}, "mask"),
        (np.zeros((2, 4, 4)), {"drift": "best"}, "drift"),
        (np.zeros((2, 4, 4)), {"drift": [[0.5, 0]]}, "drift"),
        (np.zeros((2, 4, 4)), {"drift": [1, 2, 3]}, "drift"),
    ],
)
def test_what_is_wrong_is_said(boundary: NDArray[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        hmin_watershed(boundary, **{"h": 0.1, **options})


def test_best_h_says_what_is_wrong() -> None:
    boundary, truth = cells(2)
    for candidates, labels in (((), truth), ((0.1, 1.5), truth), ((0.1,), truth[:1])):
        with pytest.raises(DataError):
            best_h(boundary, labels, candidates)
