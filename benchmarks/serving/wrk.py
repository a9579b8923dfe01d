"""`wrk` sends requests as fast as they are answered, over some connections; a few lines of Lua print what it saw."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 8
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What one load of some seconds came to; the latencies are in milliseconds."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of the server for one request, which busy neighbours do not change much."""
        return self.cpu_seconds / max(self.requests, 1) * 1e6


def check() -> None:
    """End with the reason when `wrk` is missing."""
    if shutil.which("wrk") is None:
        sys.exit("`wrk` is missing, and nothing is measured without it: `apt-get install wrk`, or `brew install wrk`.")


def load(url: str, body: Path, seconds: int, folder: Path) -> Load:
    """Load an address with one body; no answer may be an error."""
    script = folder / "post.lua"
    script.write_text(_SCRIPT)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    done = subprocess.run(command, env={"BENCH_BODY": str(body)}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"wrk ended with {done.returncode}:\n{done.stderr[-1000:]}{done.stdout[-1000:]}")
    found = Load(**json.loads(done.stdout.strip().splitlines()[-1]))
    if found.failed or not found.requests:
        sys.exit(f"{url}: {found.failed} of {found.requests} requests failed.")
    return found
