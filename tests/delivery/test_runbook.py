"""docs/operations.md: its commands run, one after the other, and print what it shows; its figures add up."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from github_runner import ROOT
from s3_client import S3Server
from server_process import HOST, answers, free_port, running
from vehins_runner import SETTINGS, child_environment, customers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)  # many processes, one after the other
TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ACCOUNT = "000000000000"
# Wants a machine in AWS, or is too long for this one; the file that runs it, and how it is spelt there.
ELSEWHERE = {
    "make setup": (".ci/run", "make setup"),
    "vehins cloud deploy production": ("tests/cloud", '"deploy"'),
    "vehins cloud deploy production --image TAG": ("tests/cloud", "--image"),
    "vehins cloud rollback": ("tests/cloud", '"rollback"'),
    "sudo vehins-deploy status": ("tests/delivery/test_box.py", '"status"'),
    "sudo vehins-deploy rollback": ("tests/delivery/test_box.py", '"rollback"'),
}


@dataclass(frozen=True)
class Shown:
    """A command of the document, and what the document says that it prints."""

    command: str
    lines: tuple[str, ...]


def shown() -> Iterator[Shown]:
    for block in re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            yield Shown(command, tuple(lines))


COMMANDS = list(shown())
FIRST = [
    one for number, one in enumerate(COMMANDS) if one.lines or one.command not in {c.command for c in COMMANDS[:number]}
]
HERE = [one for one in FIRST if one.command not in ELSEWHERE]


@pytest.fixture(scope="module")
def place(finished_once: Path, secrets_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an operator: small settings, a registry in a folder, and customers."""
    folder = tmp_path_factory.mktemp("operations")
    cloud = '[cloud]\nrepository = "OWNER/NAME"\nallowed_cidr = "203.0.113.0/24"\n'
    (folder / "vehins.toml").write_text(SETTINGS + cloud)
    shutil.copytree(finished_once / "registry", folder / ".vehins/registry")
    customers(3000).write_csv(folder / "customers.csv")
    customers(4000).tail(3500).write_csv(folder / "newer.csv")
    return folder


@pytest.fixture(scope="module")
def said(place: Path, secrets_server: str) -> dict[int, tuple[int, str]]:
    """Exit code and output of every command that runs here, in one shell, in the order of the document."""
    port = free_port()
    environment = child_environment(
        **S3Server(secrets_server).variables,
        PATH=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        VEHINS_CLOUD_ENDPOINT_URL=secrets_server,
        VEHINS_S3_ENDPOINT_URL=secrets_server,
        VEHINS_S3_PATH_STYLE="true",
        # Which resources no server here makes: a machine, and the account's trust in GitHub.
        VEHINS_CLOUD_BOX="false",
        VEHINS_CLOUD_OIDC_PROVIDER=f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
        VEHINS_CLOUD_STACK="runbook",
        ADDRESS=f"http://{HOST}:{port}",
    )
    script = place / "session.sh"
    script.write_text("".join(_lines(number, one) for number, one in enumerate(HERE)))
    served = place / "served.toml"
    served.write_text(SETTINGS)
    serve = [sys.executable, "-m", "vehins", "serve", "--port", str(port), "--config", str(served)]
    folder = [*serve, "--registry", str(place / ".vehins/registry")]
    with running(folder, place / "serve.log", lambda: answers(port), child_environment()):
        done = subprocess.run(
            ["bash", str(script)], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^#### (\d+)\n(.*?)^#### ended (\d+)$", done.stdout, flags=re.DOTALL | re.MULTILINE)
    return {int(number): (int(code), text) for number, text, code in found}


def _lines(number: int, one: Shown) -> str:
    """A command in the shell's script, with what the document leaves open filled in."""
    command = one.command.replace("BUCKET", "$BUCKET").replace("ADDRESS", "$ADDRESS")
    command = command.replace("REASON", "Because").replace("TOKEN=TOKEN", "TOKEN=TheTokenOfAnHour")
    ask = "BUCKET=${BUCKET:-$(vehins cloud status --json | grep -oE 'runbook-bucket-[0-9a-z]+' | head -n 1)}\n"
    before = ask if "$BUCKET" in command else ""
    return f"{before}echo '#### {number}'\n{{ {command}\n}} 2>&1\nprintf '\\n#### ended %d\\n' $?\n"


@pytest.mark.parametrize("number", range(len(HERE)), ids=[one.command for one in HERE])
def test_a_command_runs_and_prints_what_is_shown(said: dict[int, tuple[int, str]], number: int) -> None:
    code, text = said[number]
    assert code == 0, text
    for line in HERE[number].lines:
        if line.strip() != "...":
            assert re.search(_pattern(line), text, flags=re.MULTILINE), f"{line!r} is not in\n{text}"


def _pattern(line: str) -> str:
    """What a line of the document matches: figures and names differ, ``...`` is anything, blanks may be fewer."""
    for ours, here in (
        ("vehins-bucket", "runbook-bucket"),
        ("role/vehins-", "role/runbook-"),
        (" vehins: ", " runbook: "),
    ):
        line = line.replace(ours, here)
    line = re.sub(r"^(\d\d:\d\d:\d\d  |)vehins (?= |is gone)", r"\1runbook ", line)
    return r"^\s*" + r"\s+".join(map(_word, line.split()))


def _word(word: str) -> str:
    parts = re.split(r"(\.\.\.|\b[0-9A-Fa-f]{12,}\b|\d+)", word)
    loose = [
        ".*" if part == "..." else r"\d+" if part.isdecimal() and len(part) < 12 else "[0-9A-Za-z]+" for part in parts
    ]
    return "".join(loose[number] if number % 2 else re.escape(part) for number, part in enumerate(parts))


@pytest.mark.parametrize("command", sorted({one.command for one in COMMANDS} & set(ELSEWHERE)))
def test_what_does_not_run_here_runs_elsewhere(command: str) -> None:
    place, spelling = ELSEWHERE[command]
    path = ROOT / place
    files = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
    files = [file for file in files if file != Path(__file__)]
    if not files:
        pytest.skip(f"{place} is not there")
    assert any(spelling in file.read_text(encoding="utf-8") for file in files), f"{spelling} is nowhere in {place}"


def test_every_exception_is_of_the_document() -> None:
    assert set(ELSEWHERE) <= {one.command for one in COMMANDS}


def test_the_settings_of_the_document_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vehins import settings

    block = re.search(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "vehins.toml").write_text(block[1])
    monkeypatch.chdir(tmp_path)
    assert settings.load().settings.cloud.allowed_cidr == "203.0.113.0/24"


def test_the_variables_of_the_document_are_those_of_the_workflows() -> None:
    used: set[str] = set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        used |= set(re.findall(r"\b(?:vars|secrets)\.([A-Z_]+)", path.read_text(encoding="utf-8")))
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", TEXT))
    assert used <= named, used - named


def test_the_costs_add_up() -> None:
    rows = re.findall(r"^\| [^|*]+ \| ([^|]*\d[^|]*) \| (\d+\.\d\d) \| (\d+\.\d\d) \|$", TEXT, flags=re.MULTILINE)
    assert len(rows) == 10
    for formula, *found in rows:
        amount, _, prices = formula.partition(" \N{MULTIPLICATION SIGN} ")
        wanted = [float(price) for price in prices.split(" or ")]
        for price, cost in zip(wanted * (3 - len(wanted)), found, strict=True):
            assert round(float(amount) * price + 1e-9, 2) == float(cost), formula
    total = re.search(r"\*\*(\d+\.\d\d)\*\* \| \*\*(\d+\.\d\d)\*\*", TEXT)
    for column in (1, 2):
        assert round(sum(float(row[column]) for row in rows), 2) == float(total[column])


def test_the_alarms_are_those_of_the_stack() -> None:
    template = (ROOT / "vehins/cloud/stack.yaml").read_text(encoding="utf-8")
    made = set(re.findall(r"AlarmName: !Sub \$\{AWS::StackName\}-(\w+)", template))
    assert set(re.findall(r"^\| `vehins-(\w+)` \|", TEXT, flags=re.MULTILINE)) == made
