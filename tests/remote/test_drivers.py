"""Drivers that are there, that are not, and that cannot start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vehins.errors import ConfigurationError
from vehins.remote.drivers import load_driver


def refused(module: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_driver(module, "extra-name")
    assert caught.value.exit_code == 3
    return caught.value


def test_a_driver_that_is_there() -> None:
    assert load_driver("sqlite3.dbapi2", "x") is sys.modules["sqlite3.dbapi2"]


def test_one_that_is_not_installed_names_its_extra() -> None:
    error = refused("no_such_driver")
    assert error.headline == "A driver is not installed"
    assert error.detail == "No module named 'no_such_driver'."
    assert error.hint == "Install it: `pip install 'vehins[extra-name]'`."


def test_a_part_of_it_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("half_a_driver.py").write_text("import no_such_other_half\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = refused("half_a_driver")
    assert error.detail == "No module named 'no_such_other_half'."
    assert "vehins[extra-name]" in error.hint


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libodbc.so.2: cannot open shared object file')", "libodbc.so.2"),
        ("import ctypes; ctypes.CDLL('libno-such.so.1')", "libno-such.so.1"),
    ],
)
def test_one_whose_native_part_cannot_be_loaded(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("native_driver.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    error = refused("native_driver")
    assert error.headline == "The driver native_driver cannot start"
    assert said in error.detail
    assert "system libraries" in error.hint
