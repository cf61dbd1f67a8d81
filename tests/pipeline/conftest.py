"""Synthetic tissue with maps made from its truth: what a perfect predictor would say, and a worse one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, grey_dilation, grey_erosion

from napari_em_seg.io import write_volume, write_volumes
from napari_em_seg.pipeline.prediction import AFFINITY_MAPS
from napari_em_seg.predict.affinities import affinity_labels
from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

SIZE = (30.0, 6.0, 6.0)


@dataclass(frozen=True, eq=False)
class Predicted:
    """Tissue, its truth, and maps made from that (uint8); in files as well."""

    folder: Path
    raw: NDArray[np.uint8]
    truth: NDArray[np.uint32]
    affinities: NDArray[np.uint8]
    boundary: NDArray[np.uint8]

    @property
    def image(self) -> str:
        """The image file."""
        return str(self.folder / "raw.zarr")

    @property
    def affinity_file(self) -> str:
        """The container of affinities."""
        return str(self.folder / "affinities.zarr")

    @property
    def boundary_file(self) -> str:
        """The boundary map."""
        return str(self.folder / "boundary.zarr")

    @property
    def truth_file(self) -> str:
        """The labels."""
        return str(self.folder / "truth.zarr")


def made(folder: Path, seed: int, noise: float) -> Predicted:
    """Make tissue, and maps with so much noise."""
    sample, rng = generate((6, 96, 96), seed), np.random.default_rng(seed)
    truth = sample.labels
    right = affinity_labels(truth)[0]
    affinities = np.clip(0.02 + 0.96 * right + noise * rng.standard_normal(right.shape), 0, 1)
    outline = (grey_dilation(truth, (1, 3, 3)) != grey_erosion(truth, (1, 3, 3))) | (truth == 0)
    blurred = gaussian_filter(outline.astype(float), (0, 0.7, 0.7))
    boundary = np.clip(0.02 + 0.96 * blurred + noise * rng.standard_normal(truth.shape), 0, 1)
    found = Predicted(folder, sample.raw, truth, *((255 * m).round().astype(np.uint8)
                                                   for m in (affinities, boundary)))  # fmt: skip
    write_volume(Volume(found.raw, SIZE, "raw"), found.image)
    write_volume(Volume(truth, SIZE, "labels", kind="labels"), found.truth_file)
    write_volume(Volume(found.boundary, SIZE, "boundary"), found.boundary_file)
    maps = {place: Volume(found.affinities[c], SIZE, place) for c, place in enumerate(AFFINITY_MAPS)}
    write_volumes(maps, found.affinity_file)
    return found


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Maps that hide nothing."""
    return made(tmp_path_factory.mktemp("clean"), 1, 0.0)


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Maps of which many pixels are wrong."""
    return made(tmp_path_factory.mktemp("noisy"), 2, 0.25)


@pytest.fixture
def never_again() -> Callable[[int], Callable[[], bool]]:
    """Make a question whether to stop that is answered with yes from its nth time on."""

    def make(n: int) -> Callable[[], bool]:
        asked = iter(range(10**9))
        return lambda: next(asked) >= n

    return make
