"""The propagator that comes along: its card, its size, and what it does on tissue it has never seen."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from napari_em_seg.pipeline import Propagation, propagate, watershed_seeds
from napari_em_seg.pipeline.propagation import collected
from napari_em_seg.predict.weights import load_weights, resolve
from napari_em_seg.propagate.calibration import overlaps, seeds_of
from napari_em_seg.propagate.confidence import WEIGHTS
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

MODELS = sorted(Path(str(files("napari_em_seg.propagate") / "bundled")).glob("*.safetensors"))
Z = 4


@pytest.fixture(autouse=True, scope="module")
def _no_others(tmp_path_factory):
    """Hide the models of whoever runs this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EM_SEG_MODELS", str(tmp_path_factory.mktemp("none")))
        yield


@pytest.fixture(scope="module")
def tissue():
    made = generate((9, 160, 160), seed=11)
    return Volume(made.raw, made.voxel_size_nm, "sample"), made.labels


def walked(volume, seeds, variant="auto"):
    return collected(propagate(volume, seeds, Propagation(Z, variant)), volume.shape)


def quality(found, truth, z):
    names = np.unique(seeds_of(truth[Z]))
    values = overlaps(found.labels[z], np.where(np.isin(truth[z], names), truth[z], 0))
    return float(np.mean(list(values.values())))


def test_one_comes_along_small_enough_and_says_where_it_is_from():
    assert MODELS
    for path in MODELS:
        assert path.stat().st_size < 4e6
        net, card = load_weights(path)
        assert resolve(card.name).path == path
        assert net.variant == card.arguments["variant"]
        assert set(WEIGHTS) <= set(card.measures)
        assert "AC4" in card.licence
        said = " ".join((card.command, *card.data))
        assert not any(start in said for start in (" /", ",/", "='/", "\\"))  # no paths of a machine


def test_it_follows_objects_of_the_sample(tissue):
    volume, truth = tissue
    found = walked(volume, seeds_of(truth[Z]))
    alone = seeds_of(truth[Z])
    for z in (Z - 3, Z + 3):
        stays = float(np.mean(list(overlaps(alone, truth[z]).values())))
        assert quality(found, truth, z) > stays + 0.05
    assert (quality(found, truth, Z - 1) + quality(found, truth, Z + 1)) / 2 > 0.6


def test_sections_of_a_watershed_are_seeds_like_true_ones(tissue):
    volume, truth = tissue
    seeds, sections = watershed_seeds(volume, Z), seeds_of(truth[Z])
    assert seeds.shape == sections.shape
    assert np.bincount(seeds[seeds > 0]).max() < 0.7 * seeds.size
    best = []
    for name in np.unique(sections)[1:]:
        other = np.bincount(seeds[sections == name]).argmax()
        best.append(
            ((seeds == other) & (sections == name)).sum() / ((seeds == other) | (sections == name)).sum()
        )
    assert np.median(best) > 0.6


def test_a_lost_slice_is_bridged(tissue):
    volume, truth = tissue
    raw = np.array(volume[:])
    raw[Z + 1] = 0
    seeds = seeds_of(truth[Z])
    whole = walked(volume, seeds)
    found = walked(Volume(raw, volume.voxel_size_nm, "lost"), seeds)
    assert (np.nan_to_num(found.confidence[:, Z + 1]) == 0).all()
    assert (found.confidence[:, Z + 2] > 0).mean() > 0.8  # objects go on behind it
    stays = float(np.mean(list(overlaps(seeds, truth[Z + 3]).values())))
    assert quality(found, truth, Z + 3) > max(stays + 0.1, 0.6 * quality(whole, truth, Z + 3))
