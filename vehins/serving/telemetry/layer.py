"""The outermost layer of the service: every request gets an id, is timed, counted and logged, and always an answer."""

from __future__ import annotations

import logging
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

from vehins.serving import failures
from vehins.serving.telemetry import access
from vehins.serving.telemetry.exchange import REFUSAL, Exchange, current, opened
from vehins.serving.telemetry.metrics import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from vehins.serving.telemetry.metrics import Metrics

GONE = 499
"""Stands in the log for an answer that was never begun, as its client had gone (after nginx)."""
_LOGGER = logging.getLogger("vehins.serving")


class TelemetryLayer:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, metrics: Metrics, write: Callable[[bytes], None] | None) -> None:
        self._app, self._metrics, self._write = app, metrics, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        exchange, receive = opened(dict(scope["headers"]), receive, send)
        current.set(exchange)
        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            await _failed(exchange)
        finally:
            self._metrics.in_progress.dec()
            self._ended(scope, exchange, perf_counter() - began)

    def _ended(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        if REFUSAL in scope:
            exchange.refused(scope[REFUSAL])
        status = exchange.status or GONE
        self._metrics.requested(_route(scope), scope["method"], status, seconds)
        if self._write is not None:
            self._write(access.line(scope, exchange, status, seconds))


async def _failed(exchange: Exchange) -> None:
    """Log what nobody caught, and answer; an answer that has begun is left as it is, and the server ends it."""
    _LOGGER.exception("A request failed by a fault of the service")
    if exchange.status:
        return
    body = failures.bug(exchange.request_id).model_dump_json().encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await exchange.send({"type": "http.response.start", "status": 500, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body})


def _route(scope: Scope) -> str:
    """The template of the address that answered: there are few of them, however many addresses are tried."""
    route: Any = scope.get("route")
    if route is not None:
        return str(route.path)
    if "endpoint" in scope:
        return str(scope.get("root_path") or UNMATCHED)
    # A layer in front of the routes has refused it, or it leads nowhere.
    path, app = str(scope["path"]), scope.get("app")
    return path if app is not None and path in _addresses(app) else UNMATCHED


@lru_cache(4)
def _addresses(app: Any) -> frozenset[str]:
    """The addresses of an application that stand for themselves: those without parameters."""
    return frozenset(route.path for route in app.routes if "{" not in getattr(route, "path", "{"))
