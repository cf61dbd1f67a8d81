"""Losses, worked out by hand."""

from math import exp, log

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_em_seg.errors import DataError
from napari_em_seg.predict.losses import LOSSES, class_balanced_loss, class_weighted_loss


def images(*rows):
    """Each row becomes an image of one line."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, None]


def cross_entropy(logit, label):
    return log(1 + exp(-logit if label else logit))


LOGITS, LABELS = [2.0, -1.0, 0.5, -3.0], [1, 0, 0, 0]
RARE = cross_entropy(2, 1)
COMMON = [cross_entropy(logit, 0) for logit in LOGITS[1:]]


def test_class_weights_are_inverse_to_frequency():
    # w₁ = 4/(2·1) = 2, w₀ = 4/(2·3) = 2/3; the mean over four voxels.
    expected = (2 * RARE + 2 / 3 * sum(COMMON)) / 4
    assert class_weighted_loss(images(LOGITS), images(LABELS)).item() == pytest.approx(expected)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("loss", [class_weighted_loss, class_balanced_loss])
def test_an_absent_class(loss, label):
    """Class weights: 1 for the class that is there. β: 1/2 instead of weighing it by 0."""
    logits, labels = images(LOGITS), torch.full((1, 1, 1, 4), label)
    plain = binary_cross_entropy_with_logits(logits, labels.float()).item()
    assert loss(logits, labels).item() == pytest.approx(plain / (2 if loss is class_balanced_loss else 1))


def test_class_weights_of_the_whole_training_data():
    # Boundary share 1/4 of all data, whatever is in this batch: w₁ = 2, w₀ = 2/3.
    loss = class_weighted_loss(images(LOGITS), images(LABELS), boundary_share=0.25)
    assert loss.item() == pytest.approx((2 * RARE + 2 / 3 * sum(COMMON)) / 4)
    loss = class_weighted_loss(images(LOGITS[1:]), images(LABELS[1:]), boundary_share=0.25)
    assert loss.item() == pytest.approx(2 / 3 * sum(COMMON) / 3)


@pytest.mark.parametrize("share", [0, 1, -0.5, 3])
def test_refuses_an_impossible_share(share):
    with pytest.raises(DataError, match="more than 0 and less than 1"):
        class_weighted_loss(images(LOGITS), images(LABELS), boundary_share=share)


def test_beta():
    # β = 3/4 on the boundary voxel, 1/4 on the three others.
    expected = (3 / 4 * RARE + 1 / 4 * sum(COMMON)) / 4
    assert class_balanced_loss(images(LOGITS), images(LABELS)).item() == pytest.approx(expected)


def test_beta_is_of_each_image():
    other_logits, other_labels = [1.0, 1.0, -1.0, 0.0], [1, 1, 0, 1]
    both = class_balanced_loss(images(LOGITS, other_logits), images(LABELS, other_labels))
    alone = class_balanced_loss(images(LOGITS), images(LABELS))
    other = class_balanced_loss(images(other_logits), images(other_labels))
    assert both.item() == pytest.approx((alone + other).item() / 2)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
class TestBoth:
    def test_outputs_are_summed(self, loss):
        a, b = images(LOGITS), images([0.3, 0.2, -2.0, 1.0])
        labels = images(LABELS)
        expected = loss([a], labels, None) + loss(b, labels, None)
        assert loss([a, b], labels, None).item() == pytest.approx(expected.item())

    def test_masked_voxels_do_not_count(self, loss):
        labels = images([*LABELS, 1, 1])
        mask = images([1, 1, 1, 1, 0, 0]).bool()
        masked = loss(images([*LOGITS, 9.0, -9.0]), labels, mask)
        assert masked.item() == pytest.approx(loss(images(LOGITS), images(LABELS), None).item())

    def test_nothing_counts(self, loss):
        logits = images(LOGITS).requires_grad_()
        result = loss(logits, images(LABELS), torch.zeros(1, 1, 1, 4))
        result.backward()
        assert result.item() == 0
        assert not logits.grad.any()

    def test_pulls_each_voxel_to_its_label(self, loss):
        logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
        labels = (torch.rand(2, 1, 8, 8) > 0.7).to(torch.uint8)
        loss(logits, labels, None).backward()
        assert (((logits.grad < 0) == (labels > 0)) & (logits.grad != 0)).all()

    def test_rare_and_frequent_class_pull_alike(self, loss):
        logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
        labels = torch.zeros(1, 1, 8, 8)
        labels[..., 0, :3] = 1
        loss(logits, labels, None).backward()
        assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)

    def test_far_off_logits_stay_finite(self, loss):
        assert loss(images([1e4, -1e4, 1e4, 0.0]), images(LABELS), None).isfinite()

    @pytest.mark.parametrize("labels", [torch.zeros(1, 1, 1, 5), torch.zeros(1, 1, 4)])
    def test_refuses_other_shapes(self, loss, labels):
        with pytest.raises(DataError, match="one shape"):
            loss(images(LOGITS), labels, None)

    def test_refuses_no_outputs(self, loss):
        with pytest.raises(DataError, match="0 outputs"):
            loss([], images(LABELS), None)
