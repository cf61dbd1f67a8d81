"""Plain rivals: linking by overlap against a search through all pairs, single levels against every path."""

import numpy as np
import pytest

from napari_em_seg.assign.baselines import best_level, link_by_overlap, single_level
from napari_em_seg.assign.errors import compare, slice_errors
from napari_em_seg.assign.hypotheses import Hypotheses, SliceRegions, joined
from napari_em_seg.assign.labelled_sections import SectionRules
from napari_em_seg.errors import DataError


def segments(rng, n_slices=4, side=14):
    """Slices of segments that resemble one another, numbered anew in each slice."""
    coarse = rng.integers(0, 7, (side // 2, side // 2))
    whole = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    planes = []
    for _ in range(n_slices):
        whole = np.where(rng.random(whole.shape) < 0.2, np.roll(whole, 1, 0), whole)
        planes.append(np.append(0, rng.permutation(90)[:6] + 1)[whole])
    return np.stack(planes).astype(np.uint16)


def linked_by_hand(labels, least):
    """Take the best pair of two neighbouring slices, again and again."""
    names, n = {}, 0
    for z, plane in enumerate(labels):
        here = [int(k) for k in np.unique(plane) if k]
        pairs = []
        if z:
            for a in np.unique(labels[z - 1][labels[z - 1] > 0]):
                for b in here:
                    both = ((labels[z - 1] == a) & (plane == b)).sum()
                    pairs.append((both / ((labels[z - 1] == a) | (plane == b)).sum(), int(a), b))
        while pairs and max(pairs)[0] > least:
            best = max(pairs, key=lambda pair: (pair[0], -pair[1], -pair[2]))
            names[z, best[2]] = names[z - 1, best[1]]
            pairs = [pair for pair in pairs if pair[1] != best[1] and pair[2] != best[2]]
        for b in here:
            if (z, b) not in names:
                n += 1
                names[z, b] = n
    return np.array(
        [[[names.get((z, int(v)), 0) for v in row] for row in plane] for z, plane in enumerate(labels)]
    )


@pytest.mark.parametrize("least", [0.0, 0.2, 0.35])
@pytest.mark.parametrize("seed", range(6))
def test_the_best_overlaps_are_linked_first(seed, least):
    labels = segments(np.random.default_rng(seed))
    found = link_by_overlap(labels, least)
    assert found.dtype == np.uint32
    assert (found == linked_by_hand(labels, least)).all()


def test_what_does_not_overlap_enough_is_not_linked():
    labels = np.zeros((2, 2, 8), np.uint8)
    labels[0, :, :4], labels[1, :, 1:5] = 5, 5  # 6 pixels of 10
    assert np.unique(link_by_overlap(labels, 0.59)).tolist() == [0, 1]
    assert np.unique(link_by_overlap(labels, 0.6)).tolist() == [0, 1, 2]


def test_linking_tells_how_far_it_is_and_can_be_stopped():
    labels, told = segments(np.random.default_rng(0)), []
    link_by_overlap(labels, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 4) for k in (1, 2, 3, 4)]
    answers = iter([False, False, True])
    found = link_by_overlap(labels, cancelled=lambda: next(answers))
    assert (found[:2] == link_by_overlap(labels)[:2]).all()
    assert not found[2:].any()


def test_linking_refuses_what_it_cannot_use():
    with pytest.raises(DataError, match="least overlap"):
        link_by_overlap(np.zeros((1, 2, 2), int), 1.0)
    with pytest.raises(DataError, match="Slice 0"):
        link_by_overlap(np.zeros((1, 2, 2)))


def levelled(seed, side=16, n_slices=3):
    """Nested regions whose levels fall from the largest to the smallest."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(n_slices):
        nodes, parent, birth, death = np.full((side, side), -1, np.int32), [], [], []

        def put(y, x, h, w, above, upper, nodes=nodes, parent=parent, birth=birth, death=death):
            i, lower = len(parent), float(rng.uniform(0, upper))
            parent.append(above)
            birth.append(lower)
            death.append(upper)
            nodes[y : y + h, x : x + w] = i
            if w > 3 and rng.random() < 0.8:
                k = int(rng.integers(1, w))
                put(y, x, h, k, i, lower)
                put(y, x + k, h, w - k, i, lower)

        for y in (0, side // 2):
            put(y, 0, side // 2 - 1, side, -1, 1.0)
        parts.append(SliceRegions(nodes, np.array(parent, np.int32), np.array(birth, np.float32),
                                  np.array(death, np.float32)))  # fmt: skip
    return joined(parts)


def masks(hypotheses):
    """Which pixels each region holds, with its slice."""
    found = {}
    for i in range(len(hypotheses)):
        plane = hypotheses.nodes[hypotheses.z[i]]
        found[i] = (int(hypotheses.z[i]), ((plane >= i) & (plane <= hypotheses.last[i])).tobytes())
    return found


@pytest.mark.parametrize("level", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_a_single_level_has_the_regions_alive_there(seed, level):
    hypotheses = levelled(seed)
    flat = single_level(hypotheses, level)
    alive = [i for i in range(len(hypotheses)) if hypotheses.birth[i] <= level < hypotheses.death[i]]
    before, after = masks(hypotheses), masks(flat)
    assert [after[k] for k in range(len(flat))] == [before[i] for i in alive]
    assert flat.birth.tolist() == hypotheses.birth[alive].tolist()
    assert (flat.parent == -1).all()
    assert flat.is_leaf.all()
    assert flat.n_slices == hypotheses.n_slices


def test_of_regions_alive_within_one_another_the_larger_one_is_taken():
    part = SliceRegions(np.array([[0, 1, 1]], np.int32), np.array([-1, 0], np.int32), np.zeros(2, np.float32),
                        np.ones(2, np.float32))  # fmt: skip
    flat = single_level(joined([part]), 0.5)
    assert flat.nodes.tolist() == [[[0, 0, 0]]]


def test_a_region_is_there_from_its_birth_on_and_gone_at_its_death():
    one = np.full(1, -1, np.int32)
    hypotheses = joined([SliceRegions(np.zeros((1, 2), np.int32), one, np.full(1, 0.25, np.float32),
                                      np.full(1, 0.5, np.float32))])  # fmt: skip
    comparison = compare(hypotheses, np.ones((1, 1, 2), int), SectionRules(min_area=1))
    levels = {0.2: 0, 0.25: 1, 0.45: 1, 0.5: 0}
    assert {level: len(single_level(hypotheses, level)) for level in levels} == levels
    assert best_level(hypotheses, comparison, levels) == (0.25, {level: 1 - n for level, n in levels.items()})


def as_labels(flat: Hypotheses):
    return np.where(flat.nodes >= 0, flat.nodes + 1, 0)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_level_has_the_fewest_errors_within_slices(seed):
    hypotheses, rules = levelled(seed), SectionRules(min_area=1)
    truth = as_labels(single_level(hypotheses, 0.3))
    levels = (0.05, 0.3, 0.6, 0.95)
    best, errors = best_level(hypotheses, compare(hypotheses, truth, rules), levels)
    for level in levels:
        assert errors[level] == slice_errors(as_labels(single_level(hypotheses, level)), truth, rules).intra
    assert errors[best] == min(errors.values()) == errors[0.3] == 0
    assert errors[0.05] + errors[0.95] > 0


def test_levels_have_to_be_there():
    hypotheses = levelled(0)
    for level in (-0.1, 1.0):
        with pytest.raises(DataError, match="level"):
            single_level(hypotheses, level)
    with pytest.raises(DataError, match="no levels"):
        best_level(hypotheses, compare(hypotheses, np.zeros(hypotheses.nodes.shape, int)), ())
