"""What boundary networks are trained to make small: cross-entropies in which rare boundaries still count."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_em_seg.errors import DataError

__all__ = ["LOSSES", "Loss", "class_balanced_loss", "class_weighted_loss"]

Loss = Callable[[Sequence[Tensor], Tensor, Tensor | None], Tensor]


def class_weighted_loss(
    outputs: Tensor | Sequence[Tensor],
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    boundary_share: float | None = None,
) -> Tensor:
    r"""Return DeepEM3D's cross-entropy, with weights inverse to how frequent each class is.

    With n voxels, :math:`n_c` of them of class c and K classes present, it is
    :math:`\frac1n \sum_v w_{y_v} \mathrm{CE}(v)` with :math:`w_c = n / (K n_c)`: the mean over the classes
    of the mean cross-entropy in each. Where a class is absent, the other has the weight 1.

    Parameters
    ----------
    outputs
        Logits (n, 1, h, w), or several such outputs, whose losses are added.
    labels
        1 at a boundary, 0 elsewhere; (n, 1, h, w).
    mask
        True where a voxel counts. Where nothing counts the loss is 0.
    boundary_share
        The share of boundary voxels in the whole of the training data, for weights :math:`1/2p` and
        :math:`1/2(1-p)` that are the same in each step. Counted in this batch where None.
    """
    outputs, target, counts = _prepare(outputs, labels, mask)
    if boundary_share is None:
        weights = counts * _inverse_frequency(target, counts)
    elif 0 < boundary_share < 1:
        weights = counts * torch.where(target > 0, 0.5 / boundary_share, 0.5 / (1 - boundary_share))
    else:
        raise DataError(f"The share of boundary voxels is {boundary_share}", "more than 0 and less than 1",
                        "Count it in the training labels, or leave it out")  # fmt: skip
    weights = weights / counts.sum().clamp(min=1)
    return _summed(outputs, target, weights)


def class_balanced_loss(
    outputs: Tensor | Sequence[Tensor], labels: Tensor, mask: Tensor | None = None
) -> Tensor:
    r"""Return M2FCN's cross-entropy, balanced by β image by image, summed over side and fused outputs.

    For one output of one image with boundary voxels B and others :math:`\bar B`, it is
    :math:`\frac{1}{|B| + |\bar B|} (-\beta \sum_B \log \sigma(s) - (1 - \beta) \sum_{\bar B}
    \log (1 - \sigma(s)))` with :math:`\beta = |\bar B| / (|B| + |\bar B|)`.

    Where the paper is not followed to the letter: it prints :math:`\beta = |\bar B| / |B|`, which would make
    :math:`1 - \beta` negative, and means HED's β; its labels are inverted (0 at a boundary), ours are not;
    and it sums over voxels, with a learning rate of 1e-8, where we take the mean, so that the learning rate
    does not hang on the size of a crop. With one class absent, β would weigh the other by 0 and an image
    without boundaries would teach nothing: there, both weigh 1/2.

    Parameters
    ----------
    outputs
        Logits (n, 1, h, w), or all that ``forward_all`` gives; each weighs 1, as in the paper.
    labels
        1 at a boundary, 0 elsewhere; (n, 1, h, w).
    mask
        True where a voxel counts. An image where nothing counts adds 0.
    """
    outputs, target, counts = _prepare(outputs, labels, mask)
    total = counts.sum((1, 2, 3), keepdim=True)
    positive = (counts * target).sum((1, 2, 3), keepdim=True)
    beta = (total - positive) / total.clamp(min=1)
    beta = torch.where((positive > 0) & (positive < total), beta, 0.5)
    weights = counts * torch.where(target > 0, beta, 1 - beta) / total.clamp(min=1) / len(target)
    return _summed(outputs, target, weights)


LOSSES: dict[str, Loss] = {"class-weighted": class_weighted_loss, "class-balanced": class_balanced_loss}
"""Losses by name, all called alike: (outputs, labels, mask)."""


def _prepare(
    outputs: Tensor | Sequence[Tensor], labels: Tensor, mask: Tensor | None
) -> tuple[Sequence[Tensor], Tensor, Tensor]:
    """Return the outputs as a sequence, the labels as float and 1 where a voxel counts."""
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    shapes = {tuple(output.shape) for output in outputs}
    shapes |= {tuple(array.shape) for array in (labels, mask) if array is not None}
    if not outputs or len(shapes) > 1 or labels.ndim != 4 or labels.shape[1] != 1:
        raise DataError(
            f"{len(outputs)} outputs, their labels and mask have the shapes {sorted(shapes)}",
            "one shape (images, 1, y, x) for all",
            "Crop the labels as the images, and keep the axis of length 1",
        )
    target = labels.to(torch.float32)
    counts = torch.ones_like(target) if mask is None else mask.to(torch.float32)
    return outputs, target, counts


def _inverse_frequency(target: Tensor, counts: Tensor) -> Tensor:
    """Return n / (K n_c) at each voxel, for its class c and K classes present."""
    total, positive = counts.sum(), (counts * target).sum()
    negative = total - positive
    n_classes = (positive > 0).float() + (negative > 0).float()
    of_class = torch.where(target > 0, positive, negative)
    return total / (n_classes * of_class).clamp(min=1)


def _summed(outputs: Sequence[Tensor], target: Tensor, weights: Tensor) -> Tensor:
    losses = [
        binary_cross_entropy_with_logits(output.float(), target, weights, reduction="sum") for output in outputs
    ]
    return torch.stack(losses).sum()
