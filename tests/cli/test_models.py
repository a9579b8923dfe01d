"""`vehins models`: which version is in use, moved by hand, with actor, time and reason; no move is lost in a race."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from vehins_runner import (
    MODEL,
    WORKSPACE,
    Vehins,
    call_main,
    child_environment,
    in_folder,
    production,
    production_history,
    tree,
)

if TYPE_CHECKING:
    from vehins_runner import Answer


@pytest.fixture(scope="module")
def three_versions(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry has three versions, the last in production; not to be changed."""
    with pytest.MonkeyPatch.context() as patch, in_folder(patch, tmp_path_factory.mktemp("three")) as folder:
        shutil.copytree(finished_once, WORKSPACE)
        for seed in (2, 3):
            words = ["--set", f"train.seed={seed}", "--approve", "for the tests"]
            patch.setattr(sys, "argv", ["vehins", "pipeline", "run", "--quiet", *words])
            assert call_main() == 0
        return folder / WORKSPACE


@pytest.fixture
def models(three_versions: Path, vehins: Vehins) -> Vehins:
    """The command in a folder whose workspace is a copy of that one."""
    shutil.copytree(three_versions, WORKSPACE)
    return vehins


def moves(models: Vehins, *words: str) -> list[dict[str, Any]]:
    """The history as the command tells it, the oldest first."""
    return models("models", "history", "--json", *words).json["moves"][::-1]


# --- Promote ------------------------------------------------------------------------------------------------------


def test_promote_records_who_when_and_why(models: Vehins) -> None:
    answer = models("models", "promote", "1", "--reason", "2 and 3 call too many", "--json")
    assert "production of vehicle-insurance now points to version 1 (before: 3)" in answer.err
    made = answer.json
    assert (made["version"], made["previous"], made["moved"], made["sequence"]) == (1, 3, True, 4)
    assert "@" in made["actor"]
    assert abs(datetime.fromisoformat(made["at"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert production() == 1
    told = moves(models)
    assert [(move["previous"], move["version"]) for move in told] == [(None, 1), (1, 2), (2, 3), (3, 1)]
    by_the_gate = ["accepted by the gate", "approved: for the tests", "approved: for the tests"]
    assert [move["reason"] for move in told] == [*by_the_gate, "2 and 3 call too many"]
    stored = [{name: move[name] for name in move if name != "token"} for move in production_history()]
    assert stored == told
    shown = models("models", "history").out
    assert all(word in shown for word in ("2 and 3 call too many", "accepted by the gate", made["actor"]))


def test_the_service_and_predict_use_what_was_promoted(models: Vehins) -> None:
    models("models", "promote", "2", "-q")
    assert models("predict", "demo://?rows=50", "out.csv", "--json").json["version"] == 2
    models("models", "promote", "1", "--alias", "trial", "-q")
    words = ("--set", "alias=trial", "--json")
    assert models("predict", "demo://?rows=50", "out.csv", *words).json["version"] == 1


def test_promoting_what_is_in_place_changes_nothing(models: Vehins) -> None:
    before = tree(WORKSPACE / MODEL)
    answer = models("models", "promote", "3", "--json")
    assert "production of vehicle-insurance points already to version 3" in answer.err
    assert answer.json["moved"] is False
    assert tree(WORKSPACE / MODEL) == before


def test_without_a_reason_there_is_one_all_the_same(models: Vehins) -> None:
    assert models("models", "promote", "1", "--json").json["reason"] == "promoted by hand"
    assert models("models", "rollback", "--json").json["reason"] == "rolled back by hand"


def test_aliases_are_apart_and_are_all_listed(models: Vehins) -> None:
    models("models", "promote", "1", "--alias", "trial")
    found = models("models", "list", "--json").json
    assert found["aliases"] == {"production": 3, "trial": 1}
    assert [version["version"] for version in found["versions"]] == [3, 2, 1]
    assert models("models", "show", "--alias", "trial", "--json").json["version"] == 1
    assert models("models", "show", "--json").json["version"] == 3
    assert [move["version"] for move in moves(models, "--alias", "trial")] == [1]
    table = models("models", "list").out
    assert "production" in table
    assert "trial" in table


@pytest.mark.parametrize(
    ("words", "code", "headline"),
    [
        (("promote", "7"), 6, "There is no version 7 of the model vehicle-insurance"),
        (("promote", "0"), 2, "Invalid value for "),
        (("promote", "1", "--alias", "no such/alias"), 3, "This is not a name for an alias"),
        (("promote", "1", "--model-name", "other"), 6, "There is no version 1 of the model other"),
        (("rollback", "--alias", "trial"), 6, "There is no version to roll trial of vehicle-insurance back to"),
        (("show", "--alias", "trial"), 6, "No model is in trial"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], code: int, headline: str, models: Vehins) -> None:
    before = tree(WORKSPACE / MODEL)
    error = models("models", *words, "--json", code=code).error
    assert error["headline"].startswith(headline)
    assert error["hint"]
    assert tree(WORKSPACE / MODEL) == before


def damage_model_text(version: int) -> None:
    path = WORKSPACE / MODEL / "versions" / str(version) / "bundle" / "model.txt"
    path.write_bytes(path.read_bytes()[:-1] + b" ")


def test_a_version_whose_files_do_not_verify_is_not_pointed_to(models: Vehins) -> None:
    damage_model_text(2)
    for words in (("promote", "2"), ("rollback",)):
        error = models("models", *words, "--json", code=4).error
        assert error["headline"] == "Version 2 of vehicle-insurance is damaged in the registry"
        assert "model.txt has other content" in error["detail"]
        assert "vehins models list" in error["hint"]
    assert production() == 3
    assert len(moves(models)) == 3


# --- Roll back ----------------------------------------------------------------------------------------------------


def test_rollback_goes_to_the_version_before_and_twice_further(models: Vehins) -> None:
    answer = models("models", "rollback", "--reason", "complaints", "--json")
    assert "production of vehicle-insurance is back to version 2 (before: 3)" in answer.err
    assert (answer.json["version"], answer.json["undoes"], answer.json["moved"]) == (2, 3, True)
    assert models("models", "rollback", "--json").json["version"] == 1
    assert production() == 1
    error = models("models", "rollback", "--json", code=6).error
    assert error["detail"] == "It points to version 1, with no version before it."
    models("models", "promote", "3")
    assert models("models", "rollback", "--json").json["version"] == 1
    assert [move["undoes"] for move in moves(models)] == [None, None, None, 3, 2, None, 6]
    assert "takes back 3" in models("models", "history").out


def test_a_challenger_meets_the_version_that_was_gone_back_to(models: Vehins) -> None:
    models("models", "rollback", "-q")
    words = ("--set", "train.seed=4", "--approve", "for the test")
    assert models.run(*words).json["gate"]["champion"]["version"] == 2


def test_the_history_can_be_cut_short(models: Vehins) -> None:
    assert [move["sequence"] for move in models("models", "history", "-n", "2", "--json").json["moves"]] == [3, 2]


# --- At once ------------------------------------------------------------------------------------------------------


def together(place: Path, *commands: tuple[str, ...]) -> list[tuple[int, Any]]:
    """Run some `vehins models` commands as processes at the same time; their exit codes and objects."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "vehins", "models", *words, "--json"],
            cwd=place,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for words in commands
    ]
    found = []
    for process in started:
        out, err = process.communicate()
        assert process.returncode in {0, 6}, err
        found.append((process.returncode, json.loads(out)))
    return found


def test_of_promotions_at_once_each_knows_how_it_went(place: Path, models: Vehins) -> None:
    """Each moved the alias from where it saw it, or was told who did; the history has every move and no other."""
    numbers = ("1", "2", "1", "2")
    ends = together(place, *(("promote", number, "--reason", f"by {i}") for i, number in enumerate(numbers)))
    told = moves(models)
    assert [move["sequence"] for move in told] == list(range(1, len(told) + 1))
    assert [move["previous"] for move in told[1:]] == [move["version"] for move in told[:-1]]
    made = [answer["sequence"] for code, answer in ends if code == 0 and answer["moved"]]
    assert sorted(made) == list(range(4, len(told) + 1))
    assert made
    for code, answer in ends:
        if code:
            assert answer["error"]["headline"].startswith("production of vehicle-insurance was moved to version ")
            assert "decide again" in answer["error"]["hint"]
    assert production() == told[-1]["version"]
    check_reasons(told[3:], [(code, answer, f"by {i}") for i, (code, answer) in enumerate(ends)])


def check_reasons(told: list[dict[str, Any]], ends: list[tuple[int, Any, str]]) -> None:
    """Each command that moved the alias stands in the history with its own reason."""
    for code, answer, reason in ends:
        if code == 0 and answer["moved"]:
            assert [move["reason"] for move in told if move["sequence"] == answer["sequence"]] == [reason]


def overtaken(models: Vehins, monkeypatch: pytest.MonkeyPatch, *words: str) -> Answer:
    """Run a command while, just before it writes, somebody else promotes version 2."""
    from vehins.registry.folder import FolderStore
    from vehins.registry.registry import Registry

    real = FolderStore.put

    def put(store: Any, key: str, *given: Any, **more: Any) -> str:
        if "/aliases/" in key:
            monkeypatch.setattr(FolderStore, "put", real)
            Registry(store, "vehicle-insurance").point("production", 2, reason="theirs")
        return real(store, key, *given, **more)

    monkeypatch.setattr(FolderStore, "put", put)
    return models("models", *words, "--json", code=6)


def test_a_move_in_between_is_not_overwritten(models: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    error = overtaken(models, monkeypatch, "promote", "1").error
    assert error["headline"] == "production of vehicle-insurance was moved to version 2 meanwhile"
    assert error["detail"].endswith("UTC: theirs.")
    assert error["hint"] == "Look (`vehins models history`), and decide again: this command has changed nothing."
    assert [move["version"] for move in moves(models)] == [1, 2, 3, 2]
    assert models("models", "promote", "1", "--json").json["previous"] == 2
