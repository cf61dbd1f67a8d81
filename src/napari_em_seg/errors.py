"""Every error that a user can meet; its message says what came, what was expected and what to do."""

from typing import Self

__all__ = [
    "AmbiguousSourceError",
    "Cancelled",
    "DataError",
    "EmSegError",
    "FormatError",
    "SourceNotFoundError",
    "SourcePermissionError",
    "TargetExistsError",
]


class EmSegError(Exception):
    """Base of all errors that napari-em-seg raises on purpose.

    Parameters
    ----------
    came
        What was met, with its place: "cell.tif holds one 2-D image (512×512)".
    expected
        What would have been right: "a stack of slices (z, y, x)".
    do
        What the user can do about it: "Give the folder that holds all slices".
    """

    def __init__(self, came: str, expected: str, do: str) -> None:
        self.came = came
        self.expected = expected
        self.do = do
        super().__init__(f"{came}. Expected {expected}. {do}.")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str]]:
        """Pickle the three parts, so that an error crosses processes whole."""
        return type(self), (self.came, self.expected, self.do)


class FormatError(EmSegError, ValueError):
    """A file is damaged, or is not what its name says."""


class DataError(EmSegError, ValueError):
    """The numbers are of the wrong shape, type or value."""


class AmbiguousSourceError(EmSegError, ValueError):
    """Several arrays could be meant, and guessing would be wrong."""


class SourceNotFoundError(EmSegError, FileNotFoundError):
    """There is nothing at that path."""


class SourcePermissionError(EmSegError, PermissionError):
    """The operating system does not let us read or write there."""


class TargetExistsError(EmSegError, FileExistsError):
    """Writing would replace something that is there already."""


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The caller asked to stop."""
