"""Fine-tuning from paint: what is read from it, what comes out, and what is never touched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_em_seg.errors import DataError, TargetExistsError
from napari_em_seg.pipeline.fine_tuning import FineTuning, fine_tune
from napari_em_seg.pipeline.names import free_name
from napari_em_seg.pipeline.painted import GAP_PX, read_painted
from napari_em_seg.pipeline.training import training_folder
from napari_em_seg.predict.watch import Picture, Watch
from napari_em_seg.predict.weights import read_card, user_folder
from napari_em_seg.volume import Volume

TUNING = FineTuning("objects", "start", minutes=5, steps=30, side=64, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_em_seg.predict.train._draw_curves", lambda _curves, path: path.touch())


def tissue(n: int = 4, side: int = 96) -> tuple[Volume, np.ndarray]:
    """Squares of cells between bright membranes, which an untrained model takes for cells; and their ids."""
    y, x = np.indices((side, side))
    ids = np.where((y % 24 < 4) | (x % 24 < 4), 0, 1 + (y // 24) * 8 + x // 24)
    labels = np.repeat(ids[None], n, axis=0)
    noise = np.random.default_rng(0).normal(0, 12, labels.shape)
    raw = np.clip(np.where(labels > 0, 90, 170) + noise, 0, 255).astype(np.uint8)
    return Volume(raw, (30.0, 6.0, 6.0), "cells"), labels


def only(labels: np.ndarray, *slices: int) -> np.ndarray:
    """Keep what is painted on some slices."""
    kept = np.zeros_like(labels)
    kept[list(slices)] = labels[list(slices)]
    return kept


def scribbles(labels: np.ndarray, *slices: int) -> np.ndarray:
    """Draw strokes in each cell, and along membranes between them."""
    drawn = np.zeros_like(labels)
    for z in slices:
        drawn[z, 12::24, 8:20] = 2
        drawn[z, 12::24, 32:44] = 2
        drawn[z, 1:3, 6:80:1] = 1
        drawn[z, 25:27, 30:60] = 1
    return drawn


# ------------------------------------------------------------------------------------------ what paint says


def test_scribbles_are_known_where_they_are() -> None:
    drawn = scribbles(tissue()[1], 1, 3)
    found = read_painted(drawn, "scribbles")
    for z in (1, 3):
        known = np.zeros(drawn.shape[1:], bool)
        for part in (found.learned, found.kept):
            if z in part:
                assert not (known & part[z].known).any()  # nothing is learned from and kept aside
                known |= part[z].known
        assert (known == (drawn[z] > 0)).all()
        assert (found.learned[z].boundary == (drawn[z] == 1)).all()


def test_whole_strokes_of_each_kind_are_kept_aside() -> None:
    drawn = scribbles(tissue()[1], 1, 3)
    kept = read_painted(drawn, "scribbles").truth
    assert {int(v) for plane in kept.values() for v in np.unique(plane)} == {0, 1, 2}
    one = np.zeros_like(drawn)
    one[1, 1:3, 6:80] = 1
    one[1, 12, 8:20] = 2
    with pytest.raises(DataError, match="two strokes"):
        read_painted(one, "scribbles")


def test_gaps_between_objects_are_membrane_and_what_lies_beyond_is_not_known() -> None:
    labels = np.zeros((1, 120, 160), int)
    labels[0, 20:60, 20:50], labels[0, 20:60, 56:90] = 1, 2
    labels[0, 60:80, 20:50] = 3  # it touches the first one
    found = read_painted(labels, "objects")
    part = found.learned[0]
    assert part.known[40, 53]
    assert part.boundary[40, 53]
    assert not part.boundary[40, 35]
    assert part.boundary[60, 30]
    assert part.boundary[59, 30]
    assert not part.known[40, 95:].any()
    assert not part.known[100:].any()
    assert GAP_PX > 6


def test_wide_gaps_between_objects_are_not_known() -> None:
    labels = np.zeros((1, 100, 200), int)
    labels[0, 20:60, 20:50], labels[0, 20:60, 52:80], labels[0, 20:60, 80 + GAP_PX + 4 : 150] = 1, 2, 3
    assert not read_painted(labels, "objects").learned[0].known[40, 80 + GAP_PX // 2]


def test_the_middle_one_of_three_painted_slices_is_kept_aside_and_of_two_a_quarter_of_each() -> None:
    _, labels = tissue(6)
    three, two = (read_painted(only(labels, *z), "objects") for z in ((0, 2, 5), (0, 5)))
    assert (list(three.learned), list(three.kept)) == ([0, 5], [2])
    assert (list(two.learned), list(two.kept)) == ([0, 5], [0, 5])
    assert two.kept[0].known[:, 72:].all()
    assert not two.kept[0].known[:, :72].any()
    assert not two.learned[0].known[:, 72:].any()


@pytest.mark.parametrize(
    ("number", "convention", "said"), [(0, "objects", "Nothing is painted"), (7, "scribbles", "number 7")]
)
def test_paint_that_says_nothing_is_refused(number: int, convention: str, said: str) -> None:
    labels = np.full((2, 40, 40), number)
    with pytest.raises(DataError, match=said):
        read_painted(labels, convention)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("convention", ["objects", "scribbles"])
def test_it_gets_better_on_a_slice_that_was_not_painted(convention, put_model, tmp_path) -> None:
    start = put_model("start")
    before = start.read_bytes()
    raw, labels = tissue()
    painted = only(labels, 0, 1) if convention == "objects" else scribbles(labels, 0, 1)
    out = tmp_path / "tuned.safetensors"
    found = fine_tune(out, raw, painted, replace(TUNING, convention=convention), device="cpu")
    assert found is not None
    assert found.after < found.before / 2
    assert start.read_bytes() == before
    assert read_card(out) == found.card
    from napari_em_seg.pipeline import Prediction, predict_boundary

    def error(model: Path) -> float:
        found = predict_boundary(raw, Prediction((str(model),), slices=slice(3, 4), views=1, device="cpu"))
        return float(np.mean((found[0] > 127) != (labels[3] == 0)))

    assert error(out) < error(start) / 2


def test_the_card_says_what_it_began_with_and_what_it_saw(put_model, tmp_path) -> None:
    put_model("start", data=("a mouse",), licence="CC0")
    raw, labels = tissue()
    found = fine_tune(tmp_path / "tuned.safetensors", raw, only(labels, 0, 1), TUNING, device="cpu")
    assert found is not None
    card = found.card
    assert card is not None
    assert card.name == "tuned"
    assert card.data[0] == "a mouse"
    assert "slices 0, 1 of cells" in card.data[1]
    assert card.voxel_size_nm == (30, 6, 6)
    assert "start" in card.command
    assert card.measures["adapted_rand_error (validation)"] == pytest.approx(found.after)


def test_a_model_that_got_no_better_is_not_kept(put_model, tmp_path, monkeypatch) -> None:
    put_model("start")
    raw, labels = tissue()
    out = tmp_path / "tuned.safetensors"
    scores = iter((0.2, 0.3))
    monkeypatch.setattr(
        "napari_em_seg.pipeline.fine_tuning._segmentation_error",
        lambda maps, truths: {"score": (error := next(scores)), "adapted_rand_error": error},
    )
    found = fine_tune(out, raw, only(labels, 0, 1), TUNING, device="cpu")
    assert found is not None
    assert (found.before, found.after, found.card) == (0.2, 0.2, None)
    assert not out.exists()
    assert not training_folder(out).exists()


def test_a_run_that_was_paused_goes_on_to_the_same_end(put_model, tmp_path) -> None:
    put_model("start")
    raw, labels = tissue()
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    # a limit in time makes the rate hang on the clock; so far away it does not
    tuning = replace(TUNING, minutes=1e9, steps=12)
    steps: list[int] = []
    assert fine_tune(whole, raw, only(labels, 0, 1), tuning, device="cpu")
    watch = Watch(on_step=lambda step, _: steps.append(step))
    options = {"device": "cpu", "watch": watch}
    assert (
        fine_tune(halves, raw, only(labels, 0, 1), tuning, cancelled=lambda: len(steps) >= 5, **options) is None
    )
    assert not halves.exists()
    assert fine_tune(halves, raw, only(labels, 0, 1), tuning, **options)
    assert steps == list(range(1, 13))
    one, other = (safetensors.torch.load_file(path) for path in (whole, halves))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_time_and_whoever_has_seen_enough_end_it(put_model, tmp_path) -> None:
    put_model("start")
    raw, labels = tissue()
    rows, steps = [], []
    tuning = replace(TUNING, minutes=0.03, steps=10**6)
    options = {"device": "cpu", "on_validation": rows.append}
    found = fine_tune(tmp_path / "a.safetensors", raw, only(labels, 0, 1), tuning, **options)
    assert found is not None
    assert 0.03 <= rows[-1]["minutes"] < 0.3
    watch = Watch(on_step=lambda step, _: steps.append(step), is_enough=lambda: len(steps) >= 7)
    assert fine_tune(tmp_path / "b.safetensors", raw, only(labels, 0, 1), TUNING, device="cpu", watch=watch)
    assert steps[-1] == 7


def test_pictures_come_with_each_validation(put_model, tmp_path) -> None:
    put_model("start")
    raw, labels = tissue()
    pictures: list[Picture] = []
    fine_tune(tmp_path / "a.safetensors", raw, only(labels, 0, 1), TUNING, device="cpu",
              watch=Watch(on_picture=pictures.append))  # fmt: skip
    assert len(pictures) == 2
    first, last = pictures
    assert first.image.shape == first.predicted.shape == first.truth.shape
    assert not np.array_equal(first.predicted, last.predicted)


def test_what_does_not_fit_is_refused_and_nothing_is_overwritten(
    put_model, put_affinity_model, tmp_path
) -> None:
    start = put_model("start")
    put_affinity_model("joins")
    raw, labels = tissue()
    painted = only(labels, 0, 1)
    with pytest.raises(DataError, match="what is painted is"):
        fine_tune(tmp_path / "a.safetensors", raw, painted[:2], TUNING)
    with pytest.raises(DataError, match="predicts affinity"):
        fine_tune(tmp_path / "a.safetensors", raw, painted, replace(TUNING, begin_from="joins"))
    with pytest.raises(TargetExistsError):
        fine_tune(start, raw, painted, TUNING)
    with pytest.raises(DataError, match="is the model that it begins with"):
        fine_tune(start, raw, painted, TUNING, overwrite=True)


def test_names_of_models_that_are_there_or_were_begun_are_not_free(put_model: Callable[..., Path]) -> None:
    put_model("cells")
    assert free_name("other") == "other"
    assert free_name("cells") == "cells-2"
    (user_folder() / "cells-2.training").mkdir()
    (user_folder() / "cells-3.npz").touch()
    assert free_name("cells") == "cells-4"
