"""The affinity U-Net: sizes, how far it sees, and channels that mean the same from every side."""

import numpy as np
import pytest
import torch

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinities import NEAREST
from napari_em_seg.predict.nets.affinity_unet import AffinityUNet
from napari_em_seg.predict.run import predict
from napari_em_seg.predict.views import VIEWS, View, apply
from napari_em_seg.volume import Volume

TINY = {"channels": (4, 4, 4), "depths": ((1, 1), (3, 1), (3, 3))}
LONG = (*NEAREST, (-2, 0, 0), (0, -5, 0), (0, 0, -5))


def tiny(**options: object) -> AffinityUNet:
    torch.manual_seed(0)
    return AffinityUNet(**{**TINY, **options}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 40), (5, 64, 33)])
def test_the_result_is_as_large_as_the_block(shape: tuple[int, int, int]) -> None:
    assert tiny()(torch.randn(2, 1, *shape)).shape == (2, 3, *shape)
    logits, described = tiny(descriptors=True, offsets=LONG).forward_all(torch.randn(2, 1, *shape))
    assert logits.shape == (2, 6, *shape)
    assert described is not None
    assert described.shape == (2, 10, *shape)


def test_it_sees_as_far_as_it_says_and_no_farther() -> None:
    """Where a voxel changes, nothing changes farther away than the halo, and something does at its ends."""
    net = tiny()
    with torch.no_grad():
        for parameter in net.parameters():  # nothing is cut off below 0
            parameter.copy_(parameter.abs())
    halo = net.halo
    sizes = [2 * reach + 9 for reach in halo]
    reached = torch.zeros(sizes, dtype=torch.bool)
    block = torch.zeros(1, 1, *sizes)
    centre = [size // 2 for size in sizes]
    before = net(block)
    for dy in range(net.stride[1]):  # anywhere on the grid of the poolings
        block = torch.zeros(1, 1, *sizes)
        block[0, 0, centre[0], centre[1] + dy, centre[2] + dy] = 1e6
        moved = (net(block) != before)[0].any(0)
        reached |= torch.roll(moved, (-dy, -dy), (1, 2))
    for axis, reach in enumerate(halo):
        others = tuple(a for a in range(3) if a != axis)
        places = reached.any(dim=others[1]).any(dim=others[0]).nonzero().ravel() - centre[axis]
        assert -reach <= places.min()
        assert places.max() <= reach
        assert max(-places.min(), places.max()) == reach


def test_valid_is_the_middle_of_same() -> None:
    block = torch.randn(1, 1, 20, 80, 72)
    same, valid = tiny(), tiny(padding="valid")
    z, y, x = same.halo
    torch.testing.assert_close(valid(block), same(block)[..., z : 20 - z, y : 80 - y, x : 72 - x])
    with pytest.raises(DataError, match="padding='valid'"):
        valid(torch.randn(1, 1, 20, 30, 72))


class Pairs(AffinityUNet):
    """A toy that turns with its input: an affinity is the negative squared difference of two voxels."""

    def forward(self, block: torch.Tensor) -> torch.Tensor:
        found = []
        for offset in self.offsets:
            there = torch.roll(block[:, 0], [-step for step in offset], (-3, -2, -1))
            found.append(-((block[:, 0] - there) ** 2))
        return torch.stack(found, 1)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("offsets", [NEAREST, LONG], ids=["nearest", "long"])
def test_each_channel_means_its_offset_from_every_side(
    view: View, offsets: tuple[tuple[int, int, int], ...]
) -> None:
    net = Pairs(**TINY, offsets=offsets)  # type: ignore[arg-type]
    block = torch.randn(1, 1, 9, 16, 14)
    back = net.undo(view, net(apply(view, block)))
    inner = (..., slice(2, -2), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(back[inner], net(block)[inner])


def test_prediction_in_tiles_is_that_of_the_whole() -> None:
    image = Volume(np.random.default_rng(0).integers(0, 255, (9, 70, 90), dtype=np.uint8))
    net = tiny(offsets=LONG)
    options = {"views": 16, "dtype": "float32", "device": "cpu", "half": False}
    whole = predict(image, [net], tile=(9, 128, 128), **options)
    tiled = predict(image, [net], tile=(4, 32, 32), **options)
    assert whole.shape == (6, 9, 70, 90)
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": (4, 4)}, "as many of both"),
        ({"depths": ((1, 1), (2, 1), (3, 3))}, "odd numbers"),
        ({"padding": "reflect"}, "same or valid"),
        ({"offsets": NEAREST[::-1]}, "nearest neighbours first"),
        ({"offsets": (*NEAREST, (0, -9, 0))}, "no counterpart"),
        ({"offsets": (*NEAREST, (0, 0, -1))}, "no counterpart"),
    ],
)
def test_arguments_that_make_no_net_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        tiny(**options)


def test_a_block_without_its_axes_is_refused() -> None:
    with pytest.raises(DataError, match="blocks, 1, z, y, x"):
        tiny()(torch.randn(3, 16, 16))
