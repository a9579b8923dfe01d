"""Disks that are full, read-only or forbidden: said in those words, nothing half-written, and all well afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault_checks import check_whole
from vehins_runner import STAGES, WORKSPACE, Vehins, all_are, folders, production, tree, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK = Path("disk")
FULL = "The disk is full"


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A small disk of its own at ``disk``; skips the test when this user may not mount one."""
    disk = place / DISK
    disk.mkdir()
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs Linux's mount")
    try:
        _command("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount a small disk: {error.stderr.strip()}")
    try:
        yield disk
    finally:
        _command("umount", "--lazy", str(disk))


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    with mounted(place, "3m") as disk:
        yield disk


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk up to so many bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(b"\0" * (free.f_bavail * free.f_frsize - leave))
    return filler


ON_DISK = ("-w", str(DISK / "workspace"))


def check_nothing_half_written() -> None:
    check_whole(DISK / "workspace")
    assert list((DISK / "workspace" / "drafts").glob("*")) == []


def test_full_at_ingest(small_disk: Path, vehins: Vehins) -> None:
    words = ("--source", "demo://?rows=60000", *ON_DISK)
    filler = fill(small_disk, 150_000)
    answer = vehins.run(*words, code=6)
    assert answer.statuses == {"ingest": "failed", **dict.fromkeys(STAGES[1:], "skipped")}
    assert answer.error["headline"] == FULL
    assert "`vehins gc --apply`" in answer.error["hint"]
    assert not (DISK / "workspace" / "artifacts").exists()
    check_nothing_half_written()
    run = vehins("runs", "show", "--json", *ON_DISK).json
    assert (run["outcome"], run["exit_code"]) == ("failed", 6)
    # With rows that fit, it goes further; with space, all the way.
    assert vehins("ingest", "--json", *ON_DISK).statuses == {"ingest": "ran"}
    filler.unlink()
    assert all_are("ran", vehins.run(*words))


@pytest.mark.parametrize("leave", [20_000, 60_000])
def test_full_at_train(leave: int, small_disk: Path, vehins: Vehins) -> None:
    words = ("--set", "train.max_rounds=300", "--set", "train.early_stopping_rounds=300", *ON_DISK)
    for stage in STAGES[:3]:
        vehins(stage, *ON_DISK)
    filler = fill(small_disk, leave)
    answer = vehins.run(*words, code=6)
    assert answer.statuses == {
        **dict.fromkeys(STAGES[:3], "reused"),
        "train": "failed",
        **dict.fromkeys(STAGES[4:], "skipped"),
    }
    assert answer.error["headline"] == FULL
    check_nothing_half_written()
    # People are told how to go on.
    told = vehins("pipeline", "run", *words, code=6).err
    assert f"Error: {FULL}\n" in told
    assert "Then go on, finished stages are kept: vehins pipeline run " in told
    filler.unlink()
    answer = vehins.run(*words)
    assert answer.statuses == {**dict.fromkeys(STAGES[:3], "reused"), **dict.fromkeys(STAGES[3:], "ran")}
    check_nothing_half_written()


def test_full_at_the_very_start(small_disk: Path, vehins: Vehins) -> None:
    filler = fill(small_disk, 0)
    for words in (("pipeline", "run"), ("ingest",), ("gc", "--apply")):
        answer = vehins(*words, "--json", *ON_DISK, code=6)
        assert answer.error["headline"] == FULL
    filler.unlink()
    assert all_are("ran", vehins.run(*ON_DISK))


def test_full_after_a_finished_run(small_disk: Path, finished: Vehins) -> None:
    """What is there can still be looked at, and gc makes room."""
    shutil.copytree(WORKSPACE, DISK / "workspace")
    (folders("TrainedModel", DISK / "workspace")[0] / "manifest.json").write_bytes(b"{}")
    fill(small_disk, 0)
    for words in (
        ("runs", "list"),
        ("runs", "show"),
        ("models", "list"),
        ("models", "show"),
        ("pipeline", "plan"),
        ("gc",),
    ):
        finished(*words, *ON_DISK)
    assert finished("gc", "--apply", "--json", *ON_DISK, code=6).error["headline"] == FULL
    (small_disk / "filler").unlink()
    assert finished.run(*ON_DISK, "--registry", str(DISK / "workspace" / "registry")).statuses["train"] == "ran"


def test_a_registry_on_a_full_disk(small_disk: Path, finished: Vehins) -> None:
    filler = fill(small_disk, 4096)
    words = ("--registry", str(DISK / "registry"))
    answer = finished.run(*words, code=6)
    assert answer.statuses == {**dict.fromkeys(STAGES[:5], "reused"), "push": "failed"}
    assert answer.error["headline"] == FULL
    registry = DISK
    assert production(registry) is None
    assert versions(registry) == []
    check_whole(registry)
    assert finished("models", "list", "--json", *words).json["versions"] == []
    filler.unlink()
    answer = finished.run(*words)
    assert answer.statuses == {**dict.fromkeys(STAGES[:5], "reused"), "push": "ran"}
    assert (production(registry), versions(registry)) == (answer.json["version"], [answer.json["version"]])
    check_whole(registry)


def test_a_read_only_workspace(small_disk: Path, finished: Vehins) -> None:
    shutil.copytree(WORKSPACE, DISK / "workspace")
    _command("mount", "-o", "remount,ro", str(small_disk))
    before = tree(DISK)
    for words in (("pipeline", "run"), ("train",), ("gc", "--apply")):
        answer = finished(*words, "--json", *ON_DISK, code=6)
        assert answer.error["headline"] == "The disk is read-only"
        assert "disk/workspace" in answer.error["detail"]
        assert "`--workspace DIR`" in answer.error["hint"]
    # Readers need not write.
    for words in (
        ("runs", "list"),
        ("runs", "show"),
        ("models", "list"),
        ("models", "show"),
        ("pipeline", "plan"),
        ("gc",),
    ):
        finished(*words, *ON_DISK)
    plan = finished("pipeline", "plan", "--json", *ON_DISK, "--registry", str(DISK / "workspace" / "registry")).json
    assert {stage["action"] for stage in plan["stages"][:5]} == {"reuse"}
    assert tree(DISK) == before


def test_a_read_only_registry(small_disk: Path, finished: Vehins) -> None:
    shutil.copytree(WORKSPACE / "registry", DISK / "registry")
    _command("mount", "-o", "remount,ro", str(small_disk))
    words = ("--registry", str(DISK / "registry"), "--set", "train.seed=2", "--approve", "to get as far as push")
    answer = finished.run(*words, code=6)
    assert answer.statuses["push"] == "failed"
    assert answer.error["headline"] == "The disk is read-only"
    assert versions(DISK) == [1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_workspace(place: Path, vehins: Vehins) -> None:
    Path("closed").mkdir(mode=0o500)
    answer = vehins.run("-w", "closed/workspace", code=6)
    assert answer.error["headline"] == "Permission denied"
    assert "`--workspace DIR`" in answer.error["hint"]


def test_a_file_in_place_of_the_workspace(vehins: Vehins) -> None:
    WORKSPACE.write_text("not a folder")
    for words in (("pipeline", "run"), ("train",), ("gc", "--apply")):
        answer = vehins(*words, "--json", code=6)
        assert answer.error["headline"] == "A file stands where a folder is needed"
    assert WORKSPACE.read_text() == "not a folder"
