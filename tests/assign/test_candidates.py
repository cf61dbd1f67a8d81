"""Candidates: all that is near enough and nothing else, partners that do not overlap, few of each."""

from itertools import combinations

import numpy as np
import pytest

from napari_em_seg.assign.assignments import APPEARANCE, CONTINUATION, DISAPPEARANCE, MERGE, SPLIT
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.errors import DataError

EVERYTHING = Limits(distance=6, overlap=0.05, links=1000, partners=1000, fit=0.1)


def halved(rng, side=24, depth=3):
    """A slice halved again and again, each part a region of its own; some parts are left out."""
    nodes, parent = np.full((side, side), -1, np.int32), []

    def cut(y, x, h, w, above, left):
        if min(h, w) < 3 or (above >= 0 and rng.random() < 0.15):
            return
        i = len(parent)
        parent.append(above)
        nodes[y : y + h, x : x + w] = i
        if left and rng.random() < 0.8:
            if h >= w:
                k = int(rng.integers(1, h))
                cut(y, x, k, w, i, left - 1)
                cut(y + k, x, h - k, w, i, left - 1)
            else:
                k = int(rng.integers(1, w))
                cut(y, x, h, k, i, left - 1)
                cut(y, x + k, h, w - k, i, left - 1)

    for y in (0, side // 2):
        cut(y, 0, side // 2, side, -1, depth)
    n = len(parent)
    return SliceRegions(nodes, np.array(parent, np.int32), np.zeros(n, np.float32), np.ones(n, np.float32))


def stack(seed, n_slices=3):
    rng = np.random.default_rng(seed)
    return joined([halved(rng) for _ in range(n_slices)])


def mask(hypotheses, i):
    return (hypotheses.nodes[hypotheses.z[i]] >= i) & (hypotheses.nodes[hypotheses.z[i]] <= hypotheses.last[i])


def key(assignments, m):
    return tuple(sorted(assignments.sources[m][assignments.sources[m] >= 0])), tuple(
        sorted(assignments.targets[m][assignments.targets[m] >= 0])
    )


@pytest.mark.parametrize("seed", range(12))
def test_they_are_all_that_is_near_enough(seed):
    hypotheses, limits = stack(seed), EVERYTHING
    found = find_candidates(hypotheses, None, limits)
    masks = [mask(hypotheses, i) for i in range(len(hypotheses))]
    pairs = set()
    for i in range(len(hypotheses)):
        for j in range(len(hypotheses)):
            if hypotheses.z[j] != hypotheses.z[i] + 1:
                continue
            shared = (masks[i] & masks[j]).sum()
            centres = [np.argwhere(masks[k]).mean(0) for k in (i, j)]
            fit = shared / (masks[i] | masks[j]).sum()
            if fit >= limits.overlap or np.linalg.norm(centres[0] - centres[1]) <= limits.distance:
                pairs.add((i, j))
    of_kind = {
        k: {key(found.assignments, m) for m in np.flatnonzero(found.assignments.kind == k)} for k in range(5)
    }
    assert of_kind[CONTINUATION] == {((i,), (j,)) for i, j in pairs}

    def partners(one, others):
        return {
            pair for pair in combinations(sorted(others), 2)
            if not (masks[pair[0]] & masks[pair[1]]).any()
            and (masks[one] & (masks[pair[0]] | masks[pair[1]])).sum()
            >= limits.fit * (masks[one] | masks[pair[0]] | masks[pair[1]]).sum()
        }  # fmt: skip

    splits, merges = set(), set()
    for i in range(len(hypotheses)):
        splits |= {((i,), pair) for pair in partners(i, [j for k, j in pairs if k == i])}
        merges |= {(pair, (i,)) for pair in partners(i, [k for k, j in pairs if j == i])}
    assert of_kind[SPLIT] == splits
    assert of_kind[MERGE] == merges
    everyone = range(len(hypotheses))
    assert of_kind[APPEARANCE] == {((), (i,)) for i in everyone}
    assert of_kind[DISAPPEARANCE] == {((i,), ()) for i in everyone}


@pytest.mark.parametrize("seed", range(6))
def test_pairs_hold_the_pixels_and_the_evidence_that_both_share(seed):
    hypotheses = stack(seed)
    evidence = np.random.default_rng(seed).random(hypotheses.nodes.shape).astype(np.float32)
    pairs = find_candidates(hypotheses, evidence, EVERYTHING).pairs
    assert len(pairs) > 0
    for p in range(len(pairs)):
        i, j = pairs.source[p], pairs.target[p]
        shared = mask(hypotheses, i) & mask(hypotheses, j)
        assert pairs.overlap[p] == shared.sum()
        assert pairs.evidence[p] == pytest.approx(evidence[hypotheses.z[j]][shared].sum(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_rows_name_the_pairs_of_each_link(seed):
    hypotheses = stack(seed)
    found = find_candidates(hypotheses)
    for m in range(len(found.assignments)):
        rows = found.rows[m][found.rows[m] >= 0]
        links = {(int(found.pairs.source[p]), int(found.pairs.target[p])) for p in rows}
        sources, targets = key(found.assignments, m)
        assert links == {(int(i), int(j)) for i in sources for j in targets}


def test_the_best_are_kept_where_there_are_too_many():
    hypotheses = stack(3)
    all_of_them = find_candidates(hypotheses, None, EVERYTHING)
    few = find_candidates(hypotheses, None, Limits(distance=6, overlap=0.05, links=2, partners=1, fit=0.1))
    for i in range(len(hypotheses)):
        n_splits = ((few.assignments.kind == SPLIT) & (few.assignments.sources[:, 0] == i)).sum()
        assert n_splits <= 1
    fits = {}
    for pairs in (all_of_them.pairs, few.pairs):
        union = hypotheses.area[pairs.source] + hypotheses.area[pairs.target] - pairs.overlap
        fits[len(pairs)] = pairs.overlap / union
    assert len(few.pairs) < len(all_of_them.pairs)
    for i in range(len(hypotheses)):  # the best partner of each one is never lost
        here = all_of_them.pairs.source == i
        if here.any():
            best = fits[len(all_of_them.pairs)][here].max()
            assert fits[len(few.pairs)][few.pairs.source == i].max() == pytest.approx(best)


def test_what_the_hypotheses_do_not_hold_is_never_met():
    nodes = np.full((2, 8, 8), -1, np.int32)
    empty = SliceRegions(nodes[0], np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    nodes[1, 2:4] = 0
    one = SliceRegions(nodes[1], np.full(1, -1, np.int32), np.zeros(1, np.float32), np.ones(1, np.float32))
    found = find_candidates(joined([empty, one, empty]))
    assert found.assignments.kind.tolist() == [APPEARANCE, DISAPPEARANCE]


def test_cancelling_stops_before_the_next_slice():
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > 1

    hypotheses = stack(0, 5)
    found = find_candidates(hypotheses, cancelled=cancelled)
    assert set(hypotheses.z[found.pairs.source]) == {0}


@pytest.mark.parametrize("wrong", [{"distance": -1}, {"overlap": 1.5}, {"links": 0}, {"fit": -0.1}])
def test_limits_make_sense(wrong):
    with pytest.raises(DataError, match="Use the defaults"):
        Limits(**wrong)
