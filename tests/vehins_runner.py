"""The command line as the tests call it, and what they look at afterwards."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import typer

import vehins
from vehins.cli import main
from vehins.data import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# Each call of the command makes the tree of all commands from their functions. A process calls it once; a test often.
typer.main.get_command = cache(typer.main.get_command)

WORKSPACE = Path(".vehins")
STAGES = ("ingest", "validate", "transform", "train", "evaluate", "push")
KINDS = ("Dataset", "Validation", "FeatureSet", "TrainedModel", "Evaluation", "PushedModel")
# Small enough to be quick, large enough for the gate to accept the model.
SETTINGS = """source = "demo://?rows=3000"
[train]
max_rounds = 20
baseline_rows = 1000
[gate]
max_calibration_error = 0.2
min_slice_positives = 20
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error in that object."""
        return self.json["error"]

    @property
    def statuses(self) -> dict[str, str]:
        """How each stage went."""
        return {stage["stage"]: stage["status"] for stage in self.json["stages"]}

    @property
    def reasons(self) -> dict[str, str]:
        """Why each stage went so."""
        return {stage["stage"]: stage["reason"] for stage in self.json["stages"]}


class Vehins:
    """Calls the command in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capfd, self._patch = capfd, patch

    def __call__(self, *words: object, code: int = 0) -> Answer:
        """Run ``vehins words...``, which must end with ``code``."""
        self._capfd.readouterr()
        self._patch.setattr(sys, "argv", ["vehins", *map(str, words)])
        ended = call_main()
        found = self._capfd.readouterr()
        assert ended == code, f"exit code {ended}\n{found.out}\n{found.err}"
        return Answer(ended, found.out, found.err)

    def run(self, *words: object, code: int = 0) -> Answer:
        """Run ``vehins pipeline run --json words...``."""
        return self("pipeline", "run", "--json", *words, code=code)


def call_main() -> int:
    """Call the entry point; return its exit code."""
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("main() returned")


@contextmanager
def in_folder(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """Work in a folder, with the small settings and without those of the caller's environment."""
    for name in vehins_variables():
        patch.delenv(name)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):  # of the job that runs the tests
        patch.delenv(name, raising=False)
    folder.joinpath("vehins.toml").write_text(SETTINGS)
    patch.chdir(folder)
    yield folder


def child_environment(**more: str) -> dict[str, str]:
    """Variables for a process of its own: those of this one without settings, and where vehins is."""
    left_out = {
        *vehins_variables(),
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "ARGS",
    }  # the last of a make that runs the tests
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PYTHONPATH": str(Path(vehins.__file__).parents[1]), **more}


def vehins_variables() -> list[str]:
    """Variables of the environment that are settings."""
    return [name for name in os.environ if name.startswith("VEHINS_") and not name.startswith("VEHINS_TEST_")]


def all_are(status: str, answer: Answer) -> bool:
    """Whether all six stages went so."""
    return answer.statuses == dict.fromkeys(STAGES, status)


def folders(kind: str, workspace: Path = WORKSPACE) -> list[Path]:
    """Folders of the artifacts of a kind, the oldest first."""
    return sorted((workspace / "artifacts" / kind).iterdir())


def manifest(kind: str, workspace: Path = WORKSPACE) -> dict[str, Any]:
    """The newest manifest of a kind."""
    return json.loads((folders(kind, workspace)[-1] / "manifest.json").read_bytes())


def contents(workspace: Path = WORKSPACE) -> dict[str, str]:
    """Content digest of the newest artifact of each kind."""
    return {kind: manifest(kind, workspace)["content"] for kind in KINDS}


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below ``root``, with its size and time of change."""
    marks = {path.relative_to(root).as_posix(): path.lstat() for path in root.rglob("*")}
    return {name: (mark.st_size, mark.st_mtime_ns) for name, mark in marks.items()}


def customers(rows: int = 3000) -> pl.DataFrame:
    """Rows like those of the demo source."""
    return pl.concat(demo.batches(rows, 1))


# --- The registry, read without the help of the code under test -----------------------------------------------------

MODEL = Path("registry", "models", "vehicle-insurance")


def production(workspace: Path = WORKSPACE) -> int | None:
    """The version in production."""
    path = workspace / MODEL / "aliases" / "production.json"
    return json.loads(path.read_bytes())["version"] if path.exists() else None


def production_history(workspace: Path = WORKSPACE) -> list[dict[str, Any]]:
    """The moves of the alias, the oldest first."""
    moves = [json.loads(path.read_bytes()) for path in (workspace / MODEL / "history").rglob("*.json")]
    moves.append(json.loads((workspace / MODEL / "aliases" / "production.json").read_bytes()))
    return [move for _, move in sorted({move["sequence"]: move for move in moves}.items())]


def versions(workspace: Path = WORKSPACE) -> list[int]:
    """The versions that are whole."""
    return sorted(int(path.parent.name) for path in (workspace / MODEL / "versions").glob("*/manifest.json"))
