"""Metrics of a service that is more than one process.

A scrape reaches any one of the workers and must hear of all. Prometheus' client has a mode for this: every process
keeps its numbers in files of a common folder, mapped into its memory, and whoever is asked reads the files of all. So
counts of a worker that has died are not lost, and nothing has to talk to anything. One process alone keeps its numbers
in memory, which costs less.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared(workers: int) -> Iterator[None]:
    """Let the workers that this process starts count together; a folder of an earlier start is never read.

    Nothing may have imported ``prometheus_client`` yet: it looks at the variable when it is imported.
    """
    before = os.environ.pop(_VARIABLE, None)  # one that the environment happens to have would mix in other services
    if workers == 1:
        try:
            yield
        finally:
            _restore(before)
        return
    folder = tempfile.mkdtemp(prefix="vehins-metrics-")
    os.environ[_VARIABLE] = folder
    try:
        yield
    finally:
        _restore(before)
        shutil.rmtree(folder, ignore_errors=True)


def _restore(before: str | None) -> None:
    os.environ.pop(_VARIABLE, None)
    if before is not None:
        os.environ[_VARIABLE] = before


def ended(pid: int) -> None:
    """A worker has ended: what only live processes have (requests under way, its model) goes; its counts stay."""
    if _VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def readable(registry: Any) -> Any:
    """What a scrape reads: this process's numbers, or those of all workers; and the processes themselves."""
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
    from prometheus_client.multiprocess import MultiProcessCollector

    folder = os.environ.get(_VARIABLE)
    found = CollectorRegistry()
    PlatformCollector(found)
    if folder is None:
        ProcessCollector(registry=found)
        found.register(registry)
    else:
        found.register(_Workers(Path(folder)))
        MultiProcessCollector(found, folder)  # type: ignore[no-untyped-call]
    return found


class _Workers:
    """Memory, time and files of every worker, by its process id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Any]:
        """One family for each of the client's process metrics."""
        from prometheus_client import ProcessCollector

        families: dict[str, Any] = {}
        for pid in sorted({path.stem.rpartition("_")[2] for path in self._folder.glob("*.db")}):
            for one in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                samples, one.samples = one.samples, []
                family = families.setdefault(one.name, one)
                family.samples += [sample._replace(labels={"pid": pid}) for sample in samples]
        yield from families.values()
