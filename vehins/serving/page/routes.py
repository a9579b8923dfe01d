"""The addresses of the page: ``/``, ``/scores.csv`` and its static files.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from vehins.serving.failures import RefusalError
from vehins.serving.holder import Holder, Ready
from vehins.serving.observer import Observer
from vehins.serving.page import bodies, render
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from fastapi import FastAPI

    from vehins.serving.page.views import Views

_FORM_BYTES = 256 * 1024
_FOR_EVER = "public, max-age=31536000, immutable"


def install(app: "FastAPI", holder: Holder, settings: ServeSettings, observers: Sequence[Observer]) -> None:
    """Add the page; the observers hear of what is asked there as well."""
    from anyio import to_thread
    from fastapi import Request, Response
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException

    @cache
    def views() -> "Views":
        # When the page is asked for, off the event loop: a service that is asked by programs only starts without it.
        from vehins.serving.page.views import Views

        return Views(settings, holder, observers)

    async def answered(
        read: Awaitable[Any], work: Callable[[Ready, Any], Response], limiter: "CapacityLimiter | None" = None
    ) -> Response:
        """What ``work`` makes of what was sent, off the event loop; a refusal is a page as well."""
        ready = holder.ready
        try:
            sent = await read
            return await to_thread.run_sync(
                lambda: views().no_model() if ready is None else work(ready, sent), limiter=limiter
            )
        except RefusalError as error:
            refusal = error.with_traceback(None)  # it would hold this frame, and this frame what was sent
        return await run_in_threadpool(lambda: views().refused(ready, refusal))

    @app.api_route("/", methods=["GET", "HEAD", "POST"], include_in_schema=False)
    async def page(request: Request) -> Response:
        if request.method == "POST":
            read = bodies.fields(request, min(_FORM_BYTES, settings.max_body_bytes))
            return await answered(read, lambda *sent: views().one(*sent))
        ready = holder.ready
        known = request.headers.get("if-none-match", "")
        return await run_in_threadpool(lambda: views().no_model() if ready is None else views().blank(ready, known))

    @app.post("/scores.csv", include_in_schema=False)
    async def page_scores(request: Request) -> Response:
        read = bodies.upload(request, settings.max_body_bytes)
        return await answered(read, lambda *sent: views().many(*sent), _one_by_one())

    @app.get(render.STATIC + "{name}", include_in_schema=False)
    async def page_static(request: Request, name: str) -> Response:
        asset = next((found for found in render.assets().values() if found.path == render.STATIC + name), None)
        if asset is None:
            raise HTTPException(404)
        headers = {"Cache-Control": _FOR_EVER, "ETag": asset.etag}
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)


@cache
def _one_by_one() -> "CapacityLimiter":
    """For files: each takes many times its size in memory, and the work on it keeps other threads waiting."""
    from anyio import CapacityLimiter

    return CapacityLimiter(1)
