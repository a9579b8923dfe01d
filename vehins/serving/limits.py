"""The layer that bounds what a request may cost: how many at a time, how long each, and how large."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vehins.serving import failures
from vehins.serving.access import OPEN_PATHS
from vehins.serving.answers import Fault
from vehins.serving.failures import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vehins.settings.sections import ServeSettings

_LONGEST_TICK = 1.0
_DIGITS = 15  # of a number of bytes; more are not worth reading
_FREE_BYTES = 64 * 1024  # of a body, which are not counted: as much waits for each connection anyway
_LARGEST = 8  # bodies of the largest size that are in memory at a time, or as many bytes of smaller ones
BUSY = Prepared(
    503,
    Fault(
        headline="The service is busy",
        detail="As many requests are under way as it takes at a time.",
        hint="Try again as `Retry-After` says; whoever runs the service can raise `serve.max_concurrent`.",
    ),
    ("retry-after", "1"),
)
SLOW = Prepared(
    408,
    Fault(
        headline="The request came too slowly",
        detail="It was not complete when the time was up.",
        hint="Send it again; whoever runs the service can raise `serve.request_timeout`.",
    ),
    ("connection", "close"),
)
LATE = Prepared(
    503,
    Fault(
        headline="The answer took too long",
        detail="The service was not done with the request when the time was up.",
        hint="Send fewer rows at a time; whoever runs the service can raise `serve.request_timeout`.",
    ),
    ("retry-after", "1"),
)
PACKED = Prepared(
    415,
    Fault(
        headline="The body is compressed",
        detail="Bodies with a `Content-Encoding` are not unpacked here.",
        hint="Send it as it is.",
    ),
    ("accept-encoding", "identity"),
)


class Limits:
    """Refuses what is too much, too large, too slow or compressed; the probes are always answered."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._most = settings.max_concurrent
        self._max_bytes = settings.max_body_bytes
        self._seconds = settings.request_timeout
        self._too_large = failures.body_too_large(settings.max_body_bytes).prepared()
        self._crowded = failures.crowded().prepared()
        self._free = min(_FREE_BYTES, settings.max_body_bytes)
        self._room = _LARGEST * settings.max_body_bytes  # bytes of large bodies that there is room for
        self._under_way: dict[_UnderWay, None] = {}  # the oldest first
        self._tick = min(settings.request_timeout / 4, _LONGEST_TICK)
        self._loop: asyncio.AbstractEventLoop | None = None  # in which a sweep is due

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on within the limits, or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.answer(scope, send)
            return
        request = self._begin(receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        except asyncio.CancelledError:
            if not request.is_expired:
                raise
        finally:
            del self._under_way[request]
            self._room += request.held
        if request.is_expired:
            request.task.uncancel()
            if not request.is_answered:
                await (LATE if request.is_complete else SLOW).answer(scope, send)

    def _refusal(self, scope: Scope) -> Prepared | None:
        if len(self._under_way) >= self._most:
            return BUSY
        for name, value in scope["headers"]:
            if name == b"content-length" and _exceeds(value, self._free):
                if _exceeds(value, self._max_bytes):
                    return self._too_large
                if _exceeds(value, self._room):
                    return self._crowded
            if name == b"content-encoding" and value.strip().lower() != b"identity":
                return PACKED
        return None

    def _begin(self, receive: Receive, send: Send) -> _UnderWay:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a request is answered outside of any task")
        request = _UnderWay(receive, send, task, loop.time() + self._seconds, self._free, self._hold)
        self._under_way[request] = None
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(self._tick, self._sweep, loop)
        return request

    def _hold(self, request: _UnderWay, size: int) -> None:
        """Make room for a large body, as far as it has come.

        Raises:
            RefusalError: it is too large (413), or there is no room (503).
        """
        if size > self._max_bytes:
            raise failures.body_too_large(self._max_bytes)
        more = size - request.held
        if more > self._room:
            raise failures.crowded()
        self._room -= more
        request.held = size

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for requests whose time is up: one timer for them all costs less than one for each."""
        now = loop.time()
        for request in self._under_way:
            if request.due > now:
                break
            request.expire()
        if self._under_way:
            loop.call_later(self._tick, self._sweep, loop)
        else:
            self._loop = None


class _UnderWay:
    """A request that is being answered, and how far it has come."""

    __slots__ = (
        *("_free", "_hold", "_receive", "_seen", "_send"),
        *("due", "held", "is_answered", "is_complete", "is_expired", "task"),
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        task: asyncio.Task[object],
        due: float,
        free: int,
        hold: Callable[[_UnderWay, int], None],
    ) -> None:
        self._receive, self._send = receive, send
        self._free, self._hold = free, hold
        self._seen = self.held = 0
        self.task = task
        self.due = due
        self.is_complete = self.is_answered = self.is_expired = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._free:
                self._hold(self, self._seen)
            self.is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self.is_answered = True
        await self._send(message)

    def expire(self) -> None:
        if not self.is_expired:
            self.is_expired = True
            self.task.cancel()


def _exceeds(length: bytes, most: int) -> bool:
    return length.isdigit() and (len(length) > _DIGITS or int(length) > most)
