"""Windows of a slice: where objects are, what moves into another one, who shares one, and tiles."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Box", "area", "around", "groups", "moved", "tiles", "union"]

Box = tuple[int, int, int, int]
"""First row, first column, and those after the last."""

_SLACK = 1.5  # what a shared window may cost, in terms of what its objects cost apart


def area(box: Box) -> int:
    """Return the pixels in a window."""
    return (box[2] - box[0]) * (box[3] - box[1])


def union(boxes: Sequence[Box]) -> Box:
    """Return the smallest window that holds all."""
    ends = np.array(boxes)
    low, high = ends[:, :2].min(axis=0).tolist(), ends[:, 2:].max(axis=0).tolist()
    return low[0], low[1], high[0], high[1]


def around(mask: Tensor, within: Box, shape: tuple[int, int], margin: int, stride: int) -> Box | None:
    """Return the window around a mask (y, x), in whole strides and within the slice; None where it is empty.

    Parameters
    ----------
    mask
        True or False.
    within
        The window that the mask is given in.
    shape
        Of the slice, in whole strides.
    margin
        Pixels around the mask.
    stride
        Ends of windows are multiples of it.
    """
    ends = []
    for axis in (0, 1):
        places = torch.nonzero(mask.any(dim=1 - axis))[:, 0]
        if not len(places):
            return None
        low, high = int(places[0]) + within[axis] - margin, int(places[-1]) + 1 + within[axis] + margin
        ends.append((max(0, low // stride * stride), min(shape[axis], -(-high // stride) * stride)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def moved(x: Tensor, old: Box, new: Box, stride: int = 1) -> Tensor:
    """Return what a window (..., y, x) holds once it is moved: 0 where nothing is known.

    ``stride`` is that of the tensor: the windows are given in pixels of the slice.
    """
    if old == new:
        return x
    (top, left, bottom, right), (y, x0, y1, x1) = ([n // stride for n in box] for box in (old, new))
    found = x.new_zeros(*x.shape[:-2], y1 - y, x1 - x0)
    first, start, last, stop = max(top, y), max(left, x0), min(bottom, y1), min(right, x1)
    if first < last and start < stop:
        part = x[..., first - top : last - top, start - left : stop - left]
        found[..., first - y : last - y, start - x0 : stop - x0] = part
    return found


def groups(boxes: Sequence[Box], most: int) -> list[list[int]]:
    r"""Return who is looked at together: neighbours, unless their common window is mostly empty.

    Of n objects in a window of area a the net sees :math:`n a` pixels. Beginning with the largest one, a group
    takes in the object by which that grows least, as long as it is at most 1.5 times what it is apart.
    """
    ends = np.array(boxes).reshape(-1, 4)
    sizes = (ends[:, 2] - ends[:, 0]) * (ends[:, 3] - ends[:, 1])
    left = np.argsort(-sizes, kind="stable")
    found = []
    while len(left):
        group, box, left = [int(left[0])], ends[left[0]], left[1:]
        while len(group) < most and len(left):
            joint = _joint(box, ends[left])
            best = int(np.argmin((len(group) + 1) * joint - sizes[left]))
            apart = len(group) * int(_joint(box, box[None])[0]) + int(sizes[left[best]])
            if (len(group) + 1) * int(joint[best]) > _SLACK * apart:
                break
            group.append(int(left[best]))
            box = np.array(union([tuple(box), tuple(ends[left[best]])]))
            left = np.delete(left, best)
        found.append(sorted(group))
    return found


def _joint(box: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.intp]:
    low, high = np.minimum(box[:2], others[:, :2]), np.maximum(box[2:], others[:, 2:])
    return np.asarray(np.prod(high - low, axis=1))


def tiles(box: Box, side: int, halo: int, stride: int) -> Iterator[tuple[Box, Box]]:
    """Give equal pieces of a window, about ``side`` large, and each with what is around it in the window."""
    rows, columns = (_cut(box[axis], box[axis + 2], side, stride) for axis in (0, 1))
    for y, bottom in rows:
        for x, right in columns:
            outer = (max(box[0], y - halo), max(box[1], x - halo), min(box[2], bottom + halo),
                     min(box[3], right + halo))  # fmt: skip
            yield (y, x, bottom, right), outer


def _cut(start: int, stop: int, side: int, stride: int) -> list[tuple[int, int]]:
    n = max(1, round((stop - start) / side))
    step = -(-(stop - start) // (n * stride)) * stride
    return [(at, min(at + step, stop)) for at in range(start, stop, step)]
