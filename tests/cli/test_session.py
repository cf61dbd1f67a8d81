"""napari-em-seg assign, links, pin, undo, redo, history, export, train assignment: as a user types them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_em_seg.io import open_volume, write_volumes
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

SIZE = (30.0, 6.0, 6.0)
KEYS = {"rank", "id", "kind", "z", "sources", "targets", "cost", "confidence", "regret", "p_error", "impact",
        "alternative", "status", "object"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tissue with its truth, affinities, and a boundary map; all in one file."""
    made = tmp_path_factory.mktemp("tissue")
    sample, rng = generate((6, 96, 96), 2), np.random.default_rng(0)
    right = affinity_labels(sample.labels)[0]
    affinities = np.clip(0.02 + 0.96 * right + 0.25 * rng.standard_normal(right.shape), 0, 1)
    boundary = gaussian_filter((sample.labels == 0).astype(float), (0, 1, 1))
    volumes = {place: Volume((255 * affinities[c]).astype(np.uint8), SIZE, place)
               for c, place in enumerate(AFFINITY_MAPS)}  # fmt: skip
    volumes |= {
        "raw": Volume(sample.raw, SIZE, "raw"),
        "boundary": Volume((255 * boundary).astype(np.uint8), SIZE, "b"),
        "labels": Volume(sample.labels, SIZE, "labels", kind="labels"),
        "short": Volume(sample.raw[:4], SIZE, "short"),
        "odd": Volume(sample.raw.astype(np.uint16), SIZE, "odd"),
    }  # fmt: skip
    write_volumes(volumes, made / "t.zarr")
    return made


@pytest.fixture(scope="module")
def whole(folder) -> Path:
    """A session to copy."""
    from napari_em_seg.pipeline import AssignRecipe, assign_to_session

    assign_to_session(f"{folder}/t.zarr/raw", f"{folder}/t.zarr", str(folder / "whole.emseg"), AssignRecipe())
    return folder / "whole.emseg"


@pytest.fixture
def session(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.emseg"))


def listed(command, session, *options):
    said = command("links", session, "--json", "--top", 0, *options)
    assert (said.code, said.err) == (0, "")
    return json.loads(said.out, parse_constant=pytest.fail)


def refused(said, *words):
    """One message in three parts, and nothing else."""
    assert said.code == 2, said
    assert said.out == ""
    assert "Traceback" not in said.err
    for word in words:
        assert word in " ".join(said.err.split())


def test_assign_makes_a_session_and_says_of_what(command, folder, tmp_path) -> None:
    for k, (maps, options) in enumerate((("", ()), ("/boundary", ("--model", "none", "--distance", 20)),
                                         ("", ("--hypotheses", "levels", "--solver", "cbc")))):  # fmt: skip
        out = tmp_path / f"{k}.emseg"
        said = command("assign", f"{folder}/t.zarr/raw", f"{folder}/t.zarr{maps}", "--out", out, *options)
        assert (said.code, said.err) == (0, ""), said
        assert said.out.startswith(f"Wrote {out}: ")
        for word in ("hypotheses", "assignments", "links", "objects", "gap 0.0"):
            assert word in said.out
        assert ("a plain rule" in said.out) == ("none" in options)
        assert len(listed(command, out)) > 5


def test_links_are_listed_worst_first(command, session) -> None:
    rows = listed(command, session)
    assert all(set(row) == KEYS for row in rows)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)
    assert {row["status"] for row in rows} == {"open"}
    assert not any(row["kind"] == "appearance" and row["z"] < 0 for row in rows)
    assert len(json.loads(command("links", session, "--json", "--top", 3).out)) == 3
    assert len(json.loads(command("links", session, "--json").out)) == min(20, len(rows))
    by_regret = [row["regret"] for row in listed(command, session, "--sort", "regret")]
    known = [regret for regret in by_regret if regret is not None]
    assert by_regret == sorted(known) + [None] * (len(by_regret) - len(known))  # merges have none
    impact = [row["impact"] for row in listed(command, session, "--sort", "impact")]
    assert impact == sorted(impact, reverse=True)


def test_links_are_chosen_by_kind_slice_object_and_state(command, session) -> None:
    rows = listed(command, session)
    ids = {row["id"] for row in rows}
    some = {row["id"] for row in listed(command, session, "--kind", "continuation")}
    assert some == {row["id"] for row in rows if row["kind"] == "continuation"} < ids
    assert {row["z"] for row in listed(command, session, "--slices", "1:3")} == {1, 2}
    label = rows[0]["object"]
    assert {row["object"] for row in listed(command, session, "--object", label)} == {label}
    command("pin", session, rows[0]["id"], "accept")
    assert {row["id"] for row in listed(command, session, "--open")} == ids - {rows[0]["id"]}


def test_a_table_for_people_has_a_line_for_each_link(command, session) -> None:
    said = command("links", session, "--top", 4)
    lines = said.out.splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:4] == ["link", "kind", "slices", "regions"]
    assert [line.split()[0] for line in lines[1:]] == [row["id"] for row in listed(command, session)[:4]]
    assert "→" in lines[1]


def test_verdicts_change_the_solution_and_are_undone_and_redone(command, session) -> None:
    before = listed(command, session)
    link = next(row for row in before if row["kind"] == "continuation" and row["alternative"])["id"]
    said = command("pin", session, link, "reject", "--user", "ann")
    assert said.code == 0
    assert said.out.startswith(f"1: reject link {link}; objective ")
    row = next(row for row in listed(command, session) if row["id"] == link)
    assert row["status"] == "rejected"
    assert command("undo", session).out.startswith("2: undo")
    assert listed(command, session) == before
    assert command("redo", session).out.startswith("3: redo")
    assert next(r for r in listed(command, session) if r["id"] == link)["status"] == "rejected"
    assert command("undo", session).code == 0
    assert command("pin", session, link, "alternative=1").code == 0
    after = {row["id"]: row["status"] for row in listed(command, session)}
    assert (after[link], sorted(after.values()).count("accepted")) == ("changed", 1)

    said = command("history", session)
    assert [line.split()[0] for line in said.out.splitlines()] == ["1", "2", "3", "4", "5"]
    assert "ann" in said.out.splitlines()[0]
    rows = json.loads(command("history", session, "--json").out, parse_constant=pytest.fail)
    assert [row["kind"] for row in rows] == ["reject", "undo", "redo", "undo", "alternative"]
    assert (rows[0]["user"], rows[0]["link"], rows[1]["target"]) == ("ann", link, 1)


def test_links_under_pins_are_still_json(command, session) -> None:
    for row in listed(command, session)[:6]:  # a pin makes the regret of what hangs on it infinite
        command("pin", session, row["id"], "accept")
    listed(command, session)
    said = command("links", session, "--top", 0)
    assert said.code == 0, said


def test_export_writes_all_that_was_asked_for(command, session, folder, tmp_path) -> None:
    link = listed(command, session)[0]["id"]
    command("pin", session, link, "accept")
    names = {"--labels": "o.zarr", "--links": "l.csv", "--graph": "g.graphml", "--history": "h.jsonl"}
    options = [part for option, name in names.items() for part in (option, tmp_path / name)]
    said = command("export", session, *options)
    assert (said.code, said.err) == (0, ""), said
    assert said.out.splitlines() == [f"Wrote {tmp_path / name}" for name in names.values()]
    labels = open_volume(str(tmp_path / "o.zarr"), "labels")
    truth = open_volume(f"{folder}/t.zarr/labels", "labels")
    assert labels.voxel_size_nm == SIZE
    assert evaluate(contingency(labels[:], truth[:])).adapted_rand_error < 0.2
    table = list(csv.DictReader((tmp_path / "l.csv").read_text("utf-8").splitlines()))
    assert [row["id"] for row in table] == [row["id"] for row in listed(command, session)]
    history = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text("utf-8").splitlines()]
    assert [entry["kind"] for entry in history] == ["accept"]
    assert (tmp_path / "g.graphml").read_text("utf-8").startswith("<?xml")
    for option, name in names.items():  # nothing is replaced
        before = (tmp_path / name).stat().st_mtime_ns
        refused(command("export", session, option, tmp_path / name), name, "exists")
        assert (tmp_path / name).stat().st_mtime_ns == before
    assert command("export", session, *options, "--overwrite").code == 0


def test_a_model_is_trained_and_used(command, folder, tmp_path) -> None:
    t, out = f"{folder}/t.zarr", tmp_path / "mine.npz"
    said = command("train", "assignment", out, "--data", f"{t}/raw,{t},{t}/labels", "--licence", "CC0")
    assert (said.code, said.err) == (0, ""), said
    assert said.out.startswith(f"Wrote {out}; leaving out costs ")
    said = command("assign", f"{t}/raw", t, "--out", tmp_path / "m.emseg", "--model", out)
    assert said.code == 0
    assert said.out.rstrip().endswith("; mine")
    link = listed(command, tmp_path / "m.emseg")[0]["id"]
    assert command("pin", tmp_path / "m.emseg", link, "accept").code == 0
    refused(command("train", "assignment", out, "--data", f"{t}/raw,{t},{t}/labels"), "mine.npz exists")
    for data, words in ((f"{t}/raw,{t}", "IMAGE,MAPS,LABELS"), (f"{t}/raw,{t},{t}/labels,0:4", "(4, 96, 96)"),
                        (f"{t}/raw,{folder}/no.h5,{t}/labels", "no.h5")):  # fmt: skip
        refused(command("train", "assignment", tmp_path / "n.npz", "--data", data), words)
    assert not (tmp_path / "n.npz").exists()


@pytest.mark.parametrize(
    ("raw", "maps", "out", "options", "words"),
    [
        ("/raw", "", "a", (), "ends in .emseg"),
        ("/none", "", "a.emseg", (), "none"),
        ("/raw", "/none", "a.emseg", (), "none"),
        ("/short", "", "a.emseg", (), "(4, 96, 96) and the prediction (6, 96, 96)"),
        ("/raw", "/odd", "a.emseg", (), "uint16"),
        ("/raw", "", "a.emseg", ("--solver", "abacus"), "'abacus' is not there. Expected highs"),
        ("/raw", "", "a.emseg", ("--model", "gone.npz"), "gone.npz"),
        ("/raw", "", "a.emseg", ("--distance", -1), "distance"),
        ("/raw", "", "a.emseg", ("--gap", -1), "gap"),
        ("/raw", "", "a.emseg", ("--time-limit", 0), "time"),
        ("/raw", "", "a.emseg", ("--hypotheses", "none"), "hypotheses"),
    ],
)
def test_what_cannot_be_assigned_is_refused(command, folder, tmp_path, raw, maps, out, options, words) -> None:
    t = f"{folder}/t.zarr"
    refused(command("assign", t + raw, t + maps, "--out", tmp_path / out, *options), words)
    assert list(tmp_path.iterdir()) == []


def test_a_session_is_not_replaced_unless_told_to(command, folder, session) -> None:
    t = f"{folder}/t.zarr"
    command("pin", session, listed(command, session)[0]["id"], "accept")
    refused(command("assign", f"{t}/raw", t, "--out", session), "s.emseg exists")
    assert len(command("history", session).out.splitlines()) == 1
    assert command("assign", f"{t}/raw", t, "--out", session, "--overwrite").code == 0
    assert command("history", session).out == ""


@pytest.mark.parametrize(
    "arguments",
    [("links",), ("pin", "1", "accept"), ("undo",), ("redo",), ("history",), ("export", "--links", "x")],
)
def test_what_is_no_session_is_refused(command, folder, tmp_path, arguments) -> None:
    name, *rest = arguments
    rest = [tmp_path / "x.csv" if word == "x" else word for word in rest]
    refused(command(name, tmp_path / "none.emseg", *rest), "There is no session", "none.emseg")
    refused(command(name, folder / "t.zarr", *rest), "is no session")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pin", "99999", "accept"), "no link 99999"),
        (("pin", "m99999", "accept"), "no link m99999"),
        (("pin", "eight", "accept"), "'eight'"),
        (("pin", "FIRST", "maybe"), "'maybe'"),
        (("pin", "FIRST", "alternative=0"), "no alternative 0"),
        (("pin", "FIRST", "alternative=77"), "no alternative 77"),
        (("pin", "FIRST", "alternative=x"), "'alternative=x'"),
        (("undo",), "nothing to undo"),
        (("redo",), "nothing to redo"),
        (("links", "--kind", "jump"), "'jump'"),
        (("links", "--slices", "a:b"), "'a:b'"),
        (("links", "--sort", "beauty"), "beauty"),
        (("links", "--top", "-1"), "--top"),
        (("export",), "--labels, --links, --graph, --history"),
        (("export", "--graph", "g.txt"), ".graphml or .json"),
        (("export", "--labels", "o.xyz"), "o.xyz"),
        (("export", "--labels", "o.zarr", "--fill", "-1"), "-1"),
    ],
)
def test_bad_input_is_one_message_and_changes_nothing(command, session, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(session.parent)
    first = listed(command, session)[0]["id"]
    name, *rest = (first if word == "FIRST" else word for word in arguments)
    refused(command(name, session, *rest), words)
    assert [path.name for path in session.parent.iterdir()] == ["s.emseg"]
    assert command("history", session).out == ""


def test_verdicts_that_clash_are_named(command, session) -> None:
    rows = listed(command, session, "--kind", "continuation")
    link = next(row for row in rows if row["alternative"])
    assert command("pin", session, link["id"], "alternative=1").code == 0
    other = next(r["id"] for r in listed(command, session) if r["status"] == "accepted")
    clash = _sharing(session, int(other))
    before = command("history", session).out
    refused(
        command("pin", session, clash, "accept"), "cannot all hold", f"{other} accepted", f"{clash} accepted"
    )
    assert command("history", session).out == before


def _sharing(session: Path, link: int) -> int:
    """Another way out of the source of a link."""
    from napari_em_seg.review import Session

    with Session(session, mode="read") as opened:
        made = opened.reconstruction
        same = np.flatnonzero((made.sources == made.sources[link, 0]).any(axis=1))
        if made.sources[link, 0] < 0:
            same = np.flatnonzero((made.targets == made.targets[link, 0]).any(axis=1))
        return int(next(k for k in same if k != link))
