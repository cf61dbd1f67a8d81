"""The networks: shapes, what they see, and that a pixel stays where it is."""

import pytest
import torch
from torch import nn

from napari_em_seg.errors import DataError
from napari_em_seg.predict.losses import LOSSES
from napari_em_seg.predict.nets import M2FCN, DeepEM3D, UNet
from napari_em_seg.predict.nets._net import _make_transparent
from napari_em_seg.predict.nets.m2fcn import Stage
from napari_em_seg.predict.registry import ARCHITECTURES, build

BOUNDARY = [name for name, entry in ARCHITECTURES.items() if entry.task == "boundary"]
SMALL = [name for name in BOUNDARY if ARCHITECTURES[name].is_small]
ONE_OF_EACH = ["deepem3d-small-s3", "m2fcn-small-2", "unet-small-s5"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def with_statistics(net):
    """Give all batch norms something else than mean 0 and variance 1 to normalise by."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("name", BOUNDARY)
@torch.inference_mode()
def test_every_variant_gives_logits_of_the_centre_slice(name):
    net = build(name).eval()
    assert net.n_slices == ARCHITECTURES[name].n_slices
    for shape in [(33, 47)] if not ARCHITECTURES[name].is_small else [(33, 47), (1, 1), (16, 32), (2, 61)]:
        logits = net(torch.randn(2, net.n_slices, *shape))
        assert logits.shape == (2, 1, *shape)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_depends_on_every_slice(name):
    net = with_statistics(build(name))
    images = torch.randn(1, net.n_slices, 32, 32, requires_grad=True)
    net(images).abs().sum().backward()
    assert (images.grad.abs().amax((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_images_of_a_batch_know_nothing_of_each_other(name):
    net = with_statistics(build(name))
    images = torch.randn(3, net.n_slices, 24, 40)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_all_weights(name):
    net = build(name)
    images, labels = torch.randn(2, net.n_slices, 64, 64), torch.rand(2, 1, 64, 64) > 0.8
    outputs = net.forward_all(images) if hasattr(net, "forward_all") else net(images)
    LOSSES[ARCHITECTURES[name].loss](outputs, labels, None).backward()
    without = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_tiles_with_halo_equal_the_whole(name):
    """And so the output moves with the input, by whole strides."""
    net = with_statistics(build(name))
    halo, stride = net.halo, net.stride
    size = 2 * -(-halo // stride) * stride + 5 * stride
    whole = torch.randn(1, net.n_slices, 17, size + stride)
    inner = slice(halo, size - halo)

    tile, shifted = net(whole[..., :size]), net(whole[..., stride:])

    torch.testing.assert_close(tile[..., inner], net(whole)[..., inner], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        tile[..., halo + stride : size - halo], shifted[..., halo : size - halo - stride], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "deepem3d-small-s1", "m2fcn-small-1"])
@torch.inference_mode()
def test_the_halo_is_all_that_is_seen_and_no_more(name):
    """Measured on the network itself instead of its thin copy, along y instead of x."""
    net = build(name).eval().double()
    _make_transparent(net)
    stride = net.stride
    length = 4 * net.halo + 4 * stride
    middle = length // 2 // stride * stride
    furthest = []
    for place in range(middle, middle + stride):
        images = torch.zeros(1, net.n_slices, length, 1, dtype=torch.float64)
        images[:, :, place] = 1
        reached = net(images)[0, 0, :, 0].nonzero()
        furthest += [place - int(reached.min()), int(reached.max()) - place]
    assert max(furthest) == net.halo


def test_measuring_the_halo_leaves_weights_and_random_numbers_alone():
    net = build("unet-small-s1")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert net.halo == 51
    assert torch.rand(1) == expected
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_the_levels_of_m2fcn_see_what_the_paper_says():
    stage = Stage(1, (1, 1, 1, 1, 1), norm=False).double()
    _make_transparent(stage)
    stage.pool = nn.AvgPool2d(2)  # the gradient of a maximum shows one voxel only
    images = torch.ones(1, 1, 16, 512, dtype=torch.float64, requires_grad=True)
    fields, strides = [], []
    for score in stage.scores(images):
        (gradient,) = torch.autograd.grad(score[0, 0, 0, score.shape[-1] // 2], images, retain_graph=True)
        seen = gradient[0, 0].any(0).nonzero()
        fields.append(int(seen.max() - seen.min()) + 1)
        strides.append(512 // score.shape[-1])
    assert fields == [5, 14, 40, 92, 196]
    assert strides == [1, 2, 4, 8, 16]


def centres_of_lines(net, outputs_of, height, width):
    """Return for each output how far the centre of mass of a line's image is from the line, on average.

    At stride 16 a map cannot show where between 16 voxels the line was, so the average is over all of them.
    """
    _make_transparent(net.eval())
    begin = width // 2 // net.stride * net.stride
    lines = torch.arange(begin, begin + net.stride)
    images = torch.zeros(net.stride, net.n_slices, height, width)
    images[torch.arange(net.stride), :, :, lines] = 1
    columns = torch.arange(width, dtype=torch.float64)
    offsets = []
    with torch.inference_mode():
        for output in outputs_of(net, images):
            profile = output[:, 0].double().mean(1)
            centre = (profile * columns).sum(1) / profile.sum(1)
            assert (centre - lines).abs().max() <= net.stride / 2
            offsets.append((centre - lines).mean().item())
    return offsets


@pytest.mark.parametrize("stages", [1, 2])
def test_a_line_stays_put_in_every_side_output(stages):
    net = M2FCN(1, stages=stages, widths=(2, 2, 2, 2, 2))
    offsets = centres_of_lines(net, M2FCN.forward_all, 19, 501 if stages == 1 else 901)
    assert len(offsets) == 6 * stages
    assert offsets == pytest.approx([0] * len(offsets), abs=1e-3)


@pytest.mark.parametrize("name", ["deepem3d-small-s5", "deepem3d-small-s1", "unet-small-s3"])
def test_a_line_stays_put(name):
    offsets = centres_of_lines(build(name), lambda net, images: [net(images)], 19, 601)
    assert offsets == pytest.approx([0], abs=1e-3)


@pytest.mark.parametrize("name", ["deepem3d-s3", "deepem3d-small-s3"])
def test_only_the_first_two_layers_of_deepem3d_are_3d(name):
    with torch.device("meta"):
        nets = [build(name, n_slices=n) for n in (1, 3, 5)]
    depths = [[layer.kernel_size[0] for layer in net.modules() if isinstance(layer, nn.Conv3d)] for net in nets]
    assert depths == [[1, 1], [2, 2], [3, 3]]  # each takes depth − 1 slices: 1, 3 and 5 become 1
    layers = [layer for layer in nets[1].modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    assert [isinstance(layer, nn.Conv3d) for layer in layers] == [True, True] + [False] * (len(layers) - 2)


def test_every_upsampling_of_deepem3d_is_a_pyramid():
    with torch.device("meta"):
        net = build("deepem3d-s5")
    rates = [[branch.dilation[0] for branch in pyramid.branches] for pyramid in net.pyramids]
    assert rates == [[1, 5, 11, 17, 23]] * 3 + [[1, 3, 5]]


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_outputs_of_m2fcn(stages):
    net = with_statistics(M2FCN(1, stages=stages, widths=(4, 4, 4, 4, 4)))
    images = torch.randn(1, 1, 21, 35)
    with torch.inference_mode():
        outputs = net.forward_all(images)
        final = net(images)
    assert [output.shape for output in outputs] == [(1, 1, 21, 35)] * 6 * stages
    assert torch.equal(outputs[-1], final)
    assert [stage.levels[0][0][0].in_channels for stage in net.stages] == [1, 6, 6][:stages]


@torch.inference_mode()
def test_later_stages_see_image_and_all_side_outputs():
    net = with_statistics(M2FCN(1, stages=2, widths=(4, 4, 4, 4, 4)))
    images = torch.randn(1, 1, 32, 32)
    outputs = net.forward_all(images)
    again = net.stages[1](torch.cat([images, *outputs[:5]], 1))
    torch.testing.assert_close(again[-1], outputs[-1])


@torch.inference_mode()
def test_stage_1_begins_from_a_trained_net():
    single = with_statistics(M2FCN(1, stages=1, widths=(4, 4, 4, 4, 4)))
    net = M2FCN(1, stages=3, widths=(4, 4, 4, 4, 4)).eval()
    later = {key: value.clone() for key, value in net.stages[1].state_dict().items()}
    net.init_from_single_stage(single)

    images = torch.randn(1, 1, 30, 30)
    assert torch.equal(net.forward_all(images)[5], single(images))
    assert all(torch.equal(later[key], value) for key, value in net.stages[1].state_dict().items())


@pytest.mark.parametrize(
    "single", [{"stages": 2}, {"stages": 1, "widths": (8, 4, 4, 4, 4)}, {"stages": 1, "n_slices": 3}]
)
def test_stage_1_refuses_other_nets(single):
    net = M2FCN(1, stages=2, widths=(4, 4, 4, 4, 4))
    with pytest.raises(DataError, match="an M2FCN of one stage that takes 1 slices"):
        net.init_from_single_stage(M2FCN(**{"widths": (4, 4, 4, 4, 4), **single}))


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (8, 8), (1, 1, 0, 8), (0, 1, 8, 8)])
def test_refuses_other_images(name, shape):
    with pytest.raises(DataError, match="The images have the shape"):
        build(name)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("net", "arguments"),
    [
        (DeepEM3D, {"n_slices": 2}),
        (DeepEM3D, {"width": 0}),
        (DeepEM3D, {"rates": ((1, 2),) * 4}),
        (DeepEM3D, {"rates": ((1,),) * 3}),
        (DeepEM3D, {"rates": ((1,), (), (1,), (1,))}),
        (M2FCN, {"n_slices": 7}),
        (M2FCN, {"stages": 4}),
        (M2FCN, {"widths": (4, 4)}),
        (UNet, {"n_slices": 0}),
        (UNet, {"levels": 0}),
        (UNet, {"base_channels": 0}),
    ],
)
def test_refuses_impossible_arguments(net, arguments):
    with pytest.raises(DataError):
        net(**arguments)
