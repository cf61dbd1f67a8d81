"""Pipelines run from their files: the same result again, byte for byte, and nothing done twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.errors import Cancelled, DataError, EmSegError
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import Prediction, export_labels, predict_to_file, reconstruct_to_session
from napari_em_seg.pipeline.adjustable import parts_of
from napari_em_seg.pipeline.assignment import AssignRecipe
from napari_em_seg.pipeline.config import (
    Assign,
    Config,
    Evaluate,
    Export,
    Input,
    Predict,
    Segment,
    config_of_session,
    export_pipeline,
    read_config,
    write_config,
)
from napari_em_seg.pipeline.evidence import open_maps
from napari_em_seg.pipeline.reconstruction import assign_to_session, open_session
from napari_em_seg.pipeline.running import run_config
from napari_em_seg.review import Session


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def whole(noisy, base: Path) -> Config:
    base.mkdir(parents=True, exist_ok=True)
    steps = (
        Segment("zwatershed", level=0.4, smallest=20),
        Evaluate(noisy.truth_file),
        Export(meshes="meshes", report="report.html", least=300),
        Assign(),
        Evaluate(out="plausible.json"),
        Export(labels="objects.zarr", links="links.csv"),
    )
    return Config(Input(noisy.image, noisy.affinity_file), steps, base=base)


def test_a_pipeline_gives_the_same_again_byte_for_byte(noisy, tmp_path) -> None:
    for name in ("a", "b"):
        write_config(whole(noisy, tmp_path / name), tmp_path / name / "p.yaml")
        done = run_config(read_config(tmp_path / name / "p.yaml"))
        assert [(one.name, one.was_there) for one in done] == [
            (n, False) for n in ("segment", "evaluate", "export", "assign", "evaluate", "export")
        ]
    a, b = (tmp_path / name / "results" for name in ("a", "b"))
    names = {p.name for p in a.iterdir()}
    assert names == {
        "segments.zarr", "measures.json", "meshes", "report.html", "session.emseg", "plausible.json",
        "objects.zarr", "links.csv", "done.json",
    }  # fmt: skip
    for name in names - {"session.emseg", "done.json"}:
        one, other = (f / name for f in (a, b))
        assert (
            bytes_below(one) == bytes_below(other) if one.is_dir() else one.read_bytes() == other.read_bytes()
        )
    maps, size = open_maps(noisy.affinity_file)
    step = whole(noisy, tmp_path).steps[0]
    direct = parts_of(maps, step, voxel_size_nm=size).at(step.cut).whole()
    assert open_volume(a / "segments.zarr", "labels")[:].tobytes() == direct.tobytes()
    assert json.loads((a / "measures.json").read_text())["adapted_rand_error"] < 0.5
    assert json.loads((a / "plausible.json").read_text())["n_objects"] > 1


def test_what_is_done_is_not_done_again_and_what_changed_is(noisy, tmp_path) -> None:
    config = whole(noisy, tmp_path)
    begun: list[str] = []
    run_config(config, on_step=begun.append)
    begun.clear()
    assert all(one.was_there for one in run_config(config, on_step=begun.append))
    assert begun == []
    shutil.rmtree(tmp_path / "results" / "segments.zarr")
    done = run_config(config, on_step=begun.append)
    assert begun == ["segment"]
    assert [one.was_there for one in done] == [False, True, True, True, True, True]
    for name in ("links.csv", "objects.zarr"):
        place = tmp_path / "results" / name
        place.unlink() if place.is_file() else shutil.rmtree(place)
    assert [one.was_there for one in run_config(config)] == [True, True, True, True, True, False]
    changed = replace(config, steps=(replace(config.steps[0], level=0.6), *config.steps[1:]))
    with pytest.raises(DataError, match=r"segments\.zarr is there, and was made in another way"):
        run_config(changed)
    begun.clear()
    run_config(changed, overwrite=True, on_step=begun.append)
    assert len(begun) == 6


def test_a_run_that_was_stopped_goes_on(noisy, tmp_path) -> None:
    config, begun = whole(noisy, tmp_path), []
    with pytest.raises(Cancelled):
        run_config(config, on_step=begun.append, cancelled=lambda: len(begun) == 3)
    names = {p.name for p in (tmp_path / "results").iterdir()}
    assert names == {"segments.zarr", "measures.json", "done.json"}
    done = run_config(config)
    assert [one.was_there for one in done] == [True, True, False, False, False, False]


def test_what_is_missing_or_in_the_way_is_told_before_anything_is_done(noisy, tmp_path) -> None:
    config = whole(noisy, tmp_path)
    with pytest.raises(EmSegError, match="nothing at"):
        run_config(replace(config, input=Input("none.tif", noisy.affinity_file)))
    with pytest.raises(EmSegError, match="nothing at"):
        run_config(replace(config, steps=(*config.steps, Evaluate("none.tif", out="c.json"))))
    with pytest.raises(DataError, match="no links"):
        run_config(replace(config, steps=(config.steps[0], Export(links="l.csv"))))
    with pytest.raises(DataError, match=r"Two steps write to .*segments\.zarr"):
        run_config(replace(config, steps=(config.steps[0], Export(labels="segments.zarr"))))
    (tmp_path / "results" / "links.csv").write_text("mine")
    with pytest.raises(EmSegError, match=r"links\.csv"):
        run_config(config)
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["links.csv"]


def test_a_prediction_is_repeated_and_models_may_lie_beside_the_file(clean, tmp_path, put_model) -> None:
    shutil.copy(put_model("mine"), tmp_path / "beside.safetensors")
    wanted = Predict(("beside.safetensors",), views=1, device="cpu")
    config = Config(Input(clean.image), (wanted, Segment("hmin-2d", level=0.05)), base=tmp_path)
    run_config(config)
    predict_to_file(clean.image, str(tmp_path / "again.zarr"),
                    Prediction((str(tmp_path / "beside.safetensors"),), views=1, device="cpu"))  # fmt: skip
    found, again = (open_volume(tmp_path / n)[:] for n in ("results/boundary.zarr", "again.zarr"))
    assert found.tobytes() == again.tobytes()
    assert open_volume(tmp_path / "results" / "segments.zarr", "labels")[:].max() > 1


def test_a_session_is_made_again_with_all_that_people_did(noisy, tmp_path) -> None:
    out = tmp_path / "first.emseg"
    assign_to_session(noisy.image, noisy.affinity_file, str(out), AssignRecipe(min_area=30), gap=1e-4)
    with open_session(str(out), user="ann") as session:
        links = session.links().sorted_by("confidence").id.tolist()
        for link in links[:3]:
            session.reject(link)
        session.undo()
        session.add_region(2, 10, 10, np.ones((6, 6), bool), end_cost=0.0)
        places = export_pipeline(session, tmp_path / "p.yaml")
        export_labels(session, str(tmp_path / "first.zarr"))
        journal = session.operations
    assert [Path(p).name for p in places] == ["p.yaml", "p.history.jsonl"]
    config = read_config(tmp_path / "p.yaml")
    assert config.steps[0].gap == 1e-4
    assert config.steps[0].min_area == 30
    run_config(replace(config, steps=(*config.steps, Export(labels="again.zarr"))))
    again = tmp_path / "results" / "again.zarr"
    first = tmp_path / "first.zarr"
    assert open_volume(again, "labels")[:].tobytes() == open_volume(first, "labels")[:].tobytes()
    with Session(tmp_path / "results" / "session.emseg", mode="read") as session:
        assert [(o.kind, o.user, o.time) for o in session.operations] == [
            (o.kind, o.user, o.time) for o in journal
        ]
        assert session.outcome.objective == pytest.approx(journal[-1].objective_after)


def test_a_session_predicted_in_one_go_says_by_what(clean, tmp_path, put_affinity_model) -> None:
    put_affinity_model("small")
    out, image = tmp_path / "a.emseg", open_volume(clean.image)
    wanted = Prediction(("affinity",), views=1, device="cpu")
    reconstruct_to_session(image, str(out), wanted=wanted, recipe=AssignRecipe(model="none"))
    with Session(out, mode="read") as session:
        config = config_of_session(session, tmp_path)
        export_labels(session, str(tmp_path / "first.zarr"))
    assert config.steps[0] == Predict(("small",), views=1, device="cpu")
    run_config(replace(config, steps=(*config.steps, Export(labels="again.zarr"))))
    one, other = (open_volume(tmp_path / n, "labels")[:] for n in ("first.zarr", "results/again.zarr"))
    assert one.tobytes() == other.tobytes()


def test_a_session_that_does_not_say_how_it_was_made_is_refused(clean, tmp_path) -> None:
    maps = open_maps(clean.affinity_file)[0]
    reconstruct_to_session(open_volume(clean.image), str(tmp_path / "a.emseg"), maps=maps)
    with Session(tmp_path / "a.emseg", mode="read") as session, pytest.raises(DataError, match="does not say"):
        export_pipeline(session, tmp_path / "p.yaml")
    assert not (tmp_path / "p.yaml").exists()


def test_blocks_are_taken_by_workers_of_a_scheduler(noisy, tmp_path, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    steps = (Segment("zwatershed", level=0.4, blocks=(3, 48, 48), overlap=(1, 12, 12)),)
    for name in ("here", "there"):
        shutil.copytree(noisy.affinity_file, tmp_path / f"{name}.zarr")
    here, there = (Config(Input(noisy.image, f"{n}.zarr"), steps, n, tmp_path) for n in ("here", "there"))
    run_config(here)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        run_config(there, scheduler=cluster.scheduler_address)
    kept = tmp_path / "there.zarr.blocks"
    assert len(list(kept.glob("supervoxels-*.npz"))) == 8
    one, other = (open_volume(tmp_path / n / "segments.zarr", "labels")[:] for n in ("here", "there"))
    assert one.tobytes() == other.tobytes()


def test_a_scheduler_that_does_not_answer_is_told(noisy, tmp_path, monkeypatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_em_seg.pipeline.workers._WAIT_S", 0.5)
    steps = (Segment("zwatershed", level=0.4, blocks=(3, 48, 48)),)
    config = Config(Input(noisy.image, noisy.affinity_file), steps, base=tmp_path)
    with pytest.raises(EmSegError, match="does not answer"):
        run_config(config, scheduler="tcp://127.0.0.1:9")
