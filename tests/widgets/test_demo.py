"""The demo runs by itself and leaves pictures and a report."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_em_seg import pipeline
from napari_em_seg.errors import EmSegError
from napari_em_seg.widgets import demo


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = pipeline.sample_volumes((6, 128, 128))
    monkeypatch.setattr(pipeline, "sample_volumes", lambda: volumes)


def test_it_leaves_pictures_and_a_report(tmp_path: Path, small_sample: None, qtbot) -> None:
    said: list[str] = []
    demo.run_demo(tmp_path / "out", said.append)
    scores = json.loads((tmp_path / "out" / "measures.json").read_text())
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"{scores['adapted_rand_error']:.3f}" in report
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 10
    review = json.loads((tmp_path / "out" / "review.json").read_text())
    assert review["errors"][-1] <= review["errors"][0]
    assert f"after {len(review['errors']) - 1} verdicts" in " ".join(report.split())
    assert any("objects, adapted Rand error" in line for line in said)
    for picture in pictures:
        assert picture.name in report
        assert np.asarray(Image.open(picture)).std() > 5  # something is drawn
    assert any("adapted Rand" in line for line in said)


def test_without_a_screen_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(EmSegError, match="make demo"):
        demo.run_demo(tmp_path, lambda _: None)
