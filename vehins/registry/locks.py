"""File locks: held by one process at a time, gone with their holder."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from vehins.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock file ``path``; `LockedError` when another process holds it for longer than ``patience`` seconds."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience, poll_interval=0.01)
    except Timeout:
        raise LockedError(
            f"Another process works on {path.parent}",
            detail=f"{path} has been locked for {patience:g} s.",
            hint="Wait until that process has ended, or end it, and run the command again.",
        ) from None
    try:
        yield
    finally:
        lock.release()
