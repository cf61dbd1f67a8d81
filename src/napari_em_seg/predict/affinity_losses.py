"""What affinity networks are trained to make small, all called alike; MALIS is one of them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import NEAREST
from napari_em_seg.predict.malis import malis_loss

__all__ = ["AFFINITY_LOSSES", "AffinityLoss", "balanced_bce", "dice_bce", "malis"]

AffinityLoss = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]

_ALL_BUT_CHANNELS = (0, 2, 3, 4)


def balanced_bce(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, ids: Tensor | None = None
) -> Tensor:
    r"""Return the cross-entropy in which joined and cut pairs weigh alike, as the mean over the channels.

    With n known pairs in a channel, :math:`n_k` of them of class k and K classes present, it is
    :math:`\frac1n \sum_e w_{t_e} \mathrm{CE}(e)` with :math:`w_k = n / (K n_k)`: the mean over the classes
    of the mean cross-entropy in each. Channels without known pairs are left out.

    Parameters
    ----------
    logits, targets
        Logits of the affinities, and what they should be, 0 or 1; (n, channels, z, y, x).
    mask
        True for pairs that are known. Where none are the loss is 0.
    ids
        Not needed.
    """
    logits, targets, known = _prepare(logits, targets, mask)
    total = known.sum(_ALL_BUT_CHANNELS, keepdim=True)
    joined = (known * targets).sum(_ALL_BUT_CHANNELS, keepdim=True)
    cut = total - joined
    n_classes = (joined > 0).to(total) + (cut > 0).to(total)
    n_channels = (total > 0).sum().clamp(min=1)
    weights = known / (n_classes * torch.where(targets > 0, joined, cut)).clamp(min=1) / n_channels
    return binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")


def dice_bce(logits: Tensor, targets: Tensor, mask: Tensor | None = None, ids: Tensor | None = None) -> Tensor:
    r"""Return the mean cross-entropy of known pairs plus the Dice loss of cut ones; the mean over the channels.

    With the probability :math:`q_e = 1 - \sigma(s_e)` that a pair is cut, and :math:`c_e = 1 - t_e`, the Dice
    loss of a channel is :math:`1 - (2 \sum q_e c_e + 1) / (\sum q_e + \sum c_e + 1)`. It is that of cut pairs
    because nearly all are joined: joining everything would already have a good Dice of joined ones.

    Parameters
    ----------
    logits, targets, mask, ids
        As in `balanced_bce`.
    """
    logits, targets, known = _prepare(logits, targets, mask)
    total = known.sum(_ALL_BUT_CHANNELS, keepdim=True)
    n_channels = (total > 0).sum().clamp(min=1)
    weights = known / total.clamp(min=1) / n_channels
    entropy = binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")

    found, true = known * torch.sigmoid(-logits), known * (1 - targets)
    both, either = (found * true).sum(_ALL_BUT_CHANNELS), (found + true).sum(_ALL_BUT_CHANNELS)
    return entropy + (1 - (2 * both + 1) / (either + 1)).sum() / n_channels


def malis(logits: Tensor, targets: Tensor, mask: Tensor | None = None, ids: Tensor | None = None) -> Tensor:
    """Return the constrained MALIS loss of the nearest neighbours, plus `balanced_bce` of further channels.

    MALIS is about paths from neighbour to neighbour. Long-range affinities, if there are any, come after the
    first three channels.

    Parameters
    ----------
    logits, targets, mask
        As in `balanced_bce`.
    ids
        Objects (n, z, y, x), 0 for background; those of the whole volume, not numbered anew in each crop.
    """
    logits, targets, known = _prepare(logits, targets, mask)
    if ids is None:
        raise DataError("MALIS was given no objects", "the ids of the objects, (n, z, y, x)", "Give ids")
    n = len(NEAREST)
    loss = malis_loss(logits[:, :n], ids, known[:, :n] > 0)
    return loss + balanced_bce(logits[:, n:], targets[:, n:], known[:, n:]) if logits.shape[1] > n else loss


AFFINITY_LOSSES: dict[str, AffinityLoss] = {"bce": balanced_bce, "dice-bce": dice_bce, "malis": malis}
"""Losses by name, all called alike: (logits, targets, mask, ids)."""


def _prepare(logits: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits and the targets as float, and 1 where a pair is known."""
    shapes = {tuple(tensor.shape) for tensor in (logits, targets, mask) if tensor is not None}
    if len(shapes) > 1 or logits.ndim != 5:
        raise DataError(
            f"The affinities, their targets and mask have the shapes {sorted(shapes)}",
            "one shape (n, channels, z, y, x) for all",
            "Crop the targets as the images, and give a network as many channels as there are offsets",
        )
    logits = logits.to(
        torch.promote_types(logits.dtype, torch.float32)
    )  # half precision is not enough for sums
    return logits, targets.to(logits), torch.ones_like(logits) if mask is None else mask.to(logits)
