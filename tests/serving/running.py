"""The service as its own process, the way a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vehins.settings import Settings

_ADDRESS = re.compile(r" on (http://\S+), try ")


@dataclass
class Service:
    """A running service: its address, its process, and what it has said so far."""

    url: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def rss(self) -> int:
        """Bytes of memory that the process holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def command(settings: Settings, *words: str) -> list[str]:
    where = ["--workspace", str(settings.workspace), "--port", "0"]
    return [sys.executable, "-W", "error", "-m", "vehins", "serve", *where, *words]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This environment with some variables, and no other settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VEHINS_")} | dict(variables)


@contextmanager
def running(settings: Settings, *words: str, **variables: str) -> Iterator[Service]:
    """Serve a workspace until the end of the block; ``variables`` are for its environment."""
    with subprocess.Popen(
        command(settings, *words), env=environment(variables), stderr=subprocess.PIPE, text=True
    ) as process:
        service = Service("", process)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                service.said.append(line)
                found = _ADDRESS.search(line)
                if found:
                    service.url = found[1]
                    break
            assert service.url, service.said
            threading.Thread(target=service.said.extend, args=(process.stderr,), daemon=True).start()
            yield service
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
