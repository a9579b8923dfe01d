"""The rounds: every server in turn with the same rows, so that all meet the same weather; the ratios count."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from benchmarks import measure
from benchmarks.serving import wrk
from benchmarks.serving.peers import Peer, environment, peers
from vehins.artifacts.manifest import TrainedModel
from vehins.artifacts.workspace import Workspace
from vehins.data import schema as table_schema
from vehins.data.demo import batches
from vehins.model.bundle import Bundle

HERE = Path(__file__).parent
VEHINS = [sys.executable, "-m", "vehins"]
SECONDS, MANY = 3, 100
PATIENCE = 120.0
MB = 1e6


@dataclass
class Server:
    """A process that answers, and what was measured of it by the number of rows in a request."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    bodies: dict[int, Path]
    loads: dict[int, list[wrk.Load]] = field(default_factory=lambda: {1: [], MANY: []})
    peak_mb: float = 0.0

    def family(self) -> list[psutil.Process]:
        """The process and those that it has started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu(self) -> float:
        """Processor seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family())

    def load(self, rows: int, seconds: int, folder: Path) -> wrk.Load:
        """Load it for some seconds."""
        before = self.cpu()
        found = wrk.load(self.url, self.bodies[rows], seconds, folder)
        self.peak_mb = max(self.peak_mb, sum(process.memory_info().rss for process in self.family()) / MB)
        return replace(found, cpu_seconds=self.cpu() - before)


def serving(runs: int, folder: Path, file: Path | None) -> None:
    """Start them all, load them in turn, and report."""
    wrk.check()
    workspace = folder / "w"
    source = str(file) if file else "demo://?rows=381109"
    measure.run([*VEHINS, "pipeline", "run", "--source", source, "-w", str(workspace), "--set", "gate.min_auc=0.5"])
    newest = Workspace(workspace).newest(TrainedModel)
    assert newest is not None
    bundle = Bundle(newest.path("bundle"), 1)
    rows = next(batches(MANY, seed=7)).select(list(table_schema.load("vehicle-insurance").features)).to_dicts()
    bodies = {count: _write(folder / f"rows{count}.json", {"rows": rows[:count]}) for count in (1, MANY)}
    _first_answers(runs, workspace, bodies[1])
    encoded = [bundle.encoder.encode_row(row) for row in rows]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(_vehins(workspace, bodies, folder)),
            stack.enter_context(_bare(bundle.folder / "signature.json", bodies, folder)),
        ]
        others = peers(bundle.folder / "model.txt", folder, (_port(), _port()))
        servers += [stack.enter_context(_peer(peer, encoded, folder)) for peer in others]
        _rounds(servers, runs, folder)
    _report(servers)


def _write(path: Path, body: object) -> Path:
    path.write_text(json.dumps(body))
    return path


def _port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


# --- The servers ------------------------------------------------------------------------------------------------------


@contextmanager
def _started(command: Sequence[str], log: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the end of the block, and then neither it nor its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(command[0]), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for left in alive:
        left.kill()
    process.wait()


@contextmanager
def _vehins(workspace: Path, bodies: dict[int, Path], folder: Path) -> Iterator[Server]:
    """The whole service, as it is started by hand."""
    log = folder / "vehins.log"
    with _started([*VEHINS, "serve", "-w", str(workspace), "--port", "0"], log, folder) as process:
        yield Server("vehins serve", process, _address(process, log) + "/v1/predict", bodies)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """What it says that it serves on."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"Serving .* on (http://\S+?),", log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.005)
    sys.exit(f"vehins serve does not start:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def _bare(signature: Path, bodies: dict[int, Path], folder: Path) -> Iterator[Server]:
    port = _port()
    command = [sys.executable, str(HERE / "bare.py"), str(signature), str(port)]
    with _started(command, folder / "bare.log", Path.cwd()) as process:
        _wait(process, f"http://127.0.0.1:{port}/openapi.json", folder / "bare.log")
        yield Server("bare endpoint", process, f"http://127.0.0.1:{port}/v1/predict", bodies)


@contextmanager
def _peer(peer: Peer, encoded: Sequence[Sequence[float]], folder: Path) -> Iterator[Server]:
    log, port = folder / f"{peer.name}.log", peer.command[-1]
    bodies = {count: folder / f"{peer.name}{count}.json" for count in (1, MANY)}
    for count, path in bodies.items():
        path.write_bytes(peer.body(encoded[:count]))
    with _started(peer.command, log, peer.folder) as process:
        _wait(process, f"http://127.0.0.1:{port}{peer.ready}", log)
        yield Server(peer.name, process, f"http://127.0.0.1:{port}{peer.path}", bodies)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    sys.exit(f"{url} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


# --- What is measured -------------------------------------------------------------------------------------------------


def _first_answers(runs: int, workspace: Path, body: Path) -> None:
    """Seconds from the start of the process to its first answer; the first start fills the cache, uncounted."""
    found = []
    for number in range(runs + 1):
        log = workspace / "first.log"
        begin = time.perf_counter()
        with _started([*VEHINS, "serve", "-w", str(workspace), "--port", "0"], log, workspace) as process:
            url = _address(process, log) + "/v1/predict"
            with urllib.request.urlopen(urllib.request.Request(url, body.read_bytes()), timeout=60) as answer:
                answer.read()
            found.append((time.perf_counter() - begin) * (number > 0))
    seconds = sorted(found[1:])
    extent = f"range {seconds[0]:.2f} to {seconds[-1]:.2f} s"
    print(f"first answer after the start: median {statistics.median(seconds):.2f} s   {extent}   (promised: 1.0)")


def _rounds(servers: Sequence[Server], runs: int, folder: Path) -> None:
    """Each server for some seconds, in turn; the first round is a warm-up."""
    for number in range(runs + 1):
        for rows in (1, MANY):
            for server in servers:
                found = server.load(rows, SECONDS if number else 1, folder)
                if number:
                    server.loads[rows].append(found)


def _report(servers: Sequence[Server]) -> None:
    kind = f"{wrk.CONNECTIONS} connections, {SECONDS} s each, medians of {len(servers[0].loads[1])} rounds"
    print(f"{kind}; {os.cpu_count()} cores; wrk at {shutil.which('wrk')}")
    print(
        f"{'':<16} {'rows':>5} {'requests/s':>11} {'rows/s':>9} {'p50 ms':>7} {'p99 ms':>7} {'CPU us':>7} {'RSS MB':>7}"
    )
    for rows in (1, MANY):
        for server in servers:
            loads = server.loads[rows]
            rate, p50, p99, cpu = (statistics.median(getattr(one, name) for one in loads) for name in _SHOWN)
            figures = f"{rate:11,.0f} {rate * rows:9,.0f} {p50:7.2f} {p99:7.2f} {cpu:7.0f} {server.peak_mb:7.0f}"
            print(f"{server.name:<16} {rows:5} {figures}")
    ours, bare = servers[:2]
    print(_ratio("1 row: requests/s to the bare endpoint's", ours.loads[1], bare.loads[1], "rate", "at least 0.90"))
    print(_ratio("1 row: p99", ours.loads[1], bare.loads[1], "p99", "at most 1.5"))
    hundred = ours.loads[MANY], bare.loads[MANY]
    print(_ratio(f"{MANY} rows: requests/s", *hundred, "rate", "at least 0.5, or 60,000 rows/s"))
    print(f"RSS of vehins serve under load: {ours.peak_mb:.0f} MB   (promised: at most 150)")
    for peer in servers[2:]:
        for rows in (1, MANY):
            name = f"{rows} row{'s' if rows > 1 else ''}: requests/s to {peer.name}'s"
            print(_ratio(name, ours.loads[rows], peer.loads[rows], "rate"))


_SHOWN = ("rate", "p50", "p99", "cpu_us")


def _ratio(title: str, first: Sequence[wrk.Load], second: Sequence[wrk.Load], name: str, promise: str = "") -> str:
    """The ratio pair by pair."""
    found = sorted(getattr(a, name) / getattr(b, name) for a, b in zip(first, second, strict=True))
    told = f"ratio {statistics.median(found):6.2f} ({found[0]:.2f} to {found[-1]:.2f})"
    return f"{title:<44} {told}" + (f"   (promised: {promise})" if promise else "")
