"""The sixteen views: all different, each with its inverse, the smaller sets groups."""

from itertools import combinations

import numpy as np
import pytest
import torch

from napari_em_seg.errors import DataError
from napari_em_seg.predict.views import VIEWS, View, apply, choose_views, invert

block = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
cube = np.arange(27).reshape(3, 3, 3)


def same(a, b) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def test_sixteen_different_views():
    assert len(VIEWS) == len(set(VIEWS)) == 16
    assert VIEWS[0] == View()
    assert not any(same(apply(a, cube), apply(b, cube)) for a, b in combinations(VIEWS, 2))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_inverse_brings_everything_back(view, make):
    x = make(block)
    turned = apply(view, x)
    assert tuple(turned.shape[-2:]) == ((5, 4) if view.swaps_axes else (4, 5))
    assert same(invert(view, turned), x)


@pytest.mark.parametrize("view", VIEWS)
def test_tensors_turn_as_arrays_do(view):
    assert same(apply(view, torch.from_numpy(block)).numpy(), apply(view, block))


def test_mirroring_in_z_reverses_slices_and_leaves_a_single_one():
    view = View(flip_z=True)
    assert same(apply(view, block), block[:, ::-1])
    assert same(invert(view, block[:, :1]), block[:, :1])


@pytest.mark.parametrize("n", [1, 4, 8, 16])
def test_each_set_is_a_group(n):
    views = choose_views(n)
    assert len(views) == n
    images = {apply(view, cube).tobytes() for view in views}
    assert len(images) == n
    assert {apply(a, apply(b, cube)).tobytes() for a in views for b in views} == images


def test_a_net_for_one_slice_needs_no_mirroring_in_z():
    assert choose_views(16, n_slices=1) == VIEWS[:8]
    assert choose_views(4, n_slices=1) == VIEWS[:4]
    assert choose_views(16, n_slices=3) == VIEWS


def test_what_is_no_view_is_refused():
    with pytest.raises(DataError, match="1, 4, 8 or 16"):
        choose_views(5)
    with pytest.raises(DataError, match="0 to 3"):
        View(rot=4)
