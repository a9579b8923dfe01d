"""The addresses of the page: ``/``, ``/scores.csv`` and its static files.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from vehins.serving.failures import RefusalError
from vehins.serving.holder import Holder, Ready
from vehins.serving.observer import Observer
from vehins.serving.page import bodies, render
from vehins.serving.page.views import Views
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

_FORM_BYTES = 256 * 1024
_FOR_EVER = "public, max-age=31536000, immutable"


def install(app: "FastAPI", holder: Holder, settings: ServeSettings, observers: Sequence[Observer]) -> None:
    """Add the page; the observers hear of what is asked there as well."""
    from fastapi import Request, Response
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException

    views = Views(settings, holder.max_rows, observers)
    static = {asset.path.removeprefix(render.STATIC): asset for asset in render.assets().values()}

    async def answered(read: Awaitable[Any], work: Callable[[Ready, Any], Response]) -> Response:
        """What ``work`` makes of what was sent, off the event loop; a refusal is a page as well."""
        ready = holder.ready
        try:
            sent = await read
            return (
                await run_in_threadpool(views.no_model) if ready is None else await run_in_threadpool(work, ready, sent)
            )
        except RefusalError as error:
            return await run_in_threadpool(views.refused, ready, error)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        ready = holder.ready
        known = request.headers.get("if-none-match", "")
        return await run_in_threadpool(views.no_model if ready is None else lambda: views.blank(ready, known))

    @app.post("/", include_in_schema=False)
    async def page_answer(request: Request) -> Response:
        return await answered(bodies.fields(request, min(_FORM_BYTES, settings.max_body_bytes)), views.one)

    @app.post("/scores.csv", include_in_schema=False)
    async def page_scores(request: Request) -> Response:
        return await answered(bodies.upload(request, settings.max_body_bytes), views.many)

    @app.get(render.STATIC + "{name}", include_in_schema=False)
    async def page_static(request: Request, name: str) -> Response:
        asset = static.get(name)
        if asset is None:
            raise HTTPException(404)
        headers = {"Cache-Control": _FOR_EVER, "ETag": asset.etag}
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)
