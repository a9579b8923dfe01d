"""Lines on their way to stderr, by a thread of its own: a reader that has stopped reading stops no request."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STDERR = 2
_BOUND = 10_000
_GATHERING_SECONDS = 0.05  # one wake-up for many lines: waking the thread at each would cost more than the line
_WRITE_BYTES = 4096  # a pipe takes so many at once or not at all (POSIX), so lines of several processes do not mix


class LineWriter:
    """Writes whole lines in their order, and drops new ones while ``bound`` of them wait.

    ``on_drop`` hears of every line that is dropped, on the thread that wanted to write it. ``told`` makes the line
    that tells, once lines are read again, how many are missing.
    """

    def __init__(
        self,
        told: Callable[[int], bytes],
        on_drop: Callable[[], None] = lambda: None,
        descriptor: int = STDERR,
        bound: int = _BOUND,
    ) -> None:
        self._told, self._on_drop, self._descriptor, self._bound = told, on_drop, descriptor, bound
        self._lines: deque[bytes] = deque()
        self._wake, self._closing = threading.Event(), False
        self._lock = threading.Lock()
        self._untold = 0
        # A daemon: it may hang in a write to a pipe that nobody reads, and the process must end all the same.
        self._thread = threading.Thread(target=self._run, name="vehins-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Take a line without its end; returns at once, whatever becomes of it."""
        if len(self._lines) >= self._bound:
            with self._lock:
                self._untold += 1
            self._on_drop()
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Write what waits, for so many seconds at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            if not self._closing:
                time.sleep(_GATHERING_SECONDS)
            self._wake.clear()
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        while self._lines:
            chunk = self._lines.popleft() + b"\n"
            while self._lines and len(chunk) + len(self._lines[0]) < _WRITE_BYTES:
                chunk += self._lines.popleft() + b"\n"
            self._put(chunk)
            self._tell()

    def _tell(self) -> None:
        """Say what is missing, as soon as there is room again."""
        with self._lock:
            missing, self._untold = self._untold, 0
        if missing:
            self._put(self._told(missing) + b"\n")

    def _put(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever made the pipe wants nobody to wait for it
                select.select([], [self._descriptor], [], 1.0)
            except OSError:  # nobody reads any more, and there is nobody to tell
                return
