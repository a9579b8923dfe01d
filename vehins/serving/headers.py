"""The layer that adds what browsers are told about every answer, and lets other origins' pages in that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.serving.answers import Fault
from vehins.serving.clients import origins
from vehins.serving.failures import Prepared

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vehins.settings.sections import ServeSettings

_NO_STORE = (b"cache-control", b"no-store")
_DATA = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# Everything from this service and nothing written into the page itself: neither scripts nor styles nor events.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DEVICES = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
_PAGE = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with `no-referrer` a form of the page itself would come from Origin null
    (b"permissions-policy", _DEVICES.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_DISALLOWED = Fault(
    headline="Pages of this origin may not ask",
    detail="The origin, the method or a header is not one that other sites' pages may use here.",
    hint="Whoever runs the service can name an origin: `serve.cors_origins`.",
)
_ASKED_WITH = ("authorization", "content-type", "x-api-key", "x-request-id")
_SEEN = ("retry-after", "x-request-id")


class SecurityHeaders:
    """Adds the headers; nothing is kept by a cache unless its answer says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""

        async def with_headers(message: Message) -> None:
            # A 304 would change the headers of the copy that the browser has: those that came with it stay.
            if message["type"] == "http.response.start" and message["status"] != 304:
                headers = message.get("headers", ())
                message = {**message, "headers": [*headers, *_added(headers)]}  # whoever made it may send it again
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _added(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    added, is_kept = _DATA, False
    for name, value in headers:
        if name == b"content-type" and value.startswith(b"text/html"):
            added = _PAGE
        elif name == b"cache-control":
            is_kept = True
    return added if is_kept else [*added, _NO_STORE]


def cross_origin(app: ASGIApp, settings: ServeSettings) -> ASGIApp:
    """Let pages of the origins ask that the settings name; where they name none, browsers keep all others out.

    Cookies and passwords that a browser knows are not theirs to use: such a page shows a key of its own.

    Raises:
        SettingsError: what is named is no origin.
    """
    named = origins(settings.cors_origins)
    if not named:
        return app
    from starlette.datastructures import Headers
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import Response

    refusal = Prepared(400, _DISALLOWED)

    class CrossOrigin(CORSMiddleware):
        def preflight_response(self, request_headers: Headers) -> Response:
            plain = super().preflight_response(request_headers)
            if plain.status_code == 200:
                return plain
            kept = {k: v for k, v in plain.headers.items() if k not in {"content-length", "content-type"}}
            return Response(refusal.body, plain.status_code, kept, media_type="application/json")

    return CrossOrigin(
        app,
        allow_origins=named,
        allow_methods=("GET", "POST"),
        allow_headers=_ASKED_WITH,
        expose_headers=_SEEN,
    )
