"""Scores of links are the same when a session is made and when it is solved anew."""

import numpy as np
import pytest

from napari_em_seg.pipeline import AssignRecipe, reconstruct
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.resolver import LinkResolver
from napari_em_seg.review import State
from napari_em_seg.sample import generate


def affinities(labels, seed):
    """Affinities as a good network would give them, for labels with membranes of 0."""
    rng = np.random.default_rng(seed)
    found = np.zeros((3, *labels.shape), np.float32)
    for axis in range(3):
        ahead, behind = (
            tuple(slice(*end) if k == axis else slice(None) for k in range(3)) for end in ((1, None), (0, -1))
        )
        same = (labels[ahead] == labels[behind]) & (labels[ahead] > 0)
        found[axis][ahead] = np.where(same, 0.9, 0.1)
    return np.clip(found + rng.normal(0, 0.05, found.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def made():
    tissue = generate((6, 96, 96), seed=3)
    maps = PredictedMaps(affinities(np.asarray(tissue.labels), 0))
    return reconstruct(np.asarray(tissue.raw), maps, AssignRecipe(min_area=20), voxel_size_nm=(30, 6, 6))


def test_a_session_scores_as_it_was_made(made):
    again = LinkResolver(made).solve(State())
    assert (again.chosen == made.outcome.chosen).all()
    assert again.chosen.any()
    for name, before in made.outcome.scores.columns().items():
        assert np.allclose(again.scores.columns()[name], before, equal_nan=True, atol=1e-5), name


def test_what_a_verdict_does_not_touch_keeps_its_scores(made):
    resolver = LinkResolver(made)
    rows = np.flatnonzero(made.outcome.chosen & (made.kind == 0))
    rejected = int(rows[np.nanargmax(made.outcome.scores.p_error[rows])])
    after = resolver.solve(State(pins={rejected: 0}))
    assert not after.chosen[rejected]
    assert after.objective > made.outcome.objective
    same = np.isclose(after.scores.p_error, made.outcome.scores.p_error, atol=1e-5)
    assert (same & made.outcome.chosen).sum() > 0.5 * made.outcome.chosen.sum()
    back = resolver.solve(State())
    assert np.allclose(back.scores.p_error, made.outcome.scores.p_error, equal_nan=True, atol=1e-5)
