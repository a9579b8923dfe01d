"""The service as a whole: it listens, and serves with one process or with several."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vehins.serving import listener, workers
from vehins.serving.keys import keys_for
from vehins.serving.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vehins.settings import Settings


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve the version that the alias points to until SIGINT or SIGTERM; then answer what is under way.

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
    url = listener.url(found)
    try:
        with logged():
            if settings.serve.workers > 1:
                workers.run(settings, found, lambda: on_ready(url))
            else:
                _alone(Process(settings, found, lambda: on_ready(url), lambda: None))
    finally:
        listener.close(found)


def _alone(process: Process) -> None:
    with process.ended_by_signals():
        process.run()


@contextmanager
def logged() -> Iterator[None]:
    """Let what the service has to say appear on stderr, unless the program that it runs in has logs of its own."""
    log = logging.getLogger("vehins")
    if log.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if before == logging.NOTSET else before)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
