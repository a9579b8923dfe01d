"""The one place where the service keeps its model, so that another can take its place between two requests."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from vehins.serving.requests import example_row, request_model
from vehins.serving.status import Status

if TYPE_CHECKING:
    from vehins.data.schema import Column, TableSchema
    from vehins.serving.predictor import Predictor
    from vehins.serving.requests import PredictRequest

_TEXT_BYTES = 1024  # of a free text, at most; anything longer is no category that a model has learnt
_CELL_BYTES = 64  # of a number, with the blanks around it
_BODY_BYTES = 64 * 1024  # for what is around the rows
_ESCAPED = 6  # bytes of a character written \uXXXX


class Ready(NamedTuple):
    """A model and the requests that it takes; a request holds on to one of these from start to end."""

    predictor: Predictor
    request: type[PredictRequest]
    max_bytes: int
    """Size of a request, at most."""


class Holder:
    """The model in service, or none, and what is known of it."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.status = Status()
        """Replaced as a whole by whoever watches the registry; read by anybody."""
        self.pinned = False
        """Whether the version stays, wherever the alias points."""
        self.leaving = False
        """Whether the process is about to end: requests are still answered, and nobody should send new ones."""
        self._ready: Ready | None = None

    @property
    def ready(self) -> Ready | None:
        """What answers at this moment."""
        return self._ready

    def put(self, predictor: Predictor | None) -> None:
        """Let a predictor answer from the next request on; None takes the model out of service."""
        # One assignment: a request sees the old model with its columns or the new one with its own.
        self._ready = None if predictor is None else self.prepared(predictor)

    def prepared(self, predictor: Predictor) -> Ready:
        """A model with its requests, warm and not yet in service; `take` puts it there."""
        table, old = predictor.table, self._ready
        if old is not None and old.predictor.table == table:
            ready = Ready(predictor, old.request, old.max_bytes)
        else:
            ready = Ready(predictor, request_model(table, self.max_rows), max_bytes(table, self.max_rows))
        _warm(ready)
        return ready

    def take(self, ready: Ready) -> Ready | None:
        """Let it answer from the next request on, and return what did before."""
        old, self._ready = self._ready, ready
        return old


def _warm(ready: Ready) -> None:
    """Answer the row that shows the form, so that no client waits for what is made at the first request."""
    row = example_row(ready.predictor.table)
    with suppress(ValidationError):  # a table may be such that no example of it can be made up
        ready.request.model_validate_json(to_json({"rows": [row]}))
    ready.predictor.predict([row])


def max_bytes(schema: TableSchema, max_rows: int) -> int:
    """Size that no honest request of so many rows exceeds."""
    row = sum(_ESCAPED * len(name) + _cell_bytes(column) for name, column in schema.features.items())
    return _BODY_BYTES + max_rows * row


def _cell_bytes(column: Column) -> int:
    if column.dtype != "string":
        return _CELL_BYTES
    longest = max(len(str(value)) for value in column.values) * _ESCAPED if column.values else _TEXT_BYTES
    return _CELL_BYTES + longest
