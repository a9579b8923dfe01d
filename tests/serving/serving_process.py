"""The service as a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import vehins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.settings import Settings

PROGRAM = """
import sys
from vehins.serving.server import run
from vehins.settings import Settings
run(Settings.model_validate_json(sys.argv[1]), lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


@dataclass
class Service:
    """A service that answers."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    out: str = ""
    err: str = ""

    def predict(self, rows: list[dict[str, Any]], **more: Any) -> httpx.Response:
        """Ask for predictions."""
        return self.client.post("/v1/predict", json={"rows": rows}, **more)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and keep what it has printed."""
        self.process.send_signal(number)
        self.out, self.err = self.process.communicate(timeout=60)

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged, once it has ended."""
        return [json.loads(line) for line in self.err.splitlines()]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What its access log has, once it has ended."""
        return [line for line in self.log if line["logger"] == "vehins.access"]


@contextmanager
def service(settings: Settings, **environment: str) -> Iterator[Service]:
    """Start the service of some settings, and end it afterwards, however the test goes."""
    serve = settings.serve.model_copy(update={"host": "127.0.0.1", "port": 0})
    text = settings.model_copy(update={"serve": serve}).model_dump_json(by_alias=True)
    paths = os.pathsep.join(filter(None, (str(Path(vehins.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-W", "error", "-c", PROGRAM, text]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths, **environment}, **pipes) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
                yield Service(process, url, client)
        finally:
            process.kill()


def until(found: Any, seconds: float = 30.0) -> Any:
    """Ask until there is an answer; what it is."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return answer
