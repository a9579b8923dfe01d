"""Connections with bounds: how long and how large a request may be before the application hears of it.

uvicorn itself waits for ever for the end of a request's head, takes any number of headers and trailers, and answers
what is no HTTP with a plain text.
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from vehins.serving.answers import Fault
from vehins.serving.closing import Closing
from vehins.serving.failures import Prepared
from vehins.serving.limits import BUSY, SLOW
from vehins.serving.telemetry.exchange import REFUSAL, REQUEST_ID, Refusal, identified

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable

    from starlette.types import Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from vehins.settings.sections import ServeSettings

KEEP_ALIVE_SECONDS = 75
"""More than the 60 s after which AWS's load balancers drop an idle connection: they must never ask on a closed one."""
_HEAD_SECONDS = 10.0
_LINGERING_CONNECTIONS = 64  # beyond the most that there may be; who comes then hears nothing
_HEAD_BYTES = 64 * 1024
_HEADERS = 100
_URL_BYTES = 8 * 1024
_PIPELINED = 100  # requests that may wait for the one before
_FRAMING = 2  # bytes of a body in chunks, for each byte in them
_MOST_CONNECTIONS = 8192
_KEPT_FILES = 128  # for the model, the log and the registry
INVALID = Prepared(
    400,
    Fault(
        headline="The request is not valid HTTP",
        detail="Its head or the framing of its body cannot be read.",
        hint="Send HTTP/1.1; where the service is reached by https, ask it by https.",
    ),
)
TOO_MUCH_HEAD = Prepared(
    431,
    Fault(
        headline="The head of the request is too large",
        detail=f"At most {_HEADERS} headers, {_HEAD_BYTES // 1024} KiB in all, and an address of {_URL_BYTES:,} bytes.",
        hint="Send fewer headers; the rows belong into the body.",
    ),
)

NO_UPGRADE = Prepared(
    400,
    Fault(
        headline="A change of protocol is not offered",
        detail="The request has a body, and asks to go on with another protocol (`Upgrade`).",
        hint="Ask without: Java's client does after `.version(HttpClient.Version.HTTP_1_1)`.",
    ),
)
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class Part(Enum):
    """Which part of a request comes next on a connection."""

    NONE = 0
    HEAD = 1
    BODY = 2


class _Trailers(list[tuple[bytes, bytes]]):
    """Takes the headers that come after a body, and keeps none."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        return


_TRAILERS = _Trailers()


class Refused(Exception):  # noqa: N818 - the parser turns it into an error of its own
    """Ends the parsing of what is too much."""


class Connection(Closing):
    """A connection of the server; the class attributes are its bounds."""

    head_seconds: float = _HEAD_SECONDS
    body_bytes: int = 0
    most: int = _MOST_CONNECTIONS
    tell: Callable[[Scope, Refusal, float], None]
    """Hears of refusals whose requests the application has not seen: scope, answer, and seconds since it began."""

    _part = Part.NONE
    _is_new = False  # whether the head began in the bytes that came last
    _bytes = 0  # of this request, but those that it began in
    _deadline: TimerHandle | None = None
    _answer = INVALID
    _is_half = False  # whether the client sends no more, and waits

    def connection_made(self, transport: Any) -> None:
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most + _LINGERING_CONNECTIONS:
            transport.abort()
        elif len(self.connections) > self.most:
            self._end(BUSY)
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._drop_deadline()
        super().connection_lost(exc)

    def eof_received(self) -> Any:
        """The client sends no more: what it has asked is answered, and what it has asked by half is not.

        Returns whether the connection stays open for that.
        """
        is_cut = self._part is Part.BODY and not self.pipeline
        if not self._is_answering() or self.cycle.disconnected or (is_cut and not self._is_ended):
            return False
        if not self._is_ended:
            self._refuse_later(INVALID)
        self._is_half = True
        return True

    def data_received(self, data: bytes) -> None:
        """Take some bytes of one request, or of several."""
        if self._is_ended:
            self._is_heard = True
            return
        super().data_received(data)
        if self._part is Part.NONE and self._is_answering():
            self._drop_deadline()
        elif not (self._is_ended or self.transport.is_closing()):
            if self._part is Part.BODY:
                self._end_gently()  # it may be answered before all of it has come
            self._count(len(data))

    def _count(self, received: int) -> None:
        if self._deadline is None:
            self._set_deadline()
        if self._is_new:
            self._is_new = False
            return
        self._bytes += received
        if self._part is Part.HEAD and self._bytes > _HEAD_BYTES:
            self._refuse(TOO_MUCH_HEAD)
        elif self._part is Part.BODY and self._bytes > self.body_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._part, self._is_new, self._bytes = Part.HEAD, True, 0

    def on_headers_complete(self) -> None:
        """A head is complete: the application is asked.

        Raises:
            Refused: it is too large, too many wait before it, or it asks for another protocol.
        """
        if len(self.headers) > _HEADERS or len(self.url) > _URL_BYTES:
            self._answer = TOO_MUCH_HEAD
            raise Refused
        if len(self.pipeline) >= _PIPELINED:
            raise Refused
        upgrades = self.parser.should_upgrade()
        if upgrades and any(name in _BODY_HEADERS for name, _ in self.headers):
            self._answer = NO_UPGRADE  # the parser would take its body for another protocol
            raise Refused
        before = self.cycle
        super().on_headers_complete()
        self._part = Part.BODY
        self.headers = _TRAILERS
        if upgrades:
            self.cycle.keep_alive = False  # nor does it read on
        if self.pipeline or not self.cycle.keep_alive:
            self._note(before)

    def _note(self, before: RequestResponseCycle) -> None:
        """Look after a request that waits for one before it, or after which the connection is closed."""
        if self.pipeline:
            self._join(before)
        if not self.cycle.keep_alive:
            self._end_gently()

    def on_message_complete(self) -> None:
        """A request is complete."""
        self._part = Part.NONE
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; what is being answered is answered first."""
        del msg
        self._refuse(self._answer)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the offer is passed over, and uvicorn would advise to install something."""

    def is_receiving(self) -> bool:
        """Whether the client may be amid a request, or what it sends is read no more."""
        return not self._is_half and (self._is_ended or self._part is not Part.NONE)

    def linger(self) -> None:
        """Close once the client has had a moment to read."""
        self._drop_deadline()
        super().linger()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._late)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_answering():  # the layers of the application look after the time of this one
            self._set_deadline()
        elif self._part is Part.HEAD:
            self._end(SLOW)
        else:
            self.transport.close()

    def _refuse(self, answer: Prepared) -> None:
        """Answer what cannot be taken, once what came before it has been answered; nothing more is read."""
        if self.pipeline or (self._part is not Part.BODY and self._is_answering()):
            self._refuse_later(answer)
        elif self._part is Part.BODY and self.cycle.response_started:
            self.linger()
        else:
            self._end(answer)

    def _refuse_later(self, answer: Prepared) -> None:
        """Let the last request that is complete be the last; one whose body is not is answered with the refusal."""
        self._is_ended = True
        self.cycle.keep_alive = False
        self._end_gently()
        if self._part is Part.BODY:
            request_id = self._told(answer).request_id.encode()

            async def refusing(_: Any, __: Any, send: Any) -> None:
                await answer(send, (REQUEST_ID, request_id))

            self.pipeline[0] = (self.cycle, refusing)

    def _end(self, answer: Prepared) -> None:
        refusal = self._told(answer)
        self.transport.write(answer.wire((REQUEST_ID, refusal.request_id.encode()), is_head=not refusal.bytes_out))
        self.linger()

    def _told(self, answer: Prepared) -> Refusal:
        """A refusal that has been told of: by the layers of the application, where they have seen the request."""
        scope = self._asked()
        size = 0 if scope["method"] == "HEAD" else len(answer.body)
        refusal = Refusal(answer.status, identified(dict(scope["headers"])), size)
        if self._part is Part.BODY and not self.pipeline:
            scope[REFUSAL] = refusal
        else:
            self.tell(scope, refusal, self._seconds())
        return refusal

    def _asked(self) -> Scope:
        """What is known of the request that is refused."""
        if self._part is Part.BODY:
            return cast("Scope", self.cycle.scope)
        asked: dict[str, Any] = {"type": "http", "client": self.client, "headers": [], "method": None, "path": None}
        if self._part is Part.HEAD and self.headers:  # so that its first line is complete
            path = self.url.partition(b"?")[0].decode("latin-1")
            asked |= {"headers": self.headers, "method": self.parser.get_method().decode(), "path": path}
        return asked

    def _seconds(self) -> float:
        """Since the connection was made, or since the first bytes after an answer."""
        began = self._deadline.when() - self.head_seconds if self._deadline is not None else self.loop.time()
        return self.loop.time() - began


def protocol(
    settings: ServeSettings, tell: Callable[[Scope, Refusal, float], None] = lambda *_: None
) -> type[asyncio.Protocol] | str:
    """What uvicorn's setting ``http`` takes; where there is no httptools, uvicorn's own choice.

    ``tell`` hears of every refusal whose request the application has not seen.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "auto"
    bounds: dict[str, Any] = {
        "tell": staticmethod(tell),
        "head_seconds": min(_HEAD_SECONDS, settings.request_timeout),
        "body_bytes": _HEAD_BYTES + _FRAMING * settings.max_body_bytes,
        "most": min(_MOST_CONNECTIONS, max(_open_files() - _KEPT_FILES, _KEPT_FILES)),
    }
    return type("BoundedConnection", (Connection, HttpToolsProtocol), bounds)


def _open_files() -> int:
    """How many files and connections the system lets this process have open."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft
