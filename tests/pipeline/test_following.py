"""Sections that the propagator follows: each two slices once, and only for models that have learned from it."""

import numpy as np
import pytest

from napari_em_seg.assign.features import FEATURES
from napari_em_seg.errors import Cancelled
from napari_em_seg.pipeline import sample_volumes
from napari_em_seg.pipeline.assignment import AssignRecipe, propose
from napari_em_seg.pipeline.assignment_training import TruthPart, right_assignments, train_assignment
from napari_em_seg.pipeline.evidence import PredictedMaps
from napari_em_seg.pipeline.following import follow_sections, following, follows
from napari_em_seg.pipeline.propagation import watershed_seeds
from napari_em_seg.pipeline.reconstruction import reconstruct
from napari_em_seg.volume import Volume

SIZE = (30.0, 6.0, 6.0)
AGREEMENT = FEATURES.index("agreement")


def never() -> bool:
    return False


@pytest.mark.parametrize("n_slices", [4, 5])
def test_each_two_neighbours_come_up_once_and_sections_are_found_again(n_slices) -> None:
    raw, truth = sample_volumes((n_slices, 128, 128), 5)
    done = []
    found = {}
    for z, here, there in follow_sections(raw, lambda *said: done.append(said)):
        assert z not in found
        found[z] = here, there
    assert sorted(found) == list(range(n_slices - 1))
    assert done[-1][0] == done[-1][1]
    for z, planes in found.items():
        reference = z if z % 2 == 0 else z + 1
        np.testing.assert_array_equal(planes[reference - z], watershed_seeds(raw, reference))
        assert planes[0].shape == raw.shape[1:]
    goes_on = [
        np.bincount(np.asarray(truth[z + 1])[there == name]).argmax()
        == np.bincount(np.asarray(truth[z])[here == name]).argmax()
        for z, (here, there) in found.items()
        for name in set(np.unique(here)) & set(np.unique(there)) - {0}
    ]
    assert np.mean(goes_on) > 0.7


def test_it_stops_when_it_is_told_to() -> None:
    raw, _ = sample_volumes((4, 96, 96), 5)
    with pytest.raises(Cancelled):
        list(follow_sections(raw, cancelled=lambda: True))


def test_a_model_that_learned_from_it_asks_for_it_and_others_do_not(noisy, tmp_path) -> None:
    maps = PredictedMaps(noisy.affinities)
    image = Volume(noisy.raw, SIZE, "image")
    part = TruthPart(image, maps, noisy.truth, SIZE)
    model = train_assignment(tmp_path / "asks.npz", [part], with_following=True)
    assert follows(model)
    plain = train_assignment(tmp_path / "plain.npz", [part])
    assert not follows(plain)
    assert not follows(None)
    said = []
    asked = reconstruct(
        image, maps, AssignRecipe(model=str(tmp_path / "asks.npz")), voxel_size_nm=SIZE,
        progress=lambda *now: said.append(now),
    )  # fmt: skip
    left = reconstruct(image, maps, AssignRecipe(model=str(tmp_path / "plain.npz")), voxel_size_nm=SIZE)
    assert asked.features[:, AGREEMENT].max() > 0.5
    assert (left.features[:, AGREEMENT] == -1).all()
    assert [now[0] for now in said] == sorted(now[0] for now in said)
    assert said[-1][0] == said[-1][1]


def test_right_links_agree_more_than_wrong_ones(clean) -> None:
    image, maps = Volume(clean.raw, SIZE, "image"), PredictedMaps(clean.affinities)
    found = propose(image, maps, voxel_size_nm=SIZE, followed=following(image, SIZE, "auto", never))
    right = right_assignments(found, clean.truth)
    is_link = found.assignments.kind == 0
    agreed = found.features[:, AGREEMENT]
    assert agreed[is_link & right].mean() > agreed[is_link & ~right].mean() + 0.2
