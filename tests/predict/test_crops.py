"""Training crops: labels that belong to their image, drawn anywhere, and refused where they make no sense."""

import numpy as np
import pytest

from napari_em_seg.errors import DataError
from napari_em_seg.predict.augment import NONE
from napari_em_seg.predict.crops import CropSampler, LabelledVolume, labelled
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.volume import Volume


def volume(shape: tuple[int, int, int] = (7, 60, 80)) -> LabelledVolume:
    """An image that is its own boundary map, so that image and labels can be compared."""
    boundary = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8)
    return LabelledVolume(boundary.astype(np.float32), boundary)


def draw(seed: int = 0, **options: object) -> tuple[np.ndarray, np.ndarray]:
    sampler = CropSampler([volume()], **{"n_slices": 3, "side": 32, "augmentation": NONE, **options})
    images, targets, known = sampler.draw(np.random.default_rng(seed))
    assert known.all()
    return images.numpy(), targets.numpy()


@pytest.mark.parametrize("n_slices", [1, 3, 5])
def test_the_labels_are_those_of_the_centre_slice_in_every_view(n_slices: int) -> None:
    for seed in range(10):
        images, targets = draw(seed, n_slices=n_slices)
        assert images.shape == (4, n_slices, 32, 32)
        np.testing.assert_array_equal(images[:, n_slices // 2], targets[:, 0])


def test_the_same_generator_gives_the_same_batch() -> None:
    np.testing.assert_array_equal(draw(3)[0], draw(3)[0])
    assert not np.array_equal(draw(3)[0], draw(4)[0])


def test_crops_come_from_everywhere() -> None:
    """The image is its own coordinate here, so the crops say where they are from."""
    ramp = np.arange(7 * 60 * 80, dtype=np.float32).reshape(7, 60, 80)
    source = LabelledVolume(ramp, volume().boundary)
    sampler = CropSampler([source], 3, 32, 64, NONE)
    images = np.concatenate([sampler.draw(np.random.default_rng(i))[0].numpy() for i in range(8)])
    z, y, x = np.unravel_index(images.astype(int), ramp.shape)
    assert set(np.unique(z)) == set(range(7))
    assert set(np.unique(y)) == set(range(60))
    assert set(np.unique(x)) == set(range(80))


def test_volumes_are_drawn_from_in_proportion_to_their_size() -> None:
    small, large = volume((3, 40, 40)), volume((9, 80, 80))
    dark = LabelledVolume(small.image - 100, small.boundary)
    images, *_ = CropSampler([dark, large], 3, 32, 600, NONE).draw(np.random.default_rng(0))
    share = (images.mean(dim=(1, 2, 3)) < -50).float().mean().item()
    assert share == pytest.approx(3 * 40 * 40 / (3 * 40 * 40 + 9 * 80 * 80), abs=0.03)


def test_images_are_normalised_and_boundaries_drawn_from_ids() -> None:
    raw = Volume(np.random.default_rng(0).integers(0, 255, (4, 30, 30), dtype=np.uint8))
    ids = np.ones((4, 30, 30), np.uint16)
    ids[:, :, 15:] = 2
    ready = labelled(raw, Volume(ids, kind="labels"), "l3")
    mean, deviation = Levels(raw).of(0)  # so that a network is trained on what it will be shown
    np.testing.assert_allclose(ready.image * deviation + mean, raw[:], atol=1e-3)
    assert ready.image.mean() == pytest.approx(0, abs=0.05)
    assert ready.image.std() == pytest.approx(1, abs=0.05)
    assert ready.boundary[:, :, 14:16].all()
    assert not ready.boundary[:, :, :14].any()


def test_membranes_are_taken_as_they_are() -> None:
    raw, membranes = np.zeros((3, 9, 9), np.uint8), np.zeros((3, 9, 9), np.uint8)
    membranes[:, 4] = 255
    ready = labelled(Volume(raw), Volume(membranes), None, slice(0, 2))
    assert ready.boundary.shape == (2, 9, 9)
    np.testing.assert_array_equal(ready.boundary[:, 4], 1)
    assert ready.boundary.sum() == 2 * 9


def test_labels_that_do_not_belong_to_the_image_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(3, 9, 9\).*\(3, 9, 8\)"):
        LabelledVolume(np.zeros((3, 9, 9), np.float32), np.zeros((3, 9, 8), np.uint8))


@pytest.mark.parametrize("value", [0, 1])
def test_labels_without_boundaries_or_objects_are_refused(value: int) -> None:
    with pytest.raises(DataError, match="everywhere"):
        LabelledVolume(np.zeros((3, 9, 9), np.float32), np.full((3, 9, 9), value, np.uint8))


@pytest.mark.parametrize("options", [{"n_slices": 9}, {"side": 64}])
def test_crops_larger_than_the_volume_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="at least"):
        draw(**options)


def test_no_volume_is_refused() -> None:
    with pytest.raises(DataError, match="No labelled volume"):
        CropSampler([], 3)


def test_what_is_not_labelled_is_not_known_in_any_view() -> None:
    """A z-flip once made the marks of what is known change places with the boundaries."""
    source = volume()
    known = np.random.default_rng(1).integers(0, 2, source.boundary.shape).astype(bool)
    both = LabelledVolume(source.boundary + 2 * known.astype(np.float32), source.boundary, known)
    sampler = CropSampler([both], 3, 32, 32, NONE)
    images, targets, marks = (part.numpy() for part in sampler.draw(np.random.default_rng(0)))
    np.testing.assert_array_equal(images[:, 1], (targets + 2 * marks)[:, 0])


def test_the_id_0_can_be_a_label_boundary_or_unknown() -> None:
    raw = Volume(np.random.default_rng(0).integers(0, 255, (3, 20, 20), dtype=np.uint8))
    ids = np.ones((3, 20, 20), np.uint16)
    ids[:, 10:] = 2
    ids[:, :, 8:14] = 0
    labels = Volume(ids, kind="labels")
    as_label = labelled(raw, labels, "l3")
    np.testing.assert_array_equal(np.flatnonzero(as_label.boundary[1, 5]), [7, 8, 13, 14])
    as_boundary = labelled(raw, labels, "l3", zero="boundary")
    np.testing.assert_array_equal(np.flatnonzero(as_boundary.boundary[1, 5]), range(7, 15))
    unknown = labelled(raw, labels, "l3", zero="ignore")
    assert as_label.known is None and as_boundary.known is None and unknown.known is not None
    np.testing.assert_array_equal(np.flatnonzero(unknown.known[1, 5]), [*range(7), *range(15, 20)])
