"""Whole processes, timed from outside: seconds by the wall clock, peak memory by the kernel."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    peak_mb: float
    cpu_seconds: float = 0.0


def run(command: Sequence[str]) -> Cost:
    """Run a command; raise when it fails."""
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{command[:3]} ended with {process.returncode}:\n{output.read().decode()[-2000:]}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, Linux kilobytes
    return Cost(seconds, usage.ru_maxrss / scale, usage.ru_utime + usage.ru_stime)


def pairs(
    first: Callable[[], Sequence[str]], second: Callable[[], Sequence[str]], runs: int
) -> tuple[list[Cost], list[Cost]]:
    """Run two commands in turn, so that both meet the same weather; one warm-up of each is not counted."""
    run(first())
    run(second())
    measured: tuple[list[Cost], list[Cost]] = ([], [])
    for _ in range(runs):
        measured[0].append(run(first()))
        measured[1].append(run(second()))
    return measured


def median(costs: Sequence[Cost]) -> float:
    """Median seconds."""
    return statistics.median(cost.seconds for cost in costs)


def report(title: str, costs: Sequence[Cost]) -> str:
    """One line: median, range, peak."""
    seconds = sorted(cost.seconds for cost in costs)
    peak = max(cost.peak_mb for cost in costs)
    extent = f"range {seconds[0]:.3f} to {seconds[-1]:.3f} s"
    return f"{title:<28} median {median(costs):7.3f} s   {extent}   peak {peak:,.0f} MB"


def ratios(first: Sequence[Cost], second: Sequence[Cost]) -> str:
    """The ratio pair by pair."""
    found = sorted(a.seconds / b.seconds for a, b in zip(first, second, strict=True))
    extent = f"range {found[0]:.3f} to {found[-1]:.3f}"
    return f"{'ratio, pair by pair':<28} median {statistics.median(found):7.3f}     {extent}"
