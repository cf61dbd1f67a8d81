"""Well-known data sets on the user's computer: where they are looked for, and how they are opened."""

import os
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from napari_em_seg.errors import SourceNotFoundError
from napari_em_seg.io import open_volume
from napari_em_seg.volume import Kind, Volume, VoxelSize

__all__ = ["DATA_SETS", "DataSet", "data_folder", "open_data_set", "tissue_of"]


@dataclass(frozen=True)
class DataSet:
    """A published volume: file patterns below the data folder, and what its files do not say themselves.

    Parameters
    ----------
    title
        What it is.
    parts
        Layer name, kind and file patterns, the first that matches; a part that is missing is left out,
        except the first, which is the image.
    voxel_size_nm
        As published, where the files themselves carry none.
    tissue
        Of what, and how it was imaged, in the words of the model cards.
    """

    title: str
    parts: tuple[tuple[str, Kind, tuple[str, ...]], ...]
    voxel_size_nm: VoxelSize | None = None
    tissue: str = ""


DATA_SETS = {
    "ac4": DataSet(
        "AC4, mouse cortex (Kasthuri et al. 2015; SNEMI3D training volume)",
        (("raw", "image", ("ac4*.h5",)), ("neuron_ids", "labels", ("ac4*.h5",))),
        tissue="mouse neocortex, serial-section SEM",
    ),
    "isbi2012": DataSet(
        "ISBI 2012, Drosophila larva (Cardona et al. 2010)",
        (
            ("raw", "image", ("isbi2012*/raw.tif", "isbi2012*/train-volume.tif")),
            ("membranes", "image", ("isbi2012*/membranes.tif",)),
            ("neuron_ids", "labels", ("isbi2012*/neuron_ids.tif",)),
        ),
        (50.0, 4.0, 4.0),
        "Drosophila nerve cord, serial-section TEM",
    ),
    "vnc": DataSet(
        "Drosophila ventral nerve cord (Gerhard et al. 2013)",
        (
            ("raw", "image", ("vnc*/raw", "groundtruth-drosophila-vnc*/stack1/raw")),
            ("membranes", "image", ("vnc*/membranes", "groundtruth-drosophila-vnc*/stack1/membranes")),
        ),
        (50.0, 4.6, 4.6),
        "Drosophila nerve cord, serial-section TEM",
    ),
    "medulla": DataSet(
        "Drosophila medulla, FIB-SEM (FlyEM, Janelia)",
        (("raw", "image", ("medulla*.h5",)), ("neuron_ids", "labels", ("medulla*.h5",))),
        tissue="Drosophila medulla, FIB-SEM",
    ),
    "cremi": DataSet(
        "CREMI, adult Drosophila brain (Funke et al. 2016)",
        (("raw", "image", ("sample_*.hdf",)), ("neuron_ids", "labels", ("sample_*.hdf",))),
        tissue="Drosophila brain, serial-section TEM",
    ),
}


def data_folder() -> Path:
    """Return the folder that holds the user's data sets: ``EM_SEG_DATA``, else ``em-seg-data`` at home."""
    return Path(os.environ.get("EM_SEG_DATA") or Path.home() / "em-seg-data").expanduser()


def open_data_set(name: str) -> list[Volume]:
    """Open the parts of a data set that are there.

    Raises
    ------
    SourceNotFoundError
        Its image is not in the data folder.
    """
    data_set, folder = DATA_SETS[name], data_folder()
    volumes = []
    for part, kind, patterns in data_set.parts:
        matches = [match for pattern in patterns for match in sorted(folder.glob(pattern))]
        if matches:
            volume = open_volume(matches[0], kind)
            size = volume.voxel_size_nm or data_set.voxel_size_nm
            volumes.append(replace(volume, name=part, voxel_size_nm=size))
    if not volumes or volumes[0].name != data_set.parts[0][0]:
        raise SourceNotFoundError(
            f"{data_set.title} is not in {folder}",
            f"one of {', '.join(data_set.parts[0][2])} in it",
            "Put the data set there, or set the environment variable EM_SEG_DATA to the folder that holds it",
        )
    return volumes


def tissue_of(source: str) -> str:
    """Return the tissue of an image by where it was read from; nothing if that is no data set known here."""
    path = f"/{Path(source).as_posix()}/"
    for data_set in DATA_SETS.values():
        if any(fnmatch(path, f"*/{pattern}/*") for pattern in data_set.parts[0][2]):
            return data_set.tissue
    return ""
