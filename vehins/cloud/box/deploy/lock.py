"""One deployment at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vehins.cloud.box.deploy.errors import FailureError, now, until

BUSY = 7  # the exit code


@contextmanager
def locked(path: Path, seconds: float, words: list[str]) -> Iterator[None]:
    """Let one deployment through at a time. The kernel lets go of the lock when its holder ends, however it does."""
    with path.open("a+", encoding="utf-8") as file:
        if not until(lambda: _lock(file.fileno()), seconds):
            who = holder(path) or "just begun"
            raise FailureError(f"Another deployment is under way ({who}): try again later.", BUSY)
        file.truncate(0)
        file.write(f"{' '.join(words)}, process {os.getpid()}, since {now()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> str | None:
    """Who holds the lock."""
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        if not _lock(file.fileno()):
            return file.read() or None
    return None
