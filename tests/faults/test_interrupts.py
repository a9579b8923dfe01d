"""Ctrl-C, in each stage and outside of them: nothing half-written, and the next run goes on from there."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from fault_checks import check_whole
from server_process import wait_until
from vehins_runner import STAGES, WORKSPACE, child_environment

from vehins.artifacts import lock

if TYPE_CHECKING:
    from fault_server import Process, Server
    from vehins_runner import Vehins

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pty and signals")
# Enough rows for every stage to take some time.
RUN = ("pipeline", "run", "--source", "demo://?rows=150000", "--set", "train.num_leaves=7")


class Watched:
    """A terminal, and what has been shown on it."""

    def __init__(self) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        self.name = os.ttyname(theirs)
        self._theirs = theirs
        self.seen = ""

    def wait_for(self, pattern: str, pid: int) -> None:
        """Read until something is shown, or the process that shows it has ended."""
        while not re.search(pattern, self.seen):
            if select.select([self._ours], [], [], 0.2)[0]:
                self.seen += os.read(self._ours, 4096).decode(errors="replace")
            elif psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:  # which its parent has yet to bury
                return

    def rest(self) -> str:
        """Read all that is left; the process has ended."""
        os.close(self._theirs)
        with suppress(OSError):  # how Linux says that the other side is closed
            while chunk := os.read(self._ours, 4096):
                self.seen += chunk.decode(errors="replace")
        os.close(self._ours)
        return self.seen


def interrupted_in(server: Server, place: Path, stage: str) -> tuple[Process, str]:
    """Run the chain and stop it when it shows that it is in a stage; the process, and the end of what it showed.

    On a busy machine the stage may end before this process hears of it: then all is as before, and tried again.
    """
    before = place / "before"
    for _ in range(30):
        if WORKSPACE.exists():
            shutil.copytree(WORKSPACE, before)
        screen = Watched()
        process = server.start(place, *RUN, "--json", err=screen.name)
        screen.wait_for(rf" {stage} .*tree \d" if stage == "train" else rf" {stage} ", process.pid)
        process.signal(signal.SIGINT)
        code, shown = process.wait(), screen.rest()
        assert code in {0, 130}, shown
        if [one["stage"] for one in json.loads(process.out)["stages"] if one["status"] == "failed"] == [stage]:
            shutil.rmtree(before, ignore_errors=True)
            return process, shown
        shutil.rmtree(WORKSPACE)
        if before.exists():
            before.rename(WORKSPACE)
    raise AssertionError(f"{stage} was over each time")


def test_in_each_stage(server: Server, place: Path, vehins: Vehins) -> None:
    for number, stage in enumerate(STAGES):
        process, shown = interrupted_in(server, place, stage)
        assert "Error: Interrupted\r\n  Nothing was left half-written.\r\n" in shown
        assert f"  Try: Finished stages are kept; go on with: vehins {' '.join(RUN[:2])} " in shown
        assert "Traceback" not in shown
        report = vehins("runs", "show", "--json").json
        assert (report["outcome"], report["exit_code"]) == ("interrupted", 130)
        statuses = [record["status"] for record in report["stages"]]
        # What an earlier run has finished is reused, and so will be what this one has.
        done = ["reused"] * max(number - 1, 0) + ["ran"] * min(number, 1)
        assert statuses == [*done, "failed", *["skipped"] * (5 - number)]
        assert report["stages"][number]["reason"] == "interrupted"
        assert process.out.startswith("{")
        assert '"exit_code": 130' in process.out
        check_whole(WORKSPACE)
        assert list((WORKSPACE / "drafts").glob("*")) == []
    code, _, err = server.run(place, *RUN)
    assert code == 0, err
    lines = [line.split()[:2] for line in err.splitlines()[:6]]
    assert lines == [*([stage, "reused"] for stage in STAGES[:5]), ["push", "ran"]]
    outcomes = [run["outcome"] for run in vehins("runs", "list", "--json").json["runs"]]
    assert outcomes == ["completed", *["interrupted"] * 6]
    check_whole(WORKSPACE)


def test_the_command_in_the_message_goes_on(server: Server, place: Path) -> None:
    _, shown = interrupted_in(server, place, "validate")
    found = re.search(r"go on with: vehins (.*?)\r\n", shown)
    assert found is not None
    code, out, _ = server.run(place, *shlex.split(found[1]))
    assert code == 0
    assert '"status": "reused"' in out


def test_of_a_real_command(place: Path) -> None:
    """With the interpreter's own start and end around it, and in the middle of the work of one stage alone."""
    command = [sys.executable, "-m", "vehins", "ingest", "--source", "demo://?rows=3000000"]
    with subprocess.Popen(command, cwd=place, env=child_environment(), stderr=subprocess.PIPE, text=True) as process:
        while not list((WORKSPACE / "drafts").glob("Dataset-*/parts/*.parquet")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[0].startswith("ingest    failed ")
    assert err.splitlines()[0].endswith(" interrupted")
    assert "go on with: python -m vehins ingest --source 'demo://?rows=3000000'\n" in err
    assert not (WORKSPACE / "artifacts").exists()
    assert list((WORKSPACE / "drafts").glob("*")) == []


WHILE_POLARS_WORKS = """
import os, signal, threading, time
import polars as pl
from vehins.cli.command import take_interrupts

take_interrupts()
rows = pl.select(pl.int_range(4_000_000).alias("a")).lazy().sort(pl.col("a").hash())
try:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    rows.sink_parquet("rows.parquet")
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted,", "tidied up")
"""


def test_one_ctrl_c_is_one_interrupt(place: Path) -> None:
    """Left alone, polars raises one and Python another, which would break into what follows the first."""
    done = subprocess.run(
        [sys.executable, "-c", WHILE_POLARS_WORKS],
        cwd=place,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted, tidied up\n", "")


def test_while_it_waits_for_another_process(server: Server, place: Path) -> None:
    WORKSPACE.mkdir()
    with lock.writer(WORKSPACE, 0, lambda _: None):
        process = server.start(place, "ingest")
        wait_until(lambda: "Waiting for " in process.err, lambda: process.err)
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    assert process.err.endswith("Error: Interrupted\n")
    assert not (WORKSPACE / "runs").exists()
