"""The prediction log: the rows that were predicted and what was answered, as Parquet parts in a folder.

    FOLDER/<model>/version-<number>/<time>-<process>-<number>.parquet

Parts of one version have the same columns: those of its table that the model takes, typed as they are, and `COLUMNS`.
A request leaves its rows in a queue and goes on; a thread types and writes them. What the queue or the disk cannot
take is dropped and counted: a log is never the reason that a customer waits.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from vehins.artifacts.files import flush_file, flush_folder
from vehins.data.conform import polars_type
from vehins.errors import storage_error
from vehins.serving.telemetry.exchange import current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import polars as pl

    from vehins.data.schema import Scalar
    from vehins.serving.answers import BadCell
    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction, Predictor
    from vehins.serving.status import SwapOutcome
    from vehins.serving.telemetry.metrics import Metrics

COLUMNS = {
    "probability": "What the model said.",
    "percentile": "Share of the training population that scores no higher, in percent.",
    "contact": "Whether contacting this customer pays.",
    "model": "Name of the model.",
    "model_version": "Its version.",
    "request_id": "The request that the row came with, as the access log has it.",
    "scored_at": "When it was answered (UTC).",
}
"""The columns beside those of the table, which keeps its own where it has one of the same name."""

_LOGGER = logging.getLogger("vehins.serving")
_PAUSE_SECONDS = 0.5  # many rows at once cost far less than each on its own
_TYPED_ROWS = 500  # at a time: the interpreter belongs to this thread for as long, 0.4 ms
_STALE_SECONDS = 3600.0


class Limits(NamedTuple):
    """How much is held, and for how long."""

    waiting_rows: int = 20_000
    """Rows in the queue, at most; two of the largest requests."""
    part_rows: int = 50_000
    part_seconds: float = 60.0
    """Age of the oldest row of a part when it is written."""


class _Answered(NamedTuple):
    predictor: Predictor
    at: int
    """Microseconds since 1970."""
    request_id: str | None
    rows: Sequence[Mapping[str, Scalar | None]]
    predictions: Sequence[Prediction]


class PredictionLog:
    """Keeps what it hears of; `close` writes what is still held.

    Raises:
        StorageError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, metrics: Metrics, limits: Limits | None = None) -> None:
        import polars  # noqa: F401 - not at the first request, which would wait for it

        self._folder, self._metrics, self._limits = folder, metrics, limits or Limits()
        self._parts = _Parts(folder, metrics)
        self._parts.check()
        self._queue: deque[_Answered] = deque()
        self._waiting, self._lock = 0, threading.Lock()
        self._wake, self._closing = threading.Event(), False
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="vehins-prediction-log", daemon=True)
        self._thread.start()

    def answered(
        self, ready: Ready, rows: Sequence[Mapping[str, Scalar | None]], predictions: Sequence[Prediction]
    ) -> None:
        """Queue some rows, all or none."""
        count = len(rows)
        with self._lock:
            fits = self._waiting + count <= self._limits.waiting_rows
            self._waiting += count if fits else 0
        if not fits:
            self._metrics.rows_dropped(count, "queue")
            return
        exchange = current.get()
        request_id = exchange.request_id if exchange else None
        if self._waiting > self._limits.waiting_rows // 4:
            self._wake.set()
        self._queue.append(_Answered(ready.predictor, time.time_ns() // 1_000, request_id, rows, predictions))

    def refused(self, ready: Ready, cells: Sequence[BadCell]) -> None:
        """Rows that were refused have no scores."""

    def swapped(self, outcome: SwapOutcome) -> None:
        """Every row is kept with the version that scored it."""

    def close(self, seconds: float) -> None:
        """Write what is held, for so many seconds at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            _LOGGER.error("The prediction log was not written to its end: the disk took more than %.0f s", seconds)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_PAUSE_SECONDS)
            self._wake.clear()
            self._turn(self._limits.part_seconds)
        self._turn(0.0)

    def _turn(self, age: float) -> None:
        try:
            while self._queue:
                self._take()
            self._parts.roll(age)
        except Exception:  # the thread must live on, whatever a library makes of some rows
            _LOGGER.exception("Rows of the prediction log were lost")
            self._metrics.rows_dropped(self._parts.forget(), "fault")

    def _take(self) -> None:
        """Type the next rows of one version, and write the part when it is full."""
        some = [self._queue.popleft()]
        rows = len(some[0].rows)
        while self._queue and rows < _TYPED_ROWS and self._queue[0].predictor is some[0].predictor:
            some.append(self._queue.popleft())
            rows += len(some[-1].rows)
        with self._lock:
            self._waiting -= rows
        self._parts.add(some, rows)
        if self._parts.rows >= self._limits.part_rows:
            self._parts.roll(0.0)


class _Parts:
    """The rows on their way to disk: typed, and held until they make a part. One thread uses it."""

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self._folder, self._metrics = folder, metrics
        self._held: list[pl.DataFrame] = []
        self._predictor: Predictor | None = None
        self._began, self._written = 0.0, 0
        self._process = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._failing = False
        self.rows = 0

    def check(self) -> None:
        """Make the folder and write to it; remove what processes that were killed have left half-written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".tmp-{self._process}"
            probe.touch()
            probe.unlink()
            for left in self._folder.rglob(".tmp-*"):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) or error from None

    def add(self, some: Sequence[_Answered], rows: int) -> None:
        """Take in rows of one version; those of another one before it become a part."""
        if self._predictor is not some[0].predictor:
            self.roll(0.0)
            self._predictor = some[0].predictor
        self._began = self._began if self._held else time.monotonic()
        self.rows += rows
        self._held += [_typed(self._predictor, chunk) for chunk in _chunks(some)]

    def roll(self, age: float) -> None:
        """Write the part if it has been held for so many seconds."""
        if not self._held or time.monotonic() - self._began < age:
            return
        try:
            self._write()
        except Exception as error:
            if storage_error(error) is None and not isinstance(error, OSError):
                raise
            self._metrics.rows_dropped(self.forget(), "disk")
            if not self._failing:
                _LOGGER.error("The prediction log cannot be written, and drops rows until it can: %s", error)
            self._failing = True
            return
        self._metrics.rows_kept(self.forget())
        if self._failing:
            _LOGGER.warning("The prediction log is being written again")
        self._failing = False

    def forget(self) -> int:
        """Let go of what is held; return how many rows that were."""
        rows, self.rows, self._held = self.rows, 0, []
        return rows

    def _write(self) -> None:
        """One part, in one step: whoever reads the folder sees all of it or nothing."""
        import polars as pl

        assert self._predictor is not None  # noqa: S101 - rows are held, and came with it
        folder = self._folder / self._predictor.name / f"version-{self._predictor.version}"
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._process}-{self._written:05}.parquet"
        temporary = folder / f".tmp-{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pl.concat(self._held).write_parquet(temporary)
            flush_file(temporary)
            temporary.rename(folder / name)
            flush_folder(folder)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._written += 1


def _chunks(some: Sequence[_Answered]) -> list[list[_Answered]]:
    """Large requests in pieces, each small enough to be typed in one go."""
    if len(some) > 1 or len(some[0].rows) <= _TYPED_ROWS:
        return [list(some)]
    [one] = some
    starts = range(0, len(one.rows), _TYPED_ROWS)
    ends = [(start, start + _TYPED_ROWS) for start in starts]
    return [[one._replace(rows=one.rows[a:b], predictions=one.predictions[a:b])] for a, b in ends]


def _typed(predictor: Predictor, some: Sequence[_Answered]) -> pl.DataFrame:
    """The rows in the types of their table, and beside them what was answered."""
    import polars as pl

    types: dict[str, Any] = {name: polars_type(column.dtype) for name, column in predictor.table.features.items()}
    frame = pl.from_dicts([row for one in some for row in one.rows], schema=types)
    answers = [answer for one in some for answer in one.predictions]
    at, ids = _repeated(some, "at"), _repeated(some, "request_id")
    own = [
        pl.Series("probability", [answer.probability for answer in answers], pl.Float64),
        pl.Series("percentile", [answer.percentile for answer in answers], pl.Float64),
        pl.Series("contact", [answer.contact for answer in answers], pl.Boolean),
        pl.Series("model", [predictor.name], pl.String).new_from_index(0, frame.height),
        pl.Series("model_version", [predictor.version], pl.Int64).new_from_index(0, frame.height),
        pl.Series("request_id", ids, pl.String),
        pl.Series("scored_at", at, pl.Int64).cast(pl.Datetime("us", "UTC")),
    ]
    return frame.hstack([column for column in own if column.name not in types])


def _repeated(some: Sequence[_Answered], name: str) -> list[Any]:
    """What a request has, as often as it has rows."""
    return [value for one in some for value in [getattr(one, name)] * len(one.rows)]
