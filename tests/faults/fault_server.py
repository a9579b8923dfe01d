"""Starts the command in processes of their own, which the tests stop, kill and starve.

Run as a script, this imports what is slow once and then forks a process per request; a request is a JSON object on a
line of stdin, an answer a number on a line of stdout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# What the libraries that write files tell Python's audit hooks, and so where a process can be killed to the step.
_STEPS = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Process:
    """A command that runs."""

    def __init__(self, server: Server, pid: int, out: Path, err: Path | None) -> None:
        self._server, self.pid, self._out, self._err = server, pid, out, err

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it ends; its exit code, or the number of the signal that killed it below zero."""
        return self._server.ask({"wait": self.pid})

    @property
    def out(self) -> str:
        """What it has printed on stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has printed on stderr so far."""
        assert self._err is not None
        return self._err.read_text()


class Server:
    """The process that forks the others."""

    def __init__(self, environment: dict[str, str], scratch: Path) -> None:
        self._scratch, self._count = scratch, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**environment, "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, request: dict[str, Any]) -> int:
        """Send a request and read the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, folder: Path, *words: str, err: str | None = None, kill_at: int = 0) -> Process:
        """Start ``vehins words...`` in a folder.

        ``err`` is a terminal for its stderr. With ``kill_at`` it is killed at that step of its work on files.
        """
        self._count += 1
        out, told = (self._scratch / f"{self._count}.{name}" for name in ("out", "err"))
        out.touch()
        told.touch()
        request = {"words": words, "folder": str(folder), "out": str(out), "err": err or str(told), "kill_at": kill_at}
        return Process(self, self.ask(request), out, None if err else told)

    def run(self, folder: Path, *words: str) -> tuple[int, str, str]:
        """Run a command to its end; its exit code and what it printed."""
        process = self.start(folder, *words)
        return process.wait(), process.out, process.err

    def steps(self, folder: Path, *words: str) -> int:
        """Run a command to its end; the number of its steps on files."""
        process = self.start(folder, *words, kill_at=-1)
        assert process.wait() == 0, process.err
        return int(process.err.rpartition("steps: ")[2])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _serve() -> None:
    import lightgbm  # noqa: F401
    import polars  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    import sklearn.compose
    import sklearn.impute
    import sklearn.linear_model  # noqa: F401

    import vehins.cli.reports
    import vehins.pipeline
    import vehins.registry.folder
    import vehins.stages.train  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        answer = _ended(request["wait"]) if "wait" in request else _forked(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _forked(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _command(request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def _command(request: dict[str, Any]) -> int:
    from vehins.cli import main

    os.chdir(request["folder"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_NOCTTY),
    ):
        os.dup2(os.open(path, flags, 0o644), number)
    sys.argv = ["vehins", *request["words"]]
    steps = _watch_steps(request["kill_at"]) if request["kill_at"] else []
    try:
        main()
    except SystemExit as ended:
        if request["kill_at"] < 0:
            sys.stderr.write(f"steps: {len(steps)}\n")
        return int(ended.code or 0)
    return 70


def _watch_steps(kill_at: int) -> list[str]:
    """Note every step on files; kill this process when it is about to do the one of that number."""
    steps: list[str] = []

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in _STEPS or (event == "open" and isinstance(given[2], int) and given[2] & _WRITES):
            steps.append(event)
            if len(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return steps


if __name__ == "__main__":
    _serve()
