"""A request on its way through the service, as far as logs want to know it."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Send

REQUEST_ID = b"x-request-id"
REFUSAL = "vehins.refusal"
"""Where a scope has the `Refusal` that its connection has answered in place of the application."""
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")  # what identifiers of other systems are made of


class Refusal(NamedTuple):
    """What a connection has answered by itself."""

    status: int
    request_id: str
    bytes_out: int


class Exchange:
    """One request and its answer: identified, counted and timed by the layer, described by the observers."""

    __slots__ = ("_receive", "_send", "bytes_in", "bytes_out", "model_version", "request_id", "rows", "status")

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self.request_id = request_id
        self.status = 0
        """Of the answer; 0 as long as there is none."""
        self.bytes_in = self.bytes_out = 0
        self.rows = self.model_version = None
        self._receive, self._send = receive, send

    rows: int | None
    model_version: int | None

    def refused(self, refusal: Refusal) -> None:
        """Note that the client has read another answer, whatever becomes of this one."""
        self.status, self.request_id, self.bytes_out = refusal

    async def receive(self) -> Message:
        """Count what comes of a body whose size was not announced."""
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Note what goes out, and put the id of the request into its head."""
        if message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
        await self._send(message)


current: ContextVar[Exchange | None] = ContextVar("vehins_exchange", default=None)
"""The request that this code works for; threads that answer for the event loop see it as well."""


def identified(headers: Mapping[bytes, bytes]) -> str:
    """The id that the client gave its request, when it is well-formed, or a new one."""
    given = headers.get(REQUEST_ID)
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given.decode()
    return os.urandom(8).hex()


def opened(headers: dict[bytes, bytes], receive: Receive, send: Send) -> tuple[Exchange, Any]:
    """An exchange, and what the application is to receive by."""
    exchange = Exchange(identified(headers), receive, send)
    announced = headers.get(b"content-length")
    if announced is not None and announced.isdigit():
        exchange.bytes_in = int(announced[:19])
        return exchange, receive
    if b"transfer-encoding" in headers:
        return exchange, exchange.receive
    return exchange, receive
