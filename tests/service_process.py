"""`vehins serve` as a user starts it: a process of its own, on a free port, waited for, asked, and ended."""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from server_process import PATIENCE, started, wait_until
from vehins_runner import child_environment

from vehins.settings import flatten, variable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vehins.settings import Settings

MODULE = ("-m", "vehins")
# A loop of uvloop whose end raises that a connection is still open never comes to its end.
_STRICT = ("-W", "error", "-W", "default::ResourceWarning")
_ADDRESS = re.compile(r"^Serving .* on (http://[^ ,]+)", re.MULTILINE)


@dataclass
class Service:
    """A service: its address, its process, and what it has said so far."""

    process: subprocess.Popen[bytes]
    _folder: Path
    url: str = ""
    _last: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        # Each request has a connection of its own, and so meets whoever listens at that moment.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(trust_env=False, verify=False, timeout=PATIENCE, limits=limits)

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def err(self) -> str:
        """What it has printed on stderr."""
        return self._last[1] if self._last else (self._folder / "err").read_text(errors="replace")

    @property
    def said(self) -> list[str]:
        """The lines of it."""
        return self.err.splitlines()

    @property
    def out(self) -> str:
        """What it has printed on stdout."""
        return self._last[0] if self._last else (self._folder / "out").read_text(errors="replace")

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged: all lines of stderr but the one that says where it is."""
        return [json.loads(line) for line in self.said if not _ADDRESS.match(line)]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What its access log has."""
        return [line for line in self.log if line["logger"] == "vehins.access"]

    # --- what it answers ----------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(self.url + path, **more)

    def predict(self, *rows: Mapping[str, Any], **more: Any) -> httpx.Response:
        """Ask for predictions."""
        return self.client.post(self.url + "/v1/predict", json={"rows": rows}, **more)

    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/v1/model").json()
        return found

    def version(self) -> int | None:
        """The version that answers."""
        response = self.get("/v1/model")
        return response.json()["version"] if response.status_code == 200 else None

    # --- its process --------------------------------------------------------------------------------------------------

    @property
    def rss(self) -> int:
        """Bytes of memory that the process holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def rss_peak(self) -> int:
        """The most that it has held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until something holds."""
        wait_until(what)

    def wait_for_url(self) -> None:
        """Wait until it says where it listens."""
        wait_until(lambda: _ADDRESS.search(self.err) or self.process.poll() is not None)
        found = _ADDRESS.search(self.err)
        assert found, f"it ended before it listened, with exit code {self.process.returncode}"
        self.url = found[1]

    def wait_for_version(self, version: int) -> None:
        self.wait_for(lambda: self.version() == version)

    def wait_for_failure(self, version: int) -> dict[str, Any]:
        """Wait until a version is reported that could not take over; the report."""

        def failure() -> dict[str, Any]:
            return self.model()["service"]["last_failure"] or {}

        self.wait_for(lambda: failure().get("version") == version)
        return failure()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def children(self) -> list[int]:
        """The processes that it has started and that serve, by their pids."""
        found = psutil.Process(self.process.pid).children()
        return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]


def command(*words: str, program: Sequence[str] = MODULE) -> list[str]:
    return [sys.executable, *_STRICT, *program, "serve", *words]


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The variables for a process with these settings and no others, on a free port."""
    given = flatten(settings.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    # Nobody waits for a load balancer here, or for long to see that the alias has moved.
    given |= {"serve.port": 0, "serve.leave_seconds": 0, "serve.poll_seconds": 0.2}
    return child_environment(**{variable(name): str(value) for name, value in given.items()} | more)


@contextmanager
def serving(
    settings: Settings,
    *words: str,
    env: Mapping[str, str] | None = None,
    wait: bool = True,
    program: Sequence[str] = MODULE,
) -> Iterator[Service]:
    """Serve with some settings until the end of the block.

    Args:
        settings: Those of the service; the port is a free one whatever they say.
        words: More of its command line, which comes before the settings.
        env: More variables for it.
        wait: Whether it has to answer before the block begins.
        program: What the interpreter runs.
    """
    with tempfile.TemporaryDirectory(prefix="vehins-service-") as name:
        folder = Path(name)  # with no vehins.toml and no .env
        variables = environment(settings, **env or {})
        with started(
            command(*words, program=program), folder / "err", folder / "out", cwd=folder, env=variables
        ) as process:
            service = Service(process, folder)
            try:
                if wait:
                    service.wait_for_url()
                yield service
            finally:
                service.client.close()
        service._last = service.out, service.err
