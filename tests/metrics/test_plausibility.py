"""Lengths, ends, orphans and giants: by hand, and against a plain loop over the voxels of random labels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_em_seg.errors import DataError
from napari_em_seg.metrics import plausibility

SIZE = (30.0, 6.0, 5.0)


def plainly(labels, label, n_orphan, share):
    """Describe one object voxel by voxel, as the docstring of `ObjectShapes` has it."""
    n, height, width = labels.shape
    where = np.argwhere(labels == label)
    by_slice = {int(z): where[where[:, 0] == z] for z in np.unique(where[:, 0])}

    def at_edge(section):
        return any(y in (0, height - 1) or x in (0, width - 1) for _, y, x in section)

    ends, ending = 0, []
    for z, section in by_slice.items():
        own = 0
        if z - 1 not in by_slice and z > 0 and not at_edge(section):
            own += 1
        if z + 1 not in by_slice and z < n - 1 and not at_edge(section):
            own += 1
        ends += own
        ending += [z] if own else []
    centres = [section.mean(axis=0) * SIZE / 1000 for section in by_slice.values()]
    way = sum(np.linalg.norm(b - a) for a, b in pairwise(centres))
    box = (where.max(axis=0) + 1 - where.min(axis=0)) * SIZE / 1000
    touches = bool({0, n - 1} & set(by_slice)) or any(map(at_edge, by_slice.values()))
    is_orphan = not touches and len(where) >= n_orphan
    look = max(by_slice if is_orphan or not ending else ending, key=lambda z: (len(by_slice[z]), -z))
    y, x = by_slice[look].mean(axis=0)[1:]
    sides = by_slice[look].max(axis=0) + 1 - by_slice[look].min(axis=0)
    return {
        "voxels": len(where), "length_um": max(way, np.linalg.norm(box)), "n_slices": len(by_slice),
        "ends": ends, "touches_border": touches, "is_orphan": is_orphan,
        "is_large": len(where) > share * (labels != 0).sum(), "z": look, "y": y, "x": x,
        "height": sides[1], "width": sides[2],
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    arrays(
        np.uint16,
        array_shapes(min_dims=3, max_dims=3, max_side=7),
        elements=st.sampled_from([0, 0, 0, 1, 2, 700]),
    )
)
def test_all_columns_agree_with_a_plain_loop(labels) -> None:
    if not labels.any():
        return
    shapes = plausibility(labels, SIZE, orphan_voxels=2, large_share=0.4)
    assert sorted(shapes.ids.tolist()) == sorted(set(labels[labels > 0].tolist()))
    for row, label in enumerate(shapes.ids.tolist()):
        for name, value in plainly(labels, label, 2, 0.4).items():
            assert getattr(shapes, name)[row] == pytest.approx(value), name


def tubes():
    """Return a tube through all six slices, one that ends inside, a ball that touches nothing, a crumb."""
    labels = np.zeros((6, 40, 40), np.uint32)
    labels[:, 5:10, 5:10] = 3
    labels[:4, 20:25, 5:9] = 7
    labels[2:4, 20:30, 20:30] = 9
    labels[2, 35, 35] = 4
    return labels


def test_by_hand() -> None:
    shapes = plausibility(tubes(), (30, 6, 6), orphan_voxels=100, large_share=0.3)
    assert shapes.ids.tolist() == [9, 4, 7, 3]  # the orphan; then by ends
    assert shapes.ends.tolist() == [2, 2, 1, 0]
    assert shapes.is_orphan.tolist() == [True, False, False, False]  # 4 is too small
    assert shapes.touches_border.tolist() == [False, False, True, True]
    assert shapes.n_slices.tolist() == [2, 1, 4, 6]
    assert shapes.is_large.tolist() == [True, False, False, True]  # 200 and 150 of 431 voxels
    assert (shapes.z[2], shapes.y[2], shapes.x[2]) == (3, 22, 6.5)
    # straight tubes: the diagonal is longer than the way between centres
    assert shapes.length_um[3] == pytest.approx(np.linalg.norm([0.18, 0.03, 0.03]))


def test_a_tube_that_wanders_is_longer_than_its_box() -> None:
    labels = np.zeros((9, 30, 30), np.uint8)
    for z in range(9):
        labels[z, 10:12, 5 + 15 * (z % 2)] = 1
    length = plausibility(labels, (10, 10, 10)).length_um[0]
    assert length == pytest.approx(8 * np.hypot(0.15, 0.01))


def test_a_gap_makes_two_ends_and_image_edges_none() -> None:
    labels = np.zeros((7, 10, 10), np.uint8)
    labels[[0, 1, 3, 4, 5, 6], 4:6, 4:6] = 1
    labels[2:4, 0:2, 4:6] = 2
    shapes = plausibility(labels, None)
    assert dict(zip(shapes.ids.tolist(), shapes.ends.tolist(), strict=True)) == {1: 2, 2: 0}
    assert np.isnan(shapes.length_um).all()  # the voxel size is not known


def test_figures_in_total() -> None:
    figures = plausibility(tubes(), (30, 6, 6), orphan_voxels=100, large_share=0.3).figures()
    assert (figures.n_objects, figures.n_voxels, figures.n_ends, figures.n_with_ends) == (4, 431, 5, 3)
    assert (figures.n_orphans, figures.n_large) == (1, 2)
    assert figures.largest_share == pytest.approx(200 / 431)
    assert figures.length_total_um >= figures.length_longest_um >= figures.length_median_um > 0
    assert set(figures.to_dict()) >= {"n_orphans", "n_ends", "length_median_um"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((3, 4, 5), np.uint8), "All 3×4×5 labels are 0"),
        (np.zeros((3, 4, 5)), "float64"),
        (np.ones((4, 5), np.uint8), "2 axes"),
        (np.full((2, 2, 2), -1, np.int16), "negative labels"),
    ],
)
def test_what_is_no_segmentation_is_refused(labels, said) -> None:
    with pytest.raises(DataError, match=said):
        plausibility(labels)


def test_any_type_of_labels_and_reading_slice_by_slice() -> None:
    read = []

    class Lazily:
        shape, dtype = (6, 40, 40), np.dtype(">u8")

        def __getitem__(self, z):
            read.append(z)
            return (tubes()[z].astype(np.uint64) * 2**40).astype(">u8")

    steps = []
    shapes = plausibility(Lazily(), (30, 6, 6), progress=lambda *at: steps.append(at))
    assert read == list(range(6))
    assert steps[-1] == (6, 6)
    assert sorted(shapes.ids.tolist()) == [k * 2**40 for k in (3, 4, 7, 9)]
    assert plausibility(tubes() > 0, None).voxels.tolist() == [431]
