"""The list of networks, and the figures that are given with each."""

import subprocess
import sys

import pytest
import torch

from napari_em_seg.errors import DataError
from napari_em_seg.predict.affinity_losses import AFFINITY_LOSSES
from napari_em_seg.predict.losses import LOSSES
from napari_em_seg.predict.registry import ARCHITECTURES, architecture, build, describe


def test_every_variant_of_both_papers_and_a_small_sibling_of_each():
    assert set(ARCHITECTURES) == {
        *(f"deepem3d-s{n}" for n in (1, 3, 5)),
        *(f"deepem3d-small-s{n}" for n in (1, 3, 5)),
        *(f"m2fcn-{n}" for n in (1, 2, 3)),
        *(f"m2fcn-small-{n}" for n in (1, 2, 3)),
        *(f"unet-small-s{n}" for n in (1, 3, 5)),
        "affinity-unet",
        "affinity-unet-small",
    }
    losses = {"boundary": LOSSES, "affinity": AFFINITY_LOSSES}
    assert all(entry.loss in losses[entry.task] for entry in ARCHITECTURES.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_figures(name):
    figures = describe(name)
    with torch.device("meta"):
        net = build(name)
    assert figures.n_parameters == sum(value.numel() for value in net.parameters())
    if ARCHITECTURES[name].task == "boundary":
        assert figures.n_slices == ARCHITECTURES[name].n_slices
        assert (figures.reach, figures.stride) == (net.halo, net.stride)
    else:
        assert figures.n_slices == 2 * net.halo[0] + 1
        assert (figures.reach, figures.stride) == (net.halo[1], net.stride[1])
    assert figures.reach < figures.receptive_field <= 2 * figures.reach + 1
    if ARCHITECTURES[name].is_small:
        assert figures.n_parameters < 1_000_000
        assert figures.multiply_adds < 70_000  # 1024² voxels in about a second on two cores


def test_figures_worked_out_by_hand():
    # 3×3 twice and 1×1: 1·4·9 + 4·4·9 + 4 multiply-adds, twice as many numbers of batch norm as channels.
    figures = describe("unet-small-s1", base_channels=4, levels=1)
    assert figures.multiply_adds == 36 + 144 + 4
    assert figures.n_parameters == 36 + 144 + 4 + 1 + 2 * 2 * 4
    assert (figures.receptive_field, figures.reach, figures.stride) == (5, 2, 1)


def test_one_stage_of_m2fcn_is_vgg_16():
    figures = describe("m2fcn-1")
    # VGG-16 for one channel has 14,713,536 weights in its convolutions; to these come 2·4,224 of batch norm,
    # 5 side outputs (1,472 + 5) and the fusion (5 + 1), less the biases.
    assert 14_700_000 < figures.n_parameters < 14_740_000
    assert figures.receptive_field == 196 + 31  # the coarsest level, and its interpolation over two strides


def test_arguments_can_be_replaced():
    assert build("m2fcn-small-1", n_slices=3).n_slices == 3
    assert describe("m2fcn-small-1", n_slices=3).n_slices == 3
    assert describe("unet-small-s1", base_channels=2).n_parameters < describe("unet-small-s1").n_parameters


def test_a_name_that_is_not_there():
    with pytest.raises(DataError, match="Did you mean deepem3d-s5"):
        build("deepem3d_s5")
    with pytest.raises(DataError, match="Choose one of these"):
        architecture("zzz")


@pytest.mark.parametrize("arguments", [{"height": 3}, {"width": "wide"}, {"width": -1}, {"rates": 3}])
def test_arguments_that_fit_nothing(arguments):
    with pytest.raises(DataError):
        build("deepem3d-small-s1", **arguments)


def test_the_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        ARCHITECTURES["mine"] = None
    with pytest.raises(TypeError):
        ARCHITECTURES["m2fcn-1"].arguments["stages"] = 2


@pytest.mark.parametrize("module", ["", ".registry", ".weights"])
def test_listing_needs_no_torch(module):
    code = f"import sys, napari_em_seg.predict{module}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
