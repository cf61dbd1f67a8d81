"""What tests of several folders share."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings

from napari_em_seg.sample import generate
from napari_em_seg.volume import Volume

settings.register_profile("no clock", deadline=None)  # how long an example takes is no matter of tests
settings.load_profile("no clock")

SCREENS, OPEN = contextlib.ExitStack(), list[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """Start a screen for each of the processes that share the tests: windows would take each other's focus."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores wait for each other
    if shutil.which("Xvfb"):
        script = importlib.util.spec_from_file_location(
            "with_display", Path(__file__).parents[1] / "scripts" / "with_display.py"
        )
        module = importlib.util.module_from_spec(script)
        script.loader.exec_module(module)
        OPEN.extend(SCREENS.enter_context(module.virtual_screen()) for _ in specs)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand one of the screens to a process."""
    node.workerinput["screen"] = OPEN.pop() if OPEN else None


def pytest_configure(config: pytest.Config) -> None:
    """Take that screen, in one of the processes; let napari leave the settings of whoever tests alone."""
    screen = getattr(config, "workerinput", {}).get("screen")
    if screen:
        os.environ["DISPLAY"] = screen
    os.environ["NAPARI_CONFIG"] = str(Path(SCREENS.enter_context(TemporaryDirectory())) / "settings.yaml")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the screens go."""
    SCREENS.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real volumes (EM_SEG_DATA, else ``shared/data`` beside the repository); skips without it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EM_SEG_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@dataclass(frozen=True)
class Tissue:
    """A little synthetic tissue, in memory and as a file."""

    raw: Volume
    labels: Volume
    file: Path


@pytest.fixture(scope="session")
def small_tissue(tmp_path_factory: pytest.TempPathFactory) -> Tissue:
    """Eight slices of 64×64, with their truth; ``file`` holds ``raw`` and ``labels``."""
    from napari_em_seg.io import write_volumes

    sample = generate((8, 64, 64), seed=1)
    raw = Volume(sample.raw, sample.voxel_size_nm, "raw")
    labels = Volume(sample.labels, sample.voxel_size_nm, "labels", kind="labels")
    file = tmp_path_factory.mktemp("tissue") / "tissue.zarr"
    write_volumes({"raw": raw, "labels": labels}, file)
    return Tissue(raw, labels, file)


@pytest.fixture
def models_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder of models, empty; none come with the package."""
    from napari_em_seg.predict import weights

    folder = tmp_path_factory.mktemp("models")
    monkeypatch.setenv("EM_SEG_MODELS", str(folder))
    monkeypatch.setattr(weights, "bundled_folder", lambda: folder / "bundled")
    return folder


@pytest.fixture
def put_model(models_folder: Path) -> Callable[..., Path]:
    """Put a model with random weights into the user's folder: its name, its seed, and what its card says."""

    def put(name: str, seed: int = 0, n_slices: int = 1, **said: Any) -> Path:
        import torch

        from napari_em_seg.predict.registry import build
        from napari_em_seg.predict.weights import Card, save_weights

        torch.manual_seed(seed)
        arguments = {"base_channels": 2, "levels": 2}
        net = build(f"unet-small-s{n_slices}", **arguments)
        with torch.no_grad():
            net(torch.randn(2, n_slices, 64, 64))  # fills the statistics of the batch norms
            net.head.weight *= 9 / net.head.weight.norm()  # type: ignore[operator]  # else all is about 0.5
            net.head.bias -= net.eval()(torch.randn(2, n_slices, 64, 64)).median()  # type: ignore[operator]
        described = {
            "architecture": f"unet-small-s{n_slices}",
            "kernel": "l3",
            "voxel_size_nm": (30.0, 6.0, 6.0),
            "tissue": "none",
            "data": ("nothing",),
            "licence": "CC0",
            "normalisation": "volume",
            **said,
        }
        path = models_folder / f"{name}.safetensors"
        save_weights(path, net, Card(name=name, n_slices=n_slices, arguments=arguments, **described))
        return path

    return put


@pytest.fixture
def put_affinity_model(models_folder: Path) -> Callable[[str], None]:
    """Put a model for affinities with random weights into the user's folder."""

    def put(name: str) -> None:
        import torch

        from napari_em_seg.predict.registry import build
        from napari_em_seg.predict.weights import Card, save_weights

        torch.manual_seed(1)
        arguments = {"channels": (2, 4), "depths": ((3, 1), (3, 1)),
                     "offsets": ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0))}  # fmt: skip
        net = build("affinity-unet-small", **arguments)
        with torch.no_grad():
            net(torch.randn(2, 1, 5, 64, 64))  # fills the statistics of the batch norms
            net.head.weight *= 9 / net.head.weight.norm()  # type: ignore[operator]
        card = Card(name, "affinity-unet-small", None, None, (30.0, 6.0, 6.0), "none", ("nothing",), "CC0",
                    arguments, normalisation="volume", task="affinity")  # fmt: skip
        save_weights(models_folder / f"{name}.safetensors", net.eval(), card)

    return put


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run the command line in this process, which saves the time of starting another."""
    from napari_em_seg.cli import main

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["napari-em-seg", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
        out, err = capsys.readouterr()
        return Said(int(code or 0), out, err)

    return run
