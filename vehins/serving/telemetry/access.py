"""The access log: a line for each request."""

from __future__ import annotations

import json
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING

from vehins.serving.access import CLIENT
from vehins.serving.telemetry.logs import moment

if TYPE_CHECKING:
    from starlette.types import Scope

    from vehins.serving.telemetry.exchange import Exchange

PATH_CHARACTERS = 200

FIELDS = {
    "time": "When the answer was complete: UTC, ISO 8601 with microseconds.",
    "level": "Always `info`.",
    "logger": "Always `vehins.access`.",
    "request_id": "Id of the request, as its client gave it in `X-Request-ID`, or made here; the answer has it too.",
    "client": "Short hash of the client's API key, or else its address.",
    "method": "HTTP method; null when what came was refused before it could be read.",
    "path": "Path of the address, without its query; 200 characters at most, and null like the method.",
    "status": "HTTP status of the answer; 499 when the client left before it.",
    "milliseconds": "From the head of the request to the end of its answer.",
    "rows": "Rows that were predicted; null when none were.",
    "model_version": "Version that predicted them.",
    "bytes_in": "Size of the body of the request.",
    "bytes_out": "Size of the body of the answer.",
}
"""The fields of a line, in their order."""

_LINE = (
    '{"time":"%s","level":"info","logger":"vehins.access","request_id":"%s","client":%s,"method":%s,"path":%s,'
    '"status":%d,"milliseconds":%.3f,"rows":%s,"model_version":%s,"bytes_in":%d,"bytes_out":%d}'
)
_text = lru_cache(2048)(json.dumps)


def line(scope: Scope, exchange: Exchange, status: int, seconds: float) -> bytes:
    """A request that has ended, as a JSON object: one format of texts that are safe, for it is made for each."""
    path = scope["path"]
    found = _LINE % (
        moment(time()),
        exchange.request_id,
        _text(_client(scope)),
        _text(scope["method"]),
        _text(path if path is None else path[:PATH_CHARACTERS]),
        status,
        1_000 * seconds,
        "null" if exchange.rows is None else exchange.rows,
        "null" if exchange.model_version is None else exchange.model_version,
        exchange.bytes_in,
        exchange.bytes_out,
    )
    return found.encode()


def _client(scope: Scope) -> str | None:
    found = scope.get(CLIENT)
    if found is not None:
        return str(found)
    address = scope.get("client")
    return address[0] if address else None
