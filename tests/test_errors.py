"""The tree of errors is the one that its documentation draws, and says what a person and a script need."""

from __future__ import annotations

import errno
import re

import pytest

from vehins import errors
from vehins.errors import StorageError, VehinsError, storage_error


def all_errors() -> list[type[VehinsError]]:
    found = [VehinsError]
    for error in found:
        found += error.__subclasses__()
    return [error for error in found if error.__module__ == errors.__name__]


def drawn() -> dict[str, tuple[str, int]]:
    """Name -> (parent, exit code), as the docstring of the module draws them."""
    tree: dict[str, tuple[str, int]] = {}
    branch, code = "", 0
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    (?:([│ ]) +)?(?:[├└]── )?(\w+Error)\b *(\d+)?", line)
        if not found:
            continue
        is_leaf, name, number = found.groups()
        if number:
            code = int(number)
            parent, branch = ("Exception" if not tree else "VehinsError"), name
        else:
            assert is_leaf
            parent = branch
        tree[name] = (parent, code)
    return tree


def test_the_drawing_is_the_tree():
    assert drawn() == {error.__name__: (error.__mro__[1].__name__, error.exit_code) for error in all_errors()}


def test_exit_codes_are_those_that_scripts_rely_on():
    codes = {error.exit_code: error.__name__ for error in reversed(all_errors()) if len(error.__mro__) <= 5}
    assert codes == {
        1: "VehinsError",
        2: "UsageError",
        3: "ConfigurationError",
        4: "DataError",
        5: "GateRefusedError",
        6: "UnreachableError",
        7: "LockedError",
        130: "InterruptedRunError",
    }


@pytest.mark.parametrize("error", all_errors())
def test_an_error_has_three_lines_and_a_number(error):
    raised = error("What happened", detail="the value", hint="the command")
    assert str(raised) == "What happened"
    assert raised.as_dict() == {
        "headline": "What happened",
        "detail": "the value",
        "hint": "the command",
        "exit_code": error.exit_code,
    }
    assert error.__doc__


def test_detail_and_hint_may_be_absent():
    assert VehinsError("x").as_dict() == {"headline": "x", "detail": "", "hint": "", "exit_code": 1}


FAULTS = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EROFS: "The disk is read-only",
    errno.EACCES: "Permission denied",
    errno.EPERM: "Permission denied",
    errno.ENOTDIR: "A file stands where a folder is needed",
}


@pytest.mark.parametrize(("number", "headline"), FAULTS.items())
def test_what_the_disk_says_is_told_with_the_file(number, headline):
    found = storage_error(OSError(number, "in the system's words", "/data/a.txt"))
    assert isinstance(found, StorageError)
    assert (found.headline, found.detail) == (headline, "While writing /data/a.txt.")
    assert found.hint


@pytest.mark.parametrize(
    ("text", "headline"),
    [
        ("No space left on device (os error 28)", "The disk is full"),
        ("polars: io error: Os Error 28\nmore", "The disk is full"),
        ("Read-only file system", "The disk is read-only"),
    ],
)
def test_what_a_library_wraps_is_understood(text, headline):
    found = storage_error(RuntimeError(text))
    assert found is not None
    assert (found.headline, found.detail) == (headline, text.splitlines()[0])


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone", "a"), ValueError("x"), OSError("no number"), RuntimeError("")]
)
def test_what_is_no_fault_of_the_disk_is_left_alone(error):
    assert storage_error(error) is None
