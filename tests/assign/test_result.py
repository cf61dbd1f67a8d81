"""What comes out of a solution: objects, labels and graphs, against the same things done by hand."""

import json
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from napari_em_seg.assign.assignments import KINDS
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.hypotheses import SliceRegions, joined
from napari_em_seg.assign.problem import make_problem
from napari_em_seg.assign.result import check_forest, label_volume, links, objects, used
from napari_em_seg.assign.result_files import to_graph, write_graphml, write_json
from napari_em_seg.errors import DataError, TargetExistsError

SEEDS = range(12)


def nested_slice(rng, side=16):
    """Rectangles, most of them cut in two once or twice."""
    nodes, parent = np.full((side, side), -1, np.int32), []

    def put(y, x, h, w, above, depth):
        i = len(parent)
        parent.append(above)
        nodes[y : y + h, x : x + w] = i
        if depth and rng.random() < 0.8:
            k = int(rng.integers(2, w - 1)) if w > 4 else 0
            if k:
                put(y, x, h, k, i, depth - 1)
                put(y, x + k, h, w - k, i, depth - 1)

    for y in (0, side // 2):
        put(y, 1, side // 2 - 1, side - 2, -1, 2)
    n = len(parent)
    return SliceRegions(nodes, np.array(parent, np.int32), np.zeros(n, np.float32), np.ones(n, np.float32))


def solved(seed, n_slices=4):
    """Nested hypotheses, their assignments, and a best choice at random costs."""
    rng = np.random.default_rng(seed)
    hypotheses = joined([nested_slice(rng) for _ in range(n_slices)])
    assignments = find_candidates(hypotheses, None, Limits(distance=5, overlap=0.1)).assignments
    nothing = np.where(rng.random(int(hypotheses.is_leaf.sum())) < 0.3, 0.2, 3.0)
    problem = make_problem(hypotheses, assignments, rng.random(len(assignments)), nothing)
    answer = milp(problem.costs, integrality=np.ones_like(problem.costs), bounds=Bounds(0, 1),
                  constraints=LinearConstraint(problem.matrix, problem.right, problem.right))  # fmt: skip
    chosen = answer.x[: len(assignments)] > 0.5
    assert set(assignments.kind[chosen]) >= {0, 3, 4}  # else the tests would see too little
    return hypotheses, assignments, chosen


def mask(hypotheses, i):
    found = np.zeros(hypotheses.nodes.shape, bool)
    plane = hypotheses.nodes[hypotheses.z[i]]
    found[hypotheses.z[i]] = (plane >= i) & (plane <= hypotheses.last[i])
    return found


def graph_of(assignments, chosen):
    graph = nx.Graph()
    for m in np.flatnonzero(chosen):
        members = [int(i) for i in assignments.involved[m] if i >= 0]
        graph.add_nodes_from(members)
        graph.add_edges_from((members[0], other) for other in members[1:])
    return graph


@pytest.mark.parametrize("seed", SEEDS)
def test_an_object_is_all_that_hangs_together(seed):
    hypotheses, assignments, chosen = solved(seed)
    numbers = objects(hypotheses, assignments, chosen)
    graph = graph_of(assignments, chosen)
    assert set(np.flatnonzero(used(hypotheses, assignments, chosen))) == set(graph)
    expected = {frozenset(part) for part in nx.connected_components(graph)}
    found = {frozenset(np.flatnonzero(numbers == k)) for k in set(numbers[numbers > 0].tolist())}
    assert found == expected
    assert all(numbers[i] == min(part) + 1 for part in expected for i in part)  # whatever the others are
    assert (numbers[[i for i in range(len(hypotheses)) if i not in graph]] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_pixel_has_the_object_of_the_region_that_is_used_there(seed):
    hypotheses, assignments, chosen = solved(seed)
    numbers = objects(hypotheses, assignments, chosen)
    expected = np.zeros(hypotheses.nodes.shape, np.uint32)
    for i in np.flatnonzero(numbers):
        assert (expected[mask(hypotheses, i)] == 0).all()
        expected[mask(hypotheses, i)] = numbers[i]
    labels = label_volume(hypotheses, numbers)
    assert labels.dtype == np.uint32
    assert (labels == expected).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reach", [1.0, 2.3, 100.0])
def test_filling_gives_each_pixel_to_the_nearest_object_within_reach(seed, reach):
    hypotheses, assignments, chosen = solved(seed)
    numbers = objects(hypotheses, assignments, chosen)
    before, after = label_volume(hypotheses, numbers), label_volume(hypotheses, numbers, fill=reach)
    assert (after[before > 0] == before[before > 0]).all()
    for z in range(len(before)):
        at = np.argwhere(before[z] > 0)
        for y, x in np.argwhere(before[z] == 0):
            distance = np.hypot(*(at - (y, x)).T) if len(at) else np.array([np.inf])
            near = at[distance == distance.min()] if len(at) else at
            if distance.min() <= reach:
                assert after[z, y, x] in before[z][near[:, 0], near[:, 1]]
            else:
                assert after[z, y, x] == 0


def two_cells():
    nodes = np.full((1, 3, 12), -1, np.int32)
    nodes[0, :, :2], nodes[0, :, 10:] = 0, 1
    part = SliceRegions(nodes[0], np.full(2, -1, np.int32), np.zeros(2, np.float32), np.ones(2, np.float32))
    return joined([part])


def test_over_a_map_objects_meet_on_the_ridge():
    boundary = np.zeros((1, 3, 12), np.float32)
    boundary[0, :, 3] = 1
    labels = label_volume(two_cells(), np.array([1, 2], np.int32), fill=20, boundary=boundary)
    assert (labels[0, :, 4:] == 2).all()
    assert (labels[0, :, :3] == 1).all()
    near = label_volume(two_cells(), np.array([1, 2], np.int32), fill=2, boundary=boundary)
    assert near[0, 1].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2]


def test_labelling_stops_when_told_to():
    hypotheses, assignments, chosen = solved(0)
    labels = label_volume(hypotheses, objects(hypotheses, assignments, chosen), cancelled=lambda: True)
    assert not labels.any()


@pytest.mark.parametrize(
    "wrong", [{"fill": -1}, {"fill": np.nan}, {"fill": 1, "boundary": np.zeros((1, 2, 2))}]
)
def test_labelling_refuses_what_makes_no_sense(wrong):
    with pytest.raises(DataError):
        label_volume(two_cells(), np.array([1, 2], np.int32), **wrong)
    with pytest.raises(DataError, match="for each of 2 hypotheses"):
        label_volume(two_cells(), np.array([1], np.int32))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_solution_is_a_forest_and_less_or_more_of_it_is_not(seed):
    hypotheses, assignments, chosen = solved(seed)
    check_forest(hypotheses, assignments, chosen)
    check_forest(hypotheses, assignments, np.zeros_like(chosen))
    for m in range(len(assignments)):
        other = chosen.copy()
        other[m] = not chosen[m]
        with pytest.raises(DataError, match="Hypothes"):
            check_forest(hypotheses, assignments, other)


def test_a_region_within_another_one_is_found():
    parts = []
    for _ in range(2):
        nodes = np.zeros((4, 4), np.int32)
        nodes[:2] = 1
        parts.append(
            SliceRegions(nodes, np.array([-1, 0], np.int32), np.zeros(2, np.float32), np.ones(2, np.float32))
        )
    hypotheses = joined(parts)
    assignments = find_candidates(hypotheses).assignments
    straight = [(int(i), int(j)) in ((0, 2), (1, 3)) for i, j in
                zip(assignments.sources[:, 0], assignments.targets[:, 0], strict=True)]  # fmt: skip
    chosen = (np.array(straight) & (assignments.kind == 0)) | (
        (assignments.kind == 3) & (hypotheses.z[assignments.targets[:, 0]] == 0)
    ) | ((assignments.kind == 4) & (hypotheses.z[assignments.sources[:, 0]] == 1))  # fmt: skip
    assert chosen.sum() == 6
    with pytest.raises(DataError, match="Hypotheses 0 and 1 are both used"):
        check_forest(hypotheses, assignments, chosen)


@pytest.mark.parametrize(
    ("kind", "sources", "targets", "message"),
    [
        (0, [0, -1], [-1, -1], "continuation, goes from"),
        (7, [0, -1], [1, -1], "of the kind 7"),
        (1, [0, -1], [1, 1], "split, goes from"),
        (0, [-1, 0], [1, -1], "continuation, goes from"),
        (0, [1, -1], [0, -1], "slices"),
        (0, [0, -1], [0, -1], "slices"),
    ],
)
def test_what_is_no_assignment_is_found(kind, sources, targets, message):
    part = SliceRegions(np.zeros((2, 2), np.int32), np.full(1, -1, np.int32), np.zeros(1, np.float32),
                        np.ones(1, np.float32))  # fmt: skip
    hypotheses = joined([part, part])
    good = find_candidates(hypotheses).assignments[:1]
    bad = replace(good, kind=np.array([kind], np.int8), sources=np.array([sources], np.int32),
                  targets=np.array([targets], np.int32))  # fmt: skip
    with pytest.raises(DataError, match=message):
        check_forest(hypotheses, bad, np.ones(1, bool))


def test_a_region_used_twice_is_found():
    part = SliceRegions(np.zeros((2, 2), np.int32), np.full(1, -1, np.int32), np.zeros(1, np.float32),
                        np.ones(1, np.float32))  # fmt: skip
    hypotheses = joined([part, part])
    once = find_candidates(hypotheses).assignments
    once = once[np.array([m for m in range(len(once)) if 0 in once.sources[m] or 0 in once.targets[m]])]
    once = once[once.kind != 0]
    check_forest(hypotheses, once, np.ones(2, bool))
    with pytest.raises(DataError, match="Hypothesis 0 comes from 2 assignments and goes into 2"):
        check_forest(hypotheses, once[np.array([0, 1, 0, 1])], np.ones(4, bool))


def test_variables_that_are_no_assignments_have_to_be_left_out():
    hypotheses, assignments, chosen = solved(0)
    for wrong in (np.append(chosen, True), chosen.astype(float)):
        with pytest.raises(DataError, match="Leave out"):
            objects(hypotheses, assignments, wrong)


@pytest.mark.parametrize("seed", range(4))
def test_the_graph_is_read_by_others(seed, tmp_path):
    hypotheses, assignments, chosen = solved(seed)
    numbers = objects(hypotheses, assignments, chosen)
    costs = np.where(np.arange(len(assignments)) == np.flatnonzero(chosen)[0], np.nan, 0.5)
    graph = to_graph(hypotheses, assignments, chosen, {"cost": costs})
    number, source, target = links(assignments, chosen)
    write_json(tmp_path / "graph.json", graph)
    assert json.loads((tmp_path / "graph.json").read_text()) == graph
    write_graphml(tmp_path / "graph.graphml", graph)
    with pytest.raises(TargetExistsError):
        write_graphml(tmp_path / "graph.graphml", graph)
    read = nx.read_graphml(tmp_path / "graph.graphml", node_type=int)
    assert isinstance(read, nx.DiGraph)
    assert set(read.edges) == set(zip(source.tolist(), target.tolist(), strict=True))
    assert set(read.nodes) == set(np.flatnonzero(numbers))
    for i, said in read.nodes(data=True):
        assert (said["object"], said["z"], said["area"]) == (numbers[i], hypotheses.z[i], hypotheses.area[i])
        assert (said["y"], said["x"]) == pytest.approx(hypotheses.centre[i], abs=0.006)
        assert said["begins"] == (read.in_degree(i) == 0)
        assert said["ends"] == (read.out_degree(i) == 0)
    for i, j, m in zip(source.tolist(), target.tolist(), number.tolist(), strict=True):
        said = read.edges[i, j]
        assert (said["assignment"], said["kind"]) == (m, KINDS[assignments.kind[m]])
        assert said.get("cost") == (None if np.isnan(costs[m]) else 0.5)
    parts = nx.number_weakly_connected_components(read)
    assert graph["graph"]["objects"] == parts == len(set(numbers[numbers > 0].tolist()))


def test_columns_that_do_not_fit_are_refused():
    hypotheses, assignments, chosen = solved(1)
    with pytest.raises(DataError, match="The column cost"):
        to_graph(hypotheses, assignments, chosen, {"cost": np.zeros(1)})
    with pytest.raises(DataError, match="The column kind"):
        to_graph(hypotheses, assignments, chosen, {"kind": np.zeros(len(assignments))})
