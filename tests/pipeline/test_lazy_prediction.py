"""Predicting block by block, where somebody looks: the same result as the whole, in whatever order."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.pipeline import Prediction, predict_affinities, predict_boundary
from napari_em_seg.pipeline.lazy_prediction import LazyPrediction, boundary_by_slice, load_models, preview
from napari_em_seg.volume import Volume

WHOLE = (slice(0, 1), slice(0, 64), slice(0, 64))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wanted(*models: str, **options) -> Prediction:
    return Prediction(models, **{"views": 1, "device": "cpu", "tile": 32, "misaligned": (), **options})


def anywhere(seed: int = 0):
    """Look at another place each time."""
    rng = np.random.default_rng(seed)

    def looking_at():
        z, y, x = rng.integers(0, (8, 60, 60))
        return slice(z, z + 1), slice(y, y + 4), slice(x, x + 4)

    return looking_at


def done(prediction: LazyPrediction, looking_at=None, **options) -> list:
    return list(prediction.blocks(looking_at or anywhere(), **options))


# -------------------------------------------------------------------------------------- the same as the whole


@pytest.mark.parametrize("views", [1, 8])
@pytest.mark.parametrize("normalisation", ["volume", "slice"])
def test_blocks_in_any_order_are_the_whole(small_tissue, put_model, views, normalisation) -> None:
    put_model("mine", n_slices=3, normalisation=normalisation)
    options = wanted("mine", views=views, dtype="float32")
    prediction = LazyPrediction(small_tissue.raw, options)
    assert not prediction.boundary.any()
    assert not prediction.is_complete
    places = done(prediction)
    assert len(places) == prediction.n_blocks == 8 * 4
    assert prediction.is_complete
    whole = predict_boundary(small_tissue.raw, options)
    assert whole.std() > 1e-3
    np.testing.assert_array_equal(prediction.boundary, whole)


def test_ensembles_and_local_models_too(small_tissue, put_model) -> None:
    put_model("one", 1)
    put_model("two", 2, n_slices=3)
    put_model("three", 3)
    options = wanted("one", "two", local_models=("three",), misaligned=(2, 5), dtype="float32")
    prediction = LazyPrediction(small_tissue.raw, options)
    done(prediction)
    np.testing.assert_array_equal(prediction.boundary, predict_boundary(small_tissue.raw, options))
    assert prediction.models == ("one", "two", "three")
    without = predict_boundary(small_tissue.raw, wanted("one", "two", dtype="float32"))
    changed = [z for z in range(8) if (without[z] != prediction.boundary[z]).any()]
    assert changed == [2, 5]


@pytest.mark.parametrize("tile", [(3, 32, 32), (8, 64, 64)])
def test_affinities_are_those_of_the_whole_and_shown_as_boundaries(
    small_tissue, put_affinity_model, tile
) -> None:
    put_affinity_model("mine")
    options = wanted("mine", tile=tile, views=4)
    prediction = LazyPrediction(small_tissue.raw, options)
    assert prediction.task == "affinity"
    done(prediction)
    whole = predict_affinities(small_tissue.raw, options)
    assert len(whole) == 4
    assert whole.std() > 1
    np.testing.assert_array_equal(prediction.affinities, whole[:3])
    np.testing.assert_array_equal(prediction.boundary, 255 - whole[1:3].min(0))


def test_a_part_of_the_slices_sees_the_others(small_tissue, put_model) -> None:
    put_model("mine", n_slices=3)
    prediction = LazyPrediction(small_tissue.raw, wanted("mine", slices=slice(3, 6)))
    done(prediction)
    np.testing.assert_array_equal(prediction.boundary, predict_boundary(small_tissue.raw, wanted("mine"))[3:6])


def test_large_tiles_at_the_far_corner_are_right_too(put_model) -> None:
    put_model("mine")
    image = np.random.default_rng(0).integers(0, 256, (2, 150, 90), np.uint8)
    options = wanted("mine", tile=64)
    prediction = LazyPrediction(Volume(image, (30, 6, 6)), options)
    done(prediction, lambda: (slice(1, 2), slice(140, 150), slice(80, 90)))
    np.testing.assert_array_equal(prediction.boundary, predict_boundary(Volume(image, (30, 6, 6)), options))


# --------------------------------------------------------------------------------------- where somebody looks


def test_what_is_looked_at_comes_first_and_is_asked_anew(small_tissue, put_model) -> None:
    put_model("mine")
    prediction = LazyPrediction(small_tissue.raw, wanted("mine"))
    look = [(slice(4, 5), slice(40, 64), slice(0, 10))]
    blocks = prediction.blocks(lambda: look[0])
    first = [next(blocks) for _ in range(5)]
    assert first[0] == (slice(4, 5), slice(32, 64), slice(0, 32))
    beside = {(4, 0, 0), (4, 32, 32), (3, 32, 0), (5, 32, 0)}
    assert {tuple(part.start for part in place) for place in first[1:]} == beside
    look[0] = (slice(7, 8), slice(0, 64), slice(0, 64))
    assert {next(blocks)[0].start for _ in range(4)} == {7}
    assert next(blocks)[0].start == 6


def test_only_yielded_blocks_are_written(small_tissue, put_model) -> None:
    put_model("mine")
    prediction = LazyPrediction(small_tissue.raw, wanted("mine"))
    place = next(prediction.blocks(lambda: WHOLE))
    assert prediction.boundary[place].any()
    prediction.boundary[place] = 0
    assert not prediction.boundary.any()


# ----------------------------------------------------------------------------------------- stopping, going on


def test_cancelling_keeps_what_is_done_and_the_rest_can_follow(small_tissue, put_model) -> None:
    put_model("mine", n_slices=3)
    prediction = LazyPrediction(small_tissue.raw, wanted("mine", views=4))
    with pytest.raises(Cancelled):
        done(prediction, cancelled=lambda: prediction.n_blocks == prediction.n_left + 5)
    assert (prediction.n_blocks, prediction.n_left) == (32, 27)
    assert not prediction.is_complete
    told = []
    more = done(prediction, progress=lambda *steps: told.append(steps))
    assert len(more) == 27
    assert (told[0], told[-1]) == ((1, 27), (27, 27))
    whole = predict_boundary(small_tissue.raw, wanted("mine", views=4))
    np.testing.assert_array_equal(prediction.boundary, whole)
    assert done(prediction) == []


def test_cancelling_before_the_first_block_leaves_nothing(small_tissue, put_model) -> None:
    put_model("mine")
    prediction = LazyPrediction(small_tissue.raw, wanted("mine"))
    with pytest.raises(Cancelled):
        done(prediction, cancelled=lambda: True)
    assert not prediction.boundary.any()
    assert len(done(prediction)) == 32


def test_what_does_not_fit_the_memory_is_refused_at_once(put_model, monkeypatch) -> None:
    put_model("mine")
    huge = Volume(np.broadcast_to(np.uint8(0), (10**4, 10**5, 10**5)), (30, 6, 6), "huge")
    with pytest.raises(DataError, match="GiB of memory"):
        LazyPrediction(huge, wanted("mine"))


# ------------------------------------------------------------------------------------------------ the preview


def test_a_preview_is_what_the_whole_will_be_there(small_tissue, put_model) -> None:
    put_model("mine", n_slices=3)
    place, shown = preview(small_tissue.raw, wanted("mine"), (slice(4, 5), slice(8, 40), slice(-9, 99)))
    assert place == (slice(4, 5), slice(8, 40), slice(0, 64))
    whole = predict_boundary(small_tissue.raw, wanted("mine"))
    np.testing.assert_allclose(shown.astype(int), whole[place], atol=1)


def test_a_preview_of_a_large_slice_is_its_middle(put_model) -> None:
    put_model("mine")
    image = np.random.default_rng(0).integers(0, 256, (2, 1400, 1300), np.uint8)
    looked_at = (slice(1, 2), slice(0, 1400), slice(0, 1300))
    (z, y, x), shown = preview(Volume(image, (30, 6, 6)), wanted("mine"), looked_at)
    assert (z.start, y.start, x.start) == (1, 188, 138)
    assert shown.shape == (1, 1024, 1024)


def test_a_preview_of_affinities_shows_boundaries(small_tissue, put_affinity_model) -> None:
    put_affinity_model("mine")
    place, shown = preview(small_tissue.raw, wanted("mine"), (slice(0, 1), slice(0, 64), slice(0, 64)))
    prediction = LazyPrediction(small_tissue.raw, wanted("mine", tile=(1, 64, 64)))
    done(prediction)
    np.testing.assert_allclose(shown.astype(int), prediction.boundary[place], atol=1)


def test_local_models_join_in_a_preview_where_the_slice_is_known_to_be_misaligned(
    small_tissue, put_model
) -> None:
    put_model("one", 1)
    put_model("two", 2)
    box = (slice(2, 3), slice(0, 64), slice(0, 64))
    alone = preview(small_tissue.raw, wanted("one"), box)[1]
    here = preview(small_tissue.raw, wanted("one", local_models=("two",), misaligned=(2,)), box)[1]
    elsewhere = preview(small_tissue.raw, wanted("one", local_models=("two",), misaligned=(5,)), box)[1]
    unknown = preview(small_tissue.raw, wanted("one", local_models=("two",), misaligned="auto"), box)[1]
    assert (here > alone).any()
    assert (elsewhere == alone).all()
    assert (unknown == alone).all()


# --------------------------------------------------------------------------------------------------- networks


def test_networks_are_loaded_once_until_their_file_changes(small_tissue, put_model, monkeypatch) -> None:
    from napari_em_seg.pipeline import prediction

    path, loaded, honest = put_model("mine", 1), [], prediction.load_weights
    monkeypatch.setattr(prediction, "load_weights", lambda path: loaded.append(path) or honest(path))
    load_models(small_tissue.raw, wanted("mine"))
    before = preview(small_tissue.raw, wanted("mine"), WHOLE)[1]
    done(LazyPrediction(small_tissue.raw, wanted("mine")))
    assert len(loaded) == 1
    path.unlink()
    put_model("mine", 2)
    assert (preview(small_tissue.raw, wanted("mine"), WHOLE)[1] != before).any()
    assert len(loaded) == 2


def test_torch_is_not_loaded_before_the_first_block() -> None:
    code = """
import sys, numpy as np
from napari_em_seg import pipeline
from napari_em_seg.volume import Volume
from napari_em_seg.pipeline.lazy_prediction import LazyPrediction
name = pipeline.model_names("boundary")[0]
LazyPrediction(Volume(np.zeros((2, 8, 8), np.uint8), (30, 6, 6)), pipeline.Prediction((name,)))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_slices_asked_for_one_by_one_are_those_of_the_whole(put_model) -> None:
    put_model("joins", n_slices=3)
    volume = Volume(np.random.default_rng(0).integers(0, 255, (5, 70, 90), np.uint8), (30.0, 6.0, 6.0), "noise")
    wanted = Prediction(("joins",), views=1, tile=32)
    whole = predict_boundary(volume, wanted)
    plane = boundary_by_slice(volume, wanted)
    assert all((plane(z) == whole[z]).all() for z in (3, 0, 4, 3))
