"""Objects that an agglomeration would join: asked about in the list, joined by an answer."""

import numpy as np
import pytest

from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import (
    AssignRecipe,
    PredictedMaps,
    export_labels,
    open_session,
    reconstruct_to_session,
)
from napari_em_seg.pipeline.joins import LEAST, _edges_of_merges
from napari_em_seg.review import KINDS
from napari_em_seg.review.object_volume import ObjectVolume
from napari_em_seg.review.scene import in_words, scene_of
from napari_em_seg.segment import agglomerate, region_graph
from napari_em_seg.volume import Volume


@pytest.fixture(scope="module")
def branching(tmp_path_factory):
    """Return a session of two tubes that become one within a slice by a thin bridge, and where they are."""
    folder = tmp_path_factory.mktemp("branching")
    inside = np.zeros((5, 64, 96), bool)
    inside[:, 10:50, 10:40] = inside[:, 10:50, 46:76] = True
    inside[:, 20:40, 40:46] = True
    affinities = np.zeros((3, *inside.shape), np.uint8)
    affinities[0, 1:] = inside[1:] & inside[:-1]
    affinities[1, :, 1:] = inside[:, 1:] & inside[:, :-1]
    affinities[2, :, :, 1:] = inside[..., 1:] & inside[..., :-1]
    affinities *= 240
    affinities[:, :, 20:40, 40:47] = 80  # the bridge is doubtful
    write_volume(Volume((inside * 200).astype(np.uint8), (30, 6, 6), "raw"), str(folder / "raw.zarr"))
    out = str(folder / "a.emseg")
    recipe = AssignRecipe(source="sections", model="none")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("napari_em_seg.pipeline.joins._score", lambda *_: "mean")  # the forest never saw tubes
    reconstruct_to_session(
        open_volume(str(folder / "raw.zarr")), out, maps=PredictedMaps(affinities), recipe=recipe
    )
    monkeypatch.undo()
    return out


def test_whoever_says_that_two_objects_are_not_apart_joins_them(branching, tmp_path):
    with open_session(branching) as session:
        before = ObjectVolume(session.view)
        names = [int(before[1, 30, x]) for x in (20, 70)]
        assert names[0] != names[1]
        assert min(names) > 0
        links = session.links()
        joins = links[links.kind == KINDS.index("merge in agglomeration")]
        assert len(joins) >= 1
        assert joins.confidence == pytest.approx(1 - joins.p_error)
        (row,) = [k for k in range(len(joins)) if {before.numbers[i] for i in
                  (joins.sources[k, 0], joins.targets[k, 0])} == set(names)]  # fmt: skip
        link = int(joins.id[row])
        scene = scene_of(session.view, link, [])
        assert in_words(scene.asked) == f"{names[0]} and {names[1]} are two objects"
        assert {place.object for place in scene.asked.places} == set(names)
        session.reject(link)
        after = ObjectVolume(session.view)
        assert after[1, 30, 20] == after[1, 30, 70] == min(names)
        export_labels(session, str(tmp_path / "o.zarr"), fill=0)
        exported = open_volume(str(tmp_path / "o.zarr"), "labels")[:]
        assert (exported == after[:]).all()
        again = session.links()
        assert set(again.object[again.kind < 5]) == {min(names)}  # all links are parts of it now
        session.undo()
        assert (ObjectVolume(session.view)[:] == before[:]).all()
        session.accept(link)
        assert (ObjectVolume(session.view)[:] == before[:]).all()


def test_each_merge_is_shown_where_its_sides_touch_most():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(1, 40, (3, 8, 8)), 4, 1), 4, 2).astype(np.uint32)
    affinities = rng.integers(0, 255, (3, *labels.shape)).astype(np.uint8)
    graph = region_graph(labels, affinities)
    tree = agglomerate(graph, "mean")
    edges = _edges_of_merges(graph, tree)
    members = [{i} for i in range(len(graph.labels))]
    faces = graph.contacts.sum(axis=1)
    for k, (a, b) in enumerate(zip(tree.a, tree.b, strict=True)):
        between = [
            edge for edge, (i, j) in enumerate(graph.ends.tolist())
            if (i in members[a] and j in members[b]) or (i in members[b] and j in members[a])
        ]  # fmt: skip
        assert edges[k] in between
        assert faces[edges[k]] == max(faces[edge] for edge in between)
        members.append(members[a] | members[b])


def test_nobody_is_asked_about_what_hardly_touches(branching):
    with open_session(branching, mode="read") as session:
        links = session.links()
        assert (links.p_error[links.kind == 5] >= LEAST).all()
