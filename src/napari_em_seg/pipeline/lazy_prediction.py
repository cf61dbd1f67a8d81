"""A prediction made block by block where somebody looks, that can be stopped and gone on with; a preview."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.pipeline.prediction import Models, Prediction
from napari_em_seg.predict.tiling import Box, Tile
from napari_em_seg.volume import Progress, Volume

if TYPE_CHECKING:
    from napari_em_seg.predict.run import TileRun

__all__ = ["LazyPrediction", "load_models", "preview"]

_BLOCK_SIDE = 512  # pixels, of tiles for nets that predict blocks of slices: the first one is there sooner
_PREVIEW_SIDE = 1024  # pixels
_PREVIEW_SIDE_OF_BLOCKS = 256  # they have to see several slices above and below, too


class LazyPrediction:
    r"""A prediction of which any block can be the next; blocks are the tiles of `predict_boundary`.

    It ends with the same numbers as `predict_boundary` and `predict_affinities` with tiles of the same size.
    Networks are loaded when the first block is asked for; what cannot be predicted is an error before that.

    Parameters
    ----------
    volume, wanted
        As for `predict_boundary`. Nets for blocks of slices get tiles of at most 512 pixels, unless another
        size is wanted.

    Attributes
    ----------
    task
        "boundary" or "affinity".
    models
        Names of the models.
    boundary
        The boundary map, 0 where nothing was predicted yet. Of affinities it is
        :math:`255 \, (1 - \min(a_y, a_x))`.
    affinities
        The affinities (3, z, y, x) to the nearest neighbours; None if boundaries are predicted.
    n_blocks, n_left
        Blocks in all, and those not predicted yet; 0 before the first is asked for.
    """

    def __init__(self, volume: Volume, wanted: Prediction) -> None:
        self.volume, self.wanted = volume, wanted
        self._models = Models(volume, wanted)
        self.task, self.models = self._models.task, self._models.names
        start, stop, _ = wanted.slices.indices(len(volume))
        shape = (max(1, stop - start), *volume.shape[1:])
        is_affinity = self.task == "affinity"
        _check_memory((4 if is_affinity else 1) * int(np.prod(shape)) * np.dtype(wanted.dtype).itemsize)
        self.boundary: NDArray[Any] = np.zeros(shape, wanted.dtype)
        self.affinities: NDArray[Any] | None = np.zeros((3, *shape), wanted.dtype) if is_affinity else None
        self._run: TileRun | None = None
        self._left: list[Tile] = []
        self._cancelled: Callable[[], bool] | None = None
        self.n_blocks = 0

    @property
    def n_left(self) -> int:
        """Blocks that are not predicted yet."""
        return len(self._left)

    @property
    def is_complete(self) -> bool:
        """Whether all is predicted."""
        return self._run is not None and not self._left

    def blocks(
        self,
        looking_at: Callable[[], Box],
        *,
        progress: Progress = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Box]:
        """Predict what is missing, and yield the place of each block once it is in the result.

        Parameters
        ----------
        looking_at
            Asked anew before each block for the box that somebody looks at; the block fewest blocks away
            from it is the next.
        progress
            Called with blocks done now and blocks that were missing.
        cancelled
            Asked before each layer; once it says true, `Cancelled` is raised. All blocks that were yielded
            stay, and calling this again goes on with the others.
        """
        self._cancelled = cancelled
        run = self._ready()
        missing = len(self._left)
        while self._left:
            box = looking_at()
            tile = min(self._left, key=lambda tile: _distance(tile, box))
            self._write(tile.keep, run.tile(tile))
            self._left.remove(tile)
            if progress is not None:
                progress(missing - len(self._left), missing)
            yield tile.keep

    def _ready(self) -> "TileRun":
        """Return the nets over tiles, made ready at the first time."""
        if self._run is None:
            from napari_em_seg.predict.run import TileRun

            options = self._models.options(self.volume, self.wanted)
            has_blocks = any(net.n_slices is None for net in self._models.nets)
            self._run = TileRun(
                self.volume,
                **options,
                most=_BLOCK_SIDE if has_blocks else None,
                budget=0,  # slices that are held for the tiles behind are of no use where any may be next
                cancelled=lambda: self._cancelled is not None and self._cancelled(),
            )
            self._left = list(self._run.tiler)
            self.n_blocks = len(self._left)
        return self._run

    def _write(self, place: Box, values: NDArray[np.float32]) -> None:
        from napari_em_seg.predict.run import as_type

        found = as_type(values, self.wanted.dtype)
        if self.affinities is not None:
            self.affinities[:, *place] = found[:3]
        self.boundary[place] = _shown(found)


def preview(
    volume: Volume,
    wanted: Prediction,
    around: Box,
    *,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Box, NDArray[Any]]:
    """Predict the middle of what somebody looks at, with a single view, in one or two seconds.

    That are 1024×1024 pixels of the first slice of the box ``around``, or 256×256 where a net takes blocks
    of slices. Local models join in where the slice is among ``wanted.misaligned``; it is not looked for.

    Returns
    -------
    Its place (one slice, rows, columns), and the boundary map there (1, y, x).
    """
    from napari_em_seg.predict.run import TileRun, as_type

    alone = replace(wanted, views=1, slices=slice(None))
    if wanted.misaligned == "auto":
        alone = replace(alone, local_models=(), misaligned=())
    options = Models(volume, alone).options(volume, alone)
    has_blocks = any(net.n_slices is None for net in options["models"])
    side = _PREVIEW_SIDE_OF_BLOCKS if has_blocks else _PREVIEW_SIDE
    run = TileRun(volume, **options, batch=1, budget=0, cancelled=cancelled)
    y, x = (_middle(part, n, side) for part, n in zip(around[1:], volume.shape[1:], strict=True))
    tile = run.tiler.around((slice(around[0].start, around[0].start + 1), y, x))
    found = as_type(run.tile(tile), wanted.dtype)
    if progress is not None:
        progress(1, 1)
    return tile.keep, _shown(found)


def boundary_by_slice(volume: Volume, wanted: Prediction) -> Callable[[int], NDArray[Any]]:
    """Return what predicts the boundary map (y, x) of a slice when it is asked for it.

    Nets and grey levels are made ready once, at the first slice.
    """
    models = Models(volume, wanted, task="boundary")
    run: TileRun | None = None

    def plane(z: int) -> NDArray[Any]:
        nonlocal run
        from napari_em_seg.predict.run import TileRun, as_type

        run = run or TileRun(volume, **models.options(volume, wanted), batch=1, budget=0)
        found = np.empty(volume.shape[1:], wanted.dtype)
        for tile in run.tiler:
            if tile.keep[0].start == z:
                found[tile.keep[1:]] = _shown(as_type(run.tile(tile), wanted.dtype))[0]
        return found

    return plane


def load_models(volume: Volume, wanted: Prediction) -> None:
    """Load networks before they are needed, and find out how far they see; they stay loaded."""
    for net in Models(volume, wanted).nets:
        net.halo  # noqa: B018 - measured once, at the first time
    import napari_em_seg.predict.run  # noqa: F401 - the rest of what a prediction loads


def _shown(found: NDArray[Any]) -> NDArray[Any]:
    """Return the boundary map (z, y, x) of predicted channels."""
    top = found.dtype.type(255 if found.dtype == np.uint8 else 1)
    shown: NDArray[Any] = found[0] if len(found) == 1 else top - found[1:3].min(0)
    return shown


def _distance(tile: Tile, box: Box) -> tuple[int, float]:
    """Return how many blocks a tile is away from a box along all axes, and how far its middle is."""
    blocks, apart = 0, 0.0
    for place, part, size in zip(tile.keep, box, tile.sizes, strict=True):
        voxels = max(0, place.start - part.stop + 1, part.start - place.stop + 1)
        blocks += -(-voxels // size)
        apart += ((place.start + place.stop - part.start - part.stop) / (2 * size)) ** 2
    return blocks, apart


def _middle(part: slice, n: int, side: int) -> slice:
    """Return what of a range lies within 0 … n, or all if nothing does; at most ``side`` in its middle."""
    start, stop = max(0, part.start), min(n, part.stop)
    if stop <= start:
        start, stop = 0, n
    cut = max(0, stop - start - side) // 2
    return slice(start + cut, min(stop, start + cut + side))


def _check_memory(n_bytes: int) -> None:
    free = psutil.virtual_memory().available
    if n_bytes > free:
        raise DataError(
            f"The result takes {n_bytes / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} GiB are free",
            "a result that fits",
            "Crop the image, or predict into a file: napari-em-seg predict IN --out OUT",
        )
