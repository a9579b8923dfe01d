"""An iterator that works ahead of its reader, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
_LOOK = 0.1  # seconds between looks at whether the reader has gone away


class _End:
    """What comes last: why there is no more, if not that all is read."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterator[T], count: int = 1) -> Generator[T, None, None]:
    """Yield what an iterator yields, while it already works on what comes up to ``count`` items later.

    It is worth a thread where the iterator waits for another machine. What it raises is raised here.
    """
    ready: Queue[T | _End] = Queue(count)
    left = threading.Event()
    # A daemon: one that waits for a server that hangs must not keep the program from ending.
    threading.Thread(target=_work, args=(items, ready, left), daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        left.set()
        with suppress(Empty):
            ready.get_nowait()


def _work(items: Iterator[T], ready: Queue[T | _End], left: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            if not _put(item, ready, left):
                return
    except BaseException as error:  # handed over to the thread that reads
        end = _End(error)
    _put(end, ready, left)


def _put(item: T | _End, ready: Queue[T | _End], left: threading.Event) -> bool:
    """Hand over an item; whether somebody still waits for it."""
    while not left.is_set():
        with suppress(Full):
            ready.put(item, timeout=_LOOK)
            return True
    return False
