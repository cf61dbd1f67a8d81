"""From maps to what can be chosen, and to the model that says what is likely: whole, small, and refused."""

from dataclasses import replace

import numpy as np
import pytest

from napari_em_seg.assign.costs import Prices
from napari_em_seg.assign.features import FEATURES
from napari_em_seg.assign.model import AssignmentModel
from napari_em_seg.assign.result import check_forest, label_volume, objects
from napari_em_seg.assign.solver import solve
from napari_em_seg.errors import Cancelled, DataError, EmSegError, FormatError, TargetExistsError
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.assignment import (
    AssignRecipe,
    bundled_models,
    load_model,
    model_named,
    probabilities,
    program,
    propose,
)
from napari_em_seg.pipeline.assignment_training import (
    TruthPart,
    connected,
    right_assignments,
    train_assignment,
)
from napari_em_seg.pipeline.evidence import PredictedMaps

SIZE = (30.0, 6.0, 6.0)
ROUTES = {
    "affinities": ("affinities", "auto"),
    "boundary": ("boundary", "auto"),
    "levels of affinities": ("affinities", "levels"),
    "sections of a boundary": ("boundary", "sections"),
}
GOOD = tuple(ROUTES)[:3]  # affinities of a boundary map say nothing across slices that are shifted
MOST = {"affinities": (0.02, 0.05), "boundary": (0.15, 0.4), "levels of affinities": (0.05, 0.05)}


def maps_of(predicted, kind):
    return PredictedMaps(getattr(predicted, kind))


def error_of(proposals, chosen, truth, fill=8.0):
    h, a = proposals.hypotheses, proposals.assignments
    check_forest(h, a, chosen)
    labels = label_volume(h, objects(h, a, chosen), fill=fill)
    return evaluate(contingency(labels, truth)).adapted_rand_error


@pytest.fixture(scope="module")
def proposed(clean):
    """What each route proposes for clean maps."""
    return {name: propose(clean.raw, maps_of(clean, kind), AssignRecipe(source), voxel_size_nm=SIZE)
            for name, (kind, source) in ROUTES.items()}  # fmt: skip


@pytest.fixture(scope="module")
def trained(noisy, tmp_path_factory):
    """A model of a little tissue, and the file that it was written to."""
    out = tmp_path_factory.mktemp("model") / "tiny.npz"
    part = TruthPart(noisy.raw, maps_of(noisy, "affinities"), noisy.truth, SIZE)
    done = []
    model = train_assignment(out, [part], card={"name": "tiny"}, progress=lambda *said: done.append(said))
    assert done[-1][0] == done[-1][1]
    assert [d for d, _ in done] == sorted(d for d, _ in done)
    return model, out


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_proposed_fits_together(route, proposed, clean):
    found = proposed[route]
    h, a = found.hypotheses, found.assignments
    assert h.nodes.shape == clean.truth.shape
    assert h.area.min() >= AssignRecipe().min_area
    assert found.features.shape == (len(a), len(FEATURES))
    assert set(a.kind) == {0, 1, 2, 3, 4} or route != "affinities"
    has_tree = found.tree is not None and found.labels is not None
    assert has_tree == (route != "boundary")


@pytest.mark.parametrize("route", GOOD)
def test_among_it_is_the_truth(route, proposed, clean):
    """The nearest that there is to the truth is nearly the truth."""
    right = right_assignments(proposed[route], connected(clean.truth))
    assert error_of(proposed[route], right, clean.truth) < 0.01


@pytest.mark.parametrize("route", GOOD)
def test_clean_maps_give_the_truth(route, proposed, clean):
    """Affinities do nearly exactly, even by the plain rule; a boundary map says less of what goes on where."""
    found, (kind, source) = proposed[route], ROUTES[route]
    model = load_model(AssignRecipe(source), maps_of(clean, kind), SIZE)
    for known, most in zip((model, None), MOST[route], strict=True):
        prices = Prices() if known is None else known.prices
        chosen = solve(program(found, probabilities(found, known), prices)).chosen
        assert error_of(found, chosen[: len(found.assignments)], clean.truth) < most


def test_a_model_that_was_trained_is_what_is_loaded(trained, proposed, clean):
    model, out = trained
    maps = maps_of(clean, "affinities")
    read = load_model(AssignRecipe(model=str(out)), maps, SIZE)
    assert read.prices == model.prices
    assert read.card["name"] == "tiny"
    assert (read.card["source"], tuple(read.card["voxel_size_nm"])) == ("sections", SIZE)
    found = proposed["affinities"]
    said = probabilities(found, read)
    np.testing.assert_array_equal(said, probabilities(found, model))
    assert ((said >= 0) & (said <= 1)).all()
    assert not np.array_equal(said, probabilities(found, None))
    chosen = solve(program(found, said, read.prices)).chosen
    assert error_of(found, chosen[: len(found.assignments)], clean.truth) < 0.05
    assert model_named(str(out)).card == read.card
    assert model_named(str(out) + ".gone") is None


def test_the_same_seed_trains_the_same_model(trained, noisy, tmp_path):
    part = TruthPart(noisy.raw, maps_of(noisy, "affinities"), noisy.truth, SIZE)
    again = train_assignment(tmp_path / "again.npz", [part], card={"name": "tiny"})
    for name, values in trained[0].costs.arrays().items():
        np.testing.assert_array_equal(again.costs.arrays()[name], values)
    assert again.prices == trained[0].prices


def test_models_that_come_along_are_chosen_by_source(clean):
    named = {model.card["name"]: model for model in bundled_models()}
    assert named
    for kind, source in ROUTES.values():
        recipe, maps = AssignRecipe(source), maps_of(clean, kind)
        found = load_model(recipe, maps, SIZE)
        fits = [model for model in named.values() if model.card["source"] == recipe.source_for(maps)]
        assert (found is not None) == bool(fits)
        assert found is None or found.card["source"] == recipe.source_for(maps)
        assert load_model(replace(recipe, model="none"), maps, SIZE) is None
    name = next(iter(named))
    assert model_named(name).card == named[name].card


def test_a_model_that_is_none_is_refused(clean, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"bad\.npz"):
        load_model(AssignRecipe(model=str(tmp_path / "bad.npz")), maps_of(clean, "affinities"), SIZE)
    with pytest.raises(EmSegError, match=r"gone\.npz"):
        load_model(AssignRecipe(model=str(tmp_path / "gone.npz")), maps_of(clean, "affinities"), SIZE)


@pytest.mark.parametrize("kind", ["affinities", "boundary"])
def test_shapes_that_differ_are_refused(kind, clean):
    with pytest.raises(DataError, match=r"The image is \(5, 96, 96\) and the prediction \(6, 96, 96\)"):
        propose(clean.raw[:5], maps_of(clean, kind))


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
@pytest.mark.parametrize("kind", ["affinities", "boundary"])
def test_numbers_that_are_no_probabilities_are_refused(kind, value, clean):
    maps = getattr(clean, kind) / np.float32(255)
    maps[..., 3, 40, 40] = value
    with pytest.raises(DataError, match="0 to 1"):
        propose(clean.raw, PredictedMaps(maps))


@pytest.mark.parametrize("kind", ["affinities", "boundary"])
def test_who_stops_gets_no_half_of_it(kind, clean, never_again):
    for n in (0, 1, 3, 10):
        with pytest.raises(Cancelled):
            propose(clean.raw, maps_of(clean, kind), cancelled=never_again(n))


def test_progress_ends_where_it_says(clean):
    said = []
    propose(clean.raw, maps_of(clean, "affinities"), progress=lambda *now: said.append(now))
    assert said == [(k, 4) for k in range(1, 5)]


def test_training_that_cannot_be_is_refused(noisy, tmp_path):
    maps, out = maps_of(noisy, "affinities"), tmp_path / "m.npz"
    with pytest.raises(DataError, match="no volume"):
        train_assignment(out, [])
    with pytest.raises(DataError, match=r"\(5, 96, 96\).*\(6, 96, 96\)"):
        train_assignment(out, [TruthPart(noisy.raw, maps, noisy.truth[:5])])
    with pytest.raises(DataError, match=r"\(5, 96, 96\).*\(6, 96, 96\)"):
        train_assignment(out, [TruthPart(noisy.raw[:5], maps, noisy.truth)])
    with pytest.raises(DataError, match="No section in volume 1 is like one of its truth"):
        train_assignment(out, [TruthPart(noisy.raw, maps, np.zeros_like(noisy.truth))])
    assert not out.exists()
    out.write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        train_assignment(out, [TruthPart(noisy.raw, maps, noisy.truth)])
    assert out.read_bytes() == b"mine"


def test_training_that_is_stopped_writes_nothing(noisy, tmp_path, never_again):
    part, asked = TruthPart(noisy.raw, maps_of(noisy, "affinities"), noisy.truth, SIZE), []
    train_assignment(tmp_path / "m.npz", [part], cancelled=lambda: bool(asked.append(1)))
    (tmp_path / "m.npz").unlink()
    for n in (0, len(asked) // 2, len(asked) - 2):
        with pytest.raises(Cancelled):
            train_assignment(tmp_path / "m.npz", [part], cancelled=never_again(n))
        assert list(tmp_path.iterdir()) == []


def test_a_model_says_which_features_it_knows(trained, tmp_path):
    assert AssignmentModel.load(trained[1]).costs.names == FEATURES
