"""Training and running an affinity network by name, from labelled volumes to three maps in a container."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.io import open_volume
from napari_em_seg.pipeline import (
    AffinityRecipe,
    LabelledPart,
    Prediction,
    open_affinities,
    predict_affinities,
    predict_to_file,
    train_affinity,
    train_boundary,
    training_folder,
)
from napari_em_seg.pipeline.training import BoundaryRecipe
from napari_em_seg.predict.affinity import AffinityTask, BlockSampler, IdVolume
from napari_em_seg.predict.affinity_losses import AFFINITY_LOSSES
from napari_em_seg.predict.augment import NONE
from napari_em_seg.predict.registry import build
from napari_em_seg.predict.weights import load_weights

RECIPE = AffinityRecipe(shape=(4, 48, 48), steps=4, validate_every=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_tissue) -> Path:
    out = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    part = LabelledPart(small_tissue.raw, small_tissue.labels)
    train_affinity(out, [part], [replace(part, slices=slice(0, 4))], RECIPE, device="cpu")
    return out


def test_the_card_says_what_was_learned(trained: Path) -> None:
    net, card = load_weights(trained)
    assert (card.task, card.architecture, card.n_slices, card.kernel) == (
        "affinity",
        "affinity-unet-small",
        None,
        None,
    )
    assert set(card.measures) >= {
        "adapted_rand_error (validation)",
        "vi_split (validation)",
        "threshold (validation)",
    }
    assert not net.training
    assert (training_folder(trained) / "curves.csv").exists()


def test_another_seed_another_network(small_tissue, tmp_path: Path, trained: Path) -> None:
    part = LabelledPart(small_tissue.raw, small_tissue.labels)
    kept = [replace(part, slices=slice(0, 4))]
    for name, seed in (("same", 0), ("other", 1)):
        train_affinity(tmp_path / f"{name}.safetensors", [part], kept, replace(RECIPE, seed=seed), device="cpu")
    weights = {
        path.stem: load_weights(path)[0].head.weight for path in (trained, *tmp_path.glob("*.safetensors"))
    }
    assert torch.equal(weights["tiny"], weights["same"])
    assert not torch.equal(weights["tiny"], weights["other"])


def test_prediction_writes_three_maps(trained: Path, small_tissue, tmp_path: Path) -> None:
    out = str(tmp_path / "maps.zarr")
    wanted = Prediction((str(trained),), views=4, device="cpu", dtype="float32", slices=slice(2, 6))
    predict_to_file(f"{small_tissue.file}/raw", out, wanted)
    found = open_affinities(out)
    expected = predict_affinities(small_tissue.raw, wanted)
    assert found.shape == (3, 4, 64, 64)
    assert found.voxel_size_nm == (30, 6, 6)
    np.testing.assert_array_equal(found[:], expected)
    assert open_volume(f"{out}/affinities/z").kind == "image"


def test_longer_affinities_and_descriptors_are_learned_beside(small_tissue, tmp_path: Path) -> None:
    out = tmp_path / "long.safetensors"
    part = LabelledPart(small_tissue.raw, small_tissue.labels)
    recipe = replace(RECIPE, steps=2, long_range=True, descriptors=True, loss="bce")
    train_affinity(out, [part], [part], recipe, device="cpu")
    net, _ = load_weights(out)
    assert len(net.offsets) == 8
    predict_to_file(
        f"{small_tissue.file}/raw", str(tmp_path / "m.h5"), Prediction((str(out),), views=1, device="cpu")
    )
    assert open_affinities(str(tmp_path / "m.h5")).shape == (3, 8, 64, 64)


def test_networks_for_something_else_are_refused(small_tissue, tmp_path: Path, trained: Path) -> None:
    part, out = LabelledPart(small_tissue.raw, small_tissue.labels), tmp_path / "x.safetensors"
    with pytest.raises(DataError, match="predicts boundary"):
        train_affinity(out, [part], [part], replace(RECIPE, architecture="unet-small-s3"))
    with pytest.raises(DataError, match="predicts affinity"):
        train_boundary(out, [part], [part], BoundaryRecipe("affinity-unet-small"))
    with pytest.raises(DataError, match="predicts affinity"):
        predict_affinities(small_tissue.raw, Prediction((str(trained), "auto")))
    with pytest.raises(FormatError, match="cannot hold 3 volumes"):
        predict_to_file(f"{small_tissue.file}/raw", str(tmp_path / "maps.tif"), Prediction((str(trained),)))
    assert not out.exists()


def test_blocks_are_turned_as_wholes() -> None:
    """The image is its own ids here; a block of another height than width comes out in the shape asked for."""
    ids = np.arange(1, 6 * 30 * 40 + 1, dtype=np.int32).reshape(6, 30, 40)
    sampler = BlockSampler([IdVolume(ids.astype(np.float32), ids)], (3, 12, 20), 8, augmentation=NONE)
    images, found = (part.numpy() for part in sampler.draw(np.random.default_rng(0)))
    assert images.shape == (8, 1, 3, 12, 20)
    np.testing.assert_array_equal(images[:, 0], found)


@pytest.mark.parametrize("loss", sorted(AFFINITY_LOSSES))
def test_a_small_network_learns_a_little_tissue(loss: str, small_tissue) -> None:
    """Twenty steps on one block: every loss falls, and affinities inside objects rise above those between."""
    torch.manual_seed(0)
    net = build("affinity-unet-small", channels=(8, 16), depths=((1, 1), (3, 1))).train()
    raw, ids = small_tissue.raw[:4].astype(np.float32), small_tissue.labels[:4].astype(np.int32)
    volume = IdVolume((raw - raw.mean()) / raw.std(), ids)
    task = AffinityTask(BlockSampler([volume], (4, 64, 64), augmentation=NONE), loss, [], lambda *_: {})
    batch = task.batch(np.random.default_rng(0))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        value = task.loss(net, batch)
        losses.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    _, _, targets, known = batch
    with torch.no_grad():
        found = torch.sigmoid(net(batch[0]))
    joined, cut = found[known & (targets == 1)].mean(), found[known & (targets == 0)].mean()
    assert joined > cut + 0.02


def test_valid_padding_learns_from_what_saw_only_tissue(small_tissue) -> None:
    net = build("affinity-unet-small", channels=(4, 4), depths=((1, 1), (3, 1)), padding="valid")
    raw, ids = small_tissue.raw[:], small_tissue.labels[:].astype(np.int32)
    task = AffinityTask(
        BlockSampler([IdVolume(raw.astype(np.float32), ids)], (6, 48, 48)), "bce", [], lambda *_: {}
    )
    batch = task.batch(np.random.default_rng(0))
    value = task.loss(net, batch)
    value.backward()
    z, y, _ = net.halo
    changed = [part.clone() for part in batch]
    changed[2][..., :z, :, :] = 1 - changed[2][..., :z, :, :]  # affinities in the rim
    changed[2][..., :y, :] = 1 - changed[2][..., :y, :]
    torch.testing.assert_close(task.loss(net, tuple(changed)), value)
