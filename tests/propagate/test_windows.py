"""Windows: what they hold once moved, who shares one, tiles."""

import numpy as np
import pytest
import torch

from napari_em_seg.propagate.windows import area, around, groups, moved, tiles, union


def test_a_window_lies_around_a_mask_in_whole_strides_within_the_slice():
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[10:13, 20:31] = True
    assert around(mask, (80, 40, 120, 80), (200, 96), 5, 8) == (80, 48, 104, 80)
    assert around(mask, (0, 0, 40, 40), (40, 32), 20, 8) == (0, 0, 40, 32)
    assert around(mask & False, (0, 0, 40, 40), (40, 40), 5, 8) is None


@pytest.mark.parametrize("stride", [1, 2, 8])
def test_what_is_moved_lies_where_it_was_and_the_rest_is_zero(stride):
    whole = torch.rand(2, 12 * 8 // stride, 12 * 8 // stride)
    old, new = (16, 8, 64, 80), (32, 0, 96, 48)
    part = whole[:, 16 // stride : 64 // stride, 8 // stride : 80 // stride]
    expected = torch.zeros_like(whole)
    expected[:, 16 // stride : 64 // stride, 8 // stride : 80 // stride] = part
    found = moved(part, old, new, stride)
    assert torch.equal(found, expected[:, 32 // stride : 96 // stride, : 48 // stride])
    assert not moved(part, old, (80, 88, 96, 96), stride).any()


def test_neighbours_share_a_window_and_distant_ones_do_not():
    near = [(0, 0, 32, 32), (0, 8, 32, 40), (8, 0, 40, 32)]
    far = [(800, 800, 832, 832), (800, 0, 832, 32)]
    assert sorted(groups([*near, *far], 3)) == [[0, 1, 2], [3], [4]]
    assert max(len(group) for group in groups(near * 4, 3)) == 3


def test_everyone_is_in_one_group_and_together_is_hardly_dearer_than_apart():
    rng = np.random.default_rng(3)
    low = rng.integers(0, 60, (50, 2)) * 8
    boxes = [(int(y), int(x), int(y + h), int(x + w)) for (y, x), (h, w) in
             zip(low, rng.integers(3, 20, (50, 2)) * 8, strict=True)]  # fmt: skip
    found = groups(boxes, 3)
    assert sorted(k for group in found for k in group) == list(range(50))
    cost = sum(len(group) * area(union([boxes[k] for k in group])) for group in found)
    assert cost <= 1.5**2 * sum(map(area, boxes))
    assert groups([], 3) == []


@pytest.mark.parametrize("side", [8, 24, 32, 40, 300])
def test_tiles_cover_a_window_once(side):
    seen = np.zeros((104, 120), int)
    for inner, outer in tiles((8, 16, 104, 120), side, 16, 8):
        seen[inner[0] : inner[2], inner[1] : inner[3]] += 1
        assert all(end % 8 == 0 for end in (*inner, *outer))
        assert max(inner[2] - inner[0], inner[3] - inner[1]) <= 1.5 * side + 8
        assert outer == (max(8, inner[0] - 16), max(16, inner[1] - 16), min(104, inner[2] + 16),
                         min(120, inner[3] + 16))  # fmt: skip
    assert (seen[8:, 16:] == 1).all()
    assert not seen[:8].any()
    assert len(list(tiles((8, 16, 104, 120), 300, 16, 8))) == 1
