"""Skeleton: the middle lines of an object as trees, with the distance to its surface, in nm (TEASAR)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.shapes._skeleton_kernels import spread, sweep
from napari_em_seg.shapes.objects import Runs
from napari_em_seg.volume import VoxelSize

__all__ = ["Skeleton", "skeletonise"]

_PENALTY, _POWER = 5000.0, 16
_SMOOTH = 2.0  # standard deviation of the Gaussian along a branch, in nodes

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Trees, one for each part of an object that hangs together.

    Attributes
    ----------
    points
        Nodes (n, 3), z, y, x in nm, from the outer corner of the first voxel on.
    radius
        How far each is from the surface, in nm.
    parent
        The node before each, which has a lower number; −1 for roots.
    """

    points: Floats
    radius: Floats
    parent: NDArray[np.int32]

    @property
    def length_nm(self) -> float:
        """Of all edges."""
        rows = np.flatnonzero(self.parent >= 0)
        return float(np.linalg.norm(self.points[rows] - self.points[self.parent[rows]], axis=1).sum())

    @property
    def n_trees(self) -> int:
        """How many parts there are."""
        return int(np.count_nonzero(self.parent < 0))

    @property
    def n_ends(self) -> int:
        """Nodes with one neighbour, or none."""
        degree = np.bincount(self.parent[self.parent >= 0], minlength=len(self.parent))
        return int(np.count_nonzero(degree + (self.parent >= 0) < 2))


def skeletonise(
    runs: Runs,
    voxel_size_nm: VoxelSize,
    *,
    scale: float = 1.5,
    constant_nm: float = 300.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Skeleton:
    r"""Return the skeleton of an object.

    In each part, with :math:`d(v)` the distance of a voxel from the surface, a tree of shortest ways leads
    from a root, the voxel farthest from any other one, to all voxels; what it costs to pass one is

    .. math:: 1 + 5000 \, (1 - d(v) / 1.01 \max d)^{16}

    for each nm, so that ways keep to the middle. The way to the farthest voxel is the first branch. Then
    all voxels are explained that can be reached within the object from a node p of it over at most

    .. math:: r(p) = s \, d(p) + c,

    and the way to the farthest voxel that is not explained is the next branch, up to where it meets those
    before. After Sato et al. (2000), with ways within the object in place of balls, so that a branch does not
    explain another one that passes by. Time grows with the voxels of the object, but for the logarithm of
    sorting. Nodes are about one edge of the longest side of a voxel apart, and stairs between slices are
    smoothed over two of these.

    Parameters
    ----------
    runs
        The object. Where it meets the border of the volume it is taken to go on.
    voxel_size_nm
        Edge lengths of a voxel.
    scale, constant_nm
        s and c: shorter side branches are left out.
    cancelled
        Asked before each branch; once it says true, `Cancelled` is raised.
    """
    if not (np.isfinite([scale, constant_nm]).all() and scale >= 0 and constant_nm >= 0):
        raise DataError(f"The scale is {scale} and the constant {constant_nm} nm", "numbers from 0 on",
                        "Leave them out")  # fmt: skip
    grid, trees = _Grid(runs, voxel_size_nm), _Trees(max(voxel_size_nm))
    depth = grid.depth()
    for root, voxels in grid.parts():
        inside = depth[voxels]
        before = grid.ways(root, voxels, 1 + _PENALTY * (1 - inside / (1.01 * inside.max())) ** _POWER)
        for target in voxels[::-1].tolist():
            if grid.is_explained(target):
                continue
            if cancelled():
                raise Cancelled("The skeleton was cancelled")
            way = trees.way_to(target, before)
            trees.add(way, grid.points(way), depth[way])
            grid.explain(way, scale * depth[way] + constant_nm)
    return trees.skeleton()


class _Grid:
    """The voxels of an object, who is whose neighbour, and the ways between them."""

    def __init__(self, runs: Runs, voxel_size_nm: VoxelSize) -> None:
        self._size, self._shape = np.array(voxel_size_nm), runs.shape
        self._coordinates = runs.voxels()
        z, y, x = runs.box
        self._corner = z.start, y.start, x.start
        self._z, self._y, self._x = (
            c - corner for c, corner in zip(self._coordinates, self._corner, strict=True)
        )
        self._n_y = y.stop - y.start
        row = (runs.z - z.start).astype(np.int64) * self._n_y + (runs.y - y.start)
        self._rows = np.searchsorted(row, np.arange((z.stop - z.start) * self._n_y + 1))
        self._run_x = (runs.x - x.start).astype(np.int32)
        self._run_first = np.concatenate(([0], np.cumsum(runs.stop - runs.x, dtype=np.int64)))
        steps = np.stack(np.meshgrid(*([0, 1] for _ in range(3)), indexing="ij"), -1) * self._size
        self._steps = np.linalg.norm(steps, axis=-1)
        n = len(self._z)
        self._ones, self._weight = np.ones(n), np.ones(n)
        self._before, self._nowhere = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
        self._explained, self._costs = np.full(n, np.inf), np.full(n, np.inf)

    def depth(self) -> Floats:
        """Return the distance of each voxel from the surface, in nm.

        Beyond the border of the volume the object goes on; if then it has no surface at all, it ends there.
        """
        found = self._depth(is_open=True)
        return found if np.isfinite(found).all() else self._depth(is_open=False)

    def _depth(self, *, is_open: bool) -> Floats:
        squared = np.full(len(self._z), np.inf)
        for axis in (2, 1, 0):
            place, extent = self._coordinates[axis], self._shape[axis]
            others = [self._coordinates[k] for k in range(3) if k != axis]
            line = others[0].astype(np.int64) * (int(others[1].max()) + 1) + others[1]
            key = line * (extent + 1) + place
            order = np.argsort(key, kind="stable")
            first = np.concatenate(([0], np.flatnonzero(np.diff(key[order]) != 1) + 1, [len(key)]))
            sweep(squared, order, place, first, extent, float(self._size[axis]), is_open)
        found: Floats = np.sqrt(squared)
        return found

    def parts(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Give the root of each part that hangs together, and its voxels, the nearest to the root first."""
        first, second = (np.full(len(self._z), np.inf) for _ in range(2))
        for start in range(len(self._z)):
            if not np.isfinite(first[start]):
                some = self._spread(np.array([start]), np.zeros(1), first)
                root = int(some[-1])
                yield root, self._spread(some[-1:], np.zeros(1), second)

    def ways(self, root: int, voxels: NDArray[np.int64], weight: Floats) -> NDArray[np.int32]:
        """Return the voxel before each on the cheapest way from a root to those of its part."""
        self._weight[voxels] = weight
        self._spread(np.array([root]), np.zeros(1), self._costs, np.inf, self._weight, self._before)
        return self._before

    def is_explained(self, voxel: int) -> bool:
        """Whether a branch is near enough."""
        return bool(self._explained[voxel] <= 0)

    def explain(self, way: Sequence[int], reach: Floats) -> None:
        """Say that all within reach of a branch is explained."""
        self._spread(np.array(way), -reach, self._explained, 0.0)

    def points(self, voxels: Sequence[int]) -> Floats:
        """Return the centres of voxels in nm."""
        found: Floats = (np.stack([c[voxels] for c in self._coordinates], axis=1) + 0.5) * self._size
        return found

    def _spread(
        self,
        sources: NDArray[np.int64],
        values: Floats,
        reached: Floats,
        limit: float = np.inf,
        weight: Floats | None = None,
        before: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int64]:
        found: NDArray[np.int64] = spread(
            sources, values, limit, self._ones if weight is None else weight, self._z, self._y, self._x,
            self._rows, self._run_x, self._run_first, self._n_y, self._steps, reached,
            self._nowhere if before is None else before,
        )  # fmt: skip
        return found


class _Trees:
    """Branches put together; each is sampled anew, so that nodes are a step apart."""

    def __init__(self, step_nm: float) -> None:
        self._step = step_nm
        self._points: list[Floats] = []
        self._radius: list[float] = []
        self._parent: list[int] = []
        self._node: dict[int, int] = {}

    def way_to(self, target: int, before: NDArray[np.int32]) -> list[int]:
        """Return the voxels from a tree, or its root, to a target."""
        way = [target]
        while way[-1] not in self._node and before[way[-1]] >= 0:
            way.append(int(before[way[-1]]))
        return way[::-1]

    def add(self, way: Sequence[int], points: Floats, radius: Floats) -> None:
        """Add a branch: nodes a step apart, without the stairs of voxels, from where it meets a tree on."""
        start = self._node.get(way[0], -1)
        if start >= 0:
            points[0] = self._points[start]
        along = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
        n = max(1, round(along[-1] / self._step)) if len(way) > 1 else 0
        at = np.linspace(0, along[-1], n + 1)
        nodes = _smoothed(np.stack([np.interp(at, along, column) for column in points.T], axis=1))
        names = [start, *range(len(self._parent), len(self._parent) + n)]
        if start < 0:
            names = [len(self._parent) + k for k in range(n + 1)]
        for k in range(int(start >= 0), n + 1):
            self._points.append(nodes[k])
            self._radius.append(float(np.interp(at[k], along, radius)))
            self._parent.append(names[k - 1] if k else -1)
        nearest = np.rint(along * (n / along[-1] if n else 0)).astype(int)
        for voxel, k in zip(way, nearest.tolist(), strict=True):
            self._node.setdefault(voxel, names[k])

    def skeleton(self) -> Skeleton:
        """Return all of them."""
        return Skeleton(np.array(self._points), np.array(self._radius), np.array(self._parent, np.int32))


def _smoothed(nodes: Floats) -> Floats:
    """Smooth a line; its ends stay."""
    if len(nodes) < 3:
        return nodes
    n = min(len(nodes) - 1, round(4 * _SMOOTH))
    longer = np.pad(nodes, ((n, n), (0, 0)), mode="reflect", reflect_type="odd")
    smooth: Floats = gaussian_filter1d(longer, _SMOOTH, axis=0, mode="nearest")[n:-n]
    smooth[[0, -1]] = nodes[[0, -1]]
    return smooth
