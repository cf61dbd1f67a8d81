"""Tiles: a partition whatever the sizes, on the net's grid; blending, mirroring, gray levels, what is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_em_seg.errors import DataError
from napari_em_seg.predict.tiling import Canvas, Levels, Reader, Tiler


@st.composite
def tilers(draw):
    def three(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(3))

    halo = three(0, 5)
    blend = draw(st.integers(0, min(halo[1:])))
    border = draw(st.none() | st.integers(0, 4))
    return Tiler(three(1, 40), three(1, 20), halo, three(1, 4), blend, border)


@settings(deadline=None)
@given(tilers())
def test_tiles_are_a_partition_on_the_grid(tiler):
    count = np.zeros(tiler.shape, int)
    tiles = list(tiler)
    for tile in tiles:
        count[tile.keep] += 1
        assert tile.sizes == tiler.sizes
        for axis in range(3):
            core, keep, stride = tile.core[axis], tile.keep[axis], tiler.stride[axis]
            assert core.start % stride == 0 == tile.sizes[axis] % stride
            assert tile.sizes[axis] <= max(tiler.tile[axis], stride)
            assert core.start == keep.start < keep.stop <= core.stop
            assert tiler.halo[axis] % stride == 0
    assert (count == 1).all()
    assert len(tiles) == len(tiler)


@settings(deadline=None)
@given(tilers(), st.data())
def test_halves_are_a_partition_too(tiler, data):
    tile = data.draw(st.sampled_from(list(tiler)))
    axis = data.draw(st.integers(0, 2))
    parts = tiler.split(tile, axis)
    count = np.zeros(tiler.shape, int)
    for part in parts:
        count[part.keep] += 1
        assert part.core[axis].start % tiler.stride[axis] == 0
        assert part.sizes[axis] <= tile.sizes[axis]
    assert (count[tile.keep] == 1).all()
    assert count.sum() == count[tile.keep].size
    assert (len(parts) > 1 and parts[0].sizes[axis] < tile.sizes[axis]) or (
        tile.core[axis].start + parts[0].sizes[axis] >= min(tiler.shape[axis], tile.core[axis].stop)
    )


@settings(deadline=None)
@given(tilers())
def test_weights_of_whole_tiles_sum_to_one_and_a_canvas_gives_the_picture_back(tiler):
    picture = np.random.default_rng(0).random((2, *tiler.shape), np.float32)
    weights = np.zeros(tiler.shape, np.float32)
    result = np.full_like(picture, np.nan)
    for row in tiler.rows():
        z, y, _ = row[0].keep
        if y.start == 0:
            canvas = Canvas(2, z, *tiler.shape[1:])
        for tile in row:
            box = tiler.cover(tile)
            outer = tiler.outer(tile)
            for axis, part in enumerate(tiler.inner(tile)):
                begin = tile.core[axis].start if axis == 0 else outer[axis].start
                assert (begin + part.start, begin + part.stop) == (box[axis].start, box[axis].stop)
                assert part.stop <= outer[axis].stop - outer[axis].start
            canvas.add(box, picture[:, *box], tiler.weight(tile))
            weights[box] += tiler.weight(tile)
        rows, values = canvas.take(y.stop if y.stop == tiler.shape[1] else y.stop - tiler.blend)
        result[:, z, rows] = values
    np.testing.assert_allclose(result, picture, atol=1e-6)
    assert (weights > 0).all()
    if 2 * tiler.blend <= min(tiler.sizes[1:]):
        np.testing.assert_allclose(weights, 1, atol=1e-5)


def test_blending_fades_from_one_tile_to_the_next():
    tiler = Tiler((1, 8, 64), (1, 32, 32), (0, 8, 8), blend=8)
    canvas = Canvas(1, slice(0, 1), 8, 64)
    for value, tile in enumerate(tiler):
        box = tiler.cover(tile)
        canvas.add(box, np.full((1, 1, 8, 40), value, np.float32), tiler.weight(tile))
    _, values = canvas.take(8)
    assert (values[..., :24] == 0).all()
    assert (values[..., 40:] == 1).all()
    np.testing.assert_allclose(np.diff(values[0, 0, 0, 24:40]), 1 / 16, atol=1e-6)


def test_tilings_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="sizes of 1 or more"):
        Tiler((1, 0, 8), (1, 8, 8))
    with pytest.raises(DataError, match="at most the halo"):
        Tiler((1, 8, 8), (1, 8, 8), (0, 2, 2), blend=3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (4, 9, 7)])
@pytest.mark.parametrize("budget", [0, 40, 10**6])
def test_blocks_are_mirrored_at_the_border(shape, budget):
    volume = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    reader = Reader(volume, Levels(volume, "none"), budget)
    padded = np.pad(volume, 6, mode="reflect")
    for start in ((-6, -6, -6), (0, 0, 0), (-1, 2, 1), (1, -3, 0)):
        stop = [min(n + 6, s + 8) for n, s in zip(shape, start, strict=True)]
        block = reader.block(tuple(slice(a, b) for a, b in zip(start, stop, strict=True)))
        assert block.dtype == np.float32
        expected = padded[tuple(slice(a + 6, b + 6) for a, b in zip(start, stop, strict=True))]
        assert (block == expected).all()


def test_levels_bring_images_to_zero_mean_and_unit_variance():
    rng = np.random.default_rng(2)
    volume = np.stack([rng.normal(100 + 10 * z, 20, (64, 64)) for z in range(5)])
    volume[2] = 0  # lost
    mean, deviation = Levels(volume, "volume").of(0)
    assert mean == pytest.approx(125, abs=6)
    assert deviation == pytest.approx(20, abs=1)

    block = Reader(volume, Levels(volume, "slice"), 2**20).block((slice(0, 5), slice(0, 64), slice(0, 64)))
    assert np.abs(block.mean((1, 2))).max() < 0.02
    assert block.std((1, 2)) == pytest.approx([1, 1, 0, 1, 1], abs=0.05)


def test_a_few_specks_do_not_move_the_levels():
    volume = np.random.default_rng(3).normal(100, 20, (4, 100, 100))
    clean = Levels(volume).of(0)
    volume[:, :5, :5] = 60_000
    assert Levels(volume).of(0) == pytest.approx(clean, rel=0.03)


def test_a_volume_of_one_value_is_all_zero():
    volume = np.full((3, 8, 8), 7, np.uint8)
    for mode in ("volume", "slice"):
        block = Reader(volume, Levels(volume, mode), 2**20).block((slice(0, 3), slice(-1, 9), slice(0, 8)))
        assert (block == 0).all()


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(DataError, match="volume, slice, none"):
        Levels(np.zeros((1, 2, 2)), "zscore")
