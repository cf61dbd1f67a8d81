"""The recurrent network: shapes, what it remembers, and what no order may change."""

import pytest
import torch
from safetensors.torch import save_file

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.predict.nets.propagator import load_resnet50
from napari_em_seg.predict.registry import PROPAGATORS, build

VARIANTS = ("ST", "STL", "STN", "STC")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(variant="STC", **options):
    net = build("propagator-small", variant=variant, **options).eval()
    for layer in net.layers:  # else chance may cut all off below 0
        torch.nn.init.constant_(layer.join[0].bias, 1.0)
    return net


def given(n_objects=3, side=32, n=1):
    image = torch.randn(n, 1, side, side)
    masks = torch.zeros(n, n_objects, side, side)
    for o in range(n_objects):
        masks[:, o, 4 + 8 * o : 10 + 8 * o, 5:20] = 1
    return image, masks


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_masks_have_the_shape_of_the_slice_and_all_is_remembered(variant):
    net = small(variant)
    image, masks = given(n=2)
    logits, memory = net(net.encode(image), masks, masks)
    assert logits.shape == (2, 3, 32, 32)
    assert len(memory) == len(net.layers)
    for layer, remembered, stride in zip(net.layers, memory, net.strides, strict=True):
        assert len(remembered) == 3
        for one in remembered:
            size = (2, layer.n_hidden, 32 // stride, 32 // stride)
            assert one.forward[0].shape == one.forward[1].shape == size
            assert (one.backward is not None) == (variant in ("STL", "STC"))
            assert (one.reference is not None) == (variant in ("STN", "STC"))


@torch.inference_mode()
def test_the_reference_slice_is_kept_and_the_rest_goes_on():
    net = small()
    (first, masks), (second, _) = given(), given()
    _, memory = net(net.encode(first), masks, masks)
    _, later = net(net.encode(second), masks, masks, memory)
    for before, after in zip(memory, later, strict=True):
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one.reference, other.reference)
            assert not torch.equal(one.forward[0], other.forward[0])


@pytest.mark.parametrize(("variant", "sees"), [("ST", False), ("STL", True), ("STN", False), ("STC", True)])
@torch.inference_mode()
def test_only_the_second_direction_tells_an_object_of_those_after_it(variant, sees):
    net = small(variant)
    image, masks = given()
    features = net.encode(image)
    other = masks.clone()
    other[:, 2] = 0
    first, changed = (net(features, m, m)[0][:, 0] for m in (masks, other))
    assert torch.equal(first, changed) != sees
    other = masks.clone()
    other[:, 0] = 0
    last, changed = (net(features, m, m)[0][:, 2] for m in (masks, other))
    assert not torch.equal(last, changed)  # the first direction tells those before


@torch.inference_mode()
def test_a_single_object_depends_on_nothing_but_itself():
    net = small()
    image, masks = given(1)
    features = net.encode(image)
    alone, _ = net(features, masks, masks)
    twice, _ = net([torch.cat((f, f)) for f in features], masks.repeat(2, 1, 1, 1), masks.repeat(2, 1, 1, 1))
    assert torch.allclose(alone[0], twice[1], atol=1e-5)


@torch.inference_mode()
def test_with_one_direction_alike_for_both_the_order_of_objects_may_be_turned_round():
    """Both directions with the same weights, and a join that does not tell them apart: then it is symmetric."""
    net = small("STL")
    for layer in net.layers:
        layer.back.load_state_dict(layer.there.state_dict())
        weights = layer.join[0].weight
        half = weights.shape[1] // 2
        weights.copy_(torch.cat((weights[:, :half],) * 2, dim=1))
    image, masks = given()
    features = net.encode(image)
    there, _ = net(features, masks, masks)
    back, _ = net(features, masks.flip(1), masks.flip(1))
    assert torch.allclose(there, back.flip(1), atol=1e-5)


def test_saving_memory_changes_neither_loss_nor_gradients():
    found = []
    for saves in (False, True):
        torch.manual_seed(1)
        net = build("propagator-small", saves_memory=saves).train()
        for module in net.modules():  # else the second pass sees other statistics
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        torch.manual_seed(2)
        image, masks = given()
        features = net.encode(image)
        logits, memory = net(features, masks, masks)
        logits, _ = net(features, torch.sigmoid(logits), masks, memory)
        logits.square().mean().backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


@torch.inference_mode()
def test_resnet_of_the_paper_has_five_levels_and_works():
    net = build("propagator-resnet50").eval()
    assert net.strides == (32, 16, 8, 4, 2)
    assert net.encoder.channels == (2048, 1024, 512, 256, 64)
    image, masks = given(2, 64)
    levels = net.encoder(image)
    assert [level.shape[1] for level in levels] == [2048, 1024, 512, 256, 64]
    logits, _ = net(net.encode(image), masks, masks)
    assert logits.shape == (1, 2, 64, 64)


def test_names_and_arguments():
    assert set(PROPAGATORS) == {"propagator-small", "propagator-resnet50"}
    assert all(found.task == "propagator" for found in PROPAGATORS.values())
    with pytest.raises(DataError, match="cannot be built"):
        build("propagator-small", hidden=(4, 4))
    with pytest.raises(DataError, match="Did you mean propagator-small"):
        build("propagator-smal")


_KNOWN = {
    "stem.0.weight": "conv1.weight", "stem.1.running_var": "bn1.running_var",
    "layers.0.0.body.3.weight": "layer1.0.conv2.weight", "layers.3.2.body.7.bias": "layer4.2.bn3.bias",
    "layers.1.0.shortcut.0.weight": "layer2.0.downsample.0.weight",
    "layers.1.0.shortcut.1.bias": "layer2.0.downsample.1.bias",
}  # fmt: skip


def _torchvision_name(name):
    place, *rest = name.split(".")
    if place == "stem":
        return f"{'conv1' if rest[0] == '0' else 'bn1'}.{rest[1]}"
    layer, block, kind, n, what = rest
    part = f"{('conv', 'bn')[int(n) % 3]}{int(n) // 3 + 1}" if kind == "body" else f"downsample.{n}"
    return f"layer{int(layer) + 1}.{block}.{part}.{what}"


def test_weights_of_a_resnet_are_taken_under_the_names_of_torchvision(tmp_path):
    net = build("propagator-resnet50")
    names = {
        _torchvision_name(name): torch.full_like(x, 0.5) if x.is_floating_point() else x
        for name, x in net.encoder.state_dict().items()
    }
    assert all(_torchvision_name(ours) == theirs for ours, theirs in _KNOWN.items())
    assert set(_KNOWN) <= set(net.encoder.state_dict())
    names["fc.weight"] = torch.zeros(10, 2048)
    save_file(names, tmp_path / "resnet.safetensors")
    load_resnet50(net, tmp_path / "resnet.safetensors")
    assert all((p == 0.5).all() for p in net.encoder.parameters())
    with pytest.raises(DataError, match="another encoder"):
        load_resnet50(small(), tmp_path / "resnet.safetensors")
    del names["conv1.weight"]
    save_file(names, tmp_path / "less.safetensors")
    with pytest.raises(FormatError, match="does not fit"):
        load_resnet50(net, tmp_path / "less.safetensors")
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="cannot be read"):
        load_resnet50(net, tmp_path / "no.safetensors")
