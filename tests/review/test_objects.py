"""Objects that come from elsewhere, such as propagated ones: one operation each, with pins for the program."""

import numpy as np
import pytest

from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.review import Session, copy_fresh, create_session, replay
from napari_em_seg.review.conflicts import without_margins
from napari_em_seg.review.object_volume import ObjectVolume


@pytest.fixture
def path(small, tmp_path):
    return create_session(tmp_path / "a.emseg", small.reconstruction(2))


def square(y, x, shape=(12, 12)):
    mask = np.zeros(shape, bool)
    mask[y : y + 4, x : x + 5] = True
    return mask


def test_an_object_is_there_as_it_was_given_and_can_be_undone(path, small):
    masks = {z: square(3 + z, 4) for z in (1, 2, 3)}
    with Session(path, small.Exact) as session:
        before = ObjectVolume(session.view)[:]
        made = session.add_object(masks)
        assert made.kind == "object"
        assert len(session.operations) == 1
        after = ObjectVolume(session.view)[:]
        names = {int(n) for z, mask in masks.items() for n in np.unique(after[z][mask])}
        assert len(names) == 1
        (name,) = names
        assert name > 0
        for z, mask in masks.items():
            assert (after[z] == name).sum() == mask.sum()
        assert not (after[0] == name).any()
        session.undo()
        assert (ObjectVolume(session.view)[:] == before).all()
        session.redo()
        assert (ObjectVolume(session.view)[:] == after).all()
    with Session(path, small.Exact) as session:
        assert (ObjectVolume(session.view)[:] == after).all()


def test_accepted_objects_are_never_overwritten(path, small):
    with Session(path, small.Exact) as session:
        session.add_object({1: square(2, 2), 2: square(2, 3)})
        before, n = ObjectVolume(session.view)[:], len(session.operations)
        with pytest.raises(EmSegError):
            session.add_object({1: square(4, 4), 2: square(4, 4)})
        assert len(session.operations) == n
        assert (ObjectVolume(session.view)[:] == before).all()
        session.add_object({1: square(7, 2), 2: square(7, 3)})  # beside it there is room
        assert len(np.unique(ObjectVolume(session.view)[1][square(7, 2)])) == 1


def test_what_a_mask_only_touches_is_left_to_its_object():
    plane = np.zeros((12, 12), np.uint32)
    plane[:, :4], plane[:, 4:8], plane[:3, 8:] = 1, 2, 3
    wide = np.zeros((12, 12), bool)
    wide[:, 3:8] = True  # a column of 1, all of 2
    found = without_margins(plane[None], {0: wide})
    assert (found[0] == (plane == 2)).all()
    inside = np.zeros((12, 12), bool)
    inside[1:3, 1:3] = True  # within 1, which gives way
    assert (without_margins(plane[None], {0: inside})[0] == inside).all()
    across = np.zeros((12, 12), bool)
    across[2, 2:11] = True  # a little of each: nothing would be left of it
    assert (without_margins(plane[None], {0: across})[0] == across).all()


def test_replayed_it_is_the_same(path, small, tmp_path):
    with Session(path, small.Exact) as session:
        session.add_object({0: square(1, 1), 1: square(1, 2)})
        session.reject(int(session.links().id[0]))
        session.undo()
        operations, result = session.operations, ObjectVolume(session.view)[:]
    with Session(copy_fresh(path, tmp_path / "b.emseg"), small.Exact) as again:
        replay(operations, again)
        assert (ObjectVolume(again.view)[:] == result).all()
        assert [o.payload for o in again.operations] == [o.payload for o in operations]


@pytest.mark.parametrize("masks", [{}, {1: square(1, 1), 3: square(1, 1)}, {9: square(1, 1)},
                                   {1: np.zeros((12, 12), bool)}, {1: square(1, 1, (9, 9))}])  # fmt: skip
def test_what_is_no_object_is_refused(path, small, masks):
    with Session(path, small.Exact) as session:
        with pytest.raises(DataError, match="slices that follow each other"):
            session.add_object(masks)
        assert not session.operations
