import pytest

from napari_em_seg.sample import Sample, generate

SHAPE = (12, 224, 240)


@pytest.fixture(scope="session")
def tissue() -> Sample:
    return generate(SHAPE, seed=5)
