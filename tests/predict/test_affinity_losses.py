"""Losses of affinities, worked out by hand."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.predict.affinity_losses import AFFINITY_LOSSES, balanced_bce, dice_bce, malis
from napari_em_seg.predict.malis import malis_loss


def pairs(*channels):
    """Each channel is a line of pairs."""
    return torch.tensor(channels, dtype=torch.float64)[None, :, None, None]


def crop(n_channels=3, seed=0):
    """Return logits, targets, mask and ids of two small crops."""
    torch.manual_seed(seed)
    ids = torch.randint(0, 3, (2, 2, 3, 4))
    offsets = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, -2), (0, -2, 0)][:n_channels]
    made = [[torch.from_numpy(part) for part in affinity_labels(each.numpy(), offsets)] for each in ids]
    targets, mask = (torch.stack(part) for part in zip(*made, strict=True))
    return torch.randn(2, n_channels, 2, 3, 4), targets, mask, ids


def cross_entropy(logits, targets):
    return binary_cross_entropy_with_logits(torch.as_tensor(logits), torch.as_tensor(targets))


def test_classes_are_balanced_in_each_channel():
    logits, targets = [[2.0, -1.0, 0.5, -3.0], [1.0, 0.0, 4.0, -2.0]], [[1.0, 1, 1, 0], [1.0, 0, 0, 1]]
    first = (cross_entropy([2.0, -1.0, 0.5], [1.0, 1, 1]) + cross_entropy([-3.0], [0.0])) / 2
    second = (cross_entropy([1.0, -2.0], [1.0, 1]) + cross_entropy([0.0, 4.0], [0.0, 0])) / 2
    found = balanced_bce(pairs(*logits), pairs(*targets))
    assert found.item() == pytest.approx((first + second).item() / 2)


def test_an_absent_class_leaves_the_plain_mean():
    logits = pairs([2.0, -1.0, 0.5])
    expected = cross_entropy([2.0, -1.0, 0.5], [1.0, 1, 1])
    assert balanced_bce(logits, torch.ones_like(logits)).item() == pytest.approx(expected.item())


def test_a_channel_of_which_nothing_is_known_is_left_out():
    logits, targets = pairs([2.0, -1.0], [9.0, 9.0]), pairs([1, 0], [0, 0])
    mask = pairs([1, 1], [0, 0])
    for loss in (balanced_bce, dice_bce):
        assert loss(logits, targets, mask).item() == pytest.approx(loss(logits[:, :1], targets[:, :1]).item())


def test_dice_by_hand():
    logits, targets = pairs([0.0, 0.0, 0.0, 0.0]), pairs([1, 1, 1, 0])
    # ½ cut everywhere: both = ½, either = 4·½ + 1.
    expected = cross_entropy([0.0] * 4, [1.0, 1, 1, 0]).item() + 1 - (2 * 0.5 + 1) / (3 + 1)
    assert dice_bce(logits, targets).item() == pytest.approx(expected)


def test_dice_is_not_content_with_joining_everything():
    logits = torch.full((1, 1, 1, 1, 100), 4.0)
    targets = (torch.arange(100) > 4).float().reshape(logits.shape)
    assert dice_bce(logits, targets) - cross_entropy(logits, targets) > 0.6


def test_malis_is_that_of_the_known_nearest_neighbours():
    logits, targets, mask, ids = crop()
    assert malis(logits, targets, mask, ids).item() == malis_loss(logits, ids, mask).item()
    assert malis(logits, targets, None, ids).item() == malis_loss(logits, ids).item()


def test_malis_leaves_further_channels_to_cross_entropy():
    logits, targets, mask, ids = crop(5)
    further = balanced_bce(logits[:, 3:], targets[:, 3:], mask[:, 3:])
    expected = malis_loss(logits[:, :3], ids, mask[:, :3]) + further
    assert malis(logits, targets, mask, ids).item() == pytest.approx(expected.item())


def test_malis_needs_objects():
    with pytest.raises(DataError, match="was given no objects"):
        malis(*crop()[:3])


@pytest.mark.parametrize("loss", AFFINITY_LOSSES.values(), ids=AFFINITY_LOSSES)
class TestAll:
    @pytest.mark.parametrize("n_channels", [3, 5])
    def test_gradient(self, loss, n_channels):
        logits, *rest = crop(n_channels)
        logits = (logits.double() * 0.7).requires_grad_()
        assert torch.autograd.gradcheck(lambda s: loss(s, *rest), logits, fast_mode=True)

    def test_pulls_towards_the_targets(self, loss):
        logits, targets, mask, ids = crop()
        logits = logits.requires_grad_()
        loss(logits, targets, mask, ids).backward()
        wrong_way = (logits.grad > 0) == (targets > 0)
        assert not (wrong_way & (logits.grad != 0)).any()
        assert logits.grad.any()

    def test_unknown_pairs_do_not_count(self, loss):
        logits, targets, mask, ids = crop()
        mask[:, :, 1, 1] = False
        logits = logits.requires_grad_()
        before = loss(logits, targets, mask, ids)
        before.backward()
        assert not logits.grad[~mask].any()
        assert loss(torch.where(mask, logits, 9.0), targets, mask, ids).item() == pytest.approx(before.item())

    def test_nothing_is_known(self, loss):
        logits, targets, mask, ids = crop(5)
        logits = logits.requires_grad_()
        result = loss(logits, targets, torch.zeros_like(mask), ids)
        result.backward()
        assert result.item() == 0
        assert not logits.grad.any()

    def test_far_off_logits_stay_finite(self, loss):
        logits, *rest = crop()
        assert loss(logits * 1e4, *rest).isfinite()

    def test_half_precision(self, loss):
        logits, *rest = crop()
        result = loss(logits.half(), *rest)
        assert result.dtype == torch.float32
        assert result.item() == pytest.approx(loss(logits, *rest).item(), rel=0.01)

    @pytest.mark.parametrize("shape", [(2, 3, 2, 3, 5), (2, 2, 2, 3, 4), (2, 3, 6, 4)])
    def test_refuses_other_shapes(self, loss, shape):
        logits, _, mask, ids = crop()
        with pytest.raises(DataError, match="one shape"):
            loss(logits, torch.zeros(shape), mask, ids)
