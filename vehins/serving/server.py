"""The process that serves: it loads the model, listens, and ends well."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vehins.serving import listener
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.notify import notify
from vehins.serving.predictor import load
from vehins.serving.telemetry.telemetry import opened

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from fastapi import FastAPI
    from uvicorn import Server

    from vehins.settings import Settings

_SHUTDOWN_SECONDS = 10


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Load the model that the alias points to and serve it until SIGINT or SIGTERM; then answer what is under way.

    ``on_ready`` is called with the address once requests are answered there.

    Raises:
        UnreachableError: the registry does not answer, has no such version, or the port is in use.
        ConfigurationError: the host or the port cannot be.
        DataError: the bundle is damaged, or fails its golden rows.
    """
    holder = Holder(settings.serve.max_rows)
    holder.put(load(settings))
    with opened(settings) as telemetry:
        _serve(settings, create_app(holder, settings.serve, telemetry=telemetry), on_ready)


def _serve(settings: Settings, app: FastAPI, on_ready: Callable[[str], None]) -> None:
    found = listener.listen(settings.serve.host, settings.serve.port)
    faults: list[Exception] = []

    def announce() -> None:
        try:
            on_ready(listener.url(found))
            notify("READY=1")
        except Exception as error:  # the loop would not close with a listener open: shut down well, then raise
            faults.append(error)
            server.should_exit = True

    try:
        server = _server(app, announce)
        with _stopped_by_signals(server):
            server.run(sockets=[found])
    finally:
        notify("STOPPING=1")
        listener.close(found)
    if faults:
        raise faults[0]


def _server(app: FastAPI, announce: Callable[[], None]) -> Server:
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            announce()

    return Announcing(
        uvicorn.Config(
            app,
            access_log=False,
            server_header=False,
            log_config=None,  # logs are for the caller to set up; a stack still finds its way to stderr
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )


@contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the server and nothing else.

    uvicorn raises them once more after it has stopped, which would kill the process that has just shut down well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
