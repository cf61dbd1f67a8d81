"""Level sets are minimal cuts (against maximum flows), their tree is that of components (against scipy)."""

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse
from scipy.sparse import csgraph

from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.assign.level_sets import (
    component_tree,
    evidence,
    grown,
    level_set_hypotheses,
    level_set_regions,
    level_thresholds,
    minimal_cuts,
    smoothed,
)
from napari_em_seg.errors import DataError
from napari_em_seg.sample import generate

CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))


def pairs_of(shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return all pairs of the 8-neighbourhood, each once, as numbers of pixels (n, 2)."""
    height, width = shape
    number = np.arange(height * width).reshape(shape)
    found = []
    for dy, dx in OFFSETS:
        a = number[: height - dy, max(0, -dx) : width - max(0, dx)]
        b = number[dy:, max(0, dx) : width + min(0, dx)]
        found.append(np.stack((a.ravel(), b.ravel()), 1))
    return np.concatenate(found)


def energy(inside: NDArray[np.bool_], f: NDArray[Any], weight: float, threshold: float) -> float:
    """Return what `minimal_cuts` says that it minimises."""
    pairs, flat = pairs_of(f.shape), inside.ravel()
    cut = np.count_nonzero(flat[pairs[:, 0]] != flat[pairs[:, 1]])
    return float((threshold - f[inside]).sum() + weight * cut)


class Cuts:
    """Minimal cuts by maximum flow; all numbers twice as large, so that thresholds at halves are whole ones."""

    def __init__(self, f: NDArray[np.int64], weight: int) -> None:
        self.f, self.pairs, self.weight = f.ravel(), pairs_of(f.shape), weight

    def at(self, threshold: float) -> tuple[float, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the least energy, and the smallest and the largest set that has it."""
        n = self.f.size
        excess = np.rint(2 * (self.f - threshold)).astype(np.int32)
        rich, poor = np.flatnonzero(excess > 0), np.flatnonzero(excess < 0)
        a, b = self.pairs.T
        rows = np.concatenate((a, b, np.full(len(rich), n), poor))
        columns = np.concatenate((b, a, rich, np.full(len(poor), n + 1)))
        weights = np.full(2 * len(a), 2 * self.weight)
        capacity = np.concatenate((weights, excess[rich], -excess[poor])).astype(np.int32)
        graph = sparse.csr_array((capacity, (rows, columns)), shape=(n + 2, n + 2))
        result = csgraph.maximum_flow(graph, n, n + 1)
        left = sparse.csr_array(graph - result.flow)
        left.data[left.data < 0] = 0
        left.eliminate_zeros()
        smallest, largest = np.zeros(n + 2, bool), np.ones(n + 2, bool)
        smallest[csgraph.breadth_first_order(left, n, return_predecessors=False)] = True
        largest[csgraph.breadth_first_order(left.T.tocsr(), n + 1, return_predecessors=False)] = False
        least = (result.flow_value - excess[rich].sum()) / 2
        return least, smallest[:n], largest[:n]


def image(kind: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return whole numbers of some kind (y, x)."""
    shape = tuple(rng.integers(5, 13, 2))
    noise = rng.standard_normal(shape)
    if kind == "noise":
        return np.rint(300 * noise).astype(np.int64)
    if kind == "blobs":
        smooth = ndimage.gaussian_filter(noise, 1.5)
        return np.rint(300 * smooth / smooth.std() + 20 * rng.standard_normal(shape)).astype(np.int64)
    if kind == "ties":
        return rng.integers(-1, 2, shape)
    if kind == "steps":  # flat halves, and one pixel that is not
        flat = np.where(np.arange(shape[1]) < shape[1] // 2, 8, -8) * np.ones(shape, np.int64)
        flat[shape[0] // 2, 1] = -40
        return flat.astype(np.int64)
    if kind == "checks":
        return np.where(np.indices(shape).sum(0) % 2, 50, -50).astype(np.int64)
    return np.rint(6 * np.indices(shape).sum(0)).astype(np.int64)  # a ramp


WEIGHTS = {
    "noise": (0, 7, 60, 400),
    "blobs": (7, 60, 400),
    "ties": (1, 2),
    "steps": (1, 3),
    "checks": (3, 13),
    "ramp": (1, 9),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_level_sets_are_minimal_cuts(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    n_unique = n = 0
    for weight in WEIGHTS[kind]:
        for _ in range(4):
            f = image(kind, rng)
            low, high = int(f.min()) - 2, int(f.max()) + 2
            thresholds = np.unique(np.rint(np.linspace(low, high, 24))) + 0.5
            rank = minimal_cuts(f.astype(np.float64), weight, thresholds, threads=1)
            cuts = Cuts(f, weight)
            for k, threshold in enumerate(thresholds, 1):
                inside = rank >= k
                least, smallest, largest = cuts.at(threshold)
                assert energy(inside, f, weight, threshold) == least
                assert not (smallest & ~inside.ravel()).any()
                assert not (inside.ravel() & ~largest).any()
                n_unique, n = n_unique + bool((smallest == largest).all()), n + 1
    assert n_unique > 0.5 * n  # so that the sets themselves were compared, too


def test_cuts_are_exact_where_sweeps_are_not() -> None:
    rng = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(rng.standard_normal((48, 48)), 1)
    f = np.rint(1000 * smooth).astype(np.int64) + rng.integers(-50, 51, (48, 48))
    thresholds = np.arange(-300, 300, 20) + 0.5
    excess = {}
    for exact in (True, False):
        rank = minimal_cuts(f / 1024, 100 / 1024, thresholds / 1024, exact=exact)
        cuts = Cuts(f, 100)
        excess[exact] = sum(energy(rank >= k, f, 100, t) - cuts.at(t)[0] for k, t in enumerate(thresholds, 1))
    assert excess[True] == 0
    assert 0 < excess[False] < 0.02 * len(thresholds) * np.abs(f).sum()


def test_thresholds_that_pixels_have_are_cut_minimally_too() -> None:
    rng = np.random.default_rng(5)
    for weight in (1, 3):
        f = rng.integers(-6, 7, (9, 8))
        thresholds = np.arange(-6.0, 7)
        rank = minimal_cuts(f.astype(np.float64), weight, thresholds)
        for k, threshold in enumerate(thresholds, 1):
            assert energy(rank >= k, f, weight, threshold) == Cuts(f, weight).at(threshold)[0]


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 2), (7, 6)])
@pytest.mark.parametrize("weight", [0.02, 0.4, 3.0])
def test_smooth_map_is_that_of_a_general_solver(shape: tuple[int, int], weight: float) -> None:
    f = np.random.default_rng(len(shape)).standard_normal(shape)
    pairs = pairs_of(shape)
    ours = smoothed(f, weight, tolerance=1 / 4096, max_sweeps=2000)
    expected = f.ravel()
    if len(pairs):
        rows = np.arange(len(pairs))
        ones = np.ones(len(pairs))
        step = sparse.csr_array((ones, (rows, pairs[:, 0])), shape=(len(pairs), f.size)) - sparse.csr_array(
            (ones, (rows, pairs[:, 1])), shape=(len(pairs), f.size)
        )

        def dual(flow: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            u = f.ravel() - step.T @ flow
            return 0.5 * float(u @ u), -(step @ u)

        found = optimize.minimize(
            dual, np.zeros(len(pairs)), jac=True, method="L-BFGS-B", bounds=[(-weight, weight)] * len(pairs),
            options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9},
        )  # fmt: skip
        expected = f.ravel() - step.T @ found.x
    np.testing.assert_allclose(ours.ravel(), expected, atol=4e-3)


def test_smooth_map_keeps_the_mean_and_becomes_flat() -> None:
    f = np.random.default_rng(1).standard_normal((20, 30))
    assert smoothed(f, 0.5).mean() == pytest.approx(f.mean(), abs=1e-3)
    np.testing.assert_allclose(smoothed(f, 0.0), f, atol=1 / 4096)
    flat = smoothed(f, 100.0)
    assert np.ptp(flat) <= 1 / 2048
    assert flat.mean() == pytest.approx(f.mean(), abs=1e-3)


def test_threads_change_nothing() -> None:
    f = np.random.default_rng(2).standard_normal((70, 90))
    one, three = (minimal_cuts(f, 0.3, np.linspace(-1, 1, 9), threads=n) for n in (1, 3))
    assert (one == three).all()
    assert (smoothed(f, 0.3, threads=1) == smoothed(f, 0.3, threads=3)).all()


def test_turned_map_has_the_turned_level_sets() -> None:
    f = np.random.default_rng(3).standard_normal((18, 23))
    thresholds = np.linspace(-1, 1, 11)
    upright = minimal_cuts(f, 0.2, thresholds)
    transposed = minimal_cuts(np.ascontiguousarray(f.T), 0.2, thresholds).T
    flipped = minimal_cuts(np.ascontiguousarray(f[::-1]), 0.2, thresholds)[::-1]
    assert (upright == transposed).all()
    assert (upright == flipped).all()


def holders(part: SliceRegions, is_there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each pixel the largest region around it for which `is_there`; −1: none."""
    found = np.full(part.nodes.shape, -1)
    for y, x in np.argwhere(part.nodes >= 0):
        i = part.nodes[y, x]
        while i >= 0:
            if is_there[i]:
                found[y, x] = i
            i = part.parent[i]
    return found


@pytest.mark.parametrize(("connectivity", "structure"), [(4, CROSS), (8, SQUARE)])
@pytest.mark.parametrize("seed", range(6))
def test_tree_holds_the_components_of_every_level(connectivity: Any, structure: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    shape = tuple(rng.integers(1, 25, 2))
    rank = rng.integers(0, n + 1, shape)
    if seed % 2:
        rank = ndimage.median_filter(rank, 3)
    levels = np.linspace(0.9, 0.1, n)
    part = component_tree(rank.astype(np.int16), levels, connectivity=connectivity)
    sets = set()
    for k in range(1, n + 1):
        expected, n_expected = ndimage.label(rank >= k, structure)
        found = holders(part, part.birth <= np.float32(levels[k - 1]))
        both = np.unique(np.stack((expected.ravel(), found.ravel() + 1)), axis=1)
        assert both.shape[1] == n_expected + bool((expected == 0).any())  # one to one
        assert both[1, both[0] == 0].sum() == 0
        sets |= {np.flatnonzero(expected == i).tobytes() for i in range(1, n_expected + 1)}
    assert len(part.parent) == len(sets)  # each set once


def test_tree_of_everything_and_of_nothing() -> None:
    whole = component_tree(np.full((3, 4), 2, np.int16), np.array([0.8, 0.2]))
    assert len(whole.parent) == 1
    assert (whole.nodes == 0).all()
    assert (whole.birth[0], whole.death[0]) == (np.float32(0.2), 1)
    nothing = component_tree(np.zeros((3, 4), np.int16), np.array([0.8, 0.2]))
    assert len(nothing.parent) == 0
    assert (nothing.nodes == -1).all()


def cells(leak: float) -> NDArray[np.float64]:
    """Return two cells side by side; the membrane between has a gap where its probability is lower."""
    boundary = np.full((20, 31), 0.9)
    boundary[2:18, 2:15] = boundary[2:18, 16:29] = 0.05
    boundary[8:12, 15] = leak
    return boundary


def test_levels_are_boundary_probabilities() -> None:
    part = level_set_regions(cells(0.4), smoothness=0.0, n_levels=200, grow=0)
    left, right = part.nodes[10, 5], part.nodes[10, 25]
    assert part.parent[left] == part.parent[right] == part.nodes[10, 15]
    assert part.parent[part.nodes[0, 0]] == -1
    both = part.parent[left]
    assert part.birth[left] == pytest.approx(0.05, abs=0.01)
    assert part.death[left] == part.birth[both] == pytest.approx(0.4, abs=0.02)
    assert part.parent[both] == -1  # the whole slice, which holds nothing else, is in its place
    assert part.death[both] == 1


def test_smoothness_fills_specks() -> None:
    speck = cells(0.4)
    speck[6, 6] = 0.9
    thresholds = level_thresholds(100)
    loose, tight = (minimal_cuts(evidence(speck), smoothness, thresholds)[6, 6] for smoothness in (0.0, 0.6))
    assert loose < 50 < tight


def test_deaths_are_births_of_what_is_around() -> None:
    boundary = ndimage.gaussian_filter(np.random.default_rng(6).random((60, 60)), 2)
    boundary = (boundary - boundary.min()) / np.ptp(boundary)
    part = level_set_regions(boundary, min_area=5, max_area=None, max_depth=None)
    assert len(part.parent) > 20
    assert (part.birth <= part.death).all()
    assert ((part.birth >= 0) & (part.death <= 1)).all()
    inner = part.parent >= 0
    assert (part.death[inner] == part.birth[part.parent[inner]]).all()
    assert (part.death[~inner] == 1).all()
    assert 1 not in np.bincount(part.parent[inner])  # no only children


def test_regions_grow_into_what_is_between_them() -> None:
    nodes = np.full((5, 9), 0, np.int32)
    nodes[1:4, 1:3], nodes[1:4, 6:8] = 1, 2
    part = SliceRegions(
        nodes, np.array([-1, 0, 0], np.int32), np.array([0.5, 0.1, 0.1], np.float32),
        np.array([1, 0.5, 0.5], np.float32),
    )  # fmt: skip
    assert grown(part, 1).nodes[2].tolist() == [1, 1, 1, 1, 0, 2, 2, 2, 2]
    assert grown(part, 2).nodes[2].tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert grown(part, 1).nodes[0].tolist() == [0, 1, 1, 0, 0, 0, 2, 2, 0]
    assert (grown(part, 0).nodes == nodes).all()


def test_grown_regions_hold_what_they_held_and_stay_apart() -> None:
    boundary = ndimage.gaussian_filter(np.random.default_rng(8).random((50, 50)), 2)
    boundary = (boundary - boundary.min()) / np.ptp(boundary)
    before = joined([level_set_regions(boundary, min_area=8, grow=0)])
    after = joined([level_set_regions(boundary, min_area=8, grow=2)])
    assert (before.parent == after.parent).all()
    assert (after.area > before.area).mean() > 0.5
    reach = ndimage.iterate_structure(CROSS, 2)
    for i in range(len(before)):
        small, large = ((h.nodes[0] >= i) & (h.nodes[0] <= h.last[i]) for h in (before, after))
        assert (large >= small).all()
        assert (ndimage.binary_dilation(small, reach) >= large).all()
        parent = before.parent[i]
        held = [j for j in range(len(before)) if before.parent[j] == parent and j != i]
        for j in held:
            assert not (large & (before.nodes[0] >= j) & (before.nodes[0] <= before.last[j])).any()


def test_sections_of_cells_are_among_the_hypotheses() -> None:
    truth = generate((4, 160, 160), seed=3).labels
    boundary = np.stack([ndimage.gaussian_filter((plane == 0).astype(np.float64), 1) for plane in truth])
    found = level_set_hypotheses(boundary, grow=0)  # these boundaries are as wide as those of the truth
    n_good = n = 0
    for z, plane in enumerate(truth):
        for label in np.unique(plane[plane > 0]):
            parts, n_parts = ndimage.label(plane == label, CROSS)
            for section in (parts == k for k in range(1, n_parts + 1)):
                if section.sum() <= 50:
                    continue
                n += 1
                n_good += best_overlap(found, z, section) > 0.75
    assert n > 40
    assert n_good == n


def best_overlap(found: Any, z: int, section: NDArray[np.bool_]) -> float:
    """Return the largest intersection over union of a section with a hypothesis."""
    best = 0.0
    i = int(np.bincount(found.nodes[z][section] + 1).argmax()) - 1
    for j in found.path(i) if i >= 0 else []:
        inside = (found.nodes[z] >= j) & (found.nodes[z] <= found.last[j])
        best = max(best, (inside & section).sum() / (inside | section).sum())
    return best


def test_bytes_and_floats_say_the_same() -> None:
    as_bytes = np.rint(255 * cells(0.4)).astype(np.uint8)
    of_bytes, of_floats = level_set_regions(as_bytes), level_set_regions(as_bytes / 255)
    assert (of_bytes.nodes == of_floats.nodes).all()
    assert (of_bytes.birth == of_floats.birth).all()
    assert evidence(np.array([[0, 255, 51]], np.uint8)) == pytest.approx(
        np.log([[0.998 / 0.002, 0.002 / 0.998, 0.8 / 0.2]]), rel=1e-5
    )


def test_thresholds_are_even_and_within_the_evidence() -> None:
    thresholds = level_thresholds(100)
    ends = evidence(np.array([[1.0, 0.0]]))[0]
    assert ends[0] < thresholds[0] < thresholds[-1] < ends[1]
    np.testing.assert_allclose(np.diff(thresholds), (ends[1] - ends[0]) / 100, rtol=1e-5)


class Lazy:
    """A stack that gives single slices alone, and says which ones were read."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.read: list[int] = []
        self.lock = threading.Lock()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self.lock:
            self.read.append(int(key))
        return self.data[key]


def test_stack_is_read_slice_by_slice() -> None:
    stack = Lazy(np.stack([cells(leak) for leak in (0.2, 0.4, 0.6)]))
    said: list[tuple[int, int]] = []
    found = level_set_hypotheses(stack, progress=lambda done, n: said.append((done, n)))
    assert sorted(stack.read) == [0, 1, 2]
    assert said == [(1, 3), (2, 3), (3, 3)]
    single = joined([level_set_regions(plane) for plane in stack.data])
    assert (found.nodes == single.nodes).all()
    assert (found.parent == single.parent).all()
    assert (found.birth == single.birth).all()


def test_stack_can_be_cancelled() -> None:
    stack = Lazy(np.stack([cells(0.4)] * 40))
    found = level_set_hypotheses(stack, cancelled=lambda: len(stack.read) >= 5)
    assert 1 <= found.n_slices < 40


@pytest.mark.parametrize(
    ("boundary", "came"),
    [
        (np.zeros((4, 4)), "4×4"),
        (np.zeros((0, 4, 4)), "0×4×4"),
        (np.zeros((2, 4, 4), np.uint16), "uint16"),
        (np.zeros((2, 4, 4), np.int64), "int64"),
        (np.zeros((2, 4, 4), bool), "bool"),
        (np.full((2, 4, 4), np.nan), "nan"),
        (np.full((2, 4, 4), 1.5), "1.5"),
        (np.full((2, 4, 4), -0.5, np.float32), "-0.5"),
    ],
)
def test_what_is_no_boundary_map_is_refused(boundary: NDArray[Any], came: str) -> None:
    with pytest.raises(DataError, match=came):
        level_set_hypotheses(boundary)


def test_odd_settings_are_refused() -> None:
    plane = cells(0.4)
    for settings in (
        {"smoothness": -1.0},
        {"smoothness": np.nan},
        {"n_levels": 0},
        {"n_levels": 200_000},
        {"connectivity": 6},
        {"grow": -1},
        {"min_area": 0},
    ):
        with pytest.raises(DataError):
            level_set_regions(plane, **settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="tolerance"):
        smoothed(plane, 0.1, tolerance=0.0)
    for f in (np.zeros(4), np.full((3, 3), np.nan), np.full((3, 3), 1e9)):
        with pytest.raises(DataError, match="map"):
            smoothed(f, 0.1)
    with pytest.raises(DataError, match="rise"):
        minimal_cuts(plane, 0.1, np.array([1.0, 1.0]))
