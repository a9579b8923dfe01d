"""What `vehins` says of itself, and that it says so at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_tree import COMMANDS, commands
from vehins_runner import child_environment

import vehins as package

if TYPE_CHECKING:
    from vehins_runner import Vehins

HEAVY = (
    "jinja2",
    "pygal",
    "polars",
    "numpy",
    "sklearn",
    "scipy",
    "lightgbm",
    "boto3",
    "pymongo",
    "fastapi",
    "pydantic_settings",
    "pydantic",
)
COMMON = {"--json", "--quiet", "-q", "--debug", "--workspace", "-w", "--config", "-c", "--set"}


def python(place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    variables = child_environment(**environment)
    return subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)


LOADED = """
import atexit, json, sys
atexit.register(lambda: sys.stderr.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules}))))
sys.argv = ["vehins", *sys.argv[1:]]
from vehins.cli import main
main()
"""


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("train", "-h"), ("pipeline", "run", "--help")])
def test_help_imports_nothing_heavy(words: tuple[str, ...], place: Path) -> None:
    done = python(place, "-c", LOADED, *words)
    assert done.returncode == 0
    assert "vehins" in done.stdout
    loaded = set(json.loads(done.stderr))
    assert "vehins" in loaded
    # To read the options of a command, typer itself takes pydantic.
    allowed = set() if words[0].startswith("--") else {"pydantic"}
    assert loaded & set(HEAVY) <= allowed


def test_the_version(vehins: Vehins) -> None:
    assert vehins("--version").out == f"vehins {package.__version__}\n"


@pytest.mark.parametrize("words", [("--version",), ("config", "show", "--json")])
def test_the_package_is_the_command(words: tuple[str, ...], place: Path, vehins: Vehins) -> None:
    done = python(place, "-m", "vehins", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, vehins(*words).out, "")


def test_help_names_the_command_however_it_is_called(place: Path) -> None:
    assert "Usage: vehins train " in python(place, "-m", "vehins", "train", "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_completion(shell: str, place: Path) -> None:
    done = python(place, "-m", "vehins", _VEHINS_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert f"_VEHINS_COMPLETE=complete_{shell}" in done.stdout


def test_completion_completes(place: Path) -> None:
    asked = {"_VEHINS_COMPLETE": "complete_bash", "COMP_WORDS": "vehins pipeline p", "COMP_CWORD": "2"}
    done = python(place, "-m", "vehins", **asked)
    assert done.stdout.split() == ["plan"]


def test_show_completion_is_offered(vehins: Vehins) -> None:
    assert "--show-completion" in vehins("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    command = commands()[name]
    taken = {option for parameter in command.params for option in parameter.opts}
    assert taken >= COMMON


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name: str, vehins: Vehins) -> None:
    command = commands()[name]
    assert command.help.endswith(".")
    assert all(parameter.help for parameter in command.params)
    shown = vehins(*name.split(), "--help").out
    assert f"Usage: vehins {name} " in shown
    assert "Common options" in shown


def test_the_common_options_reach_every_command(vehins: Vehins, tmp_path: Path) -> None:
    """--config, --set and --workspace, from the weakest to the strongest."""
    other = tmp_path / "other.toml"
    other.write_text('workspace = "from-file"\nalias = "from-file"\n[train]\nseed = 5\n')
    words = ("--config", other, "--set", "alias=from-flag", "-w", "from-option", "--json")
    shown = {
        line["name"]: (line["value"], line["origin"]) for line in vehins("config", "show", *words).json["settings"]
    }
    assert shown["workspace"] == ("from-option", "flag")
    assert shown["alias"] == ("from-flag", "flag")
    assert shown["train.seed"] == (5, str(other))
    assert shown["train.max_rounds"] == (1000, "default")


def test_hints_name_commands_and_options_that_exist() -> None:
    """Every `vehins ...` in a message of the package is a command line that typer takes."""
    root = Path(package.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    found = {match for text in texts.values() for match in re.findall(r"`vehins ([a-z][^`{}\n]*?)`", text)}
    assert len(found) > 10
    known = commands()
    for line in found - {"COMMAND --help"}:
        words = re.split(r"\s+", line.split("`")[0])
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
        if name is None:
            assert any(command.startswith(words[0]) for command in known), line
            continue
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert options <= {option for parameter in known[name].params for option in parameter.opts}, line
