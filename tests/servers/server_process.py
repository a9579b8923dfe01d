"""Servers that tests start by themselves: on a free loopback port, waited for, and stopped by their own pid.

What a server has printed is shown with the failure of a test: of one that runs as a section of the report (see the
conftest), of one whose block the failure has ended as a note of the error.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    T = TypeVar("T")

HOST = "127.0.0.1"
PATIENCE = 90.0  # seconds; the machine may be busy
_SHOWN = 6_000  # characters of what a server has printed
_PORTS = range(15_000, 32_000)
_SHARES = 8  # of the ports, one for each worker of a session
_running: dict[subprocess.Popen[bytes], Path] = {}
_given: set[int] = set()  # ports, each to one test only


def free_port() -> int:
    """A port of the loopback interface that nobody listens at.

    It is none of those that systems give to who asks for any or connects to somebody (on Linux from 32768 on), and none
    that another test has been given: such a one may be somebody else's a moment later.
    """
    worker = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", ""))
    own = _PORTS[int(worker[0]) % _SHARES :: _SHARES] if worker else _PORTS
    left = sorted(set(own) - _given)
    for port in random.sample(left, len(left)):
        with closing(socket.socket()) as held:
            try:
                held.bind((HOST, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("all ports are taken")


def answers(port: int) -> bool:
    """Whether something listens at a port."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def program(name: str) -> str:
    """Path of a program beside the interpreter or on the PATH; the test is skipped when there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def wait_until(what: Callable[[], T], told: Callable[[], str] = str) -> T:
    """Ask until the answer is true, and return it; ``told`` says what there is to say when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < deadline, f"it did not come to that in {PATIENCE:.0f} s\n{told()}"
        time.sleep(0.02)
    return answer


@contextmanager
def started(command: list[str], log: Path, out: Path | None = None, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; what it prints goes to ``log``, what on stdout to ``out`` if given.

    ``how`` is for `subprocess.Popen`.
    """
    with ExitStack() as files:
        err = files.enter_context(log.open("wb"))
        told = files.enter_context(out.open("wb")) if out else err
        process = subprocess.Popen(command, stdout=told, stderr=err, stdin=subprocess.DEVNULL, **how)
    _running[process] = log
    try:
        yield process
    except Exception as error:
        error.add_note(shown(process, log))
        raise
    finally:
        _end(process)
        del _running[process]


@contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; what it prints goes to ``log``."""
    with started(command, log, env=env) as process:
        wait_until(lambda: ready() or process.poll() is not None, lambda: shown(process, log))
        if process.poll() is not None:
            pytest.fail(f"It did not start: {shown(process, log)}")
        yield process


def shown(process: subprocess.Popen[bytes], log: Path) -> str:
    """How a process is, and the last that it has printed."""
    state = "runs" if process.poll() is None else f"has ended with exit code {process.returncode}"
    return f"{Path(process.args[0]).name} ({process.pid}) {state}:\n{log.read_text(errors='replace')[-_SHOWN:]}"


def all_shown() -> list[str]:
    """The same of each that runs."""
    return [shown(process, log) for process, log in _running.items() if log.exists()]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
