"""What importing costs, and that the core knows nothing of Qt."""

import subprocess
import sys

import pytest

BLOCK_QT = """
import sys
class Blocker:
    blocked = {"qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "napari", "magicgui", "superqt", "vispy"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            raise ImportError(f"the core imports {name}")
sys.meta_path.insert(0, Blocker())
import importlib, pkgutil, napari_em_seg
names = [m.name for m in pkgutil.walk_packages(napari_em_seg.__path__, "napari_em_seg.",
         onerror=lambda name: None) if not m.name.startswith("napari_em_seg.widgets")]
assert len(names) > 20, names
for name in names:
    importlib.import_module(name)
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_core_module_imports_without_qt_napari_and_magicgui() -> None:
    result = run_python(BLOCK_QT)
    assert result.returncode == 0, result.stderr


def test_the_block_itself_works() -> None:
    """Else the test above could not fail."""
    result = run_python(BLOCK_QT + "import napari_em_seg.widgets.reader")
    assert result.returncode != 0
    assert "the core imports napari" in result.stderr


@pytest.mark.parametrize(
    "module", ["napari_em_seg", "napari_em_seg.cli", "napari_em_seg.io", "napari_em_seg.pipeline"]
)
def test_importing_loads_neither_torch_nor_qt(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'qtpy', 'PyQt6', 'napari'}} & set(sys.modules)))"
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import napari_em_seg;"
        "print({m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    assert run_python(code).stdout.strip() == "{'napari_em_seg'}"
