"""The fast sum of transposed convolutions is torch's own."""

import pytest
import torch
from torch import nn

from napari_em_seg.predict.nets._deconvolution import Deconvolution, joined
from napari_em_seg.predict.nets.deepem3d import DeepEM3D


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("rates", [(1,), (3,), (1, 3, 5), (1, 5, 11, 17, 23)])
def test_it_equals_the_transposed_convolutions(stride: int, rates: tuple[int, ...]) -> None:
    torch.manual_seed(stride)
    layers = [
        Deconvolution(
            3, 2, 2 * stride, stride=stride, dilation=rate, bias=False,
            padding=((2 * stride - 1) * rate - (stride - 1)) // 2,
        )
        for rate in rates
    ]  # fmt: skip
    x = torch.randn(2, 3, 9, 14)
    with torch.inference_mode():
        expected = sum(nn.ConvTranspose2d.forward(layer, x) for layer in layers)
        places = layers[0].empty_places(x)
        for layer in layers:
            layer(x, places)
        torch.testing.assert_close(joined(places), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_slices", [1, 3, 5])
def test_a_network_gives_the_same_with_and_without_gradients(n_slices: int) -> None:
    torch.manual_seed(0)
    net = DeepEM3D(n_slices, width=0.1, rates=((1, 3, 5),) * 4, squeeze=8).eval()
    images = torch.randn(2, n_slices, 90, 70)
    with torch.inference_mode():
        fast = net(images)
    torch.testing.assert_close(fast, net(images).detach(), atol=1e-4, rtol=1e-4)
