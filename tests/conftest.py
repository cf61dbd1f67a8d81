"""What tests of several folders share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real volumes (EM_SEG_DATA, else ``shared/data`` beside the repository); skips without it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EM_SEG_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
