"""Errors on their way out: each becomes the one shape, and none tells of paths, stacks or secrets."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from vehins.serving.answers import ErrorAnswer, Fault, RefusedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request, Response
    from starlette.types import Scope, Send

    from vehins.serving.holder import Holder, Ready

_SHOWN_CHARACTERS = 100
_HTML = "text/html; charset=utf-8"
_DOCS = "`/docs` lists what this service answers."
NOT_READY = Fault(
    headline="No model is loaded",
    detail="The service runs, and has no model that answers.",
    hint="Try again in a moment; whoever runs the service can look at `vehins models list`.",
)


class RefusalError(Exception):
    """Ends a request with an answer that is an error."""

    def __init__(self, status: int, answer: ErrorAnswer, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(answer.error.headline)
        self.status = status
        self.answer = answer
        self.headers = headers

    def prepared(self) -> Prepared:
        """The same answer, for what stands in front of the framework."""
        return Prepared(self.status, self.answer, *(self.headers or {}).items())


class GoneError(Exception):
    """The client has left in the middle of its request: there is nobody to answer."""


def not_ready(why: str) -> RefusalError:
    """There is no model (503)."""
    return RefusalError(503, ErrorAnswer(error=NOT_READY.model_copy(update={"detail": why})), {"Retry-After": "5"})


def leaving() -> RefusalError:
    """The process is about to end, and a load balancer should look for another (503)."""
    fault = Fault(
        headline="The service is about to end",
        detail="It still answers what reaches it, and will be gone in a moment.",
        hint="Ask another one, or try again in a moment.",
    )
    return RefusalError(503, ErrorAnswer(error=fault), {"Retry-After": "5"})


def current(holder: Holder) -> Ready:
    """The model in service.

    Raises:
        RefusalError: there is none (503).
    """
    ready = holder.ready
    if ready is None:
        raise not_ready(holder.status.why)
    return ready


def too_large(max_bytes: int, max_rows: int) -> RefusalError:
    """The body is larger than any honest one (413)."""
    fault = Fault(
        headline="The request is too large",
        detail=f"At most {max_bytes:,} bytes are taken, for {max_rows:,} rows.",
        hint="Send the rows in several requests; whoever runs the service can raise `serve.max_rows`.",
    )
    # What is left of the body will not be read.
    return RefusalError(413, ErrorAnswer(error=fault), {"Connection": "close"})


def body_too_large(max_bytes: int) -> RefusalError:
    """The body is larger than any that the service takes (413)."""
    fault = Fault(
        headline="The request is too large",
        detail=f"At most {max_bytes:,} bytes are taken.",
        hint="Send the rows in several requests; whoever runs the service can raise `serve.max_body_bytes`.",
    )
    return RefusalError(413, ErrorAnswer(error=fault), {"Connection": "close"})


def crowded() -> RefusalError:
    """There is no room for another large body (503)."""
    fault = Fault(
        headline="The service is busy",
        detail="The large requests under way have as many bytes as it takes at a time.",
        hint="Try again as `Retry-After` says, or send fewer rows at a time.",
    )
    return RefusalError(503, ErrorAnswer(error=fault), {"Retry-After": "1", "Connection": "close"})


class Prepared:
    """An answer that is an error, written out once, for what stands in front of the framework; ``body`` is its JSON.

    Called, it answers in JSON; `answer` does so in the form that was asked for.
    """

    def __init__(self, status: int, said: Fault | ErrorAnswer, *headers: tuple[str, str]) -> None:
        self.status = status
        answer = said if isinstance(said, ErrorAnswer) else ErrorAnswer(error=said)
        self.body = answer.model_dump_json().encode()
        self._fault = answer.error
        self._own = [(name.lower().encode(), value.encode()) for name, value in headers]
        self._headers = [*_sized(b"application/json", self.body), *self._own]
        self._page: bytes | None = None

    async def __call__(self, send: Send, *more: tuple[bytes, bytes]) -> None:
        """Answer, with some headers more."""
        await self._send(send, self.body, [*self._headers, *more])

    async def answer(self, scope: Scope, send: Send, *more: tuple[bytes, bytes]) -> None:
        """Answer a browser that shows a page with a page, and all others in JSON; with some headers more."""
        if not _shows_pages(scope):
            await self(send, *more)
            return
        if self._page is None:
            self._page = await _page(self._fault)
        await self._send(send, self._page, [*_sized(_HTML.encode(), self._page), *self._own, *more])

    async def _send(self, send: Send, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def wire(self, *more: tuple[bytes, bytes], is_head: bool = False) -> bytes:
        """The answer as it goes out on a connection that ends with it, with some headers more; to HEAD without body."""
        line = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()
        fields = [b": ".join(field) for field in (*self._headers, *more, (b"connection", b"close"))]
        return b"\r\n".join([line, *fields, b"", b"" if is_head else self.body])


def _sized(media_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]


def _shows_pages(scope: Scope) -> bool:
    """Whether it is a browser that shows what comes back; programs, and scripts of a page, ask for anything or JSON."""
    accept = next((value.lower() for name, value in scope["headers"] if name == b"accept"), b"")
    return b"text/html" in accept and b"application/json" not in accept


async def _page(fault: Fault) -> bytes:
    from starlette.concurrency import run_in_threadpool

    from vehins.serving.page import render

    return await run_in_threadpool(render.html, "refused.html", fault=fault)


def install(app: FastAPI) -> None:
    """Let every error of an application leave it in the one shape."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(ClientDisconnect, _gone)


def _json(status: int, answer: ErrorAnswer, headers: Mapping[str, str] | None = None) -> Response:
    from fastapi import Response

    return Response(answer.model_dump_json(), status, headers, media_type="application/json")


async def _refused(_: Request, error: Any) -> Response:
    return _json(error.status, error.answer, error.headers)


async def _http(request: Request, error: Any) -> Response:
    """What the framework itself refuses, such as a path or a method that is not there; a page for who shows pages."""
    path = request.url.path[:_SHOWN_CHARACTERS]
    if error.status_code == 404:
        fault = Fault(headline="There is nothing at this address", detail=f"Asked for `{path}`.", hint=_DOCS)
    elif error.status_code == 405:
        methods = (error.headers or {}).get("Allow", "")
        detail = f"`{path}` takes {methods}, not {request.method[:_SHOWN_CHARACTERS]}."
        fault = Fault(headline="This address takes another method", detail=detail, hint=_DOCS)
    else:
        fault = Fault(headline=HTTPStatus(error.status_code).phrase, detail=f"Asked for `{path}`.", hint=_DOCS)
    if not _shows_pages(request.scope):
        return _json(error.status_code, ErrorAnswer(error=fault), error.headers)
    from fastapi import Response

    return Response(await _page(fault), error.status_code, error.headers, media_type=_HTML)


async def _malformed(_: Request, error: Any) -> Response:
    """A parameter of an address that the framework checks."""
    places = sorted({".".join(map(str, item["loc"][1:]))[:_SHOWN_CHARACTERS] for item in error.errors()})
    fault = Fault(headline="A parameter cannot be used", detail=f"At fault: {', '.join(places[:5])}.", hint=_DOCS)
    return _json(422, RefusedAnswer(error=fault, rows=[]))


async def _gone(_: Request, __: Exception) -> Response:
    """The client has left in the middle of its request: nobody reads this, and nobody's log needs a stack."""
    return _json(400, ErrorAnswer(error=Fault(headline="The request ended too early", detail="", hint=_DOCS)))


def bug(request_id: str) -> ErrorAnswer:
    """A fault of the service (500); its log has the stack, under the id of the request."""
    fault = Fault(
        headline="The service failed on this request",
        detail=f"It is a fault of the service, not of request {request_id}.",
        hint="Tell whoever runs the service: its log has the reason, by this id.",
    )
    return ErrorAnswer(error=fault)
