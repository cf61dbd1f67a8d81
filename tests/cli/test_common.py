"""What commands share: how ranges of slices are written."""

import pytest

from napari_em_seg.cli.common import as_slices
from napari_em_seg.errors import DataError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, slice(None)),
        ("3:7", slice(3, 7)),
        (":7", slice(None, 7)),
        ("3:", slice(3, None)),
        (":", slice(None)),
        ("0:1", slice(0, 1)),
    ],
)
def test_a_range_of_slices_is_read(text, expected) -> None:
    assert as_slices(text) == expected


@pytest.mark.parametrize("text", ["", "3", "a:b", "1:2:3", "-3:", "1-5", "1,5", "1.5:3"])
def test_anything_else_is_refused(text) -> None:
    with pytest.raises(DataError, match="A:B"):
        as_slices(text)
