"""``POST /v1/predict``: rows in, predictions out, and nothing between that is not needed.

FastAPI documents the endpoint; what happens is plain ASGI. FastAPI's way from a request to its endpoint, and from the
body to an answer, costs more than the prediction: it tries one route after the other, parses the body before it
validates it, and validates the answer too.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

import json
import os
from collections.abc import Sequence
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vehins.serving import explain, failures
from vehins.serving.answers import ErrorAnswer, ExplainedAnswer, PredictAnswer, RefusedAnswer
from vehins.serving.holder import Holder, Ready
from vehins.serving.observer import Observer
from vehins.serving.predictor import Prediction, Predictor
from vehins.serving.probes import NOT_READY
from vehins.serving.refusals import refusal

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from fastapi import FastAPI
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vehins.data.schema import Scalar

PATH = "/v1/predict"
# Requests larger than this, of about 75 rows, are worth the threads of LightGBM.
_SHARED_BYTES = 16 * 1024
# Requests larger than this, of about 300 rows, take milliseconds: they are answered in a thread, so that the others and
# the probes need not wait. Smaller ones would lose more on the way there than they gain.
_ASIDE_BYTES = 64 * 1024
# Bodies that may take many times their size in memory are answered one after the other.
_ALONE = Lock()
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorAnswer, "description": "The request is too large"},
    422: {"model": RefusedAnswer, "description": "The request cannot be used"},
    **NOT_READY,
}
_JSON = (b"content-type", b"application/json")
# Editors on Windows put it in front of a text; a reader of JSON may ignore it (RFC 8259, section 8.1).
_MARK_OF_UTF8 = b"\xef\xbb\xbf"


def install(app: "FastAPI", holder: Holder, observers: Sequence[Observer]) -> None:
    """Add the endpoint; the observers hear of every request that is answered or refused."""
    from starlette.routing import Route

    @app.post(
        PATH,
        tags=["model"],
        summary="Predict some customers",
        response_description="A prediction for each row, in their order",
        response_model=PredictAnswer | ExplainedAnswer,
        responses=_REFUSED,
        openapi_extra={"parameters": [explain.PARAMETER]},
    )
    async def predict() -> None:
        """Answer 1 to `serve.max_rows` customers, in their order."""

    documented = next(route for route in app.routes if isinstance(route, Route) and route.path == PATH)
    app.add_middleware(Endpoint, route=documented, holder=holder, observers=observers)


class Endpoint:
    """The endpoint as an ASGI layer: it answers what is its own, and lets all else through."""

    def __init__(self, app: "ASGIApp", route: "Route", holder: Holder, observers: Sequence[Observer]) -> None:
        self._app, self._route = app, route
        self._holder, self._observers = holder, observers

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route  # as a router would
        try:
            await self._predict(scope, receive, send)
        except failures.RefusalError as error:
            await error.prepared()(send)
        except failures.GoneError:  # nobody reads an answer
            return

    async def _predict(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        ready = failures.current(self._holder)
        query = scope["query_string"]
        count = explain.wanted(query) if query else 0
        body = await _body(scope, receive, ready.max_bytes, self._holder.max_rows)
        if count or len(body) > _ASIDE_BYTES:
            from anyio import to_thread

            work = partial(_answer_aside, ready, body, self._holder.max_rows, self._observers, count)
            answer = await to_thread.run_sync(work, limiter=self._aside)
        else:
            threads = ready.predictor.bundle.threads if len(body) > _SHARED_BYTES else 1
            answer = _answer(ready, body, self._holder.max_rows, self._observers, threads=threads)
        headers = [_JSON, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @cached_property
    def _aside(self) -> "CapacityLimiter":
        """As many threads as have a core: more would not be sooner done, and have all their rows in memory."""
        from anyio import CapacityLimiter

        return CapacityLimiter(max(2, os.cpu_count() or 1))


async def _body(scope: "Scope", receive: "Receive", max_bytes: int, max_rows: int) -> bytes:
    """The body, unless it is too large: that is refused when it is announced, or else as soon as it shows."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > max_bytes):
            raise failures.too_large(max_bytes, max_rows)
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise failures.GoneError
        part = message.get("body", b"")
        parts.append(part)
        size, more = size + len(part), message.get("more_body", False)
        if size > max_bytes:
            raise failures.too_large(max_bytes, max_rows)
    return b"".join(parts).removeprefix(_MARK_OF_UTF8)


def _answer_aside(ready: Ready, body: bytes, max_rows: int, observers: Sequence[Observer], count: int) -> bytes:
    """The same for a request that may be large."""
    if ready.request.is_plain(body):
        return _answer(ready, body, max_rows, observers, count)
    with _ALONE:
        if ready.request.is_bloated(body):
            raise _refused(ready, body, max_rows, observers)
        return _answer(ready, body, max_rows, observers, count)


def _answer(
    ready: Ready, body: bytes, max_rows: int, observers: Sequence[Observer], count: int = 0, threads: int = 1
) -> bytes:
    """Read, check and predict; with the ``count`` strongest reasons, if that is above 0."""
    rows = _rows(ready, body)
    if rows is None:  # raised where the first error is over, which has copies of what it is about
        raise _refused(ready, body, max_rows, observers)
    if count:
        explain.check_rows(len(rows))
    predictions = ready.predictor.predict(rows, threads)
    for observer in observers:
        observer.answered(ready, rows, predictions)
    if count:
        return explain.answer(ready, rows, predictions, count).model_dump_json().encode()
    return _written(ready.predictor, predictions)


def _rows(ready: Ready, body: bytes) -> "list[dict[str, Scalar | None]] | None":
    try:
        return ready.request.read(body)
    except ValidationError:
        return None


def _refused(ready: Ready, body: bytes, max_rows: int, observers: Sequence[Observer]) -> failures.RefusalError:
    answer = refusal(body, ready.request, ready.predictor.table, max_rows)
    for observer in observers:
        observer.refused(ready, answer.rows)
    return failures.RefusalError(422, answer)


def _written(predictor: Predictor, predictions: Sequence[Prediction]) -> bytes:
    """A `PredictAnswer` as JSON; Python writes a float so that the same bits are read from it."""
    written = ",".join(
        f'{{"probability":{probability!r},"percentile":{percentile!r},"contact":{"true" if contact else "false"}}}'
        for probability, percentile, contact in predictions
    )
    name = json.dumps(predictor.name)
    return f'{{"model":{{"name":{name},"version":{predictor.version}}},"predictions":[{written}]}}'.encode()
