"""What the tests of artifacts run in processes of their own. Nothing here imports pytest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact_samples import make

from vehins.artifacts import runs, workspace
from vehins.artifacts.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["artifact_samples", "vehins.artifacts.runs"])


def start(task: Callable[..., None], *given: Any) -> Any:
    """Start ``task`` in a process of its own; its first argument is an event to set when it has begun."""
    begun = CONTEXT.Event()
    process = CONTEXT.Process(target=task, args=(begun, *given))
    process.start()
    assert begun.wait(60)
    return process


def kill(process: Any) -> None:
    """End a process without giving it a chance to tidy up (SIGKILL)."""
    process.kill()
    process.join()


# --- tasks ------------------------------------------------------------------------------------------------------------


def hold(begun: Any, root: Path, release: Path) -> None:
    """Hold the workspace until there is a file."""
    sys.argv = ["vehins", "train", "--secret", "x"]
    with Workspace(root).writing(0, print):
        begun.set()
        while not release.exists():
            time.sleep(0.01)


def run_and_hold(begun: Any, root: Path) -> None:
    """Begin a run, and never end it."""
    place = Workspace(root)
    with place.writing(0, print):
        runs.save(place, runs.start("vehins pipeline run"))
        begun.set()
        time.sleep(600)


def die_at(begun: Any, root: Path, moment: str) -> None:
    """Make an artifact, and be killed at a moment of it."""

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    place = Workspace(root)
    begun.set()
    real_write, real_rename = workspace.write_atomically, Path.rename
    match moment:
        case "files are made":
            workspace.flush_file = die
        case "files are durable":
            workspace.flush_folder = die
        case "before the manifest":
            workspace.write_atomically = lambda path, data: (
                die() if path.name == "manifest.json" else real_write(path, data)
            )
        case "half a manifest":
            Path.replace = lambda self, target: (
                die() if Path(target).name == "manifest.json" else real_rename(self, target)
            )
        case "before it is renamed":
            Path.rename = die
        case "after it is renamed":
            Path.rename = lambda self, target: (real_rename(self, target), die())
    with place.writing(0, print):
        make(place, number=1, size=100_000)


def make_many(begun: Any, root: Path, first: int) -> None:
    """Make one artifact after the other until killed."""
    place = Workspace(root)
    with place.writing(60, print):
        begun.set()
        for number in range(first, first + 100_000):
            make(place, number=number, size=200_000)
