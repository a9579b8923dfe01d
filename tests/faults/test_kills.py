"""`kill -9` at random moments, and several commands at once: what is there is whole, and the next run completes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault_checks import check_whole
from server_process import wait_until
from vehins_runner import SETTINGS, STAGES, WORKSPACE, folders, manifest, production, production_history, versions

from vehins.artifacts import lock

if TYPE_CHECKING:
    from fault_server import Process, Server
    from vehins_runner import Vehins

ROUNDS = int(os.environ.get("VEHINS_TEST_KILLS", "12"))
LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")


def run_words(number: int) -> tuple[str, ...]:
    """A run with something to do in every stage, each time."""
    return ("pipeline", "run", *LENIENT, "--set", f"train.seed={number}", "--source", f"demo://?rows={3000 + number}")


def check_after_kill(vehins: Vehins, running: bool) -> None:
    """What must hold whenever a process was killed."""
    check_whole(WORKSPACE)
    runs = vehins("runs", "list", "--json").json["runs"]
    assert [run["outcome"] for run in runs[1:]].count("running") == 0
    if running:
        assert runs[0]["outcome"] in {"interrupted", "completed"}
    listed = vehins("models", "list", "--json").json
    assert sorted(version["version"] for version in listed["versions"]) == versions()
    assert listed["aliases"] == ({"production": production()} if production() else {})


@pytest.fixture(scope="module")
def measured(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, float]:
    """How many steps on files a run takes, and how many seconds."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "vehins.toml").write_text(SETTINGS)
    steps = server.steps(folder, *run_words(0))
    begin = time.perf_counter()
    assert server.run(folder, *run_words(1))[0] == 0
    return steps, time.perf_counter() - begin


def kill_somewhere(server: Server, place: Path, dice: random.Random, measured: tuple[int, float], *words: str) -> int:
    """Start a command and kill it: at a step of its work on files, or at a moment that no step marks."""
    steps, seconds = measured
    if dice.random() < 0.5:
        return server.start(place, *words, kill_at=dice.randint(1, steps)).wait()
    process = server.start(place, *words)
    time.sleep(dice.uniform(0, seconds))
    process.signal(signal.SIGKILL)
    return process.wait()


def test_killed_at_random_moments(server: Server, place: Path, vehins: Vehins, measured: tuple[int, float]) -> None:
    dice = random.Random(20_000)
    killed = 0
    for number in range(ROUNDS):
        words = run_words(number // 3)  # each is killed up to three times in different places
        forced = dice.choice(((), ("--force",)))
        ended = kill_somewhere(server, place, dice, measured, *words, *forced)
        assert ended in {0, -signal.SIGKILL}
        killed += ended != 0
        check_after_kill(vehins, running=(WORKSPACE / "runs").exists() and any((WORKSPACE / "runs").glob("*.json")))
        if number % 3 != 2:
            continue
        answer = vehins.run(*words[2:])
        assert set(answer.statuses.values()) <= {"ran", "reused"}
        check_whole(WORKSPACE)
        assert list((WORKSPACE / "drafts").glob("*")) == []
        assert answer.json["version"] == production()
        bundle = manifest("TrainedModel")["result"]["bundle"]
        assert vehins("models", "show", "--json").json["bundle"] == bundle
        assert set(vehins.run(*words[2:]).statuses.values()) == {"reused"}
        # However often it was tried, it is one version and one move.
        assert len(versions()) == number // 3 + 1
        assert len(production_history()) == number // 3 + 1
    assert killed >= ROUNDS // 6  # kills that met nothing show nothing; how many do depends on the load
    vehins("gc", "--apply", "--keep-runs", "1")
    assert [path for path in WORKSPACE.rglob(".tmp-*") if "registry" not in path.parts] == []


def test_gc_killed_at_random_moments(server: Server, place: Path, finished: Vehins) -> None:
    """It takes whole artifacts away or leaves them whole."""
    dice = random.Random(7)
    words = ("gc", "--apply", "--keep-runs", "1")
    for number in (2, 3, 4):
        assert finished.run(*run_words(number)[2:]).json["version"] == number
    for _ in range(3):
        ended = server.start(place, *words, kill_at=dice.randint(3, 40)).wait()
        assert ended in {0, -signal.SIGKILL}
        check_after_kill(finished, running=False)
    finished(*words)
    assert [len(folders(kind)) for kind in ("Dataset", "TrainedModel", "PushedModel")] == [1, 1, 1]
    assert set(finished.run(*run_words(4)[2:]).statuses.values()) == {"reused"}


# --- Several at once ----------------------------------------------------------------------------------------------


@pytest.fixture
def holder(server: Server, place: Path) -> Process:
    """A run that holds the workspace for a while."""
    process = server.start(place, "pipeline", "run", "--source", "demo://?rows=60000")
    wait_until(lambda: list((WORKSPACE / "runs").glob("*.json")), lambda: process.err)
    return process


def test_a_second_run_waits_and_names_the_holder(server: Server, place: Path, holder: Process) -> None:
    holder.signal(signal.SIGSTOP)  # on a slow machine it could end before the second asks
    second = server.start(place, "pipeline", "run", "--json", *LENIENT)
    wait_until(lambda: second.err.endswith("\n"), lambda: second.err)
    holder.signal(signal.SIGCONT)
    assert second.wait() == 0
    assert second.err.startswith(
        f"Waiting for process {holder.pid} on {os.uname().nodename} (`vehins pipeline run`, since "
    )
    assert holder.wait() == 0
    # Neither has lost anything: both artifacts of each kind are there.
    assert [len(folders(kind)) for kind in ("Dataset", "Validation", "FeatureSet", "TrainedModel")] == [2] * 4
    check_whole(WORKSPACE)


def test_a_second_run_that_does_not_wait(server: Server, place: Path, holder: Process, vehins: Vehins) -> None:
    holder.signal(signal.SIGSTOP)  # on a slow machine it could end before all is asked
    answer = vehins.run("--set", "lock_timeout=0.2", code=7)
    assert answer.error["headline"].startswith(f"The workspace .vehins is in use by process {holder.pid} on ")
    assert "`vehins pipeline run`" in answer.error["headline"]
    assert answer.error["detail"] == "Waited 0.2 s for it."
    assert "`--set lock_timeout=SECONDS`" in answer.error["hint"]
    # A stage alone and the collector wait for the same lock; readers do not.
    assert vehins("ingest", "--set", "lock_timeout=0", "--json", code=7).error["exit_code"] == 7
    assert vehins("gc", "--apply", "--set", "lock_timeout=0", "--json", code=7).error["exit_code"] == 7
    for words in (("runs", "list"), ("models", "list"), ("pipeline", "plan"), ("gc",)):
        vehins(*words, "--set", "lock_timeout=0")
    assert vehins("runs", "list", "--json").json["runs"][0]["outcome"] == "running"
    holder.signal(signal.SIGCONT)
    assert holder.wait() == 0
    assert [run["outcome"] for run in vehins("runs", "list", "--json").json["runs"]] == ["completed"]
    check_whole(WORKSPACE)


def test_a_holder_that_was_killed_holds_nothing(place: Path, holder: Process, vehins: Vehins) -> None:
    holder.signal(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    assert (WORKSPACE / "lock.json").exists()
    answer = vehins.run("--set", "lock_timeout=0")
    assert answer.statuses == dict.fromkeys(STAGES, "ran")
    assert not (WORKSPACE / "lock.json").exists()
    outcomes = [run["outcome"] for run in vehins("runs", "list", "--json").json["runs"]]
    assert outcomes == ["completed", "interrupted"]


def test_two_workspaces_with_one_registry(server: Server, place: Path) -> None:
    """Each trains its own; the registry gets both, and the alias names one of them."""
    started = [
        server.start(place, *run_words(number), "-w", f"workspace-{number}", "--registry", "registry", "--json")
        for number in (1, 2)
    ]
    codes = [process.wait() for process in started]
    # The one that comes second has met no champion, so it must not replace the first.
    assert sorted(codes) in ([0, 0], [0, 6])
    check_whole(Path())
    reports = [json.loads(process.out) for process in started]
    moved = [report["version"] for report, code in zip(reports, codes, strict=True) if code == 0]
    assert production(Path()) in moved
    for code, report in zip(codes, reports, strict=True):
        if code:
            assert report["error"]["headline"].startswith(("Version ", "Somebody else has written "))
    for number in (1, 2):
        assert server.run(place, *run_words(number), "-w", f"workspace-{number}", "--registry", "registry")[0] == 0
    assert lock.is_locked(Path("workspace-1")) is False
