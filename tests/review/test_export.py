"""Labels of a session: every voxel has the object of the hypothesis that is used there."""

import numpy as np

from napari_em_seg.io import open_volume
from napari_em_seg.review import labels_of, write_labels
from napari_em_seg.review.links import objects_of


def by_path(hypotheses, objects):
    """Look up the path of every voxel."""
    table = np.zeros(len(hypotheses), np.uint32)
    for leaf in range(len(hypotheses)):
        table[leaf] = next((int(objects[i]) for i in hypotheses.path(leaf) if objects[i]), 0)
    return table[hypotheses.nodes]


def test_labels_with_what_was_painted(session, found, tmp_path):
    mask = np.zeros((6, 6), bool)
    mask[1:5, 2:5] = True
    session.add_region(1, 2, 2, mask)
    number = len(found.z)
    session.add_link([0], [number])
    objects = objects_of(session.reconstruction, session.outcome, session.state)
    labels = labels_of(session.view, by_path)
    assert objects[number] == objects[0] > 0
    assert (labels[1, 3:7, 4:7] == objects[number]).all()
    painted = np.zeros(found.nodes.shape, bool)
    painted[1, 3:7, 4:7] = True
    hypotheses = found.hypotheses()
    for place in np.argwhere(~painted):
        used = [objects[i] for i in hypotheses.path(int(found.nodes[tuple(place)])) if objects[i]]
        assert len(used) <= 1
        assert labels[tuple(place)] == (used[0] if used else 0)
    write_labels(session.view, tmp_path / "labels.zarr", by_path, voxel_size_nm=(30, 6, 6))
    volume = open_volume(tmp_path / "labels.zarr", "labels")
    assert np.array_equal(volume[:], labels)
    assert volume.voxel_size_nm == (30, 6, 6)


def test_a_painted_region_that_is_not_used_leaves_no_trace(session, found):
    session.add_region(1, 2, 2, np.ones((3, 3), bool), end_cost=50.0)
    objects = objects_of(session.reconstruction, session.outcome, session.state)
    assert objects[-1] == 0
    assert np.array_equal(labels_of(session.view, by_path), by_path(found.hypotheses(), objects[:-1]))
