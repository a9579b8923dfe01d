"""A password in an address is in no output and in no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vehins_runner import WORKSPACE, customers

if TYPE_CHECKING:
    from vehins_runner import Vehins

SECRET = "s3cr3t"
ADDRESSES = (
    f"mongodb://user:{SECRET}@host/db",
    f"mongodb+srv://user:{SECRET}@host/db?retryWrites=true",
    f"mongodb://user:a/{SECRET}@host/db",
    f"mssql://host/db?user=me&password={SECRET}",
    f"redshift://user:{SECRET}@host:5439/db",
)


def check_nowhere(vehins: Vehins, *words: str, code: int) -> str:
    """Run a command; neither what it prints nor what it leaves behind has the secret. Return what it printed."""
    answer = vehins(*words, code=code)
    assert SECRET not in answer.out
    assert SECRET not in answer.err
    for path in Path().rglob("*"):
        assert SECRET not in path.name
        if path.is_file() and path.name not in {"vehins.toml", ".env"}:
            assert SECRET.encode() not in path.read_bytes(), path
    return answer.out + answer.err


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("more", [(), ("--json",), ("--debug",)])
def test_in_the_address_of_a_source(address: str, more: tuple[str, ...], vehins: Vehins) -> None:
    printed = check_nowhere(vehins, "pipeline", "run", "--source", address, *more, code=3)
    assert "Nothing reads a source like " in printed
    assert "***" in printed
    assert list((WORKSPACE / "runs").iterdir())  # there is a record that could have had it
    check_nowhere(vehins, "runs", "list", code=0)
    check_nowhere(vehins, "runs", "show", "--json", code=0)
    check_nowhere(vehins, "ingest", f"--source={address}", *more, code=3)
    check_nowhere(vehins, "pipeline", "plan", "--set", f"source={address}", *more, code=3)


def test_in_settings(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    address = ADDRESSES[0]
    Path("vehins.toml").write_text(f'source = "{address}"\n')
    check_nowhere(vehins, "pipeline", "run", code=3)
    assert "mongodb://user:***@host/db" in check_nowhere(vehins, "config", "show", code=0)
    Path("vehins.toml").unlink()
    Path(".env").write_text(f"VEHINS_SOURCE={address}\n")
    check_nowhere(vehins, "pipeline", "run", code=3)
    Path(".env").unlink()
    monkeypatch.setenv("VEHINS_SOURCE", address)
    check_nowhere(vehins, "pipeline", "run", "--json", code=3)
    check_nowhere(vehins, "config", "show", "--json", code=0)


@pytest.mark.parametrize("command", ["pipeline run", "evaluate", "push", "models list", "models show", "gc", "serve"])
def test_in_the_address_of_a_registry(command: str, finished: Vehins) -> None:
    for more in ((), ("--debug",)):
        words = (*command.split(), "--registry", f"https://user:{SECRET}@host/models", *more)
        assert "https://" in check_nowhere(finished, *words, code=3)


def test_in_a_setting_that_cannot_be(vehins: Vehins) -> None:
    check_nowhere(vehins, "train", "--set", f"train.seed={ADDRESSES[0]}", code=3)
    check_nowhere(vehins, "train", "--set", f"nonsense={ADDRESSES[0]}", code=3)


def test_while_another_process_waits(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the workspace writes down who it is, for others to read."""
    from vehins.artifacts import lock

    seen = []
    real = lock.write_atomically

    def spy(path: Path, data: bytes) -> None:
        seen.append(data)
        real(path, data)

    monkeypatch.setattr(lock, "write_atomically", spy)
    for words in (("pipeline", "run", "-s"), ("ingest", "-s"), ("-s",)):
        vehins(*words, ADDRESSES[0], code=2 if words == ("-s",) else 3)
    assert len(seen) == 2
    assert all(SECRET.encode() not in data for data in seen)


def test_in_a_bug(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    from vehins.data.sources import csv

    def fail(*_: object) -> None:
        raise RuntimeError(f"cannot connect to {ADDRESSES[0]}")

    customers(10).write_csv("customers.csv")
    monkeypatch.setattr(csv, "open_source", fail)
    for more in ((), ("--debug",), ("--json",)):
        assert "mongodb://user:***@host/db" in check_nowhere(vehins, "ingest", "-s", "customers.csv", *more, code=1)
