"""The tracker, with a network that is known by heart, and with the bundled one on tissue."""

import numpy as np
import pytest
import torch

from napari_em_seg.errors import Cancelled, DataError
from napari_em_seg.predict.nets.propagator import Memory
from napari_em_seg.predict.registry import build
from napari_em_seg.propagate.looking import thinning
from napari_em_seg.propagate.tracker import Settings, follow, whole_sections
from napari_em_seg.volume import Volume


class Copy(torch.nn.Module):
    """A network that says: each object is where the slice has its grey value, near where it was before."""

    pixel_nm, stride, strides, variant = 6.0, 8, (8, 1), "STN"

    def __init__(self):
        super().__init__()
        self.windows = []

    def encode(self, image):
        return [torch.nn.functional.avg_pool2d(image, 8), image]

    def forward(self, features, masks, seeds, memory=None):
        image = features[1]
        self.windows.append(tuple(image.shape[-2:]))
        if memory is None:  # remembers the seed, and its grey values
            memory = [[Memory((f[:, :1] * 0,) * 2, None, f[:, :1] * 0)] * masks.shape[1] for f in features]
            memory[1] = [
                Memory((image * 0,) * 2, None, torch.cat((image * seed, seed), dim=1))
                for seed in seeds.split(1, dim=1)
            ]
        logits = []
        for o, one in enumerate(memory[1]):
            value = one.reference[:, 0].sum() / one.reference[:, 1].sum()
            near = torch.nn.functional.max_pool2d(masks[:, o : o + 1], 9, 1, 4)
            logits.append(8 * (near - 0.5) - 40 * (image - value).abs())
        return torch.cat(logits, dim=1), memory


def drifting(n_slices=9, size=(64, 80)):
    """Three squares of different grey values that drift by two pixels from slice to slice."""
    image, ids = np.zeros((n_slices, *size), np.uint8), np.zeros((n_slices, *size), np.uint32)
    for label, (y, x, grey) in {3: (6, 6, 90), 5: (10, 40, 150), 9: (40, 20, 220)}.items():
        for z in range(n_slices):
            image[z, y + z : y + z + 14, x + 2 * z : x + 2 * z + 12] = grey
            ids[z, y + z : y + z + 14, x + 2 * z : x + 2 * z + 12] = label
    return Volume(image, (30, 6, 6), "squares"), ids


def run(net, volume, ids, reference, **options):
    return {one.z: one for one in follow(net, volume, ids[reference], reference, **options)}


@pytest.mark.parametrize("reference", [0, 4, 8])
@pytest.mark.parametrize("group", [1, 2, 3])
def test_objects_are_followed_in_both_directions_in_groups_of_any_size(reference, group):
    volume, ids = drifting()
    found = run(Copy(), volume, ids, reference, settings=Settings(group=group))
    assert set(found) == set(range(9))
    for z, one in found.items():
        assert (one.labels == ids[z]).all()
        assert set(one.confidence) == {3, 5, 9}
        assert min(one.confidence.values()) > 0.9


def test_nearest_slices_come_first_and_nothing_beyond_the_extent():
    volume, ids = drifting()
    order = [one.z for one in follow(Copy(), volume, ids[4], 4, slices=slice(2, 8))]
    assert order == [4, 5, 3, 6, 2, 7]


def test_up_is_down_in_a_volume_that_is_turned_over():
    volume, ids = drifting()
    there = run(Copy(), volume, ids, 2)
    over = Volume(np.asarray(volume[:])[::-1], volume.voxel_size_nm, "over")
    back = run(Copy(), over, ids[::-1], 6)
    assert all((there[z].labels == back[8 - z].labels).all() for z in range(9))


def test_it_looks_only_at_windows_around_its_objects():
    volume, ids = drifting(size=(256, 320))
    net = Copy()
    run(net, volume, ids, 4, settings=Settings(group=1, margin=16))
    assert max(h * w for h, w in net.windows) < 80 * 80


def test_slices_larger_than_a_tile_are_encoded_alike(monkeypatch):
    volume, ids = drifting(5, (96, 128))
    whole = run(Copy(), volume, ids, 2)
    monkeypatch.setattr("napari_em_seg.propagate.looking._TILE", 32)
    monkeypatch.setattr("napari_em_seg.propagate.looking._FAR", 16)
    tiled = run(Copy(), volume, ids, 2)
    assert all((whole[z].labels == tiled[z].labels).all() for z in whole)


def test_an_object_that_ends_is_let_go_and_others_go_on():
    volume, ids = drifting()
    image = np.array(volume[:])
    image[5:][ids[5:] == 5] = 0
    found = run(Copy(), Volume(image, (30, 6, 6), "x"), ids, 2, settings=Settings(patience=2))
    assert found[4].confidence[5] > 0.9
    assert found[5].confidence[5] == 0
    assert 5 not in found[8].confidence  # after two slices of patience
    assert not any((found[z].labels == 5).any() for z in range(5, 9))
    assert (found[8].labels == np.where(ids[8] == 5, 0, ids[8])).all()


@pytest.mark.parametrize("lost", [[5], [5, 6]])
def test_missing_slices_are_bridged(lost):
    volume, ids = drifting()
    image = np.array(volume[:])
    image[lost] = 0
    found = run(Copy(), Volume(image, (30, 6, 6), "x"), ids, 3, settings=Settings(patience=2))
    after = max(lost) + 1
    overlap = {label: (found[after].labels == label)[ids[after] == label].mean() for label in (3, 5, 9)}
    assert min(overlap.values()) > 0.4  # the drift of two or three slices at once is more than the stub sees
    assert all(found[z].confidence == {3: 0, 5: 0, 9: 0} for z in lost)


def test_where_two_want_a_pixel_the_likelier_one_gets_it():
    volume, ids = drifting()
    both = np.array(ids)
    both[4][ids[4] == 3] = 5  # one object of two grey values, and another one that has its own
    found = run(Copy(), volume, both, 4)
    for one in found.values():
        assert set(np.unique(one.labels)) <= {0, 5, 9}


def test_cancel_stops_at_once_and_what_was_given_stays():
    volume, ids = drifting()
    given = []
    with pytest.raises(Cancelled):
        for one in follow(Copy(), volume, ids[4], 4, cancelled=lambda: len(given) >= 3):
            given.append(one.z)  # noqa: PERF401 - what was given before the error counts
    assert given == [4, 5, 3]


def test_progress_reaches_the_end():
    volume, ids = drifting()
    told = []
    list(follow(Copy(), volume, ids[4], 4, progress=lambda done, n: told.append((done, n))))
    assert told[-1] == (9, 9)


@torch.inference_mode()
def test_a_large_window_is_looked_at_tile_by_tile_and_nothing_changes(monkeypatch):
    volume, ids = drifting(6, (96, 128))
    whole = run(Copy(), volume, ids, 2)
    monkeypatch.setattr("napari_em_seg.propagate.looking._TILE", 16)
    net = Copy()
    tiled = run(net, volume, ids, 2)
    assert all((whole[z].labels == tiled[z].labels).all() for z in whole)
    assert max(max(size) for size in net.windows) <= 24 + 2 * 64


def test_a_slice_is_encoded_once_whatever_the_number_of_objects():
    volume, ids = drifting()
    calls = []

    class Counted(Copy):
        def encode(self, image):
            calls.append(image.shape)
            return super().encode(image)

    run(Counted(), volume, ids, 4, settings=Settings(group=1))
    assert len(calls) == 9


def test_doubt_for_longer_than_the_patience_ends_an_object():
    volume, ids = drifting()
    found = run(Copy(), volume, ids, 0, settings=Settings(doubt=1.1, patience=1))
    assert [3 in found[z].confidence for z in sorted(found)] == [True, True, True]
    assert sorted(found) == [0, 1, 2]


def test_going_on_from_a_corrected_slice_is_a_run_of_its_own():
    volume, ids = drifting()
    once = run(Copy(), volume, ids, 2)
    again = {one.z: one for one in follow(Copy(), volume, once[5].labels, 5, slices=slice(5, 9))}
    assert sorted(again) == [5, 6, 7, 8]
    assert all((again[z].labels == ids[z]).all() for z in again)


@torch.inference_mode()
def test_what_is_remembered_is_bounded_by_the_windows_not_by_the_slice():
    volume, ids = drifting(3, (256, 320))
    tracker = follow(build("propagator-small", pixel_nm=6.0), volume, ids[1], 1, settings=Settings(margin=8))
    walker = tracker.gi_frame.f_locals["walker"]
    objects = walker.begin(ids[1], [3, 5, 9], 1)
    for one in objects:
        assert (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) <= 40 * 40
        held = sum(x.untyped_storage().nbytes() for layer in one.state for x in layer)
        assert held <= 2 * 5 * (8 + 12 / 4 + 20 / 16 + 24 / 64) * 40 * 40  # bytes, tensors, channels, pixels


@pytest.mark.parametrize(
    ("reference", "seeds", "words"),
    [(20, None, "not among the slices 0 to 8"), (2, np.zeros((64, 80), int), "no seeds on slice 2"),
     (2, np.ones((4, 4), int), "shape"), (2, np.ones((64, 80)), "float64"),
     (2, np.full((64, 80), -1), "from -1"), (2, np.full((64, 80), 2**32), "to 4294967296")],
)  # fmt: skip
def test_bad_input(reference, seeds, words):
    volume, ids = drifting()
    with pytest.raises(DataError, match=words):
        follow(Copy(), volume, ids[4] if seeds is None else seeds, reference)  # before the first slice


def test_pixels_are_thinned_by_whole_factors():
    assert [thinning((30, s, s), 12) for s in (3, 4, 6, 8, 12, 40)] == [4, 3, 2, 2, 1, 1]
    with pytest.raises(DataError, match="voxel size"):
        thinning(None, 12)


def spotted(ids):
    """Give objects a grey value each, and a dark spot inside, which the network takes for none of them."""
    image = np.zeros(ids.shape, np.uint8)
    for label, grey in {3: 90, 5: 150, 9: 220}.items():
        image[ids == label] = grey
    for z, plane in enumerate(ids):
        for label in (3, 5, 9):
            y, x = np.argwhere(plane == label).min(axis=0)
            image[z, y + 3 : y + 8, x + 4 : x + 8] = 0
    return Volume(image, (30, 6, 6), "spotted")


def test_an_object_has_a_section_whole_or_not_at_all():
    _, ids = drifting()
    volume = spotted(ids)
    seeds = np.where(volume[:] > 0, ids, 0)
    own = run(Copy(), volume, seeds, 4)
    assert not (own[6].labels == ids[6]).all()  # the spots are missing
    whole = run(Copy(), volume, seeds, 4, sections=lambda z: ids[z])
    assert all((whole[z].labels == ids[z]).all() for z in whole if z != 4)


def test_a_section_may_reach_beyond_the_window_that_was_looked_at():
    volume, ids = drifting(5, (64, 120))
    far = ids.copy()
    far[3:, 15:18, 58:96] = 5  # object 5 sends out a branch that the network does not see
    found = run(Copy(), volume, ids, 1, settings=Settings(margin=8), sections=lambda z: far[z])
    assert (found[3].labels == far[3]).all()
    assert (found[4].labels == far[4]).all()


def test_without_a_section_pixels_stay_what_they_are():
    volume, ids = drifting()
    found = run(Copy(), volume, ids, 4, sections=lambda z: np.zeros_like(ids[z]))
    assert all((found[z].labels == ids[z]).all() for z in found)


@pytest.mark.parametrize("seed", range(5))
def test_sections_go_to_whoever_has_most_of_them(seed):
    rng = np.random.default_rng(seed)
    owner = rng.choice([0, 7, 4_000_000_000, 12], (40, 50)).astype(np.uint32)
    sections = rng.integers(0, 30, (40, 50))
    found = whole_sections(owner, sections)
    assert (found[sections == 0] == owner[sections == 0]).all()
    for name in range(1, 30):
        names, counts = np.unique(owner[sections == name], return_counts=True)
        given = np.unique(found[sections == name])
        assert len(given) == 1
        assert counts[names == given[0]] == counts.max()
