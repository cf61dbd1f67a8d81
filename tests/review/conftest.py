"""What the tests of sessions share."""

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from napari_em_seg.review import Session, create_session


def load(name):
    """Import a file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"review_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small():
    """Return the tiny reconstruction and its exact resolver."""
    return load("_small")


@pytest.fixture(scope="session")
def found(small):
    return small.reconstruction()


@pytest.fixture
def path(found, tmp_path):
    """Return a session to which nothing has been done."""
    return create_session(tmp_path / "a.emseg", found)


@pytest.fixture
def session(path, small):
    with Session(path, small.Exact, user="ann", clock=ticking()) as opened:
        yield opened


def ticking():
    """Return a clock that goes on by three seconds whenever it is looked at."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]

    def look():
        now[0] += timedelta(seconds=3)
        return now[0]

    return look
