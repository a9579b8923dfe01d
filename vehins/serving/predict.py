"""``POST /v1/predict``: rows in, predictions out, and nothing between that is not needed.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vehins.serving import explain, failures
from vehins.serving.answers import ErrorAnswer, ExplainedAnswer, PredictAnswer, RefusedAnswer
from vehins.serving.holder import Holder, Ready
from vehins.serving.observer import Observer
from vehins.serving.probes import NOT_READY, name
from vehins.serving.refusals import refusal

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

# Requests larger than this are answered in a thread, so that the others and the probes need not wait.
_ASIDE_BYTES = 16 * 1024
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorAnswer, "description": "The request is too large"},
    422: {"model": RefusedAnswer, "description": "The request cannot be used"},
    **NOT_READY,
}


def install(app: "FastAPI", holder: Holder, observers: Sequence[Observer]) -> None:
    """Add the endpoint; the observers hear of every request that is answered or refused."""
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    @app.post(
        "/v1/predict",
        tags=["model"],
        summary="Predict some customers",
        responses=_REFUSED,
        openapi_extra={"parameters": [explain.PARAMETER]},
    )
    async def predict(request: Request) -> PredictAnswer | ExplainedAnswer:
        ready = failures.current(holder)
        count = explain.wanted(request.scope["query_string"])
        body = await _body(request, ready.max_bytes, holder.max_rows)
        if count or len(body) > _ASIDE_BYTES:
            return await run_in_threadpool(_answer, ready, body, holder.max_rows, observers, count)
        return _answer(ready, body, holder.max_rows, observers)


async def _body(request: "Request", max_bytes: int, max_rows: int) -> bytes:
    """The body, unless it is too large: that is refused when it is announced, or else as soon as it shows."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise failures.too_large(max_bytes, max_rows)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise failures.too_large(max_bytes, max_rows)
    return bytes(body)


def _answer(
    ready: Ready, body: bytes, max_rows: int, observers: Sequence[Observer], count: int = 0
) -> PredictAnswer | ExplainedAnswer:
    """Read, check and predict; with the ``count`` strongest reasons, if that is above 0."""
    # Read as JSON in one go with the checks: quicker than by way of Python's own parser, and stricter about numbers.
    try:
        rows = ready.request.model_validate_json(body).mappings()
    except ValidationError:
        answer = refusal(body, ready.request, ready.predictor.table, max_rows)
        for observer in observers:
            observer.refused(ready, answer.rows)
        raise failures.RefusalError(422, answer) from None
    if count:
        explain.check_rows(len(rows))
    predictions = ready.predictor.predict(rows)
    for observer in observers:
        observer.answered(ready, rows, predictions)
    if count:
        return explain.answer(ready, rows, predictions, count)
    return PredictAnswer(model=name(ready.predictor), predictions=predictions)
