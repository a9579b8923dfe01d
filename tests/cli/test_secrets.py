"""A password in an address is in no output and in no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vehins_runner import WORKSPACE, customers

if TYPE_CHECKING:
    from vehins_runner import Vehins

SECRET = "s3cr3t"
# Of kinds that nobody reads, so that none of them is looked for.
ADDRESSES = (
    f"cassandra://user:{SECRET}@host/db",
    f"cassandra+tls://user:{SECRET}@host/db?retryWrites=true",
    f"cassandra://user:a/{SECRET}@host/db",
    f"oracle://host/db?user=me&password={SECRET}",
    f"teradata://user:{SECRET}@host:5439/db",
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
    assert "cassandra://user:***@host/db" in check_nowhere(vehins, "config", "show", code=0)
    Path("vehins.toml").unlink()
    Path(".env").write_text(f"VEHINS_SOURCE={address}\n")
    check_nowhere(vehins, "pipeline", "run", code=3)
    Path(".env").unlink()
    monkeypatch.setenv("VEHINS_SOURCE", address)
    check_nowhere(vehins, "pipeline", "run", "--json", code=3)
    check_nowhere(vehins, "config", "show", "--json", code=0)


REGISTRY_COMMANDS = ["pipeline run", "evaluate", "push", "models list", "models show", "gc", "serve"]
REGISTRY_COMMANDS += ["models promote 1", "models rollback", "models history", "predict demo:// out.csv"]


@pytest.mark.parametrize("command", REGISTRY_COMMANDS)
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
        assert "cassandra://user:***@host/db" in check_nowhere(vehins, "ingest", "-s", "customers.csv", *more, code=1)


# --- Settings that are secret -------------------------------------------------------------------------------------

SETTING = "credentials.source_password"


def test_secret_settings_are_never_shown(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(*words: str) -> tuple[str, str]:
        check_nowhere(vehins, "config", "show", *words, code=0)
        lines = vehins("config", "show", "--json", *words).json["settings"]
        assert SECRET not in str(lines)
        found = next(line for line in lines if line["name"] == SETTING)
        return found["value"], found["origin"]

    assert shown() == (None, "default")
    assert shown("--set", f"{SETTING}={SECRET}") == ("***", "flag")
    Path("vehins.toml").write_text(f"[credentials]\nsource_password = '{SECRET}'\n")
    assert shown() == ("***", "vehins.toml")
    Path(".env").write_text(f"VEHINS_CREDENTIALS_SOURCE_PASSWORD={SECRET}\n")
    assert shown() == ("***", ".env")
    monkeypatch.setenv("VEHINS_CREDENTIALS_SOURCE_PASSWORD", SECRET)
    assert shown() == ("***", "environment")


@pytest.mark.parametrize(
    "line", [f"source_password = ['{SECRET}']", f"source_password = {{'{SECRET}' = 1}}", "source_password = 5303710"]
)
def test_nor_when_they_cannot_be(line: str, vehins: Vehins) -> None:
    Path("vehins.toml").write_text(f"[credentials]\n{line}\n")
    for command in (("train",), ("config", "show"), ("doctor",)):
        for more in ((), ("--json",), ("--debug",)):
            printed = check_nowhere(vehins, *command, *more, code=3)
            assert "5303710" not in printed
            assert "credentials.source_password" in printed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("train", "--set", f"credentials.source_pasword={SECRET}"), 3),
        (("train", "--set", f"credentials.password={SECRET}"), 3),
        (("train", ADDRESSES[0]), 2),
        (("train", f"--source-password={SECRET}"), 2),
        (("ingest", "--set", ADDRESSES[0]), 2),
        ((ADDRESSES[0],), 2),
        (("ingest", "--set", f"source={ADDRESSES[0]}", "--set", f"threads={ADDRESSES[0]}"), 3),
    ],
)
def test_in_a_command_line_that_makes_no_sense(words: tuple[str, ...], code: int, vehins: Vehins) -> None:
    for more in ((), ("--json",), ("--debug",)):
        check_nowhere(vehins, *words, *more, code=code)


@pytest.mark.parametrize("password", ["a b", "'", '"', "a&b", "a#b", "a?b", "a:b", "a/b", "$HOME", "a%2Fb", "漢字漢字"])
@pytest.mark.parametrize("form", ["-s {}", "--source={}", "--set source={}", "--set=source={}", "-s{}"])
def test_the_command_that_is_recorded(form: str, password: str, vehins: Vehins) -> None:
    """With a password of any signs, in each form in which an address is given."""
    from urllib.parse import quote

    planted = f"{SECRET}{password}{SECRET}"
    for written in (planted, quote(planted, safe="")):
        address = f"gopher://ana:{written}@db.example/sales?table=customers"
        check_nowhere(vehins, "ingest", *(word.format(address) for word in form.split(" ")), code=3)
        run = vehins("runs", "show", "--json").json
        assert "gopher://ana:***@db.example/sales?table=customers" in run["command"]


def test_what_the_chain_tells_to_type_next(vehins: Vehins) -> None:
    """After a failure, the command that goes on."""
    customers(200).drop("Gender").write_csv("customers.csv")
    words = ("--set", f"credentials.target_password={SECRET}", "--set", f"credentials.source_password={SECRET}")
    printed = check_nowhere(vehins, "pipeline", "run", "-s", "customers.csv", *words, code=4)
    assert "--set 'credentials.target_password=***'" in printed
