"""Predicting a volume: nets over tiles, averaged over views, the maximum over models, written as it is done."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_em_seg.errors import Cancelled, DataError, EmSegError
from napari_em_seg.predict.device import (
    Net,
    Runtime,
    SliceNet,
    as_net,
    choose_device,
    is_out_of_memory,
)
from napari_em_seg.predict.misaligned import measure_alignment
from napari_em_seg.predict.plan import plan_tiles
from napari_em_seg.predict.tiling import Canvas, Levels, Normalise, Reader, Sizes, Tile
from napari_em_seg.predict.views import choose_views
from napari_em_seg.volume import ArrayLike, Progress, Volume

__all__ = ["OutOfMemoryError", "ResultType", "TileRun", "as_type", "predict"]

ResultType = Literal["uint8", "float32"]

BORDER = 64  # pixels that are mirrored beyond the volume
SLAB_BYTES = 64 * 2**20  # of whole slices that are held


class OutOfMemoryError(EmSegError, MemoryError):
    """Not even the smallest tile fits the memory."""


def predict(
    volume: Volume | ArrayLike,
    models: Sequence[nn.Module],
    *,
    local_models: Sequence[nn.Module] = (),
    misaligned: Literal["auto"] | Sequence[int] | None = None,
    views: int = 16,
    device: str = "auto",
    tile: int | Sizes | None = None,
    halo: int | Sizes | None = None,
    batch: int | None = None,
    normalise: Normalise = "volume",
    half: bool | None = None,
    compiled: bool = False,
    dtype: ResultType = "uint8",
    out: Any = None,
    slices: slice | None = None,
    progress: Progress = None,
    cancelled: Callable[[], bool] | None = None,
) -> Any:
    """Predict probabilities: mean over views of each model, then the voxel-wise maximum over models.

    The volume is read, and the result written, a row of tiles at a time. The same input on the same device
    with the same tile gives the same bytes. Memory that runs out halves the tile, also midway.

    Parameters
    ----------
    volume
        Gray levels, read as needed.
    models
        Nets that give logits; see `device.as_net` for what they may say of themselves. Copies of them run.
    local_models
        Nets that are used as well on misaligned slices, and only there.
    misaligned
        Those slices, as numbers within the volume; "auto" finds them (see `misaligned.Alignment.flagged`).
    views
        1, 4, 8 or 16; see `choose_views`.
    device
        "auto", "cuda", "mps" or "cpu".
    tile
        Output voxels per tile, a number for y and x or three (z, y, x); by default what fits the memory.
    halo
        What is seen around a tile, likewise; beyond the volume at most 64 mirrored pixels. By default the
        largest that a model names, with which tiles leave no trace; where a model names none, 64, and there
        and where a smaller one is given, neighbouring tiles fade into each other over half of it.
    batch
        Slices that go through a slice net at once: the depth of a tile. Default 1 on a CPU, 4 on a GPU.
    normalise
        "volume", "slice" or "none"; see `Levels`.
    half
        Half precision; None: on GPUs.
    compiled
        Whether through ``torch.compile``.
    dtype
        "uint8" (probability × 255, rounded) or "float32".
    out
        Target that takes slices, of the result's shape; by default a new numpy array.
    slices
        Only these slices are predicted, seeing the ones around.
    progress
        Called with tiles done and tiles in all.
    cancelled
        Asked before each layer; once it says true, `Cancelled` is raised.

    Returns
    -------
    Probabilities (z, y, x) of the chosen slices, with an axis (c, z, y, x) where nets have several channels.

    Raises
    ------
    DataError
        The arguments do not fit each other, or a net gives something else than probabilities.
    Cancelled
        ``cancelled`` said so; ``out`` keeps what was finished.
    OutOfMemoryError
        The smallest tile does not fit.
    """
    if dtype not in get_args(ResultType):
        raise DataError(f"The result is to be {dtype!r}", "uint8 or float32", "Choose one of these")
    run = TileRun(
        volume, models, local_models=local_models, misaligned=misaligned, views=views, device=device, tile=tile,
        halo=halo, batch=batch, normalise=normalise, half=half, compiled=compiled, slices=slices,
        cancelled=cancelled,
    )  # fmt: skip
    target = _target(out, (run.channels, *run.tiler.shape), dtype)
    run.fill(target, dtype, progress)
    return target


class _Stop:
    """Asks the caller whether to stop, between tiles and views and before each layer of a net."""

    def __init__(self, cancelled: Callable[[], bool] | None) -> None:
        self._cancelled = cancelled

    def check(self, *_: object) -> None:
        """Raise Cancelled if the caller says so."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled("The prediction was cancelled")

    @contextmanager
    def asked_by(self, models: list[nn.Module]) -> Iterator[None]:
        """Ask before each layer, since a whole net can take longer than anybody wants to wait."""
        leaves = [layer for model in models for layer in model.modules() if not list(layer.children())]
        hooks = [layer.register_forward_pre_hook(self.check) for layer in leaves]
        try:
            self.check()
            yield
        finally:
            for hook in hooks:
                hook.remove()


class TileRun:
    """Nets made ready for a volume: they predict all of its tiles in a row, or any tile that is asked for.

    It remembers how far tiles had to be halved. The parameters are those of `predict`, and these.

    Parameters
    ----------
    most
        The largest side of a tile whose size is not given.
    budget
        Bytes of whole slices that may be held, for tiles that are asked for one after the other.

    Attributes
    ----------
    tiler
        Cuts the chosen slices into tiles.
    channels
        Values for each voxel.
    """

    def __init__(
        self,
        volume: Volume | ArrayLike,
        models: Sequence[nn.Module],
        *,
        local_models: Sequence[nn.Module] = (),
        misaligned: Literal["auto"] | Sequence[int] | None = None,
        views: int = 16,
        device: str = "auto",
        tile: int | Sizes | None = None,
        halo: int | Sizes | None = None,
        batch: int | None = None,
        normalise: Normalise = "volume",
        half: bool | None = None,
        compiled: bool = False,
        slices: slice | None = None,
        cancelled: Callable[[], bool] | None = None,
        most: int | None = None,
        budget: int | None = None,
    ) -> None:
        volume = volume if isinstance(volume, Volume) else Volume(volume)
        if not models:
            raise DataError("No model is given", "at least one", "Choose a model")
        choose_views(views)
        self._n_views, self._n_global = views, len(models)
        part = _checked_slices(slices, volume.shape[0])
        self._first = part.start
        self._runtime, self._stop = Runtime(choose_device(device), half, compiled), _Stop(cancelled)
        self._flagged = _flagged(volume, misaligned, self._stop) if local_models else frozenset()
        nets = [as_net(model) for model in (*models, *local_models)]
        self._nets = [replace(net, model=self._runtime.prepare(net.model)) for net in nets]
        shape = (part.stop - part.start, *volume.shape[1:])
        with self._at_work():
            self.tiler, self.channels = plan_tiles(
                self._nets, shape, self._runtime, tile, halo, batch, BORDER, most
            )
            self._nets = [replace(net, model=self._runtime.compiled(net.model)) for net in self._nets]
        self._most = list(self.tiler.sizes)
        budget = SLAB_BYTES if budget is None else budget
        self._reader = Reader(volume, Levels(volume, normalise), budget, part.stop + self.tiler.halo[0])

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Ask whether to stop, and run nets as the runtime says."""
        models = [] if self._runtime.is_compiled else [net.model for net in self._nets]
        with self._stop.asked_by(models), self._runtime.running():
            yield

    def tile(self, tile: Tile) -> NDArray[np.float32]:
        """Return the probabilities (c, z, y, x) of what a tile keeps, whatever was predicted before."""
        if self.tiler.blend:
            raise DataError("A net does not say how far it looks, so its tiles fade into each other",
                            "a model whose tiles stand alone", "Predict the whole at once")  # fmt: skip
        z, y, x = tile.keep
        canvas = Canvas(self.channels, z, y.stop, x.stop, (y.start, x.start))
        with self._at_work():
            self._add(tile, canvas)
        return canvas.take(y.stop)[1]

    def fill(self, target: Any, dtype: ResultType, progress: Progress) -> None:
        """Predict all tiles, and write each row of them as soon as nothing more is added to it."""
        tiler = self.tiler
        n_done = 0
        for row in tiler.rows():
            z, y, _ = row[0].keep
            if y.start == 0:
                canvas = Canvas(self.channels, z, *tiler.shape[1:])
            for tile in row:
                with self._at_work():
                    self._add(tile, canvas)
                n_done += 1
                if progress is not None:
                    progress(n_done, len(tiler))
            is_last = y.stop == tiler.shape[1]
            rows, values = canvas.take(y.stop if is_last else y.stop - tiler.blend)
            channel = (slice(None),) if self.channels > 1 else ()
            target[(*channel, z, rows, slice(None))] = as_type(values if channel else values[0], dtype)

    def _add(self, tile: Tile, canvas: Canvas) -> None:
        """Predict a tile, or its halves where it is larger than what fits."""
        tiler = self.tiler
        axis = next((a for a in range(3) if tile.sizes[a] > self._most[a]), None)
        if axis is None:
            values, message = self._attempt(tile)
            if values is not None:
                canvas.add(tiler.cover(tile), values, tiler.weight(tile))
                return
            self._runtime.release()
            axis = self._halve(tile, message)
        for part in tiler.split(tile, axis):
            self._add(part, canvas)

    def _attempt(self, tile: Tile) -> tuple[NDArray[np.float32] | None, str]:
        """Return a tile's probabilities, or nothing and why if memory ran out.

        No exception leaves with that, since its traceback would hold the tensors that filled the memory.
        """
        try:
            return self._predicted(tile), ""
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None, str(error)

    def _halve(self, tile: Tile, message: str) -> int:
        """Lower the limit and return the axis: slices that only share a batch, then the longer of y and x."""
        in_plane = (1, 2) if tile.sizes[1] >= tile.sizes[2] else (2, 1)
        is_batch = all(isinstance(net, SliceNet) for net in self._nets)
        for axis in (0, *in_plane) if is_batch else (*in_plane, 0):
            longest = max(part.sizes[axis] for part in self.tiler.split(tile, axis))
            if longest < tile.sizes[axis]:
                self._most[axis] = longest
                return axis
        raise OutOfMemoryError(
            f"Memory ran out ({self._runtime.device}) at a tile of {'×'.join(map(str, tile.sizes))}: {message}",
            "enough for the smallest tile",
            "Close other programs, or choose a smaller model or halo, or another device",
        )

    def _predicted(self, tile: Tile) -> NDArray[np.float32]:
        """Return the probabilities of a tile's cover (c, z, y, x)."""
        keep = tile.keep[0]
        z, y, x = self.tiler.outer(tile)
        self._stop.check()
        block = torch.from_numpy(self._reader.block((slice(z.start + self._first, z.stop + self._first), y, x)))
        block = block.to(self._runtime.device)
        everywhere = list(range(keep.stop - keep.start))
        flagged = [n for n in everywhere if n + keep.start + self._first in self._flagged]
        inner = self.tiler.inner(tile)[1:]
        best = self._mean(self._nets[0], block, everywhere, inner)
        for n, net in enumerate(self._nets[1:], 1):
            chosen = everywhere if n < self._n_global else flagged
            if chosen:
                best[:, chosen] = torch.maximum(best[:, chosen], self._mean(net, block, chosen, inner))
        if not bool(torch.isfinite(best).all()):
            raise DataError("A net gives values that are no numbers", "finite logits",
                            "Predict in full precision, or check the weights of the model")  # fmt: skip
        return best.cpu().numpy()

    def _mean(
        self, net: Net, block: torch.Tensor, chosen: list[int], inner: tuple[slice, slice]
    ) -> torch.Tensor:
        """Average probabilities over views; not logits, or one view that is very sure would decide alone."""
        views = choose_views(self._n_views, net.n_slices)
        size = [part.stop - part.start for part in inner]
        total = block.new_zeros((self.channels, len(chosen), *size))
        for view in views:
            self._stop.check()
            total += torch.sigmoid(net(block, self.tiler.halo[0], view, chosen)[..., *inner].float())
        return total / len(views)


def _checked_slices(slices: slice | None, depth: int) -> slice:
    """Return the slices as a range of at least one, without step."""
    start, stop, step = (slices or slice(None)).indices(depth)
    if step != 1 or stop <= start:
        given = (slices.start, slices.stop, slices.step) if slices else ()
        text = ":".join("" if end is None else str(end) for end in given[: 2 if step == 1 else 3])
        raise DataError(
            f"The slices are {text} of {depth}",
            "a range of at least one, without step",
            f"Give a range within 0:{depth}",
        )
    return slice(start, stop)


def _flagged(volume: Volume, misaligned: Literal["auto"] | Sequence[int] | None, stop: _Stop) -> frozenset[int]:
    """Return the misaligned slices: found, or as given."""
    if misaligned is None:
        return frozenset()
    if isinstance(misaligned, str):
        if misaligned != "auto":
            raise DataError(f"Misaligned is {misaligned!r}", "auto or slice numbers", "Give one of these")
        return frozenset(measure_alignment(volume, lambda *_: stop.check()).flagged())
    wrong = [z for z in misaligned if not 0 <= z < volume.shape[0]]
    if wrong:
        raise DataError(
            f"The misaligned slices include {wrong}", f"0 to {volume.shape[0] - 1}", "Leave those out"
        )
    return frozenset(misaligned)


def _target(out: Any, shape: tuple[int, ...], dtype: ResultType) -> Any:
    """Return the target, or a new array; one channel has no axis."""
    shape = shape[1:] if shape[0] == 1 else shape
    if out is None:
        return np.zeros(shape, dtype)
    its_dtype = getattr(out, "dtype", dtype)
    its_dtype = getattr(its_dtype, "numpy_dtype", its_dtype)  # tensorstore has dtypes of its own
    came = tuple(getattr(out, "shape", shape)), np.dtype(its_dtype).name
    if came != (shape, dtype):
        raise DataError(
            f"The target is {came[1]} of the shape {came[0]}", f"{dtype} of {shape}", "Make one like that"
        )
    return out


def as_type(values: NDArray[np.float32], dtype: ResultType) -> NDArray[Any]:
    """Return probabilities as they are stored."""
    return np.rint(values * 255).astype(np.uint8) if dtype == "uint8" else values
