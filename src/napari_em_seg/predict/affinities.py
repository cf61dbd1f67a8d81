"""Affinities and local shape descriptors made from object ids, for networks to learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_em_seg.errors import DataError
from napari_em_seg.predict._descriptor_kernels import describe

__all__ = ["NEAREST", "Offset", "affinity_labels", "local_shape_descriptors"]

Offset = tuple[int, int, int]

NEAREST: tuple[Offset, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""From a voxel to the one before it along z, y and x."""

_TRUNCATE = 3  # standard deviations, as in the authors' code


def affinity_labels(
    ids: NDArray[Any], offsets: Sequence[Offset] = NEAREST, *, ignore: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    r"""Return which pairs of voxels lie in one object, and for which that is known.

    With the ids L and the offset :math:`d_c` it is :math:`A_c(v) = 1` where
    :math:`L(v) = L(v + d_c) \neq 0`, else 0.

    Parameters
    ----------
    ids
        Objects (z, y, x). 0 is background: a voxel of it is joined to nothing, and that is known.
    offsets
        From a voxel to the other one, (dz, dy, dx) in voxels, for each channel.
    ignore
        The id of voxels of which nothing is known. With 0, background is where nobody has looked.

    Returns
    -------
    tuple
        The affinities, 0 or 1, and what is known of them, both (channels, z, y, x). Unknown, with affinity
        0, is a pair that leaves the volume or has a voxel to be ignored.
    """
    _check_ids(ids)
    _check_offsets(offsets)
    affinities = np.zeros((len(offsets), *ids.shape), np.uint8)
    known = np.zeros(affinities.shape, np.bool_)
    is_seen = np.ones(ids.shape, np.bool_) if ignore is None else ids != ignore
    is_object = is_seen & (ids != 0)
    for c, offset in enumerate(offsets):
        here, there = _both_ends(offset, ids.shape)
        known[c][here] = is_seen[here] & is_seen[there]
        affinities[c][here] = (ids[here] == ids[there]) & is_object[here]
    return affinities, known


def local_shape_descriptors(
    ids: NDArray[Any], sigma_nm: float | Sequence[float] = 80.0, *, voxel_size_nm: Sequence[float]
) -> NDArray[np.float32]:
    r"""Describe the shape of each voxel's object around it by ten numbers (Sheridan et al. 2022).

    The voxels u of the object of v, at the distance :math:`t = (u - v) / \sigma` in each axis, weigh
    :math:`w = \prod_a g(t_a)`, where g is a Gaussian that ends at 3 σ and sums to 1. With the mean
    :math:`\mu_a` and the covariance :math:`C_{ab}` of t under these weights, the channels are

    - 0 to 2: the way to the centre of mass along z, y and x, :math:`(\mu_a + 1) / 2`;
    - 3 to 5: the extent along z, y and x, :math:`C_{aa}`;
    - 6 to 8: the direction in the planes zy, zx and yx, :math:`(C_{ab} / \sqrt{C_{aa} C_{bb}} + 1) / 2`;
    - 9: the size, :math:`\sum w`.

    Everything is cut to 0 to 1, and 0 in the background. The weights are separable, but objects are not: each
    one is filtered by itself, within its bounding box, and only rows that it is in. What lies beyond the
    volume is not seen, so near the border of a crop the numbers are those of an object that ends there.

    Parameters
    ----------
    ids
        Objects (z, y, x), 0 for background.
    sigma_nm
        σ in nm, for all axes or for each. The authors took 80 to 120.
    voxel_size_nm
        Size of a voxel along z, y and x.

    Returns
    -------
    NDArray[np.float32]
        The descriptors, (10, z, y, x).
    """
    _check_ids(ids)
    filter_z, filter_y, filter_x = (_gaussian(sigma) for sigma in _in_voxels(sigma_nm, voxel_size_nm))
    descriptors = np.zeros((10, *ids.shape), np.float32)
    objects, numbers = np.unique(ids, return_inverse=True)
    volume = numbers.reshape(ids.shape).astype(np.int32) + 1
    for number, box in enumerate(ndimage.find_objects(volume), start=1):
        if objects[number - 1] != 0:
            describe(volume[box] == number, filter_z, filter_y, filter_x, descriptors[:, *box])
    return descriptors


def _in_voxels(sigma_nm: float | Sequence[float], voxel_size_nm: Sequence[float]) -> NDArray[np.float64]:
    """Return σ in voxels along z, y and x."""
    sigma, size = np.asarray(sigma_nm, float), np.asarray(voxel_size_nm, float)
    is_shaped = sigma.shape in ((), (3,)) and size.shape == (3,)
    if not (is_shaped and all(np.isfinite(n).all() and (n > 0).all() for n in (sigma, size))):
        raise DataError(
            f"σ is {sigma_nm} nm and a voxel {voxel_size_nm} nm",
            "numbers greater than 0: three (z, y, x) for the voxel, and one or three for σ",
            "Look up the voxel size in the description of the data",
        )
    return np.broadcast_to(sigma / size, 3)


def _gaussian(sigma: float) -> NDArray[np.float32]:
    """Return g, t g and t² g, which filter for sum, mean and variance, for σ in voxels."""
    radius = int(_TRUNCATE * sigma + 0.5)
    distance = np.arange(-radius, radius + 1) / sigma
    weights = np.exp(-0.5 * distance**2)
    weights /= weights.sum()
    return np.stack([weights, distance * weights, distance**2 * weights]).astype(np.float32)


def _both_ends(offset: Offset, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the voxels are whose pair lies in the volume, and where the other voxels of the pairs."""
    here = tuple(slice(max(0, -d), max(0, n - max(0, d))) for d, n in zip(offset, shape, strict=True))
    there = tuple(slice(max(0, d), max(0, n - max(0, -d))) for d, n in zip(offset, shape, strict=True))
    return here, there


def _check_ids(ids: NDArray[Any]) -> None:
    if ids.ndim != 3 or ids.dtype.kind not in "bui":
        raise DataError(
            f"The objects are {ids.dtype} numbers along {ids.ndim} axes",
            "whole numbers along three axes (z, y, x)",
            "Give the ids of the objects; a single slice needs a first axis (ids[None])",
        )


def _check_offsets(offsets: Sequence[Offset]) -> None:
    for offset in offsets:
        is_whole = all(isinstance(d, int | np.integer) for d in offset)
        if len(offset) != 3 or not is_whole or not any(offset):
            raise DataError(
                f"One of the offsets is {offset}",
                "three whole numbers (dz, dy, dx), not all 0",
                "Give the way from a voxel to the one that it may be joined to, such as (0, 0, -9)",
            )
