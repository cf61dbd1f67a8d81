"""Sections of nested segments are hypotheses: compared with connected parts found one level at a time."""

import numpy as np
import pytest
from scipy import ndimage

from napari_em_seg.assign.sections import section_hypotheses, section_regions
from napari_em_seg.errors import DataError


def nested_cuts(rng, n_labels, n_levels):
    """Segments of each label at rising levels, each joining some of those before."""
    table = np.arange(n_labels + 1, dtype=np.uint32)
    cuts = []
    for _ in range(n_levels):
        cuts.append(table.copy())
        for _ in range(max(1, n_labels // 4)):
            a, b = table[rng.integers(1, n_labels + 1, 2)]
            table[table == max(a, b)] = min(a, b)
    return np.stack(cuts)


def regions_by_hand(labels, cuts):
    """All connected parts of all segments at all levels, as sets of pixels."""
    found = set()
    for table in cuts:
        segments = table[labels]
        for segment in np.unique(segments[labels > 0]):
            parts, n = ndimage.label((segments == segment) & (labels > 0))
            found |= {frozenset(np.flatnonzero(parts == k + 1)) for k in range(n)}
    return found


def pixels_of(part):
    """Each region as a set of pixels: those of the regions below it among them."""
    n = len(part.parent)
    flat = part.nodes.reshape(-1)
    found = []
    for i in range(n):
        below = {i}
        grown = True
        while grown:
            more = {k for k in range(n) if part.parent[k] in below} - below
            below |= more
            grown = bool(more)
        found.append(frozenset(np.flatnonzero(np.isin(flat, list(below)))))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_they_are_the_connected_parts_at_every_level(seed):
    rng = np.random.default_rng(seed)
    n_labels = int(rng.integers(2, 12))
    labels = rng.integers(0, n_labels + 1, rng.integers(2, 10, 2)).astype(np.uint32)
    labels = np.repeat(np.repeat(labels, 2, 0), 2, 1)
    cuts = nested_cuts(rng, n_labels, 5)
    part = section_regions(labels, cuts, [0.1, 0.2, 0.3, 0.4, 0.5])
    found = pixels_of(part)
    assert len(set(found)) == len(found)
    assert set(found) == regions_by_hand(labels, cuts)


@pytest.mark.parametrize("seed", range(10))
def test_each_exists_from_its_birth_to_its_death_and_not_beyond(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, (8, 8)).astype(np.uint32)
    levels = [0.2, 0.4, 0.6]
    cuts = nested_cuts(rng, 7, 3)
    part = section_regions(labels, cuts, levels)
    for level, table in zip(levels, cuts, strict=True):
        there = {
            pixels
            for pixels, birth, death in zip(pixels_of(part), part.birth, part.death, strict=True)
            if birth <= np.float32(level) < death
        }
        segments = table[labels]
        expected = set()
        for segment in np.unique(segments[labels > 0]):
            parts, n = ndimage.label((segments == segment) & (labels > 0))
            expected |= {frozenset(np.flatnonzero(parts == k + 1)) for k in range(n)}
        assert there == expected


def test_a_stack_has_the_regions_of_each_slice():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(1, 9, (3, 6, 6)), 4, 1), 4, 2).astype(np.uint32)
    cuts = nested_cuts(rng, 8, 4)
    found = section_hypotheses(labels, cuts, [0.2, 0.3, 0.4, 0.5], min_area=1, max_share=1)
    assert found.n_slices == 3
    assert (np.diff(found.z) >= 0).all()
    for i in range(len(found)):
        region = found.region(i)
        assert region.mask.sum() == found.area[i]
        segments = {
            int(v) for v in cuts[-1][labels[region.z][region.y :, region.x :][: region.mask.shape[0],
                                             : region.mask.shape[1]][region.mask]]
        }  # fmt: skip
        assert len(segments) == 1


def test_what_fills_the_slice_is_no_hypothesis():
    labels = np.array([[[1] * 10 + [2] * 10] * 20], np.uint32)
    cuts = [np.array([0, 1, 2], np.uint32), np.array([0, 1, 1], np.uint32)]
    found = section_hypotheses(labels, cuts, [0.2, 0.4], min_area=1, max_share=0.6)
    assert found.area.tolist() == [200, 200]
    assert section_hypotheses(labels, cuts, [0.2, 0.4], min_area=1, max_share=1).area.tolist() == [
        400,
        200,
        200,
    ]


def test_half_a_small_slice_may_be_one_cell():
    labels = np.array([[[1] * 10 + [2] * 6 + [3] * 4] * 20], np.uint32)
    cuts = [np.arange(4, dtype=np.uint32), np.array([0, 1, 1, 3], np.uint32)]
    assert section_hypotheses(labels, cuts, [0.2, 0.4], min_area=1).area.tolist() == [200, 120, 80]


def test_cuts_and_levels_have_to_fit():
    with pytest.raises(DataError, match="one for each level"):
        section_hypotheses(np.ones((1, 4, 4), np.uint32), [np.zeros(2, np.uint32)], [0.1, 0.2])
