"""Sample data in napari's File menu: synthetic tissue, and openers for data sets that lie on this computer."""

from napari_em_seg import pipeline
from napari_em_seg.io.data_sets import open_data_set
from napari_em_seg.widgets.layers import LayerData, to_layer_data

__all__ = ["ac4", "cremi", "isbi2012", "medulla", "tissue", "tissue_with_truth", "vnc"]


def tissue() -> list[LayerData]:
    """Synthetic tissue without its truth."""
    raw, _ = pipeline.sample_volumes()
    return [to_layer_data(raw)]


def tissue_with_truth() -> list[LayerData]:
    """Synthetic tissue and its truth."""
    return [to_layer_data(volume) for volume in pipeline.sample_volumes()]


def ac4() -> list[LayerData]:
    """Mouse cortex (SNEMI3D training volume)."""
    return _local("ac4")


def isbi2012() -> list[LayerData]:
    """Drosophila larva (ISBI 2012 challenge)."""
    return _local("isbi2012")


def vnc() -> list[LayerData]:
    """Drosophila ventral nerve cord."""
    return _local("vnc")


def medulla() -> list[LayerData]:
    """Drosophila medulla, isotropic FIB-SEM."""
    return _local("medulla")


def cremi() -> list[LayerData]:
    """Adult Drosophila brain (CREMI challenge)."""
    return _local("cremi")


def _local(name: str) -> list[LayerData]:
    """Open a data set; maps beside the image are there, but do not hide it."""
    layers = [to_layer_data(volume) for volume in open_data_set(name)]
    for _, options, layer_type in layers[1:]:
        options["visible"] = layer_type == "labels"
    return layers
