"""The manifest: everything it lists is there, and the top-level file is the package's."""

from pathlib import Path

from npe2 import PluginManifest

import napari_em_seg

ROOT = Path(__file__).parents[2]


def test_every_command_can_be_imported() -> None:
    manifest = PluginManifest.from_distribution("napari-em-seg")
    manifest.validate_imports()
    assert manifest.contributions.readers
    assert manifest.contributions.writers
    assert manifest.contributions.sample_data
    assert manifest.contributions.widgets


def test_the_top_level_manifest_is_a_link_to_the_packaged_one() -> None:
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.resolve() == Path(napari_em_seg.__file__).with_name("napari.yaml").resolve()
