"""What the tests start servers with: the failure of a test tells what a server has printed, and nothing is left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from server_process import all_shown, answers, free_port, running, shown, started, wait_until

if TYPE_CHECKING:
    from pathlib import Path

WAITING = "import sys, time; print('out', flush=True); print('here I am', file=sys.stderr, flush=True); time.sleep(600)"


def fail_beside_a_server(log: Path, out: Path) -> None:
    with started([sys.executable, "-c", WAITING], log, out) as process:
        wait_until(lambda: "here I am" in log.read_text())
        assert [text for text in all_shown() if "here I am" in text] == [shown(process, log)]
        raise ZeroDivisionError(process.pid)


def test_what_it_prints_is_shown_and_it_is_ended(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    with pytest.raises(ZeroDivisionError) as caught:
        fail_beside_a_server(log, out)
    assert "here I am" in caught.value.__notes__[0]
    assert (log.read_text(), out.read_text()) == ("here I am\n", "out\n")
    assert not psutil.pid_exists(caught.value.args[0])
    assert not any("here I am" in text for text in all_shown())


def test_a_server_that_ends_before_it_answers_says_why(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", "raise SystemExit('no disk')"]
    with (
        pytest.raises(pytest.fail.Exception, match=r"(?s)exit code 1.*no disk"),
        running(command, tmp_path / "log", lambda: answers(port)),
    ):
        pytest.fail("it runs")
