"""The loss of the propagator: soft intersection over union of sequences of masks, matched once."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["match", "sequence_loss", "soft_iou"]


def soft_iou(masks: Tensor, truth: Tensor) -> Tensor:
    r"""Return the soft intersection over union of all pairs of sequences (n, m, g).

    .. math:: \operatorname{sIoU}(m, g) = \frac{\sum_i m_i g_i}{\sum_i (m_i + g_i - m_i g_i)}

    over all pixels i of all slices. Two empty sequences agree: 1.

    Parameters
    ----------
    masks
        Probabilities (n, slices, m, y, x).
    truth
        0 or 1 (n, slices, g, y, x).
    """
    m, g = (x.transpose(1, 2).flatten(2).float() for x in (masks, truth))
    both = m @ g.transpose(1, 2)
    either = m.sum(2)[:, :, None] + g.sum(2)[:, None, :] - both
    return torch.where(either > 0, both / either.clamp_min(1e-6), torch.ones_like(both))


def match(iou: Tensor) -> NDArray[np.intp]:
    """Return the true object of each predicted one (n, m), so that together they agree best (Hungarian)."""
    cost = 1 - iou.detach().cpu().numpy()
    return np.stack([linear_sum_assignment(one)[1] for one in cost])


def sequence_loss(
    logits: Tensor, truth: Tensor, order: NDArray[np.intp] | None = None, cross_entropy: float = 0.5
) -> Tensor:
    r"""Return :math:`1 - \operatorname{sIoU}`, averaged over objects, and a share of cross entropy.

    Cross entropy is no part of the paper's loss; with it small objects are found from the first steps on.

    Parameters
    ----------
    logits, truth
        (n, slices, objects, y, x).
    order
        The true object of each predicted one, as `match` gives it; None: matched here, over the whole sequence.
    cross_entropy
        Its weight.
    """
    iou = soft_iou(torch.sigmoid(logits), truth)
    columns = torch.as_tensor(match(iou) if order is None else order, device=iou.device)
    agreed = iou.gather(2, columns[:, :, None])[..., 0]
    matched = torch.stack([part[:, one] for part, one in zip(truth, columns, strict=True)])
    rest = binary_cross_entropy_with_logits(logits.float(), matched.float())
    return (1 - agreed).mean() + cross_entropy * rest
