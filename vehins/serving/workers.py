"""Several processes behind one socket: started, watched, started again, and ended together.

They share the listening socket, which they inherit, so that what waits in its queue is lost to nobody when one of them
ends; with a socket each (SO_REUSEPORT) it would be. uvicorn's own `Multiprocess` shares it just so, but it starts what
dies again at once and for ever, asks a thread of the process whether it is well and not the loop that answers requests,
and forgets why a process could not start.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vehins import errors
from vehins.errors import VehinsError
from vehins.serving import garbage, listener
from vehins.serving.process import HANG_UP, Process, ending_signals
from vehins.serving.telemetry import processes
from vehins.serving.telemetry.telemetry import opened

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import FrameType

    from vehins.settings import Settings

_STEADY = 30.0  # seconds after which a process counts as well, and its death as the first one
_LONGEST = 30.0  # seconds until a process is started again
_HUNG = 60.0  # seconds without a sign of life from a process's loop
_GRACE = 5.0  # seconds beyond those for draining, until a process is killed
_TICK = 0.2
_log = logging.getLogger(__name__)


def run(settings: Settings, found: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve with `serve.workers` processes until a signal ends them; ``on_ready`` is called when all of them do.

    Raises:
        VehinsError: a process cannot start, and none has served yet; it is that process's own error.
    """
    _Supervisor(settings, found, on_ready).run()


class _Worker:
    """A place for a process, and the process in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: SpawnProcess | None = None
        self.pipe: Connection
        self.beat: Any
        self.is_ready = False
        self.fault: VehinsError | None = None
        self.started = self.start_at = 0.0
        self.deaths = 0

    def start(self, settings: Settings, found: socket.socket) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.pipe, theirs = context.Pipe()
        self.beat = context.Value("d", time.monotonic(), lock=False)
        self.is_ready, self.fault, self.started = False, None, time.monotonic()
        # Settings go through a pipe: what is secret in them is on no command line.
        self.process = context.Process(
            target=_work, args=(settings, found, theirs, self.beat), name=f"vehins serve, worker {self.number}"
        )
        self.process.start()
        theirs.close()

    def listen(self) -> None:
        """Take what the process has said: that it is ready, or why it cannot start."""
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                said = self.pipe.recv()
                self.is_ready = self.is_ready or said == "ready"
                if isinstance(said, dict):
                    self.fault = _error_of(said)

    def tell(self, word: str) -> None:
        with suppress(OSError, ValueError):
            self.pipe.send(word)

    def is_hung(self) -> bool:
        return self.is_ready and time.monotonic() - float(self.beat.value) > _HUNG

    def bury(self) -> int:
        """Forget a process that has ended, and say when the next is to start; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.join()
        code = process.exitcode or 0
        process.close()
        self.pipe.close()
        lived = time.monotonic() - self.started
        self.deaths = 1 if lived > _STEADY else self.deaths + 1
        wait = 0.0 if self.deaths == 1 else min(_LONGEST, 0.5 * 2 ** min(self.deaths - 1, 10))
        self.start_at = time.monotonic() + wait
        return code


class _Supervisor:
    def __init__(self, settings: Settings, found: socket.socket, on_ready: Callable[[], None]) -> None:
        self._settings, self._found, self._on_ready = settings, found, on_ready
        self._workers = [_Worker(number) for number in range(1, settings.serve.workers + 1)]
        self._is_announced = False
        self._signals: list[int] = []

    def run(self) -> None:
        before = self._take_signals()
        try:
            self._serve()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def note(number: int, _: FrameType | None) -> None:
            if number != HANG_UP or not self._signals:  # a terminal that closes says so more than once
                self._signals.append(number)

        return {number: signal.signal(number, note) for number in ending_signals()}

    def _serve(self) -> None:
        while not self._signals:
            now = time.monotonic()
            for worker in self._workers:
                if worker.process is None and now >= worker.start_at:
                    worker.start(self._settings, self._found)
            self._wait()
            self._look()
            if not self._is_announced and all(worker.is_ready for worker in self._workers):
                self._is_announced = True
                self._on_ready()

    def _wait(self) -> None:
        """Wait until something happens, and not for long."""
        waited: list[Any] = [worker.process.sentinel for worker in self._workers if worker.process is not None]
        waited += [worker.pipe for worker in self._workers if worker.process is not None and not worker.is_ready]
        if waited:
            connection.wait(waited, _TICK)
        else:
            time.sleep(_TICK)

    def _look(self) -> None:
        """See how the processes are."""
        for worker in self._workers:
            if worker.process is None:
                continue
            worker.listen()
            if worker.is_hung():
                _log.error("Worker %s has not answered for %.0f s and is killed", worker.number, _HUNG)
                worker.process.kill()
                worker.process.join()
            if not worker.process.is_alive():
                worker.listen()  # its last words
                self._died(worker)

    def _died(self, worker: _Worker) -> None:
        fault = worker.fault
        pid = worker.process.pid if worker.process is not None else None
        code = worker.bury()
        if pid is not None:
            processes.ended(pid)
        if not self._is_announced:
            raise fault or VehinsError(
                "A worker of the service ended before it could serve",
                detail=f"{_how(code)}.",
                hint="See what it has logged; `--workers 1` runs the service in one process.",
            )
        wait = max(0.0, worker.start_at - time.monotonic())
        why = f"{fault.headline}" if fault is not None else _how(code)
        _log.error("Worker %s (pid %s) has ended: %s. Another starts in %.1f s", worker.number, pid, why, wait)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Let all processes answer what is under way; a second signal, and the end of patience, break it off."""
        listener.close(self._found)  # each process has the socket for itself; it is gone when the last closes it
        serve = self._settings.serve
        leave = serve.leave_seconds if self._signals[:1] == [signal.SIGTERM] else 0.0
        for worker in self._alive():
            worker.tell(f"end {leave}")
        deadline = time.monotonic() + leave + serve.drain_seconds + _GRACE
        while self._alive() and len(self._signals) < 2 and time.monotonic() < deadline:
            connection.wait([worker.process.sentinel for worker in self._alive() if worker.process], _TICK)
        for worker in self._alive():
            worker.tell("now")
        deadline = time.monotonic() + 1.0
        while self._alive() and time.monotonic() < deadline:
            connection.wait([worker.process.sentinel for worker in self._alive() if worker.process], _TICK)
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
                worker.bury()

    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.process is not None and worker.process.is_alive()]


def _how(code: int) -> str:
    return f"It was ended by signal {-code}" if code < 0 else f"Its exit code was {code}"


# --- in the process of a worker ---------------------------------------------------------------------------------------


def _work(settings: Settings, found: socket.socket, pipe: Connection, beat: Any) -> None:
    """What a worker does."""
    # Ctrl-C and the end of the terminal reach the whole group; the supervisor says what they mean.
    for number in (signal.SIGINT, HANG_UP):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)

    def tick() -> None:
        beat.value = time.monotonic()

    try:
        with garbage.at_rest(), opened(settings) as telemetry:
            process = Process(settings, found, telemetry, lambda: pipe.send("ready"), tick)
            # systemd sends it to each process of a service, so that a second one means nothing here.
            signal.signal(signal.SIGTERM, lambda *_: process.end(settings.serve.leave_seconds))
            threading.Thread(target=_obey, args=(pipe, process), daemon=True).start()
            process.run()
    except VehinsError as error:
        pipe.send({"kind": type(error).__name__, **error.as_dict()})
        sys.exit(error.exit_code)
    finally:
        listener.close(found)


def _obey(pipe: Connection, process: Process) -> None:
    """Do what the supervisor says; when it is gone, end too."""
    try:
        while True:
            word, _, seconds = pipe.recv().partition(" ")
            if word == "now":
                process.end_at_once()
            else:
                process.end(float(seconds))
    except (EOFError, OSError):
        process.end(0.0)


def _error_of(said: dict[str, Any]) -> VehinsError:
    """The error that a worker has told of."""
    kind: type[VehinsError] = getattr(errors, said["kind"], VehinsError)
    return kind(said["headline"], detail=said["detail"], hint=said["hint"])
