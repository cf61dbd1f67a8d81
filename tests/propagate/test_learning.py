"""Loss, walks to learn from, and training by name."""

import itertools

import numpy as np
import pytest
import torch

from napari_em_seg.errors import DataError
from napari_em_seg.io import open_volume, write_volume
from napari_em_seg.pipeline import LabelledPart, PropagatorRecipe, train_propagator
from napari_em_seg.predict.augment import NONE
from napari_em_seg.predict.weights import load_weights
from napari_em_seg.propagate.loss import match, sequence_loss, soft_iou
from napari_em_seg.propagate.sequences import IdStack, PropagatorTask, SequenceSampler, thinned
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume


def test_soft_iou_is_intersection_over_union_for_hard_masks():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy((rng.random((2, 4, 3, 8, 8)) > 0.6).astype(np.float32)) for _ in range(2))
    found = soft_iou(a, b)
    for n, i, j in itertools.product(range(2), range(3), range(3)):
        one, other = a[n, :, i] > 0, b[n, :, j] > 0
        assert found[n, i, j] == pytest.approx(float((one & other).sum() / (one | other).sum()))


def test_soft_iou_of_probabilities_is_the_formula_and_two_empty_sequences_agree():
    m, g = torch.tensor([0.5, 0.25]).reshape(1, 1, 1, 1, 2), torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 1, 2)
    assert float(soft_iou(m, g)) == pytest.approx(0.5 / (0.5 + 1 - 0.5 + 0.25))
    empty = torch.zeros(1, 2, 1, 4, 4)
    assert float(soft_iou(empty, empty)) == 1


def test_matching_is_the_best_of_all_orders():
    rng = np.random.default_rng(1)
    iou = torch.from_numpy(rng.random((5, 4, 4)).astype(np.float32))
    for one, order in zip(iou, match(iou), strict=True):
        best = max(sum(one[i, p[i]] for i in range(4)) for p in itertools.permutations(range(4)))
        assert sum(one[i, order[i]] for i in range(4)) == pytest.approx(float(best))


def test_the_loss_does_not_mind_the_order_unless_it_is_given():
    truth = torch.zeros(1, 3, 2, 8, 8)
    truth[:, :, 0, :4], truth[:, :, 1, 4:] = 1, 1
    logits = 20 * (truth.flip(2) - 0.5)
    assert float(sequence_loss(logits, truth)) < 1e-3
    assert float(sequence_loss(logits, truth, np.array([[1, 0]]))) < 1e-3
    assert float(sequence_loss(logits, truth, np.array([[0, 1]]))) > 1


def test_thinning_takes_means_of_squares():
    plane = np.arange(35.0).reshape(5, 7)
    found = thinned(plane, 2)
    assert found.shape == (3, 4)
    assert found[0, 0] == plane[:2, :2].mean()
    assert found[2, 3] == plane[4, 6]


@pytest.fixture(scope="module")
def stack():
    sample = generate((10, 128, 128), seed=5)
    image = (sample.raw.astype(np.float32) - sample.raw.mean()) / sample.raw.std()
    return IdStack(image, sample.labels.astype(np.int32))


def test_walks_begin_with_objects_and_follow_their_ids(stack):
    sampler = SequenceSampler([stack], 4, 3, 64, NONE)
    for seed in range(10):
        images, masks = sampler.draw(np.random.default_rng(seed))
        assert images.shape == (1, 4, 64, 64)
        assert masks.shape == (1, 4, 3, 64, 64)
        assert (masks[0, 0, 0].sum() >= 24) and bool(((masks == 0) | (masks == 1)).all())
        assert float(masks.sum(dim=2).max()) <= 1  # no pixel is of two objects
        assert _is_in(images[0].numpy(), stack.image)
    again = sampler.draw(np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(again, sampler.draw(np.random.default_rng(0)), strict=True))


def _is_in(walk, image):
    """Whether a walk without augmentation is a part of the volume, turned in one of the sixteen ways."""
    first = {float(plane.sum()) for plane in walk}
    windows = np.lib.stride_tricks.sliding_window_view(image, (64, 64), axis=(1, 2)).sum(axis=(3, 4))
    return all(np.isclose(windows, total, rtol=1e-3, atol=0.5).any() for total in first)


def test_half_of_the_walks_go_up(stack):
    ids = np.zeros_like(stack.ids) + np.arange(1, 11)[:, None, None]
    sampler = SequenceSampler([IdStack(ids.astype(np.float32), np.ones_like(ids))], 4, 1, 64, NONE)
    steps = {float(np.sign(float(x[0, 1].mean() - x[0, 0].mean()))) for x, _ in
             (sampler.draw(np.random.default_rng(seed)) for seed in range(20))}  # fmt: skip
    assert steps == {-1.0, 1.0}


def test_what_is_too_small_is_refused(stack):
    with pytest.raises(DataError, match="at least 20 slices"):
        SequenceSampler([stack], 20, 3, 64)
    with pytest.raises(DataError, match="at least one volume"):
        SequenceSampler([], 4, 3, 64)


def test_true_masks_are_given_only_at_first(stack):
    class Spy(torch.nn.Module):
        seen: tuple = ()

        def encode(self, images):
            return [images]

        def forward(self, features, masks, seeds, memory=None):
            self.seen = (*self.seen, masks)
            return masks * 0 - 3.0, []

    sampler = SequenceSampler([stack], 4, 2, 64, NONE)
    for is_given in (True, False):
        net, task = Spy(), PropagatorTask(sampler, lambda _: {}, is_given=is_given)
        images, truth = task.batch(np.random.default_rng(3))
        task.loss(net, (images, truth))
        assert torch.equal(net.seen[0], truth[:, 0])
        assert torch.equal(net.seen[1], truth[:, 0])
        assert torch.equal(net.seen[2], truth[:, 1]) == is_given


def test_training_by_name_learns_resumes_and_says_what_it_did(tmp_path):
    sample = generate((8, 128, 128), seed=1)
    write_volume(Volume(sample.raw, (30, 12, 12), "raw"), str(tmp_path / "raw.zarr"))
    write_volume(Volume(sample.labels, (30, 12, 12), "labels", kind="labels"), str(tmp_path / "ids.zarr"))
    raw, ids = open_volume(str(tmp_path / "raw.zarr")), open_volume(str(tmp_path / "ids.zarr"), "labels")
    part = LabelledPart(raw, ids, slice(0, 8))
    recipe = PropagatorRecipe(n_slices=3, n_objects=2, side=48, steps=8, validate_every=3, given=0.5)
    out, rows, steps = tmp_path / "p.safetensors", [], []
    stopped = train_propagator(
        out, [part], [part], recipe, cancelled=lambda: len(steps) >= 6,
        progress=lambda done, _: steps.append(done),
    )  # fmt: skip
    assert stopped is None
    assert not out.exists()
    card = train_propagator(
        out, [part], [part], recipe, on_validation=rows.append, progress=lambda done, _: steps.append(done)
    )
    assert steps == list(range(1, 9))  # nothing was done twice
    net, read = load_weights(out)
    assert read == card
    assert (card.task, card.arguments["variant"], card.voxel_size_nm) == ("propagator", "STC", (30, 12, 12))
    assert 0 <= card.measures["iou (validation)"] <= 1
    assert net.pixel_nm == 12
    with pytest.raises(DataError, match="is no propagator"):
        train_propagator(tmp_path / "q.safetensors", [part], [part], PropagatorRecipe("unet-small-s1"))
