"""What is known of published data sets by their file names."""

import pytest

from napari_em_seg.io.data_sets import tissue_of


@pytest.mark.parametrize(
    ("source", "tissue"),
    [
        ("/data/ac4_z63-99.h5/volumes/raw", "mouse neocortex, serial-section SEM"),
        ("ac4.h5", "mouse neocortex, serial-section SEM"),
        ("/data/isbi2012_z00-14/raw.tif", "Drosophila nerve cord, serial-section TEM"),
        ("/data/vnc_z00-14/raw", "Drosophila nerve cord, serial-section TEM"),
        ("/data/medulla_fibsem_z000-124.h5/volumes/raw", "Drosophila medulla, FIB-SEM"),
        ("/data/sample_A.hdf/volumes/raw", "Drosophila brain, serial-section TEM"),
        ("/data/mac4.h5", ""),
        ("/data/mine/raw.tif", ""),
        ("", ""),
    ],
)
def test_the_tissue_of_known_data_sets_is_told_by_their_names(source, tissue) -> None:
    assert tissue_of(source) == tissue
