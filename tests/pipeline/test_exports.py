"""What is exported of labels and of sessions: all of it where it was wanted, or nothing."""

import base64
import json
import re

import numpy as np
import pytest

from napari_em_seg.errors import Cancelled, DataError, SourceNotFoundError, TargetExistsError
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Export, export_session, export_volume
from napari_em_seg.pipeline.assignment import AssignRecipe
from napari_em_seg.pipeline.reconstruction import assign_to_session, export_graph, open_session
from napari_em_seg.review import Session
from napari_em_seg.review.links import MERGE_IN_AGGLOMERATION
from napari_em_seg.volume import Volume

ALL = ("labels.zarr", "links.csv", "graph.json", "history.jsonl", "meshes", "skeletons", "report.html")


@pytest.fixture(scope="module")
def path(clean, tmp_path_factory):
    """A session with one verdict, to be read only."""
    out = tmp_path_factory.mktemp("session") / "a.emseg"
    assign_to_session(clean.image, clean.affinity_file, str(out), AssignRecipe())
    with open_session(str(out), user="ann") as session:
        session.accept(int(session.links().sorted_by("confidence").id[0]))
    return str(out)


def everything(folder, **more) -> Export:
    return Export(*(str(folder / name) for name in ALL), **more)


def test_all_of_a_session(path, tmp_path) -> None:
    told = []
    with Session(path, mode="read") as session:
        found = export_session(session, everything(tmp_path), about="steps: <all>",
                               progress=lambda *step: told.append(step))  # fmt: skip
        names = {int(n) for n in np.unique(session.view.objects)} - {0}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(ALL)
    labels = open_volume(tmp_path / "labels.zarr", "labels")
    assert {int(n) for n in np.unique(labels[:])} - {0} == names
    assert {int(p.stem) for p in (tmp_path / "meshes").iterdir()} == names
    assert {int(p.stem) for p in (tmp_path / "skeletons").iterdir()} == names
    assert found.n_objects == len(names)
    assert found.length_nm > 6 * 30 * len(names) / 2
    assert [done / n for done, n in told] == sorted(done / n for done, n in told)
    assert told[-1][0] == told[-1][1]


def test_the_report_stands_alone_and_says_what_is_there(path, tmp_path) -> None:
    with Session(path, mode="read") as session:
        export_session(session, Export(report=str(tmp_path / "r.html")), about="steps: <all>")
        n_links = len(session.links())
        n_objects = len(np.unique(session.view.objects)) - 1
    page = (tmp_path / "r.html").read_text("utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) >= 6
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert f"<td>Objects<td>{n_objects}" in page
    assert f"<td>Links<td>{n_links}" in page
    assert "1 accepted" in page
    assert "1 by ann" in page
    assert "steps: &lt;all&gt;" in page


def test_the_report_is_the_same_each_time_and_goes_without_an_image(path, tmp_path, monkeypatch) -> None:
    def missing(self, name):
        raise SourceNotFoundError("The raw <is> gone", "it", "Look")

    with Session(path, mode="read") as session:
        for name in "ab":
            export_session(session, Export(report=str(tmp_path / f"{name}.html")))
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
        monkeypatch.setattr(Session, "volume", missing)
        export_session(session, Export(report=str(tmp_path / "c.html")))
    assert "The raw &lt;is&gt; gone" in (tmp_path / "c.html").read_text("utf-8")


def test_labels_without_a_session(clean, tmp_path) -> None:
    labels = open_volume(clean.truth_file, "labels")
    sizes = np.bincount(clean.truth.ravel())
    wanted = Export(meshes=str(tmp_path / "m"), skeletons=str(tmp_path / "s"), least=int(np.median(sizes[1:])),
                    report=str(tmp_path / "r.html"), mesh_format="obj")  # fmt: skip
    found = export_volume(labels, wanted, image=open_volume(clean.image))
    large = {k for k in range(1, len(sizes)) if sizes[k] >= wanted.least}
    assert {int(p.stem) for p in (tmp_path / "m").glob("*.obj")} == large
    assert found.n_objects == len(large)
    some = sorted(large)[:2]
    export_volume(labels, Export(skeletons=str(tmp_path / "t"), objects=some))
    assert {int(p.stem) for p in (tmp_path / "t").iterdir()} == set(some)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Export(links="l.csv"), "no links"),
        (Export(meshes="m", mesh_format="stl"), "'stl'"),
        (Export(meshes="m", least=0), "0 voxels"),
        (Export(meshes="m", objects=[10**6]), "no object 1000000"),
        (Export(skeletons="s", least=10**7), "no object of 10,000,000"),
        (Export(meshes="m", skeletons="m"), "Two things"),
        (Export(report="none/r.html"), "none does not exist"),
        (Export(labels="l.xyz"), "l.xyz"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(clean, tmp_path, monkeypatch, wanted, words) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, SourceNotFoundError, ValueError), match=words):
        export_volume(Volume(clean.truth, (30, 6, 6), "truth", kind="labels"), wanted)
    assert list(tmp_path.iterdir()) == []


def test_lengths_need_a_voxel_size(clean, tmp_path) -> None:
    with pytest.raises(DataError, match="voxel size of truth is not known"):
        export_volume(Volume(clean.truth, None, "truth", kind="labels"), Export(meshes=str(tmp_path / "m")))
    export_volume(Volume(clean.truth, None, "truth", kind="labels"), Export(report=str(tmp_path / "r.html")))
    assert "unknown" in (tmp_path / "r.html").read_text("utf-8")


def test_nothing_is_done_where_one_target_is_there(path, tmp_path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with Session(path, mode="read") as session:
        with pytest.raises(TargetExistsError, match=r"report\.html"):
            export_session(session, everything(tmp_path))
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
        export_session(session, everything(tmp_path), overwrite=True)
        export_session(session, everything(tmp_path), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(ALL)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.5, 0.95])
def test_cancel_leaves_no_half_file(path, tmp_path, share) -> None:
    now = [0.0]

    def progress(done: int, n: int) -> None:
        now[0] = done / n

    with Session(path, mode="read") as session:
        with pytest.raises(Cancelled):
            export_session(session, everything(tmp_path), progress=progress, cancelled=lambda: now[0] >= share)
        there = {p.name for p in tmp_path.iterdir()}
        assert there < set(ALL)  # and no hidden ones
        export_session(session, everything(tmp_path), overwrite=True)


def test_the_graph_knows_of_objects_that_a_reviewer_joined(noisy, tmp_path) -> None:
    out = tmp_path / "a.emseg"
    assign_to_session(noisy.image, noisy.affinity_file, str(out), AssignRecipe())
    with open_session(str(out)) as session:
        links = session.links()
        merge = int(links.id[links.kind == MERGE_IN_AGGLOMERATION][0])
        before = session.view.objects.copy()
        session.reject(merge)  # they do not stay apart
        after = session.view.objects
        assert len(np.unique(after)) == len(np.unique(before)) - 1
        export_graph(session, tmp_path / "g.json")
    graph = json.loads((tmp_path / "g.json").read_text())
    assert {node["id"]: node["object"] for node in graph["nodes"]} == {
        i: int(after[i]) for i in np.flatnonzero(after)
    }
    assert {link["object"] for link in graph["links"]} <= set(after.tolist())
    assert graph["graph"]["objects"] == len(np.unique(after[after > 0]))
