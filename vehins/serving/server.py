"""The service as a whole: it listens, and serves with one process or with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.serving import listener
from vehins.serving.keys import keys_for
from vehins.serving.notify import notify
from vehins.serving.process import Process
from vehins.serving.telemetry import processes
from vehins.serving.telemetry.logs import json_logs
from vehins.serving.telemetry.telemetry import opened

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from vehins.settings import Settings


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve the version that the alias points to until SIGINT, SIGTERM or SIGHUP; then answer what is under way.

    ``on_ready`` is called with the address once requests are answered there. While the registry does not answer, that
    may be from a copy, or with nothing but "not ready"; so it is while there is no version in the registry.

    Raises:
        UnreachableError: the port is in use, or there is no version of the number that was asked for.
        ConfigurationError: the host, the port or the registry cannot be, or nobody is logged in to it.
        DataError: the bundle is damaged, or fails its golden rows, and no copy of another can stand in.
        CredentialsError: others than this machine could ask, and there is no API key.
    """
    keys_for(settings)  # before anything listens
    found = listener.listen(settings.serve.host, settings.serve.port)

    def announce() -> None:
        on_ready(listener.url(found))
        notify("READY=1")

    try:
        with processes.shared(settings.serve.workers):
            if settings.serve.workers > 1:
                _together(settings, found, announce)
            else:
                _alone(settings, found, announce)
    finally:
        notify("STOPPING=1")
        listener.close(found)


def _alone(settings: Settings, found: socket.socket, on_ready: Callable[[], None]) -> None:
    with opened(settings) as telemetry:
        process = Process(settings, found, telemetry, on_ready, lambda: None)
        with process.ended_by_signals():
            process.run()


def _together(settings: Settings, found: socket.socket, on_ready: Callable[[], None]) -> None:
    from vehins.serving import workers

    with json_logs(settings.serve.drain_seconds):
        workers.run(settings, found, on_ready)
