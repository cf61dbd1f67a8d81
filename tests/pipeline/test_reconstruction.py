"""From files to a session and what is written out of it: whole, or nothing at all."""

import csv
import json

import numpy as np
import pytest

from napari_em_seg.errors import Cancelled, DataError, EmSegError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.assignment import AssignRecipe
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.reconstruction import (
    assign_to_session,
    export_graph,
    export_labels,
    in_a_file,
    open_session,
    reconstruct,
    reconstruct_to_session,
    session_labels,
)
from napari_em_seg.review import Session, write_links
from napari_em_seg.volume import Volume


@pytest.fixture(scope="module")
def path(clean, tmp_path_factory):
    """A session of clean maps, to be read only."""
    out = tmp_path_factory.mktemp("session") / "a.emseg"
    assign_to_session(clean.image, clean.affinity_file, str(out), AssignRecipe())
    return str(out)


def test_clean_maps_become_the_truth(clean, path, tmp_path):
    with Session(path, mode="read") as session:
        export_labels(session, str(tmp_path / "labels.zarr"))
        n_objects = len(np.unique(session.links().object))
    labels = open_volume(str(tmp_path / "labels.zarr"), "labels")
    assert labels.voxel_size_nm == (30, 6, 6)
    assert evaluate(contingency(labels[:], clean.truth)).adapted_rand_error < 0.02
    assert len(np.unique(labels[:])) >= n_objects


def test_what_is_said_of_a_session_is_so(clean, tmp_path):
    out = str(tmp_path / "b.emseg")
    told = []
    made = assign_to_session(clean.image, clean.boundary_file, out, AssignRecipe(model="none"),
                             progress=lambda *now: told.append(now))  # fmt: skip
    assert made.model == "a plain rule"
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    with Session(out, mode="read") as session:
        found, chosen = session.reconstruction, session.outcome.chosen
        assert (made.n_hypotheses, made.n_assignments) == (len(found.z), len(found.kind))
        assert made.n_links == (chosen & (found.kind < 3)).sum()
        assert made.gap == session.outcome.gap <= 1e-3
        scores = session.outcome.scores.columns()
        for name in ("confidence", "regret", "p_error", "impact"):
            assert np.isfinite(scores[name][chosen]).all()
            assert np.isnan(scores[name][~chosen]).all()
        assert ((scores["p_error"][chosen] >= 0) & (scores["p_error"][chosen] <= 1)).all()
        np.testing.assert_array_equal(session.volume("raw")[:], clean.raw)


@pytest.mark.parametrize("solver", ["cbc", "highs-ilp"])
def test_other_solvers_reach_the_same(solver, clean):
    maps = PredictedMaps(clean.affinities)
    ours, theirs = (reconstruct(clean.raw, maps, AssignRecipe(), solver=name, gap=0.0)
                    for name in ("highs", solver))  # fmt: skip
    assert theirs.outcome.objective == pytest.approx(ours.outcome.objective, abs=1e-4)
    assert (theirs.outcome.scores.p_error >= 0).sum() == theirs.outcome.chosen.sum()


def test_a_graph_and_a_table_hold_all_links(path, tmp_path):
    with Session(path, mode="read") as session:
        export_graph(session, tmp_path / "g.json")
        export_graph(session, tmp_path / "g.graphml")
        write_links(session.links(), tmp_path / "l.csv")
        n_links = len(session.links())
        with pytest.raises(DataError, match=r"\.graphml or \.json"):
            export_graph(session, tmp_path / "g.txt")
        with pytest.raises(TargetExistsError):
            export_graph(session, tmp_path / "g.json")
        sure = dict(zip(session.links().id.tolist(), session.links().confidence.tolist(), strict=True))
    links = json.loads((tmp_path / "g.json").read_text("utf-8"))["links"]
    assert len([link for link in links if link["assignment"] in sure]) > 10
    assert all(link["confidence"] == sure[link["assignment"]] for link in links if link["assignment"] in sure)
    assert all(link["p_error"] is not None for link in links if link["assignment"] in sure)
    assert (tmp_path / "g.graphml").read_text("utf-8").startswith("<?xml")
    table = (tmp_path / "l.csv").read_text("utf-8").splitlines()
    assert len(list(csv.DictReader(table))) == n_links


def test_who_stops_keeps_what_was_there(clean, tmp_path, never_again):
    asked = []
    arguments = clean.image, clean.affinity_file, str(tmp_path / "c.emseg"), AssignRecipe()
    assign_to_session(*arguments, cancelled=lambda: bool(asked.append(1)))
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    for n in (0, len(asked) // 3, len(asked) - 2, len(asked) - 1):
        with pytest.raises(Cancelled):
            assign_to_session(*arguments, overwrite=True, cancelled=never_again(n))
        assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
        with pytest.raises(Cancelled):
            assign_to_session(
                *arguments[:2], str(tmp_path / "d.emseg"), AssignRecipe(), cancelled=never_again(n)
            )
        assert not (tmp_path / "d.emseg").exists()


def test_what_cannot_be_is_refused_before_any_work(clean, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_em_seg.pipeline.reconstruction.propose", None)
    out, recipe = str(tmp_path / "e.emseg"), AssignRecipe()
    wrong = [
        (DataError, r"ends in \.emseg", (clean.image, clean.affinity_file, str(tmp_path / "e"), recipe), {}),
        (EmSegError, "nowhere", (str(tmp_path / "nowhere.tif"), clean.affinity_file, out, recipe), {}),
        (EmSegError, "nowhere", (clean.image, str(tmp_path / "nowhere.h5"), out, recipe), {}),
        (DataError, "'abacus'", (clean.image, clean.affinity_file, out, recipe), {"solver": "abacus"}),
        (EmSegError, r"none\.npz", (clean.image, clean.affinity_file, out,
                                    AssignRecipe(model=str(tmp_path / "none.npz"))), {}),
        (DataError, "gap", (clean.image, clean.affinity_file, out, recipe), {"gap": -1.0}),
    ]  # fmt: skip
    for error, words, arguments, options in wrong:
        with pytest.raises(error, match=words):
            assign_to_session(*arguments, **options)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "e.emseg").mkdir()
    with pytest.raises(TargetExistsError):
        assign_to_session(clean.image, clean.affinity_file, out, recipe)


def test_an_image_beside_the_session_never_takes_the_place_of_another_one(tmp_path):
    """Somebody's stack that has the name by chance, or the image of the session before."""
    rng = np.random.default_rng(0)
    mine, other = (Volume(rng.integers(0, 255, (n, 16, 16), np.uint8), (30, 6, 6), "raw") for n in (6, 3))
    theirs = tmp_path / "cells-image.zarr" / "raw"
    write_volume(mine, str(theirs))
    session = tmp_path / "cells.emseg"
    lazy = open_volume(str(theirs))
    crop = Volume(lazy[:2], lazy.voxel_size_nm, "raw", source=str(theirs))
    for image in (crop, other):
        kept = in_a_file(image, session)
        assert (kept[:] == image[:]).all()
        assert (open_volume(str(theirs))[:] == mine[:]).all()
        assert in_a_file(image, session).source == kept.source
    assert in_a_file(mine, session).source == lazy.source


def test_a_session_that_is_opened_answers_verdicts(clean, tmp_path):
    out = str(tmp_path / "f.emseg")
    assign_to_session(clean.image, clean.affinity_file, out, AssignRecipe())
    with open_session(out, user="ann") as session:
        listed = session.links().sorted_by("confidence").id
        link = int(listed[listed >= 0][0])
        before = session.outcome.objective
        done = session.reject(link)
        assert not session.outcome.chosen[link]
        assert session.outcome.objective >= before
        assert (done.user, done.objective_before) == ("ann", before)
        session.undo()
        assert session.outcome.objective == before


def test_sections_that_never_meet_are_not_linked(tmp_path):
    boundary = np.full((3, 300, 300), 255, np.uint8)
    boundary[0, 2:24, 2:24] = boundary[1, 270:298, 270:298] = boundary[2, 2:24, 2:24] = 0
    image = Volume(np.random.default_rng(0).integers(0, 255, boundary.shape, np.uint8), (30, 6, 6), "raw")
    maps = PredictedMaps(Volume(boundary, (30, 6, 6), "boundary"))
    reconstruct_to_session(image, str(tmp_path / "a.emseg"), maps=maps)
    with open_session(str(tmp_path / "a.emseg")) as session:
        labels = np.asarray(session_labels(session, fill=0))
    names = np.unique(labels[labels > 0])
    assert len(names) > 0
    assert all(len(np.unique(np.argwhere(labels == name)[:, 0])) == 1 for name in names)


@pytest.mark.parametrize("place", ["nowhere/a.emseg", "file.txt/a.emseg"])
def test_a_folder_that_is_not_there_is_said_before_any_work(clean, tmp_path, monkeypatch, place):
    (tmp_path / "file.txt").touch()
    monkeypatch.setattr("napari_em_seg.pipeline.reconstruction.reconstruct", lambda *_, **__: 1 / 0)
    with pytest.raises(SourceNotFoundError, match="an existing folder"):
        assign_to_session(clean.image, clean.affinity_file, str(tmp_path / place), AssignRecipe())
    with pytest.raises(SourceNotFoundError, match="an existing folder"):
        reconstruct_to_session(clean.raw, str(tmp_path / place), maps=None)


def test_a_voxel_size_that_only_the_maps_know_is_that_of_the_session(clean, tmp_path):
    raw = str(tmp_path / "raw.zarr")
    write_volume(Volume(np.asarray(clean.raw), name="raw"), raw)
    assign_to_session(raw, clean.affinity_file, str(tmp_path / "a.emseg"), AssignRecipe())
    with open_session(str(tmp_path / "a.emseg")) as session:
        assert session_labels(session).voxel_size_nm == (30, 6, 6)


def test_a_voxel_size_that_nobody_knows_is_asked_for(clean, tmp_path):
    raw, maps = str(tmp_path / "raw.zarr"), str(tmp_path / "boundary.zarr")
    write_volume(Volume(np.asarray(clean.raw), name="raw"), raw)
    write_volume(Volume(np.zeros(clean.raw.shape, np.uint8), name="boundary"), maps)
    with pytest.raises(DataError, match="--voxel-size"):
        assign_to_session(raw, maps, str(tmp_path / "a.emseg"), AssignRecipe())
