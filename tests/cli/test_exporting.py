"""napari-em-seg export, run: meshes, skeletons, reports and whole pipelines, as a user types them."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg import pipeline
from napari_em_seg.io import open_volume, write_volume, write_volumes
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

SIZE = (30.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An image, its affinities and truth, and a session about them."""
    made = tmp_path_factory.mktemp("tissue")
    sample = generate((6, 96, 96), 2)
    right = affinity_labels(sample.labels)[0]
    volumes = {place: Volume((235 * right[c] + 10).astype(np.uint8), SIZE, place)
               for c, place in enumerate(AFFINITY_MAPS)}  # fmt: skip
    write_volumes(volumes, made / "affinities.zarr")
    write_volume(Volume(sample.raw, SIZE, "raw"), made / "raw.zarr")
    write_volume(Volume(sample.labels, SIZE, "labels", kind="labels"), made / "truth.zarr")
    pipeline.assign_to_session(str(made / "raw.zarr"), str(made / "affinities.zarr"), str(made / "s.emseg"),
                               pipeline.AssignRecipe())  # fmt: skip
    return made


def test_meshes_skeletons_and_a_report(command, folder, tmp_path) -> None:
    session, report = folder / "s.emseg", tmp_path / "r.html"
    said = command(
        "export", session, "--meshes", tmp_path / "m", "--skeletons", tmp_path / "s", "--report", report,
        "--least", 500, "--mesh-format", "obj",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    n = len(list((tmp_path / "m").glob("*.obj")))
    assert n == len(list((tmp_path / "s").glob("*.swc"))) > 3
    assert f"Wrote {report}" in said.out
    assert f"{n} objects, " in said.out
    assert "method" not in report.read_text("utf-8")
    assert "assign:" in report.read_text("utf-8")  # how it was made
    name = next((tmp_path / "m").iterdir()).stem
    again = command("export", session, "--meshes", tmp_path / "one", "--objects", name, "--mesh-format",
                    "precomputed")  # fmt: skip
    assert again.code == 0
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"info", f"{name}:0", f"{name}.mesh"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--meshes, --skeletons, --report or --pipeline"),
        (("--meshes", "m", "--objects", "a,b"), "'a,b'"),
        (("--meshes", "m", "--objects", "999999"), "no object 999999"),
        (("--skeletons", "none/s"), "none does not exist"),
        (("--pipeline", "p.txt"), "ends in .yaml"),
        (("--links", "l.csv", "--least", "5"), "--least say something of meshes"),
        (("--skeletons", "s", "--least", "0"), "0 voxels"),
    ],
)
def test_bad_input_is_one_message(command, folder, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    said = command("export", folder / "s.emseg", *options)
    assert (said.code, said.out) == (2, "")
    assert words in " ".join(said.err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_session_becomes_a_file_that_run_repeats(command, folder, tmp_path) -> None:
    config = tmp_path / "p.yaml"
    said = command("export", folder / "s.emseg", "--labels", tmp_path / "first.zarr", "--pipeline", config)
    assert (said.code, said.err) == (0, "")
    assert f"Wrote {config}" in said.out
    with config.open("a") as file:
        file.write("- export: {labels: again.zarr}\n")
    ran = command("run", config)
    assert (ran.code, ran.err) == (0, "")
    assert "assign …" in ran.out
    one, other = (open_volume(tmp_path / n, "labels")[:] for n in ("first.zarr", "results/again.zarr"))
    assert one.tobytes() == other.tobytes()
    again = command("run", config)
    assert again.out.count("was there") == 2
    assert command("run", config, "--overwrite").out.count("done") == 2


def test_what_is_wrong_in_a_file_is_said(command, tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("input: {image: none.tif}\nsteps:\n- predict: {view: 4}\n")
    said = command("run", tmp_path / "p.yaml")
    assert said.code == 2
    assert "unknown view" in said.err
    assert command("run", tmp_path / "q.yaml").code == 2


def test_ctrl_c_stops_a_run_that_goes_on_later(command, folder, tmp_path, monkeypatch) -> None:
    from napari_em_seg.pipeline import running

    (tmp_path / "p.yaml").write_text(
        f"input: {{image: {folder}/raw.zarr, maps: {folder}/affinities.zarr}}\nsteps:\n"
        "- segment: {level: 0.4, method: zwatershed}\n- evaluate: {}\n"
    )
    honest = running.judge_labels

    def slow(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return honest(*arguments, **options)

    monkeypatch.setattr(running, "judge_labels", slow)
    said = command("run", tmp_path / "p.yaml")
    assert said.code == 130
    assert "same command" in said.err
    assert not (tmp_path / "results" / "measures.json").exists()
    monkeypatch.undo()
    assert command("run", tmp_path / "p.yaml").out.count("was there") == 1
