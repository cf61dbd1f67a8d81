"""What a boundary network is trained and judged by: its loss on all outputs, and the slices kept aside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.predict.augment import NONE
from napari_em_seg.predict.boundary import BoundaryTask, Validation, begin_from
from napari_em_seg.predict.crops import CropSampler, labelled
from napari_em_seg.predict.losses import class_balanced_loss, class_weighted_loss
from napari_em_seg.predict.registry import build
from napari_em_seg.predict.run import predict

ONE_STAGE = {"stages": 1, "widths": (2, 2, 2, 2, 2)}
TWO_STAGES = {"stages": 2, "widths": (2, 2, 2, 2, 2)}


@pytest.fixture
def sampler(small_tissue) -> CropSampler:
    return CropSampler([labelled(small_tissue.raw, small_tissue.labels)], 1, 32, 2, NONE)


def nothing(maps: Sequence[NDArray[np.float32]], truths: Sequence[NDArray[Any]]) -> dict[str, float]:
    return {"score": 0.0}


def task(sampler: CropSampler, loss: str = "class-weighted", **options: Any) -> BoundaryTask:
    return BoundaryTask(sampler, loss, **{"validations": [], "measure": nothing, "device": "cpu", **options})


def test_all_side_outputs_of_all_stages_are_trained(sampler) -> None:
    net = build("m2fcn-small-2", **TWO_STAGES)
    images, boundaries, known = batch = task(sampler).batch(np.random.default_rng(0))
    net.eval()  # so that both passes are the same
    found = task(sampler, "class-balanced").loss(net, batch)
    outputs = net.forward_all(images)
    assert len(outputs) == 12
    expected = sum(class_balanced_loss(output, boundaries, known) for output in outputs)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_other_networks_have_one_output(sampler) -> None:
    net = build("unet-small-s1", base_channels=2, levels=2).eval()
    images, boundaries, known = batch = task(sampler).batch(np.random.default_rng(0))
    found = task(sampler).loss(net, batch)
    assert found.item() == pytest.approx(class_weighted_loss(net(images), boundaries, known).item())


def test_the_same_generator_gives_the_same_batch(sampler) -> None:
    one, two, other = (task(sampler).batch(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])


def test_validation_measures_the_maps_of_the_slices_kept_aside(small_tissue, sampler) -> None:
    """And only these; the slices around are seen by networks that take several."""
    raw, labels = small_tissue.raw, small_tissue.labels
    torch.manual_seed(0)
    net = build("unet-small-s3", base_channels=2, levels=2).eval()
    seen: list[tuple[Any, Any]] = []

    def measure(maps: Any, truths: Any) -> dict[str, float]:
        seen.append((maps, truths))
        return {"score": 0.25, "other": 3.0}

    validations = [Validation(raw, part, labels[part]) for part in (slice(2, 4), slice(7, 8))]
    found = task(sampler, validations=validations, measure=measure).validate(net)
    assert found == {"score": 0.25, "other": 3.0}
    ((maps, truths),) = seen
    whole = predict(raw, [net], views=1, device="cpu", dtype="float32")
    for part, boundary, truth in zip((slice(2, 4), slice(7, 8)), maps, truths, strict=True):
        assert boundary.dtype == np.float32
        np.testing.assert_allclose(boundary, whole[part], atol=1e-6)
        np.testing.assert_array_equal(truth, labels[part])


def test_one_stage_begins_the_first_of_two() -> None:
    torch.manual_seed(3)
    one, two = build("m2fcn-small-1", **ONE_STAGE), build("m2fcn-small-2", **TWO_STAGES)
    second = {name: value.clone() for name, value in two.stages[1].state_dict().items()}
    begin_from(two, one)
    for name, value in one.stages[0].state_dict().items():
        assert torch.equal(two.stages[0].state_dict()[name], value)
    assert all(torch.equal(two.stages[1].state_dict()[name], value) for name, value in second.items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("m2fcn-small-2", TWO_STAGES), ("unet-small-s1", {"base_channels": 2, "levels": 2})],
)
def test_the_same_network_is_taken_over_whole(name, arguments) -> None:
    torch.manual_seed(1)
    trained, net = build(name, **arguments), build(name, **arguments)
    begin_from(net, trained)
    state = trained.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("net", "trained"),
    [
        (("unet-small-s1", {}), ("m2fcn-small-1", {})),
        (("unet-small-s1", {}), ("unet-small-s3", {})),
        (("m2fcn-small-1", {}), ("m2fcn-small-2", {})),
        (("m2fcn-small-3", {}), ("m2fcn-small-2", {})),
        (("m2fcn-small-2", {}), ("m2fcn-small-1", {"n_slices": 3})),
        (("m2fcn-small-2", {}), ("m2fcn-small-1", ONE_STAGE)),
        (("m2fcn-small-2", {}), ("unet-small-s1", {})),
    ],
)
def test_weights_that_do_not_fit_are_refused_clearly(net, trained) -> None:
    with pytest.raises(DataError, match="begin from") as caught:
        begin_from(build(net[0], **net[1]), build(trained[0], **trained[1]))
    assert len(str(caught.value)) < 1000
