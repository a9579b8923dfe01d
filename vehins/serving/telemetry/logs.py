"""Every log record of the serving process as one JSON object a line, written by a thread of its own."""

from __future__ import annotations

import logging
import threading
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from vehins.masking import redacted
from vehins.serving.telemetry.exchange import current
from vehins.serving.telemetry.lines import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOGGER = "vehins"
_LOGGER = logging.getLogger("vehins.serving")
_TEXT_CHARACTERS, _STACK_CHARACTERS = 2_000, 12_000  # the end of a stack is what says most

FIELDS = {
    "time": "UTC, ISO 8601 with microseconds.",
    "level": "`debug`, `info`, `warning`, `error` or `critical`.",
    "logger": "Which part of the service, or which library, wrote it.",
    "message": "What happened.",
    "request_id": "The request that it belongs to, if it does to one.",
    "stack": "Where an error came from, if one is told of.",
}
"""The fields of a log record, in their order."""


def moment(seconds: float) -> str:
    """A time of the system's clock as logs write it."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06}Z"


@lru_cache(2)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def line(record: logging.LogRecord) -> bytes:
    """A log record as a JSON object; secrets of this process are masked."""
    found: dict[str, Any] = {
        "time": moment(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": redacted(record.getMessage()).strip()[:_TEXT_CHARACTERS],
    }
    exchange = current.get()
    if exchange is not None:
        found["request_id"] = exchange.request_id
    if record.exc_info and record.exc_info[1] is not None:
        found["stack"] = redacted("".join(traceback.format_exception(record.exc_info[1])))[-_STACK_CHARACTERS:]
    return to_json(found)


class JsonHandler(logging.Handler):
    """Hands log records to a writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a record; one that cannot be written down is told of by its place."""
        try:
            found = line(record)
        except Exception:  # a log must never be what fails
            found = to_json({"level": "error", "logger": record.name, "message": f"Not a log record: {record.msg!r}"})
        self._writer.write(found)


@contextmanager
def json_logs(drain_seconds: float, on_drop: Callable[[], None] = lambda: None) -> Iterator[LineWriter]:
    """Let all that this process logs go to stderr as JSON lines, as long as the context lasts.

    At its end, what still waits has so many seconds. ``on_drop`` hears of every line that is dropped.
    """
    writer = LineWriter(_dropped, on_drop)
    root, own, handler = logging.getLogger(), logging.getLogger(LOGGER), JsonHandler(writer)
    before = (root.handlers, root.level, own.level, threading.excepthook)
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    own.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _uncaught
    try:
        yield writer
    finally:
        root.handlers, root_level, own_level, threading.excepthook = before
        root.setLevel(root_level)
        own.setLevel(own_level)
        logging.captureWarnings(False)
        writer.close(drain_seconds)


def _uncaught(args: Any) -> None:
    """What ended a thread of the service."""
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "unknown"
        _LOGGER.critical("The thread %s has ended", name, exc_info=args.exc_value)


def _dropped(count: int) -> bytes:
    text = f"{count:,} lines of this log were dropped: stderr took no more."
    return line(logging.LogRecord(_LOGGER.name, logging.WARNING, "", 0, text, (), None))
