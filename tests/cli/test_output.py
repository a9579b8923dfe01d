"""stdout is data, stderr is people: one object with --json, nothing with --quiet, a live line on a terminal alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import polars as pl
import pytest
from cli_tree import COMMANDS
from vehins_runner import STAGES, WORKSPACE, child_environment, customers, folders

from vehins.cli.command import command_line
from vehins.stages import ingest, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins_runner import Answer, Vehins

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
# A call of each command that succeeds in a finished workspace; `serve` does not end by itself.
GOOD = {
    **{stage: (stage,) for stage in STAGES},
    "load": ("load", "demo://?rows=50", "--to", "loaded.csv"),
    "predict": ("predict", "demo://?rows=50", "scores.csv"),
    "pipeline run": ("pipeline", "run"),
    "pipeline plan": ("pipeline", "plan"),
    "runs list": ("runs", "list"),
    "runs show": ("runs", "show"),
    "models list": ("models", "list"),
    "runs diff": ("runs", "diff", "last", "last"),
    "models show": ("models", "show"),
    "models promote": ("models", "promote", "1", "--alias", "trial"),
    "models rollback": ("models", "rollback"),
    "models history": ("models", "history"),
    "models restore": ("models", "restore"),
    "config show": ("config", "show"),
    "config schema": ("config", "schema"),
    "gc": ("gc",),
    "report": ("report",),
    "doctor": ("doctor",),
    "github": ("github", "train"),
    "cloud plan": ("cloud", "plan"),
    "cloud up": ("cloud", "up", "--yes"),
    "cloud status": ("cloud", "status"),
    "cloud deploy": ("cloud", "deploy", "1", "--image", "registry.example/vehins:1", "--here"),
    "cloud rollback": ("cloud", "rollback", "--here"),
    "cloud down": ("cloud", "down", "--yes"),
}
# What makes such a call possible.
BEFORE = {
    "models rollback": ("pipeline", "run", "--quiet", "--set", "train.seed=2", "--approve", "to go back from"),
    "cloud status": ("cloud", "up", "--yes", "--quiet"),
    "cloud down": ("cloud", "up", "--yes", "--quiet"),
}
# What a command asks for before it looks at any setting.
NEEDED = {
    "load": ("customers.csv", "--to", "loaded.csv"),
    "predict": ("customers.csv", "scores.csv"),
    "models promote": ("1",),
    "github": ("ingest",),
    "cloud deploy": ("1",),
}
# Settings of a stack without a machine, and a script that stands for that of the machine.
CLOUD = """[cloud]
stack = "{stack}"
region = "eu-central-1"
box = false
deploy_command = "./deploy"
"""
DEPLOY = """#!/bin/sh
echo starting >&2
echo '{"current": {"image": "registry.example/vehins:1", "model_version": 1}}'
"""


def test_every_command_is_called_here() -> None:
    assert sorted([*GOOD, "serve"]) == COMMANDS


def one_object(text: str) -> dict[str, Any]:
    found, end = json.JSONDecoder().raw_decode(text)
    assert text[end:] == "\n"
    assert isinstance(found, dict)
    return found


# --- One object ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(finished: Vehins, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Vehins:
    """The command in a finished workspace; one of the cloud finds a server that stands for AWS, and a script."""
    if request.node.callspec.params["name"].startswith("cloud "):
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("secrets_server"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        with Path("vehins.toml").open("a") as file:
            file.write(CLOUD.format(stack=f"t{uuid4().hex[:12]}"))
        Path("deploy").write_text(DEPLOY)
        Path("deploy").chmod(0o755)
    return finished


def called(name: str, finished: Vehins, *words: str) -> Answer:
    if name in BEFORE:
        finished(*BEFORE[name])
    return finished(*GOOD[name], *words)


@pytest.mark.parametrize("name", GOOD)
def test_json_is_one_object_on_stdout(name: str, ready: Vehins) -> None:
    assert "error" not in one_object(called(name, ready, "--json").out)


def check_report(report: dict[str, Any]) -> None:
    assert set(report) - {"error"} == {"run", "stages", "evaluation", "gate", "version", "report"}
    for stage in report["stages"]:
        assert list(stage) == ["stage", "status", "reason", "artifact", "manifest", "seconds"]
        assert stage["status"] in {"ran", "reused", "refused", "failed", "skipped"}
        assert stage["reason"]
        assert stage["seconds"] >= 0
        made = stage["status"] in {"ran", "reused", "refused"}
        assert made == (stage["artifact"] is not None) == (stage["manifest"] is not None)
        if made:
            kind, name = stage["artifact"].split("/")
            assert Path(stage["manifest"]) == WORKSPACE / "artifacts" / kind / name / "manifest.json"
            assert Path(stage["manifest"]).is_file()


def test_the_object_of_a_run(vehins: Vehins) -> None:
    for status in ("ran", "reused"):
        report = one_object(vehins.run().out)
        check_report(report)
        assert [(stage["stage"], stage["status"]) for stage in report["stages"]] == [(name, status) for name in STAGES]
        evaluation = report["evaluation"]
        assert set(evaluation) >= {"auc", "auc_low", "auc_high", "average_precision", "log_loss", "rows"}
        assert 0.5 < evaluation["auc_low"] < evaluation["auc"] < evaluation["auc_high"] < 1
        assert 500 < evaluation["rows"] < 700
        assert report["gate"]["verdict"] == "accept"
        assert all(set(rule) == {"name", "value", "bound", "verdict", "sentence"} for rule in report["gate"]["rules"])
        assert report["version"] == 1
        assert report["run"] == vehins("runs", "show", "--json").json["run"]


def test_the_object_of_a_run_that_was_refused(finished: Vehins) -> None:
    report = one_object(finished.run("--set", "train.seed=2", code=5).out)
    check_report(report)
    assert [stage["status"] for stage in report["stages"]][3:] == ["ran", "refused", "skipped"]
    assert report["gate"]["verdict"] == "refuse"
    assert report["evaluation"]["rows"] > 500
    assert report["version"] is None
    assert set(report["error"]) == {"headline", "detail", "hint", "exit_code"}


def test_the_object_of_a_run_that_failed(finished: Vehins) -> None:
    report = one_object(finished.run("--source", "nowhere.csv", code=6).out)
    check_report(report)
    assert [stage["status"] for stage in report["stages"]] == ["failed", *["skipped"] * 5]
    assert (report["evaluation"], report["gate"], report["version"]) == (None, None, None)
    assert report["error"]["exit_code"] == 6
    # What was there before is not mistaken for what this run made.
    assert all(stage["artifact"] is None for stage in report["stages"])


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_is_one_object_of_each_command(name: str, vehins: Vehins) -> None:
    answer = vehins(*name.split(), *NEEDED.get(name, ()), "--json", "--set", "train.learning_rat=0.1", code=3)
    assert list(one_object(answer.out)) == ["error"]
    assert answer.error == {
        "headline": "Unknown setting `train.learning_rat`",
        "detail": "Found in --set.",
        "hint": "Did you mean `train.learning_rate`? `vehins config show` lists all settings.",
        "exit_code": 3,
    }
    assert not WORKSPACE.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_so_is_a_wrong_option(name: str, vehins: Vehins) -> None:
    answer = vehins(*name.split(), "--no-such-option", "--json", code=2)
    assert list(one_object(answer.out)) == ["error"]
    assert answer.error["headline"].startswith("No such option: --no-such-option")
    assert answer.error["hint"] == f"`vehins {name} --help` shows how it is used."
    assert answer.error["exit_code"] == 2


@pytest.mark.parametrize(
    ("words", "headline"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("pipeline", "nonsense"), "No such command 'nonsense'"),
        (("ingset",), "No such command 'ingset'. Did you mean 'ingest'?"),
        (("runs", "list", "--limit", "0"), "Invalid value for '--limit'"),
        (("models", "show", "one"), "Invalid value for "),
        (("train", "--workspace"), "Option '--workspace' requires an argument"),
        (("train", "too", "many"), "Got unexpected extra argument"),
        (("train", "--set", "seed"), "`--set seed` does not say what to set to what"),
        (("train", "--set", "=1"), "`--set =1` does not say what to set to what"),
    ],
)
def test_what_makes_no_sense_is_told_in_both_forms(words: tuple[str, ...], headline: str, vehins: Vehins) -> None:
    options = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    told = vehins(*words[:options], "--json", *words[options:], code=2)
    assert told.error["headline"].startswith(headline)
    plain = vehins(*words, code=2)
    assert plain.out == ""
    assert plain.err.startswith(f"Error: {headline}")
    assert "\n  Try: " in plain.err


def test_without_a_command_there_is_help(vehins: Vehins) -> None:
    for words in ((), ("pipeline",), ("runs",)):
        assert "Commands" in vehins(*words, code=2).out


# --- People -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_quiet_is_quiet(name: str, ready: Vehins) -> None:
    answer = called(name, ready, "--quiet")
    assert answer.err == ""


def test_quiet_tells_errors_all_the_same(finished: Vehins) -> None:
    answer = finished("pipeline", "run", "-q", "--source", "nowhere.csv", code=6)
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert lines[0] == "Error: There is no file nowhere.csv"
    assert lines[-1].startswith("  Try: ")
    assert len(lines) == 3


def test_people_are_told_how_it_went(vehins: Vehins) -> None:
    answer = vehins("pipeline", "run")
    assert answer.out == ""  # nothing was asked for
    lines = answer.err.splitlines()
    assert [line.split()[:2] for line in lines[:6]] == [[stage, "ran"] for stage in STAGES]
    assert re.search(r"^Test AUC  0\.\d{4} \(95% interval 0\.\d{4} to 0\.\d{4}, \d{3} customers\)$", answer.err, re.M)
    assert re.search(r"^Top 10%   \d+\.\d% of all responses, \d\.\d times as many as chance$", answer.err, re.M)
    profit = next(line for line in lines if line.startswith("Profit "))
    calls = r"\d+ calls \(probability 0\.\d{4} or more\)"
    assert re.fullmatch(rf"Profit    -?\d+ from {calls}; as many at random: -?\d+, everybody: -?\d+", profit)
    assert re.search(r"^Gate      accepted\n          pass  The \d{3} rows scored are the test side", answer.err, re.M)
    assert "\nVersion   vehicle-insurance 1 (production), registered and promoted, in .vehins/registry\n" in answer.err
    assert "\nNext:\n  vehins serve " in answer.err
    assert "  vehins models show 1 " in answer.err


@pytest.mark.parametrize(
    ("called", "typed"),
    [
        ("vehins", "vehins"),
        ("bin/vehins", "vehins"),
        ("elsewhere/bin/vehins", "elsewhere/bin/vehins"),
        ("my tools/vehins", "'my tools/vehins'"),
        ("site-packages/vehins/__main__.py", "python -m vehins"),
    ],
)
def test_commands_are_told_as_one_can_type_them(
    called: str, typed: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bin/vehins", "elsewhere/bin/vehins", "my tools/vehins"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(place / "bin"))
    monkeypatch.setattr(sys, "argv", [called, "train", "--set", "alias=a b"])
    assert command_line() == f"{typed} train --set 'alias=a b'"


def test_a_stage_prints_its_manifest_and_nothing_else(finished: Vehins) -> None:
    assert finished("ingest").out == f"{folders('Dataset')[0] / 'manifest.json'}\n"


def test_listings_are_data(finished: Vehins) -> None:
    run = finished("runs", "list", "--json").json["runs"][0]
    assert run["run"] in finished("runs", "list").out
    shown = finished("runs", "show", run["run"][:12])
    assert shown.out.startswith(f"Run {run['run']}: completed\nvehins pipeline run")
    assert all(stage in shown.out for stage in STAGES)
    assert "production" in finished("models", "list").out
    assert "the first of its registry" in finished("models", "show", "1").out
    assert "train.learning_rate" in finished("config", "show").out
    assert "Vehicle_Damage" in finished("config", "schema").out


def test_what_is_not_there_is_said(finished: Vehins) -> None:
    assert "There is no run 1999 in the workspace" in finished("runs", "show", "1999", code=6).err
    assert "There is no version 7" in finished("models", "show", "7", code=6).err
    answer = finished("models", "show", "--model-name", "other", code=6)
    assert "No model is in production" in answer.err
    assert "Try: Make one: `vehins pipeline run`." in answer.err
    empty = ("-w", "empty")
    assert finished("runs", "list", "--json", *empty).json == {"runs": []}
    assert finished("models", "list", "--json", *empty).json["versions"] == []
    assert "no run yet" in finished("runs", "show", *empty, code=6).err
    assert not Path("empty").exists()


@pytest.mark.parametrize("name", GOOD)
def test_away_from_a_terminal_there_are_no_control_characters(name: str, ready: Vehins) -> None:
    answer = called(name, ready)
    assert not CONTROL.search(answer.out + answer.err)


def test_what_a_file_holds_cannot_steer_a_terminal(vehins: Vehins) -> None:
    customers(100).rename({"Age": "\x1bAge"}).write_csv("customers.csv")
    answer = vehins("pipeline", "run", "--source", "customers.csv", code=4)
    assert "column `Age` (is it `\\x1bAge`?)" in answer.err
    assert not CONTROL.search(answer.err)


def test_what_looks_like_markup_is_text(finished: Vehins) -> None:
    words = ("--set", "model_name=[/x]")
    assert "[/x]" in finished("config", "show", *words).out
    finished("pipeline", "run", "--set", "train.seed=2", "--approve", "[/b] and [red]")
    assert "--approve '[/b] and [red]'" in re.sub(r"\s+", " ", finished("runs", "list").out)
    assert "[/b] and [red]" in finished("models", "list").out


def test_letters_that_the_terminal_lacks(place: Path) -> None:
    for words in (["--json"], []):
        command = [sys.executable, "-m", "vehins", "config", "show", "--set", "alias=prodüction", *words]
        environment = child_environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        done = subprocess.run(command, check=True, env=environment, cwd=place, capture_output=True)
        assert (b"prod\\u00fcction" if words else b"prod\\xfcction") in done.stdout


def test_a_reader_who_goes_away_is_no_error(place: Path, finished: Vehins) -> None:
    """As in `vehins config show | head -1`, with and without Python's own buffer."""
    for unbuffered in ("", "1"):
        for words in (["config", "show"], ["config", "show", "--json"], ["runs", "list"]):
            command = [sys.executable, "-m", "vehins", *words]
            reading, writing = os.pipe()
            os.close(reading)
            done = subprocess.run(
                command,
                env=child_environment(PYTHONUNBUFFERED=unbuffered),
                cwd=place,
                stdout=writing,
                stderr=subprocess.PIPE,
                check=False,
            )
            os.close(writing)
            assert (done.returncode, done.stderr) == (0, b"")


# --- Tracebacks ---------------------------------------------------------------------------------------------------


def broken(error: Exception) -> Callable[..., Any]:
    def work(_: Any) -> Any:
        raise error

    return work


def replace_work(patch: pytest.MonkeyPatch, stage: Any, error: Exception) -> None:
    from vehins import pipeline

    stages = [
        type(stage)(**{**vars(found), "work": broken(error)}) if found is stage else found for found in pipeline.STAGES
    ]
    patch.setattr(pipeline, "STAGES", tuple(stages))


def check_bug(answer: Answer) -> None:
    assert "Error: A bug in vehins\n  ZeroDivisionError: 1 / 0\n  Try: See where: vehins pipeline run" in answer.err


def test_a_bug_is_told_without_a_traceback(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_work(monkeypatch, train.STAGE, ZeroDivisionError("1 / 0"))
    answer = vehins.run(code=1)
    assert answer.error["headline"] == "A bug in vehins"
    check_bug(answer)
    assert "Traceback" not in answer.err
    run = vehins("runs", "show", "--json").json
    assert (run["outcome"], run["exit_code"]) == ("failed", 1)
    assert [stage["status"] for stage in run["stages"]] == ["ran", "ran", "ran", "failed"]
    assert run["stages"][-1]["reason"] == "ZeroDivisionError"
    assert list((WORKSPACE / "drafts").iterdir()) == []


def test_debug_shows_where(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_work(monkeypatch, ingest.STAGE, ZeroDivisionError("1 / 0"))
    answer = vehins.run("--debug", code=1)
    assert answer.error["headline"] == "A bug in vehins"
    check_bug(answer)
    assert "Traceback" in answer.err
    assert "in work\n    raise error\nZeroDivisionError: 1 / 0" in answer.err


def test_debug_shows_where_an_error_came_from(vehins: Vehins) -> None:
    assert "Traceback" not in vehins.run("--source", "nowhere.csv", code=6).err
    answer = vehins.run("--source", "nowhere.csv", "--debug", code=6)
    assert "Traceback" in answer.err
    assert "vehins.errors.NotFoundError: There is no file nowhere.csv" in answer.err
    assert "Traceback" in vehins("models", "show", "--debug", code=6).err


# --- Terminals ----------------------------------------------------------------------------------------------------


def on_a_terminal(place: Path, *words: str, **environment: str) -> tuple[bytes, bytes]:
    """Run a command whose stderr is a terminal; return its stdout and what the terminal got."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vehins", *words]
    variables = {**child_environment(TERM="xterm", **environment)}
    with subprocess.Popen(command, cwd=place, env=variables, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not chunk:
                break
            seen += chunk
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, seen
    return printed, seen


@pytest.mark.skipif(sys.platform == "win32", reason="needs pty")
def test_progress_is_shown_on_a_terminal(place: Path, finished: Vehins) -> None:
    printed, seen = on_a_terminal(place, "pipeline", "run", "--json", "--force", "ingest")
    one_object(printed.decode())
    assert b"\x1b[" in seen
    live = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)
    assert re.search(rb"\r.*ingest +.*0:00:0\d", live)
    assert b"3,000 rows" in live or b"hashing and writing" in live
    assert b"Test AUC" in live
    # A line per stage is for logs; here the table follows.
    assert b"nothing it depends on has changed" not in live


@pytest.mark.skipif(sys.platform == "win32", reason="needs pty")
def test_the_doctor_shows_on_a_terminal_what_it_checks(place: Path) -> None:
    printed, seen = on_a_terminal(place, "doctor", "--json")
    assert one_object(printed.decode())["ok"]
    assert b"Checking installation: LightGBM" in seen
    assert b"Checking registry .vehins/registry: " in seen
    printed, seen = on_a_terminal(place, "doctor", "--quiet")
    assert b"LightGBM" in printed
    assert seen == b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs pty")
def test_quiet_is_quiet_on_a_terminal(place: Path, finished: Vehins) -> None:
    printed, seen = on_a_terminal(place, "ingest", "--quiet", "--force")
    assert printed.endswith(b"manifest.json\n")
    assert seen == b""


def test_columns_of_any_name_are_shown(vehins: Vehins) -> None:
    """A name with what rich, JSON and a terminal each treat in their own way."""
    name = '[bold]"é\u202e'
    customers(3000).with_columns(pl.lit(1).alias(name)).write_csv("customers.csv")
    answer = vehins("ingest", "--source", "customers.csv", "--json")
    made = json.loads(Path(answer.json["stages"][0]["manifest"]).read_bytes())
    assert made["result"]["extra_columns"] == [name]


def test_the_next_commands_find_what_this_one_made(vehins: Vehins) -> None:
    answer = vehins("pipeline", "run", "--registry", "the models", "-w", "elsewhere", "--model-name", "cars")
    shown = [line.split("  ")[1] for line in answer.err.partition("\nNext:\n")[2].splitlines()]
    where = "--workspace elsewhere --registry 'the models' --model-name cars"
    assert [line.partition(" --")[2] for line in shown[:2]] == [where.removeprefix("--")] * 2
    assert vehins(*shlex.split(shown[1])[1:], "--json").json["version"] == 1
