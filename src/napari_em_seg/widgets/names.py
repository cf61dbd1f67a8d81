"""Names of files, as docks make them from names of layers."""

__all__ = ["CONTAINERS", "as_file_name"]

CONTAINERS = (".zarr", ".n5", ".emseg", ".precomputed", ".slices")
"""Endings of folders that are volumes or sessions, in which nothing else is to be put."""


def as_file_name(name: str, otherwise: str) -> str:
    """Return a name as a file may have it; another one where nothing of it can stay."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return kept.strip("-.") or otherwise
