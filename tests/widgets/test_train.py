"""The dock "Train", clicked through in a real viewer."""

import subprocess
import sys

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLineEdit, QListWidget

from napari_em_seg import pipeline
from napari_em_seg.io import write_volumes
from napari_em_seg.pipeline.training import training_folder
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.predict.weights import find_models, read_card
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.layers import marked
from napari_em_seg.widgets.predict.dock import PredictWidget
from napari_em_seg.widgets.train.dock import PAINTED, TrainWidget

SIZE = (30.0, 6.0, 6.0)
PLUGIN = "napari-em-seg"


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch) -> None:
    monkeypatch.setattr("napari_em_seg.predict.train._draw_curves", lambda _curves, path: path.touch())


@pytest.fixture(scope="module")
def tissue():
    raw, truth = pipeline.sample_volumes((6, 96, 96), 3)
    return np.asarray(raw), np.asarray(truth)


@pytest.fixture
def start(put_model):
    return put_model("start")


@pytest.fixture
def dock(viewer: napari.Viewer, tissue, start, models_folder, qtbot):
    viewer.add_image(tissue[0], name="raw", scale=SIZE, units=("nm",) * 3)
    widget = TrainWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Train", area="right")
    yield widget
    widget.shut_down()
    widget.work.wait()


def settle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.work.is_busy, timeout=120_000)
    QApplication.processEvents()


def click(button, qtbot) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(dock, truth, qtbot, *slices: int) -> None:
    """Paint whole objects on some slices."""
    dock.fine_tune.meaning.setCurrentIndex(1)
    click(dock.fine_tune.paint, qtbot)
    for z in slices:
        dock.fine_tune.painted.layer.data[z] = truth[z]


def learn_a_while(dock, qtbot, steps: int = 3) -> None:
    """Click on the button, and wait for some steps."""
    click(dock.go, qtbot)
    qtbot.waitUntil(lambda: len(dock.curves.losses) >= steps, timeout=60_000)


def small_network(dock, viewer, truth, steps: int = 4) -> None:
    """Choose a network for boundaries and true labels."""
    viewer.add_labels(truth, name="truth", scale=SIZE, units=("nm",) * 3)
    dock.kind.setCurrentText("Network for boundaries")
    dock.form.labels.choose(viewer.layers["truth"])
    dock.form.network.setCurrentText("unet-small-s1")
    dock.form.steps.setValue(steps)


# ----------------------------------------------------------------------------------------------- fine-tuning


def test_outlines_and_errors_are_nothing_that_was_painted(dock, viewer) -> None:
    stack = np.zeros((4, 16, 16), np.uint8)
    for name, role in (("link source", "preview"), ("false splits", "errors"), ("mine", "")):
        viewer.add_labels(stack, name=name, metadata=marked(role))
    painted = dock.fine_tune.painted
    assert [painted.itemText(k) for k in range(painted.count())] == ["mine"]


def test_fine_tuning_is_one_button_and_its_model_is_at_once_in_the_lists(
    dock, viewer, tissue, models_folder, start, qtbot
) -> None:
    before = start.read_bytes()
    predict = PredictWidget(viewer)
    paint(dock, tissue[1], qtbot, 1, 3)
    dock.fine_tune.minutes.setValue(0.1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert "raw-tuned is in the list of models" in dock.words.text()
    assert "before" in dock.words.text()
    assert dock.state.done == {"Train": "raw-tuned is in the list of models"}
    card = read_card(models_folder / "raw-tuned.safetensors")
    assert card.architecture == "unet-small-s1"
    assert card.data[0] == "nothing"  # that of the model that it began with
    assert "painted on slices 1, 3 of raw" in card.data[1]
    names = [predict.options.models.list.item(k).text() for k in range(predict.options.models.list.count())]
    assert any(name.startswith("raw-tuned") for name in names)
    assert "raw-tuned" in [dock.fine_tune.model.itemText(k) for k in range(dock.fine_tune.model.count())]
    assert start.read_bytes() == before
    assert dock.curves.errors[0][0] == 0  # the model that it began with was validated first
    assert len(dock.curves.losses) >= dock.curves.errors[-1][0] > 0
    assert dock.patches.n_pictures == 3
    predict.shut_down()
    predict.work.wait()


def test_painting_takes_the_brush_and_says_the_convention(dock, viewer, qtbot) -> None:
    assert not dock.go.isEnabled()
    click(dock.fine_tune.paint, qtbot)
    layer = viewer.layers[PAINTED]
    assert (layer.mode, layer.selected_label) == ("paint", 1)
    assert tuple(layer.scale) == SIZE
    assert "membranes with 1" in dock.words.text()
    assert dock.fine_tune.painted.layer is layer
    assert dock.go.isEnabled()
    dock.fine_tune.meaning.setCurrentIndex(1)
    assert "each with a number of its own" in dock.words.text()


def test_scribbles_are_learned_from(dock, tissue, viewer, qtbot) -> None:
    click(dock.fine_tune.paint, qtbot)
    layer, membrane = dock.fine_tune.painted.layer, tissue[1] == 0
    for z in (1, 3):
        for row in range(4, 96, 12):
            layer.data[z, row : row + 2] = np.where(membrane[z, row : row + 2], 1, 2)
    dock.fine_tune.minutes.setValue(0.1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert "share of wrong pixels" in dock.words.text()


@pytest.mark.parametrize(
    ("painted", "said"), [("nothing", "Nothing is painted"), ("threes", "number 3"), ("other", "another shape")]
)
def test_paint_that_says_nothing_is_told_in_plain_words(
    dock, viewer, qtbot, monkeypatch, painted, said
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    click(dock.fine_tune.paint, qtbot)
    if painted == "threes":
        dock.fine_tune.painted.layer.data[1, 4:9] = 3
    if painted == "other":
        dock.fine_tune.painted.choose(viewer.add_labels(np.ones((2, 9, 9), int), name="small"))
        said = "the image raw is"
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert said in told[0]
    assert dock.go.isEnabled()
    assert dock.go.text() == "Fine-tune"


# --------------------------------------------------------------------------------- pause, resume, stop and keep


def test_pause_keeps_what_was_learned_and_resume_goes_on(dock, tissue, qtbot, models_folder) -> None:
    paint(dock, tissue[1], qtbot, 1, 3)
    learn_a_while(dock, qtbot)
    assert not dock.scroll.isVisible()
    assert dock.learning.isVisible()
    click(dock.pause, qtbot)
    settle(dock, qtbot)
    learned = len(dock.curves.losses)
    assert "Paused" in dock.words.text()
    assert dock.go.text() == "Resume"
    assert not [path for path in models_folder.glob("raw*") if path.is_file()]
    dock.fine_tune.painted.layer.data[:] = 0  # it learns on from what was painted then
    learn_a_while(dock, qtbot, learned + 2)
    assert [step for step, _ in dock.curves.losses] == list(range(1, len(dock.curves.losses) + 1))
    click(dock.keep, qtbot)
    settle(dock, qtbot)
    assert (models_folder / "raw-tuned.safetensors").exists() or "no better" in dock.words.text()
    assert ("Train" in dock.state.done) is (models_folder / "raw-tuned.safetensors").exists()
    assert dock.go.text() == "Fine-tune"


def test_a_paused_training_can_be_kept_or_discarded(dock, tissue, viewer, qtbot, models_folder) -> None:
    small_network(dock, viewer, tissue[1], 10_000)
    learn_a_while(dock, qtbot)
    click(dock.cancel_button, qtbot)  # as Pause does: nothing is lost
    settle(dock, qtbot)
    click(dock.keep, qtbot)
    settle(dock, qtbot)
    assert "is in the list of models" in dock.words.text()
    kept = models_folder / "unet-small-s1-raw.safetensors"
    assert read_card(kept).measures
    learn_a_while(dock, qtbot)
    click(dock.pause, qtbot)
    settle(dock, qtbot)
    begun = models_folder / "unet-small-s1-raw-2.safetensors"
    assert training_folder(begun).exists()
    click(dock.discard, qtbot)
    assert not training_folder(begun).exists()
    assert not begun.exists()
    assert dock.go.text() == "Train"


# ---------------------------------------------------------------------------------------- networks and forests


def test_a_network_learns_from_layers_and_files(dock, tissue, viewer, qtbot, tmp_path, models_folder) -> None:
    small_network(dock, viewer, tissue[1])
    raw, truth = tissue
    write_volumes({"raw": Volume(raw, SIZE, "raw"), "labels": Volume(truth, SIZE, "labels", kind="labels")},
                  tmp_path / "more.zarr")  # fmt: skip
    dock.form.files.add(str(tmp_path / "more.zarr"))
    dock.name.setText("mine")
    click(dock.go, qtbot)
    settle(dock, qtbot)
    card = read_card(models_folder / "mine.safetensors")
    assert card.data == ("raw, slices 0 to 4", "more.zarr/raw, slices 0 to 4")
    assert [step for step, _ in dock.curves.losses] == [1, 2, 3, 4]
    assert dock.curves._error_name == "segmentation error"
    assert dock.patches.n_pictures == 3
    assert "mine" in [model.name for model in find_models()]


def test_time_can_end_it(dock, tissue, viewer, qtbot, models_folder) -> None:
    small_network(dock, viewer, tissue[1], 100_000)
    dock.form.minutes.setValue(0.1)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert 0 < dock.curves.losses[-1][0] < 100_000  # the last step
    assert (models_folder / "unet-small-s1-raw.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "network", "task"),
    [("Network for affinities", "affinity-unet-small", "affinity"),
     ("Network that follows objects", "propagator-small", "propagator")],
)  # fmt: skip
def test_other_networks_learn_too(
    dock, tissue, viewer, qtbot, models_folder, monkeypatch, kind, network, task
) -> None:
    monkeypatch.setattr("napari_em_seg.pipeline.propagator_training._WALKS", 1)
    viewer.add_labels(tissue[1], name="truth", scale=SIZE, units=("nm",) * 3)
    dock.kind.setCurrentText(kind)
    dock.form.labels.choose(viewer.layers["truth"])
    dock.form.aside.setValue(34)
    dock.form.steps.setValue(2)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert read_card(models_folder / f"{network}-raw.safetensors").task == task
    assert [step for step, _ in dock.curves.losses] == [1, 2]
    assert dock.patches.n_pictures == 3


@pytest.mark.parametrize("kind", ["Forest for merges", "Forest for assignments"])
def test_forests_learn_too_and_are_at_once_in_the_list(
    dock, tissue, viewer, qtbot, models_folder, kind
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.15, (3, *tissue[1].shape))
    found = np.clip(0.1 + 0.8 * affinity_labels(tissue[1])[0] + noise, 0, 1)
    affinities = np.rint(255 * found).astype(np.uint8)
    viewer.add_labels(tissue[1], name="truth", scale=SIZE, units=("nm",) * 3)
    viewer.add_image(255 - affinities[1:].min(0), name="affinities", scale=SIZE, units=("nm",) * 3,
                     metadata=marked("affinities", affinities=affinities))  # fmt: skip
    dock.kind.setCurrentText(kind)
    click(dock.go, qtbot)
    settle(dock, qtbot)
    assert "in the list of models" in dock.words.text()
    task = "agglomeration" if kind == "Forest for merges" else "assignment"
    own = [forest for forest in pipeline.forests() if forest.origin == "user"]
    assert [(forest.task, forest.path.name) for forest in own] == [(task, f"{task}-truth.npz")]
    assert ("by the mean affinity" in dock.words.text()) == (task == "agglomeration")
    assert not dock.learning.isVisible()  # a forest has no curves


def test_a_forest_of_assignments_learns_from_followed_sections_where_that_is_ticked(
    dock, tissue, viewer, qtbot, monkeypatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(pipeline, "train_assignment", lambda *_, **given: asked.append(given["with_following"]))
    viewer.add_labels(tissue[1], name="truth", scale=SIZE, units=("nm",) * 3)
    viewer.add_image(np.zeros(tissue[1].shape, np.uint8), name="boundary", scale=SIZE, units=("nm",) * 3,
                     metadata=marked("boundary"))  # fmt: skip
    dock.kind.setCurrentText("Forest for assignments")
    for is_on in (False, True):
        dock.form.follow.setChecked(is_on)
        click(dock.go, qtbot)
        settle(dock, qtbot)
    assert asked == [False, True]


# ------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize("name", ["start", "../elsewhere", "a/b"])
def test_names_that_cannot_be_are_told(dock, tissue, qtbot, monkeypatch, name) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    paint(dock, tissue[1], qtbot, 1)
    dock.name.setText(name)
    click(dock.go, qtbot)
    assert "is to be called" in told[0]
    assert not dock.work.is_busy


def test_an_unknown_voxel_size_is_told(dock, tissue, viewer, qtbot, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    dock.fine_tune.image.choose(viewer.add_image(tissue[0], name="pixels"))
    paint(dock, tissue[1], qtbot, 1)
    click(dock.go, qtbot)
    assert "voxel size of pixels is unknown" in told[0]


def test_what_was_chosen_is_remembered(dock, viewer, qtbot) -> None:
    dock.fine_tune.minutes.setValue(3.5)
    dock.fine_tune.meaning.setCurrentIndex(1)
    dock.forms["Network for affinities"].steps.setValue(77)
    again = TrainWidget(viewer)
    assert again.fine_tune.minutes.value() == 3.5
    assert again.fine_tune.convention == "objects"
    assert again.forms["Network for affinities"].steps.value() == 77
    assert again.forms["Network for boundaries"].steps.value() == 8000
    again.shut_down()
    again.work.wait()


def test_every_control_has_a_tip_and_the_keyboard_reaches_it(dock, qtbot) -> None:
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QListWidget)
    controls = [one for kind in kinds for one in dock.findChildren(kind)]
    controls += [one for one in dock.findChildren(QLineEdit) if not isinstance(one.parent(), QAbstractSpinBox)]
    assert len(controls) > 40
    assert not [one for one in controls if not one.toolTip()]
    assert not [one for one in controls if not one.focusPolicy() & Qt.FocusPolicy.TabFocus]


def test_layers_come_go_and_are_renamed(dock, viewer, tissue, qtbot) -> None:
    paint(dock, tissue[1], qtbot, 1)
    viewer.layers["raw"].name = "cortex"
    assert dock.fine_tune.image.currentText() == "cortex"
    viewer.layers.remove(PAINTED)
    assert dock.fine_tune.painted.layer is None
    assert not dock.go.isEnabled()


def test_its_image_may_be_removed_while_it_learns(dock, viewer, tissue, qtbot) -> None:
    paint(dock, tissue[1], qtbot, 1, 3)
    learn_a_while(dock, qtbot)
    viewer.layers.clear()
    click(dock.keep, qtbot)
    settle(dock, qtbot)
    assert not dock.state.is_under_way("Training", dock.fine_tune.image.layer)


def test_one_training_at_a_time_on_a_layer(dock, viewer, tissue, qtbot, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_em_seg.widgets.panel.show_warning", told.append)
    paint(dock, tissue[1], qtbot, 1, 3)
    other = TrainWidget(viewer)
    learn_a_while(dock, qtbot)
    other.fine_tune.painted.choose(viewer.layers[PAINTED])
    other._on_go()
    assert "Training of raw is under way already" in told[0]
    assert other.go.text() == "Fine-tune"
    for one in (other, dock):
        one.shut_down()
        one.work.wait()


def test_closing_it_while_it_learns_pauses_it(viewer, tissue, start, models_folder, qtbot) -> None:
    viewer.add_image(tissue[0], name="raw", scale=SIZE, units=("nm",) * 3)
    widget = TrainWidget(viewer)
    docked = viewer.window.add_dock_widget(widget, name="Train")
    paint(widget, tissue[1], qtbot, 1, 3)
    learn_a_while(widget, qtbot)
    viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: widget.is_shut, timeout=5000)
    widget.work.wait()
    assert (models_folder / "raw-tuned.training" / "checkpoint.safetensors").exists()
    assert not widget._growing.isActive()
    assert widget._on_mouse not in viewer.mouse_drag_callbacks


def test_a_low_and_narrow_window_clips_nothing(dock, viewer, qtbot) -> None:
    viewer.window.resize(1280, 800)
    for kind in dock.forms:
        dock.kind.setCurrentText(kind)
        QApplication.processEvents()
        assert dock.scroll.horizontalScrollBar().maximum() == 0
        assert dock.minimumSizeHint().height() < 640
    dock.learning.show()
    QApplication.processEvents()
    assert dock.minimumSizeHint().height() < 700
    assert dock.minimumSizeHint().width() <= 420


def test_opening_it_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys; import napari_em_seg.widgets.train.dock; "
        "print([name for name in ('torch', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
