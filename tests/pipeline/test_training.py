"""Training by name: what a user gives and what comes out; repeated, interrupted, and refused in time."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError, EmSegError, FormatError, TargetExistsError
from napari_em_seg.pipeline import BoundaryRecipe, LabelledPart, Provenance, train_boundary, training_folder
from napari_em_seg.predict.augment import NONE
from napari_em_seg.predict.boundary import BoundaryTask
from napari_em_seg.predict.crops import CropSampler, LabelledVolume, labelled
from napari_em_seg.predict.labels import boundary_labels
from napari_em_seg.predict.weights import Card, load_weights, read_card
from napari_em_seg.volume import Volume

RECIPE = BoundaryRecipe("unet-small-s1", steps=6, batch=2, side=32, validate_every=6)
PROVENANCE = Provenance("tiny", "made up", ("a generator",), "CC0", "napari-em-seg train boundary …")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parts(small_tissue) -> tuple[list[LabelledPart], list[LabelledPart]]:
    raw, labels = small_tissue.raw, small_tissue.labels
    return [LabelledPart(raw, labels, slice(0, 6))], [LabelledPart(raw, labels, slice(6, 8))]


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training here; it is done once, in `trained`."""
    monkeypatch.setattr("napari_em_seg.predict.train._draw_curves", lambda _curves, path: path.touch())


@pytest.fixture
def train(parts) -> Callable[..., Card | None]:
    """Train on the tissue, with changes to the recipe."""

    def run(out: Path, provenance: Provenance = PROVENANCE, **changes: Any) -> Card | None:
        others = {"device", "overwrite", "progress", "on_validation", "cancelled"}
        options = {name: changes.pop(name) for name in others & changes.keys()}
        recipe = replace(RECIPE, **changes)
        return train_boundary(out, *parts, recipe, provenance, **{"device": "cpu", **options})

    return run


def count(steps: list[int]) -> Callable[[int, int], None]:
    return lambda done, _: steps.append(done)


def weights(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(path).items()}


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


# ------------------------------------------------------------------------------------------- what comes out


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory) -> tuple[Path, list[Mapping[str, float]], list[tuple[int, int]]]:
    """One training run: its weights, the rows that it reported, and its progress."""
    out = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    rows: list[Mapping[str, float]] = []
    steps: list[tuple[int, int]] = []
    torch.set_num_threads(1)
    card = train_boundary(
        out, *parts, replace(RECIPE, validate_every=3), PROVENANCE, device="cpu", on_validation=rows.append,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert card == read_card(out)
    return out, rows, steps


def test_the_weights_carry_their_card(trained) -> None:
    net, card = load_weights(trained[0])
    assert (card.name, card.tissue, card.data) == ("tiny", "made up", ("a generator",))
    assert (card.architecture, card.kernel, card.n_slices, card.seed) == ("unet-small-s1", "l3", 1, 0)
    assert card.voxel_size_nm == (30, 6, 6)
    assert card.licence == "CC0"
    assert card.command == PROVENANCE.command
    assert card.task == "boundary"
    assert net(torch.zeros(1, 1, 20, 20)).shape == (1, 1, 20, 20)


def test_the_card_holds_the_measures_of_the_best_validation(trained) -> None:
    out, rows, _ = trained
    best = min(rows, key=lambda row: row["adapted_rand_error"])
    measures = read_card(out).measures
    for name in ("adapted_rand_error", "vi_split", "vi_merge", "h"):
        assert measures[f"{name} (validation)"] == pytest.approx(best[name])
    assert 0 < best["adapted_rand_error"] <= 1


def test_progress_counts_steps_and_validations_are_told(trained) -> None:
    _, rows, steps = trained
    assert steps == [(step, 6) for step in range(1, 7)]
    assert [row["step"] for row in rows] == [3, 6]


def test_curves_lie_beside_the_weights(trained) -> None:
    out, rows, _ = trained
    folder = training_folder(out)
    assert folder == out.parent / "tiny.training"
    with (folder / "curves.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["adapted_rand_error"]) for row in table] == [row["adapted_rand_error"] for row in rows]
    assert np.asarray(Image.open(folder / "curves.png")).std() > 5


def test_weights_predict_at_once(trained, small_tissue) -> None:
    wanted = pipeline.Prediction([str(trained[0])], views=1, device="cpu", dtype="float32")
    found = pipeline.predict_boundary(small_tissue.raw, wanted)
    assert found.shape == small_tissue.raw.shape
    assert found.std() > 0


def test_a_network_learns_membranes_from_ids(small_tissue, tmp_path) -> None:
    """Trained for seconds it already tells membranes from cells in a slice that it has not seen."""
    raw, labels = small_tissue.raw, small_tissue.labels
    recipe = replace(RECIPE, steps=60, batch=4, validate_every=60)
    out = tmp_path / "m.safetensors"
    train_boundary(
        out, [LabelledPart(raw, labels, slice(0, 6))], [LabelledPart(raw, labels, slice(6, 7))], recipe
    )
    wanted = pipeline.Prediction([str(out)], views=1, device="cpu", dtype="float32", slices=slice(7, 8))
    found = pipeline.predict_boundary(raw, wanted)
    truth = boundary_labels(labels[:], "l3")[7:8] | (labels[7:8] == 0)
    assert found[truth == 1].mean() > found[truth == 0].mean() + 0.1


def test_what_is_not_said_of_the_data_is_read_from_it(small_tissue, tmp_path) -> None:
    """Such as where in its file it lies; a card that says "raw" would say nothing."""
    from napari_em_seg.io import open_volume

    raw, labels = open_volume(small_tissue.file), open_volume(small_tissue.file, "labels")
    part = LabelledPart(raw, labels, slice(0, 6))
    card = train_boundary(tmp_path / "my.net.safetensors", [part], [part], replace(RECIPE, steps=1))
    assert card.name == "my.net"
    assert "tissue.zarr" in card.data[0]
    assert "0" in card.data[0] and "5" in card.data[0]
    assert str(small_tissue.file.parent) not in card.data[0]


# -------------------------------------------------------------------------------------- cancelled, repeated


@pytest.fixture(scope="module")
def reference(parts, tmp_path_factory) -> Path:
    """The weights that the recipe gives when nothing comes in between."""
    out = tmp_path_factory.mktemp("reference") / "reference.safetensors"
    torch.set_num_threads(1)
    train_boundary(out, *parts, RECIPE, PROVENANCE, device="cpu")
    return out


def test_the_same_seed_gives_the_same_weights_and_another_others(reference, train, tmp_path) -> None:
    train(tmp_path / "again.safetensors")
    train(tmp_path / "other.safetensors", seed=1)
    assert same(reference, tmp_path / "again.safetensors")
    assert not same(reference, tmp_path / "other.safetensors")
    assert read_card(tmp_path / "other.safetensors").seed == 1


def test_a_cancelled_run_returns_nothing_and_goes_on(reference, train, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    steps: list[int] = []
    assert train(out, progress=count(steps), cancelled=lambda: len(steps) >= 4) is None
    assert not out.exists()
    assert (training_folder(out) / "checkpoint.safetensors").exists()
    assert train(out, progress=count(steps)) is not None
    assert steps == [1, 2, 3, 4, 5, 6]
    assert same(out, reference)


def test_minutes_go_on_after_a_break(train, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    steps: list[int] = []
    rows: list[Mapping[str, float]] = []
    train(out, validate_every=3, progress=count(steps), cancelled=lambda: len(steps) >= 3)
    path = training_folder(out) / "checkpoint.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = json.loads(file.metadata()["run"])
    described["seconds"] = 7 * 60
    safetensors.torch.save_file(tensors, path, {"run": json.dumps(described)})
    train(out, validate_every=3, on_validation=rows.append)
    assert rows[0]["minutes"] >= 7.0


@pytest.mark.parametrize(
    "changes", [{"kernel": "c3"}, {"side": 48}, {"batch": 3}, {"zero": "boundary"}, {"seed": 5}, {"steps": 9}]
)
def test_a_run_with_other_options_does_not_go_on_from_this_one(train, tmp_path, changes) -> None:
    """The card would tell what is not so."""
    out = tmp_path / "a.safetensors"
    steps: list[int] = []
    train(out, progress=count(steps), cancelled=lambda: len(steps) >= 2)
    before = (training_folder(out) / "checkpoint.safetensors").read_bytes()
    with pytest.raises(FormatError, match=r"a\.training.*belongs to another training"):
        train(out, **changes)
    assert (training_folder(out) / "checkpoint.safetensors").read_bytes() == before


def test_a_run_on_other_data_does_not_go_on_from_this_one(train, parts, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    steps: list[int] = []
    train(out, progress=count(steps), cancelled=lambda: len(steps) >= 2)
    fewer = [replace(parts[0][0], slices=slice(0, 5))]
    with pytest.raises(FormatError, match="belongs to another training"):
        train_boundary(out, fewer, parts[1], RECIPE, PROVENANCE, device="cpu")


def test_overwriting_trains_anew(reference, train, tmp_path) -> None:
    """It once took the finished checkpoint, and wrote the old weights under a new card."""
    out = tmp_path / "a.safetensors"
    train(out, kernel="c3")
    steps: list[int] = []
    card = train(out, overwrite=True, progress=lambda done, _: steps.append(done))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert card.kernel == "l3"
    assert same(out, reference)


def test_the_network_is_kept_that_segments_best(train, tmp_path, monkeypatch) -> None:
    snapshots: list[dict[str, np.ndarray]] = []
    scores = iter([0.5, 0.1, 0.9])

    def validate(_task: BoundaryTask, net: nn.Module) -> dict[str, float]:
        snapshots.append({name: value.numpy().copy() for name, value in net.state_dict().items()})
        return {"score": next(scores), "nicety": float(len(snapshots))}

    monkeypatch.setattr(BoundaryTask, "validate", validate)
    card = train(tmp_path / "a.safetensors", validate_every=2)
    assert card.measures == {"nicety (validation)": 2}
    kept = weights(tmp_path / "a.safetensors")
    assert all(np.array_equal(kept[name], snapshots[1][name]) for name in kept)
    assert not all(np.array_equal(kept[name], snapshots[2][name]) for name in kept)


# ----------------------------------------------------------------------------------------- what labels mean


def test_membranes_are_labels_as_well(small_tissue, tmp_path) -> None:
    membranes = Volume((small_tissue.labels[:] == 0).astype(np.uint8) * 255, (30, 6, 6), kind="labels")
    part = LabelledPart(small_tissue.raw, membranes)
    card = train_boundary(tmp_path / "m.safetensors", [part], [part], replace(RECIPE, kernel=None, steps=2))
    assert card.kernel is None
    assert 0 < card.measures["adapted_rand_error (validation)"] <= 1


def test_sections_are_numbered_slice_by_slice() -> None:
    from napari_em_seg.pipeline.segmentation import sections

    membranes = np.zeros((2, 5, 7), np.uint8)
    membranes[:, :, 3] = 255
    numbered = sections(membranes)
    assert len(np.unique(numbered[membranes == 0])) == 4
    assert (numbered[membranes != 0] == 0).all()


@pytest.mark.parametrize("kernel", ["l3", "c3", "c5"])
def test_what_is_said_where_labels_are_missing_is_true(small_tissue, kernel) -> None:
    """The edge of what is labelled is no boundary, whatever the kernel: who knows what lies behind it?"""
    whole = np.where(small_tissue.labels[:] == 0, 99, small_tissue.labels[:])
    partial = whole.copy()
    partial[:, 20:40, 10:50] = 0
    partial[3, :, 60:] = 0
    read = labelled(small_tissue.raw, Volume(partial, kind="labels"), kernel, zero="ignore")
    assert read.known is not None
    assert not read.known[partial == 0].any()
    assert read.known.mean() > 0.3
    np.testing.assert_array_equal(read.boundary[read.known], boundary_labels(whole, kernel)[read.known])


def _gradients(volume: LabelledVolume, loss: str) -> tuple[float, list[np.ndarray]]:
    from napari_em_seg.predict.registry import build

    torch.manual_seed(0)
    net = build("m2fcn-small-1" if loss == "class-balanced" else "unet-small-s1")
    task = BoundaryTask(CropSampler([volume], 1, 32, 2, NONE), loss, [], lambda maps, truths: {})
    value = task.loss(net, task.batch(np.random.default_rng(0)))
    value.backward()
    return float(value.detach()), [p.grad.numpy() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("loss", ["class-weighted", "class-balanced"])
def test_nothing_is_learned_where_nothing_is_known(small_tissue, loss) -> None:
    marks = small_tissue.labels[:].copy()
    marks[:, 16:48, 16:48] = 0
    read = labelled(small_tissue.raw, Volume(marks, kind="labels"), "l3", zero="boundary")
    known = np.ones(marks.shape, bool)
    known[:, 16:48, 16:48] = False
    other = np.where(known, read.boundary, 1 - read.boundary)
    one = _gradients(replace(read, known=known), loss)
    two = _gradients(replace(read, boundary=other, known=known), loss)
    assert one[0] == two[0]
    assert all(np.array_equal(a, b) for a, b in zip(one[1], two[1], strict=True))
    told = _gradients(replace(read, boundary=other), loss)
    assert told[0] != one[0]


@pytest.mark.parametrize("zero", ["boundary", "ignore"])
def test_any_meaning_of_0_can_be_trained(small_tissue, tmp_path, zero) -> None:
    marks = np.where(small_tissue.labels[:] == 0, 99, small_tissue.labels[:])
    marks[:, :20] = 0
    part = LabelledPart(small_tissue.raw, Volume(marks, kind="labels"))
    card = train_boundary(tmp_path / "a.safetensors", [part], [part], replace(RECIPE, zero=zero, steps=1))
    assert card is not None


# ------------------------------------------------------------------------------------------------ beginning


def test_a_run_begins_from_weights_of_the_same_network(trained, train, tmp_path) -> None:
    card = train(tmp_path / "a.safetensors", begin_from=str(trained[0]), steps=1, learning_rate=1e-9)
    assert card is not None
    begun, first = weights(tmp_path / "a.safetensors"), weights(trained[0])
    for name in begun:
        if "running" not in name and "tracked" not in name:
            np.testing.assert_allclose(begun[name], first[name], atol=1e-6)


def test_a_stage_of_m2fcn_begins_two(train, tmp_path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    train(one, architecture="m2fcn-small-1", steps=1)
    train(two, architecture="m2fcn-small-2", steps=1, begin_from=str(one), learning_rate=1e-9)
    first, both = weights(one), weights(two)
    for name, value in first.items():
        if "running" not in name and "tracked" not in name:
            np.testing.assert_allclose(both[name], value, atol=1e-6)


def test_weights_of_another_network_are_no_beginning(trained, train, tmp_path) -> None:
    with pytest.raises(DataError, match="another network"):
        train(tmp_path / "a.safetensors", begin_from=str(trained[0]), architecture="deepem3d-small-s1")
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------- refused, and in time


@pytest.fixture
def _no_training(monkeypatch) -> None:
    """Let nothing be trained: what is wrong has to show before."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr("napari_em_seg.predict.train._Run.advance", refuse)


REFUSED = {
    "architecture": ({"architecture": "unet-smal-s1"}, "Did you mean unet-small"),
    "kernel": ({"kernel": "c7"}, "one of l3, c3, c5"),
    "zero": ({"zero": "nothing"}, "one of label, boundary, ignore"),
    "steps": ({"steps": 0}, "at least one step"),
    "batch": ({"batch": 0}, "at least"),
    "side": ({"side": 0}, "at least"),
    "crops too large": ({"side": 65}, "65×65"),
    "rate": ({"learning_rate": -1.0}, "positive learning rate"),
    "seed": ({"seed": -1}, "seed"),
    "large seed": ({"seed": 2**70}, "seed"),
    "validate_every": ({"validate_every": 0}, "at least one step"),
    "device": ({"device": "abacus"}, "abacus"),
    "begin_from": ({"begin_from": "nobody"}, "nobody"),
    "begin_from a file": ({"begin_from": "no/such.safetensors"}, "such.safetensors"),
}


@pytest.mark.usefixtures("_no_training", "models_folder")
@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused(train, tmp_path, changes, said) -> None:
    with pytest.raises(EmSegError) as caught:
        train(tmp_path / "a.safetensors", **changes)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("changes", [{"licence": " "}, {"name": " "}])
def test_a_card_that_cannot_be_written_is_refused_before_hours_of_training(train, tmp_path, changes) -> None:
    with pytest.raises(DataError, match="card"):
        train(tmp_path / "a.safetensors", replace(PROVENANCE, **changes))


@pytest.mark.usefixtures("_no_training")
def test_weights_that_are_there_are_not_replaced_unasked(train, tmp_path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(TargetExistsError, match="--overwrite"):
        train(out)
    assert out.read_bytes() == b"precious"
    assert not training_folder(out).exists()


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("name", ["weights", "weights.pt", "weights.h5"])
def test_weights_have_their_suffix(train, tmp_path, name) -> None:
    with pytest.raises(DataError, match=r"\.safetensors"):
        train(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_no_training")
def test_a_file_is_no_folder_for_weights(train, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmSegError, match="file"):
        train(tmp_path / "file" / "a.safetensors")


@pytest.mark.usefixtures("_no_training")
def test_an_unknown_voxel_size_is_refused(small_tissue, parts, tmp_path) -> None:
    raw = replace(small_tissue.raw, voxel_size_nm=None)
    unknown = [LabelledPart(raw, small_tissue.labels)]
    with pytest.raises(DataError, match=r"voxel size of raw is unknown.*--voxel-size"):
        train_boundary(tmp_path / "a.safetensors", unknown, parts[1], RECIPE)


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("zero", ["label", "boundary", "ignore"])
@pytest.mark.parametrize("kernel", ["l3", None])
@pytest.mark.parametrize("which", [0, 1])
def test_a_volume_without_labels_is_refused(small_tissue, parts, tmp_path, zero, kernel, which) -> None:
    nothing = Volume(np.zeros(small_tissue.raw.shape, np.uint16), name="nothing", kind="labels")
    given = [list(part) for part in parts]
    given[which] = [LabelledPart(small_tissue.raw, nothing)]
    membranes = Volume((small_tissue.labels[:] == 0).astype(np.uint8), kind="labels")
    if kernel is None:
        given[1 - which] = [LabelledPart(small_tissue.raw, membranes)]
    else:
        full = Volume(np.maximum(small_tissue.labels[:], 1), kind="labels")
        given[1 - which] = [LabelledPart(small_tissue.raw, full)]
    if zero == "boundary" and kernel is not None:
        given[1 - which] = [LabelledPart(small_tissue.raw, small_tissue.labels)]
    recipe = replace(RECIPE, zero=zero, kernel=kernel)
    with pytest.raises(DataError, match=r"labels are|labelled") as caught:
        train_boundary(tmp_path / "a.safetensors", *given, recipe, PROVENANCE, device="cpu")
    if zero == "ignore" and kernel is not None:
        assert "boundary everywhere" not in str(caught.value)


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("which", [0, 1])
def test_labels_of_another_shape_are_refused(small_tissue, parts, tmp_path, which) -> None:
    given = [list(part) for part in parts]
    smaller = Volume(small_tissue.labels[:, :60], (30, 6, 6), kind="labels")
    given[which] = [LabelledPart(small_tissue.raw, smaller)]
    with pytest.raises(DataError, match=r"\(8, 64, 64\).*\(8, 60, 64\)"):
        train_boundary(tmp_path / "a.safetensors", *given, RECIPE, PROVENANCE, device="cpu")


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("which", [0, 1])
def test_there_has_to_be_data_to_train_on_and_to_validate(parts, tmp_path, which) -> None:
    given = [list(part) for part in parts]
    given[which] = []
    with pytest.raises(DataError, match="No labelled volume"):
        train_boundary(tmp_path / "a.safetensors", *given, RECIPE, PROVENANCE, device="cpu")


@pytest.mark.parametrize("slices", [slice(8, None), slice(5, 5), slice(6, 2), slice(0, 8, 2)])
def test_slices_that_are_not_there_are_refused(small_tissue, slices) -> None:
    with pytest.raises(DataError, match="0:8") as caught:
        LabelledPart(small_tissue.raw, small_tissue.labels, slices)
    assert "None" not in str(caught.value)
    assert str(caught.value).startswith("raw has 8 slices")


def test_an_image_is_not_its_own_truth(small_tissue) -> None:
    """As where a user names the image inside a container, and no labels."""
    from napari_em_seg.io import open_volume

    raw, labels = (open_volume(small_tissue.file / "raw", kind) for kind in ("image", "labels"))
    with pytest.raises(DataError, match="same array"):
        LabelledPart(raw, labels)
