"""MALIS, against all pairs of voxels one by one."""

import threading
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_em_seg.errors import DataError
from napari_em_seg.predict.malis import (
    malis_batch_weights,
    malis_error,
    malis_loss,
    malis_pairs,
    malis_weights,
)

STEPS = np.eye(3, dtype=int)


def edges_of(ids, known=None):
    """Yield each edge and the flat indices of its voxels."""
    number = np.arange(ids.size).reshape(ids.shape)
    for c, *place in np.ndindex(3, *ids.shape):
        before = np.subtract(place, STEPS[c])
        if (before >= 0).all() and (known is None or known[(c, *place)]):
            yield (c, *place), number[tuple(place)], number[tuple(before)]


def maximin(n, edges, strength):
    """Return how well each two voxels are joined by the best path between them; −1 where there is none."""
    best = np.full((n, n), -1.0)
    for edge, u, v in edges:
        best[u, v] = best[v, u] = max(best[u, v], strength[edge])
    for k in range(n):
        best = np.maximum(best, np.minimum(best[:, k, None], best[k]))
    return best


def brute_force(affinities, ids, known=None):
    """Return, per pass, {affinity: pairs with this maximin affinity}, as constrained MALIS is defined."""
    flat, edges = ids.ravel(), list(edges_of(ids, known))
    same = {edge: flat[u] == flat[v] != 0 for edge, u, v in edges}
    raised = {edge: 2.0 if same[edge] else affinities[edge] for edge in same}  # 1, but told from a true 1
    lowered = {edge: affinities[edge] if same[edge] else -0.5 for edge in same}  # 0, likewise
    results = []
    for strength, wants_same in ((lowered, True), (raised, False)):
        best, pairs = maximin(ids.size, edges, strength), {}
        for u, v in combinations(range(ids.size), 2):
            if flat[u] and flat[v] and (flat[u] == flat[v]) == wants_same and 0 <= best[u, v] <= 1:
                pairs[best[u, v]] = pairs.get(best[u, v], 0) + 1
        results.append(pairs)
    return results


def by_affinity(pairs, affinities):
    """Return {affinity: pairs}; which of equal edges has them is a matter of choice, their sum is not."""
    values = np.unique(affinities[pairs > 0])
    return {value: pairs[affinities == value].sum() for value in values}


def distinct(shape, seed):
    """Return affinities that all differ, also when rounded to 16 bits."""
    n = 3 * np.prod(shape)
    return (np.random.default_rng(seed).permutation(n) / n).reshape(3, *shape)


def assert_same(affinities, ids, known=None):
    found = malis_pairs(affinities, ids, known)
    for pairs, expected in zip(found, brute_force(affinities, ids, known), strict=True):
        assert by_affinity(pairs, affinities) == expected


may_compile = settings(deadline=None)  # the first call waits for numba
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@may_compile
@given(shape=shapes, seed=st.integers(0, 10**6), n_objects=st.integers(1, 5))
def test_same_as_brute_force(shape, seed, n_objects):
    """With distinct affinities, so edge by edge. Random ids: mostly objects in many pieces, and background."""
    ids = np.random.default_rng(seed).integers(0, n_objects + 1, shape)
    assert_same(distinct(shape, seed), ids)


@may_compile
@given(shape=shapes, seed=st.integers(0, 10**6), levels=st.integers(1, 4))
def test_same_as_brute_force_with_ties(shape, seed, levels):
    rng = np.random.default_rng(seed)
    affinities = rng.integers(0, levels + 1, (3, *shape)) / levels
    ids = rng.integers(0, 4, [-(-n // 2) for n in shape])
    ids = ids.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(map(slice, shape))]
    assert_same(affinities, ids)


@may_compile
@given(shape=shapes, seed=st.integers(0, 10**6))
def test_same_as_brute_force_with_unknown_edges(shape, seed):
    rng = np.random.default_rng(seed)
    known = rng.random((3, *shape)) < 0.7
    assert_same(distinct(shape, seed), rng.integers(0, 4, shape), known)
    for pairs in malis_pairs(distinct(shape, seed), rng.integers(0, 4, shape), known):
        assert not pairs[~known].any()


CHECKERBOARD = np.indices((4, 4, 4)).sum(0) % 2
CASES = {
    "one object": np.ones((3, 4, 5), int),
    "background": np.zeros((3, 4, 5), int),
    "one voxel": np.ones((1, 1, 1), int),
    "chain": np.arange(60).reshape(1, 1, 60) // 7,
    "every voxel an object": np.arange(1, 61).reshape(3, 4, 5),
    "checkerboard with background": CHECKERBOARD,
    "checkerboard of two": CHECKERBOARD + 1,
    "checkerboard of pairs": np.where(CHECKERBOARD, np.arange(64).reshape(4, 4, 4) // 8 + 1, 9),
    "two pieces": np.array([1, 1, 2, 2, 1, 0, 1, 3]).reshape(1, 1, 8),
    "islands": np.where(np.indices((3, 5, 5)).max(0) % 2, 7, np.indices((3, 5, 5))[2] + 1),
}


@pytest.mark.parametrize("ids", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", ["distinct", "equal", "all 0", "all 1"])
def test_adversarial(ids, kind):
    affinities = {"distinct": distinct(ids.shape, 3), "equal": np.full((3, *ids.shape), 0.25)}.get(kind)
    assert_same(np.full((3, *ids.shape), float(kind == "all 1")) if affinities is None else affinities, ids)


def test_many_objects_in_pieces():
    """So many bags that their table has to grow: all pairs, and no more, are counted."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 200, (8, 20, 20))
    _, negative = malis_pairs(rng.random((3, *ids.shape)), ids)
    voxels = np.bincount(ids.ravel())
    assert negative.sum() == (ids.size**2 - (voxels**2).sum()) // 2


def test_by_hand():
    """1 1 | 2 2 1 in a row: the weakest edge of each object, and of each way between objects."""
    ids = np.array([1, 1, 2, 2, 1]).reshape(1, 1, 5)
    affinities = np.zeros((3, 1, 1, 5))
    affinities[2] = [9, 0.5, 0.2, 0.4, 0.3]
    affinities[2, 0, 0, 0] = 1  # leaves the volume: counts for nothing
    positive, negative = malis_pairs(affinities, ids)
    # The last voxel is cut off from its object: no pair of it is served.
    assert positive[2].ravel().tolist() == [0, 1, 0, 1, 0]
    # 22 meets its neighbour 1 at 0.3 (2 pairs); then 11 meets 221 at 0.2: 2·3 pairs, 2 of them both of 1.
    assert negative[2].ravel().tolist() == [0, 0, 4, 0, 2]
    weights = malis_weights(affinities, ids)
    np.testing.assert_allclose(weights[0][2].ravel(), [0, 0.5, 0, 0.5, 0])
    np.testing.assert_allclose(weights[1][2].ravel(), [0, 0, 4 / 6, 0, 2 / 6])


def test_of_equal_edges_the_first_joins():
    ids = np.array([[1, 1], [1, 1]]).reshape(1, 2, 2)
    positive, _ = malis_pairs(np.full((3, 1, 2, 2), 0.5), ids)
    assert positive[1].ravel().tolist() == [0, 0, 1, 1]
    assert positive[2].ravel().tolist() == [0, 4, 0, 0]


def blobs(shape=(12, 40, 40), seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 9, [-(-n // 7) for n in shape])
    return ids.repeat(7, 0).repeat(7, 1).repeat(7, 2)[tuple(map(slice, shape))], rng.random((3, *shape))


def test_weights_are_the_shares_of_the_pairs():
    ids, affinities = blobs()
    for weights, pairs in zip(malis_weights(affinities, ids), malis_pairs(affinities, ids), strict=True):
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, pairs / pairs.sum(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_any_kind_of_ids(dtype):
    ids, affinities = blobs((3, 9, 9))
    expected = malis_pairs(affinities, ids)
    np.testing.assert_array_equal(malis_pairs(affinities, ids.astype(dtype)), expected)
    np.testing.assert_array_equal(malis_pairs(affinities.astype(np.float32), ids[::1].astype(dtype)), expected)
    large = np.where(ids > 0, ids.astype(np.uint64) + np.uint64(2**63), np.uint64(0))
    np.testing.assert_array_equal(malis_pairs(affinities, large), expected)


def test_repeats_also_in_threads():
    crops = [blobs(seed=seed) for seed in range(4)]
    ids = torch.from_numpy(np.stack([ids for ids, _ in crops]))
    affinities = torch.from_numpy(np.stack([affinities for _, affinities in crops]))
    once = malis_batch_weights(affinities, ids, threads=1)
    for threads in (None, 4):
        again = malis_batch_weights(affinities, ids, threads=threads)
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for i, (objects, strengths) in enumerate(crops):
        np.testing.assert_array_equal(once[0][i], malis_weights(strengths, objects)[0])
        np.testing.assert_array_equal(once[1][i], malis_weights(strengths, objects)[1])


def test_leaves_what_it_is_given_alone():
    ids, affinities = blobs((3, 9, 9))
    before = ids.copy(), affinities.copy()
    result = []
    worker = threading.Thread(target=lambda: result.append(malis_weights(affinities, ids)))
    worker.start()
    worker.join()
    np.testing.assert_array_equal(ids, before[0])
    np.testing.assert_array_equal(affinities, before[1])
    assert len(result) == 1


@pytest.mark.parametrize("error", ["square", "cross-entropy"])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gradient_with_weights_held(error, margin):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 2, 3, 2, 3, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: malis_error(s, *weights, error=error, margin=margin), logits)


@pytest.mark.parametrize("error", ["square", "cross-entropy"])
def test_gradient_of_the_whole_loss(error):
    """Finite differences of the loss of all pairs, weights found anew each time, at distinct affinities."""
    shape = (2, 3, 4)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 3, shape))[None]
    logits = torch.logit(torch.from_numpy(distinct(shape, 0) * 0.9 + 0.05))[None].requires_grad_()
    malis_loss(logits, ids, error=error).backward()
    step = 1e-4
    for place in np.ndindex(*logits.shape):
        moved = torch.zeros_like(logits)
        moved[place] = step
        with torch.no_grad():
            rise = malis_loss(logits + moved, ids, error=error) - malis_loss(logits - moved, ids, error=error)
        assert rise.item() / (2 * step) == pytest.approx(logits.grad[place].item(), abs=1e-6)


@pytest.mark.parametrize("error", ["square", "cross-entropy"])
def test_analytic_gradient(error):
    logits, weights = torch.randn(1, 3, 2, 2, 2, requires_grad=True), torch.rand(2, 1, 3, 2, 2, 2)
    malis_error(logits, *weights, error=error).backward()
    a = torch.sigmoid(logits.detach())
    expected = weights[1] * a - weights[0] * (1 - a)
    if error == "square":
        expected = 2 * a * (1 - a) * expected
    torch.testing.assert_close(logits.grad, expected)


def test_is_the_mean_over_pairs():
    """The loss of a crop is the mean error of the pairs of each pass, summed."""
    shape = (2, 3, 3)
    ids = np.random.default_rng(0).integers(0, 3, shape)
    affinities = distinct(shape, 0) * 0.9 + 0.05
    positive, negative = brute_force(affinities, ids)
    expected = sum((1 - a) ** 2 * n for a, n in positive.items()) / sum(positive.values())
    expected += sum(a**2 * n for a, n in negative.items()) / sum(negative.values())
    logits = torch.logit(torch.from_numpy(affinities))
    both = malis_loss(torch.stack([logits, logits]), torch.from_numpy(np.stack([ids, ids])))
    assert both.item() == pytest.approx(expected)


def test_perfect_affinities_cost_nothing():
    ids, _ = blobs()
    same = np.zeros((3, *ids.shape), bool)
    for edge, u, v in edges_of(ids):
        same[edge] = ids.ravel()[u] == ids.ravel()[v] != 0
    logits = torch.from_numpy(np.where(same, 30.0, -30.0))[None].requires_grad_()
    loss = malis_loss(logits, torch.from_numpy(ids)[None], error="cross-entropy")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert malis_loss(-logits, torch.from_numpy(ids)[None]).item() == pytest.approx(2)


@pytest.mark.parametrize("ids", [np.zeros((2, 3, 3), int), np.ones((1, 1, 1), int)])
def test_nothing_to_learn(ids):
    logits = torch.randn(1, 3, *ids.shape, requires_grad=True)
    loss = malis_loss(logits, torch.from_numpy(ids)[None])
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_half_precision_is_summed_in_full():
    ids, affinities = blobs((3, 9, 9))
    logits = torch.logit(torch.from_numpy(affinities), 1e-3)[None]
    half = malis_loss(logits.bfloat16().requires_grad_(), torch.from_numpy(ids)[None])
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(malis_loss(logits, torch.from_numpy(ids)[None]).item(), rel=0.02)


class TestRefuses:
    ids = np.ones((2, 3, 4), int)
    affinities = np.full((3, 2, 3, 4), 0.5)

    @pytest.mark.parametrize("shape", [(2, 3, 4), (3, 2, 3, 5), (9, 2, 3, 4)])
    def test_other_shapes(self, shape):
        with pytest.raises(DataError, match="nearest neighbours only"):
            malis_pairs(np.zeros(shape), self.ids)
        with pytest.raises(DataError, match="nearest neighbours only"):
            malis_pairs(self.affinities, self.ids, np.ones(shape, bool))

    @pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
    def test_what_is_no_probability(self, bad):
        affinities = self.affinities.copy()
        affinities[1, 1, 1, 1] = bad
        with pytest.raises(DataError, match="numbers from 0 to 1"):
            malis_weights(affinities, self.ids)

    @pytest.mark.parametrize("ids", [np.ones((3, 4), int), np.ones((2, 3, 4))])
    def test_what_is_no_labelling(self, ids):
        with pytest.raises(DataError, match="whole numbers along three axes"):
            malis_pairs(self.affinities, ids)

    def test_a_whole_volume(self):
        ids = np.broadcast_to(np.uint8(1), (1000, 1000, 1000))
        with pytest.raises(DataError, match="Give a crop"):
            malis_pairs(np.broadcast_to(np.float32(0), (3, *ids.shape)), ids)

    @pytest.mark.parametrize("ids", [(2, 3, 4), (2, 2, 3, 4), (0, 2, 3, 4)])
    def test_another_batch(self, ids):
        with pytest.raises(DataError, match="single crop"):
            malis_loss(torch.zeros(1, 3, 2, 3, 4), torch.ones(ids, dtype=int))

    def test_another_error(self):
        with pytest.raises(DataError, match="one of square, cross-entropy"):
            malis_error(*torch.zeros(3, 1, 3, 1, 1, 1), error="cubic")

    @pytest.mark.parametrize("margin", [-0.1, 0.5, float("nan")])
    def test_another_margin(self, margin):
        with pytest.raises(DataError, match="less than a half"):
            malis_error(*torch.zeros(3, 1, 3, 1, 1, 1), margin=margin)
