"""Nested regions: their numbering, what is read off it, and what is dropped as saying nothing new."""

import numpy as np
import pytest

from napari_em_seg.assign.hypotheses import SliceRegions, joined, pruned
from napari_em_seg.errors import DataError


def random_regions(seed, side=16):
    """Rectangles within rectangles, numbered in no order."""
    rng = np.random.default_rng(seed)
    nodes, parent, todo = np.full((side, side), -1, np.int32), [], [(0, 0, side, side, -1)]
    while todo:
        y, x, h, w, above = todo.pop(rng.integers(len(todo)))
        if min(h, w) < 2 or rng.random() < 0.15:
            continue
        i = len(parent)
        parent.append(above)
        nodes[y : y + h, x : x + w] = i
        cut = int(rng.integers(1, w))
        todo += (
            [(y, x, h, cut, i), (y, x + cut, h, w - cut, i)]
            if rng.random() < 0.7
            else [(y + 1, x, h - 1, w, i)]
        )
    order = rng.permutation(len(parent)).astype(np.int32)
    place = np.append(np.empty_like(order), -1)
    place[:-1][order] = np.arange(len(order))
    n = len(parent)
    parent = np.array(parent, np.int32)
    return SliceRegions(place[nodes], place[parent[order]], rng.random(n, np.float32) / 2,
                        0.5 + rng.random(n, np.float32) / 2)  # fmt: skip


def masks(part):
    """Each region's pixels, those of regions below among them."""
    found = [part.nodes == i for i in range(len(part.parent))]
    for i in range(len(part.parent)):
        above = part.parent[i]
        while above >= 0:
            found[above] = found[above] | (part.nodes == i)
            above = part.parent[above]
    return found


@pytest.mark.parametrize("seed", range(30))
def test_numbers_say_who_holds_whom(seed):
    parts = [random_regions(seed), random_regions(seed + 1000)]
    found = joined(parts)
    expected = {(z, mask.tobytes()) for z, part in enumerate(parts) for mask in masks(part)}
    got = []
    for i in range(len(found)):
        mask = (found.nodes[found.z[i]] >= i) & (found.nodes[found.z[i]] <= found.last[i])
        got.append((int(found.z[i]), mask.tobytes()))
        whole = np.zeros_like(mask)
        region = found.region(i)
        h, w = region.mask.shape
        whole[region.y : region.y + h, region.x : region.x + w] = region.mask
        assert (whole == mask).all()
        assert found.area[i] == mask.sum()
        assert np.allclose(found.centre[i], np.argwhere(mask).mean(0))
        assert found.leaves[i] == sum(found.is_leaf[i : found.last[i] + 1])
        assert found.depth[i] == len(found.path(i)) - 1
        assert all(found.is_conflict(i, k) for k in found.path(i))
    assert sorted(got) == sorted(expected)
    assert found.starts.tolist() == [0, len(parts[0].parent), len(found)]


@pytest.mark.parametrize("seed", range(30))
def test_regions_conflict_where_they_share_pixels(seed):
    found = joined([random_regions(seed, 10)])
    where = [(found.nodes[0] >= i) & (found.nodes[0] <= found.last[i]) for i in range(len(found))]
    for a in range(len(found)):
        for b in range(len(found)):
            assert found.is_conflict(a, b) == (where[a] & where[b]).any()


@pytest.mark.parametrize("seed", range(40))
def test_only_children_are_dropped_and_the_larger_one_stays(seed):
    part = random_regions(seed)
    kept = pruned(part, min_area=4)
    before, after = masks(part), masks(kept)
    n_children = np.bincount(kept.parent[kept.parent >= 0], minlength=len(kept.parent))
    assert (n_children != 1).all()
    assert {mask.tobytes() for mask in after} <= {mask.tobytes() for mask in before}
    assert all(mask.sum() >= 4 for mask in after)
    large = [mask for mask in before if mask.sum() >= 4]
    for mask in large:  # what was dropped lies in one that is kept, and has no kept one beside it in there
        around = [k for k in after if (mask <= k).all()]
        assert around
        smallest = min(around, key=lambda k: k.sum())
        if smallest.sum() != mask.sum():
            inside = [k for k in after if (k <= smallest).all() and k.sum() < smallest.sum()]
            assert not any(not (k & mask).any() for k in inside)


def test_a_region_takes_over_the_levels_of_its_only_child():
    nodes = np.array([[0, 0, 1, 1]], np.int32)
    part = SliceRegions(nodes, np.array([1, -1], np.int32), np.array([0.1, 0.4], np.float32),
                        np.array([0.4, 0.9], np.float32))  # fmt: skip
    kept = pruned(part, min_area=1)
    assert kept.parent.tolist() == [-1]
    assert kept.birth.tolist() == pytest.approx([0.1])
    assert kept.death.tolist() == pytest.approx([0.9])
    assert (kept.nodes == 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_size_and_depth_are_bounded(seed):
    kept = pruned(random_regions(seed), min_area=1, max_area=150, max_depth=1)
    found = joined([kept])
    assert (found.area <= 150).all()
    assert (found.depth <= 1).all()


def test_bad_limits_are_refused():
    with pytest.raises(DataError, match="from 1 pixel on"):
        pruned(random_regions(0), min_area=0)
    with pytest.raises(DataError, match="no slices"):
        joined([])
