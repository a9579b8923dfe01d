"""The last moments of a service: answers ask clients to come by another connection, as this one will be closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from vehins.serving.holder import Holder

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_CLOSE = (b"connection", b"close")


class Ending:
    """Lets every answer close its connection while the service is about to end."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], holder: Holder) -> None:
        self._app, self._holder = app, holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not self._holder.leaving:  # as nearly always; what is under way when that changes, uvicorn sees to
            await self._app(scope, receive, send)
            return

        async def closing(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        await self._app(scope, receive, closing)
