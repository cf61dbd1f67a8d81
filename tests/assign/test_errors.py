"""Errors of solutions and of labels: against the definitions, spelled out set by set on small volumes."""

import numpy as np
import pytest
from scipy import ndimage

from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, Assignments
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.errors import SliceErrors, compare, slice_errors
from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.assign.labelled_sections import SectionReader, SectionRules
from napari_em_seg.errors import DataError

SMALL = SectionRules(min_area=3, reach=4)


def blobs(rng, shape=(4, 18, 18), n=6):
    """Labels that wander from slice to slice, with gaps."""
    seeds = rng.integers(0, shape[1], (n, 2)).astype(float)
    planes = []
    for _ in range(shape[0]):
        seeds += rng.normal(0, 1.5, seeds.shape)
        y, x = np.mgrid[: shape[1], : shape[2]]
        distance = np.hypot(y - seeds[:, 0, None, None], x - seeds[:, 1, None, None])
        plane = distance.argmin(0) % (n - 1) + 1  # one object has two branches
        plane[distance.min(0) > 5] = 0
        planes.append(np.where(rng.random(plane.shape) < 0.05, 0, plane))
    return np.stack(planes).astype(np.uint16)


def sections_by_hand(labels, rules):
    """Sections as (z, id, set of pixels), and links as pairs of their places."""
    found = []
    for z, plane in enumerate(labels):
        for name in np.unique(plane[plane > 0]):
            parts, n = ndimage.label(plane == name, np.ones((3, 3)))
            if rules.whole:
                parts, n = (plane == name).astype(int), 1
            pixels = [frozenset(map(tuple, np.argwhere(parts == k + 1).tolist())) for k in range(n)]
            found += [(z, int(name), part) for part in pixels if len(part) >= rules.min_area]
    pairs = set()
    for a, (z, name, one) in enumerate(found):
        for side in (-1, 1):
            there = [b for b, (w, same, _) in enumerate(found) if w == z + side and same == name]
            near = [b for b in there if one & found[b][2]]
            if there and not near:
                far = {b: min(np.hypot(y - v, x - u) for y, x in one for v, u in found[b][2]) for b in there}
                near = [b for b in there if far[b] == min(far.values()) <= rules.reach][:1]
            pairs |= {(a, b) if side > 0 else (b, a) for b in near}
    return found, pairs


def means(regions, truth):
    """For each region (z, pixels) the section that it is, and the one that it stands for; None: none."""
    is_one, stands = [], []
    for z, pixels in regions:
        shared = {s: len(pixels & section) for s, (w, _, section) in enumerate(truth) if w == z}
        labelled, best = sum(shared.values()), max(shared, key=lambda s: (shared[s], -s), default=None)
        stands.append(best if labelled and 2 * labelled >= len(pixels) else None)
        is_one.append(next((s for s, n in shared.items() if 2 * n > labelled + len(truth[s][2]) - n), None))
    return is_one, stands


def errors_by_hand(regions, pairs, truth, true_pairs, strict):
    is_one, stands = means(regions, truth)
    said = [(i, j) for i, j in pairs if stands[i] is not None and stands[j] is not None]
    of = is_one if strict else stands
    right = {(of[i], of[j]) for i, j in pairs} & true_pairs
    if strict:
        wrong = [pair for pair in said if (of[pair[0]], of[pair[1]]) not in true_pairs]
    else:
        wrong = [(i, j) for i, j in said if truth[of[i]][1] != truth[of[j]][1]]
    return SliceErrors(
        len(truth), len(true_pairs), len(truth) - len({s for s in is_one if s is not None}),
        sum(a is None and b is not None for a, b in zip(is_one, stands, strict=True)),
        len(true_pairs) - len(right), len(wrong),
    ), set(wrong)  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_sections_and_links_of_labels(seed, whole):
    rules = SectionRules(whole, 3, 4)
    labels = blobs(np.random.default_rng(seed))
    found, pairs = sections_by_hand(labels, rules)
    reader = SectionReader(rules)
    planes = [reader.read(plane) for plane in labels]
    sections = reader.sections()
    ours = [(int(z), int(i), frozenset(map(tuple, np.argwhere(planes[z] == s).tolist())))
            for s, (z, i) in enumerate(zip(sections.z, sections.ids, strict=True))]  # fmt: skip
    assert sorted(ours, key=str) == sorted(found, key=str)
    assert sections.area.tolist() == [len(part) for _, _, part in ours]
    place = [found.index(section) for section in ours]
    links = {(place[a], place[b]) for a, b in sections.links}
    overlapping = {(a, b) for a, b in pairs if found[a][2] & found[b][2]}
    assert overlapping <= links
    assert len(links) == len(pairs)  # of several at the same distance either may be linked
    assert len(links - pairs) <= 1


def test_shifted_slices_are_linked_within_reach_only():
    labels = np.zeros((2, 9, 40), np.uint8)
    labels[0, 2:6, 2:6], labels[1, 2:6, 12:16] = 1, 1  # pixels 7 apart
    labels[1, 2:6, 30:34] = 1
    for reach, expected in ((6.9, []), (7, [[0, 1]]), (30, [[0, 1], [0, 2]])):
        reader = SectionReader(SectionRules(min_area=1, reach=reach))
        for plane in labels:
            reader.read(plane)
        assert reader.sections().links.tolist() == expected


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_labels_are_counted_as_defined(seed, strict):
    rng = np.random.default_rng(seed)
    truth = blobs(rng)
    labels = np.where(rng.random(truth.shape) < 0.1, 0, np.roll(truth, 1, 2)).astype(np.uint32)
    labels[labels == 3] = 2  # one false merge
    labels[2:][labels[2:] == 4] = 9  # one break
    labels[1][:9][labels[1][:9] == 1] = 8  # one split within a slice
    found, pairs = sections_by_hand(labels, SMALL)
    sections, true_pairs = sections_by_hand(truth, SMALL)
    expected, _ = errors_by_hand([(z, p) for z, _, p in found], pairs, sections, true_pairs, strict)
    got = slice_errors(labels, truth, SMALL, strict=strict)
    for name in ("n_sections", "n_links", "intra_fn", "intra_fp"):
        assert getattr(got, name) == getattr(expected, name)
    assert abs(got.inter_fn - expected.inter_fn) <= 1  # links over the same distance
    assert abs(got.inter_fp - expected.inter_fp) <= 1
    assert got.inter > 0
    assert got.rates["inter_fn"] == got.inter_fn / got.n_sections


@pytest.mark.parametrize("seed", range(5))
def test_the_truth_by_other_names_has_no_errors(seed):
    rng = np.random.default_rng(seed)
    truth = blobs(rng)
    names = np.append(0, rng.permutation(50)[: truth.max()] + 1).astype(np.uint64)
    for strict in (False, True):
        got = slice_errors(names[truth], truth, SMALL, strict=strict)
        assert (got.intra, got.inter) == (0, 0)
        assert got.n_sections > 0
        assert got.n_links > 0
    nothing = slice_errors(np.zeros_like(truth), truth, SMALL)
    assert (nothing.intra_fn, nothing.inter_fn) == (nothing.n_sections, nothing.n_links)
    assert (nothing.intra_fp, nothing.inter_fp) == (0, 0)


def nested(rng, truth):
    """Hypotheses: parts of the labels cut in halves, these, and pairs of them joined."""
    parts = []
    for plane in truth:
        x = np.arange(plane.shape[1])[None]
        moved = np.roll(plane, int(rng.integers(0, 2)), 0).astype(int)
        tiles = np.where(moved > 0, (moved - 1) * 2 + (x > rng.integers(5, 13)), -1)
        used, tiles = np.unique(tiles, return_inverse=True)
        tiles = tiles.reshape(plane.shape) - 1
        groups = [
            np.unique(used[1:] // 2, return_inverse=True)[1],
            np.unique(used[1:] // 4, return_inverse=True)[1],
        ]
        n = len(used) - 1
        n_pairs, n_all = groups[0].max() + 1, groups[1].max() + 1
        above = [groups[1][np.flatnonzero(groups[0] == k)[0]] for k in range(n_pairs)]
        parent = np.concatenate((n + groups[0], n + n_pairs + np.array(above), np.full(n_all, -1))).astype(
            np.int32
        )
        zeros = np.zeros(len(parent), np.float32)
        parts.append(SliceRegions(tiles.astype(np.int32), parent, zeros, zeros + 1))
    return joined(parts)


def choice(rng, hypotheses, assignments):
    """Assignments in a random order, each taken if no region of it overlaps one on the same side."""
    chosen = np.zeros(len(assignments), bool)
    sides = (assignments.sources, assignments.targets)
    taken = ([], [])
    for m in rng.permutation(len(assignments)):
        members = [[int(i) for i in side[m] if i >= 0] for side in sides]
        if not any(hypotheses.is_conflict(i, k) for side in (0, 1) for i in members[side] for k in taken[side]):
            chosen[m] = True
            for side in (0, 1):
                taken[side].extend(members[side])
    return chosen


def region(hypotheses, i):
    plane = hypotheses.nodes[hypotheses.z[i]]
    at = np.argwhere((plane >= i) & (plane <= hypotheses.last[i]))
    return int(hypotheses.z[i]), frozenset(map(tuple, at.tolist()))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_solutions_are_counted_as_defined(seed, strict):
    rng = np.random.default_rng(seed)
    truth = blobs(rng, n=8)
    hypotheses = nested(rng, truth)
    assignments = find_candidates(hypotheses, None, Limits(distance=6)).assignments
    comparison = compare(hypotheses, truth, SMALL)
    reader = SectionReader(SMALL)
    planes = [reader.read(plane) for plane in truth]
    known = reader.sections()
    sections = [(int(z), int(i), frozenset(map(tuple, np.argwhere(planes[z] == s).tolist())))
                for s, (z, i) in enumerate(zip(known.z, known.ids, strict=True))]  # fmt: skip
    true_pairs = {(int(a), int(b)) for a, b in known.links}
    regions = [region(hypotheses, i) for i in range(len(hypotheses))]
    is_one, stands = means(regions, sections)
    assert comparison.partner.tolist() == [-1 if s is None else s for s in is_one]
    assert comparison.stands_for.tolist() == [-1 if s is None else s for s in stands]

    chosen = choice(rng, hypotheses, assignments)
    got = comparison.errors(hypotheses, assignments, chosen, strict=strict)
    pairs = [
        (int(i), int(j)) for m in np.flatnonzero(chosen)
        for i in assignments.sources[m] for j in assignments.targets[m] if i >= 0 and j >= 0
    ]  # fmt: skip
    used = sorted({int(i) for i in assignments.involved[chosen].reshape(-1) if i >= 0})
    place = {i: k for k, i in enumerate(used)}
    expected, wrong = errors_by_hand(
        [regions[i] for i in used], [(place[i], place[j]) for i, j in pairs], sections, true_pairs, strict
    )
    assert got.errors == expected

    said = got.judgement
    assert said.wrong_links.sum() == expected.inter_fp
    of = is_one if strict else stands
    for m in range(len(assignments)):
        if not chosen[m]:
            assert not (said.is_wrong[m] or said.is_judged[m] or said.wrong_links[m] or said.wrong_sections[m])
            continue
        sources, targets = (
            [int(i) for i in side[m] if i >= 0] for side in (assignments.sources, assignments.targets)
        )
        extra = [j for j in targets if is_one[j] is None and stands[j] is not None]
        assert said.wrong_sections[m] == len(extra)
        if sources and targets:
            own = {(place[i], place[j]) for i in sources for j in targets}
            assert said.wrong_links[m] == len(own & wrong)
            assert said.is_wrong[m] == bool(own & wrong)
            assert said.is_judged[m] == any(stands[i] is not None and stands[j] is not None
                                            for i in sources for j in targets)  # fmt: skip
            continue
        (i,) = sources or targets
        side = 1 if sources else 0
        at_border = hypotheses.z[i] == (len(truth) - 1 if sources else 0)
        goes_on = any((a if sources else b) == of[i] for a, b in true_pairs)
        assert assignments.kind[m] == (DISAPPEARANCE, APPEARANCE)[1 - side]
        assert said.is_judged[m] == (not at_border and of[i] is not None)
        assert said.is_wrong[m] == (not at_border and goes_on)


def columns(*planes):
    """Slices of one row of pixels each, four pixels to a letter; '.' is 0."""
    names = {letter: k for k, letter in enumerate(sorted(set("".join(planes)) - {"."}), 1)} | {".": 0}
    return np.array([[np.repeat([names[c] for c in plane], 4)] for plane in planes], np.uint8)


ROWS = SectionRules(min_area=1, reach=2)


@pytest.mark.parametrize(
    ("truth", "labels", "errors"),
    [
        (("aa.bb", "aa.bb"), ("aa.bb", "aa.cc"), (0, 0, 1, 0)),  # a link missing
        (("aa.bb", "aa.cc"), ("aa.bb", "aa.bb"), (0, 0, 0, 1)),  # one too many
        (("aa.bb", "aa.bb"), ("aa...", "aa..."), (2, 0, 1, 0)),  # an object overlooked
        (("aa...", "aa..."), ("aa.bb", "aa.bb"), (0, 0, 0, 0)),  # what the truth does not label
        (("aabb", "aabb"), ("aaaa", "aaaa"), (4, 2, 1, 0)),  # two objects taken for one
        (("aabb", "aabb"), ("aaaa", "aabb"), (2, 1, 1, 0)),  # only in one slice: whose it is, a link is lost
        (("aaaa", "aaaa"), ("abbb", "abbb"), (0, 2, 0, 0)),  # a part of it taken for another one
        (("aa.aa", "aaaaa"), ("aa.bb", "aaaaa"), (0, 0, 1, 0)),  # a branch lost
    ],
)
def test_what_counts_as_what(truth, labels, errors):
    got = slice_errors(columns(*labels), columns(*truth), ROWS)
    assert (got.intra_fn, got.intra_fp, got.inter_fn, got.inter_fp) == errors


def test_strictly_a_part_stands_for_nothing():
    got = slice_errors(columns("aabb", "aabb"), columns("aaaa", "aaaa"), ROWS, strict=True)
    assert (got.intra_fn, got.intra_fp, got.inter_fn, got.inter_fp) == (2, 4, 1, 2)


def test_small_sections_count_for_nothing():
    truth, labels = columns("aa.b", "aa.b"), columns("aa..", "aa..")
    assert slice_errors(labels, truth, SectionRules(min_area=4)).intra_fn == 2
    assert slice_errors(labels, truth, SectionRules(min_area=5)).intra == 0
    assert slice_errors(truth, labels, SectionRules(min_area=5)).intra == 0


def test_volumes_without_sections_have_no_errors():
    empty = np.zeros((3, 5, 5), np.uint8)
    got = slice_errors(empty, empty)
    assert (got.n_sections, got.intra, got.inter) == (0, 0, 0)
    assert set(got.rates.values()) == {0.0}
    none = np.zeros((0, 2), np.int32)
    part = SliceRegions(np.full((5, 5), -1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32),
                        np.zeros(0, np.float32))  # fmt: skip
    hypotheses = joined([part] * 3)
    nothing = Assignments(np.zeros(0, np.int8), none, none)
    found = compare(hypotheses, empty).errors(hypotheses, nothing, np.zeros(0, bool))
    assert found.errors == got


def test_progress_is_told_and_misfits_are_refused():
    labels, told = np.zeros((3, 5, 5), np.uint8), []
    slice_errors(labels, labels, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(DataError, match="labels of the same shape"):
        slice_errors(labels, labels[:2])
    with pytest.raises(DataError, match="whole numbers"):
        slice_errors(labels, labels.astype(float))
    for wrong in ({"min_area": 0}, {"reach": -1}, {"reach": np.inf}):
        with pytest.raises(DataError, match="Use the defaults"):
            SectionRules(**wrong)
