"""What the networks share: one convolution with its normalisation, and padding to whole strides."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.functional import pad

from napari_em_seg.errors import DataError

__all__ = ["check_input", "check_n_slices", "clear_arguments", "conv", "down", "pad_to_multiple"]


def conv(n_in: int, n_out: int, size: int | tuple[int, int] = 3, *, norm: bool = True) -> nn.Sequential:
    """Convolve at the same size, normalise by batch, cut off below 0.

    Batch norm uses fixed statistics once trained, so a tile is predicted as the whole slice is; instance or
    group norm would look at the rest of the tile.
    """
    size = (size, size) if isinstance(size, int) else size
    same = (size[0] // 2, size[1] // 2)
    layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, size, padding=same, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(n_out))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def down(n_in: int, n_out: int) -> nn.Sequential:
    """Halve the size by a 4×4 kernel.

    The usual 3×3 kernel of stride 2 is centred on the first of two voxels, so that each one moves the map by
    half a voxel; the 4×4 kernel is centred between both, where upsampling expects it.
    """
    layer = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad below and to the right up to whole strides: mirrored, or repeating the edge where too small."""
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return images
    can_mirror = below < height and right < width
    return pad(images, (0, right, 0, below), mode="reflect" if can_mirror else "replicate")


def check_input(images: Tensor, n_slices: int) -> None:
    """Raise a DataError unless the images are (n, slices, y, x) and not empty."""
    if images.ndim != 4 or images.shape[1] != n_slices or 0 in images.shape:
        raise DataError(
            f"The images have the shape {tuple(images.shape)}",
            f"(images, {n_slices} slices, y, x), none of them 0",
            f"Give {n_slices} slices around each one that is to be predicted, or choose another network",
        )


def check_n_slices(n_slices: int) -> None:
    """Raise a DataError unless there is a centre slice and at most two more on each side."""
    if n_slices not in (1, 3, 5):
        raise DataError(f"The network is to take {n_slices} slices", "1, 3 or 5", "Choose one of these")


@contextmanager
def clear_arguments(name: str) -> Iterator[None]:
    """Turn what Python or torch says of impossible sizes into a DataError that names the network."""
    try:
        yield
    except DataError:
        raise
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"{name} cannot be built from these arguments ({error})",
            "the arguments of its class",
            "Leave them out for the usual sizes",
        ) from error
