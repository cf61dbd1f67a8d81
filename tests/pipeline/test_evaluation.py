"""A segmentation judged: scores of all cuts, where errors are to be seen, maps of them, files, Cancel."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_em_seg.errors import Cancelled, DataError, TargetExistsError
from napari_em_seg.metrics import contingency, evaluate
from napari_em_seg.pipeline.error_maps import LEFT_OUT, OTHERS, FalseMerges, FalseSplits, Parts
from napari_em_seg.pipeline.evaluation import (
    Course,
    cumulative,
    evaluate_labels,
    judge_labels,
    n_for,
    place_of_error,
    write_table,
)
from napari_em_seg.segment import MergeTree


def cut_and_joined():
    """Return a segmentation that cuts object 1 from slice 3 on, joins 2 and 3, and leaves out a part of 4."""
    truth = np.zeros((6, 40, 40), np.uint16)
    truth[:, :10], truth[:, 11:20], truth[:, 21:30], truth[:, 31:] = 1, 2, 3, 4
    found = truth.astype(np.uint32) * 100
    found[3:5, :10, 25:] = 7
    found[4, :10, 20:] = 7
    found[found == 300] = 200
    found[0, 35:, 5:10] = 0
    return found, truth


def test_scores_and_parts() -> None:
    found, truth = cut_and_joined()
    made = evaluate_labels(found, truth)
    assert made.scores == evaluate(contingency(found, truth))
    assert made.segments_of(1).tolist() == [100, 7]
    assert made.segments_of(4).tolist() == [400, 0]
    assert made.objects_of(200).tolist() == [2, 3]
    assert made.segments.ids[0] == 200
    assert not made.thresholds


def test_the_place_of_an_error_is_where_the_smaller_part_is_largest() -> None:
    found, truth = cut_and_joined()
    made = evaluate_labels(found, truth)
    place = place_of_error(truth, 1, found, made.segments_of(1))
    assert (place.z, place.box) == (4, (0, 20, 10, 40))
    assert found[place.z, place.y, place.x] == 7
    place = place_of_error(truth, 4, found, made.segments_of(4))
    assert (place.z, place.box) == (0, (35, 5, 40, 10))
    place = place_of_error(found, 200, truth, made.objects_of(200))
    assert truth[place.z, place.y, place.x] == 3
    assert place_of_error(found, 7, truth, made.objects_of(7)).z == 4  # one part: where that is largest
    assert place_of_error(np.zeros_like(truth), 1, found, made.segments_of(1)) is None  # painted over meanwhile
    with pytest.raises(Cancelled):
        place_of_error(truth, 1, found, made.segments_of(1), lambda: True)


def test_the_voxel_shown_lies_in_the_part_even_where_its_centre_does_not() -> None:
    truth = np.ones((1, 30, 30), np.uint8)
    found = np.ones((1, 30, 30), np.uint8)
    found[0, 5:20, 5:20] = 2
    found[0, 7:18, 7:18] = 1  # a ring
    place = place_of_error(truth, 1, found, evaluate_labels(found, truth).segments_of(1))
    assert found[0, place.y, place.x] == 2


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint32, (3, 5, 6), elements=st.sampled_from([0, 1, 2, 3, 2**30])),
    arrays(np.int64, (3, 5, 6), elements=st.sampled_from([0, 1, 2, 2**40])),
    st.sampled_from(["singletons", "label"]),
)
def test_error_maps_agree_with_a_plain_loop(found, truth, background) -> None:
    if not truth.any():
        return
    made = evaluate_labels(found, truth, background=background)
    main_segment = dict(zip(made.objects.ids.tolist(), made.objects.largest_segment.tolist(), strict=True))
    main_object = dict(zip(made.segments.ids.tolist(), made.segments.largest_object.tolist(), strict=True))
    splits, merges = FalseSplits(made, found, truth)[:], FalseMerges(made, found, truth)[:]
    for place in np.ndindex(found.shape):
        s, t = int(found[place]), int(truth[place])
        is_background = s == 0 and background == "singletons"
        if t == 0:
            assert (splits[place], merges[place]) == (0, 0)
        else:
            assert splits[place] == (LEFT_OUT if is_background else int(s != main_segment[t]))
            assert merges[place] == (0 if is_background else int(t != main_object[s]))


def test_labels_painted_meanwhile_do_not_break_the_maps() -> None:
    found, truth = cut_and_joined()
    made = evaluate_labels(found, truth)
    splits = FalseSplits(made, found, truth)
    truth[0], found[0] = 60_000, 4_000_000_000
    assert (splits[0] == 1).all()


def test_parts_of_an_object() -> None:
    whole, other = np.array([[[5, 5, 5, 5, 5, 6]]]), np.array([[[1, 1, 2, 3, 0, 1]]])
    assert Parts(whole, 5, other, [1, 2, 3])[0].tolist() == [[1, 1, 2, OTHERS, LEFT_OUT, 0]]
    assert Parts(whole, 5, other, [1, 0])[0].tolist() == [[1, 1, OTHERS, OTHERS, LEFT_OUT, 0]]
    assert Parts(whole, 6)[0].tolist() == [[0, 0, 0, 0, 0, 1]]


def test_all_cuts_of_a_tree_are_scored() -> None:
    pieces = np.repeat(np.arange(1, 5, dtype=np.uint32), 25).reshape(4, 5, 5)
    truth = np.where(pieces <= 2, 1, 2)
    tree = MergeTree(
        np.array([1, 2, 3, 4], np.uint32), np.array([0, 2], np.int32), np.array([1, 3], np.int32),
        np.array([0.8, 0.4]),
    )  # fmt: skip
    steps = []
    made = evaluate_labels(
        tree.apply(pieces, 0.3), truth, course=Course(pieces, tree), progress=lambda *at: steps.append(at)
    )
    assert made.thresholds[0.1].vi_split == 1
    assert made.thresholds[0.3].vi_split == 0.5 == made.scores.vi_split
    assert made.thresholds[0.9].vi_split == 0
    assert steps == sorted(steps)
    assert steps[-1] == (8, 8)


def test_cancel() -> None:
    found, truth = cut_and_joined()
    with pytest.raises(Cancelled):
        evaluate_labels(found, truth, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        judge_labels(found, None, cancelled=lambda: True)


def test_how_many_hold_most_of_the_error() -> None:
    parts = np.array([6.0, 2.0, 1.0, 1.0, 0.0])
    assert cumulative(parts) == pytest.approx([0.6, 0.8, 0.9, 1, 1])
    assert (n_for(parts, 0.5), n_for(parts, 0.8), n_for(parts, 0.9)) == (1, 2, 3)
    assert cumulative(np.zeros(3)).tolist() == [1, 1, 1]
    assert n_for(np.zeros(3), 0.5) == 0


def test_tables_are_written_whole_and_nothing_is_overwritten_unasked(tmp_path) -> None:
    columns = {"object": np.array([3, 2**63], np.uint64), "share": np.array([0.1, np.nan])}
    write_table(tmp_path / "a.csv", columns)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["object", "share"], ["3", "0.1"], [str(2**63), "nan"]]
    with pytest.raises(TargetExistsError):
        write_table(tmp_path / "a.csv", columns)
    write_table(tmp_path / "a.csv", {"b": [1]}, overwrite=True)
    assert (tmp_path / "a.csv").read_text("utf-8").split() == ["b", "1"]
    with pytest.raises(DataError, match=r"\.csv"):
        write_table(tmp_path / "a.txt", columns)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
