"""The assignment models that come along: whole, small, and clear about what they learned from."""

import numpy as np
import pytest

from napari_em_seg.assign.features import FEATURES
from napari_em_seg.pipeline.assignment import AssignRecipe, bundled_models, load_model, model_named
from napari_em_seg.pipeline.evidence import PredictedMaps

MODELS = bundled_models()


def test_some_come_along():
    assert {model.card["source"] for model in MODELS} >= {"sections"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.card["name"])
def test_each_says_what_it_learned_from(model):
    for entry in ("name", "data", "licence", "command", "seed", "voxel_size_nm"):
        assert model.card[entry] not in (None, "", [])
    assert "/" not in model.card["command"].split("--data")[0]
    assert model.costs.names == FEATURES
    assert model.errors is not None
    assert model_named(model.card["name"]) is not None


def test_they_are_chosen_by_source_and_voxel_size(affinity_maps, boundary_map):
    assert load_model(AssignRecipe(), affinity_maps, (30, 6, 6)).card["source"] == "sections"
    assert load_model(AssignRecipe(model="none"), affinity_maps, (30, 6, 6)) is None
    found = load_model(AssignRecipe(), boundary_map, (50, 4, 4))
    assert found is None or found.card["source"] == "levels"


@pytest.fixture
def affinity_maps():
    return PredictedMaps(np.zeros((3, 2, 8, 8), np.uint8))


@pytest.fixture
def boundary_map():
    return PredictedMaps(np.zeros((2, 8, 8), np.uint8))
