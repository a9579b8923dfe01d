"""What can go wrong between a client and S3, on purpose: a proxy that does it to the requests that a test chooses."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Answers of the proxy's own, to requests that never reach the server.
_REFUSALS = {
    "403": (403, "AccessDenied"),
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
    "500": (500, "InternalError"),
    "501": (501, "NotImplemented"),
    "503": (503, "SlowDown"),
    "bad login": (403, "InvalidAccessKeyId"),
    "bad signature": (403, "SignatureDoesNotMatch"),
    "clock": (403, "RequestTimeTooSkewed"),
}
_BEFORE = (*_REFUSALS, "reset", "page", "broken page")
# What happens to the answers of requests that reach it.
_AFTER = ("lost", "lost in 500", "hang", "cut", "flip", "slow")
# What happens to requests before they go on; their signature then means nothing.
_CARELESS = "careless"  # without its condition
_SPOILT = "spoilt"  # with another last byte
_BARE = "bare etags"  # a store that compares the quotes of If-Match too, and keeps its etags without
FAULTS = (*_BEFORE, *_AFTER, _CARELESS, _SPOILT, _BARE)
_PATIENCE = 20.0  # seconds; what hangs is let go when the test ends


class Request(NamedTuple):
    """A request as a plan sees it."""

    method: str
    key: str
    """The key of the object, or the prefix of the listing, without the bucket."""
    is_listing: bool
    is_conditional: bool


class Faults:
    """A proxy; ``plan`` names what goes wrong with a request, or None."""

    def __init__(self, upstream: str, endpoint: str) -> None:
        self.endpoint = endpoint
        self.upstream = urlsplit(upstream).netloc
        self.plan: Callable[[Request], str | None] = lambda request: None
        self.happened: list[tuple[str, Request]] = []
        self.seen: list[Request] = []
        self.released = threading.Event()
        self._lock = threading.Lock()

    def decide(self, request: Request) -> str | None:
        with self._lock:
            self.seen.append(request)
            fault = self.plan(request)
            if fault is not None:
                assert fault in FAULTS
                self.happened.append((fault, request))
            return fault

    def always(self, fault: str, where: Callable[[Request], bool] = lambda request: True) -> None:
        """Let it happen to every request of a kind."""
        self.plan = lambda request: fault if where(request) else None

    def first(self, times: int, fault: str, where: Callable[[Request], bool] = lambda request: True) -> None:
        """Let it happen to the next requests of a kind."""
        left = [fault] * times
        self.plan = lambda request: left.pop() if left and where(request) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: Faults

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has gone
            self.close_connection = True

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.faults.decide(self._request())
        if fault == _BARE:
            fault = "412" if '"' in self.headers.get("If-Match", "") else None
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            self._reply(status, {"Content-Type": "application/xml"}, _error(code))
        elif fault == "reset":
            self._reset()
        elif fault == "page":
            self._reply(200, {"Content-Type": "text/html"}, b"<html><body>Please log in to this network.</body></html>")
        elif fault == "broken page":
            self._reply(200, {"Content-Type": "text/html"}, b"<html><br>Please log in")
        else:
            if fault == _SPOILT and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
            self._answer(fault, *self._ask(body, unconditional=fault == _CARELESS))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_any  # noqa: N815 - the names are those of the library

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        conditional = "If-None-Match" in self.headers or "If-Match" in self.headers
        return Request(self.command, query.get("prefix", [key])[0], "list-type" in query, conditional)

    def _ask(self, body: bytes, *, unconditional: bool) -> tuple[int, dict[str, str], bytes]:
        """Pass the request on, with the signed Host as it is."""
        dropped = {"expect", "connection"} | ({"if-match", "if-none-match"} if unconditional else set())
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection = http.client.HTTPConnection(self.faults.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in ("connection", "transfer-encoding", "date")}
        return answer.status, kept, content

    def _answer(self, fault: str | None, status: int, headers: dict[str, str], content: bytes) -> None:
        if fault == "lost":
            self._reset()
        elif fault == "lost in 500":
            self._reply(500, {}, _error("InternalError"))
        elif fault == "hang":
            self.faults.released.wait(_PATIENCE)
            self.close_connection = True
        elif fault == "cut" and content:
            self._reply(status, headers, content, most=len(content) // 2)
        elif fault == "flip" and content and status < 300:
            self._reply(status, headers, content[:-1] + bytes([content[-1] ^ 1]))
        else:
            if fault == "slow":
                time.sleep(0.3)
            self._reply(status, headers, content)

    def _reply(self, status: int, headers: dict[str, str], content: bytes, most: int | None = None) -> None:
        self.send_response(status)
        length = {} if any(name.lower() == "content-length" for name in headers) else {"Content-Length": len(content)}
        for name, value in {**headers, **length}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:most])
        self.close_connection = most is not None

    def _reset(self) -> None:
        """Close the connection as a machine does that has lost it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>said {code}</Message><RequestId>1</RequestId></Error>".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def faulty(upstream: str) -> Iterator[Faults]:
    """A proxy in front of a server until the end of the block."""
    handler: Any = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        faults = Faults(upstream, f"http://127.0.0.1:{server.server_port}")
        handler.faults = faults
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield faults
        finally:
            faults.released.set()
            server.shutdown()
            thread.join()
