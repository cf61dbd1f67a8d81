"""Errors: each is ours, a builtin kind, says three things, and crosses processes."""

import copy
import pickle

import pytest

from napari_em_seg import errors
from napari_em_seg.errors import EmSegError

KINDS = {
    "FormatError": ValueError,
    "DataError": ValueError,
    "AmbiguousSourceError": ValueError,
    "SourceNotFoundError": FileNotFoundError,
    "SourcePermissionError": PermissionError,
    "TargetExistsError": FileExistsError,
}


def test_every_public_error_is_checked_here():
    assert set(errors.__all__) == {*KINDS, "EmSegError", "Cancelled"}


def test_to_cancel_is_no_error():
    assert not issubclass(errors.Cancelled, EmSegError)


@pytest.mark.parametrize(("name", "builtin"), KINDS.items())
def test_is_ours_and_a_builtin_kind(name, builtin):
    kind = getattr(errors, name)
    assert issubclass(kind, EmSegError)
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("name", [*KINDS, "EmSegError"])
def test_message_says_what_came_what_was_expected_and_what_to_do(name):
    error = getattr(errors, name)("a.tif is 2-D", "a stack", "Give the folder")
    assert str(error) == "a.tif is 2-D. Expected a stack. Give the folder."
    assert (error.came, error.expected, error.do) == ("a.tif is 2-D", "a stack", "Give the folder")


@pytest.mark.parametrize("name", [*KINDS, "EmSegError"])
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_survives_pickling_and_copying(name, copied):
    error = getattr(errors, name)("came", "expected", "do")
    again = copied(error)
    assert type(again) is type(error)
    assert (str(again), again.came, again.expected, again.do) == (str(error), "came", "expected", "do")
