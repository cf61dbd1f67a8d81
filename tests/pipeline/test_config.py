"""Pipelines in files: written, read back the same, and what is wrong in them is named."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from napari_em_seg.errors import DataError, EmSegError, FormatError, TargetExistsError
from napari_em_seg.pipeline import AssignRecipe, Limits, Prediction
from napari_em_seg.pipeline.adjustable import Cut, PartsRecipe
from napari_em_seg.pipeline.config import (
    Assign,
    Evaluate,
    Export,
    Input,
    Predict,
    Review,
    Segment,
    config_of,
    read_config,
    step_of,
    write_config,
)
from napari_em_seg.volume import Volume

STEPS = (
    Predict(("one", "two"), slices=slice(2, None), views=4, misaligned=(3, 4), local_models=("three",)),
    Segment("zwatershed", 2.0, "quantile", 0.25, level=0.4, smallest=30, blocks=(4, 64, 64)),
    Evaluate("truth.h5/labels", orphan_voxels=7),
    Assign("sections", "auto", Limits(distance=12.5), min_area=9, gap=0.01, out="s.emseg"),
    Review("h.jsonl"),
    Export(labels="l.zarr", meshes="m", objects=(3, 4), mesh_format="obj", fill=0.0),
)


def test_all_steps_are_read_as_they_were_written(tmp_path) -> None:
    config = config_of(Input("raw.h5/raw", voxel_size_nm=(30.0, 6.0, 6.0)), [*map(step_of, STEPS)], tmp_path,
                       folder="out")  # fmt: skip
    assert config.steps == STEPS
    write_config(config, tmp_path / "p.yaml")
    assert read_config(tmp_path / "p.yaml") == config
    with pytest.raises(TargetExistsError):
        write_config(config, tmp_path / "p.yaml")


def test_what_docks_did_becomes_steps(tmp_path) -> None:
    steps = [
        step_of(Prediction(("affinity",), views=1)),
        step_of(PartsRecipe("zwatershed", score="learned"), cut=Cut(0.3, 50, False)),
        step_of(AssignRecipe(min_area=20), gap=0.5),
    ]
    assert [step["step"] for step in steps] == ["predict", "segment", "assign"]
    assert steps == yaml.safe_load(yaml.safe_dump(steps))  # plain, as a layer's metadata should be
    found = config_of(Input("raw.tif"), steps).steps
    assert found[0] == Predict(("affinity",), views=1)
    assert found[1] == Segment("zwatershed", score="learned", level=0.3, smallest=50, is_joining=False)
    assert found[2] == Assign(min_area=20, gap=0.5)


def test_paths_count_from_the_file(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    image = Volume(np.zeros((2, 3, 4)), None, "raw", str(tmp_path / "data" / "raw.tif"))
    config = config_of(image, [step_of(STEPS[0])], Path("/elsewhere"))
    write_config(config, tmp_path / "a" / "p.yaml")
    assert yaml.safe_load((tmp_path / "a" / "p.yaml").read_text())["input"] == {"image": "../data/raw.tif"}
    read = read_config(tmp_path / "a" / "p.yaml")
    assert read.place(read.input.image) == str(tmp_path / "data" / "raw.tif")
    assert read.result("x.zarr") == str(tmp_path / "a" / "results" / "x.zarr")
    with pytest.raises(DataError, match="lies in no file"):
        config_of(Volume(image.data), [])


GOOD = "input: {image: raw.tif}\nsteps:\n- predict: {}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "input: and steps:"),
        ("steps: [", "no YAML"),
        (GOOD + "colour: red\n", "unknown colour"),
        (GOOD + "version: 9\n", "version 9"),
        ("steps:\n- predict: {}\n", "input is None"),
        ("input: {image: r, imag: s}\nsteps:\n- predict:\n", "unknown imag"),
        ("input: {maps: r}\nsteps:\n- predict:\n", "does not say its image"),
        (
            "input: {image: r, voxel_size_nm: [1, 2]}\nsteps:\n- predict:\n",
            "voxel_size_nm is [1, 2]. Expected 3",
        ),
        ("input: {image: r}\nsteps: predict\n", "a list"),
        ("input: {image: r}\nsteps: [{predict: , segment: }]\n", "a list"),
        ("input: {image: r}\nsteps:\n- predikt:\n", "'predikt'"),
        ("input: {image: r}\nsteps:\n- predict: {view: 4}\n", "step 1 (predict) has the unknown view"),
        ("input: {image: r}\nsteps:\n- predict: {views: four}\n", "views is 'four'. Expected a whole number"),
        ("input: {image: r}\nsteps:\n- predict: {views: true}\n", "views is True"),
        ("input: {image: r}\nsteps:\n- predict: {dtype: int8}\n", "'uint8' or 'float32'"),
        ("input: {image: r}\nsteps:\n- predict: {slices: 3}\n", "[0, 15]"),
        (GOOD + "- segment: {method: hmin-3d}\n", "step 2 (segment) does not say its level"),
        (GOOD + "- segment: {level: 0.1, fragments: {lo: 1}}\n", "fragments has the unknown lo"),
        ("input: {image: r}\nsteps:\n- segment: {level: 0.1}\n", "segment has nothing to work on"),
        (GOOD + "- review: {history: h}\n", "review has nothing to work on"),
        (GOOD + "- export: {labels: l.tif}\n", "export has nothing to work on"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises((DataError, FormatError)) as told:
        read_config(tmp_path / "p.yaml")
    assert words in str(told.value)


def test_maps_that_are_there_need_no_prediction_and_files_have_to_be_there(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("input: {image: r, maps: m}\nsteps:\n- segment: {level: 1}\n")
    (step,) = read_config(tmp_path / "p.yaml").steps
    assert (step.level, type(step.level)) == (1.0, float)
    with pytest.raises(EmSegError, match=r"q\.yaml"):
        read_config(tmp_path / "q.yaml")
    with pytest.raises(DataError, match=r"ends in \.yaml"):
        write_config(read_config(tmp_path / "p.yaml"), tmp_path / "p.txt")
