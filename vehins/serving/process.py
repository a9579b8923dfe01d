"""One process of the service: a model, the thread that looks after it, and the server in front of it."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vehins.errors import (
    ConfigurationError,
    CredentialsError,
    LockedError,
    NotFoundError,
    StorageError,
    UnreachableError,
)
from vehins.serving import connections, garbage
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.keys import keys_for
from vehins.serving.watcher import Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from fastapi import FastAPI
    from uvicorn import Server

    from vehins.serving.telemetry.telemetry import Telemetry
    from vehins.settings import Settings
    from vehins.settings.sections import ServeSettings

_PATIENCE = 5.0  # seconds that a start waits for the registry before a copy stands in
HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # the terminal is gone; systems without it have none


def ending_signals() -> list[int]:
    """What ends the service; not the end of its terminal where it is to outlive that (`nohup`)."""
    ends_with_terminal = HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([HANG_UP] if HANG_UP is not None and ends_with_terminal else [])]


class Process:
    """Serves on a socket that listens already, until it is told to end.

    ``on_ready`` is called once requests are answered, or it is clear that they have to wait; ``on_tick`` ten times a
    second as long as it runs.

    Raises:
        ConfigurationError: the registry has an address that cannot be.
    """

    def __init__(
        self,
        settings: Settings,
        found: socket.socket,
        telemetry: Telemetry,
        on_ready: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._found, self._on_ready, self._on_tick = found, on_ready, on_tick
        self._serve = settings.serve
        self.holder = Holder(settings.serve.max_rows)
        self._watcher = Watcher(settings, self.holder, telemetry.observers)
        app = create_app(self.holder, settings.serve, keys=keys_for(settings), telemetry=telemetry)
        self._server = _server(app, settings.serve, self, telemetry)
        self._fault: Exception | None = None
        self._close_at = math.inf
        self._is_over = self._is_settled = self._is_announced = False

    def run(self) -> None:
        """Load a model and serve it; then answer what is under way.

        Without a model the service starts as well, when waiting may bring one.

        Raises:
            VehinsError: there is none, and waiting will not bring one.
        """
        self._watcher.start()
        try:
            self._wait()
            if not self._is_over and self._close_at == math.inf:
                self._server.run(sockets=[self._found])
        finally:
            self._watcher.stop()
        if self._fault is not None:
            raise self._fault

    def end(self, seconds: float) -> None:
        """Say to load balancers that it is about to end, and after so many seconds take no more requests."""
        self.holder.leaving = True
        self._close_at = min(self._close_at, time.monotonic() + seconds)

    def end_at_once(self) -> None:
        """Break off what is under way."""
        self._is_over = True
        self._server.should_exit = self._server.force_exit = True

    def signalled(self, number: int, _: FrameType | None = None) -> None:
        """End on a signal: a person who presses Ctrl-C has no load balancer, and a second signal means at once."""
        if not self.holder.leaving:
            self.end(self._serve.leave_seconds if number == signal.SIGTERM else 0.0)
        elif number != HANG_UP:  # a terminal that closes says so more than once
            self.end_at_once()

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """Let signals end it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.signalled) for number in ending_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- the start ----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the registry's answer, and not for long; then let the version that answered last stand in."""
        patience = time.monotonic() + _PATIENCE
        while not self._watcher.looked.wait(0.05) and time.monotonic() < patience:
            if self._close_at < math.inf:
                return
            self._on_tick()
        fault = self._watcher.fault
        if isinstance(fault, ConfigurationError) and not isinstance(fault, CredentialsError):
            raise fault
        if self.holder.ready is None and not self._watcher.stand_in():
            self._raise_if_hopeless()

    def _raise_if_hopeless(self) -> None:
        """Raise what the first look failed with, if there is no model and waiting will not bring one."""
        fault = self._watcher.fault
        if fault is None or self.holder.ready is not None:
            return
        waits = isinstance(fault, (UnreachableError, LockedError)) and not isinstance(fault, StorageError)
        if not waits or (isinstance(fault, NotFoundError) and self.holder.pinned):
            raise fault

    # --- what the server calls ----------------------------------------------------------------------------------------

    def ticked(self) -> bool:
        """Whether it is time to close; called ten times a second."""
        self._on_tick()
        try:
            self._settle()
        except Exception as error:  # the loop would not close with a listener open: shut down well, then raise
            self._end_with(error)
        return time.monotonic() >= self._close_at

    def _settle(self) -> None:
        """See to it that a start comes to its end, which may be when the server runs already."""
        watcher = self._watcher
        if not self._is_settled and watcher.looked.is_set():
            self._is_settled = True
            self._raise_if_hopeless()
        # A version that is being verified is worth waiting for; a registry that does not answer is not.
        is_coming = watcher.found.is_set() and not watcher.looked.is_set()
        if not self._is_announced and (self.holder.ready is not None or not is_coming):
            self._is_announced = True
            garbage.resume()
            self._on_ready()

    def _end_with(self, error: Exception) -> None:
        self._fault = error
        self.end(0.0)
        self._server.should_exit = True


def _server(app: FastAPI, settings: ServeSettings, process: Process, telemetry: Telemetry) -> Server:
    import uvicorn

    class Watched(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or process.ticked()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn would take them and raise them once more at the end, which would kill a process that ends well.
            yield

    return Watched(
        uvicorn.Config(
            app,
            access_log=False,
            server_header=False,
            log_config=None,  # logs are for the caller to set up; a stack still finds its way to stderr
            lifespan="off",
            http=connections.protocol(settings, telemetry.refused),
            ws="none",
            proxy_headers=False,  # uvicorn's own would believe whatever this machine says; `trusted_proxies` is asked
            timeout_keep_alive=connections.KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
        )
    )
