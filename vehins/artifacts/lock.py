"""One writer per workspace: a lock that dies with its holder, and that names its holder."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from vehins.artifacts.files import write_atomically
from vehins.errors import LockedError

LOCK_FILE = "lock"
HOLDER_FILE = "lock.json"


@contextmanager
def writer(root: Path, timeout: float, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the workspace for writing.

    ``on_wait`` is told once who holds it when waiting begins; ``timeout`` is in seconds.

    Raises:
        LockedError: somebody else still holds it after ``timeout`` seconds.
    """
    lock = FileLock(root / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait(holder(root))
        _acquire(lock, root, timeout)
    try:
        write_atomically(root / HOLDER_FILE, json.dumps(_me()).encode())
        yield
    finally:
        (root / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, root: Path, timeout: float) -> None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise LockedError(
            f"The workspace {root} is in use by {holder(root)}",
            detail=f"Waited {timeout:g} s for it.",
            hint="Wait for it to end, wait longer (`--set lock_timeout=SECONDS`), or use another `--workspace DIR`.",
        ) from None


def is_locked(root: Path) -> bool:
    """Tell whether a living process holds the workspace, as far as this one may know."""
    if not (root / LOCK_FILE).exists():
        return False
    lock = FileLock(root / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # somebody else's workspace, which this process may only read
        return (root / HOLDER_FILE).exists()
    lock.release()
    return False


def holder(root: Path) -> str:
    """Say who holds the workspace, as far as is known."""
    try:
        who = json.loads((root / HOLDER_FILE).read_bytes())
        return f"process {who['pid']} on {who['host']} (`{who['command']}`, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _me() -> dict[str, str | int]:
    # Only the verb: the other arguments may carry a password.
    command = " ".join(["vehins", *[word for word in sys.argv[1:3] if word.isalpha()]])
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": since}
