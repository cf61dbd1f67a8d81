"""Agreement with followed objects: as defined, mask by mask, whatever is nested, missing or said twice."""

import numpy as np
import pytest

from napari_em_seg.assign.agreement import agreement
from napari_em_seg.assign.candidates import find_candidates
from napari_em_seg.assign.features import DUMMY
from napari_em_seg.errors import DataError

SIDE = 24


@pytest.fixture
def nested(make_program):
    return make_program(3, n_slices=4, side=SIDE, depth=3).hypotheses


@pytest.fixture
def pairs(nested):
    across = np.ones(nested.nodes.shape, np.float32)
    return find_candidates(nested, across).pairs


def mask(hypotheses, i):
    nodes = hypotheses.nodes[hypotheses.z[i]]
    return (nodes >= i) & (nodes <= hypotheses.last[i])


def objects(seed, n_slices=4, n=6, empty=0.3):
    """Labels that have nothing to do with the regions."""
    rng = np.random.default_rng(seed)
    found = rng.integers(1, n + 1, (n_slices, SIDE // 4, SIDE // 4)) * (rng.random((n_slices, 6, 6)) > empty)
    return 1000 * found.repeat(4, axis=1).repeat(4, axis=2)


def steps(labels, only=None):
    return [(z, labels[z], labels[z + 1]) for z in range(len(labels) - 1) if only is None or z in only]


def expected(hypotheses, i, j, labels):
    z = hypotheses.z[i]
    a, b = labels[z][mask(hypotheses, i)], labels[z + 1][mask(hypotheses, j)]
    if not a.any() and not b.any():
        return None
    return sum(min((a == k).mean(), (b == k).mean()) for k in np.unique(labels) if k)


def test_it_is_what_both_share_of_each_object(nested, pairs) -> None:
    labels = objects(0)
    found = agreement(nested, pairs, steps(labels))
    wanted = [expected(nested, i, j, labels) for i, j in zip(pairs.source, pairs.target, strict=True)]
    np.testing.assert_allclose(found, [DUMMY if one is None else one for one in wanted], atol=1e-6)
    assert found.max() > 0.3
    assert (nested.parent >= 0).any()


def test_the_same_object_is_full_agreement_and_another_one_none(nested, pairs) -> None:
    whole = np.full((4, SIDE, SIDE), 7)
    assert agreement(nested, pairs, steps(whole)) == pytest.approx(1.0)
    changing = whole * np.arange(1, 5)[:, None, None]
    assert agreement(nested, pairs, steps(changing)) == pytest.approx(0.0)


def test_where_nobody_went_nothing_is_said(nested, pairs) -> None:
    found = agreement(nested, pairs, steps(objects(1, empty=0), only={1}))
    is_there = nested.z[pairs.source] == 1
    assert (found[~is_there] == DUMMY).all()
    assert (found[is_there] >= 0).all()
    assert (agreement(nested, pairs, []) == DUMMY).all()
    nothing = np.zeros((4, SIDE, SIDE), int)
    assert (agreement(nested, pairs, steps(nothing)) == DUMMY).all()


def test_of_several_opinions_the_mean_counts(nested, pairs) -> None:
    one, other = objects(2), objects(3, empty=0.7)
    both = agreement(nested, pairs, steps(one) + steps(other))
    each = np.stack([agreement(nested, pairs, steps(labels)) for labels in (one, other)])
    known = each != DUMMY
    wanted = np.where(known, each, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    np.testing.assert_allclose(both, np.where(known.any(axis=0), wanted, DUMMY), atol=1e-6)
    assert (known.sum(axis=0) == 1).any()


def test_labels_of_another_size_are_refused(nested, pairs) -> None:
    with pytest.raises(DataError, match="labels of the same shape"):
        agreement(nested, pairs, [(0, np.ones((5, 5), int), np.ones((5, 5), int))])
