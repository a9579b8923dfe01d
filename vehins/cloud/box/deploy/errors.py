"""How the command fails, and what it tells on the way."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime


class FailureError(Exception):
    """Ends the command: what happened and what mends it, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class EndedError(BaseException):
    """A signal asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


def say(text: str) -> None:
    """Tell the people."""
    sys.stderr.write(f"vehins-deploy: {text}\n")
    sys.stderr.flush()


def now() -> str:
    """The time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def until(check: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Whether the check came true in time; it is made once at least."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True
