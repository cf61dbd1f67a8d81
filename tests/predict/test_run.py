"""Predicting volumes with toy nets: no seams, right inverses, right slices, and what happens when it stops."""

import numpy as np
import pytest
import tensorstore as ts
import torch
import zarr
from torch import nn
from torch.nn import functional

from napari_em_seg.errors import Cancelled, DataError, EmSegError
from napari_em_seg.predict import device as device_module
from napari_em_seg.predict.device import Runtime, choose_device, free_memory, is_out_of_memory, tile_side
from napari_em_seg.predict.registry import build
from napari_em_seg.predict.run import OutOfMemoryError, predict
from napari_em_seg.predict.tiling import Levels
from napari_em_seg.predict.views import VIEWS, apply, invert
from napari_em_seg.volume import Volume


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Conv(nn.Module):
    """One convolution with random weights, so that every direction counts."""

    def __init__(self, n_slices=1, size=3, seed=0, halo=None) -> None:
        super().__init__()
        self.n_slices = n_slices
        self.halo = size // 2 if halo is None else halo
        weight = torch.randn((1, n_slices, size, size), generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight / size)

    def forward(self, x):
        return functional.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)


class Pooled(nn.Module):
    """Pools, convolves and repeats: sees the grid that its strides lie on."""

    def __init__(self, n_slices=3) -> None:
        super().__init__()
        self.n_slices, self.stride, self.halo = n_slices, 4, 8
        self.inside = Conv(n_slices)

    def forward(self, x):
        size = x.shape[-2:]
        x = functional.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
        x = functional.interpolate(self.inside(functional.avg_pool2d(x, 4)), scale_factor=4)
        return x[..., : size[0], : size[1]]


class Pointwise(nn.Module):
    """A function of the slices at one pixel."""

    def __init__(self, function, n_slices=1, halo=0) -> None:
        super().__init__()
        self.n_slices, self.halo, self.function = n_slices, halo, function

    def forward(self, x):
        return self.function(x)


class Block(nn.Module):
    """A net for blocks with three channels."""

    halo = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn((3, 1, 3, 5, 5), generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight / 5)

    def forward(self, x):
        return functional.conv3d(x, self.weight, padding="same")


class Counting:
    """An array that says what is read of it, and refuses to be read whole."""

    def __init__(self, array, most) -> None:
        self.array, self.most, self.reads = array, most, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        part = self.array[key]
        assert part.size <= self.most, f"{part.shape} is read at once"
        self.reads.append(part.size)
        return part


def stack(shape=(5, 37, 50), seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def run(volume, *models, **options):
    return predict(volume, models, **{"views": 1, "device": "cpu", "dtype": "float32", **options})


def normalised(volume):
    mean, deviation = Levels(volume).of(0)
    return torch.from_numpy((volume.astype(np.float32) - np.float32(mean)) / np.float32(deviation))


def identity(x):
    return x[:, x.shape[1] // 2, None]


# ---------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("shape", [(1, 16, 16), (5, 37, 50), (4, 61, 19)])
@pytest.mark.parametrize("tile", [7, 16, (3, 20, 11)])
@pytest.mark.parametrize("n_slices", [1, 3, 5])
def test_tiled_equals_untiled(shape, tile, n_slices):
    volume, net = stack(shape), Conv(n_slices, 5)
    tiled = run(volume, net, tile=tile)
    np.testing.assert_allclose(tiled, run(volume, net, tile=(1, 64, 64)), atol=1e-6)

    reach = n_slices // 2
    padded = functional.pad(normalised(volume)[None, None], (0, 0, 0, 0, reach, reach), "replicate")[0, 0]
    whole = torch.stack([net(padded[None, z : z + n_slices])[0, 0] for z in range(shape[0])]).detach()
    inside = slice(reach, shape[0] - reach), slice(2, -2), slice(2, -2)
    np.testing.assert_allclose(tiled[inside], torch.sigmoid(whole).numpy()[inside], atol=1e-5)


@pytest.mark.parametrize("views", [1, 16])
@pytest.mark.parametrize("tile", [5, 12, (2, 30, 8)])
def test_pooling_nets_leave_no_seams(tile, views):
    volume = stack()
    whole = run(volume, Pooled(), tile=64, views=views)
    np.testing.assert_allclose(run(volume, Pooled(), tile=tile, views=views), whole, atol=1e-6)


@pytest.mark.parametrize("halo", [8, 16, (2, 20, 20)])
def test_a_larger_halo_changes_nothing(halo):
    whole = run(stack(), Conv(3, 5), tile=64)
    np.testing.assert_allclose(run(stack(), Conv(3, 5), tile=16, halo=halo), whole, atol=1e-6)


@pytest.mark.parametrize("net", [Conv(1, 31), Pooled(3)])
@pytest.mark.parametrize("views", [1, 16])
def test_little_beyond_the_border_is_enough_for_tiles_to_agree(net, views, monkeypatch):
    monkeypatch.setattr("napari_em_seg.predict.run.BORDER", 4)
    whole = run(stack((2, 70, 45)), net, tile=128, views=views)
    np.testing.assert_allclose(run(stack((2, 70, 45)), net, tile=16, views=views), whole, atol=1e-5)


def test_too_small_a_halo_fades_instead_of_breaking():
    volume = np.tile(np.linspace(0, 255, 192), (1, 192, 1)).astype(np.uint8)
    net = Pointwise(lambda x: x.mean((1, 2, 3), keepdim=True).expand_as(x), halo=500)  # sees the whole tile
    result = run(volume, net, tile=64, halo=16)
    steps = np.abs(np.diff(result, axis=2)).max()
    assert np.ptp(result) > 0.3  # tiles do differ
    assert steps < 1.5 * np.ptp(result) / 16


def test_nets_that_do_not_say_how_far_they_look_are_joined_smoothly():
    net = Conv(1, 5)
    del net.halo
    whole = run(stack(), net, tile=64)
    np.testing.assert_allclose(run(stack(), net, tile=16), whole, atol=1e-5)


def test_nets_for_blocks():
    volume = stack((9, 30, 21))
    whole = run(volume, Block(), tile=(16, 64, 64))
    assert whole.shape == (3, 9, 30, 21)
    np.testing.assert_allclose(run(volume, Block(), tile=(4, 8, 13)), whole, atol=1e-6)
    direct = torch.sigmoid(Block()(normalised(volume)[None, None]))[0].detach().numpy()
    np.testing.assert_allclose(whole[:, 1:-1, 2:-2, 2:-2], direct[:, 1:-1, 2:-2, 2:-2], atol=1e-5)


def test_nets_of_several_reaches_in_one_ensemble():
    nets = Conv(1, 3), Conv(5, 7, seed=1), Pooled(3)
    together = run(stack(), *nets, tile=16)
    each = [run(stack(), net, tile=64) for net in nets]
    np.testing.assert_allclose(together, np.maximum.reduce(each), atol=1e-6)


@pytest.mark.parametrize("name", ["deepem3d-small-s3", "unet-small-s3", "m2fcn-small-1"])
def test_the_networks_leave_no_seams(name):
    net = build(name)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 1.5 if parameter.ndim > 1 else 1  # random weights leave little of the picture
    volume = stack((3, 128, 100))
    options = {"slices": slice(1, 2), "views": 1}
    whole = run(volume, net, tile=128, **options)
    np.testing.assert_allclose(run(volume, net, tile=64, **options), whole, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("net", [Conv(3), Pooled(3)])
def test_the_average_turns_with_the_volume(net, view):
    volume = stack((5, 24, 40))
    averaged = run(volume, net, views=16, tile=16)
    turned = run(np.ascontiguousarray(apply(view, volume)), net, views=16, tile=16)
    np.testing.assert_allclose(invert(view, turned), averaged, atol=1e-5)
    assert np.abs(averaged - run(volume, net)).max() > 0.05  # one view alone does not


@pytest.mark.parametrize("view", VIEWS[::5])
def test_the_average_of_a_block_net_turns_with_the_volume(view):
    volume = stack((6, 24, 17))
    averaged = run(volume, Block(), views=16, tile=(4, 16, 16))
    turned = run(np.ascontiguousarray(apply(view, volume)), Block(), views=16, tile=(4, 16, 16))
    np.testing.assert_allclose(invert(view, turned), averaged, atol=1e-5)


def test_a_net_whose_values_point_somewhere_undoes_views_itself():
    class Pointing(Block):
        def undo(self, view, y):
            return invert(view, y) * (0 if view.flip_z else 1)

    halved = run(stack(), Pointing(), views=16)
    half = run(stack(), Block(), views=8)
    np.testing.assert_allclose(halved, (half + 0.5) / 2, atol=1e-5)


@pytest.mark.parametrize("views", [4, 8, 16])
def test_many_views_of_an_equivariant_net_are_one(views):
    net = Pointwise(lambda x: (functional.avg_pool2d(x, 3, 1, 1) ** 3).mean(1, keepdim=True), 3, halo=1)
    np.testing.assert_allclose(run(stack(), net, views=views), run(stack(), net), atol=1e-5)


def test_mirroring_in_z_is_used():
    before = Pointwise(lambda x: x[:, :1], 3)  # the slice before
    volume = stack()
    image = torch.sigmoid(normalised(volume)).numpy()
    np.testing.assert_allclose(run(volume, before, views=8)[2], image[1], atol=1e-5)
    np.testing.assert_allclose(run(volume, before, views=16)[2], (image[1] + image[3]) / 2, atol=1e-5)


@pytest.mark.parametrize(("n_slices", "n_calls"), [(1, 8), (3, 16)])
def test_every_view_is_computed_once(n_slices, n_calls):
    calls = []
    net = Pointwise(lambda x: calls.append(1) or identity(x), n_slices)
    run(stack((1, 8, 8)), net, views=16)
    assert len(calls) == n_calls + 1  # one to find out the size of the result


# ------------------------------------------------------------------------------------------------- ensemble


def test_local_models_count_on_misaligned_slices_only():
    low, high = Pointwise(lambda x: identity(x) * 0 - 2), Pointwise(lambda x: identity(x) * 0 + 2, 3)
    result = run(stack(), low, local_models=[high], misaligned=[1, 4], tile=(2, 16, 16))
    assert (result > 0.5).all((1, 2)).tolist() == [False, True, False, False, True]
    assert (run(stack(), low, local_models=[high]) < 0.5).all()
    part = run(stack(), low, local_models=[high], misaligned=[1, 4], slices=slice(1, 4))
    assert (part > 0.5).all((1, 2)).tolist() == [True, False, False]


def test_misaligned_slices_are_found():
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (16, 16)), np.ones((8, 8)))
    volume = np.stack([picture + rng.normal(0, 5, picture.shape) for _ in range(8)])
    volume[5:] = np.roll(volume[5:], (20, 12), (1, 2))
    low, high = Pointwise(lambda x: identity(x) * 0 - 2), Pointwise(lambda x: identity(x) * 0 + 2)
    result = run(volume, low, local_models=[high], misaligned="auto")
    assert np.flatnonzero((result > 0.5).all((1, 2))).tolist() == [4, 5]


# --------------------------------------------------------------------------------------------------- result


def test_whole_numbers_are_rounded():
    values = run(stack(), Conv(3), views=4)
    numbers = run(stack(), Conv(3), views=4, dtype="uint8")
    assert numbers.dtype == np.uint8
    assert np.abs(numbers - values * 255).max() <= 0.5 + 1e-4


def test_slices_see_what_is_around_them():
    whole = run(stack(), Conv(5))
    np.testing.assert_allclose(run(stack(), Conv(5), slices=slice(1, 3)), whole[1:3], atol=1e-6)


def test_a_target_is_filled_and_returned():
    target = np.zeros((5, 37, 50), np.float32)
    assert run(stack(), Conv(3), out=target, tile=16) is target
    assert (target == run(stack(), Conv(3), tile=16)).all()


def test_zarr_arrays_are_targets(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(5, 37, 50), chunks=(2, 16, 16), dtype="uint8")
    run(stack(), Conv(3), out=array, tile=16, dtype="uint8")
    store = ts.open({"driver": "zarr3", "kvstore": f"file://{tmp_path}/b.zarr"}, create=True, dtype=ts.uint8,
                    shape=(5, 37, 50)).result()  # fmt: skip
    run(stack(), Conv(3), out=store, tile=16, dtype="uint8")
    expected = run(stack(), Conv(3), dtype="uint8")
    assert np.abs(array[:].astype(int) - expected).max() <= 1  # another tile, another rounding
    assert (array[:] == store.read().result()).all()


def test_only_what_is_needed_is_read():
    array = stack((40, 64, 64))
    lazy = Counting(array, most=4 * 64 * 64)
    result = run(Volume(lazy), Conv(3), slices=slice(10, 12), normalise="none", tile=32, batch=1)
    assert sum(lazy.reads) == 4 * 64 * 64
    whole = run(array, Conv(3), normalise="none")
    np.testing.assert_allclose(result, whole[10:12], atol=1e-6)


def test_a_large_volume_is_read_in_parts(monkeypatch):
    monkeypatch.setattr("napari_em_seg.predict.run.SLAB_BYTES", 8 * 64 * 64)
    array = stack((40, 64, 64))
    lazy = Counting(array, most=8 * 64 * 64)
    assert (run(Volume(lazy), Conv(5), tile=32) == run(array, Conv(5), tile=32)).all()
    assert len(lazy.reads) > 5
    assert sum(lazy.reads) < 3.5 * array.size  # slices that two slabs need, and the gray levels


def test_the_same_again_bit_for_bit():
    first, second = (run(stack(), Pooled(), Conv(5), views=16, tile=16) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_models_stay_as_they_are():
    net = Conv(3).train()
    run(stack(), net)
    assert net.training
    assert net.weight.requires_grad
    assert not net._forward_pre_hooks


def test_each_slice_can_be_normalised_by_itself():
    volume = stack().astype(np.float32)
    brighter = volume * np.arange(1, 6)[:, None, None] + 100
    net = Conv(3)
    result = [run(v, net, normalise="slice") for v in (volume, brighter)]
    np.testing.assert_allclose(*result, atol=1e-4)


# ------------------------------------------------------------------------------------- progress, cancelling


def test_progress_counts_tiles():
    seen = []
    run(stack((4, 32, 32)), Conv(3), tile=(2, 16, 16), progress=lambda *n: seen.append(n))
    assert seen == [(n, 8) for n in range(1, 9)]


def test_cancelling_midway_keeps_finished_rows():
    volume, target, done = stack((2, 48, 32)), np.zeros((2, 48, 32), np.float32), []
    with pytest.raises(Cancelled):
        run(volume, Conv(3), tile=16, out=target, progress=lambda n, _: done.append(n),
            cancelled=lambda: len(done) >= 8)  # fmt: skip
    whole = run(volume, Conv(3), tile=16)
    assert done[-1] == 8
    assert (target[0] == whole[0]).all()
    assert (target[1, :16] == whole[1, :16]).all()
    assert not target[1, 16:].any()


def test_cancelling_does_not_wait_for_a_slow_net():
    passed = []

    class Layer(nn.Module):
        def forward(self, x):
            if x.shape[-1] > 70:  # not the probe
                passed.append(x)
            return x

    net = nn.Sequential(*[Layer() for _ in range(100)])
    net.n_slices = net.halo = 1
    with pytest.raises(Cancelled):
        run(stack((1, 80, 80)), net, cancelled=lambda: len(passed) == 5)
    assert len(passed) == 5  # of 100: asked before each layer, not only before each tile


def test_cancelling_before_the_start_reads_nothing():
    lazy = Counting(stack(), most=0)
    with pytest.raises(Cancelled):
        run(Volume(lazy), Conv(3), cancelled=lambda: True)


# --------------------------------------------------------------------------------------------------- memory


class Hungry(Conv):
    """Runs out of memory on images above a size, as a device does."""

    def __init__(self, most, kind=torch.OutOfMemoryError, sizes=None, after=0, n_slices=3) -> None:
        super().__init__(n_slices)
        self.most, self.kind, self.after = most, kind, after
        self.sizes = [] if sizes is None else sizes

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if len(self.sizes) >= self.after and x.shape[0] * x.shape[-1] * x.shape[-2] > self.most:
            raise self.kind("CUDA out of memory. Tried to allocate 20 GiB")
        self.sizes.append(tuple(x.shape))
        return super().forward(x)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("tile", [(1, 100, 130), (4, 100, 130)])
def test_tiles_are_halved_when_memory_runs_out(kind, after, tile):
    volume, seen = stack((4, 100, 130)), []
    net = Hungry(70 * 70, kind, after=after)
    result = run(volume, net, tile=tile, progress=lambda *n: seen.append(n))
    np.testing.assert_allclose(result, run(volume, Conv(3), tile=256), atol=1e-6)
    n_tiles = 4 // tile[0]
    assert seen == [(n + 1, n_tiles) for n in range(n_tiles)]


def test_finished_tiles_are_not_computed_again():
    net = Hungry(70 * 70, after=4)
    run(stack((1, 130, 260)), net, tile=(1, 130, 65))
    whole = [size for size in net.sizes if size[-2:] == (132, 67)]
    assert len(whole) == 3  # beside the probe; the fourth and last tile is done in halves
    assert net.sizes[-2:] == [(1, 3, 67, 67)] * 2


def test_a_limit_once_met_holds_for_what_follows():
    calls = []

    class Watched(Hungry):
        def forward(self, x):
            calls.append(tuple(x.shape))
            return super().forward(x)

    run(stack((6, 100, 100)), Watched(70 * 70), tile=(1, 100, 100))
    assert calls.count((1, 3, 102, 102)) == 1


def test_blended_tiles_survive_halving():
    volume = np.full((2, 100, 130), 9, np.uint8)
    net = Hungry(80 * 80, after=3)
    net.halo = 20
    result = run(volume, net, tile=(2, 100, 65), halo=6)
    np.testing.assert_allclose(result, 0.5, atol=1e-6)


def test_not_even_the_smallest_tile_fits():
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory") as caught:
        run(stack((1, 80, 80)), Hungry(0, after=1), tile=80)
    assert isinstance(caught.value, EmSegError)


def test_other_errors_of_a_net_pass():
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(stack(), Pointwise(broken))


# --------------------------------------------------------------------------------------------------- device


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    for name in ("tpu", "cuda:99", "cpu:x"):
        with pytest.raises(DataError, match="not there"):
            choose_device(name)


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DataError, match="'cuda', which is not there"):
        run(stack(), Conv(3), device="cuda")


def test_the_tile_fits_the_free_memory():
    cpu = torch.device("cpu")
    assert free_memory(cpu) > 0
    assert tile_side(1000, 32, cpu, free=2**40) == device_module.CPU_SIDE
    assert tile_side(1000, 32, cpu, free=0) == device_module.LEAST_SIDE
    side = tile_side(4000, 32, cpu, free=2**30)
    assert 4000 * (side + 64) ** 2 <= 2**29 < 4000 * (2 * side + 64) ** 2


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_convolutions_get_channels_last():
    net = Runtime(torch.device("cpu")).prepare(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3)))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_half_precision_stays_close():
    full, half = (run(stack(), Conv(3), half=half) for half in (None, True))
    assert 0 < np.abs(full - half).max() < 0.02


def test_compiling_is_passed_on(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    result = run(stack(), Conv(3), compiled=True)
    assert len(compiled) == 1
    assert (result == run(stack(), Conv(3))).all()


# ------------------------------------------------------------------------------------------------ bad input


def test_arguments_that_do_not_fit_are_refused():
    volume, net = stack(), Conv(3)
    even, smaller, nan, two = (Pointwise(f) for f in (identity, lambda x: x[..., 1:], lambda x: x * np.nan,
                                                     lambda x: x.repeat(1, 2, 1, 1)))  # fmt: skip
    even.n_slices = 2
    unsaid = Block()
    unsaid.halo = None
    for models, options, match in [
        ([], {}, "at least one"),
        ([net], {"dtype": "int16"}, "uint8 or float32"),
        ([net], {"views": 3}, "1, 4, 8 or 16"),
        ([net], {"slices": slice(3, 3)}, "at least one"),
        ([net], {"slices": slice(0, 4, 2)}, "without step"),
        ([net], {"tile": (8, 8)}, "three"),
        ([net], {"tile": 0}, "from 1"),
        ([net], {"halo": -1}, "from 0"),
        ([net], {"batch": 0}, "from 1"),
        ([net], {"out": np.zeros((5, 37, 50), np.uint8)}, "The target is uint8"),
        ([net], {"out": np.zeros((5, 37, 49), np.float32)}, "The target is"),
        ([net], {"local_models": [net], "misaligned": [5]}, "0 to 4"),
        ([net], {"local_models": [net], "misaligned": "all"}, "auto or"),
        ([even], {}, "an odd number"),
        ([smaller], {}, "keeps the size"),
        ([nan], {}, "no numbers"),
        ([net, two], {}, "same number for all"),
        ([unsaid], {}, "how far it looks"),
    ]:
        with pytest.raises(DataError, match=match):
            run(volume, *models, **options)
