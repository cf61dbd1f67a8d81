r"""MALIS: learn those affinities that decide whether two voxels end in one segment.

Two voxels are joined as well as the weakest edge on the best path between them: the *maximin* edge. MALIS lets
every pair of voxels pull at its maximin edge, upwards where both are in one object (positive), downwards where
they are in two (negative). Here it is the constrained kind, with two passes over the graph of edges e between
neighbours, with affinities :math:`a_e`:

- positive: edges that leave an object are set to 0; :math:`P_e` pairs of voxels of one object have their
  maximin edge at e. That is Kruskal's maximum spanning tree in each object by itself: an edge that joins parts
  of m and n voxels serves m n pairs.
- negative: edges within objects are set to 1; :math:`N_e` pairs of voxels of two objects have their maximin
  edge at e. That is Kruskal's tree on what is left when every connected piece of an object is one node.

In a crop an object may be in several pieces. The best path between two of them leads over edges that the
positive pass sets to 0 and that have nothing to learn from it: those pairs count for no edge. In the negative
pass the pieces are nodes of their own, as a path from one to the other is not free, but the pairs between them
are of one object and do not count. Background (id 0) is no object: its pairs do not count, and all its edges
belong to the negative pass, where paths between objects may lead through it.

Affinities are rounded to 16 bits for sorting, so that the time is linear; of equal ones, the edge comes first
that does in the array.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from napari_em_seg.errors import DataError
from napari_em_seg.predict._malis_kernels import join_across, join_within, list_edges

__all__ = ["EdgeError", "malis_batch_weights", "malis_error", "malis_loss", "malis_pairs", "malis_weights"]

EdgeError = Literal["square", "cross-entropy"]
Found = tuple[NDArray[np.int32], NDArray[np.int64]]  # edges (flat indices) and how many pairs each decides


def malis_pairs(
    affinities: NDArray[Any], ids: NDArray[Any], known: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many pairs of voxels have their maximin edge at each edge, in the positive and negative pass.

    Parameters
    ----------
    affinities
        From 0 to 1, (3, z, y, x): ``affinities[c, z, y, x]`` joins the voxel to the one before it along axis c.
    ids
        Objects (z, y, x), 0 for background; of a crop still those of the whole volume.
    known
        False for edges that are to be left out, (3, z, y, x): there is no path over them in either pass, and
        they get no pairs. Those that leave the volume are left out in any case.

    Returns
    -------
    tuple
        :math:`P_e` and :math:`N_e`, each (3, z, y, x).
    """
    positive, negative = _found(affinities, ids, known)
    return _dense(positive, ids.shape, np.int64), _dense(negative, ids.shape, np.int64)


def malis_weights(
    affinities: NDArray[Any], ids: NDArray[Any], known: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    r"""Return the weights of the edges, :math:`P_e / \sum P` and :math:`N_e / \sum N`.

    All 0 in a pass without pairs. Everything as in `malis_pairs`. Nearly all is done without Python's global
    lock, so that a thread can do it while others, or a GPU, work on something else.
    """
    positive, negative = (
        (edges, pairs / max(1, pairs.sum())) for edges, pairs in _found(affinities, ids, known)
    )
    return _dense(positive, ids.shape, np.float32), _dense(negative, ids.shape, np.float32)


def malis_batch_weights(
    affinities: Tensor, ids: Tensor, known: Tensor | None = None, *, threads: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the weights of a whole batch, on the device of its affinities; each crop has a thread.

    Parameters
    ----------
    affinities, ids, known
        As in `malis_pairs`, with the crops of the batch along a first axis.
    threads
        How many work at a time; as many as there are processors where None.
    """
    _check_batch(affinities, ids, known)
    arrays = [affinities.detach().float().cpu().numpy(), ids.cpu().numpy()]
    masks = [None] * len(ids) if known is None else known.bool().cpu().numpy()
    with ThreadPoolExecutor(min(len(ids), threads or os.cpu_count() or 1)) as pool:
        weights = list(pool.map(malis_weights, *arrays, masks))
    positive, negative = (
        torch.from_numpy(np.stack(each)).to(affinities.device) for each in zip(*weights, strict=True)
    )
    return positive, negative


def malis_error(
    logits: Tensor, positive: Tensor, negative: Tensor, *, error: EdgeError = "square", margin: float = 0.0
) -> Tensor:
    r"""Return the weighted error of the edges, summed over both passes, as the mean over the batch.

    With :math:`a_e = \sigma(s_e)` and the margin m, for logits s and weights p and n, the error of a crop is
    :math:`\sum_e p_e \max(0, 1 - a_e - m)^2 + n_e \max(0, a_e - m)^2`, or
    :math:`-\sum_e p_e \log a_e + n_e \log (1 - a_e)`.

    The weights are constants: moving one affinity does not change which edges decide, as long as it meets
    no other. Then the gradient is :math:`-2 p_e \max(0, 1 - a_e - m) + 2 n_e \max(0, a_e - m)` for
    :math:`a_e`, or :math:`n_e a_e - p_e (1 - a_e)` for :math:`s_e`.

    Parameters
    ----------
    logits, positive, negative
        Logits and weights of the edges, (n, 3, z, y, x).
    error
        The square, or the cross-entropy, which pulls harder at edges that are quite wrong.
    margin
        Where the square begins to count, at least 0 and less than 0.5; MALIS was published with 0.3.
    """
    if error not in get_args(EdgeError):
        raise DataError(f"The error is {error!r}", f"one of {', '.join(get_args(EdgeError))}", "Choose one")
    if not 0 <= margin < 0.5:
        raise DataError(f"The margin is {margin}", "at least 0 and less than a half", "Leave it out for none")
    if error == "square":
        affinities = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        lacking, excess = (1 - margin - affinities).relu(), (affinities - margin).relu()
        return (positive * lacking.square() + negative * excess.square()).sum() / len(logits)
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (positive * softplus(-scores) + negative * softplus(scores)).sum() / len(logits)


def malis_loss(
    logits: Tensor,
    ids: Tensor,
    known: Tensor | None = None,
    *,
    error: EdgeError = "square",
    margin: float = 0.0,
    threads: int | None = None,
) -> Tensor:
    """Return the constrained MALIS loss of a batch: its weights and the error of its edges in one.

    Parameters
    ----------
    logits
        Of the affinities, (n, 3, z, y, x).
    ids
        Objects (n, z, y, x), with the ids of the whole volume: an object that a crop cuts in two stays one.
    known
        False for edges that are to be left out, (n, 3, z, y, x).
    error, margin
        As in `malis_error`.
    threads
        As in `malis_batch_weights`.
    """
    weights = malis_batch_weights(torch.sigmoid(logits.detach().float()), ids, known, threads=threads)
    return malis_error(logits, *weights, error=error, margin=margin)


def _found(affinities: NDArray[Any], ids: NDArray[Any], known: NDArray[Any] | None) -> tuple[Found, Found]:
    """Return the edges that decide over pairs, and how many pairs, in the positive and the negative pass."""
    _check(affinities, ids, known)
    mask = np.empty((0, 0, 0, 0), np.bool_) if known is None else np.ascontiguousarray(known, np.bool_)
    # one type each, or numba compiles a version for every combination that it meets
    affinities = np.ascontiguousarray(affinities, np.float32)
    flat = np.ascontiguousarray(ids).astype(np.uint64, copy=False)
    keys = np.empty(affinities.size, np.uint16)
    within, across = list_edges(affinities, flat, mask, keys)

    steps = np.array([ids.shape[1] * ids.shape[2], ids.shape[2], 1], np.int32)
    parent = np.full(ids.size, -1, np.int32)
    positive = join_within(within, keys, steps, parent)
    return positive, join_across(across, keys, steps, parent, *_pieces(parent, flat.ravel()))


def _pieces(parent: NDArray[np.int32], ids: NDArray[np.uint64]) -> tuple[NDArray[Any], ...]:
    """Return what the negative pass needs to know of the connected pieces of objects: mass, bag and labels."""
    roots = np.flatnonzero((parent < 0) & (ids != 0))
    mass = np.zeros(len(parent), np.int32)
    mass[roots] = -parent[roots]
    _, numbers, n_pieces = np.unique(ids[roots], return_inverse=True, return_counts=True)
    is_in_pieces = n_pieces[numbers] > 1
    labels = numbers[is_in_pieces].astype(np.int64) + 1
    bag = np.zeros(len(parent) if len(labels) else 0, np.int32)
    bag[roots[is_in_pieces]] = np.arange(1, len(labels) + 1)
    return mass, bag, labels


def _dense(found: tuple[NDArray[Any], NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return the numbers at their edges, 0 elsewhere."""
    result = np.zeros((3, *shape), dtype)
    result.ravel()[found[0]] = found[1]
    return result


def _check(affinities: NDArray[Any], ids: NDArray[Any], known: NDArray[Any] | None) -> None:
    if ids.ndim != 3 or ids.dtype.kind not in "bui":
        raise DataError(
            f"The objects are {ids.dtype} numbers along {ids.ndim} axes",
            "whole numbers along three axes (z, y, x)",
            "Give the ids of the objects; a single slice needs a first axis (ids[None])",
        )
    shapes = [array.shape for array in (affinities, known) if array is not None]
    if any(shape != (3, *ids.shape) for shape in shapes):
        raise DataError(
            f"Objects of shape {ids.shape} came with edges of shape {' and '.join(map(str, shapes))}",
            f"(3, z, y, x) for both: {(3, *ids.shape)}",
            "Crop all alike, and give the affinities of the three nearest neighbours only",
        )
    if 3 * ids.size >= 2**31:
        raise DataError(f"There are {3 * ids.size:,} edges", "less than 2³¹", "Give a crop")
    if affinities.size and not (affinities.min() >= 0 and affinities.max() <= 1):  # also where one is no number
        raise DataError(
            f"The affinities go from {affinities.min()} to {affinities.max()}",
            "numbers from 0 to 1",
            "Give probabilities: the sigmoid of what the network returns",
        )


def _check_batch(affinities: Tensor, ids: Tensor, known: Tensor | None) -> None:
    shapes = [tuple(tensor.shape) for tensor in (affinities, known) if tensor is not None]
    if ids.ndim != 4 or not len(ids) or any(shape != (len(ids), 3, *ids.shape[1:]) for shape in shapes):
        raise DataError(
            f"Objects of shape {tuple(ids.shape)} came with edges of shape {' and '.join(map(str, shapes))}",
            "(n, z, y, x) for the objects and (n, 3, z, y, x) for their edges",
            "Give a first axis to a single crop (ids[None]), and the nearest neighbours' affinities only",
        )
